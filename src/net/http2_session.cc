#include "net/http2_session.h"

#include <string>
#include <utility>

#include "base/check.h"

namespace kvd::net {
namespace {

// Replies to the client's own control frames that may wait for the socket; more is an attack.
constexpr size_t kMaxQueuedAcks = 1000;
// Streams a client may reset at once, and then per second.
constexpr uint64_t kResetBurst = 10'000;
constexpr uint64_t kResetRate = 1'000;
// With so much output waiting for a socket that takes none, no more requests are read.
constexpr size_t kCongestedBytes = size_t{16} * 1024 * 1024;
// How long a client may take to confirm that it has seen the first GOAWAY.
constexpr base::Nanos kDrainNoticeTime = std::chrono::seconds(1);
constexpr uint8_t kDrainPing[8] = {'k', 'v', 'd', ' ', 'e', 'n', 'd', 's'};

std::string_view View(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

Http2Stream* StreamOf(nghttp2_session* frames, int32_t id) {
  return static_cast<Http2Stream*>(nghttp2_session_get_stream_user_data(frames, id));
}

nghttp2_option* Options() {
  static nghttp2_option* const options = [] {
    nghttp2_option* made;
    KVD_CHECK(nghttp2_option_new(&made) == 0, "out of memory");
    nghttp2_option_set_no_auto_window_update(made, 1);
    nghttp2_option_set_no_closed_streams(made, 1);
    // gRPC's clients in Go send a whole URL as :authority if they were given one as the address, and nghttp2
    // would reset the stream for it. FrameReceived looks at what we need of a request.
    nghttp2_option_set_no_http_messaging(made, 1);
    nghttp2_option_set_max_outbound_ack(made, kMaxQueuedAcks);
    nghttp2_option_set_stream_reset_rate_limit(made, kResetBurst, kResetRate);
    return made;
  }();
  return options;
}

}  // namespace

// nghttp2's view of a session.
struct Http2Callbacks {
  static ssize_t Send(nghttp2_session*, const uint8_t* data, size_t length, int, void* user) {
    OutBuffer& out = *static_cast<Http2Session*>(user)->out_;
    if (out.size() >= Session::kOutputBytes) return NGHTTP2_ERR_WOULDBLOCK;
    out.AppendCopy(View(data, length));
    return static_cast<ssize_t>(length);
  }

  static int SendData(nghttp2_session*, nghttp2_frame*, const uint8_t* header, size_t length,
                      nghttp2_data_source* source, void* user) {
    OutBuffer& out = *static_cast<Http2Session*>(user)->out_;
    if (out.size() >= Session::kOutputBytes) return NGHTTP2_ERR_WOULDBLOCK;
    out.AppendCopy(View(header, 9));
    static_cast<Http2Stream*>(source->ptr)->MoveOut(out, length);
    return 0;
  }

  static int BeginHeaders(nghttp2_session* frames, const nghttp2_frame* frame, void* user) {
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    auto* session = static_cast<Http2Session*>(user);
    Http2Stream* stream = Http2Stream::New(*session, frame->hd.stream_id);
    stream->previous_ = nullptr;
    stream->next_ = session->streams_;
    if (stream->next_ != nullptr) stream->next_->previous_ = stream;
    session->streams_ = stream;
    ++session->stream_count_;
    nghttp2_session_set_stream_user_data(frames, frame->hd.stream_id, stream);
    return 0;
  }

  static int Header(nghttp2_session* frames, const nghttp2_frame* frame, const uint8_t* name,
                    size_t name_size, const uint8_t* value, size_t value_size, uint8_t, void*) {
    // Trailers of a request say nothing to us.
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    Http2Stream* stream = StreamOf(frames, frame->hd.stream_id);
    if (stream == nullptr || stream->OnHeader(View(name, name_size), View(value, value_size))) return 0;
    nghttp2_submit_rst_stream(frames, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_FRAME_SIZE_ERROR);
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  }

