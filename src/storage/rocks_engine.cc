#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/listener.h>
#include <rocksdb/rate_limiter.h>
#include <rocksdb/slice_transform.h>
#include <rocksdb/sst_file_manager.h>
#include <rocksdb/sst_partitioner.h>
#include <rocksdb/table.h>
#include <rocksdb/utilities/checkpoint.h>
#include <rocksdb/write_batch.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <map>
#include <mutex>
#include <optional>
#include <system_error>
#include <utility>

#include "base/log.h"
#include "storage/engine.h"
#include "storage/records.h"

namespace kvd::storage {
namespace {

rocksdb::Slice ToSlice(std::string_view s) {
  return rocksdb::Slice(s.data(), s.size());
}
std::string_view ToView(const rocksdb::Slice& s) {
  return std::string_view(s.data(), s.size());
}

// What the engine holds cannot be read or written any more: nobody above can go on.
[[noreturn]] void FailStop(std::string_view operation, const rocksdb::Status& status) {
  KVD_LOG(kFatal, "storage engine failed; stopping", {"operation", operation}, {"error", status.ToString()});
  base::FlushLogging();
  std::abort();
}

void MustSucceed(std::string_view operation, const rocksdb::Status& status) {
  if (!status.ok()) FailStop(operation, status);
}

// RocksDB's warnings and errors, in the member's own log: a file of its own beside the data would fail with
// the disk that it tells about.
class EngineLogger final : public rocksdb::Logger {
 public:
  EngineLogger() : Logger(rocksdb::WARN_LEVEL) {}
  using Logger::Logv;
  void Logv(const char*, va_list) override {}  // no level: detail
  void LogHeader(const char*, va_list) override {}
  __attribute__((format(printf, 3, 0))) void Logv(const rocksdb::InfoLogLevel level, const char* format,
                                                  va_list values) override {
    if (level < GetInfoLogLevel() || level > rocksdb::FATAL_LEVEL) return;
    char text[1024];
    vsnprintf(text, sizeof text, format, values);
    if (level == rocksdb::WARN_LEVEL) {
      KVD_LOG(kWarn, "storage engine", {"message", std::string_view(text)});
    } else {
      KVD_LOG(kError, "storage engine", {"message", std::string_view(text)});
    }
  }
};

// A file of separate values with less garbage than this stays as it is.
constexpr double kLeastGarbage = 0.05;

bool IsFull(const rocksdb::Status& status) {
  return status.IsNoSpace();
}

// A full disk is waited for, everything else ends the process. RocksDB looks for room every few seconds by
// itself, then repeats what failed; until then it takes no writes, or (if only a compaction failed) goes on.
class DiskListener final : public rocksdb::EventListener {
 public:
  void OnBackgroundError(rocksdb::BackgroundErrorReason reason, rocksdb::Status* status) override {
    if (!IsFull(*status) || status->severity() >= rocksdb::Status::kFatalError) {
      FailStop("background work " + std::to_string(static_cast<int>(reason)), *status);
    }
    if (full_.exchange(true)) return;
    KVD_LOG(kError, "the disk of the database is full; going on from memory until there is room",
            {"error", status->ToString()});
  }
  void OnErrorRecoveryEnd(const rocksdb::BackgroundErrorRecoveryInfo& info) override {
    if (!info.new_bg_error.ok()) return;
    if (full_.exchange(false)) KVD_LOG(kInfo, "the disk of the database has room again");
    std::lock_guard<std::mutex> lock(mutex_);
    recovered_.notify_all();
  }
  // Returns when there may be room, or after a while.
  void WaitForRoom() {
    std::unique_lock<std::mutex> lock(mutex_);
    recovered_.wait_for(lock, std::chrono::milliseconds(full_ ? 100 : 1));
  }

 private:
  std::atomic<bool> full_{false};
  std::mutex mutex_;
  std::condition_variable recovered_;
};

class RocksBatch final : public WriteBatch {
 public:
  void Put(std::string_view key, std::string_view value) override {
    MustSucceed("batch put", batch.Put(ToSlice(key), ToSlice(value)));
  }
  void Delete(std::string_view key) override { MustSucceed("batch delete", batch.Delete(ToSlice(key))); }
  void Clear() override { batch.Clear(); }
  size_t count() const override { return static_cast<size_t>(batch.Count()); }

  rocksdb::WriteBatch batch;
};

class RocksSnapshot final : public EngineSnapshot {
 public:
  explicit RocksSnapshot(rocksdb::DB* db) : snapshot(db->GetSnapshot()), db_(db) {}
  ~RocksSnapshot() override { db_->ReleaseSnapshot(snapshot); }

