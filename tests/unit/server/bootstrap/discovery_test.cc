// The rules of registering and waiting, with a service whose every answer a test decides.
#include "server/bootstrap/discovery.h"

#include <deque>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvd::server {
namespace {

using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using Entry = DiscoveryService::Entry;

// A registry in memory. Each call may be made to fail first.
class FakeService final : public DiscoveryService {
 public:
  std::string Name() const override { return "http://d.example/token"; }
  bool Reclaims() const override { return reclaims; }
  absl::StatusOr<std::string> Size() override {
    if (absl::Status failure = Failure(); !failure.ok()) return failure;
    if (!size) return absl::NotFoundError("no size");
    return *size;
  }
  absl::StatusOr<Listing> List() override {
    if (absl::Status failure = Failure(); !failure.ok()) return failure;
    return Listing{entries, next};
  }
  absl::Status Register(const std::string& id, const std::string& value) override {
    ++registrations;
    for (const Entry& entry : entries) {
      if (entry.id == id) return absl::AlreadyExistsError("exists");
    }
    Add(id, value);
    if (!lose_answer) return absl::OkStatus();
    lose_answer = false;
    return absl::UnavailableError("connection reset");
  }
  absl::Status AwaitChange(uint64_t index) override {
    EXPECT_EQ(index, next);
    if (coming.empty()) return absl::InternalError("the test waits for nobody");
    auto [id, value] = coming.front();
    coming.pop_front();
    if (id.empty()) return absl::UnavailableError("gone");
    Add(id, value);
    return absl::OkStatus();
  }
  void Add(const std::string& id, const std::string& value) { entries.push_back({id, value, ++next}); }

  absl::Status Failure() {
    if (failures == 0) return absl::OkStatus();
    --failures;
    return absl::UnavailableError("connection refused");
  }

  std::optional<std::string> size = "3";
  std::vector<Entry> entries;
  uint64_t next = 10;
  std::deque<std::pair<std::string, std::string>> coming;
  int failures = 0;
  int registrations = 0;
  bool reclaims = false;
  bool lose_answer = false;
};

class DiscoveryTest : public testing::Test {
 protected:
  absl::StatusOr<std::vector<std::string>> Join() {
    auto entries = JoinDiscovery(service_, "a", "m1=http://10.0.0.1:1", [this](Duration time) {
      pauses_.push_back(std::chrono::duration_cast<seconds>(time).count());
      return pauses_.size() > 40 ? absl::CancelledError("interrupted") : absl::OkStatus();
    });
    if (!entries.ok()) return entries.status();
    std::vector<std::string> ids;
    for (const Entry& entry : *entries) ids.push_back(entry.id);
    return ids;
  }
  std::string Failure() {
    auto ids = Join();
    return ids.ok() ? "it joined" : std::string(ids.status().message());
  }