  static int FrameReceived(nghttp2_session* frames, const nghttp2_frame* frame, void* user) {
    auto* session = static_cast<Http2Session*>(user);
    switch (frame->hd.type) {
      case NGHTTP2_HEADERS:
      case NGHTTP2_DATA: {
        Http2Stream* stream = StreamOf(frames, frame->hd.stream_id);
        if (stream == nullptr) return 0;
        if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
          if (!stream->names_a_request()) {
            nghttp2_submit_rst_stream(frames, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_PROTOCOL_ERROR);
            return 0;
          }
          stream->OnRequest();
        }
        if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) stream->OnRequestEnd();
        return 0;
      }
      case NGHTTP2_PING:
        session->OnPing(*frame);
        return 0;
      case NGHTTP2_SETTINGS:
        if (!session->established_) {
          session->established_ = true;
          session->connection_.Established();
        }
        return 0;
      default:
        return 0;
    }
  }

  static int DataChunk(nghttp2_session* frames, uint8_t, int32_t id, const uint8_t* data, size_t size,
                       void*) {
    nghttp2_session_consume_connection(frames, size);
    Http2Stream* stream = StreamOf(frames, id);
    if (stream != nullptr) stream->OnData(View(data, size));
    return 0;
  }

  static int FrameSent(nghttp2_session* frames, const nghttp2_frame* frame, void* user) {
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) return 0;
    static_cast<Http2Session*>(user)->ping_policy_.OnSent();
    if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) return 0;
    // The call is over although the client still talks: it may stop.
    Http2Stream* stream = StreamOf(frames, frame->hd.stream_id);
    if (stream != nullptr && !stream->request_ended_) {
      nghttp2_submit_rst_stream(frames, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
    }
    return 0;
  }

  static int StreamClosed(nghttp2_session* frames, int32_t id, uint32_t, void* user) {
    auto* session = static_cast<Http2Session*>(user);
    Http2Stream* stream = StreamOf(frames, id);
    if (stream != nullptr) Remove(*session, stream);
    return 0;
  }

  static void Remove(Http2Session& session, Http2Stream* stream) {
    if (stream->previous_ != nullptr) {
      stream->previous_->next_ = stream->next_;
    } else {
      session.streams_ = stream->next_;
    }
    if (stream->next_ != nullptr) stream->next_->previous_ = stream->previous_;
    stream->previous_ = stream->next_ = nullptr;
    --session.stream_count_;
    stream->OnClosed();  // defers its callbacks, holding a reference
    stream->Unref();
  }

  static nghttp2_session_callbacks* Table() {
    static nghttp2_session_callbacks* const table = [] {
      nghttp2_session_callbacks* made;
      KVD_CHECK(nghttp2_session_callbacks_new(&made) == 0, "out of memory");
      nghttp2_session_callbacks_set_send_callback(made, Send);
      nghttp2_session_callbacks_set_send_data_callback(made, SendData);
      nghttp2_session_callbacks_set_on_begin_headers_callback(made, BeginHeaders);
      nghttp2_session_callbacks_set_on_header_callback(made, Header);
      nghttp2_session_callbacks_set_on_frame_recv_callback(made, FrameReceived);
      nghttp2_session_callbacks_set_on_data_chunk_recv_callback(made, DataChunk);
      nghttp2_session_callbacks_set_on_frame_send_callback(made, FrameSent);
      nghttp2_session_callbacks_set_on_stream_close_callback(made, StreamClosed);
      return made;
    }();
    return table;
  }
};

std::unique_ptr<Session> NewHttp2Session(Connection& connection) {
  return std::make_unique<Http2Session>(connection);
}

Http2Session::Http2Session(Connection& connection)
    : connection_(connection),
      ping_policy_(options().keepalive_min_time, options().keepalive_permit_without_stream),
      last_received_(connection.thread().Now()) {
  int result = nghttp2_session_server_new2(&frames_, Http2Callbacks::Table(), this, Options());
  KVD_CHECK(result == 0, "out of memory");
  const FrontDoorOptions& o = options();
  nghttp2_settings_entry settings[3] = {
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, o.stream_window_bytes},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, o.max_header_list_bytes},
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, o.max_concurrent_streams},
  };
  nghttp2_submit_settings(frames_, NGHTTP2_FLAG_NONE, settings,
                          o.max_concurrent_streams == UINT32_MAX ? 2 : 3);
  nghttp2_session_set_local_window_size(frames_, NGHTTP2_FLAG_NONE, 0,
                                        static_cast<int32_t>(o.connection_window_bytes));
  ArmKeepalive();
}

