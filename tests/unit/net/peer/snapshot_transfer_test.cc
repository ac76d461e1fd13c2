#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "base/executor.h"
#include "test_peers.h"

namespace kvd::net {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

char ByteAt(uint64_t at) {
  return static_cast<char>(at * 2654435761u >> 13);
}

struct Watermarks {
  std::atomic<uint64_t> produced{0};
  std::atomic<uint64_t> consumed{0};
  std::atomic<uint64_t> most_ahead{0};
  std::atomic<bool> wrong_byte{false};
  std::atomic<bool> finished{false};
  std::atomic<int> sources{0};
  std::atomic<int> sinks{0};
};

// Makes the database bytes up on another thread.
class FakeSource : public SnapshotSource {
 public:
  FakeSource(base::Executor& disk, Watermarks& marks, uint64_t size)
      : disk_(disk), marks_(marks), left_(size) {
    ++marks_.sources;
  }
  ~FakeSource() override { --marks_.sources; }
  void Read(size_t max_bytes, ReadDone done) override {
    disk_.Post([this, max_bytes, done = std::move(done)]() mutable {
      std::string bytes(std::min<uint64_t>(max_bytes, left_), 0);
      uint64_t at = marks_.produced;
      for (char& c : bytes) c = ByteAt(at++);
      marks_.produced = at;
      left_ -= bytes.size();
      uint64_t ahead = marks_.produced - marks_.consumed;
      if (ahead > marks_.most_ahead) marks_.most_ahead = ahead;
      done(std::move(bytes));
    });
  }

 private:
  base::Executor& disk_;
  Watermarks& marks_;
  uint64_t left_;
};

// Checks the database bytes on another thread, slowly if told.
class FakeSink : public SnapshotSink {
 public:
  FakeSink(base::Executor& disk, Watermarks& marks, base::Nanos delay, uint64_t fail_at)
      : disk_(disk), marks_(marks), delay_(delay), fail_at_(fail_at) {
    ++marks_.sinks;
  }
  ~FakeSink() override { --marks_.sinks; }
  void Write(std::string bytes, WriteDone done) override {
    disk_.PostAfter(delay_, [this, bytes = std::move(bytes), done = std::move(done)]() mutable {
      uint64_t at = marks_.consumed;
      for (char c : bytes) {
        if (c != ByteAt(at++)) marks_.wrong_byte = true;
      }
      marks_.consumed = at;
      done(marks_.consumed >= fail_at_ ? absl::ResourceExhaustedError("no space left on device")
                                       : absl::OkStatus());
    });
  }
  void Finish(WriteDone done) override {
    disk_.Post([this, done = std::move(done)]() mutable {
      marks_.finished = true;
      done(absl::OkStatus());
    });
  }

 private:
  base::Executor& disk_;
  Watermarks& marks_;
  const base::Nanos delay_;
  const uint64_t fail_at_;
};

raftpb::Message SnapshotMessage(uint64_t from, uint64_t to) {
  raftpb::Message m;
  m.set_type(raftpb::MsgSnap);
  m.set_from(from);
  m.set_to(to);
  m.set_term(3);
  m.mutable_snapshot()->mutable_metadata()->set_index(1234);
  m.mutable_snapshot()->mutable_metadata()->set_term(3);
  return m;
}

class SnapshotTransfer : public ::testing::Test {
 protected:
  void Accept(TestPeer& at, base::Nanos delay = base::Nanos(0), uint64_t fail_at = ~uint64_t{0}) {
    std::lock_guard lock(at.handler.mutex);
    at.handler.on_snapshot = [this, delay,
                              fail_at](raftpb::Message m) -> absl::StatusOr<std::unique_ptr<SnapshotSink>> {
      received_ = std::move(m);
      return std::make_unique<FakeSink>(sink_disk_, marks_, delay, fail_at);
    };
  }
  void Send(TestPeer& from, uint64_t to, uint64_t bytes, uint64_t announced) {
    from.transport->SendSnapshot(to, SnapshotMessage(from.id, to),
                                 std::make_unique<FakeSource>(source_disk_, marks_, bytes), announced);
  }
  bool Outcome(TestPeer& from, bool* ok) {
    bool came = from.handler.WaitFor([](RecordingHandler& h) { return !h.snapshots_sent.empty(); });
    if (came) *ok = from.handler.snapshots_sent.back().second;
    return came;
  }
  // The disks stop before the transports that they answer, as in a member. To be held by the test after its
  // peers.
  auto StopDisksFirst() {
    auto stop = [](SnapshotTransfer* test) {
      test->source_disk_.Stop();
      test->sink_disk_.Stop();
    };
    return std::unique_ptr<SnapshotTransfer, decltype(stop)>(this, stop);
  }
  bool AllReleased() {
    return Eventually([&] { return marks_.sources == 0 && marks_.sinks == 0; });
  }

