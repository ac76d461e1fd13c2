// The flags that every command takes, and their environment variables ETCDCTL_<NAME> and KVCTL_<NAME>.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "flag_set.h"

namespace kvd::ctl {

struct GlobalOptions {
  std::vector<std::string> endpoints = {"127.0.0.1:2379"};
  std::string write_out = "simple";
  bool hex = false;
  bool debug = false;
  absl::Duration dial_timeout = absl::Seconds(2);
  absl::Duration command_timeout = absl::Seconds(5);
  absl::Duration keepalive_time = absl::Seconds(2);
  absl::Duration keepalive_timeout = absl::Seconds(6);
  int64_t max_request_bytes = 0;  // 0: no limit on this side
  int64_t max_recv_bytes = 0;
  bool insecure_transport = true;
  bool insecure_skip_tls_verify = false;
  bool insecure_discovery = true;
  std::string cert, key, cacert;
  std::string user, password;  // user is NAME or NAME:PASSWORD
  std::string discovery_srv, discovery_srv_name;
  std::vector<std::string> discovery_dns_servers;

  void Define(FlagSet& flags);
};

// The value of a variable, if it is set.
using Environment = std::function<std::optional<std::string>(const std::string&)>;

// Sets the flags of `names` that the command line did not set from their variables; KVCTL_ wins over
// ETCDCTL_. Errors: kInvalidArgument for a wrong value, and for a flag that is set in both places.
absl::Status ApplyEnvironment(const std::vector<std::string>& names, const Environment& env, FlagSet& flags);

}  // namespace kvd::ctl
