#include "options.h"

#include <cstdlib>
#include <sstream>

namespace kvd::bench {

Options::Options(int argc, char** argv) {
  for (int i = 0; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.rfind("--", 0) != 0) {
      complaint_ = "not an option: " + word;
      return;
    }
    const bool has_value = i + 1 < argc && std::string(argv[i + 1]).rfind("--", 0) != 0;
    given_[word.substr(2)] = has_value ? argv[++i] : "";
  }
}

const std::string* Options::Find(const std::string& name) {
  asked_.insert(name);
  const auto found = given_.find(name);
  return found == given_.end() ? nullptr : &found->second;
}

std::string Options::Text(const std::string& name, const std::string& otherwise) {
  const std::string* value = Find(name);
  return value == nullptr ? otherwise : *value;
}

double Options::Real(const std::string& name, double otherwise) {
  const std::string* value = Find(name);
  if (value == nullptr) return otherwise;
  char* end = nullptr;
  const double number = std::strtod(value->c_str(), &end);
  if (value->empty() || *end != '\0') complaint_ = "--" + name + " wants a number";
  return number;
}

int64_t Options::Number(const std::string& name, int64_t otherwise) {
  return static_cast<int64_t>(Real(name, static_cast<double>(otherwise)));
}

bool Options::Switch(const std::string& name) {
  return Find(name) != nullptr;
}

std::vector<std::string> Options::List(const std::string& name) {
  std::vector<std::string> list;
  std::istringstream words(Text(name, ""));
  for (std::string word; std::getline(words, word, ',');) list.push_back(word);
  return list;
}

std::string Options::Complaint() const {
  if (!complaint_.empty()) return complaint_;
  for (const auto& [name, value] : given_) {
    if (!asked_.contains(name)) return "unknown option: --" + name;
  }
  return "";
}

}  // namespace kvd::bench
