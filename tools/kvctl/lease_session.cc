#include "lease_session.h"

#include <signal.h>

#include "absl/time/clock.h"
#include "etcdserverpb/rpc.grpc.pb.h"

namespace kvd::ctl {
namespace {

using etcdserverpb::Lease;

constexpr absl::Duration kStep = absl::Milliseconds(100);

sigset_t StopSet() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

}  // namespace

grpc::Status RenewLease(Client& client, absl::Time deadline, int64_t id,
                        etcdserverpb::LeaseKeepAliveResponse* response) {
  const auto channel = client.Connect(deadline);
  if (!channel.ok()) return {grpc::StatusCode::DEADLINE_EXCEEDED, "context deadline exceeded"};
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(deadline));
  if (absl::Status status = client.Prepare(context); !status.ok()) {
    return {grpc::StatusCode::UNAUTHENTICATED, std::string(status.message())};
  }
  const auto stream = Lease::NewStub(*channel)->LeaseKeepAlive(&context);
  etcdserverpb::LeaseKeepAliveRequest request;
  request.set_id(id);
  if (stream->Write(request) && stream->Read(response)) {
    context.TryCancel();
    return grpc::Status::OK;
  }
  client.Skip();
  return stream->Finish();
}

absl::StatusOr<std::unique_ptr<LeaseSession>> LeaseSession::Open(const GlobalOptions& options,
                                                                 int64_t ttl_s) {
  absl::StatusOr<std::unique_ptr<Client>> client = Client::Create(options);
  if (!client.ok()) return client.status();
  std::unique_ptr<LeaseSession> session(new LeaseSession(*std::move(client)));
  etcdserverpb::LeaseGrantRequest request;
  request.set_ttl(ttl_s);
  etcdserverpb::LeaseGrantResponse response;
  const grpc::Status status =
      session->client_->Call(&Lease::Stub::LeaseGrant, request, &response, Retry::kWrite);
  if (!status.ok()) return absl::UnavailableError(ErrorText(status));
  session->id_ = response.id();
  session->renewer_ = std::thread([raw = session.get(), ttl = response.ttl()] { raw->Renew(ttl); });
  return session;
}

LeaseSession::~LeaseSession() {
  Close();
}

void LeaseSession::Renew(int64_t ttl_s) {
  absl::Time expiry = absl::Now() + absl::Seconds(ttl_s);
  absl::Time next = absl::Now() + absl::Seconds(ttl_s) / 3;
  while (!closed_.load(std::memory_order_acquire)) {
    absl::SleepFor(kStep);
    if (absl::Now() >= expiry) break;
    if (absl::Now() < next) continue;
    etcdserverpb::LeaseKeepAliveResponse response;
    const absl::Time deadline = std::min(expiry, absl::Now() + absl::Seconds(ttl_s) / 3);
    if (!RenewLease(*client_, deadline, id_, &response).ok()) continue;
    if (response.ttl() <= 0) break;
    expiry = absl::Now() + absl::Seconds(response.ttl());
    next = absl::Now() + absl::Seconds(response.ttl()) / 3;
  }
  if (!closed_.load(std::memory_order_acquire)) expired_.store(true, std::memory_order_release);
}

void LeaseSession::Close() {
  if (!renewer_.joinable()) return;
  closed_.store(true, std::memory_order_release);
  renewer_.join();
  if (expired()) return;
  etcdserverpb::LeaseRevokeRequest request;
  request.set_id(id_);
  etcdserverpb::LeaseRevokeResponse response;
  // It ends by itself if this does not get through.
  (void)client_->Call(&Lease::Stub::LeaseRevoke, request, &response, Retry::kWrite);
}

StopSignals::StopSignals() {
  const sigset_t set = StopSet();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

bool StopSignals::Wait(absl::Duration limit) {
  const sigset_t set = StopSet();
  const timespec time = absl::ToTimespec(limit);
  return sigtimedwait(&set, nullptr, &time) > 0;
}

void StopSignals::Restore() {
  const sigset_t set = StopSet();
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

}  // namespace kvd::ctl
