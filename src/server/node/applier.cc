#include "server/node/applier.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mutant.h"
#include "base/sites.h"
#include "base/strings.h"
#include "etcdserverpb/etcdserver.pb.h"
#include "etcdserverpb/rpc.pb.h"
#include "membershippb/membership.pb.h"
#include "raft/conf_change.h"
#include "server/auth/auth_store.h"
#include "server/lease/lessor.h"
#include "server/membership/cluster.h"
#include "server/node/batch_tables.h"
#include "server/node/conf_state_json.h"
#include "server/node/txn_codec.h"
#include "server/node/wire_codec.h"
#include "storage/store.h"

namespace kvd::server {
namespace {

using storage::ApplyBatch;
using storage::OpResult;
using storage::Table;

// Entries applied in one engine write: enough to amortise it, few enough that nobody waits long.
constexpr size_t kMaxBatchEntries = 4096;
constexpr size_t kMaxBatchBytes = 8 << 20;

// Between two batches where nobody waits, unless so much has gathered.
constexpr base::Nanos kInterval = std::chrono::milliseconds(3);
constexpr size_t kMaxWaitingBytes = 256 << 10;

constexpr uint32_t kFieldId = 1;
constexpr uint32_t kFieldV2 = 2;
constexpr uint32_t kFieldHeader = 100;

template <typename Proto>
bool Parse(std::string_view bytes, Proto* message) {
  return message->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
}

bool TxnPuts(const etcdserverpb::TxnRequest& txn) {
  auto puts = [](const auto& ops) {
    return std::any_of(ops.begin(), ops.end(), [](const etcdserverpb::RequestOp& op) {
      return op.has_request_put() || (op.has_request_txn() && TxnPuts(op.request_txn()));
    });
  };
  return puts(txn.success()) || puts(txn.failure());
}

}  // namespace

Error ToError(storage::StoreError error) {
  switch (error) {
    case storage::StoreError::kNone:
      return Error::kOk;
    case storage::StoreError::kCompacted:
      return Error::kCompacted;
    case storage::StoreError::kFutureRevision:
      return Error::kFutureRevision;
    case storage::StoreError::kLeaseNotFound:
      return Error::kLeaseNotFound;
    case storage::StoreError::kKeyNotFound:
      return Error::kKeyNotFound;
  }
  return Error::kInternal;
}

Error ToError(const absl::Status& status) {
  return status.ok() ? Error::kOk : ErrorFromText(base::FromAbsl(status.message()));
}

// The batch under way and the answers that its commit releases.
class Applier::Batch {
 public:
  Batch(ApplyBatch apply, bool raised_no_space, bool raised_corrupt)
      : apply_(std::move(apply)), no_space_(raised_no_space), corrupt_(raised_corrupt) {}

  ApplyBatch& apply() { return apply_; }
  bool no_space() const { return no_space_; }
  bool corrupt() const { return corrupt_; }
  void SetAlarms(bool no_space, bool corrupt) {
    no_space_ = no_space;
    corrupt_ = corrupt;
  }

  void Answer(uint64_t id, OpResult&& result) {
    ApplyOutcome outcome;
    outcome.error = ToError(result.error);
    outcome.revision = result.revision;
    outcome.body = std::move(result.body);
    outcomes.emplace_back(id, std::move(outcome));
  }
  void Answer(uint64_t id, Error error, std::string body = {}) {
    ApplyOutcome outcome;
    outcome.error = error;
    outcome.revision = apply_.revision();
    outcome.body = std::move(body);
    outcomes.emplace_back(id, std::move(outcome));
  }

  std::vector<std::pair<uint64_t, ApplyOutcome>> outcomes;

