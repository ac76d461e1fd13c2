// The byte stream under a connection: a plain socket, or a TLS session over one. Reads and writes never
// block; the caller waits for readiness.
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

class TlsContext;

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

// For a client that is to speak TLS. The handshake is a part of the first reads, which end (and say why in
// the log) if it fails. `http`: HTTP/1.1 may be agreed on, too. Null if there is no certificate to serve
// with.
std::unique_ptr<Transport> NewTlsTransport(StreamSocket socket, const TlsContext& context, bool http,
                                           const std::string& peer);

// An accepted socket as every transport has it: it does not block, sends at once and probes a silent peer.
void TuneAccepted(StreamSocket& socket);

}  // namespace kvd::net
