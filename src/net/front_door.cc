#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <condition_variable>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "base/check.h"
#include "base/log.h"
#include "base/strings.h"
#include "net/connection.h"
#include "net/grpc_server.h"
#include "net/io_thread.h"
#include "net/transport.h"

namespace kvd::net {
namespace {

namespace asio = boost::asio;

constexpr int kBacklog = 4096;
// After a failed accept (no more file descriptors, mostly).
constexpr base::Nanos kAcceptRetry = std::chrono::milliseconds(100);

absl::Status BindError(const boost::system::error_code& error, const std::string& where) {
  std::string text = base::StrCat("cannot listen on ", where, ": ", error.message());
  if (error == asio::error::address_in_use) return absl::AlreadyExistsError(text);
  return absl::UnavailableError(text);
}

}  // namespace

// What outlives the FrontDoor as long as connections refer to it.
struct FrontDoor::Impl : std::enable_shared_from_this<FrontDoor::Impl> {
  struct Listener {
    virtual ~Listener() = default;
    virtual void AcceptNext() = 0;
    virtual void Close() = 0;
  };
  template <typename Protocol>
  struct ListenerOf;

  Impl(IoThreads& io, FrontDoorOptions options) : threads(io), config(std::make_shared<ServerConfig>()) {
    config->options = options;
    open.resize(static_cast<size_t>(threads.count()));
  }

  void Accepted(StreamSocket socket, IoThread& thread, size_t index, ListenOptions listen);
  void OneGone();
  // Runs `task` on every I/O thread and waits until all are through.
  template <typename F>
  void OnEveryThread(F task);

  IoThreads& threads;
  const std::shared_ptr<ServerConfig> config;
  std::vector<std::shared_ptr<Listener>> listeners;  // used on the accepting thread once started
  bool started = false;
  bool stopped = false;
  size_t next_thread = 0;  // on the accepting thread

  // The connections of each I/O thread, touched on that thread only.
  std::vector<absl::flat_hash_set<std::shared_ptr<Connection>>> open;
  std::atomic<bool> draining{false};
  std::atomic<size_t> count{0};
  std::mutex gone_mutex;
  std::condition_variable gone;
};

template <typename Protocol>
struct FrontDoor::Impl::ListenerOf final : Listener, std::enable_shared_from_this<ListenerOf<Protocol>> {
  ListenerOf(Impl& i, ListenOptions o) : impl(i), options(o), acceptor(i.threads.thread(0).context()) {}

  void AcceptNext() override {
    size_t index = impl.next_thread++ % static_cast<size_t>(impl.threads.count());
    IoThread& thread = impl.threads.thread(static_cast<int>(index));
    acceptor.async_accept(
        thread.context(), [self = this->shared_from_this(), &thread, index](
                              const boost::system::error_code& error, typename Protocol::socket socket) {
          if (!self->acceptor.is_open()) return;
          if (error) {
            KVD_LOG(kWarn, "failed to accept a connection", {"error", error.message()});
            self->impl.threads.thread(0).PostAfter(kAcceptRetry, [self] {
              if (self->acceptor.is_open()) self->AcceptNext();
            });
            return;
          }
          self->impl.Accepted(StreamSocket(std::move(socket)), thread, index, self->options);
          self->AcceptNext();
        });
  }

  void Close() override {
    boost::system::error_code ignored;
    acceptor.close(ignored);
    if (!path.empty()) unlink(path.c_str());
  }

