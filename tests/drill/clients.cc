#include "clients.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "etcdserverpb/rpc.grpc.pb.h"

namespace kvd::drill {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kPatience(1000);
constexpr uint64_t kKeys = 12;
constexpr uint64_t kRegisters = 3;
constexpr int64_t kLeaseTtl = 2;

// Answers of etcd's table come back as they are; what the transport made up tells nothing.
bool IsAnswer(const grpc::Status& status) {
  return status.error_message().starts_with("etcdserver: ");
}

void SetDeadline(grpc::ClientContext& context) {
  context.set_deadline(std::chrono::system_clock::now() + kPatience);
}

}  // namespace

Client::Client(World& world, uint32_t number, uint64_t seed)
    : world_(world),
      number_(number),
      random_(seed * 1000 + number),
      member_(number % static_cast<uint32_t>(world.endpoints.size())) {}

void Client::Run() {
  while (world_.running) {
    Line line;
    Operation& op = *line.mutable_operation();
    op.set_id(static_cast<uint64_t>(number_) << 32 | next_);
    op.set_client(number_);
    Fill(op);
    ++next_;
    Send(op);
    Learn(op);
    world_.recorder->Write(line);
    if (op.returned_ns() == 0 || !op.error().empty()) {
      member_ = (member_ + 1) % static_cast<uint32_t>(world_.endpoints.size());
      std::this_thread::sleep_for(milliseconds(20));
    } else {
      // Slow enough that a history of minutes is checked in seconds.
      std::this_thread::sleep_for(milliseconds(Below(12)));
    }
  }
}

void Client::Fill(Operation& op) {
  if (next_ < kRegisterOperations) return FillRegister(op, "r" + std::to_string(Below(kRegisters)));
  const std::string key = "k" + std::to_string(Below(kKeys));
  switch (Below(10)) {
    case 0:
      op.mutable_range()->set_key("k");
      op.mutable_range()->set_range_end("l");
      op.mutable_range()->set_limit(static_cast<int64_t>(Below(8)));
      return;
    case 1:
      op.mutable_range()->set_key(key);
      op.mutable_range()->set_serializable(true);
      return;
    case 2:
      return CompareAndPut(op, key, /*else_read=*/true);
    case 3: {
      for (int i = 0; i < 2; ++i) {
        auto& put = *op.mutable_txn()->add_success()->mutable_request_put();
        put.set_key("k" + std::to_string(Below(kKeys / 2) * 2 + static_cast<uint64_t>(i)));
        put.set_value(Value() + (i == 0 ? "a" : "b"));
      }
      return;
    }
    case 4:
      return FillLease(op);
    default:
      FillRegister(op, key);
      if (op.has_put()) op.mutable_put()->set_prev_kv(Below(2) == 0);
      if (op.has_delete_range()) op.mutable_delete_range()->set_prev_kv(true);
  }
}

void Client::FillRegister(Operation& op, const std::string& key) {
  switch (Below(8)) {
    case 0:
      op.mutable_delete_range()->set_key(key);
      return;
    case 1:
    case 2:
      return CompareAndPut(op, key, /*else_read=*/false);
    case 3:
    case 4:
      op.mutable_range()->set_key(key);
      return;
    default:
      op.mutable_put()->set_key(key);
      op.mutable_put()->set_value(Value());
  }
}

void Client::CompareAndPut(Operation& op, const std::string& key, bool else_read) {
  auto& compare = *op.mutable_txn()->add_compare();
  compare.set_target(etcdserverpb::Compare::MOD);
  compare.set_result(etcdserverpb::Compare::EQUAL);
  compare.set_key(key);
  compare.set_mod_revision(seen_[key]);
  auto& put = *op.mutable_txn()->add_success()->mutable_request_put();
  put.set_key(key);
  put.set_value(Value());
  if (else_read) op.mutable_txn()->add_failure()->mutable_request_range()->set_key(key);
}

// Keys with a lease are never deleted but with it.
void Client::FillLease(Operation& op) {
  if (leases_.size() < 2 || (leases_.size() < 4 && Below(4) == 0)) {
    op.mutable_grant()->set_id(static_cast<int64_t>((uint64_t{number_} + 1) * 1'000'000 + next_));
    op.mutable_grant()->set_ttl(kLeaseTtl);
    return;
  }
  const int64_t lease = leases_[Below(leases_.size())];
  switch (Below(6)) {
    case 0:
      op.mutable_revoke()->set_id(lease);
      std::erase(leases_, lease);
      return;
    case 1:
    case 2:
      op.mutable_keep_alive()->set_id(lease);
      return;
    default:
      op.mutable_put()->set_key("lease/" + std::to_string(lease) + "/" + std::to_string(Below(3)));
      op.mutable_put()->set_value(Value());
      op.mutable_put()->set_lease(lease);
  }
}

void Client::Send(Operation& op) {
  op.set_member(member_);
  op.set_invoked_ns(NowNs());
  const grpc::Status status = Call(op);
  if (status.ok()) {
    op.set_returned_ns(NowNs());
    if (op.has_put()) world_.silence.Acknowledged();
  } else if (IsAnswer(status)) {
    op.set_returned_ns(NowNs());
    op.set_error(status.error_message());
  } else {
    op.set_failure(status.error_message());
  }
}

