#include "server/api/list.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "base/log.h"
#include "base/protobuf_wire.h"
#include "net/grpc_server.h"
#include "server/api/kv_requests.h"
#include "server/api/services.h"
#include "storage/store.h"

namespace kvd::server {
namespace {

// An answer that looks at no more keys than this is made where it was asked for, if it is not longer than one
// slice: handing it over would cost more.
constexpr int64_t kShortList = 1024;
// What a list reads before others have their turn.
constexpr size_t kSliceBytes = size_t{256} * 1024;
// No more than this, and one slice, waits for the client.
constexpr size_t kAheadBytes = size_t{1} << 20;
// A list that waits longer for its client holds no iterator meanwhile, and none holds one for longer than the
// second time: with it RocksDB keeps what it has flushed since.
constexpr base::Nanos kRestAfter = std::chrono::milliseconds(100);
constexpr base::Nanos kRestEvery = std::chrono::seconds(1);
static_assert(kAheadBytes >= net::FrontDoorOptions{}.stream_high_bytes, "OnWritable must follow");

std::string HeadOf(const Node& node, const storage::RangeCursor& cursor) {
  std::string head;
  AppendResponseHeader(head, node.Header(cursor.header_revision()));
  return head;
}

std::string TailOf(const storage::RangeCursor& cursor) {
  std::string tail;
  AppendBoolField(tail, 3, cursor.more());
  AppendInt64Field(tail, 4, cursor.count());
  return tail;
}

// What unary and streamed lists have in common: slices are made while there is room for them. All of it runs
// on the executor, but for what the connection's thread calls: Start, Resume and Stop.
class ListMaker : public std::enable_shared_from_this<ListMaker> {
 public:
  ListMaker(Node& node, base::Executor& executor) : node_(node), executor_(executor) {}
  virtual ~ListMaker() = default;

  // The executor may be of low priority: what holds locks of the store that puts want is done here, unless
  // it is long.
  void Start(const storage::RangeCost& cost) {
    if (cost.keys_before > kShortList || Open()) GoOnWith(std::move(cursor_));
  }
  void GoOnWith(std::unique_ptr<storage::RangeCursor> cursor) {
    cursor_ = std::move(cursor);
    Post(&ListMaker::Run);
  }
  void Resume() { Post(&ListMaker::GoOn); }
  void Stop() {
    closed_.store(true, std::memory_order_release);
    Post(&ListMaker::Drop);
  }

 protected:
  virtual std::string_view request() const = 0;
  virtual bool cancelled() const = 0;
  virtual void Refuse(Error error) = 0;
  virtual void Opened() {}
  virtual size_t queued_bytes() const = 0;
  // Makes the next slice and writes it. False: there are no more.
  virtual bool WriteSlice() = 0;

  Node& node_;
  std::unique_ptr<storage::RangeCursor> cursor_;  // null: not yet, or no more

 private:
  void Post(void (ListMaker::*step)()) {
    executor_.Post([self = shared_from_this(), step] { (self.get()->*step)(); });
  }

  bool Open() {
    RangeCall range;
    ReadRange(request(), &range);
    storage::StoreError error = storage::StoreError::kNone;
    cursor_ = node_.store().OpenRange(range.args, &error);
    if (cursor_ == nullptr) Refuse(ToError(error));
    return cursor_ != nullptr;
  }
  void Run() {
    if (closed_.load(std::memory_order_acquire) || cancelled()) return Drop();
    if (cursor_ == nullptr && !Open()) return;
    Opened();
    rested_ = executor_.clock().Monotonic();
    Pump();
  }
  void GoOn() {
    if (std::exchange(waiting_, false)) Pump();
  }
  void Pump() {
    if (closed_.load(std::memory_order_acquire)) return;
    if (queued_bytes() >= kAheadBytes) {
      waiting_ = true;
      ++waits_;
      WatchWait();
      return;
    }
    if (const base::Nanos now = executor_.clock().Monotonic(); now - rested_ >= kRestEvery) {
      rested_ = now;
      cursor_->Rest();
    }
    if (WriteSlice()) {
      Post(&ListMaker::Pump);
    } else {
      cursor_.reset();
    }
  }
  void Drop() { cursor_.reset(); }
  void WatchWait() {
    if (std::exchange(watching_, true)) return;
    executor_.PostAfter(kRestAfter, [self = shared_from_this(), wait = waits_] {
      self->watching_ = false;
      if (!self->waiting_ || self->cursor_ == nullptr) return;
      if (self->waits_ == wait) return self->cursor_->Rest();
      self->WatchWait();
    });
  }

  base::Executor& executor_;
  std::atomic<bool> closed_{false};
  bool waiting_ = false;  // for Resume
  uint64_t waits_ = 0;
  bool watching_ = false;  // whether one of them is long
  base::Nanos rested_{};
};

class UnaryList final : public ListMaker, public net::WriteEvents {
 public:
  UnaryList(Node& node, base::Executor& executor, net::UnaryCall call)
      : ListMaker(node, executor), call_(std::move(call)) {}

  // The list has begun with `made`.
  void Continue(std::unique_ptr<storage::RangeCursor> cursor, std::string made) {
    slice_ = std::move(made);
    GoOnWith(std::move(cursor));
  }

  void OnWritable() override { Resume(); }
  void OnClosed() override { Stop(); }

 private:
  std::string_view request() const override { return call_.request(); }
  bool cancelled() const override { return call_.cancelled(); }
  void Refuse(Error error) override { Fail(call_, error); }

