// One HTTP/2 stream: a gRPC call of any kind, or a plain HTTP request.
//
// Thread-safety: what UnaryCall::State, StreamCall and HttpCall offer may be called from any thread and
// reaches the I/O thread through its queue; everything else runs on the I/O thread. Ownership: counted
// references, held by the session while the stream is open, by the handles to the call, and by work under way
// to the I/O thread. The objects are pooled per I/O thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "net/grpc_call.h"
#include "net/grpc_wire.h"
#include "net/http_responder.h"
#include "net/io_thread.h"
#include "net/out_buffer.h"
#include "net/router.h"
#include "net/timer_wheel.h"

namespace kvd::net {

class Http2Session;

class Http2Stream final : public UnaryCall::State, private WorkNode, private WheelTimer {
 public:
  class Ref {
   public:
    Ref() = default;
    explicit Ref(Http2Stream* stream) : stream_(stream) {
      if (stream_ != nullptr) stream_->AddRef();
    }
    Ref(Ref&& other) noexcept : stream_(std::exchange(other.stream_, nullptr)) {}
    Ref(const Ref& other) : Ref(other.stream_) {}
    Ref& operator=(Ref other) noexcept {
      std::swap(stream_, other.stream_);
      return *this;
    }
    ~Ref() {
      if (stream_ != nullptr) stream_->Unref();
    }
    Http2Stream* operator->() const { return stream_; }
    Http2Stream* get() const { return stream_; }

   private:
    Http2Stream* stream_ = nullptr;
  };

  // With one reference, the session's.
  static Http2Stream* New(Http2Session& session, int32_t id);

  // What arrives, from nghttp2's callbacks. OnHeader: false if the headers have become too large.
  bool OnHeader(std::string_view name, std::string_view value);
  bool names_a_request() const { return !http_method_.empty() && !path_.empty(); }
  void OnRequest();  // the headers are complete, and name a request
  void OnData(std::string_view data);
  void OnRequestEnd();
  // The stream is gone from the session, which drops its reference after RunCallbacks.
  void OnClosed();
  // Runs the callbacks that came due while nghttp2 was on the stack.
  void RunCallbacks();

  // What is sent: nghttp2's data source.
  ssize_t Provide(size_t length, uint32_t* flags);
  void MoveOut(OutBuffer& out, size_t length);

  int32_t id() const { return id_; }

  // UnaryCall::State and CallContext.
  std::string_view method() const override { return path_; }
  std::optional<std::string_view> metadata(std::string_view key) const override;
  base::Nanos deadline() const override { return deadline_; }
  std::string_view peer() const override { return *peer_; }
  bool cancelled() const override { return cancelled_.load(std::memory_order_relaxed); }
  base::Executor& executor() const override { return *thread_; }
  std::string_view request() const override { return assembler_.message(); }
  void OnCancelled(base::Task task) override;
  void Answer(StatusCode code, std::string error, Message reply) override;
  void AnswerInParts(uint64_t size, std::shared_ptr<WriteEvents> events) override;
  void WritePart(Message part) override;
  void BreakOff() override;
  size_t queued_bytes() const override { return queued_.load(std::memory_order_relaxed); }
  void AddHandle() override { handles_.fetch_add(1, std::memory_order_relaxed); }
  void DropHandle() override;

  // StreamCall.
  // A part of the response of `size` bytes: messages with their prefixes, or one without.
  struct Part {
    Message message;
    std::unique_ptr<MessageSource> source;  // instead of it
    size_t size;
  };
  void Write(Part part);
  void Finish(StatusCode code, std::string message);
  void PauseReading();
  void ResumeReading();

  // HttpSink.
  void HttpHead(HttpResponse response, bool whole);
  void HttpBody(Message part);
  void HttpEnd();

 private:
  friend class Http2Session;
  friend struct Http2Callbacks;
  enum class Mode { kNone, kUnary, kServerStream, kBidi, kHttp, kRefused };
  struct Header {
    uint32_t name, name_size, value, value_size;  // offsets into header_bytes_
  };

  explicit Http2Stream(IoThread& thread) : thread_(&thread) {}
  ~Http2Stream() override = default;
  void AddRef() { refs_.fetch_add(1, std::memory_order_relaxed); }
  void Unref() {
    if (refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) Recycle();
  }
  void Recycle();
  void Reset();

  void Run(bool stopped) override;  // work from another thread
  void OnTimer() override;          // the deadline
  void Schedule();
  void Process();
  void TakeInbox();
  void TakeParts();
  void PublishAnswer();
  void ApplyAnswer();

