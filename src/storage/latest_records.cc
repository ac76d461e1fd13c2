#include "storage/latest_records.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/hash/hash.h"
#include "base/check.h"
#include "base/mutant.h"
#include "base/mutex.h"
#include "base/sites.h"
#include "storage/engine.h"
#include "storage/meta.h"
#include "storage/stored_record.h"

namespace kvd::storage {
namespace {

// What a record costs besides its bytes: node, table, ring, counted reference, allocator.
constexpr size_t kOverhead = 192;
// Looked at for eviction when one comes in.
constexpr int kEvictionSteps = 8;
// Written at least at a time, and for each change that comes in.
constexpr size_t kLeastSlice = 64;
constexpr size_t kSlicePerChange = 2;

}  // namespace

struct LatestRecords::Node {
  std::string_view key;  // in `record`
  base::SharedBytes record;
  Revision revision;
  size_t hash = 0;
  size_t place = 0;  // in its shard's ring
  bool deleted = false;
  bool large = false;      // what is written is a reference
  bool unwritten = false;  // then it is in round_ or in fresh_, once
  bool used = false;       // since the hand of the ring passed

  size_t cost() const { return record.size() + kOverhead; }
};

// Each key belongs to one shard. Of a node only `used` changes without the gate.
struct alignas(64) LatestRecords::Shard {
  struct Wanted {
    std::string_view key;
    size_t hash;
  };
  struct HashOf {
    using is_transparent = void;
    size_t operator()(const Node* node) const { return node->hash; }
    size_t operator()(const Wanted& wanted) const { return wanted.hash; }
  };
  struct SameKey {
    using is_transparent = void;
    bool operator()(const Node* a, const Node* b) const { return a == b; }
    bool operator()(const Node* a, const Wanted& b) const { return a->hash == b.hash && a->key == b.key; }
  };

  void Add(std::unique_ptr<Node> node) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    node->place = ring.size();
    bytes += node->cost();
    nodes.insert(node.get());
    ring.push_back(node.release());
  }
  std::unique_ptr<Node> Remove(Node* node) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    nodes.erase(node);
    ring.back()->place = node->place;
    ring[node->place] = ring.back();
    ring.pop_back();
    bytes -= node->cost();
    return std::unique_ptr<Node>(node);
  }
  void EvictSome(size_t capacity) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);

  base::Mutex mu;
  absl::flat_hash_set<Node*, HashOf, SameKey> nodes ABSL_GUARDED_BY(mu);
  std::vector<Node*> ring ABSL_GUARDED_BY(mu);  // the same; owned
  size_t hand ABSL_GUARDED_BY(mu) = 0;
  size_t bytes ABSL_GUARDED_BY(mu) = 0;
  uint64_t changes ABSL_GUARDED_BY(mu) = 0;  // entered so far
};

LatestRecords::LatestRecords(const Options& options)
    : options_(options), shards_(std::make_unique<Shard[]>(kShards)) {}

LatestRecords::~LatestRecords() {
  for (size_t i = 0; i < kShards; ++i) {
    base::MutexLock lock(shards_[i].mu);
    for (Node* node : shards_[i].ring) delete node;
  }
}

LatestRecords::Shard& LatestRecords::ShardOf(size_t hash) const {
  return shards_[(hash >> 40) % kShards];  // the table takes the low bits
}

LatestRecords::Found LatestRecords::Find(std::string_view key) const {
  Found found;
  found.hash = absl::HashOf(key);
  Shard& shard = ShardOf(found.hash);
  base::MutexLock lock(shard.mu);
  auto it = shard.nodes.find(Shard::Wanted{key, found.hash});
  if (it == shard.nodes.end()) {
    found.changes = shard.changes;
    return found;
  }
  Node& node = **it;
  node.used = true;
  found.answer = node.deleted ? Answer::kDeleted : Answer::kLives;
  found.record = node.record;
  found.mod_revision = node.revision.main;
  return found;
}

void LatestRecords::Remember(const Found& unknown, std::string_view record) {
  if (record.size() + kOverhead > options_.capacity_bytes / kShards / 8) return;
  auto node = std::make_unique<Node>();
  node->record = base::SharedBytes::Copy(record);
  KeyValueView kv;
  KVD_CHECK(DecodeKeyValue(node->record.view(), &kv), "a stored record does not decode");
  node->key = kv.key;
  node->revision = {kv.mod_revision, 0};
  node->hash = unknown.hash;
  Shard& shard = ShardOf(unknown.hash);
  base::MutexLock lock(shard.mu);
  if (shard.changes != unknown.changes) return;
  if (shard.nodes.contains(Shard::Wanted{node->key, node->hash})) return;  // another reader was first
  shard.EvictSome(options_.capacity_bytes / kShards);                      // before: not the new one at once
  shard.Add(std::move(node));
}

// Second chance: what was used since the hand last passed stays once more. Debt stays.
void LatestRecords::Shard::EvictSome(size_t capacity) {
  for (int i = 0; i < kEvictionSteps && bytes > capacity; ++i) {
    if (hand >= ring.size()) hand = 0;
    Node* node = ring[hand++];
    if (node->unwritten || node->used) {
      node->used = false;
    } else {
      Remove(node);  // the newest takes its place, behind the hand
    }
  }
}

