// etcdserverpb.KV.

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include "etcdserverpb/rpc.pb.h"
#include "net/grpc_server.h"
#include "server/api/kv_requests.h"
#include "server/api/services.h"
#include "server/node/txn_codec.h"
#include "storage/store.h"

namespace kvd::server {

// Bytes of long lists that are in memory on their way to clients, of all lists together. Thread-safe.
class ListBudget {
 public:
  // False: there is no room for them.
  bool Take(size_t bytes) {
    if (held_.fetch_add(bytes, std::memory_order_relaxed) + bytes <= kMostBytes) return true;
    Give(bytes);
    return false;
  }
  void Give(size_t bytes) { held_.fetch_sub(bytes, std::memory_order_relaxed); }

 private:
  static constexpr size_t kMostBytes = size_t{32} << 20;
  std::atomic<size_t> held_{0};
};

namespace {

// Up to this many keys a list is read in one go; a longer one in slices, between which the thread serves
// others.
constexpr int64_t kShortList = 256;
constexpr size_t kSliceKeys = 256;
constexpr size_t kSliceBytes = size_t{128} * 1024;
// A list from this on lets those who wait for its processor go first between two slices: puts need a moment
// of many threads each, and would wait for the rest of a time slice at each of them.
constexpr uint64_t kGiveWayBytes = uint64_t{1} << 20;

void GiveWay(uint64_t given_bytes) {
  if (given_bytes >= kGiveWayBytes) std::this_thread::yield();
}

// A part of a list, within the budget until it is sent.
class ListSlice {
 public:
  ListSlice(std::string bytes, std::shared_ptr<ListBudget> budget)
      : bytes_(std::move(bytes)), budget_(std::move(budget)) {}
  ~ListSlice() { budget_->Give(bytes_.size()); }
  ListSlice(const ListSlice&) = delete;
  ListSlice& operator=(const ListSlice&) = delete;
  std::string_view view() const { return bytes_; }

 private:
  const std::string bytes_;
  const std::shared_ptr<ListBudget> budget_;
};

// Reads a list again, as the client takes it.
class ListSource final : public net::BodySource {
 public:
  ListSource(std::unique_ptr<storage::RangeCursor> cursor, std::string head, std::string tail)
      : cursor_(std::move(cursor)), head_(std::move(head)), tail_(std::move(tail)) {
    cursor_->Rewind();
  }
  void Next(size_t max_bytes, std::string* out) override {
    GiveWay(kGiveWayBytes);  // it is longer than that, or would not be read twice
    out->append(std::exchange(head_, {}));
    cursor_->Next(0, max_bytes, out);
    if (cursor_->done()) out->append(std::exchange(tail_, {}));
  }

 private:
  std::unique_ptr<storage::RangeCursor> cursor_;
  std::string head_;
  std::string tail_;
};

// A long list, read slice by slice on the connection's thread. While the budget has room the slices are kept,
// and are the answer. A list that does not fit is read to its end for its length alone, and then once more
// while it is sent.
class LongList : public std::enable_shared_from_this<LongList> {
 public:
  LongList(net::UnaryCall call, std::unique_ptr<storage::RangeCursor> cursor, ResponseHeaderFields header,
           std::shared_ptr<ListBudget> budget)
      : call_(std::move(call)), cursor_(std::move(cursor)), header_(header), budget_(std::move(budget)) {}

  void Step() {
    if (call_.cancelled()) return;
    GiveWay(size_);
    slice_.clear();
    slice_.reserve(slice_bytes_);
    cursor_->Next(kSliceKeys, kSliceBytes, &slice_);
    size_ += slice_.size();
    slice_bytes_ = slice_.size() + slice_.size() / 8;
    if (fits_ && !slice_.empty()) Keep();
    if (cursor_->done()) return Reply();
    call_.executor().Post([self = shared_from_this()] { self->Step(); });
  }

 private:
  void Keep() {
    fits_ = budget_->Take(slice_.size());
    if (fits_) {
      auto kept = std::make_shared<ListSlice>(std::exchange(slice_, {}), budget_);
      slices_.emplace_back(kept, kept->view());
    } else {
      slices_ = {};
    }
  }

  void Reply() {
    header_.revision = cursor_->header_revision();
    std::string head;
    AppendResponseHeader(head, header_);
    std::string tail;
    AppendBoolField(tail, 3, cursor_->more());
    AppendInt64Field(tail, 4, cursor_->count());
    if (!fits_) {
      uint64_t size = head.size() + size_ + tail.size();
      call_.ReplyFrom(size,
                      std::make_unique<ListSource>(std::move(cursor_), std::move(head), std::move(tail)));
      return;
    }
    net::Message message(std::move(head));
    for (net::Piece& slice : slices_) message.Append(std::move(slice));
    message.AppendCopy(tail);
    call_.Reply(std::move(message));
  }

