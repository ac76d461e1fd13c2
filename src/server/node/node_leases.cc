// The node's part in leases: only the leader knows when one expires, so renewals and remaining times are
// asked of it, over its peer port if this member follows (ETCD: server/lease/leasehttp).

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/mutant.h"
#include "base/sites.h"
#include "server/node/node.h"
#include "storage/store.h"

namespace kvd::server {
namespace {

constexpr std::string_view kRenewPath = "/leases";
constexpr std::string_view kTimeToLivePath = "/leases/internal";
constexpr base::Nanos kAskRetry = std::chrono::milliseconds(50);
constexpr size_t kRevokesAtOnce = 128;
constexpr int kNotFound = 404;
constexpr int kRequestTimeoutStatus = 408;
constexpr int kOk = 200;

Error LeaseError(const absl::Status& status) {
  return status.code() == absl::StatusCode::kNotFound ? Error::kLeaseNotFound : Error::kNotLeader;
}

// etcdserverpb.LeaseKeepAliveResponse{ID = 2, TTL = 3}
int64_t RenewedTtl(std::string_view body) {
  int64_t ttl = 0;
  FieldReader fields(body);
  while (fields.Next()) {
    if (fields.field() == 3) ttl = static_cast<int64_t>(fields.varint());
  }
  return ttl;
}

// leasepb.LeaseInternalResponse{LeaseTimeToLiveResponse = 1{ID = 2, TTL = 3, grantedTTL = 4, keys = 5}}
std::string EncodeTimeToLive(const Lessor::Info& info) {
  std::string inner;
  AppendInt64Field(inner, 2, info.id);
  AppendInt64Field(inner, 3, info.remaining_ttl_s);
  AppendInt64Field(inner, 4, info.granted_ttl_s);
  for (const std::string& key : info.keys) AppendBytesField(inner, 5, key);
  std::string out;
  AppendBytesField(out, 1, inner);
  return out;
}

Lessor::Info DecodeTimeToLive(std::string_view body) {
  Lessor::Info info;
  FieldReader outer(body);
  while (outer.Next()) {
    if (outer.field() != 1 || outer.type() != WireType::kLength) continue;
    FieldReader fields(outer.bytes());
    while (fields.Next()) {
      if (fields.field() == 2) info.id = static_cast<int64_t>(fields.varint());
      if (fields.field() == 3) info.remaining_ttl_s = static_cast<int64_t>(fields.varint());
      if (fields.field() == 4) info.granted_ttl_s = static_cast<int64_t>(fields.varint());
      if (fields.field() == 5 && fields.type() == WireType::kLength) info.keys.emplace_back(fields.bytes());
    }
  }
  return info;
}

// The first field of a request as a lease ID, and the second as a flag.
void DecodeLeaseQuery(std::string_view bytes, int64_t* id, bool* flag) {
  FieldReader fields(bytes);
  while (fields.Next()) {
    if (fields.field() == 1) *id = static_cast<int64_t>(fields.varint());
    if (fields.field() == 2) *flag = fields.varint() != 0;
  }
}

}  // namespace

// A leader that was paused, or cut off, may not know that another has taken over and let the lease end, nor a
// new one that its predecessor has revoked it: a renewal counts only after a round to the quorum.
void Node::RenewHere(int64_t id, Lessor::RenewCallback done) {
  if (KVD_MUTANT("renew_without_quorum")) return lessor_.Renew(id, std::move(done));
  LinearizableRead([this, id, done = std::move(done)](Error error) mutable {
    if (error != Error::kOk) {
      done(LeaseNotPrimaryError());
    } else {
      lessor_.Renew(id, std::move(done));
    }
  });
}

void Node::RenewLease(int64_t id, absl::AnyInvocable<void(Error, int64_t ttl_s)> done) {
  if (is_leader()) {
    RenewHere(id, [done = std::move(done)](absl::StatusOr<int64_t> ttl) mutable {
      done(ttl.ok() ? Error::kOk : LeaseError(ttl.status()), ttl.ok() ? *ttl : 0);
    });
    return;
  }
  PeerRequest request{"POST", std::string(kRenewPath), {}, RequestTimeout()};
  AppendInt64Field(request.body, 1, id);
  AskLeader(
      std::move(request), Now() + RequestTimeout(),
      [done = std::move(done)](absl::StatusOr<PeerAnswer> answer) mutable {
        if (!answer.ok()) {
          done(answer.status().code() == absl::StatusCode::kCancelled ? Error::kStopped : Error::kTimeout, 0);
        } else if (answer->status == kOk) {
          done(Error::kOk, RenewedTtl(answer->body));
        } else {
          done(answer->status == kNotFound ? Error::kLeaseNotFound : Error::kTimeout, 0);
        }
      });
}

void Node::LeaseTimeToLive(int64_t id, bool keys, absl::AnyInvocable<void(Error, const Lessor::Info&)> done) {
  if (is_leader()) {
    // The leader's own clock counts, once what is committed has been applied.
    waiters_.Wait(driver_->commit(), [this, id, keys, done = std::move(done)](Error error) mutable {
      absl::StatusOr<Lessor::Info> info = Lessor::Info{};
      if (error == Error::kOk) info = lessor_.TimeToLive(id, keys);
      if (!info.ok()) {
        done(LeaseError(info.status()), {});
      } else {
        done(error, *info);
      }
    });
    return;
  }
  std::string query;
  AppendInt64Field(query, 1, id);
  AppendBoolField(query, 2, keys);
  PeerRequest request{"POST", std::string(kTimeToLivePath), {}, RequestTimeout()};
  AppendBytesField(request.body, 1, query);
  AskLeader(
      std::move(request), Now() + RequestTimeout(),
      [done = std::move(done)](absl::StatusOr<PeerAnswer> answer) mutable {
        if (!answer.ok()) {
          done(answer.status().code() == absl::StatusCode::kCancelled ? Error::kStopped : Error::kTimeout,
               {});
        } else if (answer->status == kOk) {
          done(Error::kOk, DecodeTimeToLive(answer->body));
        } else {
          done(answer->status == kNotFound ? Error::kLeaseNotFound : Error::kTimeout, {});
        }
      });
}

// Asks whoever leads, until it answers for good or the time is up.
void Node::AskLeader(PeerRequest request, base::Nanos deadline,
                     absl::AnyInvocable<void(absl::StatusOr<PeerAnswer>)> done) {
  if (stopped_.load(std::memory_order_acquire)) {
    done(absl::CancelledError("stopped"));
    return;
  }
  base::Nanos left = deadline - Now();
  if (left <= base::Nanos(0)) {
    done(absl::DeadlineExceededError("no leader answered"));
    return;
  }
  auto again = [this](PeerRequest r, base::Nanos d, absl::AnyInvocable<void(absl::StatusOr<PeerAnswer>)> f) {
    executors_.background.PostAfter(kAskRetry, [this, r = std::move(r), d, f = std::move(f)]() mutable {
      AskLeader(std::move(r), d, std::move(f));
    });
  };
  std::shared_ptr<const ClusterView> view = cluster_.View();
  const Member* leader = view->Find(driver_->leader());
  if (leader == nullptr || leader->id == member_id_) {
    KVD_PROBE("lease/question finds no leader");
    again(std::move(request), deadline, std::move(done));
    return;
  }
  request.timeout = left;
  PeerRequest copy = request;
  network_.Ask(leader->peer_urls, std::move(copy),
               [request = std::move(request), deadline, again,
                done = std::move(done)](absl::StatusOr<PeerAnswer> answer) mutable {
                 if (answer.ok() && (answer->status == kOk || answer->status == kNotFound)) {
                   done(std::move(answer));
                 } else {
                   again(std::move(request), deadline, std::move(done));
                 }
               });
}

void Node::ServeLeaseRenew(const PeerRequest& request, Respond respond) {
  int64_t id = 0;
  bool unused = false;
  DecodeLeaseQuery(request.body, &id, &unused);
  if (!is_leader()) {
    respond({500, std::string(ErrorText(Error::kNotLeader))});
    return;
  }
  RenewHere(id, [id, respond = std::move(respond)](absl::StatusOr<int64_t> ttl) mutable {
    if (!ttl.ok()) {
      bool gone = ttl.status().code() == absl::StatusCode::kNotFound;
      respond({gone ? kNotFound : 500, std::string(ttl.status().message())});
      return;
    }
    PeerAnswer answer;
    AppendInt64Field(answer.body, 2, id);
    AppendInt64Field(answer.body, 3, *ttl);
    respond(std::move(answer));
  });
}

void Node::ServeLeaseTimeToLive(const PeerRequest& request, Respond respond) {
  int64_t id = 0;
  bool keys = false;
  FieldReader fields(request.body);
  while (fields.Next()) {
    if (fields.field() == 1 && fields.type() == WireType::kLength)
      DecodeLeaseQuery(fields.bytes(), &id, &keys);
  }
  if (!is_leader()) {
    respond({500, std::string(ErrorText(Error::kNotLeader))});
    return;
  }
  LeaseTimeToLive(id, keys, [respond = std::move(respond)](Error error, const Lessor::Info& info) mutable {
    if (error == Error::kOk) {
      respond({kOk, EncodeTimeToLive(info)});
    } else {
      respond({error == Error::kLeaseNotFound ? kNotFound : kRequestTimeoutStatus,
               std::string(ErrorText(error))});
    }
  });
}

// What one leader has seen expire, the next may have given time again: its revocations end with its term, and
// are not passed on. So many at a time that they share the log's writes, and so few that expiry does not
// crowd out the requests of clients.
void Node::RevokeExpired(std::vector<int64_t> ids) {
  if (ids.empty() || stopped_.load(std::memory_order_acquire)) return;
  struct Work {
    std::vector<int64_t> ids;
    std::atomic<size_t> next{0};
    std::atomic<size_t> done{0};
  };
  auto work = std::make_shared<Work>();
  work->ids = std::move(ids);
  auto step = std::make_shared<std::function<void()>>();
  // Holds itself only while requests are under way.
  *step = [this, work, weak = std::weak_ptr<std::function<void()>>(step)] {
    size_t at = work->next.fetch_add(1);
    std::shared_ptr<std::function<void()>> self = weak.lock();
    if (at >= work->ids.size() || self == nullptr) return;
    std::string request;
    AppendInt64Field(request, 1, work->ids[at]);
    ProposeOwn(RequestField::kLeaseRevoke, request, lease_term_.load(std::memory_order_acquire),
               [this, work, self](ApplyOutcome&&) {
                 if (work->done.fetch_add(1) + 1 == work->ids.size()) lessor_.ExpiredDone();
                 (*self)();
               });
  };
  size_t parallel = std::min(kRevokesAtOnce, work->ids.size());
  for (size_t i = 0; i < parallel; ++i) (*step)();
}

void Node::ProposeCheckpoints(std::vector<LeaseCheckpoint> checkpoints) {
  std::string request;
  for (const LeaseCheckpoint& checkpoint : checkpoints) {
    std::string one;
    AppendInt64Field(one, 1, checkpoint.id);
    AppendInt64Field(one, 2, checkpoint.remaining_ttl_s);
    AppendBytesField(request, 1, one);
  }
  ProposeOwn(RequestField::kLeaseCheckpoint, request, lease_term_.load(std::memory_order_acquire),
             [](ApplyOutcome&&) {});
}

}  // namespace kvd::server
