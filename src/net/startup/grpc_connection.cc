#include "net/startup/grpc_connection.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <optional>

#include "absl/strings/numbers.h"
#include "base/strings.h"
#include "net/grpc_wire.h"
#include "net/peer/dial.h"
#include "net/peer/http_wire.h"
#include "net/startup/blocking_loop.h"

namespace kvd::net {
namespace asio = boost::asio;
using boost::system::error_code;

namespace {

constexpr int32_t kWindowBytes = 1 << 20;
// What the answers and the trailers of one call may say in all.
constexpr size_t kMaxHeaderBytes = 64 << 10;

nghttp2_nv Field(std::string_view name, std::string_view value) {
  auto bytes = [](std::string_view text) {
    return const_cast<uint8_t*>(reinterpret_cast<const uint8_t*>(text.data()));  // nghttp2 copies them
  };
  return {bytes(name), bytes(value), name.size(), value.size(), NGHTTP2_NV_FLAG_NONE};
}

std::string_view Text(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace

struct GrpcConnection::Impl : std::enable_shared_from_this<GrpcConnection::Impl> {
  // One call, from its request to its status.
  struct Call {
    absl::FunctionRef<bool(std::string_view)> on_message;
    std::string out = {};  // framed
    bool half_close = false;
    size_t sent = 0;
    int32_t stream = -1;
    MessageAssembler assembler = {};
    size_t header_bytes = 0;
    std::string http_status = {}, grpc_status = {}, grpc_message = {};
    std::optional<absl::Status> result = std::nullopt;

    absl::Status Ended() const;
  };

  Impl(BlockingLoop& blocking_loop, const Options& connection_options)
      : loop(blocking_loop), options(connection_options), timer(loop.context()) {}
  ~Impl() { nghttp2_session_del(session); }

  absl::Status Open(std::string_view url);
  absl::Status Run(std::string_view method, const Metadata& metadata, base::Nanos timeout, Call& one);
  void Close();

  void StartSession();
  void Submit(std::string_view method, const Metadata& metadata, Call& one);
  void Read();
  void Pump();
  void WatchLife();
  void Break(absl::Status status);
  void End(absl::Status status);

  static ssize_t GiveData(nghttp2_session*, int32_t stream, uint8_t* buffer, size_t length, uint32_t* flags,
                          nghttp2_data_source*, void* user);
  static int OnHeader(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name, size_t name_length,
                      const uint8_t* value, size_t value_length, uint8_t flags, void* user);
  static int OnData(nghttp2_session*, uint8_t flags, int32_t stream, const uint8_t* data, size_t length,
                    void* user);
  static int OnFrame(nghttp2_session*, const nghttp2_frame* frame, void* user);
  static int OnStreamClose(nghttp2_session*, int32_t stream, uint32_t error, void* user);

  BlockingLoop& loop;
  const Options options;
  std::string authority, scheme;
  std::optional<Socket> socket;  // once connected
  asio::steady_timer timer;
  nghttp2_session* session = nullptr;
  Call* call = nullptr;  // the one under way
  std::optional<absl::Status> broken;
  std::array<char, 16384> in;
  std::string out;
  bool writing = false;
  bool heard = false;   // bytes have come since the timer was set
  bool pinged = false;  // and none since this ping
};

absl::Status GrpcConnection::Impl::Call::Ended() const {
  uint32_t code = 0;
  if (!grpc_status.empty() && absl::SimpleAtoi(grpc_status, &code) && code <= 16) {
    std::string text;
    if (!PercentDecode(grpc_message, &text)) text = grpc_message;
    return absl::Status(static_cast<absl::StatusCode>(code), text);
  }
  if (!http_status.empty() && http_status != "200") {
    return absl::UnavailableError(base::StrCat("HTTP status ", http_status));
  }
  return absl::InternalError("the server ended the call without a status: it does not speak gRPC");
}

// --- What nghttp2 asks and tells.

ssize_t GrpcConnection::Impl::GiveData(nghttp2_session*, int32_t stream, uint8_t* buffer, size_t length,
                                       uint32_t* flags, nghttp2_data_source*, void* user) {
  Call* call = static_cast<Impl*>(user)->call;
  if (call == nullptr || call->stream != stream) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  const size_t n = std::min(length, call->out.size() - call->sent);
  if (n == 0 && !call->half_close) return NGHTTP2_ERR_DEFERRED;
  std::copy_n(call->out.data() + call->sent, n, buffer);
  call->sent += n;
  if (call->sent == call->out.size() && call->half_close) *flags |= NGHTTP2_DATA_FLAG_EOF;
  return static_cast<ssize_t>(n);
}

int GrpcConnection::Impl::OnHeader(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name,
                                   size_t name_length, const uint8_t* value, size_t value_length, uint8_t,
                                   void* user) {
  Call* call = static_cast<Impl*>(user)->call;
  if (call == nullptr || call->stream != frame->hd.stream_id) return 0;
  call->header_bytes += name_length + value_length;
  if (call->header_bytes > kMaxHeaderBytes) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  const std::string_view key = Text(name, name_length);
  std::string text(Text(value, value_length));
  if (key == ":status")
    call->http_status = std::move(text);
  else if (key == "grpc-status")
    call->grpc_status = std::move(text);
  else if (key == "grpc-message")
    call->grpc_message = std::move(text);
  return 0;
}

int GrpcConnection::Impl::OnData(nghttp2_session*, uint8_t, int32_t stream, const uint8_t* data,
                                 size_t length, void* user) {
  auto* self = static_cast<Impl*>(user);
  Call* call = self->call;
  if (call == nullptr || call->stream != stream || call->result || call->http_status != "200") return 0;
  std::string_view rest = Text(data, length);
  while (!rest.empty()) {
    const MessageAssembler::Next next = call->assembler.Feed(&rest);
    if (next == MessageAssembler::Next::kNeedMore) break;
    if (next == MessageAssembler::Next::kError) {
      self->End(absl::InternalError(call->assembler.error()));
      break;
    }
    if (!call->on_message(call->assembler.message())) {
      self->End(absl::OkStatus());
      break;
    }
  }
  return 0;
}

int GrpcConnection::Impl::OnFrame(nghttp2_session*, const nghttp2_frame* frame, void* user) {
  auto* self = static_cast<Impl*>(user);
  if (frame->hd.type != NGHTTP2_GOAWAY) return 0;
  const bool ours = self->call != nullptr && self->call->stream <= frame->goaway.last_stream_id;
  if (!ours || frame->goaway.error_code != NGHTTP2_NO_ERROR) {
    self->Break(
        absl::UnavailableError(base::StrCat("the server closes the connection: ",
                                            Text(frame->goaway.opaque_data, frame->goaway.opaque_data_len))));
  }
  return 0;
}

int GrpcConnection::Impl::OnStreamClose(nghttp2_session*, int32_t stream, uint32_t error, void* user) {
  auto* self = static_cast<Impl*>(user);
  Call* call = self->call;
  if (call == nullptr || call->stream != stream) return 0;
  const bool reset = error != NGHTTP2_NO_ERROR && call->grpc_status.empty();
  self->End(reset ? absl::UnavailableError(base::StrCat("stream reset: ", nghttp2_http2_strerror(error)))
                  : call->Ended());
  return 0;
}

// --- The connection.

absl::Status GrpcConnection::Impl::Open(std::string_view text) {
  auto url = ParseHttpUrl(text);
  if (!url.ok()) return url.status();
  authority = url->Authority();
  scheme = url->scheme;
  std::optional<absl::Status> dialed;
  auto self = shared_from_this();
  auto dial = Dial::Start(loop.context(), *url, {options.tls, TlsSession::Protocols::kHttp2},
                          options.dial_timeout, [self, &dialed](absl::StatusOr<Socket> connected) {
                            dialed = connected.status();
                            if (connected.ok()) self->socket = *std::move(connected);
                          });
  absl::Status run =
      loop.RunUntil([&dialed] { return dialed.has_value(); }, options.dial_timeout + std::chrono::seconds(1));
  dial->Cancel();
  if (run.ok()) run = *dialed;
  if (!run.ok()) return absl::Status(run.code(), base::StrCat(text, ": ", run.message()));
  StartSession();
  return absl::OkStatus();
}

void GrpcConnection::Impl::StartSession() {
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, &Impl::OnHeader);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, &Impl::OnData);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, &Impl::OnFrame);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, &Impl::OnStreamClose);
  nghttp2_session_client_new(&session, callbacks, this);
  nghttp2_session_callbacks_del(callbacks);
  const nghttp2_settings_entry settings[] = {
      {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kWindowBytes},
  };
  nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings, std::size(settings));
  nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, kWindowBytes);
  Read();
  Pump();
}