  const rocksdb::Snapshot* const snapshot;

 private:
  rocksdb::DB* const db_;
};

class RocksIterator final : public EngineIterator {
 public:
  RocksIterator(rocksdb::DB* db, const IteratorOptions& options)
      : lower_(options.lower), upper_(options.upper), lower_slice_(lower_), upper_slice_(upper_) {
    rocksdb::ReadOptions read;
    read.iterate_lower_bound = &lower_slice_;
    if (!upper_.empty()) read.iterate_upper_bound = &upper_slice_;
    if (options.snapshot) read.snapshot = static_cast<const RocksSnapshot*>(options.snapshot)->snapshot;
    read.fill_cache = options.keep_cached;
    if (!options.keep_cached && !options.short_scan) read.readahead_size = 1 << 20;
    it_.reset(db->NewIterator(read));
    if (!options.at_start) return;
    it_->SeekToFirst();
    CheckStatus();
  }
  bool Valid() const override { return it_->Valid(); }
  void Next() override {
    it_->Next();
    CheckStatus();
  }
  void Seek(std::string_view key) override {
    it_->Seek(ToSlice(key));
    CheckStatus();
  }
  std::string_view key() const override { return ToView(it_->key()); }
  std::string_view value() const override { return ToView(it_->value()); }

 private:
  void CheckStatus() {
    if (!it_->Valid()) MustSucceed("iterate", it_->status());
  }

  const std::string lower_;
  const std::string upper_;
  const rocksdb::Slice lower_slice_;
  const rocksdb::Slice upper_slice_;
  std::unique_ptr<rocksdb::Iterator> it_;
};

class RocksEngine final : public Engine {
 public:
  RocksEngine(std::unique_ptr<rocksdb::DB> db, std::shared_ptr<DiskListener> disk)
      : disk_(std::move(disk)), db_(std::move(db)) {
    write_.disableWAL = true;
    write_at_once_ = write_;
    write_at_once_.no_slowdown = true;
    persisted_.read_tier = rocksdb::kPersistedTier;
    flush_.wait = true;
    flush_.allow_write_stall = true;
  }
  ~RocksEngine() override {
    // What is still in memory goes to disk, so that a clean stop leaves nothing to replay.
    rocksdb::Status status = db_->Flush(flush_);
    if (status.ok()) AwaitFlushed();
    if (status.ok()) status = db_->Close();
    if (!status.ok()) KVD_LOG(kError, "failed to close the storage engine", {"error", status.ToString()});
  }

