#include "truth.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "server/lease/lease_record.h"
#include "storage/meta.h"
#include "storage/records.h"
#include "storage/stored_record.h"

namespace kvd::sim {

using storage::Table;

// Everything goes through; batches are remembered until they are written.
class WatchedEngine final : public storage::Engine {
 public:
  WatchedEngine(Truth& truth, size_t member, std::unique_ptr<storage::Engine> engine)
      : truth_(truth), member_(member), engine_(std::move(engine)) {}

  class Batch final : public storage::WriteBatch {
   public:
    explicit Batch(std::unique_ptr<storage::WriteBatch> inner) : inner_(std::move(inner)) {}
    void Put(std::string_view key, std::string_view value) override {
      if (Matters(key)) seen.puts.emplace_back(key, value);
      inner_->Put(key, value);
    }
    void Delete(std::string_view key) override {
      if (Matters(key)) seen.deletes.emplace_back(key);
      inner_->Delete(key);
    }
    void Clear() override {
      seen = {};
      inner_->Clear();
    }
    size_t count() const override { return inner_->count(); }
    storage::WriteBatch& inner() { return *inner_; }

    Truth::Batch seen;

   private:
    static bool Matters(std::string_view key) {
      return !key.empty() &&
             (key[0] == static_cast<char>(Table::kRevision) || key[0] == static_cast<char>(Table::kMeta) ||
              key[0] == static_cast<char>(Table::kLarge) || key[0] == static_cast<char>(Table::kLease));
    }
    std::unique_ptr<storage::WriteBatch> inner_;
  };

  std::unique_ptr<storage::WriteBatch> NewBatch() override {
    return std::make_unique<Batch>(engine_->NewBatch());
  }
  void Write(storage::WriteBatch& batch) override {
    auto& watched = static_cast<Batch&>(batch);
    truth_.OnWrite(member_, watched.seen);
    engine_->Write(watched.inner());
  }
  bool Get(std::string_view key, absl::FunctionRef<void(std::string_view)> use,
           const storage::EngineSnapshot* snapshot) override {
    return engine_->Get(key, use, snapshot);
  }
  bool GetPersisted(std::string_view key, std::string* value) override {
    return engine_->GetPersisted(key, value);
  }
  std::unique_ptr<storage::EngineIterator> NewIterator(const storage::IteratorOptions& options) override {
    return engine_->NewIterator(options);
  }
  std::unique_ptr<storage::EngineSnapshot> TakeSnapshot() override { return engine_->TakeSnapshot(); }
  void Flush() override { engine_->Flush(); }
  absl::Status Checkpoint(const std::string& directory) override { return engine_->Checkpoint(directory); }
  void CompactRange(std::string_view lower, std::string_view upper) override {
    engine_->CompactRange(lower, upper);
  }
  void CollectGarbage(double share) override { engine_->CollectGarbage(share); }
  void StopCompacting() override { engine_->StopCompacting(); }
  storage::EngineSizes Sizes() override { return engine_->Sizes(); }

