#include "wal/record.h"

#include <gtest/gtest.h>

#include <string>

#include "base/crc32c.h"
#include "base/random.h"
#include "wal/segment.h"

namespace kvd::wal {
namespace {

std::string Bytes(std::initializer_list<int> values) {
  std::string out;
  for (int v : values) out.push_back(static_cast<char>(v));
  return out;
}

// The data of the one record in `frames`.
std::string DataOf(const RecordEncoder& encoder, RecordType type) {
  FrameHeader header;
  EXPECT_TRUE(ParseFrameHeader(encoder.buffer(), &header));
  EXPECT_EQ(encoder.buffer().size(), kFrameHeaderBytes + header.record_bytes + header.padding_bytes);
  EXPECT_EQ(encoder.buffer().size() % 8, 0u);
  Record record;
  EXPECT_TRUE(DecodeRecord(std::string_view(encoder.buffer()).substr(8, header.record_bytes), &record));
  EXPECT_EQ(record.type, type);
  EXPECT_EQ(record.crc, encoder.crc());
  return std::string(record.data);
}

TEST(RecordEncoder, FirstRecordOfALog_IsEtcds) {
  RecordEncoder encoder(0);
  encoder.AppendCrc();
  EXPECT_EQ(encoder.buffer(), Bytes({4, 0, 0, 0, 0, 0, 0, 0x84, 8, 4, 0x10, 0, 0, 0, 0, 0}));
}

TEST(RecordEncoder, RequiredFields_AreWrittenEvenIfZero) {
  RecordEncoder entry(0), state(0), marker(0);
  entry.AppendEntry(Entry());
  EXPECT_EQ(DataOf(entry, RecordType::kEntry), Bytes({8, 0, 0x10, 0, 0x18, 0}));
  state.AppendHardState(HardState());
  EXPECT_EQ(DataOf(state, RecordType::kState), Bytes({8, 0, 0x10, 0, 0x18, 0}));
  marker.AppendSnapshotMarker(SnapshotMarker());
  EXPECT_EQ(DataOf(marker, RecordType::kSnapshot), Bytes({8, 0, 0x10, 0}));
}

TEST(RecordEncoder, Entry_FieldNumbers) {
  RecordEncoder encoder(0);
  encoder.AppendEntry({.index = 300, .term = 2, .type = 1, .data = base::SharedBytes::Copy("xy")});
  const std::string data = DataOf(encoder, RecordType::kEntry);
  EXPECT_EQ(data, Bytes({8, 1, 0x10, 2, 0x18, 0xac, 2, 0x22, 2, 'x', 'y'}));
  EXPECT_EQ(encoder.crc(), base::Crc32c(0, data));
}

TEST(RecordEncoder, Checksum_RollsOnAcrossRecordsAndCleared) {
  RecordEncoder encoder(7);
  encoder.AppendMetadata("one");
  encoder.ClearBuffer();
  encoder.AppendMetadata("two");
  EXPECT_EQ(encoder.crc(), base::Crc32c(7, "onetwo"));
  DataOf(encoder, RecordType::kMetadata);
}

TEST(Decode, RoundTrips) {
  base::Random random(1);
  for (int round = 0; round < 500; ++round) {
    Entry entry{.index = random.Next() >> random.Below(64),
                .term = random.Next() >> random.Below(64),
                .type = static_cast<int32_t>(random.Next()),
                .data = base::SharedBytes(std::string(random.Below(300), 'd'))};
    HardState state{random.Next() >> random.Below(64), random.Next(), random.Below(100)};
    SnapshotMarker marker{random.Next() >> random.Below(64), random.Below(9),
                          std::string(random.Below(20), 'c')};
    RecordEncoder a(0), b(0), c(0);
    a.AppendEntry(entry);
    b.AppendHardState(state);
    c.AppendSnapshotMarker(marker);
    Entry entry_back;
    uint64_t index, term;
    HardState state_back;
    SnapshotMarker marker_back;
    ASSERT_TRUE(DecodeEntry(DataOf(a, RecordType::kEntry), &entry_back));
    ASSERT_TRUE(DecodeEntryPosition(DataOf(a, RecordType::kEntry), &index, &term));
    ASSERT_TRUE(DecodeHardState(DataOf(b, RecordType::kState), &state_back));
    ASSERT_TRUE(DecodeSnapshotMarker(DataOf(c, RecordType::kSnapshot), &marker_back));
    ASSERT_EQ(entry_back, entry);
    ASSERT_EQ(index, entry.index);
    ASSERT_EQ(term, entry.term);
    ASSERT_EQ(state_back, state);
    ASSERT_EQ(marker_back, marker);
  }
}

TEST(Decode, UnknownFields_ArePassedOver) {
  HardState state;
  EXPECT_TRUE(
      DecodeHardState(Bytes({8, 5, 0x7a, 2, 'h', 'i', 0x41, 1, 2, 3, 4, 5, 6, 7, 8, 0x18, 9}), &state));
  EXPECT_EQ(state, (HardState{5, 0, 9}));
}

TEST(Decode, AnyBytes_NeverReadPastTheEnd) {
  base::Random random(2);
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes(random.Below(40), '\0');
    for (char& c : bytes) c = static_cast<char>(random.Below(8) == 0 ? random.Next() : random.Below(40));
    // Exactly as long as its contents, so that the address sanitizer sees a read beyond them.
    const std::string exact(bytes.data(), bytes.size());
    Record record;
    Entry entry;
    HardState state;
    SnapshotMarker marker;
    DecodeRecord(exact, &record);
    DecodeEntry(exact, &entry);
    DecodeHardState(exact, &state);
    DecodeSnapshotMarker(exact, &marker);
  }
  HardState state;
  EXPECT_FALSE(DecodeHardState(Bytes({8}), &state));
  EXPECT_FALSE(DecodeHardState(Bytes({0x0a, 5, 1}), &state));
  EXPECT_FALSE(DecodeHardState(Bytes({0, 1}), &state));
  EXPECT_FALSE(DecodeHardState(std::string(20, '\xff'), &state));
}

TEST(SegmentName, RoundTripsAndRefusesOthers) {
  SegmentName name{0x1f, 0xabc};
  EXPECT_EQ(name.ToString(), "000000000000001f-0000000000000abc.wal");
  SegmentName back;
  ASSERT_TRUE(SegmentName::Parse(name.ToString(), &back));
  EXPECT_EQ(back.sequence, 0x1fu);
  EXPECT_EQ(back.first_index, 0xabcu);
  for (const char* other : {"", "0.tmp", "lock", "000000000000001f-0000000000000abc.wal.broken",
                            "000000000000001F-0000000000000abc.wal", "000000000000001f_0000000000000abc.wal",
                            "000000000000001f-0000000000000abc.log"}) {
    EXPECT_FALSE(SegmentName::Parse(other, &back)) << other;
  }
}

}  // namespace
}  // namespace kvd::wal
