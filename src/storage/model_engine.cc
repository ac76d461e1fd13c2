// The engine in memory: every key with its values by the number of the batch that wrote them. A snapshot is a
// batch number, and so is the last flush, to which a new engine over the same disk rolls back.
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "base/check.h"
#include "storage/engine.h"

namespace kvd::storage {

class ModelDisk {
 public:
  struct Cell {
    uint64_t batch;
    std::optional<std::string> value;  // empty: deleted
  };
  using Cells = std::vector<Cell>;  // ascending by batch

  std::mutex mu;
  std::map<std::string, Cells, std::less<>> map;
  uint64_t written = 0;               // the last batch
  uint64_t flushed = 0;               // the last batch that a crash leaves
  std::multiset<uint64_t> snapshots;  // batch numbers that someone reads at

  static const std::string* At(const Cells& cells, uint64_t batch) {
    for (auto it = cells.rbegin(); it != cells.rend(); ++it) {
      if (it->batch <= batch) return it->value ? &*it->value : nullptr;
    }
    return nullptr;
  }

  // Forgets what was not flushed.
  void RollBack() {
    KVD_CHECK(snapshots.empty(), "a snapshot outlived its engine");
    for (auto it = map.begin(); it != map.end();) {
      Cells& cells = it->second;
      while (!cells.empty() && cells.back().batch > flushed) cells.pop_back();
      it = cells.empty() ? map.erase(it) : std::next(it);
    }
    written = flushed;
  }

  void Set(std::string_view key, std::optional<std::string> value) {
    auto it = map.find(key);
    if (it == map.end()) it = map.emplace(std::string(key), Cells()).first;
    Cells& cells = it->second;
    // Keeps what a snapshot, a crash or a batch of the same number may still look at.
    uint64_t oldest = snapshots.empty() ? flushed : std::min(flushed, *snapshots.begin());
    while (cells.size() > 1 && cells[1].batch <= oldest) cells.erase(cells.begin());
    if (!cells.empty() && cells.back().batch == written) {
      cells.back().value = std::move(value);
    } else {
      cells.push_back({written, std::move(value)});
    }
    if (cells.size() == 1 && !cells[0].value) map.erase(it);
  }
};

std::shared_ptr<ModelDisk> NewModelDisk() {
  return std::make_shared<ModelDisk>();
}

namespace {

class ModelBatch final : public WriteBatch {
 public:
  void Put(std::string_view key, std::string_view value) override {
    ops.emplace_back(key, std::string(value));
  }
  void Delete(std::string_view key) override { ops.emplace_back(key, std::nullopt); }
  void Clear() override { ops.clear(); }
  size_t count() const override { return ops.size(); }

  std::vector<std::pair<std::string, std::optional<std::string>>> ops;
};

class ModelSnapshot final : public EngineSnapshot {
 public:
  explicit ModelSnapshot(std::shared_ptr<ModelDisk> disk) : disk_(std::move(disk)) {
    std::lock_guard lock(disk_->mu);
    batch = disk_->written;
    disk_->snapshots.insert(batch);
  }
  ModelSnapshot(std::shared_ptr<ModelDisk> disk, uint64_t at) : batch(at), disk_(std::move(disk)) {
    std::lock_guard lock(disk_->mu);
    disk_->snapshots.insert(batch);
  }
  ~ModelSnapshot() override {
    std::lock_guard lock(disk_->mu);
    disk_->snapshots.erase(disk_->snapshots.find(batch));
  }

  uint64_t batch;

 private:
  std::shared_ptr<ModelDisk> disk_;
};

class ModelIterator final : public EngineIterator {
 public:
  ModelIterator(const std::shared_ptr<ModelDisk>& disk, IteratorOptions options)
      : disk_(disk),
        options_(std::move(options)),
        snapshot_(options_.snapshot
                      ? ModelSnapshot(disk, static_cast<const ModelSnapshot*>(options_.snapshot)->batch)
                      : ModelSnapshot(disk)) {
    if (options_.at_start) Seek(options_.lower);
  }
  bool Valid() const override { return valid_; }
  void Next() override {
    KVD_CHECK(valid_, "Next past the end");
    std::lock_guard lock(disk_->mu);
    Settle(disk_->map.upper_bound(key_));
  }
  void Seek(std::string_view key) override {
    std::lock_guard lock(disk_->mu);
    Settle(disk_->map.lower_bound(std::max(key, std::string_view(options_.lower))));
  }
  std::string_view key() const override { return key_; }
  std::string_view value() const override { return value_; }

