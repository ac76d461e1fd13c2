#include "raft/membership.h"

#include <map>
#include <set>

#include "base/random.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "raft/conf_change.h"
#include "raft/trace.h"

namespace kvd::raft {
namespace {

using Changes = std::vector<ConfChangeSingle>;

// "v1 l2 r3 u4": add voter, add learner, remove, update.
Changes Parse(const std::string& text) {
  Changes out;
  for (size_t i = 0; i < text.size(); i += 2) {
    ConfChangeType type = text[i] == 'v'   ? ConfChangeType::kAddNode
                          : text[i] == 'l' ? ConfChangeType::kAddLearnerNode
                          : text[i] == 'r' ? ConfChangeType::kRemoveNode
                                           : ConfChangeType::kUpdateNode;
    size_t end = text.find(' ', i);
    if (end == std::string::npos) end = text.size();
    out.push_back({type, std::stoull(text.substr(i + 1, end - i - 1))});
    i = end - 1;
  }
  return out;
}

std::string Show(const absl::StatusOr<ConfState>& conf) {
  return conf.ok() ? ToString(*conf) : std::string(conf.status().message());
}

class Walk {
 public:
  Walk& Simple(const std::string& changes) { return Take(SimpleChange(conf_, Parse(changes))); }
  Walk& Enter(const std::string& changes, bool auto_leave = false) {
    return Take(EnterJoint(conf_, auto_leave, Parse(changes)));
  }
  Walk& Leave() { return Take(LeaveJoint(conf_)); }
  std::string Is() const { return Show(last_); }

 private:
  Walk& Take(absl::StatusOr<ConfState> next) {
    last_ = std::move(next);
    if (last_.ok()) conf_ = *last_;
    return *this;
  }
  ConfState conf_;
  absl::StatusOr<ConfState> last_ = ConfState();
};

TEST(Membership, Simple_OneVoterAtATime) {
  Walk w;
  EXPECT_EQ(w.Simple("l1").Is(), "the change removes every voter");
  EXPECT_EQ(w.Simple("v1").Is(), "voters=(1)");
  EXPECT_EQ(w.Simple("v1").Is(), "voters=(1)");
  EXPECT_EQ(w.Simple("r2").Is(), "voters=(1)");
  EXPECT_EQ(w.Simple("v2 v3").Is(), "more than one voter changes without a joint configuration");
  EXPECT_EQ(w.Simple("v2 l3 l4").Is(), "voters=(1 2) learners=(3 4)");
  EXPECT_EQ(w.Simple("r1 v5").Is(), "more than one voter changes without a joint configuration");
  EXPECT_EQ(w.Simple("r1 r2").Is(), "the change removes every voter");
  EXPECT_EQ(w.Simple("r1").Is(), "voters=(2) learners=(3 4)");
  EXPECT_EQ(w.Simple("r2").Is(), "the change removes every voter");
  EXPECT_EQ(w.Simple("r3 r4").Is(), "voters=(2)");
  EXPECT_EQ(w.Leave().Is(), "a configuration that is not joint cannot be left");
}

TEST(Membership, Simple_PromoteAndDemote) {
  Walk w;
  w.Simple("v1").Simple("v2");
  EXPECT_EQ(w.Simple("l2").Is(), "voters=(1) learners=(2)");
  EXPECT_EQ(w.Simple("l2").Is(), "voters=(1) learners=(2)");
  EXPECT_EQ(w.Simple("v2").Is(), "voters=(1 2)");
  EXPECT_EQ(w.Simple("l2 v2").Is(), "voters=(1 2)");
  EXPECT_EQ(w.Simple("v2 l2 v3").Is(), "more than one voter changes without a joint configuration");
  EXPECT_EQ(w.Simple("l1 l2").Is(), "the change removes every voter");
}

TEST(Membership, UpdateAndNodeZero_ChangeNothing) {
  Walk w;
  w.Simple("v1");
  EXPECT_EQ(w.Simple("u1 u2 v0 l0 r0").Is(), "voters=(1)");
}

TEST(Membership, Joint_EnterOnceLeaveOnce) {
  Walk w;
  EXPECT_EQ(w.Enter("v1").Is(), "a configuration without voters cannot become joint");
  w.Simple("v1");
  EXPECT_EQ(w.Leave().Is(), "a configuration that is not joint cannot be left");
  EXPECT_EQ(w.Enter("v2 v3", true).Is(), "voters=(1 2 3)&&(1) autoleave");
  EXPECT_EQ(w.Enter("v4").Is(), "the configuration is joint already");
  EXPECT_EQ(w.Simple("v4").Is(), "a simple change cannot be made in a joint configuration");
  EXPECT_EQ(w.Leave().Is(), "voters=(1 2 3)");
  EXPECT_EQ(w.Enter("r1 r2 r3").Is(), "the change removes every voter");
  EXPECT_EQ(w.Enter("r1 r2 r3 v4").Is(), "voters=(4)&&(1 2 3)");
  EXPECT_EQ(w.Leave().Is(), "voters=(4)");
}

TEST(Membership, Joint_Idempotent) {
  Walk w;
  w.Simple("v1");
  EXPECT_EQ(w.Enter("r1 r2 r9 v10 v10 l11 l11 v12 l12 l13 r13 v1").Is(),
            "voters=(1 10)&&(1) learners=(11 12)");
  EXPECT_EQ(w.Leave().Is(), "voters=(1 10) learners=(11 12)");
}

TEST(Membership, Joint_DemotedVoterWaitsInLearnersNext) {
  Walk w;
  w.Simple("v1");
  EXPECT_EQ(w.Enter("v2 l1").Is(), "voters=(2)&&(1) learners_next=(1)");
  EXPECT_EQ(w.Leave().Is(), "voters=(2) learners=(1)");
  EXPECT_EQ(w.Enter("v1").Is(), "voters=(1 2)&&(2)");
  EXPECT_EQ(w.Leave().Is(), "voters=(1 2)");
  EXPECT_EQ(w.Enter("l1 v1").Is(), "voters=(1 2)&&(1 2)");
  EXPECT_EQ(w.Leave().Is(), "voters=(1 2)");
  EXPECT_EQ(w.Enter("l1 r1").Is(), "voters=(2)&&(1 2)");
}

TEST(Membership, Wants_ByTransitionAndNumber) {
  ConfChangeV2 one{.changes = Parse("v1")};
  ConfChangeV2 two{.changes = Parse("v1 v2")};
  ConfChangeV2 leave;
  EXPECT_FALSE(WantsJoint(one));
  EXPECT_TRUE(WantsJoint(two) && WantsAutoLeave(two));
  EXPECT_TRUE(WantsLeave(leave));
  one.transition = ConfChangeTransition::kJointExplicit;
  EXPECT_TRUE(WantsJoint(one) && !WantsAutoLeave(one));
  one.transition = ConfChangeTransition::kJointImplicit;
  EXPECT_TRUE(WantsJoint(one) && WantsAutoLeave(one));
  leave.context = "why";
  EXPECT_TRUE(WantsLeave(leave));
}

// A membership as one role per node and majority; slow, and with nothing to get wrong.
struct Model {
  struct Roles {
    bool in = false, out = false, learner = false, next = false;
  };
  std::map<NodeId, Roles> nodes;
  bool joint = false;

