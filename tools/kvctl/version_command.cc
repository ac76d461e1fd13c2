#include "command.h"

namespace kvd::ctl {
namespace {

// The API that kvctl speaks, as etcdctl names it, then its own version.
constexpr char kApiRelease[] = "3.7.1";
constexpr char kApiVersion[] = "3.7";

class VersionCommand final : public Command {
 public:
  Exit Run(Session& session, const std::vector<std::string>&) override {
    session.out() << "etcdctl version: " << kApiRelease << "\nAPI version: " << kApiVersion
                  << "\nkvctl version: " << KVD_VERSION << "\n";
    return Success();
  }
  bool needs_client() const override { return false; }
};

}  // namespace

std::vector<CommandEntry> VersionCommands() {
  return {{"version", "", "show the version", [] { return std::make_unique<VersionCommand>(); }}};
}

}  // namespace kvd::ctl
