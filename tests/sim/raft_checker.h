// Raft's own promises, checked at every step of the core of every member, from its trace events: what holds
// for each member by itself (terms, commit index, what a leader may commit and change) and what holds among
// them (one leader per term, equal logs where they share an entry, leaders that hold all that was committed).
// And what a member has promised to others must be on its disk whenever it starts again.
//
// Checker names: "one leader", "log matching", "commit", "leader completeness", "leader's log", "own term",
// "one change", "terms", "promises".
//
// Thread-compatible.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "raft/log_view.h"
#include "raft/trace.h"
#include "raft/types.h"
#include "verdict.h"

namespace kvd::sim {

class RaftChecker final : public raft::TraceSink {
 public:
  explicit RaftChecker(Verdict& verdict) : verdict_(verdict) {}

  // A member starts with what its disk holds. False if that is less than what it has promised, which only a
  // disk that lies can explain: then it must not take part any more. With an honest disk it is a failure of
  // the run.
  bool OnStart(raft::NodeId node, const raft::HardState& hard, const raft::LogView& log, bool disk_has_lied);
  void OnEvent(raft::NodeId node, const raft::trace::Event& event) override;
  // What a member says to another is a promise.
  void OnSend(const raft::Message& message);

  raft::Index committed() const { return committed_.empty() ? 0 : committed_.rbegin()->first; }

 private:
  struct Mark {
    raft::Term term = 0;
    uint32_t hash = 0;  // of type and data
    bool changes_members = false;
    friend bool operator==(const Mark&, const Mark&) = default;
  };
  struct Member {
    raft::Term term = 0;
    raft::Role role = raft::Role::kFollower;
    raft::Index commit = 0;
    raft::Index before = 0;  // the log's entries start behind it
    raft::Term before_term = 0;
    std::deque<Mark> log;
    // To others, over all its lives.
    raft::Term promised_term = 0;
    std::map<raft::Term, raft::NodeId> votes;
    std::pair<raft::Index, raft::Term> acknowledged = {0, 0};
    std::pair<raft::Index, raft::Term> led_commit = {0, 0};  // the last it committed as a leader

    raft::Index last() const { return before + log.size(); }
    bool Holds(raft::Index index) const { return index > before && index <= last(); }
    const Mark& At(raft::Index index) const { return log[index - before - 1]; }
    // Nothing where it is not known.
    std::pair<bool, raft::Term> TermAt(raft::Index index) const;
    void Keep(raft::Index last_kept);
  };
  struct Committed {
    Mark mark;
    raft::Term in_term = 0;  // known to be committed in this term, and so to every later leader
  };

  void Handle(raft::NodeId id, Member& m, const raft::trace::RoleChanged& e);
  void Handle(raft::NodeId id, Member& m, const raft::trace::EntriesAppended& e);
  void Handle(raft::NodeId id, Member& m, const raft::trace::LogTruncated& e);
  void Handle(raft::NodeId id, Member& m, const raft::trace::CommitAdvanced& e);
  void Handle(raft::NodeId id, Member& m, const raft::trace::SnapshotReceived& e);
  template <class Other>
  void Handle(raft::NodeId, Member&, const Other&) {}

  void Lead(raft::NodeId id, raft::Term term);
  void SeeTerm(raft::NodeId id, Member& m, raft::Term term);
  void See(raft::NodeId id, const Member& m, raft::Index index);
  void Commit(raft::NodeId id, Member& m, raft::Index index, raft::Term in_term);
  static bool KeepsPromises(const Member& before, const raft::HardState& hard, const raft::LogView& log,
                            bool disk_has_lied, std::string* why_not);
  void Fail(const std::string& checker, raft::NodeId id, const std::string& what);
  static Mark MarkOf(const raft::Entry& entry);

  Verdict& verdict_;
  std::map<raft::NodeId, Member> members_;
  std::map<raft::Term, raft::NodeId> leaders_;
  // Every entry that anybody has ever held: what it is, and the term of the one before it.
  std::map<std::pair<raft::Index, raft::Term>, std::pair<Mark, raft::Term>> entries_;
  std::map<raft::Index, Committed> committed_;
};

}  // namespace kvd::sim
