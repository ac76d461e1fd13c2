// A gRPC client of a cluster: it connects to the endpoints in turn and goes on to the next one where that
// cannot do a request twice.
//
// Thread-compatible, but Connect, Skip and Prepare may be called while another thread uses a stream of an
// earlier channel.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "options.h"

namespace kvd::ctl {

// A read goes to the next endpoint on any Unavailable; a write only as long as it cannot have been sent.
enum class Retry { kRead, kWrite };

class Client {
 public:
  // Errors: kInvalidArgument for endpoints or certificates that cannot be used.
  static absl::StatusOr<std::unique_ptr<Client>> Create(const GlobalOptions& options);

  const std::vector<std::string>& endpoints() const { return endpoints_; }

  // One unary call within --command-timeout.
  template <typename Stub, typename Request, typename Response>
  grpc::Status Call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                    const Request& request, Response* response, Retry retry) {
    return Run(retry, [&](const std::shared_ptr<grpc::Channel>& channel, grpc::ClientContext& context) {
      return (Stub(channel).*method)(&context, request, response);
    });
  }

  // The same to one endpoint, which need not be among endpoints(); waits until it can be reached.
  template <typename Stub, typename Request, typename Response>
  grpc::Status CallEndpoint(const std::string& endpoint,
                            grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                            const Request& request, Response* response) {
    grpc::ClientContext context;
    PrepareWaiting(context);
    return (Stub(Channel(endpoint)).*method)(&context, request, response);
  }

  // For streams: the channel of the first endpoint that can be reached before the deadline, starting with the
  // one in use. Errors: kDeadlineExceeded.
  absl::StatusOr<std::shared_ptr<grpc::Channel>> Connect(absl::Time deadline);
  // Leaves the endpoint in use.
  void Skip();
  // Adds the credentials. Errors: those of logging in.
  absl::Status Prepare(grpc::ClientContext& context);
  // A context for one endpoint of the caller's choice: credentials, --command-timeout, wait until it is
  // reached.
  void PrepareWaiting(grpc::ClientContext& context);
  std::shared_ptr<grpc::Channel> Channel(const std::string& endpoint);

 private:
  using Attempt = std::function<grpc::Status(const std::shared_ptr<grpc::Channel>&, grpc::ClientContext&)>;

  Client(const GlobalOptions& options, std::vector<std::string> endpoints)
      : options_(options), endpoints_(std::move(endpoints)) {}

  grpc::Status Run(Retry retry, const Attempt& attempt);
  absl::Status LogIn(absl::Time deadline);
  std::shared_ptr<grpc::ChannelCredentials> Credentials(bool tls) const;

  const GlobalOptions& options_;
  const std::vector<std::string> endpoints_;
  size_t current_ = 0;
  std::map<std::string, std::shared_ptr<grpc::Channel>> channels_;
  std::string token_;
};

// The text of a failed call as etcd's clients show it.
std::string ErrorText(const grpc::Status& status);

}  // namespace kvd::ctl
