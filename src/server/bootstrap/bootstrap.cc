#include "server/bootstrap/bootstrap.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_join.h"
#include "base/check.h"
#include "base/file_system.h"
#include "base/log.h"
#include "base/strings.h"
#include "server/bootstrap/recovery.h"

namespace kvd::server {
namespace {

constexpr Duration kAskBeforeNew = std::chrono::seconds(1);
constexpr Duration kAskBeforeJoin = std::chrono::seconds(10);
constexpr Duration kAskVersion = std::chrono::seconds(5);

absl::Status Refused(std::string_view message) {
  return absl::FailedPreconditionError(base::ToAbsl(message));
}

UrlsMap InitialMap(const Config& config) {
  auto map = ParseInitialCluster(config.initial_cluster);
  KVD_CHECK(map.ok(), "the settings have been validated");
  return *std::move(map);
}

// The same URLs, by text or because their hosts are the same machines.
class UrlMatcher {
 public:
  explicit UrlMatcher(const BootstrapSeams& seams) : seams_(seams) {}

  bool Same(std::vector<std::string> a, std::vector<std::string> b) {
    if (a.size() != b.size()) return false;
    std::sort(a.begin(), a.end());
    std::sort(b.begin(), b.end());
    if (a == b) return true;
    std::vector<std::string> x = Resolved(a);
    std::vector<std::string> y = Resolved(b);
    std::sort(x.begin(), x.end());
    std::sort(y.begin(), y.end());
    return failure_.ok() && x == y;
  }
  // What the resolver said, if it failed.
  const absl::Status& failure() const { return failure_; }

 private:
  std::vector<std::string> Resolved(const std::vector<std::string>& urls) {
    std::vector<std::string> out;
    for (const std::string& text : urls) {
      auto url = ParseUrl(text);
      if (!url.ok() || url->IsUnix()) {
        out.push_back(text);
        continue;
      }
      auto addresses = seams_.resolve(url->Hostname());
      if (!addresses.ok()) {
        failure_ = addresses.status();
        return out;
      }
      out.push_back(base::StrCat(url->scheme, "://", absl::StrJoin(*addresses, "|"), ":", url->Port()));
    }
    return out;
  }

