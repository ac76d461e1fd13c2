// The check of recorded histories: one that is right passes, and what is wrong in one is found.

#include "check_history.h"

#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "history.pb.h"

namespace kvd::drill {
namespace {

class CheckHistory : public testing::Test {
 protected:
  // k is put, read, put again under a compare and deleted, one after the other; a watch of everything sees it
  // all.
  CheckHistory() {
    Operation& put = Add(1);
    put.mutable_put()->set_key("k");
    put.mutable_put()->set_value("a");
    put.mutable_put_answer()->mutable_header()->set_revision(2);
    *Event(2).mutable_kv() = Kv("a", 2, 2, 1);

    Operation& get = Add(2);
    get.mutable_range()->set_key("k");
    get.mutable_range_answer()->mutable_header()->set_revision(2);
    get.mutable_range_answer()->set_count(1);
    *get.mutable_range_answer()->add_kvs() = Kv("a", 2, 2, 1);

    Operation& swap = Add(3);
    auto& compare = *swap.mutable_txn()->add_compare();
    compare.set_target(etcdserverpb::Compare::MOD);
    compare.set_key("k");
    compare.set_mod_revision(2);
    auto& then = *swap.mutable_txn()->add_success()->mutable_request_put();
    then.set_key("k");
    then.set_value("b");
    swap.mutable_txn_answer()->mutable_header()->set_revision(3);
    swap.mutable_txn_answer()->set_succeeded(true);
    swap.mutable_txn_answer()->add_responses()->mutable_response_put()->mutable_header()->set_revision(3);
    *Event(3).mutable_kv() = Kv("b", 2, 3, 2);

    Operation& list = Add(4);
    list.mutable_range()->set_key("a");
    list.mutable_range()->set_range_end("z");
    list.mutable_range_answer()->mutable_header()->set_revision(3);
    list.mutable_range_answer()->set_count(1);
    *list.mutable_range_answer()->add_kvs() = Kv("b", 2, 3, 2);

    Operation& del = Add(5);
    del.mutable_delete_range()->set_key("k");
    del.mutable_delete_range_answer()->mutable_header()->set_revision(4);
    del.mutable_delete_range_answer()->set_deleted(1);
    mvccpb::Event& gone = Event(4);
    gone.set_type(mvccpb::Event::DELETE);
    gone.mutable_kv()->set_key("k");
    gone.mutable_kv()->set_mod_revision(4);

    for (uint32_t member = 0; member < 3; ++member) {
      MemberEnd end;
      end.set_member(member);
      end.mutable_keys()->mutable_header()->set_revision(4);
      end.mutable_hash()->set_hash(99);
      ends_.push_back(end);
    }
  }

  static mvccpb::KeyValue Kv(const std::string& value, int64_t created, int64_t modified, int64_t version) {
    mvccpb::KeyValue kv;
    kv.set_key("k");
    kv.set_value(value);
    kv.set_create_revision(created);
    kv.set_mod_revision(modified);
    kv.set_version(version);
    return kv;
  }
  Operation& Add(int number) {
    Operation& op = operations_.emplace_back();
    op.set_id(static_cast<uint64_t>(number));
    op.set_invoked_ns(int64_t{number} * 1000);
    op.set_returned_ns(int64_t{number} * 1000 + 500);
    return op;
  }
  mvccpb::Event& Event(int64_t header_revision) {
    etcdserverpb::WatchResponse& response = responses_.emplace_back();
    response.mutable_header()->set_revision(header_revision);
    return *response.add_events();
  }

  // The checker that objects; empty: none.
  std::string Judge() {
    std::stringstream lines;
    auto write = [&lines](const std::function<void(Line&)>& fill) {
      Line line;
      fill(line);
      std::string text;
      ASSERT_TRUE(google::protobuf::util::MessageToJsonString(line, &text).ok());
      lines << text << '\n';
    };
    write([](Line& line) {
      auto& create = *line.mutable_watch_start()->mutable_create();
      create.set_key(std::string(1, '\0'));
      create.set_range_end(std::string(1, '\0'));
      create.set_start_revision(2);
    });
    for (const auto& response : responses_) {
      write([&](Line& line) { *line.mutable_watched()->mutable_response() = response; });
    }
    for (const auto& op : operations_) write([&](Line& line) { *line.mutable_operation() = op; });
    for (const auto& end : ends_) write([&](Line& line) { *line.mutable_member_end() = end; });
    sim::Verdict verdict;
    checked_ = CheckRecorded(lines, verdict);
    what_ = verdict.what();
    return verdict.checker();
  }

  std::vector<Operation> operations_;
  std::vector<etcdserverpb::WatchResponse> responses_;
  std::vector<MemberEnd> ends_;
  Checked checked_;
  std::string what_;
};

TEST_F(CheckHistory, Right) {
  EXPECT_EQ(Judge(), "") << what_;
  EXPECT_EQ(checked_.operations, 5u);
  EXPECT_EQ(checked_.answered, 5u);
  EXPECT_EQ(checked_.revision, 4);
  EXPECT_EQ(checked_.watch_events, 3u);
  EXPECT_EQ(checked_.general, 3u);
}

TEST_F(CheckHistory, UnansweredWrite_MayHaveTakenEffect) {
  operations_[0].set_returned_ns(0);
  operations_[0].clear_put_answer();
  EXPECT_EQ(Judge(), "") << what_;
  EXPECT_EQ(checked_.unanswered, 1u);
}

TEST_F(CheckHistory, RefusedWriteThatIsThere_Found) {
  operations_[0].set_error("etcdserver: mvcc: database space exceeded");
  operations_[0].clear_put_answer();
  EXPECT_EQ(Judge(), "causes");
}

TEST_F(CheckHistory, AcknowledgedWriteThatIsLost_Found) {
  Operation& put = Add(6);
  put.mutable_put()->set_key("k");
  put.mutable_put()->set_value("c");
  put.mutable_put_answer()->mutable_header()->set_revision(5);
  EXPECT_EQ(Judge(), "durability");
}

TEST_F(CheckHistory, StaleRead_Found) {
  operations_[1].set_invoked_ns(3800);
  operations_[1].set_returned_ns(3900);
  EXPECT_EQ(Judge(), "linearizable");
}

TEST_F(CheckHistory, WrongValueRead_Found) {
  operations_[1].mutable_range_answer()->mutable_kvs(0)->set_value("b");
  EXPECT_EQ(Judge(), "answers");
}

TEST_F(CheckHistory, MembersThatDiffer_Found) {
  ends_[1].mutable_hash()->set_hash(98);
  EXPECT_EQ(Judge(), "hash");
}

TEST_F(CheckHistory, MemberThatLacksARevision_Found) {
  ends_[2].mutable_keys()->mutable_header()->set_revision(3);
  EXPECT_EQ(Judge(), "durability");
}

TEST_F(CheckHistory, WatchWithAGap_Found) {
  responses_.erase(responses_.begin() + 1);
  EXPECT_NE(Judge(), "");
}

TEST_F(CheckHistory, WatchOutOfOrder_Found) {
  std::swap(responses_[0], responses_[1]);
  EXPECT_NE(Judge(), "");
}

TEST_F(CheckHistory, WatchThatEndsEarly_Found) {
  responses_.pop_back();
  EXPECT_NE(Judge(), "");
}

TEST_F(CheckHistory, LineThatIsNone_Found) {
  std::stringstream lines("{\"operation\": 7}\n");
  sim::Verdict verdict;
  CheckRecorded(lines, verdict);
  EXPECT_EQ(verdict.checker(), "format");
}

}  // namespace
}  // namespace kvd::drill