 private:
  ApplyBatch apply_;
  bool no_space_;
  bool corrupt_;
};

Applier::Applier(Parts parts, Hooks hooks) : parts_(parts), hooks_(std::move(hooks)) {
  applied_index_ = parts_.store.applied().index;
  applied_term_ = parts_.store.applied().term;
}

Applier::~Applier() = default;

void Applier::OnCommitted(std::vector<raft::Entry> entries) {
  size_t bytes = 0;
  for (const raft::Entry& entry : entries) bytes += entry.data.size();
  Enqueue({std::move(entries), nullptr}, bytes);
}

void Applier::OnSnapshot(std::shared_ptr<const raft::Snapshot> snapshot) {
  Enqueue({{}, std::move(snapshot)}, 0);
}

void Applier::OnStateChange() {
  hooks_.on_state_change();
  Hurry();
}

bool Applier::AwaitsCommits() const {
  return driver_->is_leader() || parts_.proposals.size() > 0 || !parts_.waiters.empty() ||
         (hooks_.is_watched && hooks_.is_watched());
}

void Applier::Enqueue(Item item, size_t bytes) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    queued_.push_back(std::move(item));
    queued_bytes_ += bytes;
    if (scheduled_) return;
    if (resting_ && queued_bytes_ < kMaxWaitingBytes && !AwaitsCommits()) return;
    scheduled_ = true;
  }
  parts_.executor.Post([this] { ApplyQueued(); });
}

void Applier::Hurry() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (scheduled_ || queued_.empty()) return;
    scheduled_ = true;
  }
  parts_.executor.Post([this] { ApplyQueued(); });
}

void Applier::ApplyQueued() {
  ApplyNow();
  if (!AwaitsCommits()) Rest();
}

// What is committed from now on waits for the timer, if nobody waits for it.
void Applier::Rest() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (std::exchange(resting_, true)) return;
  }
  parts_.executor.PostAfter(kInterval, [this] {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      resting_ = false;
      if (scheduled_ || queued_.empty()) return;
      KVD_PROBE("apply/batch at the end of an interval");
    }
    ApplyQueued();
  });
}

void Applier::ApplyNow() {
  std::vector<Item> items;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    scheduled_ = false;
    items.swap(queued_);
    queued_bytes_ = 0;
  }
  std::move(items.begin(), items.end(), std::back_inserter(items_));
  while (!changing_conf_ && !failed_) {
    // Everything up to the next snapshot is one run of entries.
    while (!items_.empty() && items_.front().snapshot == nullptr) {
      std::move(items_.front().entries.begin(), items_.front().entries.end(), std::back_inserter(entries_));
      items_.pop_front();
    }
    if (!entries_.empty()) {
      if (!ApplyEntries(entries_)) return;
    } else if (!items_.empty()) {
      std::shared_ptr<const raft::Snapshot> snapshot = std::move(items_.front().snapshot);
      items_.pop_front();
      InstallSnapshot(*snapshot);
    } else {
      return;
    }
  }
}

bool Applier::ApplyEntries(std::deque<raft::Entry>& entries) {
  Batch batch(parts_.store.BeginApply(), parts_.alarms.IsRaised(AlarmType::kNoSpace),
              parts_.alarms.IsRaised(AlarmType::kCorrupt));
  raft::Index index = applied_index();
  raft::Term term = applied_term();
  raft::Index before = index;
  size_t bytes = 0;
  size_t count = 0;
  std::optional<raft::Entry> conf_change;
  const size_t most = KVD_BUGGIFY("apply/one entry") ? 1 : kMaxBatchEntries;
  while (!entries.empty() && count < most && bytes < kMaxBatchBytes) {
    raft::Entry entry = std::move(entries.front());
    entries.pop_front();
    if (KVD_MUTANT("applied_twice_after_restart") && entry.index == index && count == 0 &&
        !entry.data.empty() && entry.type == raft::EntryType::kNormal) {
      ApplyEntry(entry, batch);
    }
    if (entry.index <= index)
      continue;  // held already: the log is replayed from before the state machine's index
    KVD_CHECK(entry.index == index + 1, "committed entries come without a gap");
    if (entry.type != raft::EntryType::kNormal) {
      conf_change = std::move(entry);
      break;
    }
    if (!entry.data.empty()) ApplyEntry(entry, batch);
    index = entry.index;
    term = entry.term;
    bytes += entry.data.size();
    ++count;
  }
  if (index != before) {
    batch.apply().Commit({index, term});
    Publish(index, term, bytes);
    parts_.proposals.CompleteAll(batch.outcomes);
  }
  if (conf_change) {
    ApplyConfChange(*conf_change);
    return false;
  }
  return true;
}

