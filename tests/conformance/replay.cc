// Sends one seeded sequence of requests to two servers and compares what they answer: responses without the
// IDs and terms of the members, error codes and texts, and HashKV now and then.
//
//   replay ENDPOINT ENDPOINT OPERATIONS SEED
#include <google/protobuf/util/message_differencer.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "etcdserverpb/rpc.grpc.pb.h"
#include "etcdserverpb/rpc.pb.h"

namespace {

using etcdserverpb::CompactionRequest;
using etcdserverpb::CompactionResponse;
using etcdserverpb::Compare;
using etcdserverpb::DeleteRangeRequest;
using etcdserverpb::DeleteRangeResponse;
using etcdserverpb::HashKVRequest;
using etcdserverpb::HashKVResponse;
using etcdserverpb::KV;
using etcdserverpb::Lease;
using etcdserverpb::LeaseGrantRequest;
using etcdserverpb::LeaseGrantResponse;
using etcdserverpb::LeaseRevokeRequest;
using etcdserverpb::LeaseRevokeResponse;
using etcdserverpb::LeaseTimeToLiveRequest;
using etcdserverpb::LeaseTimeToLiveResponse;
using etcdserverpb::Maintenance;
using etcdserverpb::PutRequest;
using etcdserverpb::PutResponse;
using etcdserverpb::RangeRequest;
using etcdserverpb::RangeResponse;
using etcdserverpb::RequestOp;
using etcdserverpb::ResponseHeader;
using etcdserverpb::ResponseOp;
using etcdserverpb::TxnRequest;
using etcdserverpb::TxnResponse;
using google::protobuf::Message;
using google::protobuf::util::MessageDifferencer;

constexpr int kHashEvery = 250;
constexpr auto kCallTimeout = std::chrono::seconds(20);
constexpr int64_t kLeaseTtl = 100'000;

struct Server {
  explicit Server(const std::string& endpoint)
      : channel(grpc::CreateChannel(endpoint, grpc::InsecureChannelCredentials())),
        kv(KV::NewStub(channel)),
        lease(Lease::NewStub(channel)),
        maintenance(Maintenance::NewStub(channel)) {}

  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<KV::Stub> kv;
  std::unique_ptr<Lease::Stub> lease;
  std::unique_ptr<Maintenance::Stub> maintenance;
};

void Forget(ResponseHeader* header) {
  header->clear_cluster_id();
  header->clear_member_id();
  header->clear_raft_term();
}

class Replay {
 public:
  Replay(const std::string& left, const std::string& right, uint64_t seed)
      : servers_{Server(left), Server(right)}, random_(seed) {}

  bool Run(int operations) {
    for (operation_ = 0; operation_ < operations && ok_; ++operation_) {
      Step();
      if (operation_ % kHashEvery == kHashEvery - 1) CompareHashes();
    }
    CompareHashes();
    CompareAll();
    std::printf("%d operations, revision %lld, %d leases, compacted at %lld, %d errors on both sides\n",
                operation_, static_cast<long long>(revision_), static_cast<int>(leases_.size()),
                static_cast<long long>(compacted_), errors_);
    return ok_;
  }

 private:
  uint64_t Pick(uint64_t bound) { return std::uniform_int_distribution<uint64_t>(0, bound - 1)(random_); }
  bool Chance(int percent) { return Pick(100) < static_cast<uint64_t>(percent); }

  // Few keys, so that they are overwritten and deleted often; some in a subtree, some binary.
  std::string Key() {
    const uint64_t n = Pick(60);
    if (n < 40) return "key/" + std::to_string(n);
    if (n < 55) return "tree/" + std::to_string(n % 5) + "/" + std::to_string(n);
    return std::string("\x00\xff", 2) + static_cast<char>(n);
  }

  std::string Value() {
    std::string value(Pick(10) == 0 ? Pick(5000) : Pick(40), '\0');
    for (char& c : value) c = static_cast<char>(Pick(256));
    return value;
  }

