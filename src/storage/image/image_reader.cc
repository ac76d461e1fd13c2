#include "storage/image/image_reader.h"

#include <algorithm>
#include <utility>

#include "base/file_system.h"
#include "base/strings.h"
#include "storage/image/page.h"

namespace kvd::storage::image {
namespace {

constexpr uint64_t kWindowBytes = 256 << 10;
constexpr int kMaxDepth = 64;
constexpr uint32_t kMinPageSize = 1024;
constexpr uint32_t kMaxPageSize = 64 << 10;

// A walk over one tree, which sees each page at most once.
class Walk {
 public:
  // Elements in the order of their keys; a status that is not OK ends the walk. Must outlive it.
  using Visitor = absl::FunctionRef<absl::Status(const PageElements::Element& element)>;

  Walk(const base::File& file, const Meta& meta, Visitor visit)
      : file_(file), meta_(meta), visit_(visit), seen_(meta.page_count) {}

  absl::Status Tree(uint64_t id, int depth = 0);
  // A leaf page that is not a page of the file: that of an inline bucket.
  absl::Status Inline(std::string_view page);

 private:
  // The page with its overflow; valid until the next call.
  absl::StatusOr<std::string_view> Load(uint64_t id);
  absl::StatusOr<std::string_view> Bytes(uint64_t offset, uint64_t n);
  absl::Status Leaf(const PageElements& elements, uint64_t id);
  absl::Status Bad(uint64_t id, std::string_view what) const {
    return absl::DataLossError(base::StrCat(file_.path(), ": page ", id, ": ", what));
  }

