#include "server/api/kv_requests.h"

#include <gtest/gtest.h>

#include "etcdserverpb/rpc.pb.h"
#include "server/node/txn_codec.h"

namespace kvd::server {
namespace {

using etcdserverpb::TxnRequest;

void AddPut(TxnRequest* txn, const std::string& key) {
  txn->add_success()->mutable_request_put()->set_key(key);
}
void AddDelete(TxnRequest* txn, const std::string& key, const std::string& end = "") {
  auto* op = txn->add_success()->mutable_request_delete_range();
  op->set_key(key);
  op->set_range_end(end);
}

TEST(KvRequests, Range_ReadsEveryField) {
  etcdserverpb::RangeRequest request;
  request.set_key("a");
  request.set_range_end("b");
  request.set_limit(5);
  request.set_revision(7);
  request.set_sort_order(etcdserverpb::RangeRequest::DESCEND);
  request.set_sort_target(etcdserverpb::RangeRequest::VALUE);
  request.set_serializable(true);
  request.set_keys_only(true);
  request.set_count_only(true);
  request.set_min_mod_revision(1);
  request.set_max_mod_revision(2);
  request.set_min_create_revision(3);
  request.set_max_create_revision(4);
  std::string bytes = request.SerializeAsString();
  RangeCall call;
  ASSERT_TRUE(ReadRange(bytes, &call));
  EXPECT_EQ(call.args.key, "a");
  EXPECT_EQ(call.args.range_end, "b");
  EXPECT_EQ(call.args.limit, 5);
  EXPECT_EQ(call.args.revision, 7);
  EXPECT_EQ(call.args.sort_order, storage::SortOrder::kDescend);
  EXPECT_EQ(call.args.sort_target, storage::SortTarget::kValue);
  EXPECT_TRUE(call.serializable && call.args.keys_only && call.args.count_only);
  EXPECT_EQ(call.args.min_mod_revision, 1);
  EXPECT_EQ(call.args.max_mod_revision, 2);
  EXPECT_EQ(call.args.min_create_revision, 3);
  EXPECT_EQ(call.args.max_create_revision, 4);
}

TEST(KvRequests, WrongWireTypes_AreRefused) {
  storage::PutArgs put;
  EXPECT_FALSE(ReadPut("\x08\x01", &put)) << "a number for the key";
  EXPECT_FALSE(ReadPut(std::string("\x1a\x01x", 3), &put)) << "bytes for the lease";
  RangeCall range;
  EXPECT_FALSE(ReadRange(std::string("\x1a\x01x", 3), &range)) << "bytes for the limit";
  storage::DeleteRangeArgs del;
  EXPECT_FALSE(ReadDeleteRange("\x0a\x7f", &del)) << "cut short";
}

TEST(KvRequests, Put_Checks) {
  EXPECT_EQ(CheckPut({.key = ""}), Error::kEmptyKey);
  EXPECT_EQ(CheckPut({.key = "k", .value = "v", .ignore_value = true}), Error::kValueProvided);
  EXPECT_EQ(CheckPut({.key = "k", .lease = 1, .ignore_lease = true}), Error::kLeaseProvided);
  EXPECT_EQ(CheckPut({.key = "k", .value = "v"}), Error::kOk);
}

TEST(KvRequests, Range_SortOutOfRange) {
  storage::RangeArgs args;
  args.key = "k";
  args.sort_order = static_cast<storage::SortOrder>(3);
  EXPECT_EQ(CheckRange(args), Error::kInvalidSortOption);
}

TEST(KvRequests, Txn_KeysWrittenTwice) {
  TxnRequest twice;
  AddPut(&twice, "a");
  AddPut(&twice, "a");
  EXPECT_EQ(CheckTxn(twice, 128), Error::kDuplicateKey);

  TxnRequest deleted;
  AddPut(&deleted, "b");
  AddDelete(&deleted, "a", "c");
  EXPECT_EQ(CheckTxn(deleted, 128), Error::kDuplicateKey);

  TxnRequest deletes;
  AddDelete(&deletes, "a", "c");
  AddDelete(&deletes, "b", "d");
  AddPut(&deletes, "x");
  EXPECT_EQ(CheckTxn(deletes, 128), Error::kOk);

  // Both branches of a nested transaction may put a key that nobody else does.
  TxnRequest nested;
  auto* inner = nested.add_success()->mutable_request_txn();
  inner->add_success()->mutable_request_put()->set_key("n");
  inner->add_failure()->mutable_request_put()->set_key("n");
  EXPECT_EQ(CheckTxn(nested, 128), Error::kOk);
  AddPut(&nested, "n");
  EXPECT_EQ(CheckTxn(nested, 128), Error::kDuplicateKey);
}

TEST(KvRequests, Txn_OperationLimits) {
  TxnRequest txn;
  for (int i = 0; i < 3; ++i) AddPut(&txn, "k" + std::to_string(i));
  EXPECT_EQ(CheckTxn(txn, 3), Error::kOk);
  EXPECT_EQ(CheckTxn(txn, 2), Error::kTooManyOps);
  // A nested one has what the outer one left.
  TxnRequest outer;
  *outer.add_success()->mutable_request_txn() = txn;
  EXPECT_EQ(CheckTxn(outer, 4), Error::kOk);
  EXPECT_EQ(CheckTxn(outer, 3), Error::kTooManyOps);
  TxnRequest unset;
  unset.add_success();
  EXPECT_EQ(CheckTxn(unset, 128), Error::kKeyNotFound);
  TxnRequest compare;
  compare.add_compare();
  EXPECT_EQ(CheckTxn(compare, 128), Error::kEmptyKey);
}

TEST(KvRequests, Txn_NestedAsDeepAsItsLimitAllows) {
  auto nested = [](int depth) {
    TxnRequest txn;
    TxnRequest* at = &txn;
    for (int i = 1; i < depth; ++i) at = at->add_success()->mutable_request_txn();
    return txn.SerializeAsString();
  };
  TxnRequest read;
  EXPECT_TRUE(ParseTxn(nested(200), &read));
  EXPECT_EQ(CheckTxn(read, 128), Error::kTooManyOps);
  EXPECT_TRUE(ParseTxn(nested(129), &read));
  EXPECT_EQ(CheckTxn(read, 128), Error::kOk);
  EXPECT_FALSE(IsNestedDeeper(nested(129), 129));
  EXPECT_TRUE(IsNestedDeeper(nested(130), 129));
  EXPECT_TRUE(ParseTxn(nested(kMaxTxnDepth), &read));
  EXPECT_TRUE(IsNestedDeeper(nested(kMaxTxnDepth + 1), 1'000'000));
  EXPECT_FALSE(ParseTxn("\x12\x05garb", &read));
}

TEST(KvRequests, Txn_ReadOnly) {
  TxnRequest txn;
  EXPECT_TRUE(IsReadOnly(txn) && IsSerializable(txn));
  txn.add_success()->mutable_request_range()->set_key("a");
  EXPECT_TRUE(IsReadOnly(txn));
  EXPECT_FALSE(IsSerializable(txn));
  txn.mutable_success(0)->mutable_request_range()->set_serializable(true);
  EXPECT_TRUE(IsSerializable(txn));
  txn.add_failure()->mutable_request_txn();
  EXPECT_FALSE(IsReadOnly(txn)) << "a nested transaction counts as a write";
}

}  // namespace
}  // namespace kvd::server
