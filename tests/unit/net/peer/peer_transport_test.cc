#include "net/peer/peer_transport.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <thread>

#include "test_peers.h"

namespace kvd::net {
namespace {

using ::testing::HasSubstr;

TEST(PeerTransport, TwoPeers_MessagesArriveInOrderPerStream) {
  TestPeer a(1), b(2);
  Join(a, b);
  ASSERT_TRUE(a.WaitForStreams(2));
  constexpr uint64_t kCount = 20'000;
  for (uint64_t i = 0; i < kCount; i += 100) {
    std::vector<OutgoingMessage> batch;
    for (uint64_t j = i; j < i + 100; ++j) {
      batch.push_back(TestMessage(raftpb::MsgApp, 1, 2, j, "entry-" + std::to_string(j)));
      batch.push_back(TestMessage(raftpb::MsgHeartbeat, 1, 2, j));
    }
    a.Send(2, std::move(batch));
    // The queue is bounded: let it drain.
    ASSERT_TRUE(Eventually([&] { return a.transport->Counters(2)->queued_messages < 2000; }));
  }
  ASSERT_TRUE(b.handler.WaitFor([&](RecordingHandler& h) { return h.messages.size() >= 2 * kCount; }));
  std::lock_guard lock(b.handler.mutex);
  uint64_t appends = 0, heartbeats = 0;
  for (const raftpb::Message& m : b.handler.messages) {
    EXPECT_EQ(m.from(), 1u);
    EXPECT_EQ(m.to(), 2u);
    if (m.type() == raftpb::MsgApp) {
      ASSERT_EQ(m.index(), appends);
      ASSERT_EQ(m.entries(0).data(), "entry-" + std::to_string(appends));
      ++appends;
    } else {
      ASSERT_EQ(m.index(), heartbeats);
      ++heartbeats;
    }
  }
  EXPECT_EQ(appends, kCount);
  EXPECT_EQ(heartbeats, kCount);
  EXPECT_LT(b.handler.batches, b.handler.messages.size());
  EXPECT_EQ(a.handler.Unreachable(2), 0);
}

TEST(PeerTransport, BothDirectionsAndThreePeers) {
  TestPeer a(1), b(2), c(3);
  Join(a, b);
  Join(b, c);
  Join(a, c);
  for (TestPeer* from : {&a, &b, &c}) {
    for (TestPeer* to : {&a, &b, &c}) {
      if (from == to) continue;
      ASSERT_TRUE(from->WaitForStreams(to->id));
      from->Send(to->id, {TestMessage(raftpb::MsgVote, from->id, to->id, 7)});
    }
  }
  for (TestPeer* to : {&a, &b, &c}) {
    ASSERT_TRUE(to->handler.WaitFor([](RecordingHandler& h) { return h.messages.size() == 2; }));
    EXPECT_EQ(to->transport->ActivePeers(), 2u);
    EXPECT_TRUE(to->transport->ActiveSince(to->id == 1 ? 2 : 1).has_value());
    EXPECT_FALSE(to->transport->ActiveSince(99).has_value());
  }
}

TEST(PeerTransport, LargeEntries_ArriveWhole) {
  TestPeer a(1), b(2);
  Join(a, b);
  ASSERT_TRUE(a.WaitForStreams(2));
  std::vector<std::string> payloads;
  for (size_t size : {size_t{1}, size_t{65536}, size_t{1} << 20, size_t{20} << 20, size_t{100}}) {
    std::string payload(size, 'p');
    for (size_t i = 0; i < size; ++i) payload[i] = static_cast<char>(i * 31 + size);
    payloads.push_back(payload);
  }
  uint64_t index = 0;
  for (const std::string& p : payloads) a.Send(2, {TestMessage(raftpb::MsgApp, 1, 2, index++, p)});
  ASSERT_TRUE(b.handler.WaitFor([&](RecordingHandler& h) { return h.messages.size() == payloads.size(); }));
  for (size_t i = 0; i < payloads.size(); ++i) {
    EXPECT_TRUE(b.handler.messages[i].entries(0).data() == payloads[i]) << i;
  }
}

TEST(PeerTransport, NoStream_MessagesGoByPost) {
  TestPeer a(1), b(2);
  a.transport->AddPeer(2, {b.url()});  // b does not know a: it dials nothing and refuses a's streams
  a.Send(2, {TestMessage(raftpb::MsgApp, 1, 2, 5, "x"), TestMessage(raftpb::MsgVote, 1, 2, 6)});
  ASSERT_TRUE(b.handler.WaitFor([](RecordingHandler& h) { return h.messages.size() == 2; }));
  EXPECT_TRUE(Eventually([&] { return a.transport->Counters(2)->sent_bytes > 0; }));
}

TEST(PeerTransport, UnknownSenderWithUrls_IsAnsweredAsRemote) {
  TestPeer a(1);
  TestPeer b(2);
  TestPeer c(3, [&](PeerTransportOptions& o) { o.peer_urls = {"http://127.0.0.1:1", "http://127.0.0.1:2"}; });
  c.transport->AddPeer(1, {a.url()});
  // c's streams are refused by a, which learns its URLs from the request.
  EXPECT_TRUE(Eventually([&] { return a.transport->Counters(3).has_value(); }));
  EXPECT_EQ(a.transport->ActivePeers(), 0u);
  // Told by hand.
  b.transport->AddRemote(1, {a.url()});
  b.Send(1, {TestMessage(raftpb::MsgAppResp, 2, 1, 9)});
  EXPECT_TRUE(a.handler.WaitFor([](RecordingHandler& h) { return h.messages.size() == 1; }));
}

TEST(PeerTransport, PeerRestarts_StreamsComeBack) {
  TestPeer a(1);
  auto b = std::make_unique<TestPeer>(2);
  Join(a, *b);
  ASSERT_TRUE(a.WaitForStreams(2));
  ASSERT_TRUE(Eventually([&] { return a.transport->ActiveSince(2).has_value(); }));
  uint16_t port = b->port;
  b.reset();
  EXPECT_TRUE(Eventually([&] { return !a.transport->ActiveSince(2).has_value(); }));
  EXPECT_TRUE(a.handler.WaitFor([](RecordingHandler& h) { return h.unreachable[2] > 0; }));
  EXPECT_TRUE(Eventually([&] { return !a.transport->Counters(2)->stream_msgapp; }));
  a.Send(2, {TestMessage(raftpb::MsgApp, 1, 2, 1, "lost")});

  b = std::make_unique<TestPeer>(2, nullptr, port);
  b->transport->AddPeer(1, {a.url()});
  ASSERT_TRUE(a.WaitForStreams(2));
  ASSERT_TRUE(b->WaitForStreams(1));
  a.Send(2, {TestMessage(raftpb::MsgApp, 1, 2, 2, "after")});
  EXPECT_TRUE(b->handler.WaitFor([](RecordingHandler& h) {
    return !h.messages.empty() && h.messages.back().entries(0).data() == "after";
  }));
  EXPECT_TRUE(Eventually([&] { return a.transport->ActiveSince(2).has_value(); }));
}

TEST(PeerTransport, PeerThatDoesNotListen_QueueIsBoundedAndUnreachableTold) {
  TestPeer a(1, [](PeerTransportOptions& o) { o.max_queued_messages = 50; });
  uint16_t dead_port;
  {
    TestPeer gone(9);
    dead_port = gone.port;
  }
  a.transport->AddPeer(2, {"http://127.0.0.1:" + std::to_string(dead_port)});
  std::vector<OutgoingMessage> flood;
  for (uint64_t i = 0; i < 5000; ++i) flood.push_back(TestMessage(raftpb::MsgApp, 1, 2, i, "x"));
  a.Send(2, std::move(flood));
  PeerCounters c = *a.transport->Counters(2);
  EXPECT_LE(c.queued_messages, 50u);
  EXPECT_GE(c.sent_failures, 4900u);
  EXPECT_TRUE(a.handler.WaitFor([](RecordingHandler& h) { return h.unreachable[2] > 0; }));
  EXPECT_FALSE(a.transport->ActiveSince(2).has_value());
}

TEST(PeerTransport, AttachedStreamThatIsNotRead_QueueIsBounded) {
  TestPeer a(1, [](PeerTransportOptions& o) {
    o.max_queued_bytes = 1 << 20;
    o.write_timeout = std::chrono::milliseconds(500);
  });
  a.transport->AddPeer(2, {"http://127.0.0.1:1"});
  RawSocket slow(a.port);
  slow.Send(
      "GET /raft/stream/msgapp/2 HTTP/1.1\r\nHost: a\r\nX-Server-From: 2\r\nX-Server-Version: 3.5.0\r\n"
      "X-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-ID: abcdef\r\nX-Raft-To: 1\r\n\r\n");
  EXPECT_THAT(slow.ReadUntil("\r\n\r\n"), HasSubstr("200 OK"));
  ASSERT_TRUE(Eventually([&] { return a.transport->Counters(2)->stream_msgapp; }));
  for (uint64_t i = 0; i < 200; ++i) {
    a.Send(2, {TestMessage(raftpb::MsgApp, 1, 2, i, std::string(size_t{256} << 10, 'x'))});
    ASSERT_LE(a.transport->Counters(2)->queued_bytes, (1u << 20) + 300 * 1024);
  }
  EXPECT_GT(a.transport->Counters(2)->sent_failures, 0u);
  // A write without progress ends the stream.
  EXPECT_TRUE(Eventually([&] { return !a.transport->Counters(2)->stream_msgapp; }));
}

TEST(PeerTransport, IdleStreams_AreKeptAliveByLinkHeartbeats) {
  auto fast = [](PeerTransportOptions& o) {
    o.read_timeout = std::chrono::milliseconds(300);
    o.heartbeat_interval = std::chrono::milliseconds(60);
  };
  TestPeer a(1, fast), b(2, fast);
  Join(a, b);
  ASSERT_TRUE(a.WaitForStreams(2));
  ASSERT_TRUE(b.WaitForStreams(1));
  ASSERT_TRUE(Eventually([&] { return a.transport->ActiveSince(2).has_value(); }));
  std::optional<base::Nanos> since = a.transport->ActiveSince(2);
  base::Nanos end = base::SystemClock().Monotonic() + std::chrono::milliseconds(1200);
  EXPECT_TRUE(Eventually([&] { return base::SystemClock().Monotonic() > end; }));
  EXPECT_EQ(a.transport->ActiveSince(2), since);
  EXPECT_EQ(a.handler.Unreachable(2), 0);
  EXPECT_EQ(b.handler.MessageCount(), 0u);  // link heartbeats stay in the transport
}

TEST(PeerTransport, SilentStream_IsDroppedAndDialledAgain) {
  // A server that answers the GET and then says nothing.
  TestPeer a(1, [](PeerTransportOptions& o) { o.read_timeout = std::chrono::milliseconds(200); });
  TestPeer silent(2, [](PeerTransportOptions& o) { o.heartbeat_interval = std::chrono::hours(1); });
  Join(a, silent);
  ASSERT_TRUE(silent.WaitForStreams(1));
  EXPECT_TRUE(silent.handler.WaitFor([](RecordingHandler& h) { return h.unreachable[1] >= 2; }));
  EXPECT_TRUE(silent.WaitForStreams(1));
}

TEST(PeerTransport, RemovedMember_IsTold) {
  TestPeer a(1), b(2);
  {
    std::lock_guard lock(b.handler.mutex);
    b.handler.removed_ids.push_back(1);
  }
  a.transport->AddPeer(2, {b.url()});
  EXPECT_TRUE(
      a.handler.WaitFor([](RecordingHandler& h) { return !h.removed_by.empty() && h.removed_by[0] == 2; }));
  // POSTs are refused, too.
  {
    std::lock_guard lock(a.handler.mutex);
    a.handler.removed_by.clear();
  }
  a.Send(2, {TestMessage(raftpb::MsgApp, 1, 2, 5, "x")});
  EXPECT_TRUE(a.handler.WaitFor([](RecordingHandler& h) { return !h.removed_by.empty(); }));
  EXPECT_EQ(b.handler.MessageCount(), 0u);
}

TEST(PeerTransport, WrongClusterId_NothingIsExchanged) {
  TestPeer a(1, [](PeerTransportOptions&o) { o.cluster_id = 0x123; }), b(2);
  Join(a, b);
  a.Send(2, {TestMessage(raftpb::MsgVote, 1, 2, 5)});
  EXPECT_TRUE(a.handler.WaitFor([](RecordingHandler& h) { return h.unreachable[2] > 0; }));
  EXPECT_FALSE(a.transport->Counters(2)->stream_message);
  EXPECT_FALSE(b.transport->Counters(1)->stream_message);
  EXPECT_EQ(b.handler.MessageCount(), 0u);
  EXPECT_FALSE(a.transport->ActiveSince(2).has_value());
}

TEST(PeerTransport, RemovePeer_StopsItsStreams) {
  TestPeer a(1), b(2);
  Join(a, b);
  ASSERT_TRUE(a.WaitForStreams(2));
  ASSERT_TRUE(b.WaitForStreams(1));
  a.transport->RemovePeer(2);
  EXPECT_FALSE(a.transport->Counters(2).has_value());
  EXPECT_TRUE(Eventually([&] {
    auto c = b.transport->Counters(1);
    return !c->stream_msgapp && !c->stream_message;
  }));
  a.Send(2, {TestMessage(raftpb::MsgVote, 1, 2, 5)});  // dropped
  a.transport->AddPeer(2, {b.url()});
  ASSERT_TRUE(a.WaitForStreams(2));
  b.transport->RemoveAllPeers();
  EXPECT_FALSE(b.transport->Counters(1).has_value());
}

TEST(PeerTransport, UpdatePeer_DialsTheNewUrl) {
  TestPeer a(1), b(2);
  a.transport->AddPeer(2, {"http://127.0.0.1:1"});
  b.transport->AddPeer(1, {a.url()});
  EXPECT_FALSE(a.transport->ActiveSince(99).has_value());
  a.transport->UpdatePeer(2, {"http://127.0.0.1:1", b.url()});  // the second one is found
  EXPECT_TRUE(b.WaitForStreams(1));
}

TEST(PeerTransport, Probes_MeasureTheRoundTrip) {
  TestPeer a(1, [](PeerTransportOptions&o) { o.probe_interval = std::chrono::milliseconds(50); }), b(2);
  Join(a, b);
  EXPECT_TRUE(Eventually([&] { return a.transport->Counters(2)->round_trip > base::Nanos(0); }));
  EXPECT_LT(a.transport->Counters(2)->clock_difference, std::chrono::seconds(10));
  EXPECT_GT(a.transport->Counters(2)->clock_difference, -std::chrono::seconds(10));
}

TEST(PeerTransport, SendFromManyThreads_NothingIsLost) {
  TestPeer a(1), b(2);
  Join(a, b);
  ASSERT_TRUE(a.WaitForStreams(2));
  std::vector<std::thread> senders;
  for (uint64_t t = 0; t < 4; ++t) {
    senders.emplace_back([&a, t] {
      for (uint64_t i = 0; i < 500; ++i) a.Send(2, {TestMessage(raftpb::MsgReadIndex, 1, 2, t * 1000 + i)});
    });
  }
  for (std::thread& t : senders) t.join();
  ASSERT_TRUE(b.handler.WaitFor([](RecordingHandler& h) { return h.messages.size() == 2000; }));
  std::map<uint64_t, uint64_t> next;
  for (const raftpb::Message& m : b.handler.messages) {
    EXPECT_EQ(m.index() % 1000, next[m.index() / 1000]++);
  }
}

TEST(PeerTransport, Stop_NoHandlerRunsAfterwards) {
  TestPeer a(1), b(2);
  Join(a, b);
  ASSERT_TRUE(a.WaitForStreams(2));
  bool cancelled = false;
  // A call that cannot end by itself: the listener's backlog takes the connection, nobody answers.
  PeerRequest request;
  a.transport->Handle("/never", [](const PeerRequest&, const PeerTransport::Respond&) {});
  a.transport->http_client().Call("http://192.0.2.1:9", request, HttpCallOptions(),
                                  [&](const absl::StatusOr<PeerResponse>& r) { cancelled = !r.ok(); });
  a.transport->Stop();
  EXPECT_TRUE(cancelled);
  int unreachable = a.handler.Unreachable(2);
  a.Send(2, {TestMessage(raftpb::MsgVote, 1, 2, 5)});
  a.transport->AddPeer(3, {b.url()});
  EXPECT_TRUE(Eventually([&] { return !b.transport->Counters(1)->stream_message; }));
  EXPECT_EQ(a.handler.Unreachable(2), unreachable);
  a.transport->Stop();
}

}  // namespace
}  // namespace kvd::net