  std::unique_ptr<WriteBatch> NewBatch() override { return std::make_unique<RocksBatch>(); }
  void Write(WriteBatch& batch) override {
    while (!TryWrite(batch)) WaitForRoom();
  }
  bool TryWrite(WriteBatch& batch) override {
    rocksdb::WriteBatch* const changes = &static_cast<RocksBatch&>(batch).batch;
    rocksdb::Status status = db_->Write(write_at_once_, changes);
    if (status.IsIncomplete()) {
      // RocksDB wants writes to wait: a moment, so that flushes and compactions keep up, or until one is
      // done.
      uint64_t stopped = 0;
      db_->GetIntProperty(rocksdb::DB::Properties::kIsWriteStopped, &stopped);
      if (stopped != 0) return false;
      status = db_->Write(write_, changes);
    }
    if (IsFull(status)) return false;
    MustSucceed("write", status);
    return true;
  }
  void WaitForRoom() override { disk_->WaitForRoom(); }
  bool Get(std::string_view key, absl::FunctionRef<void(std::string_view)> use,
           const EngineSnapshot* snapshot) override {
    rocksdb::ReadOptions read;
    if (snapshot) read.snapshot = static_cast<const RocksSnapshot*>(snapshot)->snapshot;
    rocksdb::PinnableSlice value;
    rocksdb::Status status = db_->Get(read, db_->DefaultColumnFamily(), ToSlice(key), &value);
    if (status.IsNotFound()) return false;
    MustSucceed("get", status);
    use(ToView(value));
    return true;
  }
  bool GetPersisted(std::string_view key, std::string* value) override {
    rocksdb::Status status = db_->Get(persisted_, ToSlice(key), value);
    if (status.IsNotFound()) return false;
    MustSucceed("get persisted", status);
    return true;
  }
  std::unique_ptr<EngineIterator> NewIterator(const IteratorOptions& options) override {
    return std::make_unique<RocksIterator>(db_.get(), options);
  }
  std::unique_ptr<EngineSnapshot> TakeSnapshot() override {
    return std::make_unique<RocksSnapshot>(db_.get());
  }
  void Flush() override {
    while (!TryFlush()) disk_->WaitForRoom();
  }
  bool TryFlush() override {
    rocksdb::Status status = db_->Flush(flush_);
    if (!status.ok() && !IsFull(status)) FailStop("flush", status);
    return status.ok() && AwaitFlushed(/*tries=*/20);
  }
  absl::Status Checkpoint(const std::string& directory) override {
    rocksdb::Checkpoint* raw = nullptr;
    rocksdb::Status status = rocksdb::Checkpoint::Create(db_.get(), &raw);
    std::unique_ptr<rocksdb::Checkpoint> checkpoint(raw);
    if (status.ok()) status = checkpoint->CreateCheckpoint(directory);
    return status.ok() ? absl::OkStatus() : absl::InternalError(directory + ": " + status.ToString());
  }
  void CompactRange(std::string_view lower, std::string_view upper) override {
    rocksdb::Slice from = ToSlice(lower), to = ToSlice(upper);
    Compact(CompactOptions(), lower.empty() ? nullptr : &from, upper.empty() ? nullptr : &to);
  }
  void CollectGarbage(double share) override {
    // A file that is not worth it is rewritten for little more than itself.
    const double least = std::max(share / 2, kLeastGarbage);
    rocksdb::CompactRangeOptions options = CompactOptions();
    options.blob_garbage_collection_policy = rocksdb::BlobGarbageCollectionPolicy::kForce;
    options.blob_garbage_collection_age_cutoff = 1.0;
    // Each turn leaves one file less to choose, or takes what cannot be moved now: not for ever.
    for (size_t turn = 0, limit = 0; turn <= limit; ++turn) {
      rocksdb::ColumnFamilyMetaData meta;
      db_->GetColumnFamilyMetaData(&meta);
      if (turn == 0) limit = 2 * meta.blob_files.size();
      std::optional<KeySpan> span = MostGarbage(meta, share, least);
      if (!span) return;
      rocksdb::Slice from(span->first), to(span->second);
      if (!Compact(options, &from, &to)) return;
    }
  }
  void StopCompacting() override { stop_compacting_.store(true, std::memory_order_release); }
  EngineSizes Sizes() override {
    EngineSizes sizes;
    uint64_t all_separate = 0;
    db_->GetIntProperty(rocksdb::DB::Properties::kTotalSstFilesSize, &sizes.disk_bytes);
    db_->GetIntProperty(rocksdb::DB::Properties::kTotalBlobFileSize, &all_separate);
    db_->GetIntProperty(rocksdb::DB::Properties::kEstimateLiveDataSize, &sizes.live_bytes);
    db_->GetIntProperty(rocksdb::DB::Properties::kLiveBlobFileSize, &sizes.separate_bytes);
    db_->GetIntProperty(rocksdb::DB::Properties::kLiveBlobFileGarbageSize, &sizes.garbage_bytes);
    db_->GetIntProperty(rocksdb::DB::Properties::kCurSizeAllMemTables, &sizes.memory_bytes);
    sizes.disk_bytes += all_separate;
    sizes.live_bytes += sizes.separate_bytes - std::min(sizes.garbage_bytes, sizes.separate_bytes);
    return sizes;
  }

 private:
  using KeySpan = std::pair<std::string, std::string>;  // both inclusive

  rocksdb::CompactRangeOptions CompactOptions() {
    rocksdb::CompactRangeOptions options;
    options.exclusive_manual_compaction = false;
    options.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForceOptimized;
    options.canceled = &stop_compacting_;
    return options;
  }
  // False if it did not come to its end.
  bool Compact(const rocksdb::CompactRangeOptions& options, const rocksdb::Slice* from,
               const rocksdb::Slice* to) {
    if (stop_compacting_.load(std::memory_order_acquire)) return false;
    rocksdb::Status status = db_->CompactRange(options, from, to);
    // Too large: there was no room before, and RocksDB does not expect it to suffice now.
    const bool no_room = IsFull(status) || status.IsCompactionTooLarge();
    if (!status.ok() && !status.IsIncomplete() && !no_room) FailStop("compact", status);
    return status.ok();
  }
  // The keys of the file whose values stand among most garbage, if that is more than `share` of all separate
  // values and at least `least` of the file of values. Files of level 0 span everything, and do not stay.
  static std::optional<KeySpan> MostGarbage(const rocksdb::ColumnFamilyMetaData& meta, double share,
                                            double least) {
    std::map<uint64_t, const rocksdb::SstFileMetaData*> keys;  // by the first file of their values
    for (const rocksdb::LevelMetaData& level : meta.levels) {
      if (level.level == 0) continue;
      for (const rocksdb::SstFileMetaData& file : level.files) {
        if (file.oldest_blob_file_number != 0) keys[file.oldest_blob_file_number] = &file;
      }
    }
    uint64_t bytes = 0, garbage = 0;
    const rocksdb::SstFileMetaData* most = nullptr;
    double most_share = least;
    for (const rocksdb::BlobMetaData& values : meta.blob_files) {
      bytes += values.total_blob_bytes;
      garbage += values.garbage_blob_bytes;
      const double part =
          static_cast<double>(values.garbage_blob_bytes) / static_cast<double>(values.total_blob_bytes + 1);
      // Files of values are written one after the other for the keys of one file.
      auto after = keys.upper_bound(values.blob_file_number);
      if (after == keys.begin() || part < most_share) continue;
      most = std::prev(after)->second;
      most_share = part;
    }
    const bool enough = static_cast<double>(garbage) > share * static_cast<double>(bytes);
    if (!enough || !most) return std::nullopt;
    return KeySpan(most->smallestkey, most->largestkey);
  }