  Watermarks marks_;
  raftpb::Message received_;
  base::ThreadExecutor source_disk_{"source"};
  base::ThreadExecutor sink_disk_{"sink"};
};

TEST_F(SnapshotTransfer, FiftyMegabytes_ArriveWithLittleInFlight) {
  TestPeer a(1), b(2);
  auto disks = StopDisksFirst();
  Join(a, b);
  Accept(b, std::chrono::microseconds(300));
  constexpr uint64_t kSize = 50 << 20;
  Send(a, 2, kSize, kSize);
  bool ok = false;
  ASSERT_TRUE(Outcome(a, &ok));
  EXPECT_TRUE(ok);
  EXPECT_THAT(a.handler.snapshots_sent, ElementsAre(Pair(2u, true)));
  EXPECT_EQ(marks_.consumed, kSize);
  EXPECT_FALSE(marks_.wrong_byte);
  EXPECT_TRUE(marks_.finished);
  EXPECT_EQ(received_.snapshot().metadata().index(), 1234u);
  EXPECT_LT(marks_.most_ahead, 24u << 20);  // mostly the kernel's socket buffers
  EXPECT_TRUE(AllReleased());
  EXPECT_EQ(a.transport->Counters(2)->snapshots_sent, 1u);
}

TEST_F(SnapshotTransfer, EmptyDatabase) {
  TestPeer a(1), b(2);
  auto disks = StopDisksFirst();
  Join(a, b);
  Accept(b);
  Send(a, 2, 0, 0);
  bool ok = false;
  ASSERT_TRUE(Outcome(a, &ok));
  EXPECT_TRUE(ok);
  EXPECT_TRUE(marks_.finished);
  EXPECT_TRUE(AllReleased());
}

TEST_F(SnapshotTransfer, MessagesFlowMeanwhile) {
  TestPeer a(1), b(2);
  auto disks = StopDisksFirst();
  Join(a, b);
  ASSERT_TRUE(a.WaitForStreams(2));
  Accept(b, std::chrono::milliseconds(10));
  Send(a, 2, 30 << 20, 30 << 20);
  ASSERT_TRUE(Eventually([&] { return marks_.consumed > 0; }));
  for (uint64_t i = 0; i < 100; ++i) a.Send(2, {TestMessage(raftpb::MsgHeartbeat, 1, 2, i)});
  EXPECT_TRUE(b.handler.WaitFor([](RecordingHandler& h) { return h.messages.size() == 100; }));
  EXPECT_FALSE(marks_.finished);
  bool ok = false;
  ASSERT_TRUE(Outcome(a, &ok));
  EXPECT_TRUE(ok);
}

TEST_F(SnapshotTransfer, ReceiverRefuses_SenderIsTold) {
  TestPeer a(1), b(2);
  auto disks = StopDisksFirst();
  Join(a, b);
  Send(a, 2, 50 << 20, 50 << 20);
  bool ok = true;
  ASSERT_TRUE(Outcome(a, &ok));
  EXPECT_FALSE(ok);
  EXPECT_TRUE(AllReleased());
  EXPECT_GT(a.handler.Unreachable(2), 0);
}

TEST_F(SnapshotTransfer, DiskOfReceiverFails_SenderIsTold) {
  TestPeer a(1), b(2);
  auto disks = StopDisksFirst();
  Join(a, b);
  Accept(b, base::Nanos(0), 1 << 20);
  Send(a, 2, 50 << 20, 50 << 20);
  bool ok = true;
  ASSERT_TRUE(Outcome(a, &ok));
  EXPECT_FALSE(ok);
  EXPECT_FALSE(marks_.finished);
  EXPECT_TRUE(AllReleased());
}

TEST_F(SnapshotTransfer, SourceEndsEarly_ReceiverDiscards) {
  TestPeer a(1), b(2);
  auto disks = StopDisksFirst();
  Join(a, b);
  Accept(b);
  Send(a, 2, 1 << 20, 2 << 20);
  bool ok = true;
  ASSERT_TRUE(Outcome(a, &ok));
  EXPECT_FALSE(ok);
  EXPECT_TRUE(AllReleased());
  EXPECT_FALSE(marks_.finished);
}

TEST_F(SnapshotTransfer, ReceiverDies_SenderIsTold) {
  TestPeer a(1);
  auto b = std::make_unique<TestPeer>(2);
  auto disks = StopDisksFirst();
  Join(a, *b);
  Accept(*b, std::chrono::milliseconds(10));
  Send(a, 2, 50 << 20, 50 << 20);
  ASSERT_TRUE(Eventually([&] { return marks_.consumed > (1 << 20); }));
  b->transport->Stop();
  bool ok = true;
  ASSERT_TRUE(Outcome(a, &ok));
  EXPECT_FALSE(ok);
  EXPECT_TRUE(AllReleased());
  EXPECT_FALSE(marks_.finished);
}

TEST_F(SnapshotTransfer, UnknownPeerOrNobodyThere_Fails) {
  TestPeer a(1);
  a.transport->AddPeer(2, {"http://127.0.0.1:1"});
  Send(a, 77, 100, 100);
  ASSERT_TRUE(a.handler.WaitFor([](RecordingHandler& h) { return h.snapshots_sent.size() == 1; }));
  Send(a, 2, 100, 100);
  ASSERT_TRUE(a.handler.WaitFor([](RecordingHandler& h) { return h.snapshots_sent.size() == 2; }));
  EXPECT_THAT(a.handler.snapshots_sent, ElementsAre(Pair(77u, false), Pair(2u, false)));
  EXPECT_TRUE(AllReleased());
}

TEST_F(SnapshotTransfer, BrokenUploads_AreRefused) {
  TestPeer b(2);
  auto disks = StopDisksFirst();
  Accept(b);
  auto post = [&](const std::string& body, size_t announced) {
    RawSocket socket(b.port);
    socket.Send(
        "POST /raft/snapshot HTTP/1.1\r\nHost: b\r\nX-Server-From: 1\r\nX-Server-Version: 3.5.0\r\n"
        "X-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-ID: abcdef\r\nContent-Length: " +
        std::to_string(announced) + "\r\n\r\n");
    socket.Send(body);
    return socket.ReadUntil("\r\n");
  };
  auto framed = [](const raftpb::Message& m) {
    std::string out;
    base::AppendBigEndian64(out, m.ByteSizeLong());
    return out + m.SerializeAsString();
  };
  EXPECT_THAT(post(std::string(8, '\xff'), 8), testing::StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(post("abc", 3), testing::StartsWith("HTTP/1.1 400 "));
  raftpb::Message vote;
  vote.set_type(raftpb::MsgVote);
  EXPECT_THAT(post(framed(vote), framed(vote).size()), testing::StartsWith("HTTP/1.1 400 "));
  std::string other = framed(SnapshotMessage(1, 9));
  EXPECT_THAT(post(other, other.size()), testing::StartsWith("HTTP/1.1 403 "));
  // Broken off in the middle of the database: the sink goes, unfinished.
  std::string good = framed(SnapshotMessage(1, 2));
  {
    RawSocket socket(b.port);
    socket.Send(
        "POST /raft/snapshot HTTP/1.1\r\nHost: b\r\nX-Server-From: 1\r\nX-Server-Version: 3.5.0\r\n"
        "X-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-ID: abcdef\r\nContent-Length: 5000000\r\n\r\n" +
        good + "some bytes");
    EXPECT_TRUE(Eventually([&] { return marks_.sinks == 1; }));
  }
  EXPECT_TRUE(AllReleased());
  EXPECT_FALSE(marks_.finished);
}

}  // namespace
}  // namespace kvd::net
