// Lists that are too long to be answered at once: made slice by slice on an executor of their own, ahead of
// what the client takes but by no more than a window, while its connection's thread sends what is made. Lists
// take turns by slices.
//
// A unary answer begins with its length, which the store knows before it reads the records; it is sent as it
// is read, like a streamed one.
//
// Threads: the functions on the connection's I/O thread; their work, if it takes long, on `lists`.
// Ownership: a list holds what it reads until its client has it, or its call ends.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/executor.h"
#include "net/grpc_call.h"
#include "server/node/node.h"

namespace kvd::server {

// Answers a Range. Short ones are read and answered before this returns.
void AnswerRange(Node& node, base::Executor& lists, const net::UnaryCall& call);

// One RangeStream: chunks that start small and grow up to `chunk_bytes`, or to that of one record.
class ListStream : public net::StreamHandler {
 public:
  // REQUIRES: `request` is a RangeRequest.
  static std::shared_ptr<ListStream> New(Node& node, base::Executor& lists,
                                         std::shared_ptr<net::StreamCall> call, std::string request,
                                         uint64_t chunk_bytes);
  virtual void Begin() = 0;  // once
};

}  // namespace kvd::server
