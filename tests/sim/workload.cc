#include "workload.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace kvd::sim {

using base::Nanos;
using server::Error;
using server::RequestField;
using Kind = Op::Kind;

namespace {
constexpr Nanos kPatience = std::chrono::seconds(10);
constexpr Nanos kWatchRound = std::chrono::milliseconds(200);
}  // namespace

Workload::Workload(SimCluster& cluster, const Swarm& swarm, const Truth& truth, Verdict& verdict, Note note)
    : cluster_(cluster),
      swarm_(swarm),
      truth_(truth),
      verdict_(verdict),
      note_(std::move(note)),
      random_(base::Random(swarm.seed).Split("clients")),
      watch_random_(base::Random(swarm.seed).Split("watchers")) {}

void Workload::Start() {
  turn_.resize(swarm_.clients);
  for (size_t i = 0; i < swarm_.clients; ++i) NextSoon(i);
  for (size_t i = 0; i < swarm_.watchers; ++i) {
    WatchClient::Options options;
    options.key = "k";
    options.range_end = "l";
    if (watch_random_.Chance(0.4)) {
      options.key = "k" + std::to_string(watch_random_.Below(swarm_.keys));
      options.range_end.clear();
    }
    options.prev_kv = watch_random_.Chance(0.5);
    options.fragment = watch_random_.Chance(0.2);
    options.progress = watch_random_.Chance(0.5);
    if (watch_random_.Chance(0.2)) options.start_ahead = static_cast<int64_t>(watch_random_.Below(20));
    if (watch_random_.Chance(0.3)) options.read_pause = std::chrono::milliseconds(watch_random_.Below(200));
    options.resume_at_half = swarm_.cluster.node.limits.watch_queue_bytes / 2;
    watchers_.push_back(std::make_unique<WatchClient>(cluster_, truth_, verdict_, options));
  }
  if (!watchers_.empty()) cluster_.wire().PostAfter(kWatchRound, [this] { ReviveWatchers(); });
}

void Workload::ReviveWatchers() {
  for (auto& watcher : watchers_) {
    // Now and then one goes elsewhere, as a client that lost its connection.
    if (watcher->running() && !stopping_ && watch_random_.Chance(0.02)) watcher->Stop();
    if (watcher->running() && watch_random_.Chance(0.2)) watcher->RequestProgress();
    if (watcher->running()) continue;
    size_t member = watch_random_.Below(cluster_.size());
    if (cluster_.alive(member)) watcher->Start(member);
  }
  cluster_.wire().PostAfter(kWatchRound, [this] { ReviveWatchers(); });
}

void Workload::StopLoad() {
  stopping_ = true;
  for (auto& watcher : watchers_) watcher->Hurry();
}

void Workload::OnTearDown(size_t member) {
  for (auto& watcher : watchers_) {
    if (watcher->running() && watcher->member() == member) watcher->Stop();
  }
}

void Workload::NextSoon(size_t client) {
  auto most = static_cast<uint64_t>(swarm_.think.count()) * 2;
  cluster_.wire().PostAfter(Nanos(random_.Below(most + 1) + 1), [this, client] { Next(client); });
}

std::optional<size_t> Workload::PickMember() {
  for (int tries = 0; tries < 3; ++tries) {
    size_t member = random_.Below(cluster_.size());
    if (cluster_.alive(member) && !cluster_.node(member).is_learner()) return member;
  }
  return std::nullopt;
}

void Workload::Next(size_t client) {
  if (stopping_ || ops_.size() >= swarm_.max_ops) return;
  std::optional<size_t> member = PickMember();
  if (!member) return NextSoon(client);
  Op& op = ops_.emplace_back();
  op.id = ops_.size();
  op.client = client;
  op.member = *member;
  op.invoked = cluster_.scheduler().clock().Monotonic();
  Fill(op);
  turn_[client] = op.id;
  cluster_.wire().PostAfter(kPatience, [this, client, id = op.id] {
    if (turn_[client] == id) NextSoon(client);
  });
  Submit(op, [this, client, id = op.id] {
    note_(ops_[id - 1].Describe());
    if (turn_[client] != id) return;  // given up
    turn_[client] = 0;
    cluster_.wire().Post([this, client] { NextSoon(client); });
  });
}

std::string Workload::Value(const Op& op, int n) {
  return absl::StrCat("v", op.id, ".", n, ".") + std::string(random_.Below(swarm_.value_bytes + 1), 'x');
}

int64_t Workload::SomeLease() {
  if (leases_.empty()) return 0;
  // Mostly one that still lives.
  size_t recent = random_.Chance(0.7) ? std::min<size_t>(leases_.size(), 20) : leases_.size();
  return leases_[leases_.size() - 1 - random_.Below(recent)];
}