  Impl& impl;
  const ListenOptions options;
  typename Protocol::acceptor acceptor;
  std::string path;  // of a Unix domain socket
};

void FrontDoor::Impl::Accepted(StreamSocket socket, IoThread& thread, size_t index, ListenOptions listen) {
  count.fetch_add(1);
  auto accept = [self = shared_from_this(), socket = std::move(socket), &thread, index, listen]() mutable {
    auto on_closed = [impl = self.get(), index](Connection& closed) {
      // The set's reference may be the last one, and the caller is still at work.
      std::shared_ptr<Connection> hold = closed.shared_from_this();
      impl->open[index].erase(hold);
      hold->thread().Post([hold, keep = impl->shared_from_this()]() mutable {
        hold.reset();
        keep->OneGone();
      });
    };
    std::string peer = PeerName(socket);
    std::unique_ptr<Transport> transport =
        listen.tls == nullptr ? NewPlainTransport(std::move(socket))
                              : NewTlsTransport(std::move(socket), *listen.tls, listen.http, peer);
    if (transport == nullptr) return self->OneGone();
    auto connection = std::make_shared<Connection>(self->config, listen, thread, std::move(transport),
                                                   std::move(peer), on_closed);
    self->open[index].insert(connection);
    connection->Start();
    if (self->draining.load()) connection->Drain();
  };
  thread.Post(std::move(accept));
}

void FrontDoor::Impl::OneGone() {
  std::lock_guard<std::mutex> lock(gone_mutex);
  count.fetch_sub(1);
  gone.notify_all();
}

template <typename F>
void FrontDoor::Impl::OnEveryThread(F task) {
  std::mutex mutex;
  std::condition_variable done;
  int left = threads.count();
  for (int i = 0; i < threads.count(); ++i) {
    threads.executor(i).Post([&, i] {
      task(static_cast<size_t>(i));
      std::lock_guard<std::mutex> lock(mutex);
      --left;
      done.notify_one();
    });
  }
  std::unique_lock<std::mutex> lock(mutex);
  done.wait(lock, [&] { return left == 0; });
}

FrontDoor::FrontDoor(IoThreads& threads, FrontDoorOptions options)
    : impl_(std::make_shared<Impl>(threads, options)) {}

FrontDoor::~FrontDoor() {
  Shutdown(base::Nanos(0));
}

void FrontDoor::RegisterUnary(std::string_view method, UnaryHandler handler) {
  KVD_CHECK(!impl_->started, "methods are registered before Start");
  impl_->config->router.AddGrpc(
      {GrpcMethod::Kind::kUnary, std::string(method), std::move(handler), nullptr, nullptr});
}

void FrontDoor::RegisterServerStream(std::string_view method, ServerStreamHandler handler) {
  KVD_CHECK(!impl_->started, "methods are registered before Start");
  impl_->config->router.AddGrpc(
      {GrpcMethod::Kind::kServerStream, std::string(method), nullptr, std::move(handler), nullptr});
}

void FrontDoor::RegisterBidi(std::string_view method, BidiHandler handler) {
  KVD_CHECK(!impl_->started, "methods are registered before Start");
  impl_->config->router.AddGrpc(
      {GrpcMethod::Kind::kBidi, std::string(method), nullptr, nullptr, std::move(handler)});
}

void FrontDoor::RegisterHttp(std::string_view method, std::string_view path, HttpHandler handler) {
  KVD_CHECK(!impl_->started, "handlers are registered before Start");
  impl_->config->router.AddHttp(method, path, std::move(handler));
}

void FrontDoor::SetHttpFilter(HttpFilter filter) {
  KVD_CHECK(!impl_->started, "the filter is set before Start");
  impl_->config->router.SetHttpFilter(std::move(filter));
}

absl::StatusOr<uint16_t> FrontDoor::Listen(const std::string& host, uint16_t port, ListenOptions options) {
  using asio::ip::tcp;
  KVD_CHECK(!impl_->started, "Listen comes before Start");
  std::string where = base::StrCat(host, ":", port);
  boost::system::error_code error;
  tcp::resolver resolver(impl_->threads.thread(0).context());
  tcp::resolver::results_type found =
      resolver.resolve(host.empty() ? "0.0.0.0" : host, std::to_string(port),
                       tcp::resolver::passive | tcp::resolver::numeric_service, error);
  if (error || found.empty()) {
    return absl::InvalidArgumentError(base::StrCat("cannot listen on ", where, ": ", error.message()));
  }
  // A name with both kinds of address means the IPv4 one, as clients of etcd expect of "localhost".
  tcp::endpoint endpoint = *found.begin();
  for (const auto& entry : found) {
    if (entry.endpoint().address().is_v4()) {
      endpoint = entry.endpoint();
      break;
    }
  }
  auto listener = std::make_shared<Impl::ListenerOf<tcp>>(*impl_, options);
  listener->acceptor.open(endpoint.protocol(), error);
  if (!error) listener->acceptor.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) listener->acceptor.bind(endpoint, error);
  if (!error) listener->acceptor.listen(kBacklog, error);
  if (error) return BindError(error, where);
  uint16_t bound = listener->acceptor.local_endpoint().port();
  impl_->listeners.push_back(std::move(listener));
  return bound;
}

absl::Status FrontDoor::ListenUnix(const std::string& path, ListenOptions options) {
  using asio::local::stream_protocol;
  KVD_CHECK(!impl_->started, "Listen comes before Start");
  if (path.empty() || path.size() >= sizeof(sockaddr_un::sun_path)) {
    return absl::InvalidArgumentError(base::StrCat("cannot listen on \"", path, "\": not a socket path"));
  }
  unlink(path.c_str());
  auto listener = std::make_shared<Impl::ListenerOf<stream_protocol>>(*impl_, options);
  boost::system::error_code error;
  listener->acceptor.open(stream_protocol(), error);
  if (!error) listener->acceptor.bind(stream_protocol::endpoint(path), error);
  if (!error) listener->acceptor.listen(kBacklog, error);
  if (error) return BindError(error, path);
  listener->path = path;
  impl_->listeners.push_back(std::move(listener));
  return absl::OkStatus();
}

void FrontDoor::Start() {
  KVD_CHECK(!impl_->started, "a front door starts once");
  impl_->started = true;
  impl_->threads.executor(0).Post([impl = impl_] {
    for (const auto& listener : impl->listeners) listener->AcceptNext();
  });
}

void FrontDoor::Shutdown(base::Nanos grace) {
  Impl& impl = *impl_;
  if (std::exchange(impl.stopped, true)) return;
  impl.draining = true;
  impl.OnEveryThread([&](size_t i) {
    if (i != 0) return;
    for (const auto& listener : impl.listeners) listener->Close();
    impl.listeners.clear();
  });
  auto for_each = [&](void (Connection::*act)()) {
    impl.OnEveryThread([&](size_t i) {
      std::vector<std::shared_ptr<Connection>> all(impl.open[i].begin(), impl.open[i].end());
      for (const auto& connection : all) ((*connection).*act)();
    });
  };
  for_each(&Connection::Drain);
  std::unique_lock<std::mutex> lock(impl.gone_mutex);
  auto none = [&] { return impl.count.load() == 0; };
  if (impl.gone.wait_for(lock, grace, none)) return;
  lock.unlock();
  for_each(&Connection::Close);
  lock.lock();
  impl.gone.wait(lock, none);
}

size_t FrontDoor::connections() const {
  return impl_->count.load();
}

}  // namespace kvd::net
