#include "server/node/raft_convert.h"

#include <utility>

#include "raftpb/raft.pb.h"

namespace kvd::server {
namespace {

template <typename Repeated>
std::vector<raft::NodeId> Ids(const Repeated& from) {
  return std::vector<raft::NodeId>(from.begin(), from.end());
}

}  // namespace

raft::ConfState FromWire(const raftpb::ConfState& state) {
  raft::ConfState out;
  out.voters = Ids(state.voters());
  out.learners = Ids(state.learners());
  out.voters_outgoing = Ids(state.voters_outgoing());
  out.learners_next = Ids(state.learners_next());
  out.auto_leave = state.auto_leave();
  return out;
}

void ToWire(const raft::ConfState& state, raftpb::ConfState* out) {
  out->mutable_voters()->Add(state.voters.begin(), state.voters.end());
  out->mutable_learners()->Add(state.learners.begin(), state.learners.end());
  out->mutable_voters_outgoing()->Add(state.voters_outgoing.begin(), state.voters_outgoing.end());
  out->mutable_learners_next()->Add(state.learners_next.begin(), state.learners_next.end());
  out->set_auto_leave(state.auto_leave);
}

std::string EncodeConfState(const raft::ConfState& state) {
  raftpb::ConfState message;
  ToWire(state, &message);
  return message.SerializeAsString();
}

bool DecodeConfState(std::string_view bytes, raft::ConfState* state) {
  raftpb::ConfState message;
  *state = {};
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return false;
  *state = FromWire(message);
  return true;
}

raft::Message FromWire(raftpb::Message&& message) {
  raft::Message out;
  out.type = static_cast<raft::MessageType>(message.type());
  out.reject = message.reject();
  out.to = message.to();
  out.from = message.from();
  out.term = message.term();
  out.log_term = message.logterm();
  out.index = message.index();
  out.commit = message.commit();
  out.reject_hint = message.rejecthint();
  out.vote = message.vote();
  out.context = std::move(*message.mutable_context());
  out.entries.reserve(message.entries_size());
  for (raftpb::Entry& entry : *message.mutable_entries()) {
    raft::Entry& e = out.entries.emplace_back();
    e.term = entry.term();
    e.index = entry.index();
    e.type = static_cast<raft::EntryType>(entry.type());
    e.data = base::SharedBytes(std::move(*entry.mutable_data()));
  }
  if (message.has_snapshot() && message.snapshot().metadata().index() != 0) {
    auto snapshot = std::make_shared<raft::Snapshot>();
    snapshot->meta.index = message.snapshot().metadata().index();
    snapshot->meta.term = message.snapshot().metadata().term();
    snapshot->meta.conf_state = FromWire(message.snapshot().metadata().conf_state());
    snapshot->data = base::SharedBytes(std::move(*message.mutable_snapshot()->mutable_data()));
    out.snapshot = std::move(snapshot);
  }
  return out;
}

net::OutgoingMessage ToWire(raft::Message&& message) {
  net::OutgoingMessage out;
  out.type = static_cast<int32_t>(message.type);
  out.to = message.to;
  out.from = message.from;
  out.term = message.term;
  out.log_term = message.log_term;
  out.index = message.index;
  out.commit = message.commit;
  out.vote = message.vote;
  out.reject_hint = message.reject_hint;
  out.reject = message.reject;
  out.context = std::move(message.context);
  out.entries.reserve(message.entries.size());
  for (raft::Entry& entry : message.entries) {
    out.entries.push_back({entry.term, entry.index, static_cast<int32_t>(entry.type), std::move(entry.data)});
  }
  return out;
}

void ToWireSnapshot(const raft::Message& message, raftpb::Message* out) {
  out->set_type(raftpb::MsgSnap);
  out->set_to(message.to);
  out->set_from(message.from);
  out->set_term(message.term);
  out->set_logterm(message.log_term);
  out->set_index(message.index);
  out->set_commit(message.commit);
  out->set_vote(message.vote);
  out->set_reject(message.reject);
  out->set_rejecthint(message.reject_hint);
  if (message.snapshot != nullptr) {
    raftpb::SnapshotMetadata* meta = out->mutable_snapshot()->mutable_metadata();
    meta->set_index(message.snapshot->meta.index);
    meta->set_term(message.snapshot->meta.term);
    ToWire(message.snapshot->meta.conf_state, meta->mutable_conf_state());
  }
}

}  // namespace kvd::server
