#include "wal/wal.h"

#include <deque>
#include <mutex>
#include <utility>

#include "base/file_system.h"
#include "base/log.h"
#include "base/mutant.h"
#include "base/sites.h"
#include "base/strings.h"
#include "wal/record.h"
#include "wal/scan.h"
#include "wal/segment.h"
#include "wal/segment_source.h"
#include "wal/synced_mark.h"

namespace kvd::wal {
namespace {

using Mode = base::FileSystem::Mode;

std::string LockPath(const std::string& dir) {
  return base::JoinPath(dir, "lock");
}

// Removes files on an executor, or inline without one. What cannot be removed is kept for the next call.
class Remover {
 public:
  Remover(base::FileSystem& fs, base::Executor* background) : background_(background) { shared_->fs = &fs; }

  void Remove(const std::vector<std::string>& paths) {
    {
      std::lock_guard<std::mutex> lock(shared_->mutex);
      shared_->paths.insert(shared_->paths.end(), paths.begin(), paths.end());
      if (shared_->paths.empty()) return;
    }
    if (background_ == nullptr) {
      shared_->Run();
    } else {
      background_->Post([shared = shared_] { shared->Run(); });
    }
  }

 private:
  struct Shared {
    // Oldest first, and none after one that fails: what is left is always without gaps. One call at a time:
    // the executor's, or the log thread's.
    void Run() {
      for (;;) {
        std::string path;
        {
          std::lock_guard<std::mutex> lock(mutex);
          if (paths.empty()) return;
          path = paths.front();
        }
        const absl::Status status = fs->Remove(path);
        if (!status.ok() && !absl::IsNotFound(status)) {
          KVD_LOG(kWarn, "failed to remove a released WAL segment", {"path", path}, {"error", status});
          return;
        }
        KVD_LOG(kInfo, "purged a released WAL segment", {"path", path});
        std::lock_guard<std::mutex> lock(mutex);
        paths.pop_front();
      }
    }

    base::FileSystem* fs = nullptr;
    std::mutex mutex;
    std::deque<std::string> paths;
  };

  const std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
  base::Executor* const background_;
};

// Copies `from`, which holds zeros wherever it holds nothing.
absl::Status CopyFile(base::FileSystem& fs, const std::string& from, const std::string& to) {
  constexpr size_t kChunk = 1 << 20;
  auto source = fs.Open(from, Mode::kRead);
  if (!source.ok()) return source.status();
  auto target = fs.Open(to, Mode::kCreate);
  if (!target.ok()) return target.status();
  if (absl::Status s = (*target)->Truncate(0); !s.ok()) return s;
  std::string chunk;
  for (uint64_t offset = 0;; offset += chunk.size()) {
    if (absl::Status s = (*source)->ReadAt(offset, kChunk, &chunk); !s.ok()) return s;
    if (chunk.empty()) return (*target)->Sync();
    if (chunk.find_first_not_of('\0') == std::string::npos) continue;
    if (absl::Status s = (*target)->WriteAt(offset, chunk); !s.ok()) return s;
  }
}

}  // namespace

class Wal::Impl {
 public:
  Impl(base::FileSystem& fs, std::string dir, const Options& options)
      : fs_(fs),
        dir_(std::move(dir)),
        options_(options),
        source_(fs, dir_, options.segment_bytes, options.background),
        remover_(fs, options.background) {}

  absl::Status Create(std::string_view metadata);
  absl::Status Open(const SnapshotMarker& from, Contents* contents);

  absl::Status Append(const HardState* state, absl::Span<const Entry> entries);
  absl::Status Sync();
  absl::Status SaveSnapshot(const SnapshotMarker& marker);
  void ReleaseTo(uint64_t index);

  uint64_t last_index() const { return last_index_; }
  uint64_t buffered_bytes() const { return encoder_.buffer().size(); }
  uint64_t written_bytes() const { return written_bytes_; }

 private:
  struct Segment {
    SegmentName name;
    std::unique_ptr<base::FileLock> lock;
  };