void LatestRecords::Enter(absl::Span<const Event> events) {
  for (const Event& event : events) EnterOne(event);
  fresh_changes_ += events.size();
}

void LatestRecords::EnterOne(const Event& event) {
  const size_t hash = absl::HashOf(event.key);
  Shard& shard = ShardOf(hash);
  base::SharedBytes replaced;  // dropped after the lock
  base::MutexLock lock(shard.mu);
  ++shard.changes;
  auto it = shard.nodes.find(Shard::Wanted{event.key, hash});
  Node* node;
  if (it == shard.nodes.end()) {
    auto fresh = std::make_unique<Node>();
    node = fresh.get();
    node->key = event.key;
    node->record = event.kv;
    node->hash = hash;
    shard.Add(std::move(fresh));
  } else {
    node = *it;
    shard.bytes -= node->cost();
    replaced = std::exchange(node->record, event.kv);
    node->key = event.key;
    shard.bytes += node->cost();
  }
  node->revision = event.revision;
  node->large = event.large;
  node->deleted = event.type == Event::Type::kDelete;
  if (!node->unwritten) {
    node->unwritten = true;
    fresh_.push_back(node);
    fresh_bytes_ += node->cost();
    unwritten_.fetch_add(1, std::memory_order_release);
  }
  shard.EvictSome(options_.capacity_bytes / kShards);
}

// What is left of the last round and what has come since, in the order of keys.
void LatestRecords::BeginRound(int64_t revision) {
  struct Place {
    uint64_t chunk;
    Node* node;
  };
  round_.erase(round_.begin(), round_.begin() + static_cast<ptrdiff_t>(next_));
  round_.insert(round_.end(), fresh_.begin(), fresh_.end());
  slice_ = next_ = 0;
  round_through_ = revision;
  fresh_.clear();
  fresh_bytes_ = fresh_changes_ = 0;
  if (round_.empty()) return;
  // Keys mostly begin alike: after that, eight bytes decide most comparisons without another look at the key.
  std::string_view alike = round_[0]->key;
  for (const Node* node : round_) {
    size_t n = 0;
    while (n < alike.size() && n < node->key.size() && alike[n] == node->key[n]) ++n;
    alike = alike.substr(0, n);
  }
  std::vector<Place> places;
  places.reserve(round_.size());
  for (Node* node : round_) {
    char chunk[8] = {};
    std::string_view rest = node->key.substr(alike.size(), sizeof chunk);
    std::copy(rest.begin(), rest.end(), chunk);
    places.push_back({base::LoadBigEndian64(chunk), node});
  }
  std::sort(places.begin(), places.end(), [](const Place& a, const Place& b) {
    return a.chunk != b.chunk ? a.chunk < b.chunk : a.node->key < b.node->key;
  });
  for (size_t i = 0; i < places.size(); ++i) round_[i] = places[i].node;
}

bool LatestRecords::Take(size_t changes, int64_t revision, WriteBatch& batch) {
  size_t most = kLeastSlice + kSlicePerChange * changes;
  bool due = fresh_bytes_ >= options_.due_bytes || fresh_changes_ >= options_.due_changes;
  if (KVD_BUGGIFY("storage/latest due")) {
    due = !fresh_.empty();
    most = 1;
  }
  if (next_ == round_.size() && !due) return false;
  return TakeSome(most, revision, batch);
}

bool LatestRecords::TakeSome(size_t most, int64_t revision, WriteBatch& batch) {
  if (next_ == round_.size()) BeginRound(revision);
  if (next_ == round_.size()) return false;
  AppendUntil(std::min(round_.size(), next_ + most), batch);
  return true;
}

bool LatestRecords::TakeAll(int64_t revision, WriteBatch& batch) {
  if (AllWritten()) return false;
  BeginRound(revision);
  AppendUntil(round_.size(), batch);
  return true;
}

void LatestRecords::AppendUntil(size_t end, WriteBatch& batch) {
  slice_ = next_;
  for (; next_ < end; ++next_) {
    const Node& node = *round_[next_];
    key_buffer_.assign(1, static_cast<char>(Table::kLatest));
    key_buffer_.append(node.key);
    if (node.deleted) {
      batch.Delete(key_buffer_);
    } else if (node.large) {
      reference_buffer_.clear();
      AppendReference(reference_buffer_, node.record.view(), node.revision.sub);
      batch.Put(key_buffer_, reference_buffer_);
    } else {
      batch.Put(key_buffer_, node.record.view());
    }
  }
  if (next_ == round_.size() || KVD_MUTANT("latest_mark_before_records")) {
    batch.Put(TableKey(Table::kMeta, kLatestThroughKey), EncodeRevisionMark(round_through_));
  }
}

void LatestRecords::Written() {
  for (; slice_ < next_; ++slice_) {
    Node* node = round_[slice_];
    Shard& shard = ShardOf(node->hash);
    std::unique_ptr<Node> gone;
    base::MutexLock lock(shard.mu);
    node->unwritten = false;
    if (node->deleted) gone = shard.Remove(node);
    shard.EvictSome(options_.capacity_bytes / kShards);
    unwritten_.fetch_sub(1, std::memory_order_release);
  }
  if (next_ == round_.size()) {
    round_.clear();
    slice_ = next_ = 0;
    written_through_ = round_through_;
  }
}

void LatestRecords::GiveBack() {
  next_ = slice_;
}

}  // namespace kvd::storage