  int64_t LeaseId() {
    if (leases_.empty() || Chance(5)) return static_cast<int64_t>(1 + Pick(1000));
    return leases_[Pick(leases_.size())];
  }

  // Most often the latest, else any revision, compacted and future ones included.
  int64_t Revision() {
    return Chance(60) ? 0 : static_cast<int64_t>(Pick(static_cast<uint64_t>(revision_) + 3));
  }

  // key and range_end: single, prefix, interval, from key, everything, empty.
  template <typename Request>
  void Interval(Request* request) {
    request->set_key(Key());
    switch (Pick(8)) {
      case 0:
        request->set_range_end(Key());
        break;
      case 1:
        request->set_key("tree/" + std::to_string(Pick(5)) + "/");
        request->set_range_end(request->key().substr(0, request->key().size() - 1) + "0");
        break;
      case 2:
        request->set_range_end(std::string(1, '\0'));
        break;
      default:
        break;
    }
  }

  void FillPut(PutRequest* put) {
    put->set_key(Key());
    put->set_prev_kv(Chance(20));
    if (Chance(5)) {
      put->set_ignore_value(true);
    } else {
      put->set_value(Value());
    }
    if (Chance(5)) {
      put->set_ignore_lease(true);
    } else if (Chance(25)) {
      put->set_lease(LeaseId());
    }
  }

  void FillRange(RangeRequest* range) {
    Interval(range);
    range->set_revision(Revision());
    range->set_serializable(Chance(20));
    if (Chance(30)) range->set_limit(static_cast<int64_t>(Pick(10)));
    if (Chance(10)) range->set_count_only(true);
    if (Chance(10)) range->set_keys_only(true);
    // Only targets without ties, which no one orders.
    if (Chance(20)) {
      range->set_sort_order(Chance(50) ? RangeRequest::ASCEND : RangeRequest::DESCEND);
      range->set_sort_target(RangeRequest::KEY);
    }
    if (Chance(10))
      range->set_min_mod_revision(static_cast<int64_t>(Pick(static_cast<uint64_t>(revision_) + 1)));
    if (Chance(10))
      range->set_max_create_revision(static_cast<int64_t>(Pick(static_cast<uint64_t>(revision_) + 1)));
  }

  void FillDelete(DeleteRangeRequest* request) {
    Interval(request);
    // An interval that takes everything is rare, or there would be nothing to look at.
    if (request->range_end() == std::string(1, '\0') && !Chance(10)) request->clear_range_end();
    request->set_prev_kv(Chance(30));
  }

  void FillCompare(Compare* compare) {
    compare->set_key(Key());
    if (Chance(10)) compare->set_range_end(Key());
    compare->set_result(static_cast<Compare::CompareResult>(Pick(4)));
    const auto small = static_cast<int64_t>(Pick(5));
    const auto revision = static_cast<int64_t>(Pick(static_cast<uint64_t>(revision_) + 1));
    switch (Pick(5)) {
      case 0:
        compare->set_target(Compare::VERSION);
        compare->set_version(small);
        break;
      case 1:
        compare->set_target(Compare::CREATE);
        compare->set_create_revision(Chance(40) ? 0 : revision);
        break;
      case 2:
        compare->set_target(Compare::MOD);
        compare->set_mod_revision(revision);
        break;
      case 3:
        compare->set_target(Compare::VALUE);
        compare->set_value(Value());
        break;
      default:
        compare->set_target(Compare::LEASE);
        compare->set_lease(Chance(50) ? 0 : LeaseId());
        break;
    }
  }

