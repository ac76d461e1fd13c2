#include "server/api/services.h"

#include <google/protobuf/message_lite.h>

#include <utility>

#include "net/grpc_server.h"
#include "server/api/leader_guard.h"

namespace kvd::server {
namespace {

constexpr int kElectionsWithoutLeader = 3;
constexpr std::string_view kRequireLeader = "hasleader";
constexpr std::string_view kClientVersion = "client-api-version";

bool IsUtf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    unsigned char c = static_cast<unsigned char>(text[i]);
    size_t n = c < 0x80 ? 1 : (c >> 5) == 6 ? 2 : (c >> 4) == 14 ? 3 : (c >> 3) == 30 ? 4 : 0;
    if (n == 0 || i + n > text.size()) return false;
    for (size_t k = 1; k < n; ++k) {
      if ((static_cast<unsigned char>(text[i + k]) & 0xc0) != 0x80) return false;
    }
    i += n;
  }
  return true;
}

template <typename Call>
bool AsksForLeader(const Call& call) {
  std::optional<std::string_view> require = call.metadata(kRequireLeader);
  return require && *require == "true";
}

}  // namespace

void Fail(const net::UnaryCall& call, Error error) {
  call.Fail(static_cast<net::StatusCode>(ErrorCode(error)), std::string(ErrorText(error)));
}

void Finish(net::StreamCall& call, Error error) {
  call.Finish(static_cast<net::StatusCode>(ErrorCode(error)), std::string(ErrorText(error)));
}

bool RequiresLeader(const net::StreamCall& call) {
  return AsksForLeader(call);
}

bool Parse(std::string_view bytes, google::protobuf::MessageLite* message) {
  return message->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
}

void FailMalformed(const net::UnaryCall& call) {
  call.Fail(net::StatusCode::kInternal,
            "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data");
}

std::string WithHeader(const ResponseHeaderFields& header, std::string body) {
  std::string head;
  AppendResponseHeader(head, header);
  if (body.empty()) return head;
  body.insert(0, head);
  return body;
}

Services::Services(Node& node, base::FileSystem& fs, base::Executor& lists, ServiceOptions options)
    : node_(node), fs_(fs), lists_(lists), options_(options), guard_(std::make_shared<LeaderGuard>(node)) {}
Services::~Services() = default;

void Services::Register(net::FrontDoor& door) {
  RegisterKv(door);
  RegisterWatch(door);
  RegisterLease(door);
  RegisterCluster(door);
  RegisterMaintenance(door);
  RegisterSnapshot(door);
  RegisterAuth(door);
  RegisterLock(door);
  RegisterElection(door);
  RegisterHealth(door);
  guard_->Start();
}

void Services::Shutdown() {
  guard_->Stop();
}

void Services::LeaderGuard::Check() {
  std::vector<std::shared_ptr<net::StreamCall>> ending;
  base::Nanos election = node_.options().heartbeat * node_.options().election_ticks;
  {
    base::MutexLock lock(mutex_);
    if (stopped_) return;
    std::erase_if(streams_, [](const auto& weak) { return weak.expired(); });
    std::optional<base::Nanos> since = node_.driver().no_leader_since();
    if (since && node_.background().clock().Monotonic() - *since > kElectionsWithoutLeader * election) {
      for (const auto& weak : streams_) {
        if (auto stream = weak.lock()) ending.push_back(std::move(stream));
      }
      streams_.clear();
    }
  }
  for (const auto& stream : ending) {
    Finish(*stream, Error::kNoLeader);
  }
  node_.background().PostAfter(election, [self = shared_from_this()] { self->Check(); });
}

template <typename Call>
Error Services::Admission(const Call& call, bool learner_may) const {
  if (node_.is_learner() && !learner_may) return Error::kNotSupportedForLearner;
  if (std::optional<std::string_view> version = call.metadata(kClientVersion); version && !IsUtf8(*version)) {
    return Error::kInvalidClientApiVersion;
  }
  if (node_.auth().enabled()) return Error::kNotCapable;  // auth_store.h
  if (AsksForLeader(call) && !node_.has_leader()) return Error::kNoLeader;
  return Error::kOk;
}

Error Services::AdmitStream(const net::StreamCall& call, bool learner_may) const {
  return Admission(call, learner_may);
}

bool Services::Admit(const net::UnaryCall& call, bool learner_may) {
  Error error = Admission(call, learner_may);
  if (error != Error::kOk) Fail(call, error);
  return error == Error::kOk;
}

void Services::ProposeAndReply(net::UnaryCall call, RequestField field, std::string_view request) {
  node_.Propose(field, request, [this, call](ApplyOutcome&& outcome) {
    if (outcome.error != Error::kOk) {
      Fail(call, outcome.error);
      return;
    }
    call.Reply(WithHeader(node_.Header(outcome.revision), std::move(outcome.body)));
  });
}

}  // namespace kvd::server
