// The addresses of a resolver's answer as text.
//
// Thread-safety: a function without state; any thread.
#pragma once

#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>
#include <string>
#include <vector>

namespace kvd::net {

// Of a list of addrinfo (netdb.h) or ares_addrinfo_node (ares.h), from `first` on; null: of none. Sorted,
// each once.
template <typename Node>
std::vector<std::string> NumericAddresses(const Node* first) {
  std::vector<std::string> addresses;
  for (const Node* it = first; it != nullptr; it = it->ai_next) {
    char text[NI_MAXHOST];
    if (::getnameinfo(it->ai_addr, it->ai_addrlen, text, sizeof(text), nullptr, 0, NI_NUMERICHOST) == 0) {
      addresses.emplace_back(text);
    }
  }
  std::sort(addresses.begin(), addresses.end());
  addresses.erase(std::unique(addresses.begin(), addresses.end()), addresses.end());
  return addresses;
}

}  // namespace kvd::net
