#include "slow_http2.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace kvd::scale {
namespace {

constexpr int32_t kStreamWindow = 256 * 1024;
constexpr int32_t kConnectionWindow = 1 << 30;

nghttp2_nv Header(const std::string& name, const std::string& value) {
  return {reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
          reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(),
          NGHTTP2_NV_FLAG_NONE};
}

std::string Framed(const std::string& request) {
  std::string framed(1, '\0');
  for (int shift : {24, 16, 8, 0}) framed += static_cast<char>(request.size() >> shift);
  return framed + request;
}

}  // namespace

struct SlowHttp2Callbacks {
  static int Data(nghttp2_session* session, uint8_t, int32_t stream, const uint8_t* data, size_t size,
                  void* user) {
    auto* self = static_cast<SlowHttp2*>(user);
    nghttp2_session_consume_connection(session, size);
    if (stream == self->slow_) {
      self->received_ += size;
      (*self->take_)({reinterpret_cast<const char*>(data), size});
    } else {
      nghttp2_session_consume_stream(session, stream, size);
    }
    return 0;
  }
  static int Header(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                    const uint8_t* value, size_t value_size, uint8_t, void* user) {
    auto* self = static_cast<SlowHttp2*>(user);
    std::string_view key(reinterpret_cast<const char*>(name), name_size);
    if (key == "grpc-status" || key == "grpc-message") {
      std::string& status = self->calls_[frame->hd.stream_id].status;
      if (key == "grpc-status") status.clear();
      status.append(reinterpret_cast<const char*>(value), value_size);
    }
    return 0;
  }
  static int Closed(nghttp2_session*, int32_t stream, uint32_t error, void* user) {
    auto* self = static_cast<SlowHttp2*>(user);
    SlowHttp2::Call& call = self->calls_[stream];
    Check(call.status == "0",
          "a call ended with status " + call.status + ", HTTP/2 error " + std::to_string(error));
    if (stream == self->slow_) {
      self->slow_ended_ = true;
    } else {
      self->pings_->push_back(SecondsSince(call.start));
    }
    self->calls_.erase(stream);
    return 0;
  }
  static ssize_t Body(nghttp2_session*, int32_t, uint8_t* out, size_t length, uint32_t* flags,
                      nghttp2_data_source* source, void*) {
    auto* call = static_cast<SlowHttp2::Call*>(source->ptr);
    size_t n = std::min(length, call->body.size() - call->sent);
    std::copy_n(call->body.data() + call->sent, n, out);
    call->sent += n;
    if (call->sent == call->body.size()) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return static_cast<ssize_t>(n);
  }
};

SlowHttp2::SlowHttp2(const std::string& endpoint) {
  const size_t colon = endpoint.rfind(':');
  Check(colon != std::string::npos, "not address:port: " + endpoint);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(std::stoi(endpoint.substr(colon + 1))));
  inet_pton(AF_INET, endpoint.substr(0, colon).c_str(), &address.sin_addr);
  socket_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  Check(connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0,
        "cannot connect to " + endpoint);
  int yes = 1;
  setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);

  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, SlowHttp2Callbacks::Data);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, SlowHttp2Callbacks::Header);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, SlowHttp2Callbacks::Closed);
  nghttp2_option* options = nullptr;
  nghttp2_option_new(&options);
  nghttp2_option_set_no_auto_window_update(options, 1);
  nghttp2_session_client_new2(&session_, callbacks, this, options);
  nghttp2_option_del(options);
  nghttp2_session_callbacks_del(callbacks);
  nghttp2_settings_entry window{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kStreamWindow};
  nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, &window, 1);
  nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, kConnectionWindow);
}

SlowHttp2::~SlowHttp2() {
  nghttp2_session_del(session_);
  close(socket_);
}

int32_t SlowHttp2::Submit(const std::string& method, const std::string& request) {
  const std::string names[] = {":method", ":scheme", ":authority", ":path", "content-type", "te"};
  const std::string values[] = {"POST", "http", "scale", method, "application/grpc", "trailers"};
  std::vector<nghttp2_nv> headers;
  for (size_t i = 0; i < std::size(names); ++i) headers.push_back(Header(names[i], values[i]));
  const auto next = static_cast<int32_t>(nghttp2_session_get_next_stream_id(session_));
  Call& call = calls_[next];
  call.body = Framed(request);
  call.start = Clock::now();
  nghttp2_data_provider provider{};
  provider.source.ptr = &call;
  provider.read_callback = SlowHttp2Callbacks::Body;
  const int32_t id =
      nghttp2_submit_request(session_, nullptr, headers.data(), headers.size(), &provider, nullptr);
  Check(id == next, "a request was not taken");
  return id;
}