  void Opened() override {
    const std::string head = HeadOf(node_, *cursor_);
    tail_ = TailOf(*cursor_);
    left_ = head.size() + cursor_->total_bytes() + tail_.size();
    slice_.insert(0, head);
    call_.ReplyInParts(left_, std::static_pointer_cast<UnaryList>(shared_from_this()));
  }

  size_t queued_bytes() const override { return call_.queued_bytes(); }

  bool WriteSlice() override {
    slice_.reserve(slice_.size() + slice_bytes_);
    cursor_->Next(0, kSliceBytes, &slice_);
    slice_bytes_ = slice_.size() + slice_.size() / 8;
    const bool done = cursor_->done();
    if (done) slice_ += tail_;
    if (done ? slice_.size() != left_ : slice_.size() >= left_) {
      KVD_LOG(kError, "a list is not as long as the index says: the call is broken off",
              {"revision", cursor_->revision()}, {"expected-bytes", left_}, {"made-bytes", slice_.size()});
      call_.BreakOff();
      return false;
    }
    left_ -= slice_.size();
    call_.WritePart(net::Message(std::exchange(slice_, {})));
    return !done;
  }

  const net::UnaryCall call_;
  std::string tail_;
  uint64_t left_ = 0;  // bytes of the answer that are not written yet
  std::string slice_;
  size_t slice_bytes_ = 0;  // what the next is likely to need
};

class StreamedList final : public ListMaker, public ListStream {
 public:
  StreamedList(Node& node, base::Executor& executor, std::shared_ptr<net::StreamCall> call,
               std::string request, uint64_t chunk_bytes)
      : ListMaker(node, executor),
        call_(std::move(call)),
        request_(std::move(request)),
        chunk_bytes_(std::min<uint64_t>(chunk_bytes, kSliceBytes)) {}

  void Begin() override {
    RangeCall range;
    ReadRange(request_, &range);
    Start(node_.store().EstimateRange(range.args));
  }
  void OnMessage(std::string_view) override {}
  void OnHalfClose() override {}
  void OnWritable() override { Resume(); }
  void OnClosed() override { Stop(); }

 private:
  static constexpr size_t kFirstChunkKeys = 10;

  std::string_view request() const override { return request_; }
  bool cancelled() const override { return call_->cancelled(); }
  void Refuse(Error error) override { Finish(*call_, error); }
  size_t queued_bytes() const override { return call_->queued_bytes(); }

  bool WriteSlice() override {
    std::string fields;
    fields.reserve(likely_bytes_);
    const size_t keys = cursor_->Next(chunk_keys_, chunk_bytes_, &fields);
    likely_bytes_ = fields.size() + fields.size() / 8;
    if (fields.size() < chunk_bytes_ / 2) {
      chunk_keys_ *= 2;
    } else if (keys > 1) {
      chunk_keys_ = keys;
    }
    const bool done = cursor_->done();
    if (done) fields = HeadOf(node_, *cursor_) + fields + TailOf(*cursor_);
    std::string head;  // RangeStreamResponse{range_response = 1}
    base::AppendLength(head, 1, fields.size());
    net::Message message(std::move(head));
    message.Append(net::Piece(std::move(fields)));
    call_->Write(std::move(message));
    if (done) call_->Finish(net::StatusCode::kOk, "");
    return !done;
  }

  const std::shared_ptr<net::StreamCall> call_;
  const std::string request_;
  const uint64_t chunk_bytes_;
  size_t chunk_keys_ = kFirstChunkKeys;
  size_t likely_bytes_ = 0;  // of the next chunk
};

// Reads up to a slice. If that is not all, an executor goes on.
void AnswerFew(Node& node, base::Executor& lists, const storage::RangeArgs& args,
               const net::UnaryCall& call) {
  storage::StoreError error = storage::StoreError::kNone;
  std::unique_ptr<storage::RangeCursor> cursor = node.store().OpenRange(args, &error);
  if (cursor == nullptr) return Fail(call, ToError(error));
  std::string body;
  if (!cursor->done()) cursor->Next(0, kSliceBytes, &body);
  if (!cursor->done()) {
    return std::make_shared<UnaryList>(node, lists, call)->Continue(std::move(cursor), std::move(body));
  }
  body += TailOf(*cursor);
  call.Reply(WithHeader(node.Header(cursor->header_revision()), std::move(body)));
}

}  // namespace

void AnswerRange(Node& node, base::Executor& lists, const net::UnaryCall& call) {
  RangeCall range;
  ReadRange(call.request(), &range);  // read before: cheaper again than carried along
  const storage::RangeArgs& args = range.args;
  const storage::RangeCost cost = node.store().EstimateRange(args);
  if (std::max(cost.keys_before, cost.keys_given) > kShortList) {
    std::make_shared<UnaryList>(node, lists, call)->Start(cost);
    return;
  }
  if (!args.range_end.empty() && !args.count_only) return AnswerFew(node, lists, args, call);
  storage::OpResult result;
  node.store().Range(args, &result);
  if (!result.ok()) return Fail(call, ToError(result.error));
  call.Reply(WithHeader(node.Header(result.revision), std::move(result.body)));
}

std::shared_ptr<ListStream> ListStream::New(Node& node, base::Executor& lists,
                                            std::shared_ptr<net::StreamCall> call, std::string request,
                                            uint64_t chunk_bytes) {
  return std::make_shared<StreamedList>(node, lists, std::move(call), std::move(request), chunk_bytes);
}

}  // namespace kvd::server
