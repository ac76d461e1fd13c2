// etcdserverpb.KV.

#include <utility>

#include "etcdserverpb/rpc.pb.h"
#include "net/grpc_server.h"
#include "server/api/kv_requests.h"
#include "server/api/list.h"
#include "server/api/services.h"
#include "server/node/txn_codec.h"
#include "storage/store.h"

namespace kvd::server {

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
        std::shared_ptr<ListStream> stream =
            ListStream::New(node_, lists_, call, std::string(request), options_.max_request_bytes);
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
  if (range.serializable) return AnswerRange(node_, lists_, call);
  node_.LinearizableRead([this, call](Error error) {
    if (error != Error::kOk) return Fail(call, error);
    // The read itself is the work of the connection's thread.
    call.executor().Post([this, call] { AnswerRange(node_, lists_, call); });
  });
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
