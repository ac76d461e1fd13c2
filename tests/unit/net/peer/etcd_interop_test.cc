// The peer transport against a real etcd: requests, refusals, and membership in its cluster.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "absl/strings/escaping.h"
#include "base/bytes.h"
#include "test_peers.h"

extern char** environ;

namespace kvd::net {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr const char* kEtcd = "/usr/bin/etcd";

uint16_t FreePort() {
  TestPeer probe(1);
  return probe.port;
}

uint64_t HexToId(std::string_view hex) {
  return std::stoull(std::string(hex), nullptr, 16);
}

// The decimal number of "name":"123" or "name":123 in a JSON text; 0 if it is not there.
uint64_t JsonNumber(const std::string& json, const std::string& name) {
  size_t at = json.find("\"" + name + "\":");
  if (at == std::string::npos) return 0;
  at = json.find_first_of("0123456789", at + name.size() + 3);
  return at == std::string::npos ? 0 : std::stoull(json.substr(at));
}

// One etcd process in a directory of its own.
class Etcd {
 public:
  Etcd() : client_port_(FreePort()), peer_port_(FreePort()) {
    char name[] = "/tmp/kvd-etcd-XXXXXX";
    directory_ = ::mkdtemp(name);
    std::vector<std::string> args = {kEtcd,
                                     "--name=e0",
                                     "--data-dir=" + directory_ + "/data",
                                     "--listen-client-urls=" + client_url(),
                                     "--advertise-client-urls=" + client_url(),
                                     "--listen-peer-urls=" + peer_url(),
                                     "--initial-advertise-peer-urls=" + peer_url(),
                                     "--initial-cluster=e0=" + peer_url(),
                                     "--snapshot-count=100",
                                     "--log-outputs=" + directory_ + "/log",
                                     "--logger=zap"};
    std::vector<char*> argv;
    argv.reserve(args.size() + 1);
    for (std::string& a : args) argv.push_back(a.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, 1, (directory_ + "/out").c_str(), O_CREAT | O_WRONLY, 0600);
    ::posix_spawn_file_actions_adddup2(&actions, 1, 2);
    spawned_ = ::posix_spawn(&pid_, kEtcd, &actions, nullptr, argv.data(), environ) == 0;
    ::posix_spawn_file_actions_destroy(&actions);
  }
  ~Etcd() {
    if (spawned_) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }

  bool WaitUntilHealthy() {
    return spawned_ && Eventually([&] {
             absl::StatusOr<PeerResponse> r = HttpGetFromAny({client_url()}, "/health", HttpCallOptions());
             return r.ok() && r->body.find("true") != std::string::npos;
           });
  }
  std::string client_url() const { return "http://127.0.0.1:" + std::to_string(client_port_); }
  std::string peer_url() const { return "http://127.0.0.1:" + std::to_string(peer_port_); }
  uint16_t peer_port() const { return peer_port_; }

  // The JSON gateway.
  static PeerRequest Json(std::string path, std::string body) {
    PeerRequest request;
    request.method = "POST";
    request.path = std::move(path);
    request.body = std::move(body);
    return request;
  }
  std::string Post(std::string path, std::string body) {
    HttpCallOptions options;
    options.timeout = std::chrono::seconds(20);
    absl::StatusOr<PeerResponse> r =
        HttpCallBlocking(client_url(), Json(std::move(path), std::move(body)), options);
    return r.ok() ? r->body : std::string(r.status().message().data(), r.status().message().size());
  }
  std::string Put(const std::string& key, const std::string& value) {
    return Post("/v3/kv/put", PutBody(key, value));
  }
  static std::string PutBody(const std::string& key, const std::string& value) {
    return "{\"key\":\"" + absl::Base64Escape(key) + "\",\"value\":\"" + absl::Base64Escape(value) + "\"}";
  }

 private:
  uint16_t client_port_, peer_port_;
  std::string directory_;
  pid_t pid_ = 0;
  bool spawned_ = false;
};

class EtcdInterop : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::access(kEtcd, X_OK) != 0) GTEST_SKIP() << "no etcd-server here";
    etcd_ = std::make_unique<Etcd>();
    ASSERT_TRUE(etcd_->WaitUntilHealthy());
    absl::StatusOr<PeerResponse> members = HttpGetFromAny({etcd_->peer_url()}, "/members", HttpCallOptions());
    ASSERT_TRUE(members.ok()) << members.status();
    members_ = members->body;
    cluster_id_ = HexToId(members->headers.Get("X-Etcd-Cluster-ID"));
    etcd_id_ = JsonNumber(members_, "id");
    ASSERT_NE(etcd_id_, 0u) << members_;
  }

  // The first line and the rest of the answer to a stream request with these fields.
  std::string StreamRequest(uint64_t cluster, uint64_t from, uint64_t to) {
    RawSocket socket(etcd_->peer_port());
    auto hex = [](uint64_t id) { return absl::StrCat(absl::Hex(id)); };
    socket.Send(absl::StrCat(
        "GET /raft/stream/msgapp/", hex(from), " HTTP/1.1\r\nHost: e\r\nX-Server-From: ", hex(from),
        "\r\nX-Server-Version: 3.7.1\r\nX-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-ID: ", hex(cluster),
        "\r\nX-Raft-To: ", hex(to), "\r\nConnection: close\r\n\r\n"));
    return socket.ReadAll();
  }

  std::unique_ptr<Etcd> etcd_;
  std::string members_;
  uint64_t cluster_id_ = 0;
  uint64_t etcd_id_ = 0;
};

