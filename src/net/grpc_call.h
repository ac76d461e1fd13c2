// A gRPC call as its handler sees it.
//
// Thread: handlers and all callbacks run on the I/O thread of the connection and must not block. Everything
// on UnaryCall and StreamCall may be called from any thread; what is sent from one thread arrives in that
// order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "base/clock.h"
#include "base/executor.h"
#include "net/message.h"
#include "net/status_code.h"

namespace kvd::net {

// What unary and streaming calls have in common.
class CallContext {
 public:
  // "/package.Service/Method"
  virtual std::string_view method() const = 0;
  // The first value of a request metadata key (lower case); nullopt if it was not sent. Keys that end in
  // "-bin" are returned as they were sent (base64). Valid as long as the call object.
  virtual std::optional<std::string_view> metadata(std::string_view key) const = 0;
  // On SystemClock's monotonic clock; Nanos::max() if the client gave none. When it passes, the front door
  // answers DEADLINE_EXCEEDED by itself and the call counts as cancelled.
  virtual base::Nanos deadline() const = 0;
  // "address:port" of the client.
  virtual std::string_view peer() const = 0;
  // True once an answer no longer reaches the client: reset by the client, deadline passed, or connection
  // lost.
  virtual bool cancelled() const = 0;
  // The I/O thread of the connection.
  virtual base::Executor& executor() const = 0;

 protected:
  ~CallContext() = default;
};

// What whoever writes a long answer hears of its departure, on the connection's I/O thread. The front door
// holds it until OnClosed.
class WriteEvents {
 public:
  virtual ~WriteEvents() = default;
  // queued_bytes() fell below FrontDoorOptions::stream_low_bytes after it had reached the high mark.
  virtual void OnWritable() {}
  // The last callback, exactly once: finished, cancelled, reset or connection lost.
  virtual void OnClosed() = 0;
};

// Messages of a stream that are made while the client takes them. Used and dropped on the I/O thread of the
// connection, or dropped unused by the thread that drops the call.
class MessageSource {
 public:
  virtual ~MessageSource() = default;
  // The next messages, each behind its length prefix (StoreGrpcPrefix): as many as make up about `max_bytes`,
  // at least one.
  virtual Message Next(size_t max_bytes) = 0;
};

// A handle to one call with one request and one answer. Cheap to move; copies share the call. If the last
// handle goes away unanswered, the client gets UNAVAILABLE.
class UnaryCall {
 public:
  // The call itself: the front door's, or a test's or gateway's own.
  class State : public CallContext {
   public:
    virtual std::string_view request() const = 0;
    virtual void OnCancelled(base::Task task) = 0;
    virtual void Answer(StatusCode code, std::string error, Message reply) = 0;
    virtual void AnswerInParts(uint64_t size, std::shared_ptr<WriteEvents> events) = 0;
    virtual void WritePart(Message part) = 0;
    virtual void BreakOff() = 0;
    virtual size_t queued_bytes() const = 0;
    // Handles are counted by the state; a new state has one, which UnaryCall(State*) takes over.
    virtual void AddHandle() = 0;
    virtual void DropHandle() = 0;

   protected:
    ~State() = default;
  };

  explicit UnaryCall(State* state) : state_(state) {}
  UnaryCall(UnaryCall&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
  UnaryCall(const UnaryCall& other) : state_(other.state_) {
    if (state_ != nullptr) state_->AddHandle();
  }
  UnaryCall& operator=(UnaryCall other) noexcept {
    std::swap(state_, other.state_);
    return *this;
  }
  ~UnaryCall() {
    if (state_ != nullptr) state_->DropHandle();
  }

  // The encoded request message; valid while this handle (or a copy) lives, also after the answer.
  std::string_view request() const { return state_->request(); }
  std::string_view method() const { return state_->method(); }
  std::optional<std::string_view> metadata(std::string_view key) const { return state_->metadata(key); }
  base::Nanos deadline() const { return state_->deadline(); }
  std::string_view peer() const { return state_->peer(); }
  bool cancelled() const { return state_->cancelled(); }
  base::Executor& executor() const { return state_->executor(); }
  // Only from within the handler: runs `task` on the I/O thread when the call is cancelled before it was
  // answered.
  void OnCancelled(base::Task task) const { state_->OnCancelled(std::move(task)); }

  // Exactly one of these, once. A cancelled call may still be answered; the answer is dropped.
  void Reply(Message message) const { state_->Answer(StatusCode::kOk, std::string(), std::move(message)); }
  // A reply that is too long to be held: its bytes, `size` of them, follow through WritePart, made while the
  // client takes them. `events` gets OnClosed whatever becomes of the call.
  void ReplyInParts(uint64_t size, std::shared_ptr<WriteEvents> events) const {
    state_->AnswerInParts(size, std::move(events));
  }
  void Fail(StatusCode code, std::string message) const {
    state_->Answer(code, std::move(message), Message());
  }

  // After ReplyInParts, from one thread. The parts make `size` bytes: with more, or with BreakOff before
  // there are so many, the stream is reset, and the client has no message.
  void WritePart(Message part) const { state_->WritePart(std::move(part)); }
  void BreakOff() const { state_->BreakOff(); }
  // Bytes of the parts that the peer's window has not yet taken. Whoever writes them stops at
  // FrontDoorOptions::stream_high_bytes and goes on at OnWritable.
  size_t queued_bytes() const { return state_->queued_bytes(); }

  explicit operator bool() const { return state_ != nullptr; }

 private:
  State* state_;
};

// The server's end of a stream: bidirectional, client- or server-streaming. Dropping every pointer to it
// without Finish does not end the stream.
class StreamCall : public CallContext {
 public:
  virtual ~StreamCall() = default;

  // Queues one message. Ignored after Finish and once the stream is closed.
  virtual void Write(Message message) = 0;
  // Queues messages that have their length prefixes, any number of them.
  virtual void WriteFramed(Message messages) = 0;
  // The same, made when they are sent: `size` bytes in all.
  virtual void WriteFrom(size_t size, std::unique_ptr<MessageSource> source) = 0;
  // Ends the stream after what is queued; then OnClosed follows. Later calls are ignored.
  virtual void Finish(StatusCode code, std::string message) = 0;
  // Bytes that were written and not yet taken by the peer's window. A producer stops at
  // FrontDoorOptions::stream_high_bytes and goes on at OnWritable.
  virtual size_t queued_bytes() const = 0;
  // Messages are held back, and the client's window stays closed for what it sends, until ResumeReading.
  virtual void PauseReading() = 0;
  virtual void ResumeReading() = 0;
};

// Receives the events of one stream, on the connection's I/O thread. OnClosed comes once for every stream.
class StreamHandler : public WriteEvents {
 public:
  // One whole message.
  virtual void OnMessage(std::string_view message) = 0;
  // The client sends no more messages.
  virtual void OnHalfClose() = 0;
};

using UnaryHandler = absl::AnyInvocable<void(UnaryCall call) const>;
// The request has arrived whole; `request` is valid during the call only. The result may be null if the
// handler wants no events.
using ServerStreamHandler = absl::AnyInvocable<std::shared_ptr<StreamHandler>(
    std::string_view request, std::shared_ptr<StreamCall> call) const>;
// The headers have arrived; messages follow through the StreamHandler. Client-streaming methods too. Null:
// the handler has called Finish already.
using BidiHandler =
    absl::AnyInvocable<std::shared_ptr<StreamHandler>(std::shared_ptr<StreamCall> call) const>;

}  // namespace kvd::net
