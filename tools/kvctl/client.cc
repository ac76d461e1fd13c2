#include "client.h"

#include <grpcpp/security/tls_credentials_options.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "base/strings.h"
#include "etcdserverpb/rpc.grpc.pb.h"
#include "etcdserverpb/rpc.pb.h"
#include "go_format.h"
#include "srv_lookup.h"
#include "text.h"

namespace kvd::ctl {
namespace {

constexpr absl::Duration kRetryPause = absl::Milliseconds(25);
// Members refuse pings that come more often than every 5 s.
constexpr absl::Duration kShortestKeepalive = absl::Seconds(10);
constexpr std::string_view kBadToken = "etcdserver: invalid auth token";
constexpr std::string_view kOldAuthRevision = "etcdserver: revision of auth store is old";

struct Endpoint {
  std::string target;  // as gRPC names it
  bool tls = false;
  bool loopback = false;
};

Endpoint ParseEndpoint(std::string_view text) {
  Endpoint endpoint;
  if (ConsumePrefix(&text, "unixs://")) {
    return {base::StrCat("unix:", text), true, true};
  }
  if (ConsumePrefix(&text, "unix://") || ConsumePrefix(&text, "unix:")) {
    return {base::StrCat("unix:", text), false, true};
  }
  endpoint.tls = ConsumePrefix(&text, "https://");
  ConsumePrefix(&text, "http://");
  text = text.substr(0, text.find('/'));
  endpoint.target = std::string(text);
  endpoint.loopback = text.starts_with("127.") || text.starts_with("localhost") || text.starts_with("[::1]");
  return endpoint;
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::InvalidArgumentError(base::StrCat("open ", path, ": no such file or directory"));
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string_view CodeName(grpc::StatusCode code) {
  constexpr std::string_view kNames[] = {
      "OK",       "Canceled",       "Unknown",          "InvalidArgument",   "DeadlineExceeded",
      "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
      "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
      "DataLoss", "Unauthenticated"};
  const auto index = static_cast<size_t>(code);
  return index < std::size(kNames) ? kNames[index] : "Unknown";
}

int Bytes(int64_t limit) {
  return limit <= 0 ? -1 : static_cast<int>(std::min<int64_t>(limit, std::numeric_limits<int>::max()));
}

int Milliseconds(absl::Duration duration) {
  return static_cast<int>(absl::ToInt64Milliseconds(duration));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Client>> Client::Create(const GlobalOptions& options) {
  std::vector<std::string> endpoints = options.endpoints;
  if (!options.discovery_srv.empty()) {
    absl::StatusOr<std::vector<std::string>> found =
        LookUpEndpoints({options.discovery_srv, options.discovery_srv_name, options.discovery_dns_servers},
                        options.insecure_discovery);
    if (!found.ok()) return found.status();
    if (!found->empty()) endpoints = *found;
  }
  if (endpoints.empty()) return absl::InvalidArgumentError("no available endpoints");
  for (const std::string* path : {&options.cert, &options.key, &options.cacert}) {
    if (path->empty()) continue;
    if (absl::StatusOr<std::string> text = ReadFile(*path); !text.ok()) return text.status();
  }
  if (options.cert.empty() != options.key.empty()) {
    return absl::InvalidArgumentError("KeyFile and CertFile must both be present[key: " + options.key +
                                      ", cert: " + options.cert + "]");
  }
  return std::unique_ptr<Client>(new Client(options, std::move(endpoints)));
}

std::shared_ptr<grpc::ChannelCredentials> Client::Credentials(bool tls) const {
  if (!tls) return grpc::InsecureChannelCredentials();
  // Create has read the files once; one that has gone since then fails the handshake.
  const std::string roots = options_.cacert.empty() ? "" : ReadFile(options_.cacert).value_or("");
  const std::string cert = options_.cert.empty() ? "" : ReadFile(options_.cert).value_or("");
  const std::string key = options_.key.empty() ? "" : ReadFile(options_.key).value_or("");
  if (!options_.insecure_skip_tls_verify) return grpc::SslCredentials({roots, key, cert});
  grpc::experimental::TlsChannelCredentialsOptions tls_options;
  tls_options.set_verify_server_certs(false);
  tls_options.set_check_call_host(false);
  if (!cert.empty()) {
    tls_options.set_certificate_provider(std::make_shared<grpc::experimental::StaticDataCertificateProvider>(
        std::vector<grpc::experimental::IdentityKeyCertPair>{{key, cert}}));
    tls_options.watch_identity_key_cert_pairs();
  }
  return grpc::experimental::TlsCredentials(tls_options);
}

std::shared_ptr<grpc::Channel> Client::Channel(const std::string& endpoint) {
  std::shared_ptr<grpc::Channel>& channel = channels_[endpoint];
  if (channel != nullptr) return channel;
  const Endpoint parsed = ParseEndpoint(endpoint);
  const bool certificates = !options_.cacert.empty() || !options_.cert.empty();
  const bool plain = endpoint.starts_with("http://") || endpoint.starts_with("unix:");
  const bool tls = parsed.tls || (!plain && (certificates || !options_.insecure_transport));

  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(Bytes(options_.max_recv_bytes));
  arguments.SetMaxSendMessageSize(Bytes(options_.max_request_bytes));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS,
                   Milliseconds(std::max(options_.keepalive_time, kShortestKeepalive)));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, Milliseconds(options_.keepalive_timeout));
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  if (parsed.loopback) arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  channel = grpc::CreateCustomChannel(parsed.target, Credentials(tls), arguments);
  return channel;
}

void Client::Skip() {
  current_ = (current_ + 1) % endpoints_.size();
}

absl::StatusOr<std::shared_ptr<grpc::Channel>> Client::Connect(absl::Time deadline) {
  while (true) {
    for (size_t i = 0; i < endpoints_.size(); ++i) {
      const std::shared_ptr<grpc::Channel> channel = Channel(endpoints_[current_]);
      const absl::Time limit = std::min(deadline, absl::Now() + options_.dial_timeout);
      grpc_connectivity_state state = channel->GetState(true);
      while (state != GRPC_CHANNEL_READY && state != GRPC_CHANNEL_TRANSIENT_FAILURE &&
             channel->WaitForStateChange(state, absl::ToChronoTime(limit))) {
        state = channel->GetState(true);
      }
      if (state == GRPC_CHANNEL_READY) return channel;
      Skip();
      if (absl::Now() >= deadline) return absl::DeadlineExceededError("context deadline exceeded");
    }
    absl::SleepFor(std::min(kRetryPause, deadline - absl::Now()));
  }
}

absl::Status Client::LogIn(absl::Time deadline) {
  etcdserverpb::AuthenticateRequest request;
  const size_t colon = options_.password.empty() ? options_.user.find(':') : std::string::npos;
  request.set_name(options_.user.substr(0, colon));
  request.set_password(colon == std::string::npos ? options_.password : options_.user.substr(colon + 1));

  const absl::StatusOr<std::shared_ptr<grpc::Channel>> channel = Connect(deadline);
  if (!channel.ok()) return channel.status();
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(deadline));
  etcdserverpb::AuthenticateResponse response;
  const grpc::Status status =
      etcdserverpb::Auth::NewStub(*channel)->Authenticate(&context, request, &response);
  // A cluster without authentication takes requests without a token.
  if (!status.ok() && status.error_message() != "etcdserver: authentication is not enabled") {
    return absl::PermissionDeniedError(ErrorText(status));
  }
  token_ = response.token();
  return absl::OkStatus();
}

absl::Status Client::Prepare(grpc::ClientContext& context) {
  if (options_.user.empty()) return absl::OkStatus();
  if (token_.empty()) {
    if (absl::Status status = LogIn(absl::Now() + options_.command_timeout); !status.ok()) return status;
  }
  if (!token_.empty()) context.AddMetadata("token", token_);
  return absl::OkStatus();
}

void Client::PrepareWaiting(grpc::ClientContext& context) {
  context.set_deadline(absl::ToChronoTime(absl::Now() + options_.command_timeout));
  context.set_wait_for_ready(true);
  // A login that fails leaves the call without a token, and the member says why it refuses it.
  (void)Prepare(context);
}

grpc::Status Client::Run(Retry retry, const Attempt& attempt) {
  const absl::Time deadline = absl::Now() + options_.command_timeout;
  bool logged_in_again = false;
  while (true) {
    const absl::StatusOr<std::shared_ptr<grpc::Channel>> channel = Connect(deadline);
    if (!channel.ok()) return {grpc::StatusCode::DEADLINE_EXCEEDED, "context deadline exceeded"};
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(deadline));
    if (absl::Status status = Prepare(context); !status.ok()) {
      return {grpc::StatusCode::UNAUTHENTICATED, std::string(status.message())};
    }
    grpc::Status status = attempt(*channel, context);
    const bool old_token = status.error_message() == kBadToken || status.error_message() == kOldAuthRevision;
    if (old_token && !options_.user.empty() && !logged_in_again) {
      logged_in_again = true;
      token_.clear();
      continue;
    }
    if (status.error_code() != grpc::StatusCode::UNAVAILABLE || retry != Retry::kRead ||
        absl::Now() + kRetryPause >= deadline) {
      return status;
    }
    Skip();
    absl::SleepFor(kRetryPause);
  }
}

std::string ErrorText(const grpc::Status& status) {
  const std::string& text = status.error_message();
  if (text.starts_with("etcdserver: ")) return text;
  if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) return "context deadline exceeded";
  return base::StrCat("rpc error: code = ", CodeName(status.error_code()), " desc = ", text);
}

}  // namespace kvd::ctl
