#include "net/peer/message_codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "raftpb/raft.pb.h"

namespace kvd::net {
namespace {

using base::SharedBytes;

constexpr size_t kLimit = 1 << 20;

std::string Bytes(const SendBuffer& b) {
  return b.empty() ? std::string() : std::string(b.data(), b.size());
}

std::string Hex(std::string_view bytes) {
  std::string out;
  for (unsigned char c : bytes) {
    out += "0123456789abcdef"[c >> 4];
    out += "0123456789abcdef"[c & 15];
  }
  return out;
}

OutgoingMessage Append(uint64_t term, uint64_t log_term, uint64_t index, uint64_t commit,
                       std::vector<OutgoingEntry> entries) {
  OutgoingMessage m;
  m.type = raftpb::MsgApp;
  m.to = 2;
  m.from = 1;
  m.term = term;
  m.log_term = log_term;
  m.index = index;
  m.commit = commit;
  m.entries = std::move(entries);
  return m;
}

TEST(MessageCodec, EncodedMessage_ParsesToTheSameFields) {
  OutgoingMessage m =
      Append(7, 6, 300, 299, {{7, 301, 0, SharedBytes("payload")}, {7, 302, 2, SharedBytes()}});
  m.type = raftpb::MsgReadIndexResp;
  m.to = ~uint64_t{0};
  m.vote = 1u << 31;
  m.reject = true;
  m.reject_hint = 128;
  m.context = std::string("\0ctx", 4);
  SendBuffer b;
  AppendEncoded(m, b);
  EXPECT_EQ(b.size(), EncodedSize(m));
  raftpb::Message p;
  ASSERT_TRUE(p.ParseFromString(Bytes(b)));
  EXPECT_EQ(p.type(), raftpb::MsgReadIndexResp);
  EXPECT_EQ(p.to(), ~uint64_t{0});
  EXPECT_EQ(p.from(), 1u);
  EXPECT_EQ(p.term(), 7u);
  EXPECT_EQ(p.logterm(), 6u);
  EXPECT_EQ(p.index(), 300u);
  EXPECT_EQ(p.commit(), 299u);
  EXPECT_EQ(p.vote(), 1u << 31);
  EXPECT_TRUE(p.reject());
  EXPECT_EQ(p.rejecthint(), 128u);
  EXPECT_EQ(p.context(), std::string("\0ctx", 4));
  ASSERT_EQ(p.entries_size(), 2);
  EXPECT_EQ(p.entries(0).data(), "payload");
  EXPECT_EQ(p.entries(0).index(), 301u);
  EXPECT_EQ(p.entries(1).type(), raftpb::EntryConfChangeV2);
  OutgoingMessage back = ToOutgoing(std::move(p));
  SendBuffer again;
  AppendEncoded(back, again);
  EXPECT_EQ(Hex(Bytes(again)), Hex(Bytes(b)));
}

TEST(MessageCodec, MessageStream_BytesByHand) {
  StreamEncoder encoder(StreamKind::kMessage);
  SendBuffer b;
  encoder.AppendHeartbeat(b);
  OutgoingMessage vote;
  vote.type = raftpb::MsgVote;
  vote.to = 2;
  vote.from = 1;
  vote.term = 5;
  encoder.Append(vote, b);
  EXPECT_EQ(Hex(Bytes(b)),
            "0000000000000002"  // length
            "0808"              // type MsgHeartbeat, from and to nobody
            "0000000000000008"
            "0805"    // type MsgVote
            "1002"    // to
            "1801"    // from
            "2005");  // term
}

TEST(MessageCodec, MsgAppStream_BytesByHand) {
  StreamEncoder encoder(StreamKind::kMsgApp);
  SendBuffer b;
  encoder.AppendHeartbeat(b);
  EXPECT_EQ(Hex(Bytes(b)), "00");

  b.Clear(0);
  encoder.Append(Append(1, 1, 10, 9, {{1, 11, 0, SharedBytes("a")}}), b);
  EXPECT_EQ(Hex(Bytes(b)),
            "02"                // a whole message, since nothing went before
            "0000000000000019"  // length
            "0803"
            "1002"
            "1801"
            "2001"
            "2801"
            "300a"  // MsgApp to 2 from 1, term 1, logTerm 1, index 10
            "3a09"
            "0800"
            "1001"
            "180b"
            "220161"  // the entry: type, term, index 11, data "a"
            "4009");  // commit

  b.Clear(0);
  encoder.Append(Append(1, 1, 11, 10, {{1, 12, 0, SharedBytes("b")}, {1, 13, 0, SharedBytes()}}), b);
  EXPECT_EQ(Hex(Bytes(b)),
            "01"                // entries that follow
            "0000000000000002"  // of them
            "0000000000000009"
            "0800"
            "1001"
            "180c"
            "220162"
            "0000000000000006"
            "0800"
            "1001"
            "180d"
            "000000000000000a");  // commit
}

TEST(MessageCodec, MsgAppStream_ShortFormOnlyWhereTheDecoderCanTell) {
  auto first_byte = [](StreamEncoder& e, const OutgoingMessage& m) {
    SendBuffer b;
    e.Append(m, b);
    return static_cast<int>(b.data()[0]);
  };
  StreamEncoder e(StreamKind::kMsgApp);
  EXPECT_EQ(first_byte(e, Append(3, 3, 10, 0, {{3, 11, 0, {}}})), 2);
  EXPECT_EQ(first_byte(e, Append(3, 3, 11, 0, {})), 1);  // empty: carries the commit index only
  EXPECT_EQ(first_byte(e, Append(3, 3, 11, 0, {{3, 12, 0, {}}})), 1);
  EXPECT_EQ(first_byte(e, Append(3, 3, 11, 0, {{3, 12, 0, {}}})), 2);  // sent again
  EXPECT_EQ(first_byte(e, Append(4, 3, 12, 0, {{4, 13, 0, {}}})), 2);  // new term
  EXPECT_EQ(first_byte(e, Append(4, 3, 13, 0, {})), 2);                // the entry before is of the old term
  EXPECT_EQ(first_byte(e, Append(4, 4, 13, 0, {})), 1);
}

// A run of appends and heartbeats, decoded in pieces of every size, gives the same messages.
TEST(MessageCodec, Decoder_AnySplit_SameMessages) {
  base::Random random(42);
  for (StreamKind kind : {StreamKind::kMsgApp, StreamKind::kMessage}) {
    StreamEncoder encoder(kind);
    SendBuffer b;
    std::vector<OutgoingMessage> sent;
    uint64_t index = 5, term = 1;
    for (int i = 0; i < 60; ++i) {
      if (random.Chance(0.3)) encoder.AppendHeartbeat(b);
      if (random.Chance(0.1)) ++term;
      if (random.Chance(0.1)) index -= random.Below(3);
      std::vector<OutgoingEntry> entries;
      for (uint64_t n = random.Below(4); n > 0; --n) {
        entries.push_back(
            {term, index + entries.size() + 1, 0, SharedBytes(std::string(random.Below(300), 'x'))});
      }
      sent.push_back(Append(term, term, index, index, entries));
      encoder.Append(sent.back(), b);
      index += entries.size();
    }
    std::string wire = Bytes(b);
    for (size_t piece : {size_t{1}, size_t{2}, size_t{7}, size_t{64}, size_t{1000}, wire.size()}) {
      StreamDecoder decoder(kind, 2, 1, kLimit);
      std::vector<raftpb::Message> got;
      for (size_t at = 0; at < wire.size(); at += piece) {
        ASSERT_TRUE(decoder.Feed(std::string_view(wire).substr(at, piece), &got).ok());
      }
      ASSERT_EQ(got.size(), sent.size());
      for (size_t i = 0; i < got.size(); ++i) {
        SendBuffer want, have;
        AppendEncoded(sent[i], want);
        AppendEncoded(ToOutgoing(std::move(got[i])), have);
        EXPECT_EQ(Hex(Bytes(have)), Hex(Bytes(want))) << "message " << i << ", pieces of " << piece;
      }
    }
  }
}

TEST(MessageCodec, Decoder_AcceptsEveryFieldWritten) {
  // As etcd writes it: zeros and an empty snapshot included.
  raftpb::Message m;
  m.set_type(raftpb::MsgAppResp);
  m.set_to(2);
  m.set_from(1);
  m.set_term(3);
  m.set_logterm(0);
  m.set_index(9);
  m.set_commit(0);
  m.mutable_snapshot()->mutable_metadata()->mutable_conf_state();
  m.set_reject(false);
  m.set_rejecthint(0);
  std::string body = m.SerializeAsString();
  std::string wire;
  base::AppendBigEndian64(wire, body.size());
  wire += body;
  StreamDecoder decoder(StreamKind::kMessage, 2, 1, kLimit);
  std::vector<raftpb::Message> got;
  ASSERT_TRUE(decoder.Feed(wire, &got).ok());
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].index(), 9u);
}

