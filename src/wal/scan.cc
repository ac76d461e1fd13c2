#include "wal/scan.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "base/log.h"
#include "base/mutant.h"
#include "base/sites.h"
#include "base/strings.h"
#include "wal/synced_mark.h"

namespace kvd::wal {
namespace {

constexpr int32_t kMaxEntryType = 2;  // of raftpb.EntryType

absl::Status Rot(const std::string& path, uint64_t offset, std::string_view reason) {
  KVD_PROBE("wal/rot found");
  return absl::DataLossError(base::StrCat("wal: ", path, " is damaged at offset ", offset,
                                          ", where it was known to be on the disk: ", reason,
                                          ". The file is left as it is"));
}

class Scanner {
 public:
  // Starts `earlier` segments before the one that should hold what is behind `from`.
  Scanner(base::FileSystem& fs, const std::string& dir, const SnapshotMarker* from, size_t earlier)
      : fs_(fs), dir_(dir), from_(from), earlier_(earlier) {}

  absl::StatusOr<Scan> Run();
  // After Run: whether there was a segment before the one that reading started with.
  bool started_late() const { return started_late_; }

 private:
  // The position in `segments` from which to read.
  absl::StatusOr<size_t> FindStart() const;
  absl::Status ReadSegment(size_t position);
  // Takes one record in. False, with the reason, if it makes no sense.
  bool Take(const Record& record, std::string* why_not);
  bool TakeEntry(const Record& record, std::string* why_not);
  bool TakeMarker(const Record& record, std::string* why_not);
  bool TakeState(const Record& record, std::string* why_not);
  // Takes the last segment off the list if it never got its head: the log then ends in the one before.
  absl::Status DropHeadless();
  // What the end of the last segment means: nothing, a torn write (OK, and noted as a repair) or rot.
  absl::Status JudgeEnd(const SegmentName& name, SegmentReader::Step step, const SegmentReader& reader);
  absl::Status Finish();

  std::string PathOf(const SegmentName& name) const { return base::JoinPath(dir_, name.ToString()); }