void Applier::Publish(raft::Index index, raft::Term term, size_t bytes) {
  const bool is_new_term = applied_term_.exchange(term, std::memory_order_acq_rel) != term;
  applied_index_.store(index, std::memory_order_release);
  driver_->OnApplied(index);
  if (is_new_term && hooks_.on_applied_term) hooks_.on_applied_term(term);
  parts_.waiters.Advance(index);
  if (hooks_.on_applied) hooks_.on_applied(index, bytes);
}

void Applier::ApplyEntry(const raft::Entry& entry, Batch& batch) {
  uint64_t id = 0;
  uint32_t request_field = 0;
  std::string_view request;
  FieldReader fields(entry.data.view());
  while (fields.Next()) {
    if (fields.field() == kFieldId && fields.type() == WireType::kVarint) {
      if (id == 0) id = fields.varint();
    } else if (fields.field() == kFieldHeader && fields.type() == WireType::kLength) {
      FieldReader header(fields.bytes());
      while (header.Next()) {
        if (header.field() == kFieldId && header.varint() != 0) id = header.varint();
      }
    } else if (fields.type() == WireType::kLength) {
      request_field = fields.field();
      request = fields.bytes();
    }
  }
  if (!fields
           .ok()) {  // before 3.0 entries were a Request of the v2 API; no cluster that kvd can join has them
    KVD_LOG(kError, "skipped a log entry that is not a request", {"index", entry.index},
            {"term", entry.term});
    return;
  }
  ApplyRequest(request_field, request, id, batch);
}

void Applier::ApplyRequest(uint32_t field, std::string_view body, uint64_t id, Batch& batch) {
  switch (static_cast<RequestField>(field)) {
    case RequestField::kPut:
      return ApplyPut(body, id, batch);
    case RequestField::kDeleteRange:
      return ApplyDelete(body, id, batch);
    case RequestField::kTxn:
      return ApplyTxn(body, id, batch);
    case RequestField::kCompaction:
      return ApplyCompaction(body, id, batch);
    case RequestField::kLeaseGrant:
      return ApplyLeaseGrant(body, id, batch);
    case RequestField::kLeaseRevoke:
      return ApplyLeaseRevoke(body, id, batch);
    case RequestField::kLeaseCheckpoint:
      return ApplyLeaseCheckpoint(body, id, batch);
    case RequestField::kAlarm:
      return ApplyAlarm(body, id, batch);
    case RequestField::kClusterVersionSet:
    case RequestField::kClusterMemberAttrSet:
    case RequestField::kDowngradeInfoSet:
      return ApplyMembership(field, body, id, batch);
    default:
      break;
  }
  if (AuthStore::Takes(field)) return ApplyAuth(field, body, id, batch);
  if (field == kFieldV2) {
    ApplyV2(body, batch);
  } else if (field != 0) {
    KVD_LOG(kWarn, "passed over a request that this version does not know", {"field", field});
  }
  batch.Answer(id, Error::kOk);
}

void Applier::ApplyPut(std::string_view body, uint64_t id, Batch& batch) {
  if (batch.corrupt()) return batch.Answer(id, Error::kCorrupt);
  if (batch.no_space()) return batch.Answer(id, Error::kNoSpace);
  storage::PutArgs put;
  FieldReader fields(body);
  while (fields.Next()) {
    switch (fields.field()) {
      case 1:
        put.key = fields.bytes();
        break;
      case 2:
        put.value = fields.bytes();
        break;
      case 3:
        put.lease = static_cast<int64_t>(fields.varint());
        break;
      case 4:
        put.prev_kv = fields.varint() != 0;
        break;
      case 5:
        put.ignore_value = fields.varint() != 0;
        break;
      case 6:
        put.ignore_lease = fields.varint() != 0;
        break;
      default:
        break;
    }
  }
  bool ours = IsOurs(id);
  OpResult result = batch.apply().Put(put, ours ? ApplyBatch::Answer::kFull : ApplyBatch::Answer::kNone);
  if (ours) batch.Answer(id, std::move(result));
}

