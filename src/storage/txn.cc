// The one evaluator of transactions, for the apply path and for transactions that only read.
//
// All compares, nested ones included, are evaluated on the state before the transaction and choose the path;
// then the whole path is checked; then its operations run in order. Nothing can fail once the first has run.

#include <algorithm>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/protobuf_wire.h"
#include "etcdserverpb/rpc.pb.h"
#include "storage/store_impl.h"

namespace kvd::storage {
namespace {

namespace pb = etcdserverpb;

// Field numbers of the responses.
enum { kHeader = 1, kHeaderRevision = 3, kSucceeded = 2, kResponses = 3, kPutPrevKv = 2, kDeleted = 2 };
// ResponseOp's fields, and RequestOp's.
enum { kOpRange = 1, kOpPut = 2, kOpDeleteRange = 3, kOpTxn = 4 };

RangeArgs ToArgs(const pb::RangeRequest& r) {
  RangeArgs args;
  args.key = r.key();
  args.range_end = r.range_end();
  args.limit = r.limit();
  args.revision = r.revision();
  args.sort_order = static_cast<SortOrder>(r.sort_order());
  args.sort_target = static_cast<SortTarget>(r.sort_target());
  args.keys_only = r.keys_only();
  args.count_only = r.count_only();
  args.min_mod_revision = r.min_mod_revision();
  args.max_mod_revision = r.max_mod_revision();
  args.min_create_revision = r.min_create_revision();
  args.max_create_revision = r.max_create_revision();
  return args;
}

PutArgs ToArgs(const pb::PutRequest& p) {
  return {.key = p.key(),
          .value = p.value(),
          .lease = p.lease(),
          .prev_kv = p.prev_kv(),
          .ignore_value = p.ignore_value(),
          .ignore_lease = p.ignore_lease()};
}

bool Holds(pb::Compare::CompareResult wanted, int order) {
  switch (wanted) {
    case pb::Compare::EQUAL:
      return order == 0;
    case pb::Compare::NOT_EQUAL:
      return order != 0;
    case pb::Compare::GREATER:
      return order > 0;
    case pb::Compare::LESS:
      return order < 0;
    default:
      return true;
  }
}

int Order(int64_t a, int64_t b) {
  return a < b ? -1 : a > b ? 1 : 0;
}

// Wraps a response that is complete but for its header.
void AppendResponseOp(std::string* out, uint32_t op_field, int64_t header_revision, std::string_view body) {
  std::string header, response;
  base::AppendInt64Field(header, kHeaderRevision, header_revision);
  base::AppendBytesField(response, kHeader, header);
  response.append(body);
  std::string op;
  base::AppendBytesField(op, op_field, response);
  base::AppendBytesField(*out, kResponses, op);
}

class Evaluator {
 public:
  // `writer` is null for a transaction that only reads; `view` is the state before it.
  Evaluator(const StoreImpl& store, Writer* writer, const View& view, bool wants_answer)
      : store_(store), writer_(writer), view_(view), wants_answer_(wants_answer) {}

  StoreError Run(const pb::TxnRequest& request, OpResult* result) {
    Decide(request);
    size_t next = 0;
    StoreError error = Check(request, &next);
    if (error != StoreError::kNone) return error;
    result->succeeded = path_[0];
    next = 0;
    return Execute(request, &next, &result->body);
  }

 private:
  const google::protobuf::RepeatedPtrField<pb::RequestOp>& Branch(const pb::TxnRequest& t, bool success) {
    return success ? t.success() : t.failure();
  }

  bool CompareOne(const pb::Compare& c, const KeyVersion* version) {
    switch (c.target()) {
      case pb::Compare::VERSION:
        return Holds(c.result(), Order(version ? version->version : 0, c.version()));
      case pb::Compare::CREATE:
        return Holds(c.result(), Order(version ? version->create_main : 0, c.create_revision()));
      case pb::Compare::MOD:
        return Holds(c.result(), Order(version ? version->mod_main : 0, c.mod_revision()));
      case pb::Compare::VALUE: {
        if (version == nullptr) return false;
        int order = 0;
        store_.Fetch(view_, *version, [&](std::string_view record) {
          KeyValueView kv;
          DecodeKeyValue(record, &kv);
          order = kv.value.compare(c.value());
        });
        return Holds(c.result(), order);
      }
      case pb::Compare::LEASE: {
        int64_t lease = 0;
        if (version && version->leased) {
          store_.Fetch(view_, *version, [&](std::string_view record) {
            KeyValueView kv;
            DecodeKeyValue(record, &kv);
            lease = kv.lease;
          });
        }
        return Holds(c.result(), Order(lease, c.lease()));
      }
      default:
        return Holds(c.result(), 0);
    }
  }