  void FillTxn(TxnRequest* txn, int depth) {
    for (uint64_t i = Pick(3); i > 0; --i) FillCompare(txn->add_compare());
    for (auto* branch : {txn->mutable_success(), txn->mutable_failure()}) {
      for (uint64_t i = Pick(5); i > 0; --i) {
        RequestOp* op = branch->Add();
        const uint64_t kind = Pick(10);
        if (kind < 4) {
          FillPut(op->mutable_request_put());
          op->mutable_request_put()->clear_ignore_lease();
          op->mutable_request_put()->clear_ignore_value();
        } else if (kind < 7) {
          FillRange(op->mutable_request_range());
          if (!Chance(5)) op->mutable_request_range()->clear_revision();
        } else if (kind < 9 || depth > 1) {
          FillDelete(op->mutable_request_delete_range());
        } else {
          FillTxn(op->mutable_request_txn(), depth + 1);
        }
      }
    }
  }

  void Step() {
    const uint64_t kind = Pick(100);
    if (kind < 38) {
      PutRequest request;
      FillPut(&request);
      const auto before = revision_;
      Both<PutResponse>("Put", request,
                        [](Server& s, auto* c, auto& r, auto* o) { return s.kv->Put(c, r, o); });
      if (revision_ == before + 1) last_put_ = revision_;
    } else if (kind < 50) {
      DeleteRangeRequest request;
      FillDelete(&request);
      Both<DeleteRangeResponse>("DeleteRange", request, [](Server& s, auto* c, auto& r, auto* o) {
        return s.kv->DeleteRange(c, r, o);
      });
    } else if (kind < 70) {
      TxnRequest request;
      FillTxn(&request, 0);
      Both<TxnResponse>("Txn", request,
                        [](Server& s, auto* c, auto& r, auto* o) { return s.kv->Txn(c, r, o); });
    } else if (kind < 88) {
      RangeRequest request;
      FillRange(&request);
      Both<RangeResponse>("Range", request,
                          [](Server& s, auto* c, auto& r, auto* o) { return s.kv->Range(c, r, o); });
    } else if (kind < 93) {
      GrantLease();
    } else if (kind < 95) {
      RevokeLease();
    } else if (kind < 97) {
      LookAtLease();
    } else if (kind < 98) {
      CompactNow();
    } else {
      HashAt(Chance(50) ? last_put_ : Revision());
    }
  }

  void GrantLease() {
    LeaseGrantRequest request;
    request.set_id(static_cast<int64_t>(1 + Pick(1000)));
    request.set_ttl(kLeaseTtl);
    const bool granted = Both<LeaseGrantResponse>(
        "LeaseGrant", request,
        [](Server& s, auto* c, auto& r, auto* o) { return s.lease->LeaseGrant(c, r, o); });
    if (granted) leases_.push_back(request.id());
  }

  void RevokeLease() {
    LeaseRevokeRequest request;
    request.set_id(LeaseId());
    Both<LeaseRevokeResponse>("LeaseRevoke", request, [](Server& s, auto* c, auto& r, auto* o) {
      return s.lease->LeaseRevoke(c, r, o);
    });
    leases_.erase(std::remove(leases_.begin(), leases_.end(), request.id()), leases_.end());
  }

  void LookAtLease() {
    LeaseTimeToLiveRequest request;
    request.set_id(LeaseId());
    request.set_keys(true);
    Both<LeaseTimeToLiveResponse>("LeaseTimeToLive", request, [](Server& s, auto* c, auto& r, auto* o) {
      grpc::Status status = s.lease->LeaseTimeToLive(c, r, o);
      if (o->ttl() > 0) o->set_ttl(kLeaseTtl);
      std::sort(o->mutable_keys()->begin(), o->mutable_keys()->end());
      return status;
    });
  }

  // At the revision of a put: releases differ in whether a tombstone at the compacted revision stays.
  void CompactNow() {
    if (last_put_ == 0 || Chance(30)) return;
    CompactionRequest request;
    request.set_revision(last_put_);
    request.set_physical(Chance(50));
    const bool done = Both<CompactionResponse>(
        "Compact", request, [](Server& s, auto* c, auto& r, auto* o) { return s.kv->Compact(c, r, o); });
    if (done) compacted_ = last_put_;
  }