void Applier::ApplyDelete(std::string_view body, uint64_t id, Batch& batch) {
  if (batch.corrupt()) return batch.Answer(id, Error::kCorrupt);
  storage::DeleteRangeArgs args;
  FieldReader fields(body);
  while (fields.Next()) {
    if (fields.field() == 1) args.key = fields.bytes();
    if (fields.field() == 2) args.range_end = fields.bytes();
    if (fields.field() == 3) args.prev_kv = fields.varint() != 0;
  }
  bool ours = IsOurs(id);
  OpResult result =
      batch.apply().DeleteRange(args, ours ? ApplyBatch::Answer::kFull : ApplyBatch::Answer::kNone);
  if (ours) batch.Answer(id, std::move(result));
}

void Applier::ApplyTxn(std::string_view body, uint64_t id, Batch& batch) {
  etcdserverpb::TxnRequest txn;
  if (!ParseTxn(body, &txn)) return batch.Answer(id, Error::kInternal);
  if (batch.corrupt()) return batch.Answer(id, Error::kCorrupt);
  if (batch.no_space() && TxnPuts(txn)) return batch.Answer(id, Error::kNoSpace);
  bool ours = IsOurs(id);
  OpResult result = batch.apply().Txn(txn, ours ? ApplyBatch::Answer::kFull : ApplyBatch::Answer::kNone);
  if (ours) batch.Answer(id, std::move(result));
}

void Applier::ApplyCompaction(std::string_view body, uint64_t id, Batch& batch) {
  etcdserverpb::CompactionRequest request;
  if (!Parse(body, &request)) return batch.Answer(id, Error::kInternal);
  if (batch.corrupt()) return batch.Answer(id, Error::kCorrupt);
  if (!request.physical() || !IsOurs(id)) {
    return batch.Answer(id, batch.apply().Compact(request.revision()));
  }
  // The proposer asked to wait for the space: it is answered by the sweep, through a table that outlives it.
  int64_t revision = batch.apply().revision();
  OpResult result = batch.apply().Compact(request.revision(), [this, id, revision] {
    ApplyOutcome outcome;
    outcome.revision = revision;
    parts_.proposals.Complete(id, std::move(outcome));
  });
  if (!result.ok()) batch.Answer(id, std::move(result));
}

void Applier::ApplyLeaseGrant(std::string_view body, uint64_t id, Batch& batch) {
  etcdserverpb::LeaseGrantRequest request;
  if (!Parse(body, &request)) return batch.Answer(id, Error::kInternal);
  if (batch.corrupt()) return batch.Answer(id, Error::kCorrupt);
  if (batch.no_space()) return batch.Answer(id, Error::kNoSpace);
  absl::StatusOr<LeaseRecord> record = parts_.lessor.Grant(request.id(), request.ttl());
  if (!record.ok()) return batch.Answer(id, ToError(record.status()));
  batch.apply().PutTable(Table::kLease, EncodeLeaseKey(record->id), EncodeLeaseRecord(*record));
  std::string answer;
  AppendInt64Field(answer, 2, record->id);
  AppendInt64Field(answer, 3, record->ttl_s);
  batch.Answer(id, Error::kOk, std::move(answer));
}

void Applier::ApplyLeaseRevoke(std::string_view body, uint64_t id, Batch& batch) {
  etcdserverpb::LeaseRevokeRequest request;
  if (!Parse(body, &request)) return batch.Answer(id, Error::kInternal);
  if (batch.corrupt()) return batch.Answer(id, Error::kCorrupt);
  absl::StatusOr<std::vector<std::string>> keys = parts_.lessor.Revoke(request.id());
  if (!keys.ok()) return batch.Answer(id, ToError(keys.status()));
  batch.apply().DeleteKeys(*keys);
  batch.apply().DeleteTable(Table::kLease, EncodeLeaseKey(request.id()));
  batch.Answer(id, Error::kOk);
}

void Applier::ApplyLeaseCheckpoint(std::string_view body, uint64_t id, Batch& batch) {
  etcdserverpb::LeaseCheckpointRequest request;
  if (!Parse(body, &request)) return batch.Answer(id, Error::kInternal);
  Error error = Error::kOk;
  for (const etcdserverpb::LeaseCheckpoint& checkpoint : request.checkpoints()) {
    absl::StatusOr<LeaseRecord> record =
        parts_.lessor.Checkpoint(checkpoint.id(), checkpoint.remaining_ttl());
    if (!record.ok()) {
      error = ToError(record.status());
      break;
    }
    batch.apply().PutTable(Table::kLease, EncodeLeaseKey(record->id), EncodeLeaseRecord(*record));
  }
  batch.Answer(id, error);
}

