#include "storage/image/image_writer.h"

#include <deque>
#include <optional>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/file_system.h"
#include "base/strings.h"
#include "storage/image/page.h"

namespace kvd::storage::image {
namespace {

constexpr uint64_t kPageSize = 4096;
// A little room is left in each page, so that etcd's next puts do not split every one of them.
constexpr size_t kFullBytes = kPageSize * 9 / 10;
constexpr size_t kBufferBytes = 1 << 20;
constexpr uint64_t kFreelistId = 2;
constexpr uint64_t kFirstDataId = 3;

// Gives out page numbers in order and writes the pages behind one another.
class PageSink {
 public:
  explicit PageSink(base::File& file) : file_(file) {}

  // The page's number.
  uint64_t Add(const PageBuilder& page) {
    const uint64_t id = next_id_;
    next_id_ += page.AppendTo(buffer_, id, kPageSize);
    return id;
  }
  absl::Status FlushIfLarge() { return buffer_.size() < kBufferBytes ? absl::OkStatus() : Flush(); }
  absl::Status Flush() {
    if (absl::Status s = file_.WriteAt(offset_, buffer_); !s.ok()) return s;
    offset_ += buffer_.size();
    buffer_.clear();
    return absl::OkStatus();
  }
  // Writes the pages before the data.
  absl::Status WriteHead(uint64_t root) {
    std::string head;
    for (uint64_t id : {0, 1}) {
      AppendPageHeader(head, {id, kMetaPage, 0, 0});
      AppendMeta(head, {kPageSize, root, kFreelistId, next_id_, id});
      head.resize((id + 1) * kPageSize, '\0');
    }
    AppendPageHeader(head, {kFreelistId, kFreelistPage, 0, 0});
    head.resize(kFirstDataId * kPageSize, '\0');
    return file_.WriteAt(0, head);
  }
  uint64_t size_bytes() const { return next_id_ * kPageSize; }

 private:
  base::File& file_;
  std::string buffer_;
  uint64_t offset_ = kFirstDataId * kPageSize;
  uint64_t next_id_ = kFirstDataId;
};

// One B+tree, from the leaves upwards.
class TreeBuilder {
 public:
  explicit TreeBuilder(PageSink& sink) : sink_(sink) {}

  void Add(uint32_t flags, std::string_view key, std::string_view value) {
    const size_t more = kElementBytes + key.size() + value.size();
    if (!leaf_.empty() && leaf_.bytes() + more > kFullBytes) EmitLeaf();
    leaf_.AddLeaf(flags, key, value);
  }
  // The root's page. Nothing may be added afterwards.
  uint64_t Finish();

 private:
  // A level of branches. The last full page is held back, so that the level's last page, which may have a
  // single child, can take one more from it.
  struct Level {
    PageBuilder held{false};
    PageBuilder filling{false};
    bool emitted = false;
  };

  void EmitLeaf() {
    const uint64_t id = sink_.Add(leaf_);
    AddChild(0, leaf_.empty() ? std::string_view() : leaf_.first_key(), id);
    leaf_.Clear();
  }
  void AddChild(size_t depth, std::string_view first_key, uint64_t id);
  void EmitBranch(size_t depth, PageBuilder& page) {
    if (page.empty()) return;
    levels_[depth].emitted = true;
    const uint64_t id = sink_.Add(page);
    AddChild(depth + 1, page.first_key(), id);
    page.Clear();
  }

  PageSink& sink_;
  PageBuilder leaf_{true};
  std::deque<Level> levels_;  // [0] is right above the leaves; references stay valid as it grows
};

void TreeBuilder::AddChild(size_t depth, std::string_view first_key, uint64_t id) {
  if (depth == levels_.size()) levels_.emplace_back();
  Level& level = levels_[depth];
  const size_t more = kElementBytes + first_key.size();
  if (level.filling.count() > 1 && level.filling.bytes() + more > kFullBytes) {
    EmitBranch(depth, level.held);
    std::swap(level.held, level.filling);
  }
  level.filling.AddBranch(first_key, id);
}

uint64_t TreeBuilder::Finish() {
  if (!leaf_.empty() || levels_.empty()) EmitLeaf();
  for (size_t depth = 0;; ++depth) {
    Level& level = levels_[depth];
    if (!level.emitted && level.held.empty() && level.filling.count() == 1) return level.filling.last_child();
    if (level.filling.count() == 1 && level.held.count() > 2) level.filling.TakeLastOf(level.held);
    EmitBranch(depth, level.held);
    EmitBranch(depth, level.filling);
  }
}

absl::Status CheckNext(std::string_view what, std::string_view key, bool first, std::string_view previous) {
  if (key.empty()) return absl::InvalidArgumentError(base::StrCat("an empty ", what));
  if (key.size() > kMaxKeyBytes) {
    return absl::InvalidArgumentError(base::StrCat("a ", what, " of ", key.size(), " bytes"));
  }
  if (!first && key <= previous)
    return absl::InvalidArgumentError(base::StrCat("a ", what, " that does not ascend"));
  return absl::OkStatus();
}

}  // namespace

class ImageWriter::Impl {
 public:
  explicit Impl(base::File& file) : sink_(file), root_(sink_) {}

  absl::Status BeginBucket(std::string_view name) {
    if (absl::Status s = CheckNext("bucket name", name, !bucket_ && bucket_name_.empty(), bucket_name_);
        !s.ok()) {
      return s;
    }
    EndBucket();
    bucket_.emplace(sink_);
    bucket_name_ = std::string(name);
    key_.clear();
    return sink_.FlushIfLarge();
  }

  absl::Status Put(std::string_view key, std::string_view value) {
    KVD_CHECK(bucket_.has_value(), "a key belongs to a bucket");
    if (absl::Status s = CheckNext("key", key, key_.empty(), key_); !s.ok()) return s;
    if (value.size() > kMaxValueBytes) {
      return absl::InvalidArgumentError(base::StrCat("a value of ", value.size(), " bytes"));
    }
    bucket_->Add(0, key, value);
    key_ = key;
    return sink_.FlushIfLarge();
  }

  absl::StatusOr<uint64_t> Finish() {
    EndBucket();
    const uint64_t root = root_.Finish();
    if (absl::Status s = sink_.Flush(); !s.ok()) return s;
    if (absl::Status s = sink_.WriteHead(root); !s.ok()) return s;
    return sink_.size_bytes();
  }

 private:
  void EndBucket() {
    if (!bucket_) return;
    root_.Add(kBucketElement, bucket_name_, EncodeBucketHeader({bucket_->Finish(), 0}));
    bucket_.reset();
  }

  PageSink sink_;
  TreeBuilder root_;
  std::optional<TreeBuilder> bucket_;
  std::string bucket_name_;
  std::string key_;  // the last one of the bucket
};

ImageWriter::ImageWriter(base::File& file) : impl_(std::make_unique<Impl>(file)) {}
ImageWriter::~ImageWriter() = default;
absl::Status ImageWriter::BeginBucket(std::string_view name) {
  return impl_->BeginBucket(name);
}
absl::Status ImageWriter::Put(std::string_view key, std::string_view value) {
  return impl_->Put(key, value);
}
absl::StatusOr<uint64_t> ImageWriter::Finish() {
  return impl_->Finish();
}

}  // namespace kvd::storage::image