  // Once RocksDB 7.8 has recovered from a full disk, its Flush returns as soon as the flush is scheduled.
  // False if it is not done after a while.
  bool AwaitFlushed(int tries = 1000) {
    for (int i = 0; i < tries; ++i) {
      uint64_t unflushed = 0;
      db_->GetIntProperty(rocksdb::DB::Properties::kNumImmutableMemTable, &unflushed);
      if (unflushed == 0) return true;
      disk_->WaitForRoom();
    }
    return false;
  }

  const std::shared_ptr<DiskListener> disk_;
  std::unique_ptr<rocksdb::DB> db_;
  rocksdb::WriteOptions write_;
  rocksdb::WriteOptions write_at_once_;
  rocksdb::ReadOptions persisted_;
  rocksdb::FlushOptions flush_;
  std::atomic<bool> stop_compacting_{false};
};

// Files end where a table ends, so that history can be moved or dropped whole; and among separate values
// after some thousands of them, so that their garbage can be collected bit by bit: their keys take so little
// that a file of them would name many gigabytes.
class Partitioner final : public rocksdb::SstPartitioner {
 public:
  const char* Name() const override { return "kvd.Partitioner"; }
  rocksdb::PartitionerResult ShouldPartition(const rocksdb::PartitionerRequest& request) override {
    const rocksdb::Slice& last = *request.prev_user_key;
    const rocksdb::Slice& next = *request.current_user_key;
    const bool ends = last.empty() || next.empty() || last[0] != next[0] ||
                      (next[0] == kSeparateTable && request.current_output_file_size >= kSeparateKeysBytes);
    return ends ? rocksdb::kRequired : rocksdb::kNotRequired;
  }
  bool CanDoTrivialMove(const rocksdb::Slice& smallest, const rocksdb::Slice& largest) override {
    return !smallest.empty() && !largest.empty() && smallest[0] == largest[0];
  }