Http2Session::~Http2Session() {
  nghttp2_session_del(frames_);
}

Session::After Http2Session::Receive(std::string_view data) {
  last_received_ = connection_.thread().Now();
  keepalive_sent_ = false;
  ssize_t n = nghttp2_session_mem_recv(frames_, reinterpret_cast<const uint8_t*>(data.data()), data.size());
  RunDeferred();
  if (n < 0) return After::kBroken;  // not HTTP/2, or a flood; ordinary errors have queued a GOAWAY
  return going_away_ ? After::kClosing : After::kOpen;
}

void Http2Session::Produce(OutBuffer& out) {
  out_ = &out;
  if (nghttp2_session_send(frames_) != 0) going_away_ = true;
  out_ = nullptr;
  RunDeferred();
}

void Http2Session::RunDeferred() {
  std::vector<Http2Stream::Ref> due;
  while (!deferred_.empty()) {
    due.swap(deferred_);
    for (Http2Stream::Ref& stream : due) stream->RunCallbacks();
    due.clear();
  }
}

bool Http2Session::finished() const {
  if (nghttp2_session_want_write(frames_) != 0) return false;
  return nghttp2_session_want_read(frames_) == 0 || (draining_ == Draining::kFinal && stream_count_ == 0);
}

bool Http2Session::congested(bool blocked) const {
  return blocked && queued_bytes_ > kCongestedBytes;
}

void Http2Session::OnPing(const nghttp2_frame& frame) {
  if ((frame.hd.flags & NGHTTP2_FLAG_ACK) != 0) {
    if (draining_ == Draining::kNoticeSent && View(frame.ping.opaque_data, 8) == View(kDrainPing, 8)) {
      OnTimer();
    }
    return;
  }
  if (!ping_policy_.OnPing(connection_.thread().Now(), stream_count_ > 0)) {
    SendAway(NGHTTP2_ENHANCE_YOUR_CALM, "too_many_pings");
  }
}

void Http2Session::SendAway(uint32_t error, std::string_view why) {
  nghttp2_submit_goaway(frames_, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(frames_), error,
                        reinterpret_cast<const uint8_t*>(why.data()), why.size());
  going_away_ = true;
}

void Http2Session::ArmKeepalive() {
  connection_.thread().Arm(*this, last_received_ + options().keepalive_interval);
}

void Http2Session::OnTimer() {
  if (draining_ == Draining::kNoticeSent) {
    draining_ = Draining::kFinal;
    Disarm();
    nghttp2_submit_goaway(frames_, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(frames_),
                          NGHTTP2_NO_ERROR, nullptr, 0);
    connection_.OutputReady();
    return;
  }
  if (draining_ == Draining::kFinal) return;
  if (keepalive_sent_) {
    connection_.Close();  // and with it this session
    return;
  }
  base::Nanos now = connection_.thread().Now();
  if (now < last_received_ + options().keepalive_interval) {
    ArmKeepalive();
    return;
  }
  keepalive_sent_ = true;
  nghttp2_submit_ping(frames_, NGHTTP2_FLAG_NONE, nullptr);
  connection_.OutputReady();
  connection_.thread().Arm(*this, now + options().keepalive_timeout);
}

void Http2Session::Drain() {
  if (draining_ != Draining::kNo) return;
  draining_ = Draining::kNoticeSent;
  nghttp2_submit_shutdown_notice(frames_);
  nghttp2_submit_ping(frames_, NGHTTP2_FLAG_NONE, kDrainPing);
  connection_.thread().Arm(*this, connection_.thread().Now() + kDrainNoticeTime);
}

void Http2Session::Lost() {
  Disarm();
  while (streams_ != nullptr) {
    Http2Stream* stream = streams_;
    nghttp2_session_set_stream_user_data(frames_, stream->id(), nullptr);
    Http2Callbacks::Remove(*this, stream);
  }
  RunDeferred();
}

}  // namespace kvd::net