  FakeService service_;
  std::vector<int64_t> pauses_;
};

TEST_F(DiscoveryTest, WaitsForAllAndTakesThemInOrder) {
  service_.Add("c", "m3=http://10.0.0.3:1");
  service_.coming = {{"b", "m2=http://10.0.0.2:1"}};
  auto ids = Join();
  ASSERT_TRUE(ids.ok()) << ids.status();
  EXPECT_THAT(*ids, ElementsAre("c", "a", "b"));
  EXPECT_TRUE(pauses_.empty());
}

TEST_F(DiscoveryTest, AClusterOfOneNeedsNobody) {
  service_.size = "1";
  EXPECT_THAT(*Join(), ElementsAre("a"));
}

TEST_F(DiscoveryTest, SurplusMembersAreToldBeforeTheyRegister) {
  service_.size = "2";
  service_.Add("b", "x");
  service_.Add("c", "y");
  EXPECT_EQ(Failure(), "discovery: cluster is full");
  EXPECT_EQ(service_.registrations, 0);
}

TEST_F(DiscoveryTest, WhoLosesTheRaceForTheLastPlaceIsSurplus) {
  service_.size = "2";
  service_.Add("b", "x");
  // Another registers between this member's look and its own registration.
  service_.lose_answer = true;
  auto join = [this] { return Join(); };
  service_.entries.push_back({"a", "m1=http://10.0.0.1:1", 30});
  service_.entries.push_back({"c", "y", 20});
  auto ids = join();
  EXPECT_FALSE(ids.ok());
  EXPECT_EQ(ids.status().message(), "discovery: cluster is full");
}

TEST_F(DiscoveryTest, MoreThanNeededAreCutByTheOrderOfRegistration) {
  service_.size = "2";
  service_.reclaims = true;
  service_.Add("a", "m1=http://10.0.0.1:1");
  service_.Add("b", "x");
  service_.Add("c", "y");
  EXPECT_THAT(*Join(), ElementsAre("a", "b"));
}

TEST_F(DiscoveryTest, BadSizesAreRefused) {
  service_.size.reset();
  EXPECT_THAT(Failure(), HasSubstr("discovery: size key not found"));
  for (const char* size : {"", "0", "-1", "three", "3.5", "99999999999999999999", "1001"}) {
    service_.size = size;
    EXPECT_THAT(Failure(), HasSubstr("discovery: size key is bad")) << size;
  }
  EXPECT_EQ(service_.registrations, 0);
}

TEST_F(DiscoveryTest, ADuplicateIdIsAnotherMember) {
  service_.Add("a", "other=http://10.0.0.1:1");
  EXPECT_THAT(Failure(), HasSubstr("discovery: found duplicate id a"));
  service_.reclaims = true;
  EXPECT_THAT(Failure(), HasSubstr("discovery: found duplicate id a"));
}

TEST_F(DiscoveryTest, OnlySomeServicesGiveAnEarlierRegistrationBack) {
  service_.size = "1";
  service_.Add("a", "m1=http://10.0.0.1:1");
  EXPECT_THAT(Failure(), HasSubstr("discovery: found duplicate id a"));
  service_.reclaims = true;
  EXPECT_THAT(*Join(), ElementsAre("a"));
}

TEST_F(DiscoveryTest, ARegistrationWhoseAnswerWasLostCounts) {
  service_.size = "1";
  service_.lose_answer = true;
  EXPECT_THAT(*Join(), ElementsAre("a"));
  EXPECT_EQ(service_.registrations, 2);
  EXPECT_THAT(pauses_, ElementsAre(2));
}

TEST_F(DiscoveryTest, WaitsGrowAndAServiceThatNeverAnsweredIsGivenUp) {
  service_.failures = 1000;
  EXPECT_THAT(Failure(),
              HasSubstr("discovery: too many retries: http://d.example/token: connection refused"));
  EXPECT_THAT(pauses_, ElementsAre(2, 4, 8, 16, 32, 64, 128, 256));
}

TEST_F(DiscoveryTest, AServiceThatAnsweredOnceIsAskedForGood) {
  service_.size = "2";
  for (int i = 0; i < 12; ++i) service_.coming.emplace_back("", "");
  service_.coming.emplace_back("b", "m2=http://10.0.0.2:1");
  auto ids = Join();
  ASSERT_TRUE(ids.ok()) << ids.status();
  EXPECT_THAT(*ids, ElementsAre("a", "b"));
}

TEST_F(DiscoveryTest, AStopEndsTheWait) {
  for (int i = 0; i < 100; ++i) service_.coming.emplace_back("", "");
  EXPECT_TRUE(absl::IsCancelled(Join().status()));
}

TEST_F(DiscoveryTest, AServiceThatWakesForNothingIsNotAskedInACircle) {
  class Restless final : public DiscoveryService {
   public:
    std::string Name() const override { return "x"; }
    bool Reclaims() const override { return false; }
    absl::StatusOr<std::string> Size() override { return "2"; }
    absl::StatusOr<Listing> List() override { return Listing{{{"a", "v", 1}}, 1}; }
    absl::Status Register(const std::string&, const std::string&) override { return absl::OkStatus(); }
    absl::Status AwaitChange(uint64_t) override { return absl::OkStatus(); }
  };
  Restless service;
  int pauses = 0;
  auto entries = JoinDiscovery(service, "a", "v", [&pauses](Duration time) {
    EXPECT_GE(time, seconds(1));
    return ++pauses > 5 ? absl::CancelledError("enough") : absl::OkStatus();
  });
  EXPECT_TRUE(absl::IsCancelled(entries.status()));
}

}  // namespace
}  // namespace kvd::server