void GrpcConnection::Impl::Read() {
  socket->async_read_some(asio::buffer(in), [self = shared_from_this()](error_code ec, size_t n) {
    if (self->broken) return;
    if (ec) return self->Break(SocketError("connection lost", ec));
    self->heard = true;
    self->pinged = false;
    const auto* bytes = reinterpret_cast<const uint8_t*>(self->in.data());
    const ssize_t taken = nghttp2_session_mem_recv(self->session, bytes, n);
    if (taken < 0) {
      return self->Break(absl::UnavailableError(
          base::StrCat("the server does not speak HTTP/2: ", nghttp2_strerror(static_cast<int>(taken)))));
    }
    self->Pump();
    if (!self->broken) self->Read();
  });
}

void GrpcConnection::Impl::Pump() {
  if (writing || broken) return;
  out.clear();
  while (out.size() < kWindowBytes) {
    const uint8_t* bytes = nullptr;
    const ssize_t n = nghttp2_session_mem_send(session, &bytes);
    if (n < 0) return Break(absl::InternalError(nghttp2_strerror(static_cast<int>(n))));
    if (n == 0) break;
    out.append(Text(bytes, static_cast<size_t>(n)));
  }
  if (out.empty()) return;
  writing = true;
  socket->AsyncWriteAll(asio::buffer(out), [self = shared_from_this()](error_code ec, size_t) {
    self->writing = false;
    if (self->broken) return;
    if (ec) return self->Break(SocketError("connection lost", ec));
    self->Pump();
  });
}

