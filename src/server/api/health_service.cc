// grpc.health.v1.Health: SERVING from when the front door opens until it closes.

#include "net/grpc_server.h"
#include "server/api/services.h"

namespace kvd::server {
namespace {

constexpr uint64_t kServing = 1;
constexpr uint64_t kServiceUnknown = 3;

std::string Status(uint64_t status) {
  std::string out;
  AppendUint64Field(out, 1, status);
  return out;
}

// HealthCheckRequest{service = 1}: only the whole server, "", is known.
bool AsksForServer(std::string_view request) {
  FieldReader fields(request);
  while (fields.Next()) {
    if (fields.field() == 1 && !fields.bytes().empty()) return false;
  }
  return true;
}

// A watch of a state that does not change.
class Watcher final : public net::StreamHandler {
 public:
  explicit Watcher(std::shared_ptr<net::StreamCall> call) : call_(std::move(call)) {}
  void OnMessage(std::string_view) override {}
  void OnHalfClose() override {}
  void OnClosed() override { call_.reset(); }

 private:
  std::shared_ptr<net::StreamCall> call_;
};

}  // namespace

void Services::RegisterHealth(net::FrontDoor& door) {
  door.RegisterUnary("/grpc.health.v1.Health/Check", [](net::UnaryCall call) {
    if (!AsksForServer(call.request())) return call.Fail(net::StatusCode::kNotFound, "unknown service");
    call.Reply(Status(kServing));
  });
  door.RegisterServerStream("/grpc.health.v1.Health/Watch",
                            [](std::string_view request, std::shared_ptr<net::StreamCall> call) {
                              call->Write(Status(AsksForServer(request) ? kServing : kServiceUnknown));
                              return std::make_shared<Watcher>(call);
                            });
}

}  // namespace kvd::server
