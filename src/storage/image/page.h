// The pages of bbolt's file format. All numbers are little-endian.
//
//   page     id (8) flags (2) count (2) overflow (4), then `count` elements of 16 bytes, then their keys and
//   values;
//            a page that needs more room takes `overflow` further pages
//   branch   element: pos (4) key size (4) child page (8)
//   leaf     element: flags (4) pos (4) key size (4) value size (4); flag 1: the value is a bucket
//   bucket   root page (8) sequence (8); root 0: a leaf page follows at once
//   meta     magic (4) version (4) page size (4) flags (4) root bucket (16) freelist page (8) page count (8)
//            transaction (8) checksum (8, FNV-1a of what is before it)
//
// `pos` counts from the start of the element. Pages 0 and 1 are meta pages.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kvd::storage::image {

constexpr size_t kPageHeaderBytes = 16;
constexpr size_t kElementBytes = 16;
constexpr size_t kBucketHeaderBytes = 16;
constexpr size_t kMetaBytes = 64;
constexpr uint64_t kMaxKeyBytes = 32768;
constexpr uint64_t kMaxValueBytes = (uint64_t{1} << 31) - 2;

enum PageFlag : uint16_t { kBranchPage = 0x01, kLeafPage = 0x02, kMetaPage = 0x04, kFreelistPage = 0x10 };
constexpr uint32_t kBucketElement = 0x01;

struct PageHeader {
  uint64_t id = 0;
  uint16_t flags = 0;
  uint16_t count = 0;
  uint32_t overflow = 0;
};
void AppendPageHeader(std::string& out, const PageHeader& header);
// REQUIRES: `bytes` holds at least kPageHeaderBytes.
PageHeader ParsePageHeader(std::string_view bytes);

struct Meta {
  uint32_t page_size = 0;
  uint64_t root = 0;
  uint64_t freelist = 0;
  uint64_t page_count = 0;
  uint64_t transaction = 0;
};
void AppendMeta(std::string& out, const Meta& meta);
// False unless `bytes` starts with an intact meta of the one version there is.
bool ParseMeta(std::string_view bytes, Meta* meta);

struct BucketHeader {
  uint64_t root = 0;  // 0: inline
  uint64_t sequence = 0;
};
std::string EncodeBucketHeader(const BucketHeader& header);
// REQUIRES: `bytes` holds at least kBucketHeaderBytes.
BucketHeader ParseBucketHeader(std::string_view bytes);

// The elements of a leaf or branch page that is being read: bounds are checked as each one is looked at.
class PageElements {
 public:
  struct Element {
    std::string_view key;
    std::string_view value;  // of a leaf
    uint32_t flags = 0;      // of a leaf
    uint64_t child = 0;      // of a branch
  };

  // `page` with its header and all its overflow. False if it is neither leaf nor branch, or the elements do
  // not fit.
  bool Init(std::string_view page);

  bool is_leaf() const { return leaf_; }
  uint16_t count() const { return count_; }
  // False if the element reaches beyond the page. REQUIRES: i < count().
  bool Get(uint16_t i, Element* element) const;

 private:
  std::string_view page_;
  bool leaf_ = false;
  uint16_t count_ = 0;
};

// A leaf or branch page that is being filled.
class PageBuilder {
 public:
  explicit PageBuilder(bool leaf) : leaf_(leaf) {}

  void AddLeaf(uint32_t flags, std::string_view key, std::string_view value);
  void AddBranch(std::string_view key, uint64_t child);
  // Moves the last element of `from` in front of the ones here. REQUIRES: `from` is not empty; both are
  // branches.
  void TakeLastOf(PageBuilder& from);

  bool empty() const { return elements_.empty(); }
  size_t count() const { return elements_.size(); }
  // Of the page if it were encoded now.
  size_t bytes() const { return kPageHeaderBytes + elements_.size() * kElementBytes + data_.size(); }
  // REQUIRES: !empty().
  std::string_view first_key() const { return std::string_view(data_).substr(0, elements_[0].key_bytes); }
  // REQUIRES: !empty(); it is a branch.
  uint64_t last_child() const { return elements_.back().child; }

  // Appends the page, filled up with zeros to whole pages; returns how many it takes.
  uint64_t AppendTo(std::string& out, uint64_t id, uint64_t page_size) const;
  void Clear();

 private:
  struct Element {
    uint32_t flags;
    uint32_t key_bytes;
    uint32_t value_bytes;
    uint64_t child;
  };

  bool leaf_;
  std::vector<Element> elements_;
  std::string data_;
};

}  // namespace kvd::storage::image
