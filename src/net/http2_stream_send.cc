#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/ascii.h"
#include "base/check.h"
#include "base/log.h"
#include "base/strings.h"
#include "net/http2_session.h"
#include "net/http2_stream.h"

namespace kvd::net {
namespace {

// So much of a stream's messages is made at a time: it is still in the processor's cache when the socket
// takes it.
constexpr size_t kPullMessageBytes = size_t{32} * 1024;

constexpr uint8_t kNoCopy = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE;

nghttp2_nv Nv(std::string_view name, std::string_view value, uint8_t flags) {
  return {reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
          reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(), flags};
}

const char* CodeText(StatusCode code) {
  static constexpr std::array<const char*, 17> kTexts = {"0", "1",  "2",  "3",  "4",  "5",  "6",  "7", "8",
                                                         "9", "10", "11", "12", "13", "14", "15", "16"};
  return kTexts[static_cast<size_t>(code)];
}

ssize_t ProvideCallback(nghttp2_session*, int32_t, uint8_t*, size_t length, uint32_t* flags,
                        nghttp2_data_source* source, void*) {
  return static_cast<Http2Stream*>(source->ptr)->Provide(length, flags);
}

nghttp2_data_provider ProviderOf(Http2Stream* stream) {
  nghttp2_data_provider provider{};
  provider.source.ptr = stream;
  provider.read_callback = ProvideCallback;
  return provider;
}

class Http2Sink final : public HttpSink {
 public:
  explicit Http2Sink(Http2Stream* stream) : stream_(stream) {}
  void Head(HttpResponse response, bool whole) override { stream_->HttpHead(std::move(response), whole); }
  void Body(Message part) override { stream_->HttpBody(std::move(part)); }
  void End() override { stream_->HttpEnd(); }

