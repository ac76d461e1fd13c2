#include "net/peer/message_codec.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/bytes.h"
#include "base/check.h"
#include "base/protobuf_wire.h"
#include "raftpb/raft.pb.h"

namespace kvd::net {
namespace {

constexpr char kFrameHeartbeat = 0;
constexpr char kFrameEntries = 1;
constexpr char kFrameMessage = 2;

// Tags of raftpb.Message and raftpb.Entry: field number << 3 | wire type.
enum : uint8_t {
  kEntryType = 0x08,
  kEntryTerm = 0x10,
  kEntryIndex = 0x18,
  kEntryData = 0x22,
  kType = 0x08,
  kTo = 0x10,
  kFrom = 0x18,
  kTerm = 0x20,
  kLogTerm = 0x28,
  kIndex = 0x30,
  kEntries = 0x3a,
  kCommit = 0x40,
  kReject = 0x50,
  kRejectHint = 0x58,
  kContext = 0x62,
  kVote = 0x68,
};

using base::PutVarint;
using base::VarintSize;

char* PutField(char* p, uint8_t tag, uint64_t v) {
  *p++ = static_cast<char>(tag);
  return PutVarint(p, v);
}

char* PutBytes(char* p, uint8_t tag, std::string_view bytes) {
  p = PutField(p, tag, bytes.size());
  if (!bytes.empty()) std::memcpy(p, bytes.data(), bytes.size());
  return p + bytes.size();
}

size_t FieldSize(uint64_t v) {
  return v == 0 ? 0 : 1 + VarintSize(v);
}

char* PutNonZero(char* p, uint8_t tag, uint64_t v) {
  return v == 0 ? p : PutField(p, tag, v);
}

size_t EntrySize(const OutgoingEntry& e) {
  size_t size = 3 + VarintSize(static_cast<uint32_t>(e.type)) + VarintSize(e.term) + VarintSize(e.index);
  if (!e.data.empty()) size += 1 + VarintSize(e.data.size()) + e.data.size();
  return size;
}

char* PutEntry(char* p, const OutgoingEntry& e) {
  p = PutField(p, kEntryType, static_cast<uint32_t>(e.type));
  p = PutField(p, kEntryTerm, e.term);
  p = PutField(p, kEntryIndex, e.index);
  return e.data.empty() ? p : PutBytes(p, kEntryData, e.data.view());
}

void AppendInteger(uint64_t v, SendBuffer& out) {
  base::StoreBigEndian64(out.Grow(8), v);
}

}  // namespace

size_t EncodedSize(const OutgoingMessage& m) {
  size_t size = 1 + VarintSize(static_cast<uint32_t>(m.type)) + FieldSize(m.to) + FieldSize(m.from) +
                FieldSize(m.term) + FieldSize(m.log_term) + FieldSize(m.index) + FieldSize(m.commit) +
                FieldSize(m.reject_hint) + FieldSize(m.vote) + (m.reject ? 2 : 0);
  for (const OutgoingEntry& e : m.entries) {
    size_t entry = EntrySize(e);
    size += 1 + VarintSize(entry) + entry;
  }
  if (!m.context.empty()) size += 1 + VarintSize(m.context.size()) + m.context.size();
  return size;
}

void AppendEncoded(const OutgoingMessage& m, SendBuffer& out) {
  size_t size = EncodedSize(m);
  char* p = out.Grow(size);
  const char* end = p + size;
  p = PutField(p, kType, static_cast<uint32_t>(m.type));
  p = PutNonZero(p, kTo, m.to);
  p = PutNonZero(p, kFrom, m.from);
  p = PutNonZero(p, kTerm, m.term);
  p = PutNonZero(p, kLogTerm, m.log_term);
  p = PutNonZero(p, kIndex, m.index);
  for (const OutgoingEntry& e : m.entries) {
    p = PutField(p, kEntries, EntrySize(e));
    p = PutEntry(p, e);
  }
  p = PutNonZero(p, kCommit, m.commit);
  p = PutNonZero(p, kReject, m.reject ? 1 : 0);
  p = PutNonZero(p, kRejectHint, m.reject_hint);
  if (!m.context.empty()) p = PutBytes(p, kContext, m.context);
  p = PutNonZero(p, kVote, m.vote);
  KVD_CHECK(p == end, "a message must fill exactly the size computed for it");
}

void StreamEncoder::AppendHeartbeat(SendBuffer& out) const {
  if (kind_ == StreamKind::kMsgApp) {
    *out.Grow(1) = kFrameHeartbeat;
    return;
  }
  OutgoingMessage heartbeat;
  heartbeat.type = raftpb::MsgHeartbeat;
  AppendInteger(EncodedSize(heartbeat), out);
  AppendEncoded(heartbeat, out);
}

void StreamEncoder::Append(const OutgoingMessage& message, SendBuffer& out) {
  if (kind_ == StreamKind::kMsgApp) {
    AppendMsgApp(message, out);
    return;
  }
  AppendInteger(EncodedSize(message), out);
  AppendEncoded(message, out);
}

void StreamEncoder::AppendMsgApp(const OutgoingMessage& m, SendBuffer& out) {
  KVD_CHECK(m.type == raftpb::MsgApp, "only appends go on the msgapp stream");
  if (term_ != 0 && m.index == index_ && m.log_term == term_ && m.term == term_) {
    *out.Grow(1) = kFrameEntries;
    AppendInteger(m.entries.size(), out);
    for (const OutgoingEntry& e : m.entries) {
      size_t size = EntrySize(e);
      AppendInteger(size, out);
      PutEntry(out.Grow(size), e);
    }
    AppendInteger(m.commit, out);
    index_ += m.entries.size();
    return;
  }
  *out.Grow(1) = kFrameMessage;
  AppendInteger(EncodedSize(m), out);
  AppendEncoded(m, out);
  term_ = m.term;
  index_ = m.entries.empty() ? m.index : m.entries.back().index;
}

StreamDecoder::StreamDecoder(StreamKind kind, uint64_t local, uint64_t remote, size_t max_message_bytes)
    : kind_(kind),
      local_(local),
      remote_(remote),
      max_message_bytes_(std::min(max_message_bytes, size_t{1} << 30)),  // protobuf counts in int
      step_(Start()) {}

StreamDecoder::~StreamDecoder() = default;

size_t StreamDecoder::Need() const {
  switch (step_) {
    case Step::kType:
      return 1;
    case Step::kMessage:
    case Step::kEntry:
      return length_;
    default:
      return 8;
  }
}

absl::Status StreamDecoder::Feed(std::string_view bytes, std::vector<raftpb::Message>* out) {
  // First complete what an earlier piece began, taking from this one only what is missing.
  while (!partial_.empty()) {
    size_t take = std::min(bytes.size(), Need() - partial_.size());
    partial_.append(bytes.substr(0, take));
    bytes.remove_prefix(take);
    if (partial_.size() < Need()) return absl::OkStatus();
    std::string whole;
    whole.swap(partial_);
    if (absl::Status s = Take(whole, out); !s.ok()) return s;
  }
  if (absl::Status s = Consume(&bytes, out); !s.ok()) return s;
  partial_.assign(bytes);
  return absl::OkStatus();
}

absl::Status StreamDecoder::Consume(std::string_view* bytes, std::vector<raftpb::Message>* out) {
  for (size_t need = Need(); bytes->size() >= need; need = Need()) {
    std::string_view step = bytes->substr(0, need);
    bytes->remove_prefix(need);
    if (absl::Status s = Take(step, out); !s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::Status StreamDecoder::SetLength(uint64_t length, Step next) {
  if (length > max_message_bytes_) {
    return absl::ResourceExhaustedError("a frame on a peer stream is larger than a message may be");
  }
  length_ = static_cast<size_t>(length);
  step_ = next;
  return absl::OkStatus();
}

absl::Status StreamDecoder::Take(std::string_view bytes, std::vector<raftpb::Message>* out) {
  switch (step_) {
    case Step::kType:
      if (bytes[0] == kFrameHeartbeat) return absl::OkStatus();
      if (bytes[0] == kFrameMessage) {
        step_ = Step::kMessageLength;
      } else if (bytes[0] == kFrameEntries) {
        step_ = Step::kCount;
      } else {
        return absl::InvalidArgumentError("unknown frame type on a msgapp stream");
      }
      return absl::OkStatus();
    case Step::kMessageLength:
      return SetLength(base::LoadBigEndian64(bytes.data()), Step::kMessage);
    case Step::kMessage:
      return TakeMessage(bytes, out);
    case Step::kCount:
      append_ = std::make_unique<raftpb::Message>();
      append_->set_type(raftpb::MsgApp);
      append_->set_from(remote_);
      append_->set_to(local_);
      append_->set_term(term_);
      append_->set_logterm(term_);
      append_->set_index(index_);
      entries_left_ = base::LoadBigEndian64(bytes.data());
      entries_bytes_ = 0;
      step_ = entries_left_ == 0 ? Step::kCommit : Step::kEntryLength;
      return absl::OkStatus();
    case Step::kEntryLength: {
      // An entry counts as at least its length field, so a count that lies cannot grow the message without
      // end.
      uint64_t length = base::LoadBigEndian64(bytes.data());
      if (absl::Status s = SetLength(length, Step::kEntry); !s.ok()) return s;
      entries_bytes_ += 8 + length_;
      if (entries_bytes_ > max_message_bytes_) {
        return absl::ResourceExhaustedError("an append on a peer stream is larger than a message may be");
      }
      return absl::OkStatus();
    }
    case Step::kEntry:
      return TakeEntry(bytes);
    case Step::kCommit:
      append_->set_commit(base::LoadBigEndian64(bytes.data()));
      out->push_back(std::move(*append_));
      append_.reset();
      step_ = Start();
      return absl::OkStatus();
  }
  return absl::InternalError("unreachable");
}

absl::Status StreamDecoder::TakeMessage(std::string_view bytes, std::vector<raftpb::Message>* out) {
  raftpb::Message m;
  if (!m.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return absl::InvalidArgumentError("a frame on a peer stream is not a message");
  }
  step_ = Start();
  if (kind_ == StreamKind::kMessage) {
    if (m.type() == raftpb::MsgHeartbeat && m.from() == 0 && m.to() == 0) return absl::OkStatus();
  } else {
    if (m.type() != raftpb::MsgApp)
      return absl::InvalidArgumentError("a msgapp stream carries another message");
    term_ = m.term();
    index_ = m.entries_size() > 0 ? m.entries(m.entries_size() - 1).index() : m.index();
  }
  out->push_back(std::move(m));
  return absl::OkStatus();
}

absl::Status StreamDecoder::TakeEntry(std::string_view bytes) {
  raftpb::Entry* e = append_->add_entries();
  if (!e->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return absl::InvalidArgumentError("a frame on a msgapp stream is not an entry");
  }
  ++index_;
  step_ = --entries_left_ == 0 ? Step::kCommit : Step::kEntryLength;
  return absl::OkStatus();
}

OutgoingMessage ToOutgoing(raftpb::Message&& m) {
  KVD_CHECK(m.type() != raftpb::MsgSnap, "snapshots are sent with SendSnapshot");
  OutgoingMessage out;
  out.type = m.type();
  out.to = m.to();
  out.from = m.from();
  out.term = m.term();
  out.log_term = m.logterm();
  out.index = m.index();
  out.commit = m.commit();
  out.vote = m.vote();
  out.reject_hint = m.rejecthint();
  out.reject = m.reject();
  out.context = std::move(*m.mutable_context());
  out.entries.reserve(static_cast<size_t>(m.entries_size()));
  for (raftpb::Entry& e : *m.mutable_entries()) {
    out.entries.push_back({e.term(), e.index(), e.type(), base::SharedBytes(std::move(*e.mutable_data()))});
  }
  return out;
}

}  // namespace kvd::net