void Applier::ApplyAlarm(std::string_view body, uint64_t id, Batch& batch) {
  etcdserverpb::AlarmRequest request;
  if (!Parse(body, &request)) return batch.Answer(id, Error::kInternal);
  Alarms::Alarm alarm{request.memberid(), static_cast<AlarmType>(request.alarm())};
  std::vector<Alarms::Alarm> answer;
  switch (request.action()) {
    case etcdserverpb::AlarmRequest::ACTIVATE:
      if (alarm.type == AlarmType::kNone) break;
      if (parts_.alarms.Raise(alarm)) {
        KVD_LOG(kWarn, "alarm raised", {"alarm", AlarmName(alarm.type)}, {"from", base::HexId(alarm.member)});
        batch.apply().PutTable(Table::kAlarm, Alarms::Encode(alarm), "");
      }
      answer.push_back(alarm);
      break;
    case etcdserverpb::AlarmRequest::DEACTIVATE:
      if (parts_.alarms.Clear(alarm)) {
        KVD_LOG(kWarn, "alarm disarmed", {"alarm", AlarmName(alarm.type)},
                {"from", base::HexId(alarm.member)});
        batch.apply().DeleteTable(Table::kAlarm, Alarms::Encode(alarm));
        answer.push_back(alarm);
      }
      break;
    default:
      answer = parts_.alarms.List(alarm.type);
      break;
  }
  batch.SetAlarms(parts_.alarms.IsRaised(AlarmType::kNoSpace), parts_.alarms.IsRaised(AlarmType::kCorrupt));
  std::string encoded;
  for (const Alarms::Alarm& a : answer) AppendBytesField(encoded, 2, Alarms::Encode(a));
  batch.Answer(id, Error::kOk, std::move(encoded));
}

void Applier::ApplyAuth(uint32_t field, std::string_view body, uint64_t id, Batch& batch) {
  const bool was_enabled = parts_.auth.enabled();
  BatchAuthTables tables(batch.apply());
  absl::StatusOr<std::string> answer = parts_.auth.Apply(field, body, tables);
  if (parts_.auth.enabled() && !was_enabled) {
    KVD_LOG(kWarn,
            "a member of another kind has enabled authentication, which this version does not have; no "
            "client is served until it is disabled");
  }
  if (!answer.ok()) return batch.Answer(id, ToError(answer.status()));
  batch.Answer(id, Error::kOk, *std::move(answer));
}

void Applier::ApplyMembership(uint32_t field, std::string_view body, uint64_t id, Batch& batch) {
  BatchMemberStore store(batch.apply());
  Error error = Error::kOk;
  switch (static_cast<RequestField>(field)) {
    case RequestField::kClusterVersionSet: {
      membershippb::ClusterVersionSetRequest request;
      absl::StatusOr<Version> version =
          Parse(body, &request) ? ParseVersion(request.ver()) : absl::InvalidArgumentError("not a request");
      if (!version.ok()) {
        error = Error::kInternal;
        break;
      }
      KVD_LOG(kInfo, "set cluster version", {"cluster-version", version->ToString()});
      parts_.cluster.SetVersion(*version, store);
      break;
    }
    case RequestField::kClusterMemberAttrSet: {
      membershippb::ClusterMemberAttrSetRequest request;
      if (!Parse(body, &request)) {
        error = Error::kInternal;
        break;
      }
      MemberAttributes attributes;
      attributes.name = request.member_attributes().name();
      const auto& urls = request.member_attributes().client_urls();
      attributes.client_urls.assign(urls.begin(), urls.end());
      absl::Status status = parts_.cluster.SetAttributes(request.member_id(), attributes, store);
      if (!status.ok()) KVD_LOG(kWarn, "attributes of an unknown member", {"error", status});
      break;
    }
    default: {
      membershippb::DowngradeInfoSetRequest request;
      if (!Parse(body, &request)) {
        error = Error::kInternal;
        break;
      }
      parts_.cluster.SetDowngrade({request.enabled(), request.ver()}, store);
      break;
    }
  }
  batch.Answer(id, error);
}

