#include "side.h"

#include <grpcpp/grpcpp.h>

#include <cstdio>
#include <cstdlib>

#include "support/channel.h"

namespace kvd::diff {
namespace {

namespace pb = etcdserverpb;

constexpr auto kCallTimeout = std::chrono::seconds(20);

template <typename... Fs>
struct Overloaded : Fs... {
  using Fs::operator()...;
};
template <typename... Fs>
Overloaded(Fs...) -> Overloaded<Fs...>;

}  // namespace

google::protobuf::Message* MessageIn(Response* response) {
  return std::visit(Overloaded{[](std::monostate&) -> google::protobuf::Message* { return nullptr; },
                               [](auto& message) -> google::protobuf::Message* { return &message; }},
                    *response);
}

pb::ResponseHeader* HeaderIn(Response* response) {
  return std::visit(Overloaded{[](std::monostate&) -> pb::ResponseHeader* { return nullptr; },
                               [](auto& message) { return message.mutable_header(); }},
                    *response);
}

std::string ToString(const Outcome& outcome) {
  if (!outcome.status.ok()) {
    return "error " + std::to_string(outcome.status.error_code()) + " " + outcome.status.error_message();
  }
  Response copy = outcome.response;
  google::protobuf::Message* message = MessageIn(&copy);
  return message == nullptr ? "nothing" : message->ShortDebugString();
}

WatchStream::WatchStream(pb::Watch::Stub& stub)
    : stream_(stub.Watch(&context_)), reader_([this] { Read(); }) {}

WatchStream::~WatchStream() {
  context_.TryCancel();
  reader_.join();
  stream_->Finish();
}

void WatchStream::Send(const pb::WatchRequest& request) {
  stream_->Write(request);
}

void WatchStream::Read() {
  pb::WatchResponse response;
  while (stream_->Read(&response)) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (response.created() || response.watch_id() == -1) {
      if (response.created() && !response.canceled()) watched_[response.watch_id()] = {};
      answers_.push_back(response);
    } else {
      Watched& watched = watched_[response.watch_id()];
      if (response.canceled()) {
        watched.canceled = response;
        ++watched.cancels;
      }
      if (!response.events().empty() && !watched.events.empty() && !watched.in_fragment &&
          response.events(0).kv().mod_revision() == watched.events.back().kv().mod_revision()) {
        watched.was_split = true;
      }
      watched.in_fragment = response.fragment();
      watched.events.insert(watched.events.end(), response.events().begin(), response.events().end());
    }
    changed_.notify_all();
  }
}

std::optional<pb::WatchResponse> WatchStream::NextAnswer(std::chrono::milliseconds timeout) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (!changed_.wait_for(lock, timeout, [this] { return !answers_.empty(); })) return std::nullopt;
  pb::WatchResponse answer = std::move(answers_.front());
  answers_.pop_front();
  return answer;
}

bool WatchStream::Await(int64_t id, std::chrono::milliseconds timeout,
                        const std::function<bool(const Watched&)>& done) {
  std::unique_lock<std::mutex> lock(mutex_);
  return changed_.wait_for(lock, timeout, [&] { return done(watched_[id]); });
}

Watched WatchStream::Take(int64_t id) {
  std::lock_guard<std::mutex> lock(mutex_);
  return watched_[id];
}

void WatchStream::Forget(int64_t id) {
  std::lock_guard<std::mutex> lock(mutex_);
  watched_.erase(id);
}

Side::Side(const std::string& endpoint) {
  channel_ = support::Connect(endpoint);
  kv_ = pb::KV::NewStub(channel_);
  lease_ = pb::Lease::NewStub(channel_);
  watch_ = pb::Watch::NewStub(channel_);
  maintenance_ = pb::Maintenance::NewStub(channel_);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kCallTimeout);
  context.set_wait_for_ready(true);
  pb::StatusResponse response;
  grpc::Status status = maintenance_->Status(&context, pb::StatusRequest(), &response);
  if (!status.ok()) {
    std::fprintf(stderr, "%s does not answer: %s\n", endpoint.c_str(), status.error_message().c_str());
    std::exit(2);
  }
  is_leader_ = response.leader() == response.header().member_id();
  int major = 0;
  int minor = 0;
  std::sscanf(response.version().c_str(), "%d.%d", &major, &minor);  // NOLINT(cert-err34-c)
  is_old_ = major < 3 || (major == 3 && minor < 6);
}

