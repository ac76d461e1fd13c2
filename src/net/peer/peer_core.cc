#include "net/peer/peer_core.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/log.h"
#include "base/strings.h"
#include "net/peer/peer.h"
#include "raftpb/raft.pb.h"

namespace kvd::net {
namespace {

// Members that are in nobody's configuration here yet are few; more are somebody's mistake.
constexpr size_t kMaxRemotes = 32;
constexpr size_t kMaxRemoteUrls = 16;

// "3.7.1" or "3.7.0-rc.1" as major and minor; etcd 2.0 sent none.
bool ParseMajorMinor(std::string_view text, std::pair<uint32_t, uint32_t>* out) {
  if (text.empty()) text = "2.0.0";
  std::vector<std::string> parts = absl::StrSplit(base::ToAbsl(text), '.');
  return parts.size() >= 3 && absl::SimpleAtoi(parts[0], &out->first) &&
         absl::SimpleAtoi(parts[1], &out->second);
}

}  // namespace

bool ParseHexId(std::string_view text, uint64_t* id) {
  if (text.empty() || text.size() > 16) return false;
  uint64_t v = 0;
  for (char c : text) {
    uint64_t digit;
    if (c >= '0' && c <= '9') {
      digit = static_cast<uint64_t>(c) - '0';
    } else if (c >= 'a' && c <= 'f') {
      digit = static_cast<uint64_t>(c) - 'a' + 10;
    } else if (c >= 'A' && c <= 'F') {
      digit = static_cast<uint64_t>(c) - 'A' + 10;
    } else {
      return false;
    }
    v = v << 4 | digit;
  }
  *id = v;
  return true;
}

PeerCore::PeerCore(IoThread& io_thread, base::Clock& core_clock, PeerTransportOptions core_options,
                   PeerHandler& core_handler)
    : thread(io_thread),
      clock(core_clock),
      options(std::move(core_options)),
      handler(core_handler),
      client(io_thread, options.tls),
      member_hex(base::HexId(options.member_id)),
      cluster_hex(base::HexId(options.cluster_id)) {
  base::Nanos shortest = std::min(
      {options.read_timeout, options.write_timeout, options.heartbeat_interval, options.probe_interval});
  tick_interval_ =
      std::clamp<base::Nanos>(shortest / 4, std::chrono::milliseconds(10), std::chrono::milliseconds(250));
}

void PeerCore::StartTicking() {
  thread.PostAfter(tick_interval_, [weak = weak_from_this()] {
    if (auto self = weak.lock(); self && self->running()) self->Tick();
  });
}

void PeerCore::Tick() {
  IoThread::Batch batch(thread);
  base::Nanos now = Now();
  std::vector<std::shared_ptr<PeerConnection>> present(connections.begin(), connections.end());
  for (const auto& connection : present) {
    if (connections.count(connection) != 0) connection->OnTick(now);
    if (!running()) return;
  }
  std::vector<std::shared_ptr<Peer>> known;
  {
    std::lock_guard lock(mutex);
    for (const auto& [id, peer] : peers) known.push_back(peer);
  }
  for (const auto& peer : known) peer->ProbeIfDue(now);
  StartTicking();
}

std::shared_ptr<Peer> PeerCore::Find(uint64_t id) const {
  std::lock_guard lock(mutex);
  auto at = peers.find(id);
  return at == peers.end() ? nullptr : at->second;
}

std::shared_ptr<Peer> PeerCore::FindAny(uint64_t id) const {
  std::lock_guard lock(mutex);
  auto at = peers.find(id);
  if (at != peers.end()) return at->second;
  at = remotes.find(id);
  return at == remotes.end() ? nullptr : at->second;
}

void PeerCore::AddRemote(uint64_t id, std::vector<std::string> urls) {
  std::lock_guard lock(mutex);
  bool known = id == options.member_id || peers.count(id) != 0 || remotes.count(id) != 0;
  if (known || stop_called || remotes.size() >= kMaxRemotes) return;
  KVD_LOG(kInfo, "added new remote peer", {"local-member-id", member_hex},
          {"remote-peer-id", base::HexId(id)}, {"remote-peer-urls", urls});
  remotes[id] = std::make_shared<Peer>(shared_from_this(), id, std::move(urls), /*remote=*/true);
}

void PeerCore::LearnRemote(uint64_t id, const HttpFields& fields) {
  std::string_view list = fields.Get("X-PeerURLs");
  if (list.empty() || FindAny(id) || handler.IsIdRemoved(id)) return;
  std::vector<std::string> urls = absl::StrSplit(base::ToAbsl(list), ',', absl::SkipWhitespace());
  bool usable =
      !urls.empty() && urls.size() <= kMaxRemoteUrls &&
      std::all_of(urls.begin(), urls.end(), [](const std::string& u) { return ParseHttpUrl(u).ok(); });
  if (usable) AddRemote(id, std::move(urls));
}

void PeerCore::Deliver(std::vector<raftpb::Message>&& messages) {
  if (!running()) return;
  std::erase_if(messages, [this](const raftpb::Message& m) {
    if (m.to() == options.member_id && m.type() != raftpb::MsgSnap) return false;
    KVD_LOG(kWarn, "dropped a message that is not for this member", {"local-member-id", member_hex},
            {"to", base::HexId(m.to())}, {"from", base::HexId(m.from())});
    return true;
  });
  if (!messages.empty()) handler.OnMessages(std::move(messages));
}

void PeerCore::NotifyUnreachable(uint64_t peer) {
  if (running()) handler.OnUnreachable(peer);
}

void PeerCore::NotifyRemoved(uint64_t by) {
  if (running()) handler.OnRemoved(by);
}

void PeerCore::NotifyClusterMismatch(uint64_t by) {
  if (running()) handler.OnClusterMismatch(by);
}

void PeerCore::AddRequestFields(HttpFields& fields) const {
  fields.Add("X-Server-From", member_hex);
  fields.Add("X-Server-Version", options.server_version);
  fields.Add("X-Min-Cluster-Version", options.min_cluster_version);
  fields.Add("X-Etcd-Cluster-ID", cluster_hex);
  if (!options.peer_urls.empty()) fields.Add("X-PeerURLs", absl::StrJoin(options.peer_urls, ","));
}

std::string_view PeerCore::CheckCompatible(const HttpFields& fields) const {
  std::pair<uint32_t, uint32_t> server, min_cluster, local_server, local_min;
  bool known = ParseMajorMinor(fields.Get("X-Server-Version"), &server) &&
               ParseMajorMinor(fields.Get("X-Min-Cluster-Version"), &min_cluster) &&
               ParseMajorMinor(options.server_version, &local_server) &&
               ParseMajorMinor(options.min_cluster_version, &local_min);
  if (!known || server < local_min || min_cluster > local_server) {
    KVD_LOG(kWarn, "failed version compatibility check", {"local-member-id", member_hex},
            {"remote-peer-server-name", fields.Get("X-Server-From")},
            {"remote-peer-server-version", fields.Get("X-Server-Version")},
            {"remote-peer-server-minimum-cluster-version", fields.Get("X-Min-Cluster-Version")});
    return "incompatible version";
  }
  if (fields.Get("X-Etcd-Cluster-ID") != cluster_hex) {
    KVD_LOG(kWarn, "request cluster ID mismatch", {"local-member-id", member_hex},
            {"local-member-cluster-id", cluster_hex},
            {"remote-peer-server-name", fields.Get("X-Server-From")},
            {"remote-peer-cluster-id", fields.Get("X-Etcd-Cluster-ID")});
    return "cluster ID mismatch";
  }
  return {};
}

}  // namespace kvd::net
