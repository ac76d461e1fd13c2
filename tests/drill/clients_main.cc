// Clients of a drill, driven by lines on stdin, each answered by one line on stdout:
//
//   run       the clients start                                -> "running"
//   mark      the longest silence is counted from now          -> "marked"
//   silence   the longest time without an acknowledged put     -> "MILLISECONDS"
//   stop      the clients stop, the watchers go on             -> "stopped"
//   compact   compacts the history that every watcher has seen -> "compacted REVISION"
//   settle    waits until leases have ended and all watchers have seen everything, and records
//             what each member holds                           -> "settled REVISION"
//   quit
//
// Any of them may answer "failed WHY".
//
//   drill_clients ENDPOINT,... HISTORY CLIENTS SEED

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <limits>
#include <sstream>
#include <thread>

#include "clients.h"
#include "etcdserverpb/rpc.grpc.pb.h"
#include "support/channel.h"

namespace kvd::drill {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kSettleTime(60);
// A stream that is alive tells of its progress every second (--watch-progress-notify-interval).
constexpr milliseconds kWatchSilence(3000);

const std::string kZero(1, '\0');

class Drill {
 public:
  Drill(World& world, uint32_t clients, uint64_t seed) : world_(world) {
    for (uint32_t i = 0; i < clients; ++i) clients_.push_back(std::make_unique<Client>(world, i, seed));
    AddWatcher(kZero, kZero, false);
    AddWatcher(kZero, kZero, true);
    AddWatcher("k", "l", true);
    for (auto& watcher : watchers_) watcher_threads_.emplace_back([&watcher] { watcher->Run(); });
    reviewer_ = std::thread([this] {
      while (world_.watching) {
        std::this_thread::sleep_for(milliseconds(250));
        for (auto& watcher : watchers_) watcher->Review(kWatchSilence);
      }
    });
  }
  ~Drill() {
    Stop();
    world_.watching = false;
    reviewer_.join();
    // A stream that is being opened just now is not there yet to be ended.
    std::atomic<bool> ended{false};
    std::thread ender([&] {
      while (!ended) {
        for (auto& watcher : watchers_) watcher->Review(milliseconds(-1));
        std::this_thread::sleep_for(milliseconds(20));
      }
    });
    for (std::thread& thread : watcher_threads_) thread.join();
    ended = true;
    ender.join();
  }

  std::string Run() {
    world_.running = true;
    for (auto& client : clients_) client_threads_.emplace_back([&client] { client->Run(); });
    return "running";
  }

  std::string Stop() {
    world_.running = false;
    for (std::thread& thread : client_threads_) thread.join();
    client_threads_.clear();
    return "stopped";
  }

  std::string Compact() {
    int64_t revision = std::numeric_limits<int64_t>::max();
    for (auto& watcher : watchers_) revision = std::min(revision, watcher->next() - 1);
    Line line;
    Operation& op = *line.mutable_operation();
    op.set_id(~uint64_t{0} - static_cast<uint64_t>(revision));
    op.mutable_compact()->set_revision(revision);
    op.set_invoked_ns(NowNs());
    std::string error;
    const bool done = Eventually([&] {
      error = OnAny([&](grpc::ClientContext& context, const std::shared_ptr<grpc::Channel>& channel) {
        return etcdserverpb::KV::Stub(channel).Compact(&context, op.compact(), op.mutable_compact_answer());
      });
      // A try before this one may have been heard after all.
      return error.empty() || error.find("compacted") != std::string::npos;
    });
    if (!done) return "failed to compact: " + error;
    op.set_returned_ns(NowNs());
    world_.recorder->Write(line);
    return "compacted " + std::to_string(revision);
  }

  std::string Settle() {
    std::string why;
    if (!Eventually([&] { return LeasesGone(&why); })) return "failed: leases do not end: " + why;
    etcdserverpb::RangeRequest all;
    all.set_key(kZero);
    all.set_range_end(kZero);
    int64_t revision = 0;
    for (uint32_t member = 0; member < world_.channels.size(); ++member) {
      Line line;
      MemberEnd& end = *line.mutable_member_end();
      end.set_member(member);
      if (!Eventually([&] { return ReadEnd(member, all, end, &why); })) {
        return "failed: member " + std::to_string(member) + " cannot be read: " + why;
      }
      revision = end.keys().header().revision();
      world_.recorder->Write(line);
    }
    if (!Eventually([&] {
          return std::all_of(watchers_.begin(), watchers_.end(),
                             [&](const auto& watcher) { return watcher->next() > revision; });
        })) {
      return "failed: a watcher does not come to revision " + std::to_string(revision);
    }
    return world_.recorder->ok() ? "settled " + std::to_string(revision)
                                 : "failed: the history is not written";
  }