TEST_F(EtcdInterop, ClientAsksAndStreamsAreRefused) {
  EXPECT_THAT(members_, AllOf(HasSubstr("\"name\":\"e0\""), HasSubstr(etcd_->peer_url())));
  absl::StatusOr<PeerResponse> version = HttpGetFromAny({etcd_->peer_url()}, "/version", HttpCallOptions());
  ASSERT_TRUE(version.ok()) << version.status();
  EXPECT_THAT(version->body, HasSubstr("\"etcdserver\":\"3."));
  EXPECT_THAT(StreamRequest(cluster_id_ + 1, 5, etcd_id_),
              AllOf(StartsWith("HTTP/1.1 412 "), HasSubstr("cluster ID mismatch")));
  EXPECT_THAT(StreamRequest(cluster_id_, 5, etcd_id_), StartsWith("HTTP/1.1 404 "));
}

TEST_F(EtcdInterop, WrongClusterId_PeerStaysInactive) {
  TestPeer stranger(5, [&](PeerTransportOptions& o) { o.cluster_id = cluster_id_ + 1; });
  stranger.transport->AddPeer(etcd_id_, {etcd_->peer_url()});
  stranger.Send(etcd_id_, {TestMessage(raftpb::MsgVote, 5, etcd_id_, 1)});
  EXPECT_TRUE(stranger.handler.WaitFor([&](RecordingHandler& h) { return h.unreachable[etcd_id_] > 0; }));
  EXPECT_FALSE(stranger.transport->ActiveSince(etcd_id_).has_value());
}

// Keeps the database it is given in memory.
class MemorySink : public SnapshotSink {
 public:
  MemorySink(std::mutex& mutex, std::string& out, std::function<void()> finished)
      : mutex_(mutex), out_(out), finished_(std::move(finished)) {}
  void Write(std::string bytes, WriteDone done) override {
    {
      std::lock_guard lock(mutex_);
      out_ += bytes;
    }
    done(absl::OkStatus());
  }
  void Finish(WriteDone done) override {
    finished_();
    done(absl::OkStatus());
  }

 private:
  std::mutex& mutex_;
  std::string& out_;
  std::function<void()> finished_;
};

// The least that a follower must do for an etcd leader: vote, take a snapshot, acknowledge. It keeps no log.
class Follower : public PeerHandler {
 public:
  Follower(uint64_t id, std::function<void(std::vector<OutgoingMessage>)> send)
      : id_(id), send_(std::move(send)) {}

  void OnMessages(std::vector<raftpb::Message>&& messages) override {
    std::vector<OutgoingMessage> answers;
    {
      std::lock_guard lock(mutex);
      for (const raftpb::Message& m : messages) Answer(m, &answers);
    }
    if (!answers.empty()) send_(std::move(answers));
  }
  absl::StatusOr<std::unique_ptr<SnapshotSink>> OnSnapshot(raftpb::Message&& m) override {
    uint64_t index = m.snapshot().metadata().index();
    return std::make_unique<MemorySink>(mutex, database, [this, index, leader = m.from(), term = m.term()] {
      {
        std::lock_guard lock(mutex);
        last_ = index;
        snapshot_index = index;
      }
      send_({Acknowledge(leader, term, index)});
    });
  }
  void OnUnreachable(uint64_t) override {}
  void OnSnapshotSent(uint64_t, bool) override {}
  void OnRemoved(uint64_t) override {}
  bool IsIdRemoved(uint64_t) override { return false; }

  std::mutex mutex;
  std::string database;                      // guarded by mutex
  uint64_t snapshot_index = 0;               // guarded by mutex
  std::vector<std::string> entries;          // guarded by mutex
  std::map<raftpb::MessageType, int> types;  // guarded by mutex

 private:
  OutgoingMessage Acknowledge(uint64_t to, uint64_t term, uint64_t index) {
    OutgoingMessage m;
    m.type = raftpb::MsgAppResp;
    m.from = id_;
    m.to = to;
    m.term = term;
    m.index = index;
    return m;
  }

