// The command line of a subcommand: "--name value" pairs, and "--name" alone for a switch.
//
// Thread-safety: thread-compatible.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace kvd::bench {

class Options {
 public:
  Options(int argc, char** argv);

  std::string Text(const std::string& name, const std::string& otherwise);
  int64_t Number(const std::string& name, int64_t otherwise);
  double Real(const std::string& name, double otherwise);
  bool Switch(const std::string& name);
  std::vector<std::string> List(const std::string& name);  // separated by commas

  // What was given and never asked for, or is no option at all; empty if all is well.
  std::string Complaint() const;

 private:
  const std::string* Find(const std::string& name);
  std::map<std::string, std::string> given_;
  std::set<std::string> asked_;
  std::string complaint_;
};

}  // namespace kvd::bench