void Workload::Fill(Op& op) {
  double draw = random_.Unit();
  if (!swarm_.registers_only) {
    if (draw < swarm_.compact_share && truth_.revision() > 3) {
      op.kind = Kind::kCompact;
      op.compact = static_cast<int64_t>(random_.Between(2, static_cast<uint64_t>(truth_.revision())));
      return;
    }
    if (random_.Chance(swarm_.lease_share)) return FillLease(op);
  }
  draw = random_.Unit();
  if (draw < 0.4) {
    op.kind = Kind::kPut;
    op.put.set_key(Key());
    op.put.set_value(Value(op, 0));
    if (swarm_.registers_only) return;
    op.put.set_prev_kv(random_.Chance(0.3));
    if (swarm_.lease_share > 0 && random_.Chance(0.4)) op.put.set_lease(SomeLease());
  } else if (draw < 0.5) {
    op.kind = Kind::kDelete;
    op.del.set_key(Key());
    if (swarm_.registers_only) return;
    if (random_.Chance(0.2)) op.del.set_range_end("l");
    op.del.set_prev_kv(random_.Chance(0.3));
  } else if (draw < 0.65) {
    op.kind = Kind::kTxn;
    FillTxn(op);
  } else {
    op.kind = Kind::kRange;
    op.range.set_key(Key());
    if (swarm_.registers_only) return;
    if (random_.Chance(0.4)) op.range.set_range_end("l");
    if (random_.Chance(0.2)) op.range.set_limit(static_cast<int64_t>(random_.Between(1, 3)));
    if (random_.Chance(0.1)) op.range.set_count_only(true);
    if (random_.Chance(0.1)) op.range.set_keys_only(true);
    if (random_.Chance(0.15))
      op.range.set_revision(
          static_cast<int64_t>(random_.Between(1, static_cast<uint64_t>(truth_.revision()))));
    if (random_.Chance(0.15)) {
      op.kind = Kind::kSerializable;
      op.range.set_serializable(true);
    }
  }
}

void Workload::FillTxn(Op& op) {
  std::string key = Key();
  auto put = [&](etcdserverpb::RequestOp* out, const std::string& k, int n) {
    out->mutable_request_put()->set_key(k);
    out->mutable_request_put()->set_value(Value(op, n));
  };
  etcdserverpb::Compare& compare = *op.txn.add_compare();
  compare.set_key(key);
  compare.set_target(etcdserverpb::Compare::MOD);
  compare.set_result(etcdserverpb::Compare::EQUAL);
  const mvccpb::KeyValue* kv = truth_.KeyAt(key, truth_.revision());
  compare.set_mod_revision(kv == nullptr || random_.Chance(0.2) ? 0 : kv->mod_revision());
  if (swarm_.registers_only) return put(op.txn.add_success(), key, 0);
  if (random_.Chance(0.2)) {
    compare.set_target(etcdserverpb::Compare::VERSION);
    compare.set_result(etcdserverpb::Compare::GREATER);
    compare.set_version(0);
  }
  put(op.txn.add_success(), key, 0);
  if (random_.Chance(0.5)) {
    etcdserverpb::RangeRequest& range = *op.txn.add_success()->mutable_request_range();
    range.set_key(key);
    // Of the past, perhaps of what is compacted: then none of it may happen.
    if (random_.Chance(0.3))
      range.set_revision(static_cast<int64_t>(random_.Between(1, static_cast<uint64_t>(truth_.revision()))));
  }
  if (std::string other = Key(); other != key && random_.Chance(0.5)) {
    if (random_.Chance(0.5)) {
      put(op.txn.add_success(), other, 1);
    } else {
      op.txn.add_success()->mutable_request_delete_range()->set_key(other);
    }
  }
  etcdserverpb::RequestOp* otherwise = op.txn.add_failure();
  switch (random_.Below(3)) {
    case 0:
      otherwise->mutable_request_range()->set_key("k");
      otherwise->mutable_request_range()->set_range_end("l");
      break;
    case 1:
      otherwise->mutable_request_delete_range()->set_key(key);
      otherwise->mutable_request_delete_range()->set_prev_kv(true);
      break;
    default:
      put(otherwise, key, 2);
      break;
  }
}

void Workload::FillLease(Op& op) {
  uint64_t draw = random_.Below(10);
  if (leases_.empty() || draw < 3) {
    op.kind = Kind::kGrant;
    op.lease = next_lease_++;
    op.ttl_s = static_cast<int64_t>(random_.Between(1, 8));
    leases_.push_back(op.lease);
    return;
  }
  op.lease = SomeLease();
  op.kind = draw < 9 ? Kind::kKeepAlive : Kind::kRevoke;
}