  const BootstrapSeams& seams_;
  absl::Status failure_;
};

// Those of `urls` that are not in `others`, each with the local name before it.
std::string Missing(const std::string& name, const Urls& urls, const Urls& others) {
  std::vector<std::string> missing;
  for (const Url& url : urls) {
    if (std::find(others.begin(), others.end(), url) == others.end()) {
      missing.push_back(base::StrCat(name, "=", url.ToString()));
    }
  }
  return absl::StrJoin(missing, ",");
}

absl::Status CheckLocalName(const Config& config, const UrlsMap& map) {
  if (map.count(config.name) != 0) return absl::OkStatus();
  return Refused(
      base::StrCat("couldn't find local name \"", config.name, "\" in the initial cluster configuration"));
}

absl::Status CheckDuplicates(const UrlsMap& map) {
  std::set<std::string> seen;
  for (const auto& [name, urls] : map) {
    for (const Url& url : urls) {
      if (!seen.insert(url.ToString()).second) {
        return Refused(base::StrCat("initial cluster ", ToString(map), " has duplicate url"));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status CheckAdvertised(const Config& config, const UrlsMap& map, const BootstrapSeams& seams) {
  const Urls& initial = map.at(config.name);
  const Urls& advertised = config.advertise_peer_urls;
  UrlMatcher matcher(seams);
  if (matcher.Same(ToStrings(initial), ToStrings(advertised))) return absl::OkStatus();
  if (std::string missing = Missing(config.name, initial, advertised); !missing.empty()) {
    return Refused(
        base::StrCat("--initial-cluster has ", missing,
                     " but missing from --initial-advertise-peer-urls=", Join(advertised),
                     matcher.failure().ok() ? "" : base::StrCat(" (", matcher.failure().message(), ")")));
  }
  return Refused(base::StrCat("--initial-advertise-peer-urls has ", Missing(config.name, advertised, initial),
                              " but missing from --initial-cluster=", ToString(map)));
}

std::vector<std::string> OthersUrls(const std::vector<Member>& members, std::string_view local_name) {
  std::vector<std::string> urls;
  for (const Member& member : members) {
    if (member.name != local_name) urls.insert(urls.end(), member.peer_urls.begin(), member.peer_urls.end());
  }
  std::sort(urls.begin(), urls.end());
  return urls;
}

const Member* ByName(const std::vector<Member>& members, std::string_view name) {
  for (const Member& member : members) {
    if (member.name == name) return &member;
  }
  return nullptr;
}

absl::StatusOr<BootstrapResult> StartNew(const Config& config, const BootstrapSeams& seams) {
  const UrlsMap map = InitialMap(config);
  if (map.empty()) return Refused("initial cluster unset and no discovery endpoints found");
  if (absl::Status status = CheckLocalName(config, map); !status.ok()) return status;
  if (absl::Status status = CheckAdvertised(config, map, seams); !status.ok()) return status;
  if (absl::Status status = CheckDuplicates(map); !status.ok()) return status;
  auto members = InitialMembers(config);
  if (!members.ok()) return members.status();

  BootstrapResult result;
  result.mode = StartMode::kNew;
  result.name = config.name;
  result.local_id = ByName(*members, config.name)->id;
  std::vector<uint64_t> ids;
  for (const Member& member : *members) ids.push_back(member.id);
  result.cluster_id = ClusterIdOf(ids);

  // A member that already runs elsewhere, or has lost its data, must not start anew under the same ID: it
  // would vote twice in one term.
  if (std::vector<std::string> others = OthersUrls(*members, config.name); !others.empty()) {
    if (auto remote = seams.fetch_cluster(others, kAskBeforeNew); remote.ok()) {
      for (const Member& member : remote->members) {
        // One that was added again at run time has another ID, and the same URLs.
        const bool ours = member.id == result.local_id || member.peer_urls == ToStrings(map.at(config.name));
        if (ours && !member.client_urls.empty()) {
          return Refused(base::StrCat("member ", base::HexId(member.id),
                                      " has already been bootstrapped, and its data directory is empty; to "
                                      "get it back: `",
                                      RecoverCommand(config, remote->members, member.id),
                                      "`, which shows how to start it again"));
        }
      }
    }
  }
  result.members = *std::move(members);
  KVD_LOG(kInfo, "starting local member", {"local-member-id", base::HexId(result.local_id)},
          {"cluster-id", base::HexId(result.cluster_id)});
  return result;
}

// Whether this version can serve the cluster: at least one other member has a decided version, and none is
// newer.
bool Compatible(const RemoteCluster& remote, uint64_t local_id, const BootstrapSeams& seams) {
  bool known = false;
  for (const Member& member : remote.members) {
    if (member.id == local_id) continue;
    auto version = seams.fetch_version(member.peer_urls, kAskVersion);
    if (!version.ok() || !version->has_value()) {
      KVD_LOG(kWarn, "failed to get version of remote peer", {"remote-member-id", base::HexId(member.id)},
              {"error", version.status()});
      continue;
    }
    if (**version < kMinClusterVersion || **version > ServerVersion().Cluster()) {
      KVD_LOG(kWarn, "cluster version of remote member is not compatible",
              {"remote-member-id", base::HexId(member.id)}, {"cluster-version", (*version)->ToString()},
              {"local-member-version", ServerVersion().ToString()});
      return false;
    }
    known = true;
  }
  return known;
}

// The running cluster's member for each of ours, by peer URLs. Errors as etcd's.
absl::StatusOr<const Member*> FindLocal(const std::vector<Member>& ours, const RemoteCluster& remote,
                                        const std::string& name, const BootstrapSeams& seams) {
  if (ours.size() != remote.members.size()) return Refused("member count is unequal");
  const Member* local = nullptr;
  for (const Member& existing : remote.members) {
    UrlMatcher matcher(seams);
    const Member* match = nullptr;
    for (const Member& our : ours) {
      if (matcher.Same(existing.peer_urls, our.peer_urls)) {
        match = &our;
        break;
      }
    }
    if (match == nullptr) {
      return Refused(base::StrCat("PeerURLs: no match found for existing member (", base::HexId(existing.id),
                                  ", [", absl::StrJoin(existing.peer_urls, " "), "]), last resolver error (",
                                  matcher.failure().message(), ")"));
    }
    if (match->name == name) local = &existing;
  }
  if (local == nullptr) {
    return Refused(base::StrCat("the running cluster has no member with the peer URLs of \"", name, "\""));
  }
  return local;
}

absl::StatusOr<BootstrapResult> Join(const Config& config, const BootstrapSeams& seams) {
  const UrlsMap map = InitialMap(config);
  if (absl::Status status = CheckLocalName(config, map); !status.ok()) return status;
  if (absl::Status status = CheckDuplicates(map); !status.ok()) return status;
  auto ours = InitialMembers(config);
  if (!ours.ok()) return ours.status();
  auto remote = seams.fetch_cluster(OthersUrls(*ours, config.name), kAskBeforeJoin);
  if (!remote.ok()) {
    return absl::Status(
        remote.status().code(),
        base::ToAbsl(base::StrCat("cannot fetch cluster info from peer urls: ", remote.status().message())));
  }
  auto local = FindLocal(*ours, *remote, config.name, seams);
  if (!local.ok()) {
    return Refused(base::StrCat("error validating peerURLs of cluster ", base::HexId(remote->cluster_id),
                                ": ", local.status().message()));
  }
  if ((*local)->IsStarted()) {
    return Refused(base::StrCat(
        "member ", base::HexId((*local)->id),
        " has already been bootstrapped, and its data directory is empty: starting it again "
        "without its data could lose writes; to get it back: `",
        RecoverCommand(config, remote->members, (*local)->id), "`, which shows how to start it again"));
  }
  if (!Compatible(*remote, (*local)->id, seams)) return Refused("incompatible with current running cluster");

  BootstrapResult result;
  result.mode = StartMode::kJoin;
  result.name = config.name;
  result.local_id = (*local)->id;
  result.cluster_id = remote->cluster_id;
  result.members = remote->members;
  std::sort(result.members.begin(), result.members.end(),
            [](const Member& a, const Member& b) { return a.id < b.id; });
  KVD_LOG(kInfo, "joining a running cluster", {"local-member-id", base::HexId(result.local_id)},
          {"cluster-id", base::HexId(result.cluster_id)});
  return result;
}

}  // namespace

absl::StatusOr<std::vector<Member>> InitialMembers(const Config& config) {
  std::vector<Member> members;
  for (const auto& [name, urls] : InitialMap(config)) {
    Member member;
    member.name = name;
    member.peer_urls = ToStrings(urls);
    member.id = BootstrapMemberId(member.peer_urls, config.initial_cluster_token);
    for (const Member& other : members) {
      if (other.id == member.id) {
        return Refused(base::StrCat("member exists with identical ID ", base::HexId(member.id), " (\"",
                                    other.name, "\" and \"", name, "\")"));
      }
    }
    members.push_back(std::move(member));
  }
  std::sort(members.begin(), members.end(), [](const Member& a, const Member& b) { return a.id < b.id; });
  return members;
}

absl::StatusOr<BootstrapResult> Bootstrap(const Config& config, const BootstrapSeams& seams) {
  if (absl::Status status = PrepareDataDir(config, *seams.fs); !status.ok()) return status;
  auto have_log = seams.log_exists(config.WalDir());
  if (!have_log.ok()) return have_log.status();
  auto have_backend = seams.fs->Exists(config.BackendDir());
  if (!have_backend.ok()) return have_backend.status();
  if (*have_log) {
    BootstrapResult result;
    result.mode = StartMode::kRestart;
    result.name = config.name;
    result.backend_missing = !*have_backend;
    return result;
  }
  return config.initial_cluster_state == ClusterState::kNew ? StartNew(config, seams) : Join(config, seams);
}

absl::Status BackendMissing(const Config& config) {
  return Refused(base::StrCat("database (", config.BackendDir(),
                              ") of the backend is missing, and the log in ", config.WalDir(),
                              " does not reach back to the first entry; restore both, or remove the "
                              "member and add it anew"));
}

absl::Status CheckIdentity(const Config& config, uint64_t local_id, uint64_t cluster_id,
                           const std::vector<Member>& members) {
  auto foreign = [&](const Member& owner) {
    return Refused(base::StrCat(
        "the data directory ", config.data_dir, " belongs to member ", base::HexId(local_id), " (\"",
        owner.name, "\", ", absl::StrJoin(owner.peer_urls, ","), ") of cluster ", base::HexId(cluster_id),
        ", not to \"", config.name, "\": --name, --initial-advertise-peer-urls or --data-dir is wrong"));
  };
  // The members' published addresses decide: what this process advertises is another's, and not its own.
  const std::vector<std::string> advertised = ToStrings(config.advertise_peer_urls);
  auto advertises = [&advertised](const Member& member) {
    for (const std::string& url : member.peer_urls) {
      if (std::find(advertised.begin(), advertised.end(), url) != advertised.end()) return true;
    }
    return false;
  };
  auto urls_of = [](const std::vector<Member>& list) {
    std::vector<std::string> urls;
    for (const Member& member : list)
      urls.insert(urls.end(), member.peer_urls.begin(), member.peer_urls.end());
    return absl::StrJoin(urls, ",");
  };
  const Member* owner = nullptr;
  bool anothers = false;
  for (const Member& member : members) {
    if (member.id == local_id) {
      owner = &member;
    } else if (advertises(member)) {
      anothers = true;
    }
  }
  if (owner != nullptr) {
    if (advertises(*owner)) return absl::OkStatus();
    if (anothers) return foreign(*owner);
    // Its URLs have changed, or it is a member of another cluster: then --initial-cluster names none of the
    // others.
    bool names_others = false;
    bool knows_one = false;
    for (const auto& [name, urls] : InitialMap(config)) {
      if (name == config.name) continue;
      names_others = true;
      for (const Member& member : members) {
        for (const std::string& url : ToStrings(urls)) {
          knows_one = knows_one || std::count(member.peer_urls.begin(), member.peer_urls.end(), url) > 0;
        }
      }
    }
    if (names_others && !knows_one) {
      return Refused(base::StrCat(
          "the data directory ", config.data_dir, " belongs to member ", base::HexId(local_id), " (\"",
          owner->name, "\") of cluster ", base::HexId(cluster_id), " (", urls_of(members),
          "), and --initial-cluster names other members: --data-dir is wrong, or it is left from another "
          "cluster; to join this one: `",
          RecoverCommand(config, {}, 0), "`"));
    }
    KVD_LOG(kWarn,
            "this member advertises other peer URLs than the cluster knows; the others do not reach it there "
            "until they are told",
            {"registered", owner->peer_urls}, {"advertised", advertised},
            {"command", base::StrCat("kvctl member update ", base::HexId(local_id),
                                     " --peer-urls=", absl::StrJoin(advertised, ","))});
    return absl::OkStatus();
  }

  // Nothing published yet: the IDs that --initial-cluster gives.
  auto initial = InitialMembers(config);
  if (!initial.ok()) return absl::OkStatus();
  for (const Member& member : *initial) {
    if (member.id == local_id && member.name != config.name && ByName(*initial, config.name) != nullptr) {
      return foreign(member);
    }
  }
  return absl::OkStatus();
}

}  // namespace kvd::server
