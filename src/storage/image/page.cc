#include "storage/image/page.h"

#include <utility>

#include "base/bytes.h"

namespace kvd::storage::image {
namespace {

constexpr uint32_t kMagic = 0xED0CDAED;
constexpr uint32_t kVersion = 2;
constexpr size_t kCheckedMetaBytes = kMetaBytes - 8;

template <typename T>
void Append(std::string& out, T value) {
  for (size_t i = 0; i < sizeof value; ++i) out.push_back(static_cast<char>(value >> (8 * i)));
}

uint32_t Load32(std::string_view bytes, size_t at) {
  return base::LoadLittleEndian32(bytes.data() + at);
}
uint64_t Load64(std::string_view bytes, size_t at) {
  return base::LoadLittleEndian64(bytes.data() + at);
}

uint64_t Fnv1a(std::string_view bytes) {
  uint64_t hash = 0xcbf29ce484222325;
  for (char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

}  // namespace

void AppendPageHeader(std::string& out, const PageHeader& header) {
  Append(out, header.id);
  Append(out, header.flags);
  Append(out, header.count);
  Append(out, header.overflow);
}

PageHeader ParsePageHeader(std::string_view bytes) {
  const uint32_t flags_and_count = Load32(bytes, 8);
  return {Load64(bytes, 0), static_cast<uint16_t>(flags_and_count),
          static_cast<uint16_t>(flags_and_count >> 16), Load32(bytes, 12)};
}

void AppendMeta(std::string& out, const Meta& meta) {
  const size_t start = out.size();
  Append(out, kMagic);
  Append(out, kVersion);
  Append(out, meta.page_size);
  Append(out, uint32_t{0});
  Append(out, meta.root);
  Append(out, uint64_t{0});  // the root bucket's sequence
  Append(out, meta.freelist);
  Append(out, meta.page_count);
  Append(out, meta.transaction);
  Append(out, Fnv1a(std::string_view(out).substr(start)));
}

bool ParseMeta(std::string_view bytes, Meta* meta) {
  if (bytes.size() < kMetaBytes || Load32(bytes, 0) != kMagic || Load32(bytes, 4) != kVersion) return false;
  if (Load64(bytes, kCheckedMetaBytes) != Fnv1a(bytes.substr(0, kCheckedMetaBytes))) return false;
  *meta = {Load32(bytes, 8), Load64(bytes, 16), Load64(bytes, 32), Load64(bytes, 40), Load64(bytes, 48)};
  return true;
}

std::string EncodeBucketHeader(const BucketHeader& header) {
  std::string out;
  Append(out, header.root);
  Append(out, header.sequence);
  return out;
}

BucketHeader ParseBucketHeader(std::string_view bytes) {
  return {Load64(bytes, 0), Load64(bytes, 8)};
}

bool PageElements::Init(std::string_view page) {
  if (page.size() < kPageHeaderBytes) return false;
  const PageHeader header = ParsePageHeader(page);
  if (header.flags != kLeafPage && header.flags != kBranchPage) return false;
  page_ = page;
  leaf_ = header.flags == kLeafPage;
  count_ = header.count;
  return count_ <= (page.size() - kPageHeaderBytes) / kElementBytes;
}

bool PageElements::Get(uint16_t i, Element* element) const {
  const size_t start = kPageHeaderBytes + i * kElementBytes;
  const std::string_view rest = page_.substr(start);
  *element = Element();
  uint64_t pos, key_bytes, value_bytes = 0;
  if (leaf_) {
    element->flags = Load32(rest, 0);
    pos = Load32(rest, 4);
    key_bytes = Load32(rest, 8);
    value_bytes = Load32(rest, 12);
  } else {
    pos = Load32(rest, 0);
    key_bytes = Load32(rest, 4);
    element->child = Load64(rest, 8);
  }
  if (pos + key_bytes + value_bytes > rest.size()) return false;
  element->key = rest.substr(pos, key_bytes);
  element->value = rest.substr(pos + key_bytes, value_bytes);
  return true;
}

void PageBuilder::AddLeaf(uint32_t flags, std::string_view key, std::string_view value) {
  elements_.push_back({flags, static_cast<uint32_t>(key.size()), static_cast<uint32_t>(value.size()), 0});
  data_.append(key);
  data_.append(value);
}

void PageBuilder::AddBranch(std::string_view key, uint64_t child) {
  elements_.push_back({0, static_cast<uint32_t>(key.size()), 0, child});
  data_.append(key);
}

void PageBuilder::TakeLastOf(PageBuilder& from) {
  const Element last = from.elements_.back();
  const size_t at = from.data_.size() - last.key_bytes;
  elements_.insert(elements_.begin(), last);
  data_.insert(0, from.data_, at);
  from.elements_.pop_back();
  from.data_.resize(at);
}

uint64_t PageBuilder::AppendTo(std::string& out, uint64_t id, uint64_t page_size) const {
  const uint64_t pages = (bytes() + page_size - 1) / page_size;
  const size_t end = out.size() + pages * page_size;
  AppendPageHeader(out, {id, leaf_ ? kLeafPage : kBranchPage, static_cast<uint16_t>(elements_.size()),
                         static_cast<uint32_t>(pages - 1)});
  uint64_t data_at = 0;
  for (size_t i = 0; i < elements_.size(); ++i) {
    const Element& e = elements_[i];
    const uint32_t pos = static_cast<uint32_t>((elements_.size() - i) * kElementBytes + data_at);
    if (leaf_) {
      Append(out, e.flags);
      Append(out, pos);
      Append(out, e.key_bytes);
      Append(out, e.value_bytes);
    } else {
      Append(out, pos);
      Append(out, e.key_bytes);
      Append(out, e.child);
    }
    data_at += uint64_t{e.key_bytes} + e.value_bytes;
  }
  out.append(data_);
  out.resize(end, '\0');
  return pages;
}

void PageBuilder::Clear() {
  elements_.clear();
  data_.clear();
}

}  // namespace kvd::storage::image
