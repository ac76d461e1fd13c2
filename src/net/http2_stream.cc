#include "net/http2_stream.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>

#include "base/check.h"
#include "base/strings.h"
#include "net/http2_session.h"

namespace kvd::net {
namespace {

constexpr size_t kPooledStreams = 4096;           // per I/O thread
constexpr size_t kKeptBytes = size_t{16} * 1024;  // a pooled stream keeps buffers up to this size

// A longer reply is refused, as grpc-go's servers refuse it.
constexpr uint64_t kMaxSendBytes = INT32_MAX;

// RFC 7540's overhead of a header in a header list.
constexpr size_t kHeaderOverhead = 32;

void Shrink(std::string& s) {
  s.clear();
  if (s.capacity() > kKeptBytes) s.shrink_to_fit();
}

struct Pool {
  std::vector<Http2Stream*> free;
  void (*destroy)(Http2Stream*) = nullptr;
  ~Pool() {
    for (Http2Stream* stream : free) destroy(stream);
  }
};
thread_local Pool pool;

// What a stream's handler holds.
class GrpcStreamCall final : public StreamCall {
 public:
  explicit GrpcStreamCall(Http2Stream* stream) : stream_(stream) {}
  std::string_view method() const override { return stream_->method(); }
  std::optional<std::string_view> metadata(std::string_view key) const override {
    return stream_->metadata(key);
  }
  base::Nanos deadline() const override { return stream_->deadline(); }
  std::string_view peer() const override { return stream_->peer(); }
  bool cancelled() const override { return stream_->cancelled(); }
  base::Executor& executor() const override { return stream_->executor(); }
  void Write(Message message) override {
    const size_t size = message.size() + kGrpcPrefixBytes;
    stream_->Write({std::move(message), nullptr, size});
  }
  void WriteFramed(Message messages) override {
    const size_t size = messages.size();
    stream_->Write({std::move(messages), nullptr, size});
  }
  void WriteFrom(size_t size, std::unique_ptr<MessageSource> source) override {
    stream_->Write({Message(), std::move(source), size});
  }
  void Finish(StatusCode code, std::string message) override { stream_->Finish(code, std::move(message)); }
  size_t queued_bytes() const override { return stream_->queued_bytes(); }
  void PauseReading() override { stream_->PauseReading(); }
  void ResumeReading() override { stream_->ResumeReading(); }

