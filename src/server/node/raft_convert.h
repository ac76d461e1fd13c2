// Between the core's messages and those of the wire, in both directions. Payload bytes are shared or moved.
#pragma once

#include "net/peer/peer_transport.h"
#include "raft/types.h"

namespace raftpb {
class ConfState;
class Message;
}  // namespace raftpb

namespace kvd::server {

raft::Message FromWire(raftpb::Message&& message);
// REQUIRES: not a MsgSnap (ToWireSnapshot).
net::OutgoingMessage ToWire(raft::Message&& message);
// With the snapshot's index, term and membership, without data.
void ToWireSnapshot(const raft::Message& message, raftpb::Message* out);
void ToWire(const raft::ConfState& state, raftpb::ConfState* out);
raft::ConfState FromWire(const raftpb::ConfState& state);
// The bytes of raftpb.ConfState, as the log and the state machine keep it. Decoding bytes that are not one
// gives an empty state and false.
std::string EncodeConfState(const raft::ConfState& state);
bool DecodeConfState(std::string_view bytes, raft::ConfState* state);

}  // namespace kvd::server
