#include <algorithm>
#include <string>

#include "base/strings.h"
#include "server/config/config.h"
#include "server/config/flag.h"

namespace kvd::server {
namespace {

using config_internal::Flag;
using config_internal::FlagGroup;
using config_internal::FlagStatus;

std::string_view Title(FlagGroup group) {
  switch (group) {
    case FlagGroup::kMember:
      return "Member";
    case FlagGroup::kClustering:
      return "Clustering";
    case FlagGroup::kSecurity:
      return "Security";
    case FlagGroup::kAuth:
      return "Auth";
    case FlagGroup::kProfiling:
      return "Profiling and Monitoring";
    case FlagGroup::kLogging:
      return "Logging";
    case FlagGroup::kTracing:
      return "Distributed tracing";
    case FlagGroup::kFeatures:
      return "Features";
    case FlagGroup::kUnsafe:
      return "Unsafe feature";
    case FlagGroup::kMisc:
      return "Misc";
    case FlagGroup::kHistory:
      return "Older names";
  }
  return "";
}

std::string_view Compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "g++ " __VERSION__;
#endif
}

std::string_view Architecture() {
#if defined(__x86_64__)
  return "amd64";
#elif defined(__aarch64__)
  return "arm64";
#else
  return "other";
#endif
}

}  // namespace

std::string_view KvdVersion() {
  return KVD_VERSION;
}

std::string VersionText() {
  return base::StrCat("etcd Version: ", kEtcdVersion, "\nkvd Version: ", KvdVersion(),
                      "\nGit SHA: ", KVD_GIT_SHA, "\nC++ Compiler: ", Compiler(), "\nOS/Arch: linux/",
                      Architecture(), "\n");
}

std::string HelpText() {
  config_internal::Draft defaults = config_internal::NewDraft();
  std::string text =
      "Usage:\n\n  kvd [flags]\n    Start a member.\n\n  kvd --version\n    Show the version.\n\n  kvd -h | "
      "--help\n"
      "    Show this text.\n\nEvery flag --some-name may be given as the variable ETCD_SOME_NAME (or "
      "KVD_SOME_NAME).\n"
      "Flags marked (*) are understood, but this version does not act on them.\n"
      "Flags marked (!) are understood, but this version refuses to start with them.\n";
  FlagGroup group = FlagGroup::kHistory;
  std::string old_names;
  for (const Flag& flag : config_internal::FlagTable()) {
    if (flag.group == FlagGroup::kHistory) {
      if (flag.status != FlagStatus::kUnsupported) base::StrAppend(&old_names, " --", flag.name);
      continue;
    }
    if (flag.group != group) {
      group = flag.group;
      base::StrAppend(&text, "\n", Title(group), ":\n");
    }
    std::string value = config_internal::GetFlag(flag, defaults);
    base::StrAppend(&text, "  --", flag.name);
    if (flag.group != FlagGroup::kMisc) base::StrAppend(&text, " '", value, "'");
    if (flag.status == FlagStatus::kKept) base::StrAppend(&text, " (*)");
    if (flag.status == FlagStatus::kRefused) base::StrAppend(&text, " (!)");
    base::StrAppend(&text, "\n    ", flag.help, "\n");
  }
  base::StrAppend(&text, "\nAlso taken, for etcd's older command lines:\n ", old_names, "\n");
  return text;
}

}  // namespace kvd::server
