#include "options.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_replace.h"
#include "base/strings.h"
#include "go_format.h"

namespace kvd::ctl {

void GlobalOptions::Define(FlagSet& flags) {
  flags.StringList("endpoints", &endpoints, "client addresses of the members, tried in turn");
  flags.Bool("debug", &debug, "show what the client does on stderr");
  flags.String("write-out", &write_out, "output format (fields, json, protobuf, simple, table)", 'w');
  flags.Bool("hex", &hex, "print keys and values as \\xNN, and IDs in hexadecimal");
  flags.Duration("dial-timeout", &dial_timeout, "time to connect to one endpoint");
  flags.Duration("command-timeout", &command_timeout, "time for a command that is not a stream");
  flags.Duration("keepalive-time", &keepalive_time, "time between pings on a connection");
  flags.Duration("keepalive-timeout", &keepalive_timeout, "time that a ping waits for its answer");
  flags.Int64("max-request-bytes", &max_request_bytes, "largest request to send; 0: no limit");
  flags.Int64("max-recv-bytes", &max_recv_bytes, "largest response to take; 0: no limit");
  flags.Bool("insecure-transport", &insecure_transport,
             "plain text unless an endpoint or certificate says TLS");
  flags.Bool("insecure-discovery", &insecure_discovery, "take endpoints without TLS from DNS");
  flags.Bool("insecure-skip-tls-verify", &insecure_skip_tls_verify, "do not verify the server's certificate");
  flags.String("cert", &cert, "certificate of the client");
  flags.String("key", &key, "key of the client's certificate");
  flags.String("cacert", &cacert, "authorities that may sign the server's certificate");
  flags.String("user", &user, "username[:password]; asks for the password if there is none");
  flags.String("password", &password, "password of --user");
  flags.String("discovery-srv", &discovery_srv, "domain whose SRV records name the endpoints", 'd');
  flags.String("discovery-srv-name", &discovery_srv_name, "suffix of the service name in the SRV query");
  flags.StringList("discovery-dns-servers", &discovery_dns_servers,
                   "DNS servers to ask, address or address:port; empty: those of resolv.conf");
}

absl::Status ApplyEnvironment(const std::vector<std::string>& names, const Environment& env, FlagSet& flags) {
  for (const std::string& name : names) {
    const std::string suffix = absl::AsciiStrToUpper(absl::StrReplaceAll(name, {{"-", "_"}}));
    const bool on_command_line = flags.Changed(name);
    bool set = false;
    for (const char* prefix : {"KVCTL_", "ETCDCTL_"}) {
      const std::string variable = base::StrCat(prefix, suffix);
      const std::optional<std::string> value = env(variable);
      if (!value.has_value() || value->empty()) continue;
      if (on_command_line) {
        return absl::InvalidArgumentError(base::StrCat(
            "conflicting environment variable ", Quote(variable),
            " is shadowed by corresponding command-line flag (either unset environment variable or "
            "disable flag)"));
      }
      if (set) continue;
      if (absl::Status status = flags.Set(name, *value); !status.ok()) {
        return absl::InvalidArgumentError(
            base::StrCat("invalid value ", Quote(*value), " for ", variable, ": ", status.message()));
      }
      set = true;
    }
  }
  return absl::OkStatus();
}

}  // namespace kvd::ctl
