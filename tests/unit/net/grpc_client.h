// A gRPC client for tests: the C++ library's generic stub on a completion queue, one operation at a time.
#pragma once

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <utility>

#include "support/channel.h"

namespace kvd::net {

inline grpc::ByteBuffer ToBuffer(const std::string& bytes) {
  grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

inline std::string ToString(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string bytes;
  if (!buffer.Dump(&slices).ok()) return bytes;
  for (const grpc::Slice& s : slices) bytes.append(reinterpret_cast<const char*>(s.begin()), s.size());
  return bytes;
}

class GrpcClient {
 public:
  explicit GrpcClient(uint16_t port, const grpc::ChannelArguments& arguments = {}) {
    channel_ = support::Connect("127.0.0.1:" + std::to_string(port), arguments);
    stub_ = std::make_unique<grpc::GenericStub>(channel_);
  }

  grpc::Channel& channel() { return *channel_; }
  grpc::GenericStub& stub() { return *stub_; }

  grpc::Status Unary(const std::string& method, const std::string& request, std::string* reply,
                     grpc::ClientContext* context) {
    grpc::CompletionQueue queue;
    grpc::ByteBuffer buffer;
    grpc::Status status;
    auto call = stub_->PrepareUnaryCall(context, method, ToBuffer(request), &queue);
    call->StartCall();
    call->Finish(&buffer, &status, this);
    void* tag;
    bool ok;
    queue.Next(&tag, &ok);
    if (reply != nullptr) *reply = ToString(buffer);
    return status;
  }
  grpc::Status Unary(const std::string& method, const std::string& request, std::string* reply = nullptr) {
    grpc::ClientContext context;
    return Unary(method, request, reply, &context);
  }

 private:
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<grpc::GenericStub> stub_;
};

class GrpcStream {
 public:
  GrpcStream(GrpcClient& client, const std::string& method) {
    call_ = client.stub().PrepareCall(&context_, method, &queue_);
    call_->StartCall(this);
    started_ = Wait();
  }
  ~GrpcStream() {
    if (!finished_) {
      context_.TryCancel();
      Finish();
    }
    queue_.Shutdown();
    void* tag;
    bool ok;
    while (queue_.Next(&tag, &ok)) {
    }
  }
  grpc::ClientContext& context() { return context_; }
  bool started() const { return started_; }
  bool Write(const std::string& message) {
    call_->Write(ToBuffer(message), this);
    return Wait();
  }
  bool WritesDone() {
    call_->WritesDone(this);
    return Wait();
  }
  bool Read(std::string* message) {
    grpc::ByteBuffer buffer;
    call_->Read(&buffer, this);
    bool ok = Wait();
    if (ok) *message = ToString(buffer);
    return ok;
  }
  grpc::Status Finish() {
    grpc::Status status;
    call_->Finish(&status, this);
    Wait();
    finished_ = true;
    return status;
  }

 private:
  bool Wait() {
    void* tag;
    bool ok = false;
    return queue_.Next(&tag, &ok) && ok;
  }

  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
  bool started_ = false;
  bool finished_ = false;
};

}  // namespace kvd::net
