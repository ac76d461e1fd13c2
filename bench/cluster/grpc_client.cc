#include "grpc_client.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "base/bytes.h"
#include "base/check.h"

namespace kvd::bench {
namespace {

constexpr size_t kPrefixBytes = 5;
constexpr size_t kReceiveBytes = 256 << 10;
constexpr size_t kSendBytes = 256 << 10;
// A call keeps the memory of its last answer up to this size.
constexpr size_t kKeepBytes = 64 << 20;

nghttp2_nv Pair(std::string_view name, std::string_view value) {
  auto* n = reinterpret_cast<uint8_t*>(const_cast<char*>(name.data()));
  auto* v = reinterpret_cast<uint8_t*>(const_cast<char*>(value.data()));
  return {n, v, name.size(), value.size(), NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
}

int ConnectTo(const std::string& endpoint) {
  const size_t colon = endpoint.rfind(':');
  if (colon == std::string::npos) return -1;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  uint16_t port = 0;
  std::from_chars(endpoint.data() + colon + 1, endpoint.data() + endpoint.size(), port);
  address.sin_port = htons(port);
  if (inet_pton(AF_INET, endpoint.substr(0, colon).c_str(), &address.sin_addr) != 1) return -1;
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  const int on = 1;
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
      fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0) {
    close(fd);
    return -1;
  }
  return fd;
}

}  // namespace

void Call::Receive(std::string_view data) {
  while (!data.empty()) {
    if (in_.empty() && data.size() >= kPrefixBytes) {
      const size_t size = base::LoadBigEndian32(data.data() + 1);
      if (data.size() - kPrefixBytes >= size) {
        OnMessage(data.substr(kPrefixBytes, size));
        data.remove_prefix(kPrefixBytes + size);
        continue;
      }
    }
    size_t wanted = kPrefixBytes;
    if (in_.size() >= kPrefixBytes) wanted += base::LoadBigEndian32(in_.data() + 1);
    const size_t taken = std::min(data.size(), wanted - in_.size());
    in_.append(data.substr(0, taken));
    data.remove_prefix(taken);
    if (in_.size() < kPrefixBytes) continue;
    wanted = kPrefixBytes + base::LoadBigEndian32(in_.data() + 1);
    if (in_.size() < wanted) {
      in_.reserve(wanted);
      continue;
    }
    OnMessage(std::string_view(in_).substr(kPrefixBytes));
    in_.clear();
    if (in_.capacity() > kKeepBytes) in_.shrink_to_fit();
  }
}

// What nghttp2 calls; user_data is the Connection, a stream's user data its Call.
struct Connection::Callbacks {
  static Call* CallOf(nghttp2_session* session, int32_t stream) {
    return static_cast<Call*>(nghttp2_session_get_stream_user_data(session, stream));
  }

  static ssize_t ReadRequest(nghttp2_session*, int32_t, uint8_t* buffer, size_t length, uint32_t* flags,
                             nghttp2_data_source* source, void*) {
    Call* call = static_cast<Call*>(source->ptr);
    const size_t n = std::min(length, call->out_.size() - call->out_at_);
    std::copy_n(call->out_.data() + call->out_at_, n, reinterpret_cast<char*>(buffer));
    call->out_at_ += n;
    const bool empty = call->out_at_ == call->out_.size();
    if (empty && call->half_close_) {
      *flags |= NGHTTP2_DATA_FLAG_EOF;
    } else if (n == 0) {
      return NGHTTP2_ERR_DEFERRED;
    }
    return static_cast<ssize_t>(n);
  }

  static int OnData(nghttp2_session* session, uint8_t, int32_t stream, const uint8_t* data, size_t size,
                    void*) {
    Call* call = CallOf(session, stream);
    if (call != nullptr) call->Receive({reinterpret_cast<const char*>(data), size});
    return 0;
  }

  static int OnHeader(nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name,
                      size_t name_size, const uint8_t* value, size_t value_size, uint8_t, void*) {
    // "grpc-status", "grpc-message": nothing else of an answer's headers is looked at.
    if (name_size < 11 || std::memcmp(name, "grpc-", 5) != 0) return 0;
    Call* call = CallOf(session, frame->hd.stream_id);
    if (call == nullptr) return 0;
    const std::string_view text(reinterpret_cast<const char*>(value), value_size);
    if (name_size == 11 && name[5] == 's') {
      std::from_chars(text.data(), text.data() + text.size(), call->status_);
    } else if (name_size == 12 && name[5] == 'm') {
      call->text_ = text;
    }
    return 0;
  }

