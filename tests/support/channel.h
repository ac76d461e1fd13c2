// Channels of gRPC's C++ library to a member on this machine.
//
// Thread-safety: functions without state; any thread.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/support/channel_arguments.h>

#include <chrono>
#include <memory>
#include <string>

namespace kvd::support {

// A connection of its own, in the clear, without limits on sizes and past every proxy.
std::shared_ptr<grpc::Channel> Connect(const std::string& endpoint, grpc::ChannelArguments arguments = {});

// For Connect: a lost connection is tried again within 200 ms, and each try has `patience` to come about.
grpc::ChannelArguments ReconnectSoon(std::chrono::milliseconds patience);

}  // namespace kvd::support
