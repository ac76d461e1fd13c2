#include "server/bootstrap/discovery.h"

#include <algorithm>
#include <set>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "base/log.h"
#include "base/strings.h"

namespace kvd::server {
namespace {

using Entry = DiscoveryService::Entry;
using Listing = DiscoveryService::Listing;

// A wait is 2^retries seconds, up to this power.
constexpr int kMaxPower = 8;
// Of a service that has never answered.
constexpr int kMaxRetries = 8;
constexpr int64_t kMaxSize = 1000;
constexpr Duration kRest = std::chrono::seconds(1);

absl::Status Failed(std::string_view message) {
  return absl::FailedPreconditionError(base::ToAbsl(base::StrCat("discovery: ", message)));
}

class Joining {
 public:
  Joining(DiscoveryService& service, const std::string& id, const std::string& value, const Pause& pause)
      : service_(service), id_(id), value_(value), pause_(pause) {}

  absl::StatusOr<std::vector<Entry>> Run();

 private:
  // Asks until there is an answer that is not kUnavailable.
  template <typename Ask>
  auto Persist(const char* step, Ask ask) -> decltype(ask());
  absl::Status BackOff(const char* step, const absl::Status& why);

  absl::StatusOr<int64_t> Size();
  // The first members; this one is among them or there is room for it.
  absl::StatusOr<Listing> Check();
  absl::Status Register();
  absl::StatusOr<std::vector<Entry>> AwaitAll();
  void Tell(const std::vector<Entry>& entries);

  DiscoveryService& service_;
  const std::string& id_;
  const std::string& value_;
  const Pause& pause_;
  int64_t size_ = 0;
  bool answered_ = false;
  int retries_ = 0;
  std::set<std::string> told_;
};

template <typename Ask>
auto Joining::Persist(const char* step, Ask ask) -> decltype(ask()) {
  while (true) {
    auto answer = ask();
    absl::Status status;
    if constexpr (std::is_same_v<decltype(answer), absl::Status>) {
      status = answer;
    } else {
      status = answer.status();
    }
    if (!absl::IsUnavailable(status)) {
      answered_ = true;
      retries_ = 0;
      return answer;
    }
    if (absl::Status wait = BackOff(step, status); !wait.ok()) return wait;
  }
}

absl::Status Joining::BackOff(const char* step, const absl::Status& why) {
  if (!answered_ && retries_ == kMaxRetries) {
    return Failed(base::StrCat("too many retries: ", service_.Name(), ": ", why.message()));
  }
  retries_ = std::min(retries_ + 1, kMaxPower);
  const std::chrono::seconds wait(int64_t{1} << retries_);
  KVD_LOG(kWarn,
          base::StrCat(step, ": error connecting to ", service_.Name(), ", retrying in ", wait.count(), "s"),
          {"error", why});
  return pause_(wait);
}

absl::StatusOr<int64_t> Joining::Size() {
  auto text = Persist("cluster status check", [this] { return service_.Size(); });
  if (absl::IsNotFound(text.status()))
    return Failed(base::StrCat("size key not found (", service_.Name(), ")"));
  if (!text.ok()) return text.status();
  int64_t size = 0;
  if (!absl::SimpleAtoi(*text, &size) || size <= 0 || size > kMaxSize) {
    return Failed(base::StrCat("size key is bad (\"", absl::CEscape(text->substr(0, 32)), "\")"));
  }
  return size;
}

absl::StatusOr<Listing> Joining::Check() {
  auto size = Size();
  if (!size.ok()) return size.status();
  size_ = *size;
  auto listing = Persist("cluster status check", [this] { return service_.List(); });
  if (!listing.ok()) return listing.status();
  std::vector<Entry>& entries = listing->entries;
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.created < b.created; });
  const auto most = static_cast<size_t>(size_);
  if (entries.size() >= most) {
    entries.resize(most);
    bool among = std::any_of(entries.begin(), entries.end(), [this](const Entry& e) { return e.id == id_; });
    if (!among) return Failed("cluster is full");
  }
  return listing;
}

absl::Status Joining::Register() {
  bool perhaps_done = false;  // an attempt whose answer was lost may have come through
  absl::Status status = Persist("registration", [&]() -> absl::Status {
    absl::Status attempt = service_.Register(id_, value_);
    if (absl::IsAlreadyExists(attempt) && (perhaps_done || service_.Reclaims())) {
      auto listing = service_.List();
      if (!listing.ok()) return listing.status();
      for (const Entry& entry : listing->entries) {
        if (entry.id == id_ && entry.value == value_) return absl::OkStatus();
      }
    }
    perhaps_done = perhaps_done || absl::IsUnavailable(attempt);
    return attempt;
  });
  if (absl::IsAlreadyExists(status)) {
    return Failed(base::StrCat("found duplicate id ", id_,
                               ": a member with these peer URLs has registered with this token before; if "
                               "that was this one and its cluster did not come up, take a new token"));
  }
  return status;
}

void Joining::Tell(const std::vector<Entry>& entries) {
  for (const Entry& entry : entries) {
    if (!told_.insert(entry.id).second) continue;
    KVD_LOG(kInfo, base::StrCat("found ", entry.id == id_ ? "self " : "peer ", entry.id, " in the cluster"),
            {"discovery-url", service_.Name()});
  }
}

absl::StatusOr<std::vector<Entry>> Joining::AwaitAll() {
  size_t last = 0;
  while (true) {
    auto listing = Check();
    if (!listing.ok()) return listing.status();
    const size_t found = listing->entries.size();
    Tell(listing->entries);
    if (found >= static_cast<size_t>(size_)) {
      KVD_LOG(kInfo, base::StrCat("found ", found, " needed peer(s)"), {"discovery-url", service_.Name()});
      return std::move(listing->entries);
    }
    if (found == last) {
      // Woken for nothing: whatever the service answers, it is not asked in a tight circle.
      if (absl::Status rest = pause_(kRest); !rest.ok()) return rest;
    } else {
      KVD_LOG(kInfo,
              base::StrCat("found ", found, " peer(s), waiting for ", static_cast<size_t>(size_) - found,
                           " more"),
              {"discovery-url", service_.Name()});
      last = found;
    }
    absl::Status changed = service_.AwaitChange(listing->index);
    if (absl::IsUnavailable(changed)) changed = BackOff("waiting for other nodes", changed);
    if (!changed.ok()) return changed;
  }
}

absl::StatusOr<std::vector<Entry>> Joining::Run() {
  // A cluster that is full is told before anything is written.
  if (auto room = Check(); !room.ok()) return room.status();
  if (absl::Status registered = Register(); !registered.ok()) return registered;
  return AwaitAll();
}

}  // namespace

absl::StatusOr<std::vector<Entry>> JoinDiscovery(DiscoveryService& service, const std::string& id,
                                                 const std::string& value, const Pause& pause) {
  return Joining(service, id, value, pause).Run();
}

std::unique_ptr<DiscoveryService> NewDiscoveryService(const Config& config, net::BlockingLoop& loop,
                                                      DiscoveryTlsPtr tls) {
  return config.discovery_url.empty() ? NewV3Discovery(config, loop, std::move(tls))
                                      : NewV2Discovery(config, loop, std::move(tls));
}

}  // namespace kvd::server