 private:
  static constexpr char kSeparateTable = static_cast<char>(Table::kLarge);
  static constexpr uint64_t kSeparateKeysBytes = 256 << 10;
};

class PartitionerFactory final : public rocksdb::SstPartitionerFactory {
 public:
  const char* Name() const override { return "kvd.PartitionerFactory"; }
  std::unique_ptr<rocksdb::SstPartitioner> CreatePartitioner(
      const rocksdb::SstPartitioner::Context&) const override {
    return std::make_unique<Partitioner>();
  }
};

// Limits what is written with low priority: compactions that nobody waits for. RocksDB gives flushes the high
// one, and both the users' once it holds up writes; limited, these would be what holds them up.
class CompactionLimiter final : public rocksdb::RateLimiter {
 public:
  explicit CompactionLimiter(uint64_t bytes_per_second)
      : limiter_(rocksdb::NewGenericRateLimiter(static_cast<int64_t>(bytes_per_second), 100'000)) {}
  void SetBytesPerSecond(int64_t rate) override { limiter_->SetBytesPerSecond(rate); }
  using RateLimiter::Request;
  void Request(const int64_t bytes, const rocksdb::Env::IOPriority priority,
               rocksdb::Statistics* statistics) override {
    if (priority == rocksdb::Env::IO_LOW) {
      limiter_->Request(bytes, priority, statistics, OpType::kWrite);
    }
  }
  int64_t GetSingleBurstBytes() const override { return limiter_->GetSingleBurstBytes(); }
  int64_t GetTotalBytesThrough(const rocksdb::Env::IOPriority priority) const override {
    return limiter_->GetTotalBytesThrough(priority);
  }
  int64_t GetTotalRequests(const rocksdb::Env::IOPriority priority) const override {
    return limiter_->GetTotalRequests(priority);
  }
  int64_t GetBytesPerSecond() const override { return limiter_->GetBytesPerSecond(); }

 private:
  const std::unique_ptr<rocksdb::RateLimiter> limiter_;
};

rocksdb::Options MakeOptions(const RocksOptions& in, std::shared_ptr<DiskListener> disk) {
  rocksdb::Options o;
  o.create_if_missing = in.create_if_missing;
  o.paranoid_checks = true;
  o.listeners.push_back(std::move(disk));
  // Finds out when a full disk has room again.
  o.sst_file_manager.reset(rocksdb::NewSstFileManager(rocksdb::Env::Default()));

  // One writer at a time, and our own log before it.
  o.allow_concurrent_memtable_write = false;
  o.enable_pipelined_write = false;
  o.avoid_flush_during_shutdown = false;
  o.write_buffer_size = in.write_buffer_bytes;
  o.max_write_buffer_number = in.max_write_buffers;
  o.min_write_buffer_number_to_merge = 1;
  // History arrives in the order of its keys: remembering where the last one of a table went saves the
  // search.
  o.memtable_insert_with_hint_prefix_extractor.reset(rocksdb::NewFixedPrefixTransform(1));

  o.max_background_jobs = in.max_background_jobs;
  o.max_subcompactions = 1;
  o.compaction_style = rocksdb::kCompactionStyleLevel;
  o.level_compaction_dynamic_level_bytes = true;
  o.max_bytes_for_level_base = in.level_base_bytes;
  o.target_file_size_base = in.target_file_bytes;
  // Every level-0 file spans all tables, so a compaction into a small tree rewrites most of it: the fewer,
  // the cheaper.
  o.level0_file_num_compaction_trigger = 8;
  o.level0_slowdown_writes_trigger = 20;
  o.level0_stop_writes_trigger = 36;
  o.sst_partitioner_factory = std::make_shared<PartitionerFactory>();
  o.compression_per_level = {rocksdb::kNoCompression,  rocksdb::kNoCompression,  rocksdb::kLZ4Compression,
                             rocksdb::kLZ4Compression, rocksdb::kLZ4Compression, rocksdb::kLZ4Compression,
                             rocksdb::kLZ4Compression};
  o.bottommost_compression = rocksdb::kLZ4Compression;
  // RocksDB's own collection of garbage would move the oldest values whether there is any beside them or not.
  o.enable_blob_files = true;
  o.min_blob_size = in.separate_value_bytes;
  o.blob_file_size = in.target_file_bytes;
  o.blob_compression_type = rocksdb::kLZ4Compression;
  o.blob_compaction_readahead_size = 1 << 20;
  if (in.compaction_bytes_per_second > 0) {
    o.rate_limiter = std::make_shared<CompactionLimiter>(in.compaction_bytes_per_second);
  }
  o.bytes_per_sync = 1 << 20;
  o.max_open_files = -1;
  o.info_log = std::make_shared<EngineLogger>();

  rocksdb::BlockBasedTableOptions table;
  table.format_version = 5;
  table.block_size = 16 << 10;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  table.block_cache = rocksdb::NewLRUCache(in.block_cache_bytes, /*num_shard_bits=*/-1);
  o.blob_cache = table.block_cache;
  table.cache_index_and_filter_blocks = true;
  table.pin_l0_filter_and_index_blocks_in_cache = true;
  o.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return o;
}

absl::Status OpenError(const std::string& path, const rocksdb::Status& status) {
  std::string text = path + ": " + status.ToString();
  if (status.IsCorruption()) return absl::DataLossError(text);
  if (status.IsInvalidArgument()) return absl::NotFoundError(text);
  if (status.IsIOError() && text.find("lock") != std::string::npos)
    return absl::FailedPreconditionError(text);
  return absl::InternalError(text);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> OpenRocksEngine(const std::string& path,
                                                        const RocksOptions& options) {
  // RocksDB would make it too, and complain that it was not there.
  if (std::error_code ignored; options.create_if_missing) std::filesystem::create_directory(path, ignored);
  rocksdb::DB* raw = nullptr;
  auto disk = std::make_shared<DiskListener>();
  rocksdb::Status status = rocksdb::DB::Open(MakeOptions(options, disk), path, &raw);
  if (!status.ok()) return OpenError(path, status);
  return std::make_unique<RocksEngine>(std::unique_ptr<rocksdb::DB>(raw), std::move(disk));
}

}  // namespace kvd::storage