  net::UnaryCall call_;
  std::unique_ptr<storage::RangeCursor> cursor_;
  ResponseHeaderFields header_;
  const std::shared_ptr<ListBudget> budget_;
  bool fits_ = true;
  uint64_t size_ = 0;  // of the kvs
  std::string slice_;
  size_t slice_bytes_ = 0;  // what the next is likely to need
  std::vector<net::Piece> slices_;
};

// One RangeStream: chunks that start small and grow toward the size of a request, as fast as the client takes
// them.
class ListStream final : public net::StreamHandler, public std::enable_shared_from_this<ListStream> {
 public:
  ListStream(Node& node, std::shared_ptr<net::StreamCall> call, std::string request, uint64_t chunk_bytes)
      : node_(node), call_(std::move(call)), request_(std::move(request)), chunk_bytes_(chunk_bytes) {}

  void Begin() {
    RangeCall range;
    ReadRange(request_, &range);
    storage::StoreError error = storage::StoreError::kNone;
    cursor_ = node_.store().OpenRange(range.args, &error);
    if (cursor_ == nullptr) {
      Finish(*call_, ToError(error));
      return;
    }
    Pump();
  }

  void OnMessage(std::string_view) override {}
  void OnHalfClose() override {}
  void OnWritable() override { Pump(); }
  void OnClosed() override {
    closed_ = true;
    cursor_.reset();
  }

 private:
  static constexpr size_t kFirstChunkKeys = 10;
  // No more than this, and one chunk, waits for the client.
  static constexpr size_t kQueuedBytes = size_t{1} << 20;
  static_assert(kQueuedBytes >= net::FrontDoorOptions{}.stream_high_bytes, "OnWritable must follow");

  void Pump() {
    if (closed_ || finished_ || cursor_ == nullptr) return;
    if (call_->queued_bytes() >= kQueuedBytes) return;  // OnWritable goes on
    GiveWay(given_bytes_);
    std::string chunk;
    chunk.reserve(likely_bytes_);
    size_t keys = cursor_->Next(chunk_keys_, chunk_bytes_, &chunk);
    given_bytes_ += chunk.size();
    likely_bytes_ = chunk.size() + chunk.size() / 8;
    if (chunk.size() < chunk_bytes_ / 2) {
      chunk_keys_ *= 2;
    } else if (keys > 1) {
      chunk_keys_ = std::max<size_t>(1, keys);
    }
    std::string fields = std::move(chunk);
    if (cursor_->done()) {
      AppendBoolField(fields, 3, cursor_->more());
      AppendInt64Field(fields, 4, cursor_->count());
      fields = WithHeader(node_.Header(cursor_->header_revision()), std::move(fields));
      finished_ = true;
    }
    std::string head;  // RangeStreamResponse{range_response = 1}
    base::AppendLength(head, 1, fields.size());
    net::Message message(std::move(head));
    message.Append(net::Piece(std::move(fields)));
    call_->Write(std::move(message));
    if (finished_) {
      cursor_.reset();
      call_->Finish(net::StatusCode::kOk, "");
      return;
    }
    call_->executor().Post([self = shared_from_this()] { self->Pump(); });
  }