grpc::Status Client::Call(Operation& op) {
  grpc::ClientContext context;
  SetDeadline(context);
  etcdserverpb::KV::Stub kv(world_.channels[member_]);
  etcdserverpb::Lease::Stub lease(world_.channels[member_]);
  switch (op.request_case()) {
    case Operation::kPut:
      return kv.Put(&context, op.put(), op.mutable_put_answer());
    case Operation::kDeleteRange:
      return kv.DeleteRange(&context, op.delete_range(), op.mutable_delete_range_answer());
    case Operation::kTxn:
      return kv.Txn(&context, op.txn(), op.mutable_txn_answer());
    case Operation::kRange:
      return kv.Range(&context, op.range(), op.mutable_range_answer());
    case Operation::kGrant:
      return lease.LeaseGrant(&context, op.grant(), op.mutable_grant_answer());
    case Operation::kRevoke:
      return lease.LeaseRevoke(&context, op.revoke(), op.mutable_revoke_answer());
    case Operation::kKeepAlive:
      return KeepAlive(context, op);
    case Operation::kCompact:
    case Operation::REQUEST_NOT_SET:
      break;
  }
  return {grpc::StatusCode::INTERNAL, "a request that clients do not send"};
}

grpc::Status Client::KeepAlive(grpc::ClientContext& context, Operation& op) {
  etcdserverpb::Lease::Stub lease(world_.channels[member_]);
  auto stream = lease.LeaseKeepAlive(&context);
  const bool answered = stream->Write(op.keep_alive()) && stream->Read(op.mutable_keep_alive_answer());
  stream->WritesDone();
  const grpc::Status status = stream->Finish();
  if (!answered) return status.ok() ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "no answer") : status;
  // etcd's way to say that there is no such lease.
  if (op.keep_alive_answer().ttl() == 0) {
    return {grpc::StatusCode::NOT_FOUND, "etcdserver: requested lease not found"};
  }
  return grpc::Status::OK;
}

void Client::Learn(const Operation& op) {
  if (op.returned_ns() == 0) return;
  if (!op.error().empty()) {
    const int64_t lease = op.has_put() ? op.put().lease() : op.has_keep_alive() ? op.keep_alive().id() : 0;
    if (lease != 0) std::erase(leases_, lease);
    return;
  }
  if (op.has_grant()) leases_.push_back(op.grant().id());
  if (op.has_put()) seen_[op.put().key()] = op.put_answer().header().revision();
  if (op.has_range()) {
    if (op.range().range_end().empty()) seen_[op.range().key()] = 0;
    for (const mvccpb::KeyValue& kv : op.range_answer().kvs()) seen_[kv.key()] = kv.mod_revision();
  }
}

Watcher::Watcher(World& world, uint32_t number, etcdserverpb::WatchCreateRequest create)
    : world_(world), number_(number), create_(std::move(create)), next_(create_.start_revision()) {}

void Watcher::Run() {
  for (uint32_t turn = number_; world_.watching; ++turn) {
    Stream(turn % static_cast<uint32_t>(world_.endpoints.size()));
    if (world_.watching) std::this_thread::sleep_for(milliseconds(20));
  }
}

void Watcher::Stream(uint32_t member) {
  grpc::ClientContext context;
  {
    std::lock_guard lock(mutex_);
    context_ = &context;
  }
  heard_ns_ = NowNs();
  create_.set_start_revision(next_);
  Line line;
  line.mutable_watch_start()->set_watcher(number_);
  line.mutable_watch_start()->set_member(member);
  *line.mutable_watch_start()->mutable_create() = create_;
  world_.recorder->Write(line);

  etcdserverpb::Watch::Stub stub(world_.channels[member]);
  auto stream = stub.Watch(&context);
  etcdserverpb::WatchRequest request;
  *request.mutable_create_request() = create_;
  etcdserverpb::WatchResponse response;
  if (stream->Write(request)) {
    while (stream->Read(&response) && Take(response)) {
    }
  }
  context.TryCancel();
  (void)stream->Finish();
  std::lock_guard lock(mutex_);
  context_ = nullptr;
}

// False: the stream is over.
bool Watcher::Take(const etcdserverpb::WatchResponse& response) {
  heard_ns_ = NowNs();
  Line line;
  line.mutable_watched()->set_watcher(number_);
  *line.mutable_watched()->mutable_response() = response;
  // A stream that the server ends, without a word about the history, is no answer to the watch.
  if (response.canceled() && response.compact_revision() == 0) return false;
  world_.recorder->Write(line);
  if (response.canceled()) {
    next_ = response.compact_revision();
    return false;
  }
  if (response.created() || response.fragment()) return true;
  if (response.events_size() > 0) {
    next_ = response.events(response.events_size() - 1).kv().mod_revision() + 1;
  } else {
    next_ = std::max(next_.load(), response.header().revision() + 1);
  }
  return true;
}

void Watcher::Review(milliseconds silence) {
  std::lock_guard lock(mutex_);
  if (context_ == nullptr) return;
  if (NowNs() - heard_ns_ > std::chrono::nanoseconds(silence).count()) context_->TryCancel();
}

}  // namespace kvd::drill
