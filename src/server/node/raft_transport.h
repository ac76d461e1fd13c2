// Where the driver's messages go: the peer transport in the process (peer_link.h), a modelled network in a
// test.
#pragma once

#include <vector>

#include "raft/types.h"

namespace kvd::server {

class RaftTransport {
 public:
  virtual ~RaftTransport() = default;
  // Takes messages for any members, in order. Any thread; never blocks; a message that cannot be sent is
  // dropped and reported through RaftDriver::ReportUnreachable. A MsgSnap is completed with its database by
  // the transport's owner and its end reported through RaftDriver::ReportSnapshot.
  virtual void Send(std::vector<raft::Message> messages) = 0;
};

}  // namespace kvd::server
