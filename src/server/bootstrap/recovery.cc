#include "server/bootstrap/recovery.h"

#include "absl/strings/str_join.h"
#include "base/strings.h"

namespace kvd::server {
namespace {

bool IsLocal(const Config& config, const Member& member, uint64_t local_id) {
  return local_id != 0 ? member.id == local_id : member.name == config.name;
}

}  // namespace

std::string RecoverCommand(const Config& config, const std::vector<Member>& members, uint64_t local_id) {
  std::vector<std::string> endpoints;
  for (const Member& member : members) {
    if (IsLocal(config, member, local_id)) continue;
    endpoints.insert(endpoints.end(), member.client_urls.begin(), member.client_urls.end());
  }
  const std::string list = endpoints.empty() ? "CLIENT-URL-OF-ANOTHER-MEMBER" : absl::StrJoin(endpoints, ",");
  return base::StrCat("kvctl --endpoints=", list, " member recover ", config.name,
                      " --data-dir=", config.data_dir);
}

std::string HowToRecover(const Config& config, const std::vector<Member>& members, uint64_t local_id,
                         bool has_state) {
  const bool alone = members.size() == 1 && IsLocal(config, members[0], local_id);
  std::string text;
  if (!alone) {
    base::StrAppend(&text, "; to get the member back while the others serve: `",
                    RecoverCommand(config, members, local_id),
                    "`, which moves the data directory aside and shows how to start it again");
  }
  base::StrAppend(&text, alone ? "; " : "; if there are no others: ");
  if (has_state) {
    base::StrAppend(&text, "to go on with what the database holds, without what only the log held: `mv ",
                    config.WalDir(), " ", config.WalDir(),
                    ".broken`, and start once with --force-new-cluster");
  } else {
    base::StrAppend(&text, "restore a backup, since nothing is left to build the database from");
  }
  return text;
}

}  // namespace kvd::server