  std::string PathOf(const SegmentName& name) const { return base::JoinPath(dir_, name.ToString()); }
  // Remembers a final error.
  absl::Status Fail(absl::Status status) {
    failed_ = status;
    return status;
  }
  absl::Status LockDirectory();
  absl::Status LockSegments(const std::vector<SegmentName>& names);
  absl::Status RemoveTemporaries();
  // Cuts off the torn end that the scan found, keeping a copy.
  absl::Status RepairTornEnd(const Scan& scan, Repair* repair);
  // Writes what lies behind the mark anew. After a sync that failed Linux shows what was written and counts
  // it as clean, so no sync from now on would bring it to the disk.
  absl::Status RewriteTail(const Scan& scan);
  absl::Status OpenTail(const Scan& scan);
  absl::Status EnterLastTerm(Contents& contents);
  // Goes on in a new segment. REQUIRES: the buffer is empty. kResourceExhausted: still in the old one.
  absl::Status Cut();
  // Gives `segment` the head of one that continues this log, and its name.
  absl::Status Install(PreparedSegment& segment, const SegmentName& name, const RecordEncoder& head);
  void WriteMark() {
    if (!options_.no_fsync && !KVD_BUGGIFY("wal/mark lags"))
      mark_->Write({segments_.back().name.sequence, offset_});
  }
  absl::Status SyncFile(base::File& file) { return options_.no_fsync ? absl::OkStatus() : file.Sync(); }

  base::FileSystem& fs_;
  const std::string dir_;
  const Options options_;

  std::unique_ptr<base::FileLock> directory_lock_;
  std::deque<Segment> segments_;  // those of the directory, the last one being written
  SegmentSource source_;
  Remover remover_;
  std::unique_ptr<SyncedMarkWriter> mark_;