void GrpcConnection::Impl::WatchLife() {
  heard = false;
  timer.expires_after(pinged ? options.keepalive_timeout : options.keepalive_time);
  timer.async_wait([self = shared_from_this()](error_code ec) {
    if (ec || self->broken || self->call == nullptr) return;
    if (!self->heard && self->pinged) {
      return self->Break(absl::UnavailableError("keepalive ping failed to receive ACK within timeout"));
    }
    if (!self->heard) {
      self->pinged = true;
      nghttp2_submit_ping(self->session, NGHTTP2_FLAG_NONE, nullptr);
      self->Pump();
    }
    self->WatchLife();
  });
}

void GrpcConnection::Impl::Break(absl::Status status) {
  if (!broken) broken = status;
  End(std::move(status));
}

void GrpcConnection::Impl::End(absl::Status status) {
  if (call != nullptr && !call->result) call->result = std::move(status);
}

void GrpcConnection::Impl::Close() {
  if (!broken) broken = absl::CancelledError("closed");
  timer.cancel();
  error_code ignored;
  if (socket) socket->close(ignored);
}

// --- A call.

void GrpcConnection::Impl::Submit(std::string_view method, const Metadata& metadata, Call& one) {
  std::vector<nghttp2_nv> fields = {
      Field(":method", "POST"),       Field(":scheme", scheme), Field(":path", method),
      Field(":authority", authority), Field("te", "trailers"),  Field("content-type", "application/grpc"),
  };
  for (const auto& [name, value] : metadata) fields.push_back(Field(name, value));
  nghttp2_data_provider data{};
  data.read_callback = &Impl::GiveData;
  one.stream = nghttp2_submit_request(session, nullptr, fields.data(), fields.size(), &data, nullptr);
  if (one.stream < 0) Break(absl::InternalError(nghttp2_strerror(one.stream)));
}

absl::Status GrpcConnection::Impl::Run(std::string_view method, const Metadata& metadata, base::Nanos timeout,
                                       Call& one) {
  if (broken) return *broken;
  one.assembler.Reset(options.max_message_bytes);
  call = &one;
  Submit(method, metadata, one);
  Pump();
  pinged = false;
  WatchLife();
  absl::Status run = loop.RunUntil([&one] { return one.result.has_value(); }, timeout);
  call = nullptr;
  timer.cancel();
  if (run.ok()) run = *one.result;
  // An ended stream is not known any more, and this does nothing.
  if (!broken) {
    nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, one.stream, NGHTTP2_CANCEL);
    Pump();
  }
  return run;
}

GrpcConnection::GrpcConnection(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
GrpcConnection::~GrpcConnection() {
  impl_->Close();
}

absl::StatusOr<std::unique_ptr<GrpcConnection>> GrpcConnection::Connect(BlockingLoop& loop,
                                                                        std::string_view url,
                                                                        const Options& options) {
  auto impl = std::make_shared<Impl>(loop, options);
  if (absl::Status opened = impl->Open(url); !opened.ok()) return opened;
  return std::unique_ptr<GrpcConnection>(new GrpcConnection(std::move(impl)));
}

absl::StatusOr<std::string> GrpcConnection::Unary(std::string_view method, const Metadata& metadata,
                                                  std::string_view message, base::Nanos timeout) {
  std::optional<std::string> answer;
  auto take = [&answer](std::string_view bytes) {
    answer = std::string(bytes);
    return true;
  };
  Impl::Call call{take};
  call.out.resize(kGrpcPrefixBytes);
  StoreGrpcPrefix(call.out.data(), static_cast<uint32_t>(message.size()));
  call.out.append(message);
  call.half_close = true;
  if (absl::Status status = impl_->Run(method, metadata, timeout, call); !status.ok()) return status;
  if (!answer) return absl::InternalError("the server answered without a message");
  return *std::move(answer);
}

absl::Status GrpcConnection::Stream(std::string_view method, const Metadata& metadata,
                                    std::string_view message, base::Nanos timeout,
                                    absl::FunctionRef<bool(std::string_view)> on_message) {
  Impl::Call call{on_message};
  call.out.resize(kGrpcPrefixBytes);
  StoreGrpcPrefix(call.out.data(), static_cast<uint32_t>(message.size()));
  call.out.append(message);
  return impl_->Run(method, metadata, timeout, call);
}

}  // namespace kvd::net
