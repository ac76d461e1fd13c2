// HTTP/1.1 on one connection: requests one after the other, pipelined ones included.
#pragma once

#include <memory>

#include "net/connection.h"

namespace kvd::net {

std::unique_ptr<Session> NewHttp1Session(Connection& connection);

}  // namespace kvd::net
