// Lists of everything under the prefix of the keys, as traffic for a Load: in one answer, in pages, streamed,
// of the past, keys alone, or counted.
//
// Thread-safety: one thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "load.h"

namespace kvd::bench {

enum class ListShape { kUnary, kPaged, kStream, kKeysOnly, kCount };
std::optional<ListShape> ParseListShape(std::string_view name);

// One call is one list, or one page of it: kPaged goes through all pages at the revision of the first.
class ListTraffic final : public Traffic {
 public:
  struct Config {
    ListShape shape = ListShape::kUnary;
    uint64_t keys = 0;     // that each list must find
    int64_t page = 500;    // kPaged
    int64_t revision = 0;  // 0: the latest
    bool serializable = false;
  };
  explicit ListTraffic(const Config& config) : config_(config) {}

  void Prepare(Slot& slot) override;
  bool Accept(Slot& slot, std::string_view message) override;
  void Finish(Slot& slot, bool ok) override;

  uint64_t bytes() const { return bytes_; }
  uint64_t lists() const { return lists_; }
  uint64_t keys_seen() const { return keys_seen_; }
  int64_t revision() const { return revision_; }  // of the last answer
  const Histogram& first_chunk() const { return first_chunk_; }
  // Forgets what was counted.
  void Clear();

 private:
  // What one answer, or one chunk of a streamed one, holds.
  struct Answer {
    uint64_t kvs = 0;
    uint64_t count = 0;
    bool more = false;
    int64_t revision = 0;
    std::string_view last_key;
  };
  static std::optional<Answer> Parse(std::string_view message);
  bool AcceptPage(Slot& slot, const Answer& answer);

  const Config config_;
  uint64_t bytes_ = 0, lists_ = 0, keys_seen_ = 0;
  int64_t revision_ = 0;
  Histogram first_chunk_;
  // Per slot, by its number: where its list stands.
  struct Position {
    std::string next_key;
    int64_t revision = 0;
    uint64_t keys = 0;
    uint64_t begun_ns = 0;
  };
  std::vector<Position> positions_;
};

}  // namespace kvd::bench