  const base::File& file_;
  const Meta& meta_;
  const Visitor visit_;
  std::vector<bool> seen_;
  std::string window_;
  uint64_t window_offset_ = 0;
  bool any_key_ = false;
  std::string last_key_;
};

absl::StatusOr<std::string_view> Walk::Bytes(uint64_t offset, uint64_t n) {
  const uint64_t window_end = window_offset_ + window_.size();
  if (offset < window_offset_ || offset + n > window_end) {
    // Files written in one go are read in order, and then further ahead.
    const bool in_order = offset >= window_offset_ && offset <= window_end;
    const uint64_t all = meta_.page_count * meta_.page_size;
    const uint64_t want = std::min(std::max(n, in_order ? kWindowBytes : meta_.page_size), all - offset);
    if (absl::Status s = file_.ReadAt(offset, want, &window_); !s.ok()) return s;
    window_offset_ = offset;
    if (window_.size() < n)
      return absl::DataLossError(base::StrCat(file_.path(), ": the file became shorter"));
  }
  return std::string_view(window_).substr(offset - window_offset_, n);
}

absl::StatusOr<std::string_view> Walk::Load(uint64_t id) {
  if (id < 2 || id >= meta_.page_count) return Bad(id, "it lies outside the database");
  if (seen_[id]) return Bad(id, "it is in the tree twice");
  seen_[id] = true;
  auto page = Bytes(id * meta_.page_size, meta_.page_size);
  if (!page.ok()) return page.status();
  const PageHeader header = ParsePageHeader(*page);
  if (header.id != id) return Bad(id, base::StrCat("it says that it is page ", header.id));
  if (header.overflow >= meta_.page_count - id) return Bad(id, "it reaches beyond the database");
  for (uint64_t i = 1; i <= header.overflow; ++i) {
    if (seen_[id + i]) return Bad(id + i, "it is in the tree twice");
    seen_[id + i] = true;
  }
  return header.overflow == 0
             ? page
             : Bytes(id * meta_.page_size, (header.overflow + uint64_t{1}) * meta_.page_size);
}

absl::Status Walk::Leaf(const PageElements& elements, uint64_t id) {
  std::string_view previous = last_key_;
  PageElements::Element element;
  for (uint16_t i = 0; i < elements.count(); ++i) {
    if (!elements.Get(i, &element)) return Bad(id, "an element reaches beyond it");
    if (any_key_ && element.key <= previous) return Bad(id, "its keys do not ascend");
    if (absl::Status s = visit_(element); !s.ok()) return s;
    previous = element.key;
    any_key_ = true;
  }
  last_key_ = std::string(previous);
  return absl::OkStatus();
}

absl::Status Walk::Tree(uint64_t id, int depth) {
  if (depth > kMaxDepth) return Bad(id, "the tree is too deep");
  auto page = Load(id);
  if (!page.ok()) return page.status();
  PageElements elements;
  if (!elements.Init(*page)) return Bad(id, "it is no intact leaf or branch");
  if (elements.is_leaf()) return Leaf(elements, id);
  std::vector<uint64_t> children;  // the page itself goes as they are read
  PageElements::Element element;
  for (uint16_t i = 0; i < elements.count(); ++i) {
    if (!elements.Get(i, &element)) return Bad(id, "an element reaches beyond it");
    children.push_back(element.child);
  }
  for (uint64_t child : children) {
    if (absl::Status s = Tree(child, depth + 1); !s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::Status Walk::Inline(std::string_view page) {
  PageElements elements;
  if (!elements.Init(page) || !elements.is_leaf()) return Bad(0, "an inline bucket is no intact leaf");
  return Leaf(elements, 0);
}

// Ends a walk over the root once the bucket is found.
absl::Status Found() {
  return absl::CancelledError();
}

}  // namespace

class ImageReader::Impl {
 public:
  Impl(const base::File& file, const Meta& meta) : file_(file), meta_(meta) {}

  const base::File& file_;
  const Meta meta_;
};

ImageReader::ImageReader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ImageReader::~ImageReader() = default;

absl::StatusOr<std::unique_ptr<ImageReader>> ImageReader::Open(const base::File& file) {
  auto size = file.Size();
  if (!size.ok()) return size.status();
  // The first meta page is at the start; where the second one is depends on the page size.
  Meta best;
  bool found = false;
  std::string bytes;
  for (uint64_t offset = 0; offset <= kMaxPageSize; offset = offset == 0 ? kMinPageSize : offset * 2) {
    if (absl::Status s = file.ReadAt(offset, kPageHeaderBytes + kMetaBytes, &bytes); !s.ok()) return s;
    Meta meta;
    if (bytes.size() < kPageHeaderBytes ||
        !ParseMeta(std::string_view(bytes).substr(kPageHeaderBytes), &meta))
      continue;
    const bool page_size_ok = meta.page_size >= kMinPageSize && meta.page_size <= kMaxPageSize &&
                              (meta.page_size & (meta.page_size - 1)) == 0;
    if (!page_size_ok || (offset != 0 && offset != meta.page_size)) continue;
    if (found && meta.transaction <= best.transaction) continue;
    best = meta;
    found = true;
  }
  if (!found)
    return absl::DataLossError(
        base::StrCat(file.path(), " is not an etcd database: it has no intact meta page"));
  if (best.page_count > *size / best.page_size) {
    return absl::DataLossError(base::StrCat(file.path(), " is cut off: ", *size, " bytes of ",
                                            best.page_count, " pages of ", best.page_size));
  }
  return std::unique_ptr<ImageReader>(new ImageReader(std::make_unique<Impl>(file, best)));
}

absl::StatusOr<std::vector<std::string>> ImageReader::Buckets() const {
  std::vector<std::string> names;
  const auto collect = [&](const PageElements::Element& element) {
    if ((element.flags & kBucketElement) != 0) names.emplace_back(element.key);
    return absl::OkStatus();
  };
  Walk walk(impl_->file_, impl_->meta_, collect);
  if (absl::Status s = walk.Tree(impl_->meta_.root); !s.ok()) return s;
  return names;
}

absl::Status ImageReader::ForEach(std::string_view bucket, Visitor visit) const {
  std::string value;
  bool found = false;
  const auto look = [&](const PageElements::Element& element) {
    if (element.key != bucket || (element.flags & kBucketElement) == 0) return absl::OkStatus();
    value = std::string(element.value);
    found = true;
    return Found();
  };
  absl::Status status = Walk(impl_->file_, impl_->meta_, look).Tree(impl_->meta_.root);
  if (!found) {
    return status.ok()
               ? absl::NotFoundError(base::StrCat(impl_->file_.path(), " has no bucket \"", bucket, "\""))
               : status;
  }
  if (value.size() < kBucketHeaderBytes) {
    return absl::DataLossError(base::StrCat(impl_->file_.path(), ": bucket \"", bucket, "\" has no header"));
  }
  const auto pass_on = [&](const PageElements::Element& element) {
    if (element.flags != 0) {
      return absl::DataLossError(base::StrCat(impl_->file_.path(), ": a bucket within bucket \"", bucket,
                                              "\", which etcd does not write"));
    }
    return visit(element.key, element.value);
  };
  Walk walk(impl_->file_, impl_->meta_, pass_on);
  const BucketHeader header = ParseBucketHeader(value);
  return header.root != 0 ? walk.Tree(header.root)
                          : walk.Inline(std::string_view(value).substr(kBucketHeaderBytes));
}

uint64_t ImageReader::size_bytes() const {
  return impl_->meta_.page_count * impl_->meta_.page_size;
}
uint64_t ImageReader::page_size() const {
  return impl_->meta_.page_size;
}

}  // namespace kvd::storage::image