  bool Compare(const pb::Compare& c) {
    base::KeyInterval interval = base::KeyInterval::FromRequest(c.key(), c.range_end());
    if (interval.is_single()) {
      std::optional<KeyVersion> version = store_.FindLive(view_, c.key());
      return CompareOne(c, version ? &*version : nullptr);
    }
    // The versions are copied out, so that no value is fetched while the index is locked.
    std::vector<KeyVersion> versions;
    bool by_index = c.target() != pb::Compare::VALUE && c.target() != pb::Compare::LEASE;
    bool any = false, all = true;
    store_.ForEachLive(view_, interval, [&](std::string_view, const KeyVersion& version) {
      any = true;
      if (!by_index) {
        versions.push_back(version);
        return true;
      }
      all = CompareOne(c, &version);
      return all;
    });
    if (!any) return CompareOne(c, nullptr);
    for (const KeyVersion& version : versions) {
      if (!all) break;
      all = CompareOne(c, &version);
    }
    return all;
  }

  // Appends to the path, in preorder, which branch each transaction on it takes.
  void Decide(const pb::TxnRequest& request) {
    bool success = true;
    for (const pb::Compare& c : request.compare()) {
      if (!Compare(c)) {
        success = false;
        break;
      }
    }
    path_.push_back(success);
    for (const pb::RequestOp& op : Branch(request, success)) {
      if (op.has_request_txn()) Decide(op.request_txn());
    }
  }

  StoreError CheckRange(const pb::RangeRequest& r) {
    if (r.revision() == 0) return StoreError::kNone;
    if (r.revision() > view_.current) return StoreError::kFutureRevision;
    return r.revision() < view_.compact ? StoreError::kCompacted : StoreError::kNone;
  }

  // Whether an earlier operation on the path deletes the key.
  bool IsDeleted(std::string_view key) const {
    return std::any_of(deleted_.begin(), deleted_.end(),
                       [key](const base::KeyInterval& interval) { return interval.Contains(key); });
  }

  StoreError CheckPut(const pb::PutRequest& p) {
    // The API lets a transaction delete to the open end and put a key there, as etcd's does, whose members
    // then end when the put finds nothing to keep.
    if ((p.ignore_value() || p.ignore_lease()) && (IsDeleted(p.key()) || !store_.FindLive(view_, p.key()))) {
      return StoreError::kKeyNotFound;
    }
    return writer_->CheckLease(p.lease());
  }

  StoreError Check(const pb::TxnRequest& request, size_t* next) {
    for (const pb::RequestOp& op : Branch(request, path_[(*next)++])) {
      StoreError error = StoreError::kNone;
      switch (op.request_case()) {
        case pb::RequestOp::kRequestRange:
          error = CheckRange(op.request_range());
          break;
        case pb::RequestOp::kRequestPut:
          KVD_CHECK(writer_ != nullptr, "a put in a transaction that only reads");
          error = CheckPut(op.request_put());
          break;
        case pb::RequestOp::kRequestDeleteRange:
          deleted_.push_back(base::KeyInterval::FromRequest(op.request_delete_range().key(),
                                                            op.request_delete_range().range_end()));
          break;
        case pb::RequestOp::kRequestTxn:
          error = Check(op.request_txn(), next);
          break;
        case pb::RequestOp::REQUEST_NOT_SET:
          break;
      }
      if (error != StoreError::kNone) return error;
    }
    return StoreError::kNone;
  }