 private:
  Http2Stream::Ref stream_;
};

}  // namespace

Http2Stream* Http2Stream::New(Http2Session& session, int32_t id) {
  Http2Stream* stream;
  if (pool.free.empty()) {
    stream = new Http2Stream(session.connection().thread());
  } else {
    stream = pool.free.back();
    pool.free.pop_back();
    stream->refs_.store(1, std::memory_order_relaxed);
  }
  stream->session_ = &session;
  stream->high_bytes_ = session.options().stream_high_bytes;
  stream->id_ = id;
  stream->peer_ = session.connection().peer();
  return stream;
}

void Http2Stream::Recycle() {
  if (!thread_->IsCurrent() || pool.free.size() >= kPooledStreams) {
    delete this;
    return;
  }
  Reset();
  pool.destroy = [](Http2Stream* stream) { delete stream; };
  pool.free.push_back(this);
}

void Http2Stream::Reset() {
  Disarm();
  handles_.store(0, std::memory_order_relaxed);
  mode_ = Mode::kNone;
  grpc_ = nullptr;
  peer_.reset();
  http_method_.clear();
  Shrink(path_);
  Shrink(authority_);
  content_type_.clear();
  timeout_.clear();
  encoding_.clear();
  Shrink(header_bytes_);
  headers_.clear();
  header_list_bytes_ = 0;
  deadline_ = base::Nanos::max();
  request_ended_ = end_delivered_ = got_message_ = false;
  assembler_.Reset(0);
  Shrink(body_);
  handler_.reset();
  on_cancelled_ = nullptr;
  http_.reset();
  cancelled_.store(false, std::memory_order_relaxed);
  paused_.store(false, std::memory_order_relaxed);
  Shrink(held_);
  feeding_ = closed_callback_due_ = writable_callback_due_ = false;
  answer_claimed_.store(false, std::memory_order_relaxed);
  answer_ready_.store(false, std::memory_order_relaxed);
  answer_error_.clear();
  answer_ = Message();
  answer_events_.reset();
  answer_applied_ = false;
  parts_.reset();
  to_make_.clear();
  made_ = to_make_bytes_ = 0;
  inbox_.clear();
  inbox_finish_ = false;
  scheduled_.store(false, std::memory_order_relaxed);
  queued_.store(0, std::memory_order_relaxed);
  above_high_mark_.store(false, std::memory_order_relaxed);
  out_.Clear();
  head_sent_ = deferred_ = finishing_ = false;
  status_ = StatusCode::kOk;
  status_text_.clear();
}

// ---- What arrives.

bool Http2Stream::OnHeader(std::string_view name, std::string_view value) {
  header_list_bytes_ += name.size() + value.size() + kHeaderOverhead;
  if (header_list_bytes_ > session_->options().max_header_list_bytes) return false;
  if (!name.empty() && name[0] == ':') {
    if (name == ":method") {
      http_method_ = value;
    } else if (name == ":path") {
      path_ = value;
    } else if (name == ":authority") {
      authority_ = value;
    }
    return true;
  }
  if (name == "content-type") {
    content_type_ = value;
  } else if (name == "grpc-timeout") {
    timeout_ = value;
  } else if (name == "grpc-encoding") {
    encoding_ = value;
  }
  Header header;
  header.name = static_cast<uint32_t>(header_bytes_.size());
  header.name_size = static_cast<uint32_t>(name.size());
  header_bytes_.append(name);
  header.value = static_cast<uint32_t>(header_bytes_.size());
  header.value_size = static_cast<uint32_t>(value.size());
  header_bytes_.append(value);
  headers_.push_back(header);
  return true;
}

std::optional<std::string_view> Http2Stream::metadata(std::string_view key) const {
  for (const Header& header : headers_) {
    if (NameOf(header) == key) return ValueOf(header);
  }
  return std::nullopt;
}

void Http2Stream::OnRequest() {
  if (IsGrpcContentType(content_type_) && session_->connection().listen().grpc) {
    StartGrpc();
  } else {
    StartHttp();
  }
}

void Http2Stream::StartGrpc() {
  mode_ = Mode::kRefused;  // until all is well
  if (http_method_ != "POST") {
    SubmitTrailersOnly(
        StatusCode::kInternal,
        base::StrCat("Received a HEADERS frame with :method \"", http_method_, "\" which should be POST"),
        "405");
    return;
  }
  if (!timeout_.empty()) {
    std::optional<base::Nanos> timeout = ParseGrpcTimeout(timeout_);
    if (!timeout.has_value()) {
      SubmitTrailersOnly(StatusCode::kInternal, base::StrCat("malformed grpc-timeout: \"", timeout_, "\""),
                         "400");
      return;
    }
    base::Nanos now = thread_->Now();
    deadline_ = *timeout > base::Nanos::max() - now ? base::Nanos::max() : now + *timeout;
  }
  grpc_ = session_->connection().config().router.FindGrpc(path_);
  if (grpc_ == nullptr) {
    Close(StatusCode::kUnimplemented, session_->connection().config().router.UnknownMethod(path_));
    return;
  }
  if (!encoding_.empty() && encoding_ != "identity" && encoding_ != "gzip") {
    Close(StatusCode::kUnimplemented,
          base::StrCat("grpc: Decompressor is not installed for grpc-encoding \"", encoding_, "\""));
    return;
  }
  assembler_.Reset(session_->options().max_receive_message_bytes);
  assembler_.set_gzip(encoding_ == "gzip");
  if (deadline_ != base::Nanos::max()) thread_->Arm(*this, deadline_);
  switch (grpc_->kind) {
    case GrpcMethod::Kind::kUnary:
      mode_ = Mode::kUnary;
      break;
    case GrpcMethod::Kind::kServerStream:
      mode_ = Mode::kServerStream;
      break;
    case GrpcMethod::Kind::kBidi:
      mode_ = Mode::kBidi;
      handler_ = grpc_->bidi(std::make_shared<GrpcStreamCall>(this));
      break;
  }
}

void Http2Stream::OnData(std::string_view data) {
  switch (mode_) {
    case Mode::kUnary:
    case Mode::kServerStream:
    case Mode::kBidi:
      if (paused_.load(std::memory_order_acquire) || !held_.empty()) {
        held_.append(data);
        return;  // and the window stays closed
      }
      FeedGrpc(data);
      return;
    case Mode::kHttp:
      body_.append(data);
      if (body_.size() > session_->options().max_http_body_bytes) {
        mode_ = Mode::kRefused;
        http_ = std::make_shared<HttpCallShared>();
        HttpResponse response;
        response.status = 413;
        HttpHead(std::move(response), true);
      }
      break;
    default:
      break;
  }
  Consume(data.size());
}

void Http2Stream::Consume(size_t bytes) {
  if (session_ != nullptr && !request_ended_ && bytes > 0) {
    nghttp2_session_consume_stream(session_->frames(), id_, bytes);
    session_->OutputReady();
  }
}

void Http2Stream::FeedGrpc(std::string_view data) {
  size_t size = data.size();
  feeding_ = true;
  while (!data.empty() && session_ != nullptr && mode_ != Mode::kRefused) {
    if (got_message_ && mode_ != Mode::kBidi) {
      data = {};  // one request is all these methods take
      break;
    }
    if (paused_.load(std::memory_order_acquire)) break;
    switch (assembler_.Feed(&data)) {
      case MessageAssembler::Next::kNeedMore:
        break;
      case MessageAssembler::Next::kMessage:
        OnMessage();
        break;
      case MessageAssembler::Next::kError:
        Close(assembler_.error_code(), assembler_.error());
        MarkCancelled();
        mode_ = Mode::kRefused;
        break;
    }
  }
  feeding_ = false;
  if (mode_ == Mode::kRefused) data = {};
  held_.append(data);
  Consume(size - data.size());
}

void Http2Stream::OnMessage() {
  got_message_ = true;
  switch (mode_) {
    case Mode::kUnary:
      AddRef();
      handles_.store(1, std::memory_order_relaxed);
      grpc_->unary(UnaryCall(this));
      break;
    case Mode::kServerStream:
      handler_ = grpc_->server_stream(assembler_.message(), std::make_shared<GrpcStreamCall>(this));
      break;
    default:
      if (handler_ != nullptr) handler_->OnMessage(assembler_.message());
      break;
  }
}

void Http2Stream::OnRequestEnd() {
  request_ended_ = true;
  if (mode_ == Mode::kHttp) {
    DispatchHttpRequest();
  } else if (held_.empty()) {
    DeliverEnd();
  }
}

void Http2Stream::DeliverEnd() {
  if (end_delivered_ || mode_ == Mode::kRefused || mode_ == Mode::kHttp) return;
  end_delivered_ = true;
  if (assembler_.in_message()) {
    Close(StatusCode::kInternal, "unexpected EOF");
    MarkCancelled();
  } else if (mode_ == Mode::kBidi) {
    if (handler_ != nullptr) handler_->OnHalfClose();
  } else if (!got_message_) {
    Close(StatusCode::kInternal, "EOF");  // no request came
  }
}

void Http2Stream::DeliverHeld() {
  if (feeding_ || session_ == nullptr || paused_.load(std::memory_order_acquire)) return;
  std::string data;
  data.swap(held_);
  if (!data.empty()) FeedGrpc(data);
  if (held_.empty() && request_ended_ && session_ != nullptr) DeliverEnd();
}

void Http2Stream::MarkCancelled() {
  cancelled_.store(true, std::memory_order_relaxed);
  if (on_cancelled_) {
    base::Task task = std::move(on_cancelled_);
    on_cancelled_ = nullptr;
    task();
  }
}

void Http2Stream::OnTimer() {
  if (session_ == nullptr || finishing_) return;
  Ref self(this);
  if (out_.empty() && to_make_.empty()) {
    Close(StatusCode::kDeadlineExceeded, "context deadline exceeded");
  } else {
    CutShort(NGHTTP2_CANCEL);  // the client does not take what is queued: a status behind it would not arrive
  }
  // Only now: a handler that gives up the call must not put its own status first.
  MarkCancelled();
}

void Http2Stream::OnClosed() {
  Disarm();
  bool complete = finishing_ && out_.empty() && to_make_.empty();
  if (!complete) cancelled_.store(true, std::memory_order_relaxed);
  session_->AddQueued(-static_cast<ptrdiff_t>(out_.size() + to_make_bytes_));
  closed_callback_due_ = true;
  session_->Defer(this);
  session_ = nullptr;
  out_.Clear();
  to_make_.clear();
}

WriteEvents* Http2Stream::events() const {
  return handler_ != nullptr ? handler_.get() : parts_.get();
}

void Http2Stream::RunCallbacks() {
  if (writable_callback_due_) {
    writable_callback_due_ = false;
    if (events() != nullptr && session_ != nullptr && !finishing_) events()->OnWritable();
  }
  if (closed_callback_due_) {
    closed_callback_due_ = false;
    if (cancelled()) {
      MarkCancelled();
      if (http_ != nullptr) http_->cancelled = true;
    }
    on_cancelled_ = nullptr;
    std::shared_ptr<WriteEvents> handler = std::move(handler_);
    if (handler == nullptr) handler = std::move(parts_);
    if (handler != nullptr) handler->OnClosed();
  }
}

// ---- Unary calls.

void Http2Stream::OnCancelled(base::Task task) {
  on_cancelled_ = std::move(task);
}

void Http2Stream::DropHandle() {
  if (handles_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  if (!answer_claimed_.load(std::memory_order_acquire)) {
    Answer(StatusCode::kUnavailable, "the server dropped the call", Message());
  }
  Unref();
}

void Http2Stream::Answer(StatusCode code, std::string error, Message reply) {
  KVD_CHECK(!answer_claimed_.exchange(true, std::memory_order_acq_rel), "a call is answered once");
  answer_code_ = code;
  answer_error_ = std::move(error);
  answer_ = std::move(reply);
  PublishAnswer();
}

void Http2Stream::AnswerInParts(uint64_t size, std::shared_ptr<WriteEvents> events) {
  KVD_CHECK(!answer_claimed_.exchange(true, std::memory_order_acq_rel), "a call is answered once");
  answer_code_ = StatusCode::kOk;
  answer_events_ = std::move(events);
  answer_size_ = size;
  queued_.fetch_add(kGrpcPrefixBytes, std::memory_order_relaxed);  // they depart with the first part
  PublishAnswer();
}

void Http2Stream::PublishAnswer() {
  answer_ready_.store(true, std::memory_order_release);
  Schedule();
}

// Has Process called on the I/O thread, now if this is it.
void Http2Stream::Schedule() {
  if (thread_->IsCurrent()) {
    Process();
    return;
  }
  if (scheduled_.exchange(true, std::memory_order_acq_rel)) return;
  AddRef();
  thread_->Push(this);
}

void Http2Stream::Run(bool stopped) {
  scheduled_.exchange(false, std::memory_order_acq_rel);
  if (!stopped) Process();
  Unref();
}

void Http2Stream::Process() {
  if (mode_ == Mode::kUnary) {
    if (!answer_ready_.load(std::memory_order_acquire)) return;
    if (!std::exchange(answer_applied_, true)) ApplyAnswer();
    if (parts_ != nullptr) TakeParts();
  } else {
    TakeInbox();
    DeliverHeld();
  }
}

void Http2Stream::ApplyAnswer() {
  parts_ = std::move(answer_events_);
  if (session_ == nullptr) {
    if (std::shared_ptr<WriteEvents> late = std::move(parts_)) late->OnClosed();
    return;
  }
  if (finishing_) return;
  Disarm();
  on_cancelled_ = nullptr;
  if (answer_code_ != StatusCode::kOk) {
    Close(answer_code_, answer_error_);
    return;
  }
  uint64_t size = parts_ != nullptr ? answer_size_ : answer_.size();
  if (size > kMaxSendBytes) {
    Close(StatusCode::kResourceExhausted,
          base::StrCat("grpc: trying to send message larger than max (", size, " vs. ", kMaxSendBytes, ")"));
    return;
  }
  if (parts_ != nullptr) {
    parts_left_ = size;
    EnqueuePrefix(size);
    return;
  }
  Enqueue(std::move(answer_), true);
  finishing_ = true;
  SubmitGrpcHead();
}

}  // namespace kvd::net
