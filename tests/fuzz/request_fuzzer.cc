// Requests of the KV service from any bytes: what our reader and protobuf take, both take in the same way; a
// transaction that passes the checks runs on a store, and answers what the answer's size says.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/sim_executor.h"
#include "etcdserverpb/rpc.pb.h"
#include "fuzz_input.h"
#include "server/api/kv_requests.h"
#include "server/node/txn_codec.h"
#include "storage/store.h"

namespace {

using kvd::fuzz::Must;
namespace server = kvd::server;
namespace storage = kvd::storage;
namespace pb = etcdserverpb;

constexpr int64_t kMaxOps = 128;
// More than a client could send within max-request-bytes is of no use, and slow.
constexpr size_t kMaxBytes = size_t{64} * 1024;

template <typename Proto>
Proto Parsed(std::string_view bytes) {
  Proto message;
  Must(message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
  return message;
}

// Protobuf's C++ reader refuses what etcd's and ours read: tags that are written with more bytes than they
// need.
bool TakenByProtobuf(std::string_view bytes, google::protobuf::Message* message) {
  return message->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
}

void FuzzRange(std::string_view bytes) {
  server::RangeCall call;
  if (!server::ReadRange(bytes, &call)) return;
  pb::RangeRequest wire;
  if (!TakenByProtobuf(bytes, &wire)) return;
  const storage::RangeArgs& args = call.args;
  Must(args.key == wire.key() && args.range_end == wire.range_end() && args.limit == wire.limit() &&
       args.revision == wire.revision() && args.keys_only == wire.keys_only() &&
       args.count_only == wire.count_only() && call.serializable == wire.serializable() &&
       static_cast<int>(args.sort_order) == wire.sort_order() &&
       static_cast<int>(args.sort_target) == wire.sort_target() &&
       args.min_mod_revision == wire.min_mod_revision() && args.max_mod_revision == wire.max_mod_revision() &&
       args.min_create_revision == wire.min_create_revision() &&
       args.max_create_revision == wire.max_create_revision());
  (void)server::CheckRange(args);
}

void FuzzPut(std::string_view bytes) {
  storage::PutArgs args;
  if (!server::ReadPut(bytes, &args)) return;
  pb::PutRequest wire;
  if (!TakenByProtobuf(bytes, &wire)) return;
  Must(args.key == wire.key() && args.value == wire.value() && args.lease == wire.lease() &&
       args.prev_kv == wire.prev_kv() && args.ignore_value == wire.ignore_value() &&
       args.ignore_lease == wire.ignore_lease());
  (void)server::CheckPut(args);
  Must(server::CostOf(args) > args.key.size() + args.value.size());
}

void FuzzDelete(std::string_view bytes) {
  storage::DeleteRangeArgs args;
  if (!server::ReadDeleteRange(bytes, &args)) return;
  pb::DeleteRangeRequest wire;
  if (!TakenByProtobuf(bytes, &wire)) return;
  Must(args.key == wire.key() && args.range_end == wire.range_end() && args.prev_kv == wire.prev_kv());
  (void)server::CheckDeleteRange(args);
}

// A store of a few keys, two of them with a past.
class SmallStore {
 public:
  SmallStore() : world_(1), executor_(world_.NewExecutor("background")) {
    auto store = storage::Store::Open(storage::OpenModelEngine(storage::NewModelDisk()), *executor_);
    Must(store.ok());
    store_ = *std::move(store);
    auto batch = store_->BeginApply();
    for (const char* key : {"a", "b", "c", "a", "b", "d"}) batch.Put({.key = key, .value = "v"});
    batch.DeleteRange({.key = "d"});
    batch.Commit({.index = 1, .term = 1});
  }
  storage::Store& operator*() { return *store_; }
  storage::Store* operator->() { return store_.get(); }

 private:
  kvd::base::SimScheduler world_;
  std::unique_ptr<kvd::base::Executor> executor_;
  std::unique_ptr<storage::Store> store_;
};

void FuzzTxn(std::string_view bytes) {
  if (server::IsNestedDeeper(bytes, kMaxOps)) return;
  pb::TxnRequest txn;
  if (!server::ParseTxn(bytes, &txn)) return;
  if (server::CheckTxn(txn, kMaxOps) != server::Error::kOk) return;
  (void)server::IsSerializable(txn);
  (void)server::CostOf(txn);

  SmallStore store;
  storage::OpResult result;
  if (server::IsReadOnly(txn)) {
    store->ReadTxn(txn, &result);
  } else {
    const int64_t before = store->current_revision();
    auto batch = store->BeginApply();
    result = batch.Txn(txn);
    batch.Commit({.index = 2, .term = 1});
    Must(store->current_revision() == result.revision && result.revision <= before + 1);
    if (!result.ok()) Must(store->current_revision() == before);
  }
  if (result.ok()) {
    const auto answer = Parsed<pb::TxnResponse>(result.body);
    Must(answer.succeeded() == result.succeeded);
    Must(answer.responses_size() == (answer.succeeded() ? txn.success_size() : txn.failure_size()));
  }
  const storage::HashResult hash = store->HashKv(0);
  Must(hash.error == storage::StoreError::kNone);
}

void RangeOnStore(std::string_view bytes) {
  server::RangeCall call;
  if (!server::ReadRange(bytes, &call) || server::CheckRange(call.args) != server::Error::kOk) return;
  static auto* const store = new SmallStore;
  storage::OpResult result;
  (*store)->Range(call.args, &result);
  if (!result.ok()) return;
  const auto answer = Parsed<pb::RangeResponse>(result.body);
  Must(answer.count() == result.count && answer.more() == result.more);
  Must(answer.kvs_size() <= answer.count());
  if (call.args.count_only) Must(answer.kvs_size() == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > kMaxBytes) return 0;
  kvd::fuzz::Input input(data, size);
  const uint8_t kind = input.Byte();
  const std::string_view bytes = input.TakeRest();
  switch (kind % 5) {
    case 0:
      FuzzRange(bytes);
      RangeOnStore(bytes);
      break;
    case 1:
      FuzzPut(bytes);
      break;
    case 2:
      FuzzDelete(bytes);
      break;
    default:
      FuzzTxn(bytes);
      break;
  }
  return 0;
}