  // Appends the fields of the TxnResponse, its header apart.
  StoreError Execute(const pb::TxnRequest& request, size_t* next, std::string* out) {
    bool success = path_[(*next)++];
    if (wants_answer_) base::AppendInt64Field(*out, kSucceeded, success ? 1 : 0);
    for (const pb::RequestOp& op : Branch(request, success)) {
      StoreError error = StoreError::kNone;
      switch (op.request_case()) {
        case pb::RequestOp::kRequestRange:
          error = ExecuteRange(op.request_range(), out);
          break;
        case pb::RequestOp::kRequestPut:
          ExecutePut(op.request_put(), out);
          break;
        case pb::RequestOp::kRequestDeleteRange:
          ExecuteDelete(op.request_delete_range(), out);
          break;
        case pb::RequestOp::kRequestTxn:
          error = ExecuteTxn(op.request_txn(), next, out);
          break;
        case pb::RequestOp::REQUEST_NOT_SET:
          if (wants_answer_) base::AppendBytesField(*out, kResponses, {});
          break;
      }
      if (error != StoreError::kNone) return error;
    }
    return StoreError::kNone;
  }

  StoreError ExecuteRange(const pb::RangeRequest& request, std::string* out) {
    if (!wants_answer_) return StoreError::kNone;
    RangeArgs args = ToArgs(request);
    StoreError error;
    std::optional<View> view = writer_ ? store_.NarrowView(writer_->ViewNow(), args.revision, &error)
                                       : store_.NarrowView(view_, args.revision, &error);
    // Checked before; a reader may still lose the revision to a compaction, and then fails whole.
    if (!view) {
      KVD_CHECK(writer_ == nullptr, "a checked range was refused");
      return error;
    }
    RangeReader reader(store_, *std::move(view), args, {});
    std::string body;
    reader.AppendRest(&body);
    AppendResponseOp(out, kOpRange, reader.header_revision(), body);
    return StoreError::kNone;
  }

  void ExecutePut(const pb::PutRequest& request, std::string* out) {
    std::string prev_kv, body;
    bool wants_prev = wants_answer_ && request.prev_kv();
    StoreError error = writer_->Put(ToArgs(request), wants_prev ? &prev_kv : nullptr);
    KVD_CHECK(error == StoreError::kNone, "a checked put was refused");
    if (!wants_answer_) return;
    if (!prev_kv.empty()) base::AppendBytesField(body, kPutPrevKv, prev_kv);
    AppendResponseOp(out, kOpPut, writer_->header_revision(), body);
  }

  void ExecuteDelete(const pb::DeleteRangeRequest& request, std::string* out) {
    KVD_CHECK(writer_ != nullptr, "a delete in a transaction that only reads");
    std::string prev_kvs, body;
    bool wants_prev = wants_answer_ && request.prev_kv();
    int64_t deleted = writer_->Delete(base::KeyInterval::FromRequest(request.key(), request.range_end()),
                                      wants_prev ? &prev_kvs : nullptr);
    if (!wants_answer_) return;
    base::AppendInt64Field(body, kDeleted, deleted);
    body.append(prev_kvs);
    AppendResponseOp(out, kOpDeleteRange, writer_->header_revision(), body);
  }

  StoreError ExecuteTxn(const pb::TxnRequest& request, size_t* next, std::string* out) {
    std::string body;
    StoreError error = Execute(request, next, &body);
    // Only the outermost header says a revision.
    if (wants_answer_) AppendResponseOp(out, kOpTxn, 0, body);
    return error;
  }

  const StoreImpl& store_;
  Writer* const writer_;
  const View& view_;
  const bool wants_answer_;
  std::vector<bool> path_;
  std::vector<base::KeyInterval> deleted_;  // by the operations checked so far
};

}  // namespace

OpResult ApplyBatch::Txn(const etcdserverpb::TxnRequest& request, Answer answer) {
  Writer& writer = *impl_->writer_;
  OpResult result;
  writer.Begin();
  View before = writer.ViewNow();
  Evaluator evaluator(*impl_, &writer, before, answer == Answer::kFull);
  result.error = evaluator.Run(request, &result);
  result.revision = writer.End();
  return result;
}

void Store::ReadTxn(const etcdserverpb::TxnRequest& request, OpResult* result) const {
  std::shared_ptr<StoreImpl> impl = Impl();
  std::optional<View> view = impl->OpenView(0, /*with_snapshot=*/true, &result->error);
  KVD_CHECK(view.has_value(), "the latest revision is always there");
  size_t before = result->body.size();
  Evaluator evaluator(*impl, nullptr, *view, /*wants_answer=*/true);
  result->error = evaluator.Run(request, result);
  if (!result->ok()) result->body.resize(before);
  result->revision = view->current;
}

}  // namespace kvd::storage