void SlowHttp2::Send() {
  const uint8_t* data = nullptr;
  for (ssize_t n; (n = nghttp2_session_mem_send(session_, &data)) > 0;) {
    for (ssize_t sent = 0; sent < n;) {
      ssize_t some = send(socket_, data + sent, static_cast<size_t>(n - sent), MSG_NOSIGNAL);
      Check(some > 0, "the connection broke");
      sent += some;
    }
  }
}

void SlowHttp2::Receive(int wait_ms) {
  pollfd wait{socket_, POLLIN, 0};
  if (poll(&wait, 1, wait_ms) <= 0) return;
  char buffer[64 * 1024];
  ssize_t n = recv(socket_, buffer, sizeof buffer, 0);
  Check(n > 0, "the member closed the connection");
  Check(nghttp2_session_mem_recv(session_, reinterpret_cast<uint8_t*>(buffer), static_cast<size_t>(n)) == n,
        "the member broke HTTP/2");
}

void SlowHttp2::Pay(double bytes_per_second, Clock::time_point start) {
  uint64_t due = received_;
  if (bytes_per_second > 0)
    due = std::min(due, static_cast<uint64_t>(bytes_per_second * SecondsSince(start)));
  if (due <= paid_ || slow_ended_) return;
  nghttp2_session_consume_stream(session_, slow_, due - paid_);
  paid_ = due;
}

void SlowHttp2::Run(const std::string& method, const std::string& request, double bytes_per_second,
                    const std::function<void(std::string_view)>& take, const std::string& ping_method,
                    const std::string& ping_request, int ping_ms, std::vector<double>* pings) {
  take_ = &take;
  pings_ = pings;
  slow_ended_ = false;
  received_ = paid_ = 0;
  const Clock::time_point start = Clock::now();
  Clock::time_point next_ping = start;
  slow_ = Submit(method, request);
  while (!slow_ended_) {
    if (Clock::now() >= next_ping) {
      Submit(ping_method, ping_request);
      next_ping = Clock::now() + std::chrono::milliseconds(ping_ms);
    }
    Pay(bytes_per_second, start);
    Send();
    Receive(1);
  }
  Send();
}

void FieldStream::Add(std::string_view bytes) {
  buffer_.append(bytes);
  const size_t used = Parse(buffer_);
  buffer_.erase(0, used);
}

// Gives how many bytes of `bytes` are done with.
size_t FieldStream::Parse(std::string_view bytes) {
  const size_t all = bytes.size();
  auto varint = [](std::string_view* from, uint64_t* value) {
    *value = 0;
    for (size_t i = 0; i < from->size() && i < 10; ++i) {
      const auto byte = static_cast<uint8_t>((*from)[i]);
      *value |= static_cast<uint64_t>(byte & 0x7f) << (7 * i);
      if (byte < 0x80) {
        from->remove_prefix(i + 1);
        return true;
      }
    }
    return false;
  };
  while (!bytes.empty()) {
    if (message_left_ == 0) {
      if (bytes.size() < 5) break;
      for (int i = 1; i < 5; ++i)
        message_left_ = message_left_ << 8 | static_cast<uint8_t>(bytes[static_cast<size_t>(i)]);
      bytes.remove_prefix(5);
      continue;
    }
    std::string_view rest = bytes;
    uint64_t tag = 0, value = 0;
    std::string_view field;
    if (!varint(&rest, &tag) || !varint(&rest, &value)) break;
    if ((tag & 7) == 2) {
      if (rest.size() < value) break;
      field = rest.substr(0, value);
      rest.remove_prefix(value);
    } else {
      Check((tag & 7) == 0, "a field of a kind that responses do not have");
    }
    message_left_ -= bytes.size() - rest.size();
    bytes = rest;
    visit_(static_cast<uint32_t>(tag >> 3), field, value);
  }
  return all - bytes.size();
}

}  // namespace kvd::scale