  explicit Model(const ConfState& c) : joint(!c.voters_outgoing.empty()) {
    for (NodeId id : c.voters) nodes[id].in = true;
    for (NodeId id : c.voters_outgoing) nodes[id].out = true;
    for (NodeId id : c.learners) nodes[id].learner = true;
    for (NodeId id : c.learners_next) nodes[id].next = true;
  }
  void Apply(const ConfChangeSingle& c) {
    if (c.node == 0 || c.type == ConfChangeType::kUpdateNode) return;
    Roles& r = nodes[c.node];
    r.in = r.learner = r.next = false;
    if (c.type == ConfChangeType::kAddNode) r.in = true;
    if (c.type == ConfChangeType::kAddLearnerNode) (r.out ? r.next : r.learner) = true;
  }
  ConfState State() const {
    ConfState c;
    for (const auto& [id, r] : nodes) {
      if (r.in) c.voters.push_back(id);
      if (r.out) c.voters_outgoing.push_back(id);
      if (r.learner) c.learners.push_back(id);
      if (r.next) c.learners_next.push_back(id);
    }
    return c;
  }
};

void CheckSound(const ConfState& c) {
  const std::set<NodeId> voters(c.voters.begin(), c.voters.end());
  const std::set<NodeId> outgoing(c.voters_outgoing.begin(), c.voters_outgoing.end());
  const std::set<NodeId> learners(c.learners.begin(), c.learners.end());
  EXPECT_FALSE(voters.empty());
  for (NodeId id : learners) EXPECT_TRUE(voters.count(id) == 0 && outgoing.count(id) == 0);
  for (NodeId id : c.learners_next) EXPECT_TRUE(outgoing.count(id) == 1 && voters.count(id) == 0);
  EXPECT_TRUE(IsJoint(c) || (c.learners_next.empty() && !c.auto_leave));
}

TEST(Membership, RandomWalks_EqualTheModel) {
  base::Random random(11);
  for (int walk = 0; walk < 4000; ++walk) {
    ConfState conf{.voters = {1}};
    for (int step = 0; step < 10; ++step) {
      Changes changes;
      for (uint64_t i = random.Below(4); i > 0; --i) {
        changes.push_back({static_cast<ConfChangeType>(random.Below(4)), random.Below(7)});
      }
      Model model(conf);
      const uint64_t kind = random.Below(3);
      absl::StatusOr<ConfState> next;
      bool legal = true;
      if (kind == 0) {
        next = SimpleChange(conf, changes);
        for (const auto& c : changes) model.Apply(c);
        const ConfState after = model.State();
        size_t differ = 0;
        for (NodeId id = 1; id < 7; ++id) {
          differ += (Model(conf).nodes[id].in != model.nodes[id].in);
        }
        legal = !IsJoint(conf) && differ <= 1 && !after.voters.empty();
      } else if (kind == 1) {
        next = EnterJoint(conf, true, changes);
        legal = !model.joint;
        for (auto& [id, r] : model.nodes) r.out = r.in;
        for (const auto& c : changes) model.Apply(c);
        legal = legal && !model.State().voters.empty();
      } else {
        next = LeaveJoint(conf);
        legal = model.joint;
        for (auto& [id, r] : model.nodes) r = {r.in, false, r.learner || r.next, false};
      }
      ASSERT_EQ(next.ok(), legal);
      if (!legal) continue;
      ConfState expected = model.State();
      expected.auto_leave = kind == 1;
      ASSERT_EQ(ToString(*next), ToString(expected));
      CheckSound(*next);
      conf = *next;
    }
  }
}

// A quorum of each configuration meets every quorum of the next one.
TEST(Membership, RandomWalks_QuorumsOverlap) {
  base::Random random(13);
  auto wins = [](const std::vector<NodeId>& voters, uint64_t set) {
    size_t yes = 0;
    for (NodeId id : voters) yes += set >> id & 1;
    return voters.empty() || yes > voters.size() / 2;
  };
  auto quorum = [&](const ConfState& c, uint64_t set) {
    return wins(c.voters, set) && wins(c.voters_outgoing, set);
  };
  for (int walk = 0; walk < 300; ++walk) {
    ConfState conf{.voters = {1, 2, 3}};
    for (int step = 0; step < 8; ++step) {
      ConfChangeV2 change;
      for (uint64_t i = random.Below(4); i > 0; --i) {
        change.changes.push_back({static_cast<ConfChangeType>(random.Below(4)), random.Between(1, 5)});
      }
      change.transition = static_cast<ConfChangeTransition>(random.Below(3));
      absl::StatusOr<ConfState> next = Change(conf, change);
      if (!next.ok()) continue;
      for (uint64_t set = 0; set < 64; set += 2) {
        // If a set wins one, its complement must not win the other.
        EXPECT_FALSE(quorum(conf, set) && quorum(*next, 63 & ~set & ~1ULL))
            << ToString(conf) << " then " << ToString(*next);
      }
      conf = *next;
    }
  }
}

TEST(ConfChangeCodec, KnownBytes) {
  EXPECT_EQ(
      EncodeConfChange(ConfChange{.id = 1, .type = ConfChangeType::kRemoveNode, .node = 300, .context = "x"}),
      std::string("\x08\x01\x10\x01\x18\xac\x02\x22\x01x", 10));
  EXPECT_EQ(EncodeConfChange(ConfChangeV2{.transition = ConfChangeTransition::kJointExplicit,
                                          .changes = {{ConfChangeType::kAddLearnerNode, 5}}}),
            std::string("\x08\x02\x12\x04\x08\x03\x10\x05", 8));
  EXPECT_EQ(DecodeConfChangeV2(""), ConfChangeV2{});
}

TEST(ConfChangeCodec, RandomChanges_RoundTripAndNoCutCrashes) {
  base::Random random(17);
  for (int i = 0; i < 5000; ++i) {
    ConfChange v1{.id = random.Next() >> random.Below(64),
                  .type = static_cast<ConfChangeType>(random.Below(4)),
                  .node = random.Next() >> random.Below(64),
                  .context = std::string(random.Below(300), 'c')};
    EXPECT_EQ(DecodeConfChange(EncodeConfChange(v1)), v1);
    ConfChangeV2 v2{.transition = static_cast<ConfChangeTransition>(random.Below(3)),
                    .context = std::string(random.Below(3), 'd')};
    for (uint64_t n = random.Below(4); n > 0; --n) {
      v2.changes.push_back({static_cast<ConfChangeType>(random.Below(4)), random.Next() >> random.Below(64)});
    }
    std::string bytes = EncodeConfChange(v2);
    EXPECT_EQ(DecodeConfChangeV2(bytes), v2);
    for (size_t cut = 0; cut < bytes.size(); ++cut) {
      (void)DecodeConfChangeV2(bytes.substr(0, cut));
      (void)DecodeConfChange(bytes.substr(cut));
    }
  }
}

TEST(ConfChangeCodec, UnknownFieldsSkipped_UnknownTypesRefused) {
  EXPECT_EQ(DecodeConfChange(std::string("\x08\x01\x2a\x01z\x18\x02", 7)), (ConfChange{.id = 1, .node = 2}));
  EXPECT_EQ(DecodeConfChange(std::string("\x10\x04", 2)), std::nullopt);
  EXPECT_EQ(DecodeConfChange(std::string("\x22\x05x", 3)), std::nullopt);
  EXPECT_EQ(DecodeConfChange(std::string("\x0a\x01x", 3)), std::nullopt);
}

}  // namespace
}  // namespace kvd::raft
