#include "server/bootstrap/bootstrap.h"

#include <algorithm>
#include <set>

#include "absl/strings/escaping.h"
#include "absl/strings/str_join.h"
#include "base/check.h"
#include "base/file_system.h"
#include "base/log.h"
#include "base/strings.h"
#include "server/bootstrap/discovery.h"
#include "server/bootstrap/recovery.h"
#include "server/bootstrap/srv_cluster.h"
#include "server/bootstrap/url_matcher.h"

namespace kvd::server {
namespace {

using bootstrap_internal::MembersFromSrv;
using bootstrap_internal::UrlMatcher;

constexpr Duration kAskBeforeNew = std::chrono::seconds(1);
constexpr Duration kAskBeforeJoin = std::chrono::seconds(10);
constexpr Duration kAskVersion = std::chrono::seconds(5);
constexpr Duration kUndecidedPause = std::chrono::milliseconds(200);
constexpr int kAskUndecided = 25;
constexpr size_t kQuoted = 200;  // bytes of another's text in a message

absl::Status Refused(std::string_view message) {
  return absl::FailedPreconditionError(base::ToAbsl(message));
}

// What the members' IDs are made of beside their URLs.
const std::string& TokenOf(const Config& config) {
  if (!config.discovery_url.empty()) return config.discovery_url;
  return config.discovery.endpoints.empty() ? config.initial_cluster_token : config.discovery.token;
}

UrlsMap StaticMap(const Config& config) {
  auto map = ParseInitialCluster(config.initial_cluster);
  KVD_CHECK(map.ok(), "the settings have been validated");
  return *std::move(map);
}

// The members by name, as far as they are known before a discovery service is asked.
absl::StatusOr<UrlsMap> InitialMap(const Config& config, const BootstrapSeams& seams) {
  if (config.ShouldDiscover()) return UrlsMap{{config.name, config.advertise_peer_urls}};
  if (!config.discovery_srv.empty()) return MembersFromSrv(config, seams);
  return StaticMap(config);
}

absl::StatusOr<std::vector<Member>> MembersOf(const UrlsMap& map, const std::string& token) {
  std::vector<Member> members;
  for (const auto& [name, urls] : map) {
    Member member;
    member.name = name;
    member.peer_urls = ToStrings(urls);
    member.id = BootstrapMemberId(member.peer_urls, token);
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

absl::Status CheckDuplicates(std::string_view what, const UrlsMap& map) {
  std::set<std::string> seen;
  for (const auto& [name, urls] : map) {
    for (const Url& url : urls) {
      if (!seen.insert(url.ToString()).second) {
        return Refused(base::StrCat(what, " cluster ", ToString(map), " has duplicate url"));
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

// A member that already runs elsewhere, or has lost its data, must not start anew under the same ID: it would
// vote twice in one term.
absl::Status CheckNotBootstrapped(const Config& config, const std::vector<Member>& members, uint64_t local_id,
                                  const BootstrapSeams& seams) {
  const std::vector<std::string> others = OthersUrls(members, config.name);
  if (others.empty()) return absl::OkStatus();
  auto remote = seams.fetch_cluster(others, kAskBeforeNew);
  if (!remote.ok()) return absl::IsCancelled(remote.status()) ? remote.status() : absl::OkStatus();
  const Member* own = ByName(members, config.name);
  for (const Member& member : remote->members) {
    // One that was added again at run time has another ID, and the same URLs.
    const bool ours = member.id == local_id || member.peer_urls == own->peer_urls;
    if (ours && !member.client_urls.empty()) {
      return Refused(base::StrCat(
          "member ", base::HexId(member.id),
          " has already been bootstrapped, and its data directory is empty; to get it "
          "back: `",
          RecoverCommand(config, remote->members, member.id), "`, which shows how to start it again"));
    }
  }
  return absl::OkStatus();
}

// The members that have registered, each checked against what it must have registered as.
absl::StatusOr<UrlsMap> ReadEntries(const Config& config,
                                    const std::vector<DiscoveryService::Entry>& entries) {
  UrlsMap all;
  for (const DiscoveryService::Entry& entry : entries) {
    auto map = ParseInitialCluster(entry.value);
    const std::string registered_id = absl::CEscape(entry.id.substr(0, kQuoted));
    if (!map.ok() || map->size() != 1) {
      return Refused(base::StrCat("discovery: invalid peer URL (", registered_id, " has registered \"",
                                  absl::CEscape(entry.value.substr(0, kQuoted)), "\")"));
    }
    const auto& [name, urls] = *map->begin();
    const std::string id = base::HexId(BootstrapMemberId(ToStrings(urls), TokenOf(config)));
    if (id != entry.id) {
      return Refused(base::StrCat("discovery: member \"", name, "\" has registered as ", registered_id,
                                  ", but its peer URLs and this token make it ", id,
                                  ": all members must be given the same discovery URL or token"));
    }
    if (!all.emplace(name, urls).second) {
      return Refused(base::StrCat("discovery: found duplicate name \"", name, "\""));
    }
  }
  return all;
}

absl::StatusOr<UrlsMap> Discover(const Config& config, uint64_t local_id, const UrlsMap& self,
                                 const BootstrapSeams& seams) {
  std::unique_ptr<DiscoveryService> service = seams.discovery(config);
  auto entries = JoinDiscovery(*service, base::HexId(local_id), ToString(self), seams.pause);
  auto map = entries.ok() ? ReadEntries(config, *entries) : absl::StatusOr<UrlsMap>(entries.status());
  if (map.ok() && map->count(config.name) == 0) {
    map = Refused(base::StrCat("discovery: \"", config.name, "\" is listed under another name"));
  }
  if (!map.ok() && !absl::IsCancelled(map.status())) {
    return Refused(base::StrCat("failed to join discovery cluster (", map.status().message(), ")"));
  }
  return map;
}

// The checks that need nobody else.
absl::Status CheckMap(const Config& config, const UrlsMap& map, const BootstrapSeams& seams) {
  if (map.empty()) return Refused("initial cluster unset and no discovery endpoints found");
  if (absl::Status status = CheckLocalName(config, map); !status.ok()) return status;
  if (absl::Status status = CheckAdvertised(config, map, seams); !status.ok()) return status;
  return CheckDuplicates("initial", map);
}

absl::StatusOr<BootstrapResult> StartNew(const Config& config, const BootstrapSeams& seams, DataDir& dir) {
  auto map = InitialMap(config, seams);
  if (!map.ok()) return map.status();
  if (absl::Status status = CheckMap(config, *map, seams); !status.ok()) return status;
  auto members = MembersOf(*map, TokenOf(config));
  if (!members.ok()) return members.status();

  BootstrapResult result;
  result.mode = StartMode::kNew;
  result.name = config.name;
  result.local_id = ByName(*members, config.name)->id;
  if (config.ShouldDiscover()) {
    // A registration cannot be taken back, so what else could end the start comes before it.
    if (absl::Status usable = dir.Prepare(); !usable.ok()) return usable;
    map = Discover(config, result.local_id, *map, seams);
    if (!map.ok()) return map.status();
    if (absl::Status status = CheckDuplicates("discovery", *map); !status.ok()) return status;
    members = MembersOf(*map, TokenOf(config));
    if (!members.ok()) return members.status();
  }
  if (absl::Status fresh = CheckNotBootstrapped(config, *members, result.local_id, seams); !fresh.ok()) {
    return fresh;
  }
  std::vector<uint64_t> ids;
  for (const Member& member : *members) ids.push_back(member.id);
  result.cluster_id = ClusterIdOf(ids);
  result.members = *std::move(members);
  if (!config.discovery_srv.empty()) {
    // Every member has numbered the others in its own way, and all must start with the same log.
    for (Member& member : result.members) member.name.clear();
  }
  KVD_LOG(kInfo, "starting local member", {"local-member-id", base::HexId(result.local_id)},
          {"cluster-id", base::HexId(result.cluster_id)});
  return result;
}

// Whether this version can serve the cluster: at least one other member has a decided version, and none is
// newer.
bool Compatible(const RemoteCluster& remote, uint64_t local_id, const BootstrapSeams& seams,
                bool* undecided) {
  bool known = false;
  *undecided = false;
  for (const Member& member : remote.members) {
    if (member.id == local_id) continue;
    auto version = seams.fetch_version(member.peer_urls, kAskVersion);
    if (version.ok() && !version->has_value()) {
      *undecided = true;
      continue;
    }
    if (!version.ok()) {
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
  if (config.ShouldDiscover()) {
    return Refused("discovery URL should not be set when joining existing initial cluster");
  }
  auto map = InitialMap(config, seams);
  if (!map.ok()) return map.status();
  if (absl::Status status = CheckLocalName(config, *map); !status.ok()) return status;
  if (absl::Status status = CheckDuplicates("initial", *map); !status.ok()) return status;
  auto ours = MembersOf(*map, config.initial_cluster_token);
  if (!ours.ok()) return ours.status();
  auto remote = seams.fetch_cluster(OthersUrls(*ours, config.name), kAskBeforeJoin);
  if (absl::IsCancelled(remote.status())) return remote.status();
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
  // A cluster that has only just come up decides its version within moments.
  bool undecided = false;
  for (int asked = 1; !Compatible(*remote, (*local)->id, seams, &undecided); ++asked) {
    if (!undecided || asked == kAskUndecided) return Refused("incompatible with current running cluster");
    if (absl::Status status = seams.pause(kUndecidedPause); !status.ok()) return status;
  }

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
  return MembersOf(StaticMap(config), config.initial_cluster_token);
}

absl::StatusOr<BootstrapResult> Bootstrap(const Config& config, const BootstrapSeams& seams) {
  auto have_log = seams.log_exists(config.WalDir());
  if (!have_log.ok()) return have_log.status();
  auto have_backend = seams.fs->Exists(config.BackendDir());
  if (!have_backend.ok()) return have_backend.status();
  DataDir dir(config, *seams.fs);
  if (*have_log) {
    if (absl::Status usable = dir.Prepare(); !usable.ok()) return usable;
    if (config.ShouldDiscover() || !config.discovery_srv.empty()) {
      KVD_LOG(kInfo, "discovery settings are ignored: the data directory has been initialised",
              {"data-dir", config.data_dir});
    }
    BootstrapResult result;
    result.mode = StartMode::kRestart;
    result.name = config.name;
    result.backend_missing = !*have_backend;
    return result;
  }
  const bool is_new = config.initial_cluster_state == ClusterState::kNew;
  auto result = is_new ? StartNew(config, seams, dir) : Join(config, seams);
  // With a discovery service it has been prepared before.
  if (result.ok() && !config.ShouldDiscover()) {
    if (absl::Status usable = dir.Prepare(); !usable.ok()) result = usable;
  }
  if (!result.ok()) dir.Undo();
  return result;
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
    for (const auto& [name, urls] : StaticMap(config)) {
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