  static int OnClose(nghttp2_session* session, int32_t stream, uint32_t, void* self) {
    Call* call = CallOf(session, stream);
    if (call != nullptr) static_cast<Connection*>(self)->End(call);
    return 0;
  }
};

Connection::Connection(EventLoop& loop, int fd, std::string authority, Windows windows)
    : loop_(loop), fd_(fd), authority_(std::move(authority)) {
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, Callbacks::OnData);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, Callbacks::OnHeader);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, Callbacks::OnClose);
  nghttp2_option* option = nullptr;
  nghttp2_option_new(&option);
  nghttp2_option_set_no_http_messaging(option, 1);
  nghttp2_option_set_no_auto_window_update(option, windows.open_again ? 0 : 1);
  nghttp2_option_set_peer_max_concurrent_streams(option, 1 << 20);
  KVD_CHECK(nghttp2_session_client_new2(&session_, callbacks, this, option) == 0, "nghttp2");
  nghttp2_option_del(option);
  nghttp2_session_callbacks_del(callbacks);

  const std::array<nghttp2_settings_entry, 2> settings = {{
      {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, windows.stream_bytes},
  }};
  nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings.data(), settings.size());
  nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0,
                                        static_cast<int32_t>(windows.connection_bytes));
  loop_.Add(fd_, this, false);
  Touch();
}

std::unique_ptr<Connection> Connection::Open(EventLoop& loop, const std::string& endpoint, Windows windows) {
  const int fd = ConnectTo(endpoint);
  if (fd < 0) return nullptr;
  return std::unique_ptr<Connection>(new Connection(loop, fd, endpoint, windows));
}

Connection::~Connection() {
  if (!broken_) loop_.Remove(fd_, this);
  // Its streams end with it, silently.
  nghttp2_session_del(session_);
  close(fd_);
}

void Connection::Start(const std::string& path, Call* call, bool half_close) {
  KVD_CHECK(call->stream_ == 0, "the call is open already");
  call->out_at_ = 0;
  call->half_close_ = half_close;
  call->in_.clear();
  call->status_ = kUnavailable;
  call->text_.clear();
  const std::array<nghttp2_nv, 6> headers = {
      Pair(":method", "POST"),        Pair(":scheme", "http"), Pair(":path", path),
      Pair(":authority", authority_), Pair("te", "trailers"),  Pair("content-type", "application/grpc"),
  };
  nghttp2_data_provider provider{};
  provider.source.ptr = call;
  provider.read_callback = Callbacks::ReadRequest;
  const int32_t stream =
      broken_ ? -1
              : nghttp2_submit_request(session_, nullptr, headers.data(), headers.size(), &provider, call);
  if (stream < 0) {
    call->OnEnd(kUnavailable, "the connection is closed");
    return;
  }
  call->connection_ = this;
  call->stream_ = stream;
  call->place_ = open_.size();
  open_.push_back(call);
  Touch();
}

void Connection::End(Call* call) {
  open_[call->place_] = open_.back();
  open_[call->place_]->place_ = call->place_;
  open_.pop_back();
  call->stream_ = 0;
  call->connection_ = nullptr;
  call->OnEnd(call->status_, call->text_);
}

void Connection::Send(Call* call, std::string_view frame) {
  KVD_CHECK(call->stream_ != 0, "the call is not open");
  if (call->out_at_ == call->out_.size()) {
    call->out_.clear();
    call->out_at_ = 0;
  }
  call->out_.append(frame);
  nghttp2_session_resume_data(call->connection_->session_, call->stream_);
  call->connection_->Touch();
}

void Connection::Cancel(Call* call) {
  if (call->stream_ == 0) return;
  call->status_ = kCancelled;
  nghttp2_submit_rst_stream(call->connection_->session_, NGHTTP2_FLAG_NONE, call->stream_, NGHTTP2_CANCEL);
  call->connection_->Touch();
}

void Connection::Touch() {
  if (dirty_) return;
  dirty_ = true;
  loop_.MarkDirty(this);
}

void Connection::Flush() {
  dirty_ = false;
  while (!broken_) {
    while (out_.size() < kSendBytes) {
      const uint8_t* data = nullptr;
      const ssize_t n = nghttp2_session_mem_send(session_, &data);
      if (n <= 0) break;
      out_.append(reinterpret_cast<const char*>(data), static_cast<size_t>(n));
    }
    if (out_.empty()) break;
    const ssize_t n = send(fd_, out_.data() + out_at_, out_.size() - out_at_, MSG_NOSIGNAL);
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) Break();
      break;
    }
    out_at_ += static_cast<size_t>(n);
    if (out_at_ == out_.size()) {
      out_.clear();
      out_at_ = 0;
    }
  }
  if (broken_) return;
  const bool want_write = !out_.empty();
  if (want_write != want_write_) {
    want_write_ = want_write;
    loop_.Change(fd_, this, want_write);
  }
}

void Connection::Receive() {
  static std::array<uint8_t, kReceiveBytes> buffer;
  const ssize_t n = recv(fd_, buffer.data(), buffer.size(), 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) return Break();
  bytes_received_ += static_cast<uint64_t>(n);
  if (nghttp2_session_mem_recv(session_, buffer.data(), static_cast<size_t>(n)) < 0) return Break();
  Touch();
}

void Connection::OnReady(uint32_t events) {
  if (broken_) return;
  if ((events & EPOLLOUT) != 0) Touch();
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) Receive();
}

void Connection::Break() {
  if (broken_) return;
  broken_ = true;
  loop_.Remove(fd_, this);
  shutdown(fd_, SHUT_RDWR);
  while (!open_.empty()) {
    Call* call = open_.back();
    call->status_ = kUnavailable;
    call->text_ = "the connection is closed";
    End(call);
  }
}

}  // namespace kvd::bench