 private:
  void Settle(std::map<std::string, ModelDisk::Cells, std::less<>>::iterator it) {
    for (; it != disk_->map.end(); ++it) {
      if (!options_.upper.empty() && it->first >= options_.upper) break;
      if (const std::string* value = ModelDisk::At(it->second, snapshot_.batch)) {
        key_ = it->first;
        value_ = *value;
        valid_ = true;
        return;
      }
    }
    valid_ = false;
  }

  std::shared_ptr<ModelDisk> disk_;
  IteratorOptions options_;
  ModelSnapshot snapshot_;
  std::string key_;
  std::string value_;
  bool valid_ = false;
};

class ModelEngine final : public Engine {
 public:
  ModelEngine(std::shared_ptr<ModelDisk> disk, uint64_t flush_every)
      : disk_(std::move(disk)), flush_every_(flush_every) {
    std::lock_guard lock(disk_->mu);
    disk_->RollBack();
  }

  std::unique_ptr<WriteBatch> NewBatch() override { return std::make_unique<ModelBatch>(); }
  void Write(WriteBatch& batch) override {
    std::lock_guard lock(disk_->mu);
    ++disk_->written;
    for (auto& [key, value] : static_cast<ModelBatch&>(batch).ops) disk_->Set(key, value);
    if (flush_every_ > 0 && disk_->written - disk_->flushed >= flush_every_) disk_->flushed = disk_->written;
  }
  bool Get(std::string_view key, absl::FunctionRef<void(std::string_view)> use,
           const EngineSnapshot* snapshot) override {
    std::string copy;
    {
      std::lock_guard lock(disk_->mu);
      uint64_t at = snapshot ? static_cast<const ModelSnapshot*>(snapshot)->batch : disk_->written;
      auto it = disk_->map.find(key);
      const std::string* value = it == disk_->map.end() ? nullptr : ModelDisk::At(it->second, at);
      if (!value) return false;
      copy = *value;
    }
    use(copy);
    return true;
  }
  bool GetPersisted(std::string_view key, std::string* value) override {
    std::lock_guard lock(disk_->mu);
    auto it = disk_->map.find(key);
    const std::string* found = it == disk_->map.end() ? nullptr : ModelDisk::At(it->second, disk_->flushed);
    if (!found) return false;
    *value = *found;
    return true;
  }
  std::unique_ptr<EngineIterator> NewIterator(const IteratorOptions& options) override {
    return std::make_unique<ModelIterator>(disk_, options);
  }
  std::unique_ptr<EngineSnapshot> TakeSnapshot() override { return std::make_unique<ModelSnapshot>(disk_); }
  void Flush() override {
    std::lock_guard lock(disk_->mu);
    disk_->flushed = disk_->written;
  }
  absl::Status Checkpoint(const std::string&) override {
    return absl::UnimplementedError("a model engine has no files");
  }
  void CompactRange(std::string_view, std::string_view) override {}
  void CollectGarbage(double) override {}
  void StopCompacting() override {}
  EngineSizes Sizes() override {
    std::lock_guard lock(disk_->mu);
    EngineSizes sizes;
    for (const auto& [key, cells] : disk_->map) {
      sizes.disk_bytes += key.size();
      for (const auto& cell : cells) sizes.disk_bytes += cell.value ? cell.value->size() : 0;
    }
    sizes.live_bytes = sizes.disk_bytes;
    return sizes;
  }

 private:
  std::shared_ptr<ModelDisk> disk_;
  const uint64_t flush_every_;
};

}  // namespace

std::unique_ptr<Engine> OpenModelEngine(std::shared_ptr<ModelDisk> disk, uint64_t flush_every_batches) {
  return std::make_unique<ModelEngine>(std::move(disk), flush_every_batches);
}

}  // namespace kvd::storage