 private:
  using Call = std::function<grpc::Status(grpc::ClientContext&, const std::shared_ptr<grpc::Channel>&)>;

  void AddWatcher(const std::string& key, const std::string& range_end, bool prev_kv) {
    etcdserverpb::WatchCreateRequest create;
    create.set_key(key);
    create.set_range_end(range_end);
    create.set_prev_kv(prev_kv);
    create.set_progress_notify(true);
    create.set_start_revision(2);
    watchers_.push_back(
        std::make_unique<Watcher>(world_, static_cast<uint32_t>(watchers_.size()), std::move(create)));
  }

  static bool Eventually(const std::function<bool()>& condition) {
    const auto deadline = std::chrono::steady_clock::now() + kSettleTime;
    while (!condition()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::sleep_for(milliseconds(100));
    }
    return true;
  }

  static grpc::Status CallOn(const std::shared_ptr<grpc::Channel>& channel, const Call& call) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + seconds(2));
    return call(context, channel);
  }

  // Empty, or the last error.
  std::string OnAny(const Call& call) {
    std::string error;
    for (const auto& channel : world_.channels) {
      const grpc::Status status = CallOn(channel, call);
      if (status.ok()) return "";
      error = status.error_message();
    }
    return error;
  }

  bool LeasesGone(std::string* why) {
    etcdserverpb::LeaseLeasesResponse leases;
    *why = OnAny([&](grpc::ClientContext& context, const std::shared_ptr<grpc::Channel>& channel) {
      return etcdserverpb::Lease::Stub(channel).LeaseLeases(&context, {}, &leases);
    });
    if (why->empty()) *why = std::to_string(leases.leases_size()) + " are left";
    return leases.has_header() && leases.leases_size() == 0;
  }

  bool ReadEnd(uint32_t member, const etcdserverpb::RangeRequest& all, MemberEnd& end, std::string* why) {
    const auto& channel = world_.channels[member];
    grpc::Status status = CallOn(channel, [&](grpc::ClientContext& context, const auto& to) {
      return etcdserverpb::KV::Stub(to).Range(&context, all, end.mutable_keys());
    });
    if (status.ok()) {
      status = CallOn(channel, [&](grpc::ClientContext& context, const auto& to) {
        etcdserverpb::HashKVRequest request;
        request.set_revision(end.keys().header().revision());
        return etcdserverpb::Maintenance::Stub(to).HashKV(&context, request, end.mutable_hash());
      });
    }
    if (status.ok()) {
      status = CallOn(channel, [&](grpc::ClientContext& context, const auto& to) {
        return etcdserverpb::Lease::Stub(to).LeaseLeases(&context, {}, end.mutable_leases());
      });
    }
    *why = status.error_message();
    return status.ok();
  }

  World& world_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::vector<std::unique_ptr<Watcher>> watchers_;
  std::vector<std::thread> client_threads_;
  std::vector<std::thread> watcher_threads_;
  std::thread reviewer_;
};

// Empty to end.
std::string Obey(Drill& drill, World& world, const std::string& command) {
  if (command == "run") return drill.Run();
  if (command == "stop") return drill.Stop();
  if (command == "compact") return drill.Compact();
  if (command == "settle") return drill.Settle();
  if (command == "silence") return std::to_string(world.silence.LongestMs());
  if (command == "mark") {
    world.silence.Mark();
    return "marked";
  }
  return "";
}

}  // namespace
}  // namespace kvd::drill

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: drill_clients ENDPOINT,... HISTORY CLIENTS SEED\n");
    return 2;
  }
  kvd::drill::Recorder recorder(argv[2]);
  kvd::drill::World world;
  world.recorder = &recorder;
  std::istringstream list(argv[1]);
  for (std::string endpoint; std::getline(list, endpoint, ',');) {
    world.endpoints.push_back(endpoint);
    world.channels.push_back(
        kvd::support::Connect(endpoint, kvd::support::ReconnectSoon(std::chrono::milliseconds(1000))));
  }
  kvd::drill::Drill drill(world, static_cast<uint32_t>(std::atoi(argv[3])),
                          std::strtoull(argv[4], nullptr, 10));
  for (std::string line; std::getline(std::cin, line);) {
    const std::string answer = kvd::drill::Obey(drill, world, line);
    if (answer.empty()) break;
    std::cout << answer << std::endl;
  }
  return 0;
}