  void Answer(const raftpb::Message& m, std::vector<OutgoingMessage>* answers) {
    ++types[m.type()];
    OutgoingMessage answer = Acknowledge(m.from(), m.term(), m.index());
    switch (m.type()) {
      case raftpb::MsgVote:
      case raftpb::MsgPreVote:
        answer.type = m.type() == raftpb::MsgVote ? raftpb::MsgVoteResp : raftpb::MsgPreVoteResp;
        break;
      case raftpb::MsgHeartbeat:
        answer.type = raftpb::MsgHeartbeatResp;
        answer.context = m.context();
        break;
      case raftpb::MsgApp:
        if (m.index() > last_) {
          answer.reject = true;
          answer.reject_hint = last_;
          break;
        }
        for (const raftpb::Entry& e : m.entries()) {
          if (e.index() <= last_) continue;
          entries.push_back(e.data());
          last_ = e.index();
        }
        answer.index = last_;
        break;
      default:
        return;
    }
    answers->push_back(std::move(answer));
  }

  const uint64_t id_;
  const std::function<void(std::vector<OutgoingMessage>)> send_;
  uint64_t last_ = 0;  // guarded by mutex
};

// Joins an etcd whose log no longer reaches back: it is sent a snapshot, then appends, and etcd cannot commit
// without its acknowledgements.
TEST_F(EtcdInterop, MemberOfItsCluster_SnapshotThenAppends) {
  // More entries than etcd 3.4 keeps behind a snapshot (5000).
  constexpr int kPuts = 5600;
  constexpr int kValues = 40;
  {
    IoThreads threads(1, "fill");
    HttpClient client(threads.thread(0));
    std::atomic<int> started{0}, done{0}, failed{0};
    std::function<void()> next = [&] {
      int i = started++;
      if (i >= kPuts) return;
      client.Call(etcd_->client_url(), Etcd::Json("/v3/kv/put", Etcd::PutBody(std::to_string(i % 50), "v")),
                  HttpCallOptions(), [&](const absl::StatusOr<PeerResponse>& r) {
                    if (!r.ok() || r->status != 200) ++failed;
                    ++done;
                    next();
                  });
    };
    for (int i = 0; i < 64; ++i) next();
    ASSERT_TRUE(Eventually([&] { return done == kPuts; })) << done;
    EXPECT_EQ(failed, 0);
    client.Stop();
    threads.Stop();
  }

  uint16_t port = FreePort();
  std::string url = "http://127.0.0.1:" + std::to_string(port);
  std::string added = etcd_->Post("/v3/cluster/member/add", "{\"peerURLs\":[\"" + url + "\"]}");
  size_t member = added.find("\"member\":");
  ASSERT_NE(member, std::string::npos) << added;
  uint64_t id = JsonNumber(added.substr(member), "ID");
  ASSERT_NE(id, 0u) << added;

  IoThreads threads(1, "member");
  PeerTransportOptions options;
  options.member_id = id;
  options.cluster_id = cluster_id_;
  options.server_version = "3.7.1";
  options.peer_urls = {url};
  options.probe_interval = std::chrono::milliseconds(100);
  PeerTransport* transport = nullptr;
  Follower follower(id, [&](std::vector<OutgoingMessage> m) { transport->Send(etcd_id_, std::move(m)); });
  PeerTransport real(threads.thread(0), base::SystemClock(), options, follower);
  transport = &real;
  ASSERT_TRUE(real.ListenPeer("127.0.0.1", port).ok());
  real.AddPeer(etcd_id_, {etcd_->peer_url()});

  EXPECT_TRUE(Eventually([&] {
    std::lock_guard lock(follower.mutex);
    return follower.snapshot_index > 0;
  }));
  for (int i = 0; i < 20; ++i) {
    std::string answer = etcd_->Put("joined", "value-" + std::to_string(i));
    EXPECT_THAT(answer, HasSubstr("\"revision\":")) << i;
  }
  // Answers went by POST until etcd had attached its streams; now they go there.
  EXPECT_TRUE(Eventually([&] {
    PeerCounters c = *real.Counters(etcd_id_);
    return c.stream_message && c.stream_msgapp;
  }));
  for (int i = 20; i < kValues; ++i) {
    std::string answer = etcd_->Put("joined", "value-" + std::to_string(i));
    EXPECT_THAT(answer, HasSubstr("\"revision\":")) << i;
  }
  EXPECT_TRUE(Eventually([&] { return real.Counters(etcd_id_)->round_trip > base::Nanos(0); }));
  EXPECT_TRUE(real.ActiveSince(etcd_id_).has_value());
  real.Stop();

  std::lock_guard lock(follower.mutex);
  ASSERT_GT(follower.database.size(), 8192u);
  // bbolt's first page: a meta page with its magic number behind the page's head of 16 bytes.
  EXPECT_EQ(base::LoadLittleEndian32(follower.database.data() + 16), 0xED0CDAEDu);
  EXPECT_EQ(follower.database.size() % 4096, 0u);
  int seen = 0;
  for (const std::string& e : follower.entries) {
    if (e.find("value-" + std::to_string(seen)) != std::string::npos) ++seen;
  }
  EXPECT_EQ(seen, kValues);
  EXPECT_GT(follower.types[raftpb::MsgHeartbeat], 0);
}

}  // namespace
}  // namespace kvd::net
