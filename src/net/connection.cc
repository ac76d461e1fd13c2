#include "net/connection.h"

#include <algorithm>
#include <utility>

#include "net/http1_session.h"
#include "net/http2_session.h"

namespace kvd::net {
namespace {

constexpr std::string_view kHttp2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
// So much is read, or written, before the other connections of the thread have their turn.
constexpr int kReadsPerTurn = 4;
constexpr size_t kWriteBytesPerTurn = size_t{2} * 1024 * 1024;
constexpr int kMaxRanges = 64;
// After our last bytes the client has this long to read them before the socket goes.
constexpr base::Nanos kLingerTime = std::chrono::seconds(1);
// After a fatal error, what is queued has this long to get out.
constexpr base::Nanos kCloseTime = std::chrono::seconds(5);

}  // namespace

Connection::Connection(std::shared_ptr<const ServerConfig> config, ListenOptions listen, IoThread& thread,
                       std::unique_ptr<Transport> transport, std::string peer,
                       std::function<void(Connection&)> on_closed)
    : config_(std::move(config)),
      listen_(listen),
      thread_(thread),
      transport_(std::move(transport)),
      peer_(std::make_shared<const std::string>(std::move(peer))),
      on_closed_(std::move(on_closed)) {}

Connection::~Connection() = default;

void Connection::Start() {
  thread_.Arm(*this, thread_.Now() + config_->options.first_bytes_timeout);
  WaitReadable();
}

void Connection::OnTimer() {
  Close();
}

void Connection::WaitReadable() {
  if (waiting_readable_ || read_ended_ || state_ == State::kClosed) return;
  waiting_readable_ = true;
  transport_->WaitReadable([self = shared_from_this()] {
    IoThread::Batch batch(self->thread_);
    self->waiting_readable_ = false;
    self->OnReadable();
  });
}

void Connection::OnReadable() {
  for (int i = 0; i < kReadsPerTurn; ++i) {
    if (state_ == State::kClosed || read_ended_) return;
    if (!ReadSome()) break;
  }
  if (session_ == nullptr || !session_->congested(waiting_writable_)) WaitReadable();
}

// False: there is nothing more to read for now.
bool Connection::ReadSome() {
  IoResult result = transport_->Read(thread_.read_buffer(), IoThread::kReadBufferBytes);
  if (result.kind == IoResult::kWouldBlock) return false;
  if (result.kind == IoResult::kEnd) {
    OnEnd();
    return false;
  }
  OnData(std::string_view(thread_.read_buffer(), result.bytes));
  return result.bytes == IoThread::kReadBufferBytes;
}

void Connection::OnData(std::string_view data) {
  if (state_ == State::kDetecting) {
    Detect(data);
  } else if (state_ == State::kServing) {
    Session::After after = session_->Receive(data);
    if (after == Session::After::kBroken) {
      Close();
      return;
    }
    if (after == Session::After::kClosing) {
      state_ = State::kClosing;
      thread_.Arm(*this, thread_.Now() + kCloseTime);
    }
    OutputReady();
  }
  // Whatever comes while closing is read and forgotten.
}

void Connection::OnEnd() {
  read_ended_ = true;
  if (state_ == State::kServing && session_->ReceiveEnd()) {
    OutputReady();
  } else if (state_ != State::kClosing) {
    Close();
  }
}

void Connection::Detect(std::string_view data) {
  first_bytes_.append(data);
  size_t n = std::min(first_bytes_.size(), kHttp2Preface.size());
  bool http2 = std::string_view(first_bytes_).substr(0, n) == kHttp2Preface.substr(0, n);
  if (http2 && n < kHttp2Preface.size()) return;
  if (http2) {
    session_ = NewHttp2Session(*this);
  } else if (listen_.http) {
    session_ = NewHttp1Session(*this);
  } else {
    Close();
    return;
  }
  state_ = State::kServing;
  std::string bytes;
  bytes.swap(first_bytes_);
  OnData(bytes);
}

void Connection::Flush() {
  if (state_ == State::kClosed || state_ == State::kLingering || session_ == nullptr) return;
  if (waiting_writable_) return;
  size_t budget = kWriteBytesPerTurn;
  while (true) {
    session_->Produce(out_);
    if (out_.empty()) break;
    if (!WriteOut(&budget)) {
      if (session_ != nullptr && !session_->congested(true)) WaitReadable();
      return;
    }
    if (budget == 0) {
      thread_.Post([self = shared_from_this()] { self->OutputReady(); });
      return;
    }
  }
  if (state_ == State::kClosing || session_->finished()) {
    Linger();
    return;
  }
  if (read_ended_ && !session_->ReceiveEnd()) {
    Close();
    return;
  }
  if (!session_->congested(false)) WaitReadable();
}

// False: the socket takes no more for now, or the connection is closed.
bool Connection::WriteOut(size_t* budget) {
  iovec ranges[kMaxRanges];
  while (!out_.empty() && *budget > 0) {
    int n = out_.Ranges(ranges, kMaxRanges);
    IoResult result = transport_->Write(ranges, n);
    if (result.kind == IoResult::kEnd) {
      Close();
      return false;
    }
    if (result.kind == IoResult::kWouldBlock) {
      waiting_writable_ = true;
      transport_->WaitWritable([self = shared_from_this()] {
        IoThread::Batch batch(self->thread_);
        self->waiting_writable_ = false;
        self->OnWritable();
      });
      return false;
    }
    out_.Take(result.bytes);
    *budget -= std::min(*budget, result.bytes);
  }
  return true;
}

void Connection::OnWritable() {
  if (state_ != State::kClosed) Flush();
}

// Everything is sent: let the client read it before the socket goes, since closing with unread input makes
// the system throw away what is under way.
void Connection::Linger() {
  transport_->ShutdownWrite();
  if (read_ended_) {
    Close();
    return;
  }
  state_ = State::kLingering;
  std::unique_ptr<Session> session = std::move(session_);
  session->Lost();
  thread_.Arm(*this, thread_.Now() + kLingerTime);
  WaitReadable();
}

void Connection::Drain() {
  if (state_ == State::kDetecting) {
    Close();
  } else if (state_ == State::kServing) {
    session_->Drain();
    OutputReady();
  }
}

void Connection::Close() {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  Disarm();
  transport_->Close();
  std::unique_ptr<Session> session = std::move(session_);
  if (session != nullptr) session->Lost();
  out_.Clear();
  on_closed_(*this);
}

}  // namespace kvd::net
