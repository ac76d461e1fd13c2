#include "server/bootstrap/srv_cluster.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "base/log.h"
#include "base/strings.h"
#include "server/bootstrap/url_matcher.h"

namespace kvd::server::bootstrap_internal {
namespace {

class Collector {
 public:
  Collector(const Config& config, const BootstrapSeams& seams)
      : config_(config), seams_(seams), matcher_(seams) {}

  absl::Status Ask(std::string_view service, std::string_view scheme);
  absl::StatusOr<UrlsMap> Result();

 private:
  void Add(const net::SrvRecord& record, std::string_view scheme);
  std::string NextNumber();

  const Config& config_;
  const BootstrapSeams& seams_;
  UrlMatcher matcher_;
  UrlsMap members_;
  int next_number_ = 0;
  bool any_records_ = false;
  std::vector<std::string> failures_;    // of the queries
  std::vector<std::string> mismatches_;  // records that are this member's but for the scheme
};

absl::Status Collector::Ask(std::string_view service, std::string_view scheme) {
  const std::string suffix =
      config_.discovery_srv_name.empty() ? "" : base::StrCat("-", config_.discovery_srv_name);
  const std::string name = base::StrCat("_", service, suffix, "._tcp.", config_.discovery_srv);
  auto records = seams_.services(name);
  if (absl::IsCancelled(records.status())) return records.status();
  if (absl::IsInvalidArgument(records.status())) {
    return absl::FailedPreconditionError(
        base::StrCat("error setting up initial cluster: ", records.status().message()));
  }
  if (!records.ok()) {
    failures_.push_back(base::StrCat("error querying DNS SRV records for _", service, suffix, " ",
                                     records.status().message()));
    return absl::OkStatus();
  }
  any_records_ = true;
  for (const net::SrvRecord& record : *records) Add(record, scheme);
  return absl::OkStatus();
}

void Collector::Add(const net::SrvRecord& record, std::string_view scheme) {
  const bool v6 = absl::StrContains(record.target, ":");
  const Url url{std::string(scheme),
                base::StrCat(v6 ? "[" : "", record.target, v6 ? "]" : "", ":", record.port), ""};
  std::string name;
  for (const Url& advertised : config_.advertise_peer_urls) {
    Url same_scheme = url;
    same_scheme.scheme = advertised.scheme;
    if (!matcher_.Same(advertised, same_scheme)) continue;
    if (advertised.scheme != scheme) {
      mismatches_.push_back(base::StrCat("bootstrap at ", url.ToString(), " from DNS for ",
                                         scheme == "https" ? "etcd-server-ssl" : "etcd-server",
                                         " has scheme mismatch with expected peer ", advertised.ToString()));
      return;
    }
    name = config_.name;
  }
  if (name.empty()) name = NextNumber();
  Urls& urls = members_[name];
  if (std::find(urls.begin(), urls.end(), url) != urls.end()) return;
  urls.push_back(url);
  std::sort(urls.begin(), urls.end(), [](const Url& a, const Url& b) { return a.ToString() < b.ToString(); });
  KVD_LOG(kInfo, "got bootstrap from DNS", {"name", name}, {"peer-url", url.ToString()});
}

std::string Collector::NextNumber() {
  std::string number = base::StrCat(next_number_++);
  return number == config_.name ? base::StrCat(next_number_++) : number;
}

absl::StatusOr<UrlsMap> Collector::Result() {
  if (!any_records_) {
    return absl::FailedPreconditionError(
        base::StrCat("error setting up initial cluster: ", absl::StrJoin(failures_, "; ")));
  }
  if (members_.count(config_.name) == 0) {
    std::string reason = absl::StrJoin(mismatches_, "; ");
    if (reason.empty() && !matcher_.failure().ok()) reason = std::string(matcher_.failure().message());
    return absl::FailedPreconditionError(base::StrCat(
        "error setting up initial cluster: cannot find local etcd member \"", config_.name,
        "\" in SRV records",
        reason.empty() ? base::StrCat(": none has the host and port of ", Join(config_.advertise_peer_urls))
                       : base::StrCat(" (", reason, ")")));
  }
  return std::move(members_);
}

}  // namespace

absl::StatusOr<UrlsMap> MembersFromSrv(const Config& config, const BootstrapSeams& seams) {
  Collector collector(config, seams);
  if (absl::Status status = collector.Ask("etcd-server-ssl", "https"); !status.ok()) return status;
  if (absl::Status status = collector.Ask("etcd-server", "http"); !status.ok()) return status;
  return collector.Result();
}

}  // namespace kvd::server::bootstrap_internal