// Notes the outcome, if the process that gives it is still the one that was asked.
std::function<void(server::ApplyOutcome&&)> Workload::Apply(Op& op, std::function<void()> done) {
  uint64_t life = cluster_.life(op.member);
  return [this, id = op.id, life, done = std::move(done)](server::ApplyOutcome&& outcome) {
    Op& o = ops_[id - 1];
    if (!cluster_.alive(o.member) || cluster_.life(o.member) != life) return;
    o.returned = cluster_.scheduler().clock().Monotonic();
    o.error = outcome.error;
    o.revision = outcome.revision;
    bool parsed = true;
    if (o.error == Error::kOk) {
      if (o.kind == Kind::kPut) parsed = o.put_answer.ParseFromString(outcome.body);
      if (o.kind == Kind::kDelete) parsed = o.del_answer.ParseFromString(outcome.body);
      if (o.kind == Kind::kTxn) parsed = o.txn_answer.ParseFromString(outcome.body);
      if (o.kind == Kind::kGrant) {
        etcdserverpb::LeaseGrantResponse granted;
        parsed = granted.ParseFromString(outcome.body);
        o.ttl_s = granted.ttl();
      }
    }
    if (!parsed) verdict_.Fail("answers", "an answer that does not parse: " + o.Describe());
    done();
  };
}

void Workload::SubmitRange(Op& op, std::function<void(Error, const storage::OpResult*)> done) {
  server::Node& node = cluster_.node(op.member);
  auto read = [this, id = op.id, &node, done = std::move(done)](Error error) {
    if (error != Error::kOk) return done(error, nullptr);
    const etcdserverpb::RangeRequest& r = ops_[id - 1].range;
    storage::RangeArgs args;
    args.key = r.key();
    args.range_end = r.range_end();
    args.limit = r.limit();
    args.revision = r.revision();
    args.keys_only = r.keys_only();
    args.count_only = r.count_only();
    storage::OpResult result;
    node.store().Range(args, &result);
    done(server::ToError(result.error), &result);
  };
  if (op.kind == Kind::kSerializable) {
    read(Error::kOk);
  } else {
    node.LinearizableRead(read);
  }
}

void Workload::Submit(Op& op, std::function<void()> done) {
  server::Node& node = cluster_.node(op.member);
  uint64_t life = cluster_.life(op.member);
  switch (op.kind) {
    case Kind::kPut:
      return node.Propose(RequestField::kPut, op.put.SerializeAsString(), Apply(op, std::move(done)));
    case Kind::kDelete:
      return node.Propose(RequestField::kDeleteRange, op.del.SerializeAsString(), Apply(op, std::move(done)));
    case Kind::kTxn:
      return node.Propose(RequestField::kTxn, op.txn.SerializeAsString(), Apply(op, std::move(done)));
    case Kind::kCompact: {
      etcdserverpb::CompactionRequest request;
      request.set_revision(op.compact);
      return node.Propose(RequestField::kCompaction, request.SerializeAsString(), Apply(op, std::move(done)));
    }
    case Kind::kGrant: {
      etcdserverpb::LeaseGrantRequest request;
      request.set_id(op.lease);
      request.set_ttl(op.ttl_s);
      return node.Propose(RequestField::kLeaseGrant, request.SerializeAsString(), Apply(op, std::move(done)));
    }
    case Kind::kRevoke: {
      etcdserverpb::LeaseRevokeRequest request;
      request.set_id(op.lease);
      return node.Propose(RequestField::kLeaseRevoke, request.SerializeAsString(),
                          Apply(op, std::move(done)));
    }
    case Kind::kKeepAlive:
      return node.RenewLease(op.lease, [finish = Apply(op, std::move(done))](Error error, int64_t) mutable {
        server::ApplyOutcome outcome;
        outcome.error = error;
        finish(std::move(outcome));
      });
    case Kind::kRange:
    case Kind::kSerializable:
      return SubmitRange(
          op, [this, id = op.id, life, done = std::move(done)](Error error, const storage::OpResult* result) {
            Op& o = ops_[id - 1];
            if (!cluster_.alive(o.member) || cluster_.life(o.member) != life) return;
            o.returned = cluster_.scheduler().clock().Monotonic();
            o.error = error;
            if (result != nullptr) {
              o.revision = result->revision;
              if (!o.range_answer.ParseFromString(result->body))
                verdict_.Fail("answers", "an answer that does not parse: " + o.Describe());
            }
            done();
          });
  }
}

std::shared_ptr<Workload::Check> Workload::CheckMember(size_t member) {
  auto check = std::make_shared<Check>();
  Op& op = ops_.emplace_back();
  op.id = ops_.size();
  op.member = member;
  op.client = swarm_.clients;
  op.kind = Kind::kPut;
  op.invoked = cluster_.scheduler().clock().Monotonic();
  op.put.set_key("k0");
  op.put.set_value(Value(op, 0));
  Submit(op, [this, check, member, id = op.id] {
    if (!ops_[id - 1].ok()) {
      check->done = true;
      return;
    }
    Op& read = ops_.emplace_back();
    read.id = ops_.size();
    read.member = member;
    read.client = swarm_.clients;
    read.kind = Kind::kRange;
    read.invoked = cluster_.scheduler().clock().Monotonic();
    read.range.set_key("k");
    read.range.set_range_end("l");
    Submit(read, [this, check, read_id = read.id] {
      check->done = true;
      check->ok = ops_[read_id - 1].ok();
    });
  });
  return check;
}

}  // namespace kvd::sim