 private:
  Truth& truth_;
  const size_t member_;
  std::unique_ptr<storage::Engine> engine_;
};

std::unique_ptr<storage::Engine> Truth::Watch(size_t member, std::unique_ptr<storage::Engine> engine) {
  return std::make_unique<WatchedEngine>(*this, member, std::move(engine));
}

void Truth::OnWrite(size_t member, const Batch& batch) {
  std::map<std::string_view, std::string_view> large;  // by revision
  for (const auto& [key, value] : batch.puts) {
    if (key[0] == static_cast<char>(Table::kLarge)) large.emplace(std::string_view(key).substr(1), value);
  }
  for (const auto& [key, value] : batch.puts) {
    std::string_view rest = std::string_view(key).substr(1);
    if (key[0] == static_cast<char>(Table::kRevision)) {
      const bool is_whole = !storage::IsReference(value);
      OnRevision(member, rest, is_whole ? value : std::string(large[rest]));
    }
    if (key[0] == static_cast<char>(Table::kMeta) && rest == storage::kStateKey) OnState(member, value);
  }
  for (const std::string& key : batch.deletes) {
    if (key[0] != static_cast<char>(Table::kLease) || key.size() != 9) continue;
    ended_leases_.emplace(static_cast<int64_t>(base::LoadBigEndian64(key.data() + 1)), clock_.Monotonic());
  }
}

void Truth::OnRevision(size_t member, std::string_view key, const std::string& record) {
  storage::Revision revision;
  Change change;
  if (!storage::DecodeRevisionKey(key, &revision, &change.is_delete)) {
    return verdict_.Fail("agreement", "a revision key that does not decode");
  }
  std::string raw = (change.is_delete ? "-" : "+") + record;
  std::vector<std::string>& records = records_[revision.main];
  auto sub = static_cast<size_t>(revision.sub);
  if (sub < records.size()) {
    if (records[sub] == raw) return;
    mvccpb::KeyValue other;
    other.ParseFromString(record);
    return verdict_.Fail("agreement", absl::StrCat("member ", member, " makes revision ", revision.main, ".",
                                                   sub, " {", other.ShortDebugString(), "}, others made it {",
                                                   changes_[revision.main][sub].kv.ShortDebugString(), "}"));
  }
  if (sub > records.size()) {
    return verdict_.Fail("agreement", absl::StrCat("member ", member, " wrote revision ", revision.main, ".",
                                                   sub, " without the change before it"));
  }
  if (written_.contains(revision.main) && written_[revision.main] != clock_.Monotonic()) {
    return verdict_.Fail("agreement", absl::StrCat("member ", member, " adds change ", sub, " to revision ",
                                                   revision.main, ", which others made without it"));
  }
  change.kv.ParseFromString(record);
  if (change.is_delete) change.kv.set_mod_revision(revision.main);
  records.push_back(std::move(raw));
  keys_[change.kv.key()].push_back({revision.main, change.is_delete, change.kv});
  changes_[revision.main].push_back(std::move(change));
  written_.emplace(revision.main, clock_.Monotonic());
}

void Truth::OnState(size_t member, const std::string& encoded) {
  storage::MetaState state;
  if (!storage::DecodeState(encoded, &state)) return;
  if (state.revision > revision()) {
    return verdict_.Fail("agreement", absl::StrCat("member ", member, " is at revision ", state.revision,
                                                   ", which nobody has written"));
  }
  auto [known, added] =
      by_index_.try_emplace(state.applied_index, IndexState{state.applied_term, state.revision, member});
  const IndexState& other = known->second;
  if (!added && (other.term != state.applied_term || other.revision != state.revision)) {
    verdict_.Fail("agreement",
                  absl::StrCat("after index ", state.applied_index, " member ", member, " is at term ",
                               state.applied_term, " revision ", state.revision, ", member ", other.member,
                               " was at term ", other.term, " revision ", other.revision));
  }
}

bool Truth::Record(int64_t revision, const std::vector<Change>& changes, base::Nanos at) {
  auto same = [](const Change& a, const Change& b) {
    return a.is_delete == b.is_delete && a.kv.SerializeAsString() == b.kv.SerializeAsString();
  };
  if (const std::vector<Change>* known = At(revision)) {
    return std::equal(known->begin(), known->end(), changes.begin(), changes.end(), same);
  }
  for (const Change& change : changes) {
    keys_[change.kv.key()].push_back({revision, change.is_delete, change.kv});
  }
  changes_[revision] = changes;
  written_.emplace(revision, at);
  return true;
}

const std::vector<Truth::Change>* Truth::At(int64_t revision) const {
  auto it = changes_.find(revision);
  return it == changes_.end() ? nullptr : &it->second;
}

base::Nanos Truth::WrittenAt(int64_t revision) const {
  if (revision <= 1) return base::Nanos(0);
  auto it = written_.find(revision);
  return it == written_.end() ? base::Nanos::max() : it->second;
}

const mvccpb::KeyValue* Truth::KeyAt(const std::string& key, int64_t revision) const {
  auto it = keys_.find(key);
  if (it == keys_.end()) return nullptr;
  auto version = std::upper_bound(it->second.begin(), it->second.end(), revision,
                                  [](int64_t r, const Version& v) { return r < v.revision; });
  if (version == it->second.begin()) return nullptr;
  --version;
  return version->is_delete ? nullptr : &version->kv;
}

LiveKeys Truth::StateAt(int64_t revision) const {
  LiveKeys live;
  for (const auto& [key, versions] : keys_) {
    if (const mvccpb::KeyValue* kv = KeyAt(key, revision)) live[key] = *kv;
  }
  return live;
}

bool Truth::Touched(const std::string& key, const std::string& range_end, int64_t from, int64_t to) const {
  for (auto it = changes_.lower_bound(from); it != changes_.end() && it->first <= to; ++it) {
    for (const Change& change : it->second) {
      if (InRange(change.kv.key(), key, range_end)) return true;
    }
  }
  return false;
}

void Truth::Hash(size_t member, int64_t revision, int64_t compact_revision, uint32_t hash) {
  auto [known, added] = hashes_.try_emplace({revision, compact_revision}, hash, member);
  if (!added && known->second.first != hash) {
    verdict_.Fail("hash", absl::StrCat("at revision ", revision, " compacted at ", compact_revision,
                                       " member ", member, " hashes to ", hash, ", member ",
                                       known->second.second, " to ", known->second.first));
  }
}

uint64_t Truth::Digest() const {
  uint64_t crc = 0;
  for (const auto& [revision, records] : records_) {
    for (const std::string& record : records) crc = base::Crc32c(static_cast<uint32_t>(crc), record);
  }
  return crc ^ (static_cast<uint64_t>(revision()) << 32);
}

}  // namespace kvd::sim
