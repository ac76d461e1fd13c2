// The records of a log segment and their frames: walpb.Record, raftpb.Entry, raftpb.HardState and
// walpb.Snapshot are so small and so hot that they are coded here by hand, with every required field written
// even when it is zero, as etcd writes them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "wal/wal.h"

namespace kvd::wal {

enum class RecordType : uint64_t { kMetadata = 1, kEntry = 2, kState = 3, kCrc = 4, kSnapshot = 5 };

constexpr size_t kFrameHeaderBytes = 8;

// The length field of a frame, taken apart.
struct FrameHeader {
  uint64_t record_bytes = 0;
  uint64_t padding_bytes = 0;
};
// False if no writer produces such a field. `bytes` holds at least kFrameHeaderBytes.
bool ParseFrameHeader(std::string_view bytes, FrameHeader* header);

// walpb.Record. `data` points into what was decoded.
struct Record {
  RecordType type = RecordType::kMetadata;
  uint32_t crc = 0;
  std::string_view data;
};

// These return false for bytes that are not such a message.
bool DecodeRecord(std::string_view bytes, Record* record);
bool DecodeEntry(std::string_view bytes, Entry* entry);
// An entry without its data.
bool DecodeEntryPosition(std::string_view bytes, uint64_t* index, uint64_t* term);
bool DecodeHardState(std::string_view bytes, HardState* state);
bool DecodeSnapshotMarker(std::string_view bytes, SnapshotMarker* marker);

// Appends frames to a buffer; the checksum rolls on from record to record. Thread-compatible.
class RecordEncoder {
 public:
  // Continues after records whose checksum is `crc`.
  explicit RecordEncoder(uint32_t crc) : crc_(crc) {}

  void AppendCrc() { AppendFrame(RecordType::kCrc, {}, {}); }
  void AppendMetadata(std::string_view metadata) { AppendFrame(RecordType::kMetadata, metadata, {}); }
  void AppendEntry(const Entry& entry);
  void AppendHardState(const HardState& state);
  void AppendSnapshotMarker(const SnapshotMarker& marker);

  uint32_t crc() const { return crc_; }
  const std::string& buffer() const { return buffer_; }
  // Empties the buffer; the checksum goes on. Room beyond a usual batch's is given back.
  void ClearBuffer();

 private:
  // One record whose data are `head` followed by `tail`.
  void AppendFrame(RecordType type, std::string_view head, std::string_view tail);

  uint32_t crc_;
  std::string buffer_;
};

}  // namespace kvd::wal