TEST(MessageCodec, Decoder_RefusesWhatIsNoFrame) {
  std::vector<raftpb::Message> got;
  auto feed = [&](StreamKind kind, const std::string& bytes) {
    StreamDecoder decoder(kind, 2, 1, kLimit);
    return decoder.Feed(bytes, &got);
  };
  auto be = [](uint64_t v) {
    std::string s;
    base::AppendBigEndian64(s, v);
    return s;
  };
  EXPECT_EQ(feed(StreamKind::kMsgApp, "\x07").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(feed(StreamKind::kMessage, be(kLimit + 1)).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(feed(StreamKind::kMessage, be(~uint64_t{0})).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(feed(StreamKind::kMsgApp, "\x02" + be(kLimit + 1)).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(feed(StreamKind::kMsgApp, "\x01" + be(1) + be(kLimit + 1)).code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(feed(StreamKind::kMessage, be(3) + "\xff\xff\xff").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(feed(StreamKind::kMsgApp, "\x01" + be(1) + be(2) + "\x08").code(), absl::StatusCode::kOk);
  EXPECT_EQ(feed(StreamKind::kMsgApp, "\x01" + be(1) + be(2) + "\xff\xff").code(),
            absl::StatusCode::kInvalidArgument);
  // A count without end: entries of no bytes still use up the limit.
  std::string endless = "\x01" + be(~uint64_t{0});
  for (int i = 0; i < 200'000; ++i) endless += be(0);
  EXPECT_EQ(feed(StreamKind::kMsgApp, endless).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(got.empty());
}

}  // namespace
}  // namespace kvd::net
