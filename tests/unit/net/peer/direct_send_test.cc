// Messages that the thread which has them writes to the socket itself, and when it does not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <latch>
#include <thread>

#include "net/http_body_reader.h"
#include "net/peer/message_codec.h"
#include "net/peer/peer_transport.h"
#include "net/tls/tls_context.h"
#include "test_peers.h"
#include "tls/certificates.h"

namespace kvd::net {
namespace {

using ::testing::HasSubstr;

// Keeps a peer's I/O thread from doing anything until Release.
class HeldThread {
 public:
  explicit HeldThread(TestPeer& peer) {
    std::latch held(1);
    peer.threads->executor(0).Post([this, &held] {
      held.count_down();
      released_.wait();
      gone_.count_down();
    });
    held.wait();
  }
  ~HeldThread() { Release(); }
  void Release() {
    if (std::exchange(is_released_, true)) return;
    released_.count_down();
    gone_.wait();
  }

 private:
  bool is_released_ = false;
  std::latch released_{1}, gone_{1};
};

OutgoingMessage Heartbeat(uint64_t index) {
  return TestMessage(raftpb::MsgHeartbeat, 1, 2, index);
}

std::vector<uint64_t> Indexes(RecordingHandler& handler) {
  std::lock_guard lock(handler.mutex);
  std::vector<uint64_t> out;
  for (const raftpb::Message& m : handler.messages) out.push_back(m.index());
  return out;
}

// A stream of appends of member 2, on a socket of the test.
std::unique_ptr<RawSocket> OpenAppends(TestPeer& a) {
  auto socket = std::make_unique<RawSocket>(a.port);
  socket->Send(
      "GET /raft/stream/msgapp/2 HTTP/1.1\r\nHost: a\r\nX-Server-From: 2\r\nX-Server-Version: 3.5.0\r\n"
      "X-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-ID: abcdef\r\nX-Raft-To: 1\r\n\r\n");
  EXPECT_THAT(socket->ReadUntil("\r\n\r\n"), HasSubstr("200 OK"));
  EXPECT_TRUE(Eventually([&] { return a.transport->Counters(2)->stream_msgapp; }));
  return socket;
}

TEST(DirectSend, AFewMessages_GoOutWithoutTheIoThread) {
  TestPeer a(1), b(2);
  Join(a, b);
  ASSERT_TRUE(a.WaitForStreams(2));
  // What the I/O thread still has to do for a stream that is new, it has done once something came through.
  a.Send(2, {Heartbeat(1), TestMessage(raftpb::MsgApp, 1, 2, 1, "x")});
  ASSERT_TRUE(b.handler.WaitFor([](RecordingHandler& h) { return h.messages.size() == 2; }));
  HeldThread held(a);
  a.Send(2, {TestMessage(raftpb::MsgApp, 1, 2, 2, "y")});
  a.Send(2, {Heartbeat(2)});
  EXPECT_TRUE(b.handler.WaitFor([](RecordingHandler& h) { return h.messages.size() == 4; }));
  EXPECT_EQ(a.transport->Counters(2)->queued_messages, 0u);
}

TEST(DirectSend, ManyMessages_AreLeftToTheIoThread_AndOvertakenByNone) {
  TestPeer a(1), b(2);
  Join(a, b);
  ASSERT_TRUE(a.WaitForStreams(2));
  std::vector<uint64_t> expected;
  std::vector<OutgoingMessage> many;
  for (uint64_t i = 0; i < 100; ++i) many.push_back(Heartbeat(i));
  for (uint64_t i = 0; i < 102; ++i) expected.push_back(i);
  HeldThread held(a);
  a.Send(2, std::move(many));
  EXPECT_EQ(a.transport->Counters(2)->queued_messages, 100u);
  a.Send(2, {Heartbeat(100)});
  held.Release();
  a.Send(2, {Heartbeat(101)});
  ASSERT_TRUE(b.handler.WaitFor([](RecordingHandler& h) { return h.messages.size() == 102; }));
  EXPECT_EQ(Indexes(b.handler), expected);
}

TEST(DirectSend, WhatTheSocketDoesNotTake_TheIoThreadWrites) {
  TestPeer a(1);
  a.transport->AddPeer(2, {"http://127.0.0.1:1"});
  std::unique_ptr<RawSocket> socket = OpenAppends(a);
  constexpr uint64_t kCount = 64;
  const std::string value(size_t{256} << 10, 'v');
  HttpBodyReader body = HttpBodyReader::Chunked();
  StreamDecoder decoder(StreamKind::kMsgApp, 2, 1, size_t{64} << 20);
  std::vector<raftpb::Message> messages;
  const auto receive = [&](size_t count) {
    while (messages.size() < count) {
      const std::string bytes = socket->ReadSome();
      ASSERT_FALSE(bytes.empty());
      std::string_view rest = bytes;
      for (;;) {
        absl::StatusOr<std::string_view> piece = body.Next(&rest);
        ASSERT_TRUE(piece.ok()) << piece.status();
        if (piece->empty()) break;
        ASSERT_TRUE(decoder.Feed(*piece, &messages).ok());
      }
    }
  };
  // Once one has come through, the I/O thread has nothing to do for the new stream any more.
  a.Send(2, {TestMessage(raftpb::MsgApp, 1, 2, 0, value)});
  ASSERT_NO_FATAL_FAILURE(receive(1));
  {
    HeldThread held(a);
    for (uint64_t i = 1; i < kCount; ++i) a.Send(2, {TestMessage(raftpb::MsgApp, 1, 2, i, value)});
    const PeerCounters counters = *a.transport->Counters(2);
    EXPECT_GT(counters.queued_messages, 0u);          // the socket was full
    EXPECT_LT(counters.queued_messages, kCount - 2);  // and had taken some before
  }
  ASSERT_NO_FATAL_FAILURE(receive(kCount));
  for (uint64_t i = 0; i < kCount; ++i) {
    EXPECT_EQ(messages[i].index(), i);
    EXPECT_TRUE(messages[i].entries(0).data() == value) << i;
  }
  EXPECT_EQ(a.transport->Counters(2)->sent_failures, 0u);
}

TEST(DirectSend, AnErrorOfTheSocket_IsHandledByTheIoThread) {
  TestPeer a(1);
  a.transport->AddPeer(2, {"http://127.0.0.1:1"});
  std::unique_ptr<RawSocket> socket = OpenAppends(a);
  HeldThread held(a);
  socket->Reset();
  const int told = a.handler.Unreachable(2);
  for (uint64_t i = 0; i < 4; ++i) a.Send(2, {TestMessage(raftpb::MsgApp, 1, 2, i, "lost")});
  EXPECT_TRUE(a.transport->Counters(2)->stream_msgapp);
  held.Release();
  EXPECT_TRUE(a.handler.WaitFor([&](RecordingHandler& h) { return h.unreachable[2] > told; }));
  EXPECT_TRUE(Eventually([&] { return !a.transport->Counters(2)->stream_msgapp; }));
  EXPECT_GT(a.transport->Counters(2)->sent_failures, 0u);
}

TEST(DirectSend, WithTls_TheIoThreadWrites) {
  CertificateDir dir;
  TestAuthority ca(dir, "ca");
  ca.Issue("member");
  TlsOptions tls;
  tls.cert_file = dir.Path("member.pem");
  tls.key_file = dir.Path("member.key");
  tls.trusted_ca_file = ca.file();
  auto context = TlsContext::Create(tls);
  ASSERT_TRUE(context.ok()) << context.status();
  auto secure = [&](PeerTransportOptions& options) { options.tls = *context; };
  TestPeer a(1, secure), b(2, secure);
  Join(a, b);
  ASSERT_TRUE(a.WaitForStreams(2));
  HeldThread held(a);
  a.Send(2, {Heartbeat(1)});
  EXPECT_EQ(a.transport->Counters(2)->queued_messages, 1u);
  held.Release();
  EXPECT_TRUE(b.handler.WaitFor([](RecordingHandler& h) { return h.messages.size() == 1; }));
}

// Threads that write while the stream is replaced, broken and closed again and again: nobody writes to a
// descriptor that is another's by then, which the streams' framing would show.
TEST(DirectSend, StreamsThatComeAndGo_WhileThreadsSend) {
  TestPeer a(1), b(2), c(3);
  Join(a, b);
  Join(a, c);
  ASSERT_TRUE(a.WaitForStreams(2));
  ASSERT_TRUE(a.WaitForStreams(3));
  std::atomic<bool> stop{false};
  std::vector<std::thread> senders;
  for (uint64_t to : {2, 3}) {
    for (int i = 0; i < 2; ++i) {
      senders.emplace_back([&, to] {
        for (uint64_t n = 0; !stop; ++n) {
          a.Send(to,
                 {TestMessage(raftpb::MsgApp, 1, to, n, "value"), TestMessage(raftpb::MsgVote, 1, to, n)});
        }
      });
    }
  }
  for (int i = 0; i < 40; ++i) {
    // A stream of member 2's that replaces its own, and breaks: its own comes back.
    RawSocket other(a.port);
    other.Send(
        "GET /raft/stream/msgapp/2 HTTP/1.1\r\nHost: a\r\nX-Server-From: 2\r\nX-Server-Version: 3.5.0\r\n"
        "X-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-ID: abcdef\r\nX-Raft-To: 1\r\n\r\n");
    EXPECT_THAT(other.ReadUntil("\r\n\r\n"), HasSubstr("200 OK"));
    if (i % 2 == 0) other.Reset();
    if (i % 8 == 7) {
      a.transport->RemovePeer(2);
      a.transport->AddPeer(2, {b.url()});
    }
  }
  stop = true;
  for (std::thread& t : senders) t.join();
  ASSERT_TRUE(a.WaitForStreams(2));
  ASSERT_TRUE(Eventually([&] { return a.transport->Counters(2)->queued_messages == 0; }));
  a.Send(2, {TestMessage(raftpb::MsgApp, 1, 2, 7, "last")});
  EXPECT_TRUE(b.handler.WaitFor([](RecordingHandler& h) {
    return std::any_of(h.messages.rbegin(), h.messages.rend(), [](const raftpb::Message& m) {
      return m.entries_size() == 1 && m.entries(0).data() == "last";
    });
  }));
  for (TestPeer* to : {&b, &c}) {
    EXPECT_EQ(to->transport->Counters(1)->received_failures, 0u) << "what came was not a stream";
    std::lock_guard lock(to->handler.mutex);
    for (const raftpb::Message& m : to->handler.messages) ASSERT_EQ(m.to(), to->id);
  }
}

}  // namespace
}  // namespace kvd::net