void Side::OpenWatches() {
  watches_ = std::make_unique<WatchStream>(*watch_);
}

template <typename Result, typename Method>
Outcome Side::Unary(Method method) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kCallTimeout);
  Outcome outcome;
  Result result;
  outcome.status = method(&context, &result);
  if (outcome.status.ok()) outcome.response = std::move(result);
  return outcome;
}

Outcome Side::Call(const Step& step) {
  return std::visit(
      Overloaded{
          [&](const pb::RangeRequest& r) {
            return Unary<pb::RangeResponse>([&](auto* c, auto* o) { return kv_->Range(c, r, o); });
          },
          [&](const pb::PutRequest& r) {
            return Unary<pb::PutResponse>([&](auto* c, auto* o) { return kv_->Put(c, r, o); });
          },
          [&](const pb::DeleteRangeRequest& r) {
            return Unary<pb::DeleteRangeResponse>(
                [&](auto* c, auto* o) { return kv_->DeleteRange(c, r, o); });
          },
          [&](const pb::TxnRequest& r) {
            return Unary<pb::TxnResponse>([&](auto* c, auto* o) { return kv_->Txn(c, r, o); });
          },
          [&](const pb::CompactionRequest& r) {
            return Unary<pb::CompactionResponse>([&](auto* c, auto* o) { return kv_->Compact(c, r, o); });
          },
          [&](const pb::LeaseGrantRequest& r) {
            return Unary<pb::LeaseGrantResponse>(
                [&](auto* c, auto* o) { return lease_->LeaseGrant(c, r, o); });
          },
          [&](const PassingGrant& r) {
            Outcome granted = Unary<pb::LeaseGrantResponse>(
                [&](auto* c, auto* o) { return lease_->LeaseGrant(c, r.request, o); });
            if (!granted.status.ok()) return granted;
            pb::LeaseRevokeRequest revoke;
            revoke.set_id(std::get<pb::LeaseGrantResponse>(granted.response).id());
            Outcome revoked = Call(revoke);
            return revoked.status.ok() ? granted : revoked;
          },
          [&](const pb::LeaseRevokeRequest& r) {
            return Unary<pb::LeaseRevokeResponse>(
                [&](auto* c, auto* o) { return lease_->LeaseRevoke(c, r, o); });
          },
          [&](const pb::LeaseTimeToLiveRequest& r) {
            return Unary<pb::LeaseTimeToLiveResponse>(
                [&](auto* c, auto* o) { return lease_->LeaseTimeToLive(c, r, o); });
          },
          [&](const pb::LeaseLeasesRequest& r) {
            return Unary<pb::LeaseLeasesResponse>(
                [&](auto* c, auto* o) { return lease_->LeaseLeases(c, r, o); });
          },
          [&](const pb::LeaseKeepAliveRequest& r) {
            return Unary<pb::LeaseKeepAliveResponse>([&](auto* c, auto* o) {
              auto stream = lease_->LeaseKeepAlive(c);
              stream->Write(r);
              stream->WritesDone();
              bool answered = stream->Read(o);
              grpc::Status status = stream->Finish();
              return answered || !status.ok() ? status : grpc::Status(grpc::UNKNOWN, "no answer");
            });
          },
          [&](const pb::HashKVRequest& r) {
            return Unary<pb::HashKVResponse>([&](auto* c, auto* o) { return maintenance_->HashKV(c, r, o); });
          },
          [&](const auto&) {
            return Outcome{grpc::Status(grpc::INTERNAL, "a watch is not a call"), {}};
          }},
      step);
}

}  // namespace kvd::diff
