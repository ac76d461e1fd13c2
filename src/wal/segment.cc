#include "wal/segment.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/crc32c.h"
#include "base/strings.h"

namespace kvd::wal {
namespace {

constexpr uint64_t kWindowBytes = 256 << 10;
constexpr uint64_t kSectorBytes = 512;
constexpr std::string_view kSuffix = ".wal";

bool ParseHex16(std::string_view text, uint64_t* value) {
  *value = 0;
  for (char c : text) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) return false;
    *value = *value << 4 | static_cast<uint64_t>(digit);
  }
  return text.size() == 16;
}

bool AllZeros(std::string_view bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](char c) { return c == '\0'; });
}

// True if the part of some sector of the file that `body`, which lies at `offset`, takes up is all zeros.
bool HasZeroSector(std::string_view body, uint64_t offset) {
  while (!body.empty()) {
    const size_t n = std::min<uint64_t>(body.size(), kSectorBytes - offset % kSectorBytes);
    if (AllZeros(body.substr(0, n))) return true;
    body.remove_prefix(n);
    offset += n;
  }
  return false;
}

}  // namespace

std::string SegmentName::ToString() const {
  return absl::StrFormat("%016x-%016x.wal", sequence, first_index);
}

bool SegmentName::Parse(std::string_view name, SegmentName* out) {
  if (name.size() != 16 + 1 + 16 + kSuffix.size() || name[16] != '-' || !name.ends_with(kSuffix))
    return false;
  return ParseHex16(name.substr(0, 16), &out->sequence) && ParseHex16(name.substr(17, 16), &out->first_index);
}

absl::StatusOr<std::vector<SegmentName>> ListSegments(base::FileSystem& fs, const std::string& dir) {
  auto names = fs.List(dir);
  if (!names.ok()) return names.status();
  std::vector<SegmentName> segments;
  for (const std::string& name : *names) {
    SegmentName segment;
    if (SegmentName::Parse(name, &segment)) segments.push_back(segment);
  }
  return segments;  // names sort as their sequences do
}

absl::StatusOr<std::unique_ptr<SegmentReader>> SegmentReader::Open(base::FileSystem& fs,
                                                                   const std::string& path, uint32_t crc) {
  auto file = fs.Open(path, base::FileSystem::Mode::kRead);
  if (!file.ok()) return file.status();
  auto size = (*file)->Size();
  if (!size.ok()) return size.status();
  return std::unique_ptr<SegmentReader>(new SegmentReader(*std::move(file), *size, crc));
}

absl::StatusOr<std::string_view> SegmentReader::Bytes(uint64_t offset, uint64_t n) {
  if (offset < window_offset_ || offset + n > window_offset_ + window_.size()) {
    const uint64_t want = std::min(std::max(n, kWindowBytes), size_ - offset);
    if (absl::Status s = file_->ReadAt(offset, want, &window_); !s.ok()) return s;
    window_offset_ = offset;
    if (window_.size() < n) {
      return absl::DataLossError(base::StrCat("read ", file_->path(), ": the file became shorter"));
    }
  }
  return std::string_view(window_).substr(offset - window_offset_, n);
}

SegmentReader::Step SegmentReader::Damaged(std::string reason, bool looks_torn) {
  damage_ = {std::move(reason), looks_torn};
  return Step::kDamage;
}

void SegmentReader::Reject(std::string reason) {
  end_offset_ = end_offset_before_;
  crc_ = crc_before_;
  Damaged(std::move(reason), false);
}

absl::StatusOr<SegmentReader::Step> SegmentReader::Next(Record* record) {
  if (!damage_.reason.empty()) return Step::kDamage;
  const uint64_t left = size_ - end_offset_;
  if (left < kFrameHeaderBytes) {
    auto rest = Bytes(end_offset_, left);
    if (!rest.ok()) return rest.status();
    return AllZeros(*rest) ? Step::kEnd : Damaged("half a record header at the end of the file", true);
  }
  auto header_bytes = Bytes(end_offset_, kFrameHeaderBytes);
  if (!header_bytes.ok()) return header_bytes.status();
  FrameHeader header;
  if (!ParseFrameHeader(*header_bytes, &header)) return Damaged("no record header", false);
  if (header.record_bytes == 0) return Step::kEnd;
  const uint64_t body_bytes = header.record_bytes + header.padding_bytes;
  if (body_bytes > left - kFrameHeaderBytes) {
    return Damaged(base::StrCat("a record of ", body_bytes, " bytes runs past the end of the file"), true);
  }
  auto frame = Bytes(end_offset_, kFrameHeaderBytes + body_bytes);
  if (!frame.ok()) return frame.status();
  // Looked at only once something is wrong.
  const auto looks_torn = [&] {
    return HasZeroSector(frame->substr(kFrameHeaderBytes), end_offset_ + kFrameHeaderBytes);
  };
  if (!DecodeRecord(frame->substr(kFrameHeaderBytes, header.record_bytes), record)) {
    return Damaged("a record that does not decode", looks_torn());
  }
  uint32_t crc = record->crc;
  if (record->type == RecordType::kCrc) {
    // It states the sum of all before it; the first one that is read is taken at its word.
    if (crc_ != 0 && crc_ != crc) return Damaged("the checksum of the records before does not match", false);
  } else {
    crc = base::Crc32c(crc_, record->data);
    if (crc != record->crc) return Damaged("a record whose checksum does not match", looks_torn());
  }
  end_offset_before_ = end_offset_;
  crc_before_ = crc_;
  end_offset_ += frame->size();
  crc_ = crc;
  return Step::kRecord;
}

}  // namespace kvd::wal