  std::unique_ptr<base::File> file_;  // the last segment
  uint64_t offset_ = 0;               // in file_; everything before it is synced
  RecordEncoder encoder_{0};          // what was appended after it
  std::string metadata_;
  HardState state_;  // the last appended
  uint64_t last_index_ = 0;
  uint64_t written_bytes_ = 0;
  bool no_room_reported_ = false;
  absl::Status failed_;
};

absl::Status Wal::Impl::LockDirectory() {
  auto lock = fs_.Lock(LockPath(dir_));
  if (!lock.ok()) return lock.status();
  directory_lock_ = *std::move(lock);
  return absl::OkStatus();
}

absl::Status Wal::Impl::LockSegments(const std::vector<SegmentName>& names) {
  for (const SegmentName& name : names) {
    auto lock = fs_.Lock(PathOf(name));
    if (!lock.ok()) return lock.status();
    segments_.push_back({name, *std::move(lock)});
  }
  return absl::OkStatus();
}

absl::Status Wal::Impl::RemoveTemporaries() {
  auto names = fs_.List(dir_);
  if (!names.ok()) return names.status();
  for (const std::string& name : *names) {
    if (!name.ends_with(".tmp")) continue;
    if (absl::Status s = fs_.Remove(base::JoinPath(dir_, name)); !s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::Status Wal::Impl::Install(PreparedSegment& segment, const SegmentName& name,
                                const RecordEncoder& head) {
  if (absl::Status s = segment.file->WriteAt(0, head.buffer()); !s.ok()) return s;
  if (absl::Status s = SyncFile(*segment.file); !s.ok()) return s;
  return fs_.Rename(segment.path, PathOf(name));
}

absl::Status Wal::Impl::Create(std::string_view metadata) {
  if (absl::Status s = fs_.CreateDirs(dir_); !s.ok()) return s;
  if (absl::Status s = LockDirectory(); !s.ok()) return s;
  auto exists = Exists(fs_, dir_);
  if (!exists.ok()) return exists.status();
  if (*exists) return absl::AlreadyExistsError(base::StrCat("wal: ", dir_, " already holds a log"));
  if (absl::Status s = RemoveTemporaries(); !s.ok()) return s;

  metadata_ = std::string(metadata);
  RecordEncoder head(0);
  head.AppendCrc();
  head.AppendMetadata(metadata_);
  head.AppendSnapshotMarker(SnapshotMarker());
  const SegmentName name;
  auto mark = SyncedMarkWriter::Open(fs_, dir_);
  if (!mark.ok()) return mark.status();
  mark_ = *std::move(mark);
  auto segment = source_.Take();
  if (!segment.ok()) return segment.status();
  // The mark goes first: a log that has its name without a mark would be taken for another program's.
  mark_->Write({0, 0});
  if (absl::Status s = mark_->Sync(); !s.ok()) return s;
  if (absl::Status s = fs_.SyncDir(dir_); !s.ok()) return s;
  if (absl::Status s = Install(*segment, name, head); !s.ok()) return s;
  if (absl::Status s = fs_.SyncDir(dir_); !s.ok()) return s;
  segments_.push_back({name, std::move(segment->lock)});
  file_ = std::move(segment->file);
  offset_ = written_bytes_ = head.buffer().size();
  encoder_ = RecordEncoder(head.crc());
  WriteMark();
  return absl::OkStatus();
}

absl::Status Wal::Impl::RepairTornEnd(const Scan& scan, Repair* repair) {
  KVD_PROBE("wal/torn end repaired");
  repair->broken_copy = repair->path + ".broken";
  if (absl::Status s = CopyFile(fs_, repair->path, repair->broken_copy); !s.ok()) {
    // A full disk must not keep a member from starting; what is cut off was never acknowledged.
    if (!absl::IsResourceExhausted(s)) return s;
    fs_.Remove(repair->broken_copy).IgnoreError();
    repair->broken_copy.clear();
  }
  KVD_LOG(kWarn, "repaired the torn end of the WAL", {"path", repair->path}, {"offset", repair->offset},
          {"reason", repair->reason}, {"copy", repair->broken_copy});
  return scan.headless ? fs_.Remove(repair->path) : absl::OkStatus();
}

absl::Status Wal::Impl::RewriteTail(const Scan& scan) {
  if (options_.no_fsync || scan.end_offset <= scan.synced_offset) return absl::OkStatus();
  if (KVD_MUTANT("believes_unsynced_pages")) return absl::OkStatus();
  KVD_PROBE("wal/end written anew");
  const std::string path = PathOf(scan.segments.back());
  const std::string copy = path + ".tmp";
  // In a copy: what is on the disk must not be at risk from a power loss in the middle of writing it again.
  absl::Status s = CopyFile(fs_, path, copy);
  if (s.ok()) {
    auto lock = fs_.Lock(copy);
    if (!lock.ok()) return lock.status();
    if (s = fs_.Rename(copy, path); s.ok()) {
      segments_.back().lock = *std::move(lock);
      return fs_.SyncDir(dir_);
    }
  }
  if (!absl::IsResourceExhausted(s)) return s;
  KVD_PROBE("wal/end written anew on a full disk");
  fs_.Remove(copy).IgnoreError();
  auto file = fs_.Open(path, Mode::kReadWrite);
  if (!file.ok()) return file.status();
  std::string bytes;
  s = (*file)->ReadAt(scan.synced_offset, scan.end_offset - scan.synced_offset, &bytes);
  if (s.ok()) s = (*file)->WriteAt(scan.synced_offset, bytes);
  return s.ok() ? (*file)->Sync() : s;
}

absl::Status Wal::Impl::OpenTail(const Scan& scan) {
  auto file = fs_.Open(PathOf(segments_.back().name), Mode::kReadWrite);
  if (!file.ok()) return file.status();
  file_ = *std::move(file);
  offset_ = scan.end_offset;
  // What lies behind the last record becomes zeros again.
  if (absl::Status s = file_->Truncate(offset_); !s.ok()) return s;
  if (absl::Status s = file_->Preallocate(options_.segment_bytes); !s.ok()) {
    if (!absl::IsResourceExhausted(s)) return s;
    KVD_LOG(kWarn, "no room to preallocate the WAL segment", {"path", PathOf(segments_.back().name)},
            {"error", s});
  }
  // What was read may have been written but never synced by the process before.
  return SyncFile(*file_);
}

// An append of a new term puts its entries before the hard state. Where the log was torn between the two,
// that term is entered now: the mark, once it stands at the end, says that this was done. Nobody can have
// been voted for in a term that was never on the disk.
absl::Status Wal::Impl::EnterLastTerm(Contents& contents) {
  const uint64_t last = contents.entries.empty() ? 0 : contents.entries.back().term;
  HardState& state = contents.hard_state;
  if (state.term == 0 || last <= state.term) {
    WriteMark();
    return absl::OkStatus();
  }
  state.term = last;
  state.vote = 0;
  if (absl::Status s = Append(&state, {}); !s.ok()) return s;
  const absl::Status synced = Sync();
  // On a full disk it is written with whatever comes next, and the mark stays where it was.
  return absl::IsResourceExhausted(synced) ? absl::OkStatus() : synced;
}

absl::Status Wal::Impl::Open(const SnapshotMarker& from, Contents* contents) {
  auto exists = Exists(fs_, dir_);
  if (!exists.ok()) return exists.status();
  if (!*exists) return absl::NotFoundError(base::StrCat("wal: ", dir_, " holds no log"));
  if (absl::Status s = LockDirectory(); !s.ok()) return s;
  auto scan = ScanLog(fs_, dir_, &from);
  if (!scan.ok()) return scan.status();
  if (absl::Status s = LockSegments(scan->segments); !s.ok()) return s;
  if (absl::Status s = RemoveTemporaries(); !s.ok()) return s;
  *contents = std::move(scan->contents);
  if (contents->repair) {
    if (absl::Status s = RepairTornEnd(*scan, &*contents->repair); !s.ok()) return s;
  }
  if (absl::Status s = RewriteTail(*scan); !s.ok()) return s;
  if (absl::Status s = OpenTail(*scan); !s.ok()) return s;
  encoder_ = RecordEncoder(scan->crc);
  metadata_ = contents->metadata;
  state_ = contents->hard_state;
  last_index_ = scan->last_index;
  auto mark = SyncedMarkWriter::Open(fs_, dir_);
  if (!mark.ok()) return mark.status();
  mark_ = *std::move(mark);
  if (absl::Status s = EnterLastTerm(*contents); !s.ok()) return s;
  if (absl::Status s = mark_->Sync(); !s.ok()) return s;
  return fs_.SyncDir(dir_);
}

absl::Status Wal::Impl::Cut() {
  auto segment = source_.Take();
  if (!segment.ok()) {
    return absl::IsResourceExhausted(segment.status()) ? segment.status() : Fail(segment.status());
  }
  // The old segment ends with its last record, so that nothing is read between the two.
  absl::Status status = file_->Truncate(offset_);
  if (status.ok()) status = SyncFile(*file_);
  if (!status.ok()) return Fail(status);

  const SegmentName name{segments_.back().name.sequence + 1, last_index_ + 1};
  RecordEncoder head(encoder_.crc());
  head.AppendCrc();
  head.AppendMetadata(metadata_);
  if (!(state_ == HardState())) head.AppendHardState(state_);
  status = Install(*segment, name, head);
  if (!status.ok()) {
    source_.Discard(*std::move(segment));
    return absl::IsResourceExhausted(status) ? status : Fail(status);
  }
  if (status = fs_.SyncDir(dir_); !status.ok()) return Fail(status);
  segments_.push_back({name, std::move(segment->lock)});
  file_ = std::move(segment->file);
  offset_ = head.buffer().size();
  written_bytes_ += offset_;
  encoder_ = RecordEncoder(head.crc());
  WriteMark();
  // One sync per segment lets the mark lag by no more than that after a power loss.
  if (!options_.no_fsync) {
    if (status = mark_->Sync(); !status.ok()) return Fail(status);
  }
  KVD_LOG(kInfo, "created a new WAL segment", {"path", PathOf(name)});
  return absl::OkStatus();
}

absl::Status Wal::Impl::Append(const HardState* state, absl::Span<const Entry> entries) {
  if (!failed_.ok()) return failed_;
  if (encoder_.buffer().empty() && (offset_ >= options_.segment_bytes || KVD_BUGGIFY("wal/cut early"))) {
    absl::Status status = Cut();
    if (absl::IsResourceExhausted(status)) {
      KVD_PROBE("wal/no room for a segment");
      if (!no_room_reported_) {
        KVD_LOG(kWarn, "no room for a new WAL segment; going on in the old one", {"error", status});
      }
      no_room_reported_ = true;
    } else if (!status.ok()) {
      return status;
    } else {
      no_room_reported_ = false;
    }
  } else if (offset_ >= options_.segment_bytes / 2) {
    source_.Prepare();
  }
  for (const Entry& entry : entries) {
    encoder_.AppendEntry(entry);
    last_index_ = entry.index;
  }
  if (state != nullptr) {
    encoder_.AppendHardState(*state);
    state_ = *state;
  }
  return absl::OkStatus();
}

absl::Status Wal::Impl::Sync() {
  if (!failed_.ok()) return failed_;
  const std::string& buffer = encoder_.buffer();
  if (buffer.empty()) return absl::OkStatus();
  // A part may be written when the disk is full; the next try writes the same bytes at the same place.
  if (absl::Status s = file_->WriteAt(offset_, buffer); !s.ok()) {
    if (absl::IsResourceExhausted(s)) KVD_PROBE("wal/disk full in the middle of a write");
    return absl::IsResourceExhausted(s) ? s : Fail(s);
  }
  const bool unsynced = KVD_MUTANT("ack_before_sync");
  if (absl::Status s = unsynced ? absl::OkStatus() : SyncFile(*file_); !s.ok()) return Fail(s);
  offset_ += buffer.size();
  written_bytes_ += buffer.size();
  encoder_.ClearBuffer();
  if (!unsynced) WriteMark();
  return absl::OkStatus();
}

absl::Status Wal::Impl::SaveSnapshot(const SnapshotMarker& marker) {
  if (!failed_.ok()) return failed_;
  encoder_.AppendSnapshotMarker(marker);
  if (last_index_ < marker.index) last_index_ = marker.index;
  return Sync();
}

void Wal::Impl::ReleaseTo(uint64_t index) {
  if (segments_.size() > 1 && segments_[1].name.first_index <= index)
    KVD_PROBE("wal/segment no longer needed");
  // Segment i holds nothing that is needed if segment i+1 starts at or before `index`.
  std::vector<std::string> released;
  while (options_.max_segments > 0 && segments_.size() > options_.max_segments && segments_.size() > 1 &&
         segments_[1].name.first_index <= index) {
    released.push_back(PathOf(segments_.front().name));
    segments_.pop_front();
  }
  remover_.Remove(released);
}

Wal::Wal(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Wal::~Wal() = default;

absl::StatusOr<std::unique_ptr<Wal>> Wal::Create(base::FileSystem& fs, const std::string& dir,
                                                 std::string_view metadata, const Options& options) {
  auto impl = std::make_unique<Impl>(fs, dir, options);
  if (absl::Status s = impl->Create(metadata); !s.ok()) return s;
  return std::unique_ptr<Wal>(new Wal(std::move(impl)));
}

absl::StatusOr<Wal::Opened> Wal::Open(base::FileSystem& fs, const std::string& dir,
                                      const SnapshotMarker& from, const Options& options) {
  auto impl = std::make_unique<Impl>(fs, dir, options);
  Opened opened;
  if (absl::Status s = impl->Open(from, &opened.contents); !s.ok()) return s;
  opened.wal = std::unique_ptr<Wal>(new Wal(std::move(impl)));
  return opened;
}

absl::StatusOr<Contents> Wal::Read(base::FileSystem& fs, const std::string& dir, const SnapshotMarker& from) {
  auto scan = ScanLog(fs, dir, &from);
  if (!scan.ok()) return scan.status();
  return std::move(scan->contents);
}

absl::StatusOr<std::vector<SnapshotMarker>> Wal::ReadSnapshotMarkers(base::FileSystem& fs,
                                                                     const std::string& dir) {
  auto scan = ScanLog(fs, dir, nullptr);
  if (!scan.ok()) return scan.status();
  return std::move(scan->contents.snapshots);
}

absl::StatusOr<bool> Wal::Exists(base::FileSystem& fs, const std::string& dir) {
  auto segments = ListSegments(fs, dir);
  if (absl::IsNotFound(segments.status())) return false;
  if (!segments.ok()) return segments.status();
  return !segments->empty();
}

absl::Status Wal::Append(const HardState* state, absl::Span<const Entry> entries) {
  return impl_->Append(state, entries);
}
absl::Status Wal::Sync() {
  return impl_->Sync();
}
absl::Status Wal::SaveSnapshot(const SnapshotMarker& marker) {
  return impl_->SaveSnapshot(marker);
}
void Wal::ReleaseTo(uint64_t index) {
  impl_->ReleaseTo(index);
}
uint64_t Wal::last_index() const {
  return impl_->last_index();
}
uint64_t Wal::buffered_bytes() const {
  return impl_->buffered_bytes();
}
uint64_t Wal::written_bytes() const {
  return impl_->written_bytes();
}

}  // namespace kvd::wal