// What members of 3.4 and older replicate through the store of the v2 API: their attributes and the cluster
// version.
void Applier::ApplyV2(std::string_view body, Batch& batch) {
  etcdserverpb::Request request;
  if (!Parse(body, &request) || request.method() != "PUT") return;
  BatchMemberStore store(batch.apply());
  if (request.path() == "/0/version") {
    if (absl::StatusOr<Version> version = ParseVersion(request.val()); version.ok()) {
      parts_.cluster.SetVersion(*version, store);
    }
    return;
  }
  absl::StatusOr<uint64_t> member = MemberIdFromAttributesKey(request.path());
  absl::StatusOr<MemberAttributes> attributes = MemberAttributesFromJson(request.val());
  if (!member.ok() || !attributes.ok()) return;
  absl::Status status = parts_.cluster.SetAttributes(*member, *attributes, store);
  if (!status.ok()) KVD_LOG(kWarn, "attributes of an unknown member", {"error", status});
}

// The core changes its configuration on the consensus executor; nothing else is applied meanwhile.
void Applier::ApplyConfChange(const raft::Entry& entry) {
  changing_conf_ = true;
  raft::ConfChange change;
  std::optional<raft::ConfChangeV2> v2;
  Error refused = Error::kOk;
  if (entry.type == raft::EntryType::kConfChange) {
    std::optional<raft::ConfChange> decoded = raft::DecodeConfChange(entry.data.view());
    KVD_CHECK(decoded.has_value(), "a committed configuration change can be read");
    change = std::move(*decoded);
    absl::Status allowed =
        parts_.cluster.CheckChange(static_cast<ChangeType>(change.type), change.node, change.context);
    if (!allowed.ok()) {
      refused = ToError(allowed);
      change.node = raft::kNoNode;
    }
    v2 = raft::AsV2(change);
  } else {
    v2 = raft::DecodeConfChangeV2(entry.data.view());
    KVD_CHECK(v2.has_value(), "a committed configuration change can be read");
  }
  driver_->ApplyConfChange(*v2, [this, entry, change, refused](raft::ConfState state) {
    parts_.executor.Post([this, entry, change, refused, state = std::move(state)] {
      FinishConfChange(entry, change, refused, state);
    });
  });
}

void Applier::FinishConfChange(const raft::Entry& entry, const raft::ConfChange& change, Error refused,
                               const raft::ConfState& state) {
  storage::ApplyBatch batch = parts_.store.BeginApply();
  BatchMemberStore members(batch);
  bool changes = refused == Error::kOk && change.node != raft::kNoNode;
  if (changes) {
    absl::Status applied =
        parts_.cluster.Apply(static_cast<ChangeType>(change.type), change.node, change.context, members);
    KVD_CHECK(applied.ok(), "an allowed configuration change can be applied");
  }
  batch.SetConfState(ConfStateToJson(state));
  batch.Commit({entry.index, entry.term});
  conf_changed_at_.store(entry.index, std::memory_order_release);
  changing_conf_ = false;
  Publish(entry.index, entry.term, entry.data.size());
  if (changes) {
    hooks_.on_membership();
    if (change.type == raft::ConfChangeType::kRemoveNode && change.node == parts_.member_id)
      hooks_.on_removed();
  }
  ApplyOutcome outcome;
  outcome.error = refused;
  outcome.revision = parts_.store.current_revision();
  parts_.proposals.Complete(change.id, std::move(outcome));
  ApplyQueued();
}

void Applier::InstallSnapshot(const raft::Snapshot& snapshot) {
  if (snapshot.meta.index <= applied_index()) return;
  if (!hooks_.install_snapshot(snapshot)) {
    failed_ = true;
    return;
  }
  conf_changed_at_.store(snapshot.meta.index, std::memory_order_release);
  Publish(snapshot.meta.index, snapshot.meta.term, 0);
  hooks_.on_membership();
}

}  // namespace kvd::server