  void HashAt(int64_t revision) {
    // At the compacted revision itself 3.4 refuses, and later releases answer.
    if (revision == compacted_) return;
    HashKVRequest request;
    request.set_revision(revision);
    Both<HashKVResponse>("HashKV", request, [](Server& s, auto* c, auto& r, auto* o) {
      grpc::Status status = s.maintenance->HashKV(c, r, o);
      o->clear_hash_revision();
      // "never compacted" is -1 in one release and 0 in another.
      if (o->compact_revision() < 0) o->set_compact_revision(0);
      return status;
    });
  }

  void CompareHashes() {
    HashAt(0);
    HashAt(last_put_);
  }

  void CompareAll() {
    RangeRequest request;
    request.set_key(std::string(1, '\0'));
    request.set_range_end(std::string(1, '\0'));
    Both<RangeResponse>("Range", request,
                        [](Server& s, auto* c, auto& r, auto* o) { return s.kv->Range(c, r, o); });
  }

  // Calls both and compares; true if both succeeded.
  template <typename Response, typename Request, typename Call>
  bool Both(const char* name, const Request& request, Call call) {
    Response responses[2];
    grpc::Status statuses[2];
    for (int i = 0; i < 2; ++i) {
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + kCallTimeout);
      context.set_wait_for_ready(true);
      statuses[i] = call(servers_[i], &context, request, &responses[i]);
      if (statuses[i].ok()) revision_ = std::max(revision_, responses[i].header().revision());
      Forget(responses[i].mutable_header());
      Normalise(&responses[i]);
    }
    if (statuses[0].error_code() != statuses[1].error_code() ||
        statuses[0].error_message() != statuses[1].error_message()) {
      Report(name, request, Text(statuses[0]), Text(statuses[1]));
      return false;
    }
    if (!statuses[0].ok()) {
      ++errors_;
      return false;
    }
    std::string difference;
    MessageDifferencer differencer;
    differencer.ReportDifferencesToString(&difference);
    if (differencer.Compare(responses[0], responses[1])) return true;
    Report(name, request, responses[0].ShortDebugString(), responses[1].ShortDebugString());
    std::printf("difference:\n%.4000s\n", difference.c_str());
    return false;
  }

  // With keys_only, some releases leave out the lease as well.
  template <typename Response>
  static void Normalise(Response*) {}
  static void Normalise(RangeResponse* response) {
    for (mvccpb::KeyValue& kv : *response->mutable_kvs()) {
      if (kv.value().empty()) kv.clear_lease();
    }
  }
  static void Normalise(TxnResponse* response) {
    for (ResponseOp& op : *response->mutable_responses()) {
      if (op.has_response_range()) Normalise(op.mutable_response_range());
      if (op.has_response_txn()) Normalise(op.mutable_response_txn());
    }
  }

  static std::string Text(const grpc::Status& status) {
    return std::to_string(status.error_code()) + " " + status.error_message();
  }

  void Report(const char* name, const Message& request, const std::string& left, const std::string& right) {
    ok_ = false;
    std::printf(
        "operation %d, %s at revision %lld (compacted %lld):\n  %.6000s\n  left:  %.6000s\n  right: "
        "%.6000s\n",
        operation_, name, static_cast<long long>(revision_), static_cast<long long>(compacted_),
        request.ShortDebugString().c_str(), left.c_str(), right.c_str());
  }

  Server servers_[2];
  std::mt19937_64 random_;
  int operation_ = 0;
  bool ok_ = true;
  int errors_ = 0;
  int64_t revision_ = 1;
  int64_t last_put_ = 0;
  int64_t compacted_ = 0;
  std::vector<int64_t> leases_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: replay ENDPOINT ENDPOINT OPERATIONS SEED\n");
    return 2;
  }
  Replay replay(argv[1], argv[2], std::strtoull(argv[4], nullptr, 10));
  return replay.Run(std::atoi(argv[3])) ? 0 : 1;
}