 private:
  Http2Stream::Ref stream_;
};

}  // namespace

// ---- What is sent.

void Http2Stream::Enqueue(Message message, bool framed) {
  if (framed) EnqueuePrefix(message.size());
  size_t before = out_.size();
  out_.Append(std::move(message));
  session_->AddQueued(static_cast<ptrdiff_t>(out_.size() - before));
}

void Http2Stream::EnqueuePrefix(uint64_t message_bytes) {
  char prefix[kGrpcPrefixBytes];
  StoreGrpcPrefix(prefix, static_cast<uint32_t>(message_bytes));
  out_.AppendCopy(std::string_view(prefix, sizeof prefix));
  session_->AddQueued(static_cast<ptrdiff_t>(sizeof prefix));
}

// A part without a source.
void Http2Stream::EnqueueMessage(Part& part) {
  const bool wants_prefix = part.size > part.message.size();
  Enqueue(std::move(part.message), wants_prefix);
}

void Http2Stream::Enqueue(Part part) {
  if (part.source == nullptr && to_make_.empty()) return EnqueueMessage(part);
  to_make_bytes_ += part.size;
  session_->AddQueued(static_cast<ptrdiff_t>(part.size));
  to_make_.push_back(std::move(part));
}

// Takes the next messages of those that are made when they are sent, or that stand behind such.
void Http2Stream::PullMessages() {
  Part& part = to_make_[made_];
  const size_t before = out_.size();
  if (part.source != nullptr) {
    Enqueue(part.source->Next(kPullMessageBytes), false);
  } else {
    EnqueueMessage(part);
  }
  const size_t made = out_.size() - before;
  KVD_CHECK(made <= part.size && (made > 0 || part.size == 0), "messages are as long as was said before");
  session_->AddQueued(-static_cast<ptrdiff_t>(made));  // it had been counted
  to_make_bytes_ -= made;
  part.size -= made;
  if (part.size > 0) return;
  part = {};
  if (++made_ == to_make_.size()) {
    to_make_ = std::vector<Part>();
    made_ = 0;
  } else if (made_ > to_make_.size() / 2) {
    to_make_.erase(to_make_.begin(), to_make_.begin() + static_cast<ptrdiff_t>(made_));
    made_ = 0;
  }
}

// nghttp2 has more to ask for.
void Http2Stream::Wake() {
  if (deferred_) {
    deferred_ = false;
    nghttp2_session_resume_data(session_->frames(), id_);
  }
  session_->OutputReady();
}

void Http2Stream::SubmitGrpcHead() {
  static const nghttp2_nv kHead[] = {Nv(":status", "200", kNoCopy),
                                     Nv("content-type", "application/grpc", kNoCopy)};
  head_sent_ = true;
  nghttp2_data_provider provider = ProviderOf(this);
  nghttp2_submit_response(session_->frames(), id_, kHead, std::size(kHead), &provider);
  session_->OutputReady();
}

void Http2Stream::SubmitTrailersOnly(StatusCode code, std::string_view text, const char* http_status) {
  finishing_ = true;
  head_sent_ = true;
  std::string message = PercentEncode(text);
  nghttp2_nv head[5] = {Nv(":status", http_status, kNoCopy), Nv("content-type", "application/grpc", kNoCopy),
                        Nv("grpc-status", CodeText(code), kNoCopy)};
  size_t n = 3;
  if (!message.empty()) head[n++] = Nv("grpc-message", message, NGHTTP2_NV_FLAG_NO_COPY_NAME);
  if (code == StatusCode::kUnimplemented) head[n++] = Nv("grpc-accept-encoding", "gzip", kNoCopy);
  nghttp2_submit_response(session_->frames(), id_, head, n, nullptr);
  session_->OutputReady();
}

void Http2Stream::SubmitTrailers() {
  static const nghttp2_nv kOk[] = {Nv("grpc-status", "0", kNoCopy)};
  if (status_ == StatusCode::kOk && status_text_.empty()) {
    nghttp2_submit_trailer(session_->frames(), id_, kOk, std::size(kOk));
    return;
  }
  std::string message = PercentEncode(status_text_);
  nghttp2_nv trailers[2] = {Nv("grpc-status", CodeText(status_), kNoCopy),
                            Nv("grpc-message", message, NGHTTP2_NV_FLAG_NO_COPY_NAME)};
  nghttp2_submit_trailer(session_->frames(), id_, trailers, message.empty() ? 1 : 2);
}

void Http2Stream::Close(StatusCode code, std::string_view text) {
  if (finishing_ || session_ == nullptr) return;
  if (!head_sent_) {
    SubmitTrailersOnly(code, text, "200");
    return;
  }
  finishing_ = true;
  status_ = code;
  status_text_ = text;
  Wake();
}

void Http2Stream::ResetStream(uint32_t error) {
  nghttp2_submit_rst_stream(session_->frames(), NGHTTP2_FLAG_NONE, id_, error);
  session_->OutputReady();
}

// What is queued does not reach the client any more.
void Http2Stream::CutShort(uint32_t error) {
  finishing_ = true;
  ResetStream(error);
}

ssize_t Http2Stream::Provide(size_t length, uint32_t* flags) {
  while (!to_make_.empty() && out_.size() < length) PullMessages();
  size_t n = std::min(length, out_.size());
  if (n == 0 && !finishing_) {
    deferred_ = true;
    return NGHTTP2_ERR_DEFERRED;
  }
  if (n > 0) *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
  if (finishing_ && n == out_.size() && to_make_.empty()) {
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (mode_ != Mode::kHttp) {
      *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
      SubmitTrailers();
    }
  }
  return static_cast<ssize_t>(n);
}

void Http2Stream::MoveOut(OutBuffer& out, size_t length) {
  out_.MoveTo(out, length);
  session_->AddQueued(-static_cast<ptrdiff_t>(length));
  if (mode_ == Mode::kHttp) {
    if (http_ != nullptr) http_->queued -= std::min(length, http_->queued.load());
    return;
  }
  if (mode_ == Mode::kUnary && parts_ == nullptr) return;
  size_t left = queued_.fetch_sub(length, std::memory_order_acq_rel) - length;
  if (left < session_->options().stream_low_bytes && above_high_mark_.load(std::memory_order_acquire)) {
    above_high_mark_.store(false, std::memory_order_release);
    writable_callback_due_ = true;
    session_->Defer(this);
  }
}

// ---- Streams, and answers in parts: what any thread may do.

void Http2Stream::WritePart(Message part) {
  const size_t size = part.size();
  Write({std::move(part), nullptr, size});
}

void Http2Stream::Write(Part part) {
  if (cancelled()) return;
  {
    std::lock_guard<std::mutex> lock(inbox_mutex_);
    if (inbox_finish_) return;
    // Before the message can be seen: its departure must find the mark.
    if (queued_.fetch_add(part.size, std::memory_order_acq_rel) + part.size >= high_bytes_) {
      above_high_mark_.store(true, std::memory_order_release);
    }
    inbox_.push_back(std::move(part));
  }
  Schedule();
}

void Http2Stream::Finish(StatusCode code, std::string message) {
  {
    std::lock_guard<std::mutex> lock(inbox_mutex_);
    if (inbox_finish_) return;
    inbox_finish_ = true;
    inbox_code_ = code;
    inbox_text_ = std::move(message);
  }
  Schedule();
}

void Http2Stream::BreakOff() {
  Finish(StatusCode::kInternal, "");
}

void Http2Stream::PauseReading() {
  paused_.store(true);
}

void Http2Stream::ResumeReading() {
  if (paused_.exchange(false)) Schedule();
}

void Http2Stream::TakeInbox() {
  bool finish;
  StatusCode code;
  std::string text;
  std::vector<Part> parts;
  {
    std::lock_guard<std::mutex> lock(inbox_mutex_);
    parts.swap(inbox_);
    finish = inbox_finish_;
    code = inbox_code_;
    text = inbox_text_;
  }
  if (session_ == nullptr || finishing_) return;
  for (Part& part : parts) Enqueue(std::move(part));
  if (!parts.empty()) {
    if (head_sent_) {
      Wake();
    } else {
      SubmitGrpcHead();
    }
  }
  if (finish) Close(code, text);
}

void Http2Stream::TakeParts() {
  std::vector<Part> parts;
  bool broken_off;
  {
    std::lock_guard<std::mutex> lock(inbox_mutex_);
    parts.swap(inbox_);
    broken_off = inbox_finish_;
  }
  if (session_ == nullptr || finishing_) return;
  bool too_long = false;
  for (Part& part : parts) {
    too_long = part.size > parts_left_;
    if (too_long) break;
    parts_left_ -= part.size;
    Enqueue(std::move(part.message), false);
  }
  if (too_long || (broken_off && parts_left_ > 0)) {
    KVD_LOG(kError, "a long answer is not as long as its beginning says: the call is broken off",
            {"method", path_}, {"missing-bytes", parts_left_});
    CutShort(NGHTTP2_INTERNAL_ERROR);
    MarkCancelled();
    return;
  }
  finishing_ = parts_left_ == 0;
  if (parts.empty()) return;
  if (head_sent_) {
    Wake();
  } else {
    SubmitGrpcHead();
  }
}

// ---- Plain HTTP.

void Http2Stream::StartHttp() {
  mode_ = Mode::kHttp;
  const Connection& connection = session_->connection();
  if (connection.listen().http && connection.config().router.FindGrpc(path_) == nullptr) return;
  HttpResponse response;
  response.status = 415;
  response.headers.emplace_back("content-type", "text/plain; charset=utf-8");
  response.body = Message(base::StrCat("invalid gRPC request content-type \"", content_type_, "\"\n"));
  HttpHead(std::move(response), true);
}

void Http2Stream::DispatchHttpRequest() {
  if (finishing_) return;
  HttpRequest request;
  request.method = http_method_;
  SetTarget(request, path_);
  request.host = authority_;
  for (const Header& header : headers_) request.headers.emplace_back(NameOf(header), ValueOf(header));
  if (request.host.empty()) request.host = std::string(request.Header("host"));
  request.body = std::move(body_);
  request.peer = *peer_;
  http_ = std::make_shared<HttpCallShared>();
  DispatchHttp(session_->connection().config().router, *thread_, std::move(request), http_,
               std::make_unique<Http2Sink>(this));
}

void Http2Stream::HttpHead(HttpResponse response, bool whole) {
  if (session_ == nullptr || head_sent_) return;
  std::string status = std::to_string(response.status);
  std::string length = std::to_string(response.body.size());
  std::vector<nghttp2_nv> head{Nv(":status", status, NGHTTP2_NV_FLAG_NO_COPY_NAME)};
  for (auto& [name, value] : response.headers) {
    absl::AsciiStrToLower(&name);
    head.push_back(Nv(name, value, NGHTTP2_NV_FLAG_NONE));
  }
  bool bodyless = response.status == 204 || response.status == 304;
  if (whole && !bodyless) head.push_back(Nv("content-length", length, NGHTTP2_NV_FLAG_NO_COPY_NAME));
  head_sent_ = true;
  finishing_ = whole;
  if (bodyless || http_method_ == "HEAD" || (whole && response.body.size() == 0)) {
    finishing_ = true;
    nghttp2_submit_response(session_->frames(), id_, head.data(), head.size(), nullptr);
  } else {
    Enqueue(std::move(response.body), false);
    nghttp2_data_provider provider = ProviderOf(this);
    nghttp2_submit_response(session_->frames(), id_, head.data(), head.size(), &provider);
  }
  session_->OutputReady();
}

void Http2Stream::HttpBody(Message part) {
  if (session_ == nullptr || finishing_ || part.size() == 0) return;
  Enqueue(std::move(part), false);
  Wake();
}

void Http2Stream::HttpEnd() {
  if (session_ == nullptr || finishing_) return;
  finishing_ = true;
  Wake();
}

}  // namespace kvd::net
