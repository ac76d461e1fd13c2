// What the commands that go to each endpoint share: --cluster, and the endpoints that it means.
#pragma once

#include <string>
#include <vector>

#include "command.h"

namespace kvd::ctl {

class EndpointCommand : public Command {
 public:
  void DefineFlags(FlagSet& flags) override;

 protected:
  // Those of --endpoints, or with --cluster those that the members publish.
  Exit Endpoints(Session& session, std::vector<std::string>* endpoints) const;

 private:
  bool cluster_ = false;
};

}  // namespace kvd::ctl