  std::string_view NameOf(const Header& h) const { return {header_bytes_.data() + h.name, h.name_size}; }
  std::string_view ValueOf(const Header& h) const { return {header_bytes_.data() + h.value, h.value_size}; }
  void StartGrpc();
  void StartHttp();
  void FeedGrpc(std::string_view data);
  void DeliverHeld();
  void OnMessage();
  void DeliverEnd();
  void DispatchHttpRequest();
  void Consume(size_t bytes);

  void Enqueue(Message message, bool framed);
  void EnqueuePrefix(uint64_t message_bytes);
  void EnqueueMessage(Part& part);
  void Enqueue(Part part);
  void PullMessages();
  void SubmitGrpcHead();
  void Close(StatusCode code, std::string_view text);  // ends a gRPC call from the I/O thread
  void SubmitTrailersOnly(StatusCode code, std::string_view text, const char* http_status);
  void SubmitTrailers();
  void ResetStream(uint32_t error);
  void CutShort(uint32_t error);  // ends a call whose answer has begun
  WriteEvents* events() const;    // of whoever writes the answer; null: nobody wants them
  void Wake();
  void MarkCancelled();

  std::atomic<uint32_t> refs_{1};
  std::atomic<uint32_t> handles_{0};
  IoThread* const thread_;
  size_t high_bytes_ = 0;            // FrontDoorOptions::stream_high_bytes
  Http2Session* session_ = nullptr;  // null once the stream is closed
  Http2Stream* previous_ = nullptr;  // among the open streams of the session
  Http2Stream* next_ = nullptr;
  int32_t id_ = 0;
  Mode mode_ = Mode::kNone;
  const GrpcMethod* grpc_ = nullptr;
  std::shared_ptr<const std::string> peer_;

  // The request.
  std::string http_method_, path_, authority_;
  std::string content_type_, timeout_, encoding_;
  std::string header_bytes_;
  std::vector<Header> headers_;
  size_t header_list_bytes_ = 0;
  base::Nanos deadline_ = base::Nanos::max();
  MessageAssembler assembler_;
  bool request_ended_ = false;
  bool end_delivered_ = false;
  bool got_message_ = false;
  std::string body_;  // plain HTTP

  // The handler of a stream.
  std::shared_ptr<StreamHandler> handler_;
  base::Task on_cancelled_;
  std::shared_ptr<HttpCallShared> http_;
  std::atomic<bool> cancelled_{false};
  std::atomic<bool> paused_{false};
  std::string held_;      // data that came while paused
  bool feeding_ = false;  // messages are being delivered further up the stack
  bool closed_callback_due_ = false;
  bool writable_callback_due_ = false;

  // The answer to a unary call, written by the answering thread before answer_ready_.
  std::atomic<bool> answer_claimed_{false};
  std::atomic<bool> answer_ready_{false};
  StatusCode answer_code_ = StatusCode::kOk;
  std::string answer_error_;
  Message answer_;
  std::shared_ptr<WriteEvents> answer_events_;  // instead of answer_: it comes in parts
  uint64_t answer_size_ = 0;                    // of all parts
  // The same once it is applied, on the I/O thread.
  bool answer_applied_ = false;
  std::shared_ptr<WriteEvents> parts_;
  uint64_t parts_left_ = 0;  // bytes that are still to come

  // What other threads wrote to a stream, or to an answer in parts.
  std::mutex inbox_mutex_;
  std::vector<Part> inbox_;                  // guarded by inbox_mutex_
  bool inbox_finish_ = false;                // guarded by inbox_mutex_
  StatusCode inbox_code_ = StatusCode::kOk;  // guarded by inbox_mutex_
  std::string inbox_text_;                   // guarded by inbox_mutex_
  std::atomic<bool> scheduled_{false};
  std::atomic<size_t> queued_{0};
  std::atomic<bool> above_high_mark_{false};

  // The response: what is in out_, then what is still to be made, from to_make_[made_] on.
  OutBuffer out_;
  std::vector<Part> to_make_;
  size_t made_ = 0;
  size_t to_make_bytes_ = 0;
  bool head_sent_ = false;
  bool deferred_ = false;   // nghttp2 waits for resume_data
  bool finishing_ = false;  // nothing follows what is in out_
  StatusCode status_ = StatusCode::kOk;
  std::string status_text_;
};

}  // namespace kvd::net