  Node& node_;
  std::shared_ptr<net::StreamCall> call_;
  const std::string request_;
  const uint64_t chunk_bytes_;
  std::unique_ptr<storage::RangeCursor> cursor_;
  size_t chunk_keys_ = kFirstChunkKeys;
  uint64_t given_bytes_ = 0;
  size_t likely_bytes_ = 0;  // of the next chunk
  bool closed_ = false;
  bool finished_ = false;
};

}  // namespace

std::shared_ptr<ListBudget> NewListBudget() {
  return std::make_shared<ListBudget>();
}

void Services::RegisterKv(net::FrontDoor& door) {
  door.RegisterUnary("/etcdserverpb.KV/Range", [this](net::UnaryCall call) { Range(std::move(call)); });
  door.RegisterUnary("/etcdserverpb.KV/Put", [this](net::UnaryCall call) { Put(std::move(call)); });
  door.RegisterUnary("/etcdserverpb.KV/DeleteRange",
                     [this](net::UnaryCall call) { DeleteRange(std::move(call)); });
  door.RegisterUnary("/etcdserverpb.KV/Txn", [this](net::UnaryCall call) { Txn(std::move(call)); });
  door.RegisterUnary("/etcdserverpb.KV/Compact", [this](net::UnaryCall call) { Compact(std::move(call)); });
  door.RegisterServerStream(
      "/etcdserverpb.KV/RangeStream",
      [this](std::string_view request,
             std::shared_ptr<net::StreamCall> call) -> std::shared_ptr<net::StreamHandler> {
        RangeCall range;
        Error error = AdmitStream(*call);
        if (error == Error::kOk && !ReadRange(request, &range)) {
          call->Finish(net::StatusCode::kInternal, "grpc: error unmarshalling request");
          return nullptr;
        }
        if (error == Error::kOk) error = CheckRange(range.args);
        if (error != Error::kOk) {
          Finish(*call, error);
          return nullptr;
        }
        const storage::RangeArgs& args = range.args;
        if (args.sort_order != storage::SortOrder::kNone || args.sort_target != storage::SortTarget::kKey) {
          call->Finish(net::StatusCode::kUnimplemented, "RangeStream does not support custom sort orders");
          return nullptr;
        }
        if (args.min_mod_revision != 0 || args.max_mod_revision != 0 || args.min_create_revision != 0 ||
            args.max_create_revision != 0) {
          call->Finish(net::StatusCode::kUnimplemented, "RangeStream does not support revision filters");
          return nullptr;
        }
        auto stream =
            std::make_shared<ListStream>(node_, call, std::string(request), options_.max_request_bytes);
        if (range.serializable) {
          call->executor().Post([stream] { stream->Begin(); });
        } else {
          node_.LinearizableRead([stream, call](Error read) {
            if (read != Error::kOk) {
              Finish(*call, read);
              return;
            }
            call->executor().Post([stream] { stream->Begin(); });
          });
        }
        return stream;
      });
}

void Services::Range(net::UnaryCall call) {
  RangeCall range;
  if (!ReadRange(call.request(), &range)) return FailMalformed(call);
  if (!Admit(call, range.serializable)) return;
  if (Error error = CheckRange(range.args); error != Error::kOk) return Fail(call, error);
  if (range.serializable) return ReadRangeNow(call);
  node_.LinearizableRead([this, call](Error error) {
    if (error != Error::kOk) return Fail(call, error);
    // The read itself is the work of the connection's thread.
    call.executor().Post([this, call] { ReadRangeNow(call); });
  });
}

void Services::ReadRangeNow(const net::UnaryCall& call) {
  RangeCall range;
  ReadRange(call.request(), &range);  // read before: cheaper again than carried along
  const storage::RangeArgs& args = range.args;
  bool is_short = args.range_end.empty() || args.count_only || (args.limit > 0 && args.limit <= kShortList);
  if (is_short) {
    storage::OpResult result;
    node_.store().Range(args, &result);
    if (!result.ok()) return Fail(call, ToError(result.error));
    call.Reply(WithHeader(node_.Header(result.revision), std::move(result.body)));
    return;
  }
  storage::StoreError error = storage::StoreError::kNone;
  std::unique_ptr<storage::RangeCursor> cursor = node_.store().OpenRange(args, &error);
  if (cursor == nullptr) return Fail(call, ToError(error));
  std::make_shared<LongList>(call, std::move(cursor), node_.Header(0), list_budget_)->Step();
}

void Services::Put(net::UnaryCall call) {
  storage::PutArgs args;
  if (!ReadPut(call.request(), &args)) return FailMalformed(call);
  if (!Admit(call)) return;
  if (Error error = CheckPut(args); error != Error::kOk) return Fail(call, error);
  if (node_.WouldExceedQuota(CostOf(args))) {
    node_.RaiseNoSpace();
    return Fail(call, Error::kNoSpace);
  }
  std::string_view request = call.request();
  ProposeAndReply(std::move(call), RequestField::kPut, request);
}

void Services::DeleteRange(net::UnaryCall call) {
  storage::DeleteRangeArgs args;
  if (!ReadDeleteRange(call.request(), &args)) return FailMalformed(call);
  if (!Admit(call)) return;
  if (Error error = CheckDeleteRange(args); error != Error::kOk) return Fail(call, error);
  std::string_view request = call.request();
  ProposeAndReply(std::move(call), RequestField::kDeleteRange, request);
}

void Services::Txn(net::UnaryCall call) {
  // One that is nested this deep has too many operations, however many they are.
  if (IsNestedDeeper(call.request(), options_.max_txn_ops + 1)) {
    if (Admit(call)) Fail(call, Error::kTooManyOps);
    return;
  }
  auto txn = std::make_shared<etcdserverpb::TxnRequest>();
  if (!ParseTxn(call.request(), txn.get())) return FailMalformed(call);
  if (!Admit(call)) return;
  if (Error error = CheckTxn(*txn, options_.max_txn_ops); error != Error::kOk) return Fail(call, error);
  if (!IsReadOnly(*txn)) {
    uint64_t cost = CostOf(*txn);
    if (cost > 0 && node_.WouldExceedQuota(cost)) {
      node_.RaiseNoSpace();
      return Fail(call, Error::kNoSpace);
    }
    std::string_view request = call.request();
    return ProposeAndReply(std::move(call), RequestField::kTxn, request);
  }
  auto read = [this, call, txn] {
    storage::OpResult result;
    node_.store().ReadTxn(*txn, &result);
    if (!result.ok()) return Fail(call, ToError(result.error));
    call.Reply(WithHeader(node_.Header(result.revision), std::move(result.body)));
  };
  if (IsSerializable(*txn)) return read();
  node_.LinearizableRead([call, read](Error error) {
    if (error != Error::kOk) return Fail(call, error);
    call.executor().Post(read);
  });
}

void Services::Compact(net::UnaryCall call) {
  etcdserverpb::CompactionRequest request;
  if (!Parse(call.request(), &request)) return FailMalformed(call);
  if (!Admit(call)) return;
  std::string_view bytes = call.request();
  ProposeAndReply(std::move(call), RequestField::kCompaction, bytes);
}

}  // namespace kvd::server
