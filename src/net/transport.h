// The byte stream under a connection: a plain socket now, a TLS session over one in the same shape. Reads and
// writes never block; the caller waits for readiness.
//
// Thread-safety: thread-compatible, on the connection's I/O thread. Handlers of a wait that was cut off by
// Close are still called.
#pragma once

#include <sys/uio.h>

#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>

namespace kvd::net {

struct IoResult {
  enum Kind { kDone, kWouldBlock, kEnd } kind;  // kEnd: the peer closed, or an error
  size_t bytes = 0;                             // with kDone: at least 1
};

class Transport {
 public:
  virtual ~Transport() = default;
  virtual IoResult Read(char* data, size_t size) = 0;
  virtual IoResult Write(const iovec* ranges, int count) = 0;
  // `done` is called from the event loop once reading (writing) may get on. One wait of each kind at a time.
  virtual void WaitReadable(std::function<void()> done) = 0;
  virtual void WaitWritable(std::function<void()> done) = 0;
  // Ends our side; the peer sees the end of the stream after what was written.
  virtual void ShutdownWrite() = 0;
  virtual void Close() = 0;
};

using StreamSocket = boost::asio::generic::stream_protocol::socket;

// "address:port", or "@" for a Unix domain socket.
std::string PeerName(const StreamSocket& socket);

std::unique_ptr<Transport> NewPlainTransport(StreamSocket socket);

}  // namespace kvd::net
