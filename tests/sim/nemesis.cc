#include "nemesis.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/sites.h"

namespace kvd::sim {

using base::Nanos;
using std::chrono::milliseconds;

Nemesis::Nemesis(SimCluster& cluster, const Swarm& swarm, Verdict& verdict, Note note)
    : cluster_(cluster),
      swarm_(swarm),
      verdict_(verdict),
      note_(std::move(note)),
      random_(base::Random(swarm.seed).Split("nemesis")) {
  base::Random atlas = base::Random(swarm.seed).Split("atlas");
  while (atlas_.size() < (swarm.cluster.members - 1) / 2) {
    size_t member = atlas.Below(swarm.cluster.members);
    if (std::find(atlas_.begin(), atlas_.end(), member) == atlas_.end()) atlas_.push_back(member);
  }
}

void Nemesis::Later(Nanos delay, std::function<void()> task) {
  cluster_.wire().PostAfter(delay, std::move(task));
}

void Nemesis::Every(Nanos average, void (Nemesis::*fault)()) {
  if (average.count() == 0) return;
  double wait = -std::log(1 - random_.Unit()) * static_cast<double>(average.count());
  Later(Nanos(static_cast<int64_t>(wait) + 1), [this, average, fault] {
    if (stopped_) return;
    ++faults_;
    (this->*fault)();
    Every(average, fault);
  });
}

void Nemesis::Start() {
  Every(swarm_.crash_every, &Nemesis::Crash);
  Every(swarm_.crash_at_op_every, &Nemesis::CrashAtOp);
  Every(swarm_.kill_every, &Nemesis::Kill);
  Every(swarm_.pause_every, &Nemesis::Pause);
  Every(swarm_.partition_every, &Nemesis::Partition);
  Every(swarm_.cut_link_every, &Nemesis::CutLink);
  Every(swarm_.stall_every, &Nemesis::Stall);
  Every(swarm_.full_disk_every, &Nemesis::FullDisk);
  Every(swarm_.sync_failure_every, &Nemesis::SyncFailure);
  Every(swarm_.clock_change_every, &Nemesis::ClockChange);
  Every(swarm_.bad_disk_every, &Nemesis::BadDisk);
  cluster_.SetOnDiskFailure([this](size_t member) {
    // The process ends with the task that it is in.
    Later(Nanos(1), [this, member] {
      if (!cluster_.alive(member)) Bring(member);
    });
  });
  Every(swarm_.transfer_every, &Nemesis::Transfer);
  Every(swarm_.member_change_every, &Nemesis::ChangeMembers);
  Every(swarm_.bad_network_every, &Nemesis::BadNetwork);
}

// Mostly the leader, where the most can go wrong.
std::optional<size_t> Nemesis::Victim() {
  if (random_.Chance(0.4)) {
    if (std::optional<size_t> leader = cluster_.Leader()) return leader;
  }
  size_t member = random_.Below(cluster_.size());
  if (!cluster_.alive(member)) return std::nullopt;
  return member;
}

base::MemFileSystem::CrashOptions Nemesis::DrawCrash() {
  base::MemFileSystem::CrashOptions crash;
  switch (random_.Below(4)) {
    case 0:
      return {0, 0, 0};
    case 1:
      return {1, 0, 1};
    default:
      crash.keep_write = random_.Unit();
      crash.tear_write = random_.Unit();
      crash.keep_directory_op = random_.Unit();
      return crash;
  }
}

void Nemesis::Bring(size_t member) {
  uint64_t life = cluster_.life(member);
  Later(milliseconds(10) + Up(swarm_.down_for), [this, member, life] {
    if (cluster_.life(member) != life || cluster_.removed(member)) return;  // somebody else did
    note_(absl::StrCat("member ", member, " starts"));
    absl::Status started = cluster_.TryRestart(member);
    if (!started.ok()) StartFailed(member, started);
  });
}

void Nemesis::StartFailed(size_t member, const absl::Status& status) {
  if (absl::IsResourceExhausted(status)) return Bring(member);
  if (damaged_.contains(member)) {
    KVD_PROBE("fault/damaged disk found at the start");
    note_(absl::StrCat("member ", member, " does not start: ", std::string(status.ToString())));
    return Replace(member);
  }
  verdict_.Fail("restart", absl::StrCat("member ", member, ": ", std::string(status.ToString())));
}

void Nemesis::Replace(size_t member) {
  broken_.insert(member);
  std::optional<size_t> leader;
  for (size_t i = 0; i < cluster_.size(); ++i) {
    if (cluster_.alive(i) && cluster_.node(i).is_leader()) leader = i;
  }
  if (leader) {
    std::vector<server::Member> members = cluster_.node(*leader).cluster().View()->Members();
    bool there = std::any_of(members.begin(), members.end(),
                             [&](const server::Member& m) { return m.id == cluster_.id(member); });
    if (!there) {
      KVD_PROBE("fault/member with a lost disk replaced");
      note_(absl::StrCat("member ", member, " is out of the cluster"));
      broken_.erase(member);
      return AddMember(/*may_be_learner=*/false);
    }
    note_(absl::StrCat("removing member ", member, ", whose disk is lost, on ", *leader));
    cluster_.node(*leader).RemoveMember(cluster_.id(member),
                                        [](server::Error, std::vector<server::Member>) {});
  }
  Later(std::chrono::seconds(1), [this, member] { Replace(member); });
}

void Nemesis::Crash() {
  std::optional<size_t> member = Victim();
  if (!member) return;
  KVD_PROBE("fault/power loss");
  note_(absl::StrCat("member ", *member, " loses power"));
  cluster_.Crash(*member, DrawCrash());
  Bring(*member);
}

void Nemesis::CrashAtOp() {
  std::optional<size_t> member = Victim();
  if (!member) return;
  uint64_t life = cluster_.life(*member);
  cluster_.CrashAtOp(*member, random_.Between(1, 20), DrawCrash());
  Later(milliseconds(200), [this, member = *member, life] {
    if (cluster_.alive(member) && cluster_.life(member) == life) {
      note_(absl::StrCat("member ", member, " loses power, between operations"));
      cluster_.Crash(member, DrawCrash());
    } else if (cluster_.life(member) == life + 1) {
      KVD_PROBE("fault/power loss in an operation");
      note_(absl::StrCat("member ", member, " has lost power in an operation"));
    } else {
      return;  // it is another process by now
    }
    Bring(member);
  });
}

void Nemesis::Kill() {
  std::optional<size_t> member = Victim();
  if (!member) return;
  KVD_PROBE("fault/kill");
  note_(absl::StrCat("member ", *member, " is killed"));
  cluster_.Kill(*member);
  Bring(*member);
}

void Nemesis::Pause() {
  std::optional<size_t> member = Victim();
  if (!member) return;
  Nanos duration = Up(3 * swarm_.election() + std::chrono::seconds(1));
  KVD_PROBE("fault/pause");
  note_(absl::StrCat("member ", *member, " pauses for ", duration.count() / 1'000'000, " ms"));
  cluster_.Pause(*member, duration);
}

void Nemesis::Partition() {
  Nanos duration = Up(5 * swarm_.election() + std::chrono::seconds(2));
  if (random_.Chance(0.5)) {
    std::optional<size_t> member = Victim();
    if (!member) return;
    note_(absl::StrCat("member ", *member, " is cut off for ", duration.count() / 1'000'000, " ms"));
    cluster_.Isolate(*member, true);
    Later(duration, [this, member = *member] { cluster_.Isolate(member, false); });
    return;
  }
  std::vector<std::pair<size_t, size_t>> cut;
  std::vector<bool> side(cluster_.size());
  for (size_t i = 0; i < side.size(); ++i) side[i] = random_.Chance(0.5);
  bool one_way = random_.Chance(0.3);
  for (size_t i = 0; i < side.size(); ++i) {
    for (size_t k = 0; k < side.size(); ++k) {
      if (side[i] != side[k] && !(one_way && side[i])) cut.emplace_back(i, k);
    }
  }
  KVD_PROBE("fault/partition");
  note_(absl::StrCat("a partition", one_way ? " one way" : "", " for ", duration.count() / 1'000'000, " ms"));
  for (auto [from, to] : cut) cluster_.CutLink(from, to, true);
  Later(duration, [this, cut] {
    for (auto [from, to] : cut) cluster_.CutLink(from, to, false);
  });
}

// Flaps: cut and whole in quick succession.
void Nemesis::CutLink() {
  size_t from = random_.Below(cluster_.size());
  size_t to = random_.Below(cluster_.size());
  int times = random_.Chance(0.3) ? 10 : 1;
  Nanos each = Up(3 * swarm_.election()) / times + Nanos(1);
  KVD_PROBE("fault/link cut");
  note_(absl::StrCat("no messages from ", from, " to ", to, ", ", times, " times for ",
                     each.count() / 1'000'000, " ms"));
  for (int i = 0; i < times; ++i) {
    Later(2 * i * each + Nanos(1), [this, from, to] { cluster_.CutLink(from, to, true); });
    Later((2 * i + 1) * each + Nanos(1), [this, from, to] { cluster_.CutLink(from, to, false); });
  }
}

void Nemesis::Stall() {
  std::optional<size_t> member = Victim();
  if (!member) return;
  Nanos longest = random_.Chance(0.5) ? 3 * swarm_.election() : swarm_.election() / 2;
  KVD_PROBE("fault/disk stall");
  note_(
      absl::StrCat("the disk of member ", *member, " stalls for up to ", longest.count() / 1'000'000, " ms"));
  Latency latency = swarm_.cluster.log_latency;
  latency.stall_chance = 0.3;
  latency.max_stall = longest;
  cluster_.SetLogLatency(*member, latency);
  Later(Up(std::chrono::seconds(3)),
        [this, member = *member] { cluster_.SetLogLatency(member, swarm_.cluster.log_latency); });
}

void Nemesis::FullDisk() {
  std::optional<size_t> member = Victim();
  if (!member) return;
  uint64_t room = random_.Below(20'000);
  KVD_PROBE("fault/full disk");
  note_(absl::StrCat("the disk of member ", *member, " has room for ", room, " bytes"));
  cluster_.SetDiskRoom(*member, room);
  Later(Up(std::chrono::seconds(5)),
        [this, member = *member] { cluster_.SetDiskRoom(member, std::nullopt); });
}

void Nemesis::SyncFailure() {
  std::optional<size_t> member = Victim();
  if (!member) return;
  KVD_PROBE("fault/sync failure");
  note_(absl::StrCat("a sync of member ", *member, " will fail"));
  cluster_.FailSync(*member, random_.Between(1, 10));
}

void Nemesis::ClockChange() {
  size_t member = random_.Below(cluster_.size());
  KVD_PROBE("fault/clock change");
  if (double drift = swarm_.cluster.max_drift; drift > 0 && random_.Chance(0.5)) {
    double rate = 1.0 + drift * (2 * random_.Unit() - 1);
    note_(absl::StrCat("the clock of member ", member, " goes at ", rate));
    return cluster_.SetClockRate(member, rate);
  }
  Nanos by = Up(random_.Chance(0.5) ? Nanos(std::chrono::hours(24)) : Nanos(std::chrono::seconds(10)));
  if (random_.Chance(0.5)) by = -by;
  note_(absl::StrCat("the wall clock of member ", member, " jumps by ", by.count() / 1'000'000, " ms"));
  cluster_.JumpWallClock(member, by);
}

void Nemesis::BadDisk() {
  if (atlas_.empty()) return;
  size_t member = atlas_[random_.Below(atlas_.size())];
  if (!cluster_.alive(member)) return;
  damaged_.insert(member);
  switch (random_.Below(4)) {
    case 0:
      KVD_PROBE("fault/bit rot");
      note_(absl::StrCat("member ", member, " is killed, and a bit of its log rots"));
      cluster_.Kill(member);
      cluster_.RotLog(member);
      return Bring(member);
    case 1:
      KVD_PROBE("fault/unreadable file");
      note_(absl::StrCat("member ", member, " is killed, and a file of its log becomes unreadable"));
      cluster_.Kill(member);
      cluster_.LoseLogFile(member);
      return Bring(member);
    default:
      KVD_PROBE("fault/lying sync");
      note_(absl::StrCat("the disk of member ", member, " lies about syncs"));
      cluster_.LieAboutSync(member, true);
      uint64_t life = cluster_.life(member);
      Later(Up(std::chrono::seconds(2)), [this, member, life] {
        if (!cluster_.alive(member) || cluster_.life(member) != life) return;
        if (random_.Chance(0.3)) return cluster_.LieAboutSync(member, false);
        note_(absl::StrCat("member ", member, " loses power, and what its disk said it had"));
        cluster_.Crash(member, DrawCrash());
        Bring(member);
      });
  }
}

void Nemesis::Transfer() {
  std::optional<size_t> leader = cluster_.Leader();
  size_t to = random_.Below(cluster_.size());
  if (!leader || !cluster_.booted(to)) return;
  KVD_PROBE("fault/leadership transfer");
  note_(absl::StrCat("leadership goes from ", *leader, " to ", to));
  cluster_.node(*leader).MoveLeader(cluster_.id(to), [](server::Error) {});
}

void Nemesis::BadNetwork() {
  if (std::exchange(network_is_bad_, true)) return;
  KVD_PROBE("fault/bad network");
  note_("the network is bad");
  const SimCluster::Options& c = swarm_.cluster;
  cluster_.SetNetwork(0.3, 0.2, c.min_delay, swarm_.election());
  Later(Up(std::chrono::seconds(2)), [this, &c] {
    network_is_bad_ = false;
    cluster_.SetNetwork(c.loss, c.duplicate, c.min_delay, c.max_delay);
  });
}

void Nemesis::ChangeMembers() {
  ChangeMember();
  // A second one while the first is under way, perhaps by another member.
  if (swarm_.hasty_changes) {
    ChangeMember();
    Later(Up(milliseconds(50)), [this] { ChangeMember(); });
  }
}

void Nemesis::ChangeMember() {
  size_t on = random_.Below(cluster_.size());
  if (!cluster_.alive(on)) return;
  server::Node& node = cluster_.node(on);
  auto view = node.cluster().View();
  std::vector<server::Member> members = view->Members();
  if (members.empty()) return;
  const server::Member& chosen = members[random_.Below(members.size())];
  auto voters =
      std::count_if(members.begin(), members.end(), [](const server::Member& m) { return !m.is_learner; });
  switch (random_.Below(3)) {
    case 0:
      return AddMember(/*may_be_learner=*/true);
    case 1:
      // Of two voters the one that stays needs the other to learn that it is alone: no fault may come
      // between.
      if (voters < 3 || Now() < next_removal_) return;
      next_removal_ = Now() + 5 * swarm_.election() + std::chrono::seconds(10);
      note_(absl::StrCat("removing a member, on ", on));
      return node.RemoveMember(chosen.id, [](server::Error, std::vector<server::Member>) {});
    default:
      for (const server::Member& member : members) {
        if (!member.is_learner) continue;
        note_(absl::StrCat("promoting a learner, on ", on));
        return node.PromoteMember(
            member.id, [](server::Error, const std::string&, const std::vector<server::Member>&) {});
      }
  }
}

void Nemesis::AddMember(bool may_be_learner) {
  size_t on = random_.Below(cluster_.size());
  if (!cluster_.alive(on)) return;
  std::optional<size_t> slot;
  for (size_t i = 0; i < cluster_.size(); ++i) {
    // A slot is used again only when everybody knows that its member is gone.
    if (!cluster_.booted(i) && cluster_.id(i) == 0) slot = i;
  }
  if (!slot) return;
  bool learner = may_be_learner && random_.Chance(0.5);
  server::Member member = cluster_.Joining(*slot, learner);
  note_(absl::StrCat("member ", *slot, " joins", learner ? " as a learner" : "", ", on ", on));
  std::vector<server::Member> known = cluster_.node(on).cluster().View()->Members();
  known.push_back(member);
  auto booted = std::make_shared<bool>(false);
  auto boot = [this, slot = *slot, known, booted] {
    if (std::exchange(*booted, true)) return;
    absl::Status started = cluster_.BootJoined(slot, known);
    if (!started.ok() && !absl::IsResourceExhausted(started))
      verdict_.Fail("restart", absl::StrCat("joining member ", slot, ": ", std::string(started.ToString())));
  };
  cluster_.node(on).AddMember(member, [this, boot](server::Error error, std::vector<server::Member>) {
    if (error == server::Error::kOk) Later(Nanos(1), boot);
  });
  // Whoever heard nothing starts it all the same: it may have been added.
  Later(std::chrono::seconds(3), boot);
}

bool Nemesis::RestoreAll(const std::vector<uint64_t>& members) {
  bool all = true;
  for (size_t i = 0; i < cluster_.size(); ++i) {
    bool member =
        members.empty() || std::find(members.begin(), members.end(), cluster_.id(i)) != members.end();
    if (!member) {
      if (cluster_.alive(i)) cluster_.Kill(i);
      continue;
    }
    if (!cluster_.booted(i) || cluster_.removed(i) || cluster_.alive(i) || broken_.contains(i)) continue;
    note_(absl::StrCat("member ", i, " starts"));
    absl::Status started = cluster_.TryRestart(i);
    if (!started.ok()) {
      all = false;
      StartFailed(i, started);
    }
  }
  return all;
}

}  // namespace kvd::sim