  base::FileSystem& fs_;
  const std::string dir_;
  const SnapshotMarker* const from_;
  const size_t earlier_;
  bool started_late_ = false;
  std::optional<SyncedMark> mark_;
  Scan scan_;
  bool head_found_ = false;  // that of the segment being read
  bool marker_found_ = false;
  std::optional<uint64_t> term_at_from_;  // of the entry of the marker's index, while the log holds one
  std::optional<uint64_t> marker_other_term_;
};

absl::StatusOr<size_t> Scanner::FindStart() const {
  const std::vector<SegmentName>& segments = scan_.segments;
  size_t start = 0;
  if (from_ != nullptr) {
    start = segments.size();
    while (start > 0 && segments[start - 1].first_index > from_->index) --start;
    if (start == 0) {
      return absl::NotFoundError(base::StrCat("wal: ", dir_, " starts at index ", segments[0].first_index,
                                              ", behind the snapshot at ", from_->index));
    }
    --start;
    start -= std::min(start, earlier_);
  }
  for (size_t i = start + 1; i < segments.size(); ++i) {
    if (segments[i].sequence != segments[i - 1].sequence + 1) {
      return absl::FailedPreconditionError(base::StrCat(
          "wal: segments are missing between ", PathOf(segments[i - 1]), " and ", PathOf(segments[i])));
    }
  }
  return start;
}

bool Scanner::TakeEntry(const Record& record, std::string* why_not) {
  *why_not = "an entry that does not decode";
  Entry entry;
  if (from_ == nullptr) return DecodeEntryPosition(record.data, &scan_.last_index, &entry.term);
  if (!DecodeEntryPosition(record.data, &entry.index, &entry.term)) return false;
  scan_.last_index = entry.index;
  std::vector<Entry>& entries = scan_.contents.entries;
  if (entry.index <= from_->index) {
    // It overwrote all that had been behind it, which is not to come back.
    entries.clear();
    term_at_from_.reset();
    if (entry.index == from_->index) term_at_from_ = entry.term;
    return true;
  }
  const uint64_t position = entry.index - from_->index - 1;
  if (position > entries.size()) {
    *why_not = base::StrCat("entry ", entry.index, " follows entry ", from_->index + entries.size());
    return false;
  }
  if (!DecodeEntry(record.data, &entry)) return false;
  // The format does not protect the type of a record: rot can make an entry of something else.
  if (entry.type < 0 || entry.type > kMaxEntryType ||
      (position > 0 && entry.term < entries[position - 1].term)) {
    *why_not = base::StrCat("entry ", entry.index, " of type ", entry.type, " and term ", entry.term,
                            " cannot follow what is before it");
    return false;
  }
  entries.resize(position);
  entries.push_back(std::move(entry));
  return true;
}

bool Scanner::TakeMarker(const Record& record, std::string* why_not) {
  SnapshotMarker marker;
  if (!DecodeSnapshotMarker(record.data, &marker)) {
    *why_not = "a snapshot marker that does not decode";
    return false;
  }
  if (from_ != nullptr && marker.index == from_->index) {
    if (marker.term == from_->term) {
      marker_found_ = true;
      // A snapshot from elsewhere replaces a log that does not hold its last entry, also what was behind that
      // index. From then on the log holds it: the next marker of the same snapshot replaces nothing.
      if (marker.index > 0 && term_at_from_ != marker.term) {
        KVD_PROBE("wal/snapshot from elsewhere found in the log");
        scan_.contents.entries.clear();
      }
      term_at_from_ = marker.term;
    } else {
      marker_other_term_ = marker.term;
    }
  }
  scan_.last_index = std::max(scan_.last_index, marker.index);
  scan_.contents.snapshots.push_back(std::move(marker));
  return true;
}

bool Scanner::TakeState(const Record& record, std::string* why_not) {
  HardState state;
  if (!DecodeHardState(record.data, &state)) {
    *why_not = "a hard state that does not decode";
    return false;
  }
  if (state.term < scan_.contents.hard_state.term) {
    *why_not = base::StrCat("a hard state of term ", state.term, " behind one of term ",
                            scan_.contents.hard_state.term);
    return false;
  }
  scan_.contents.hard_state = state;
  return true;
}

bool Scanner::Take(const Record& record, std::string* why_not) {
  switch (record.type) {
    case RecordType::kMetadata:
      if (scan_.metadata_found && scan_.contents.metadata != record.data) {
        *why_not = "the metadata of another log";
        return false;
      }
      scan_.contents.metadata = std::string(record.data);
      scan_.metadata_found = true;
      head_found_ = true;
      return true;
    case RecordType::kEntry:
      return TakeEntry(record, why_not);
    case RecordType::kState:
      return TakeState(record, why_not);
    case RecordType::kCrc:
      return true;
    case RecordType::kSnapshot:
      return TakeMarker(record, why_not);
  }
  *why_not = base::StrCat("a record of unknown type ", static_cast<uint64_t>(record.type));
  return false;
}

absl::Status Scanner::ReadSegment(size_t position) {
  const SegmentName& name = scan_.segments[position];
  auto reader = SegmentReader::Open(fs_, PathOf(name), scan_.crc);
  if (!reader.ok()) return reader.status();
  head_found_ = false;
  Record record;
  for (;;) {
    auto step = (*reader)->Next(&record);
    if (!step.ok()) return step.status();
    std::string why_not;
    if (*step == SegmentReader::Step::kRecord) {
      if (Take(record, &why_not)) continue;
      (*reader)->Reject(why_not);
      step = SegmentReader::Step::kDamage;
    }
    const bool damaged = *step == SegmentReader::Step::kDamage;
    if (head_found_ && position + 1 == scan_.segments.size()) return JudgeEnd(name, *step, **reader);
    if (damaged) {
      return Rot(PathOf(name), (*reader)->end_offset(), (*reader)->damage().reason);
    }
    if (!head_found_) return Rot(PathOf(name), (*reader)->end_offset(), "it has no metadata");
    scan_.crc = (*reader)->crc();
    return absl::OkStatus();
  }
}

absl::Status Scanner::JudgeEnd(const SegmentName& name, SegmentReader::Step step,
                               const SegmentReader& reader) {
  const uint64_t end = reader.end_offset();
  const bool damaged = step == SegmentReader::Step::kDamage;
  const std::string reason = damaged ? reader.damage().reason : "the log ends here";
  if (mark_ && mark_->sequence > name.sequence) {
    return Rot(PathOf(name), end, base::StrCat("segment ", mark_->sequence, " should follow"));
  }
  if (KVD_MUTANT("torn_tail_as_rot") && damaged) return Rot(PathOf(name), end, reason);
  if (mark_ && mark_->sequence == name.sequence && end < mark_->offset && !KVD_MUTANT("rot_as_torn_tail"))
    return Rot(PathOf(name), end, reason);
  // Without a mark, another program wrote this log, and only what cannot be anything else is a torn write.
  if (damaged && !mark_ && !reader.damage().looks_torn) return Rot(PathOf(name), end, reason);
  if (damaged) scan_.contents.repair = Repair{PathOf(name), end, reason, ""};
  scan_.crc = reader.crc();
  scan_.end_offset = end;
  return absl::OkStatus();
}

absl::Status Scanner::DropHeadless() {
  if (scan_.segments.size() < 2) return absl::OkStatus();
  const SegmentName name = scan_.segments.back();
  auto reader = SegmentReader::Open(fs_, PathOf(name), 0);
  if (!reader.ok()) return reader.status();
  Record record;
  for (;;) {
    auto step = (*reader)->Next(&record);
    if (!step.ok()) return step.status();
    if (*step == SegmentReader::Step::kRecord) {
      if (record.type == RecordType::kMetadata) return absl::OkStatus();
      continue;
    }
    // A segment has its head on the disk before it has its name, so nothing but emptiness is harmless here.
    if (*step == SegmentReader::Step::kDamage) {
      return Rot(PathOf(name), (*reader)->end_offset(), (*reader)->damage().reason);
    }
    if ((*reader)->end_offset() > 0) return Rot(PathOf(name), (*reader)->end_offset(), "it has no metadata");
    if (absl::Status s = JudgeEnd(name, *step, **reader); !s.ok()) return s;
    scan_.contents.repair = Repair{PathOf(name), 0, "a segment without a head", ""};
    scan_.headless = name;
    scan_.segments.pop_back();
    return absl::OkStatus();
  }
}

absl::Status Scanner::Finish() {
  std::erase_if(scan_.contents.snapshots,
                [&](const SnapshotMarker& m) { return m.index > scan_.contents.hard_state.commit; });
  // Where a sync has ended, the term of the last entry has been entered.
  const std::vector<Entry>& entries = scan_.contents.entries;
  const uint64_t term = scan_.contents.hard_state.term;
  if (mark_ && mark_->sequence == scan_.segments.back().sequence && mark_->offset == scan_.end_offset &&
      term > 0 && !entries.empty() && entries.back().term > term) {
    return Rot(
        PathOf(scan_.segments.back()), scan_.end_offset,
        base::StrCat("the last entry is of term ", entries.back().term, ", the hard state of term ", term));
  }
  if (from_ == nullptr || marker_found_) return absl::OkStatus();
  if (marker_other_term_) {
    return absl::FailedPreconditionError(base::StrCat("wal: ", dir_, " has the snapshot at index ",
                                                      from_->index, " in term ", *marker_other_term_,
                                                      ", not ", from_->term));
  }
  return absl::NotFoundError(
      base::StrCat("wal: ", dir_, " has no snapshot at index ", from_->index, " in term ", from_->term));
}

absl::StatusOr<Scan> Scanner::Run() {
  auto segments = ListSegments(fs_, dir_);
  if (!segments.ok()) return segments.status();
  if (segments->empty()) return absl::NotFoundError(base::StrCat("wal: ", dir_, " holds no log"));
  scan_.segments = *std::move(segments);
  auto mark = ReadSyncedMark(fs_, dir_);
  if (!mark.ok()) return mark.status();
  mark_ = *mark;
  if (absl::Status s = DropHeadless(); !s.ok()) return s;
  auto start = FindStart();
  if (!start.ok()) return start.status();
  started_late_ = *start > 0;
  if (from_ != nullptr) scan_.last_index = from_->index;
  for (size_t i = *start; i < scan_.segments.size(); ++i) {
    if (absl::Status s = ReadSegment(i); !s.ok()) return s;
  }
  if (absl::Status s = Finish(); !s.ok()) return s;
  if (mark_ && mark_->sequence == scan_.segments.back().sequence) scan_.synced_offset = mark_->offset;
  return std::move(scan_);
}

}  // namespace

absl::StatusOr<Scan> ScanLog(base::FileSystem& fs, const std::string& dir, const SnapshotMarker* from) {
  for (size_t earlier = 0;; ++earlier) {
    Scanner scanner(fs, dir, from, earlier);
    auto scan = scanner.Run();
    // A marker lies in an earlier segment than its index says if the log went on below that index after it: a
    // snapshot was received, its hard state was lost with the power, and the entries came after all.
    if (absl::IsNotFound(scan.status()) && scanner.started_late()) continue;
    return scan;
  }
}

}  // namespace kvd::wal
