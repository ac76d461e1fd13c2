#include "base/mem_file_system.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <mutex>
#include <set>
#include <utility>
#include <variant>
#include <vector>

#include "base/strings.h"

namespace kvd::base {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kSector = 512;

// The bytes of a file; pages that were never written are zeros and take no memory.
class Image {
 public:
  uint64_t size() const { return size_; }

  void Resize(uint64_t size) {
    if (size < size_) {
      pages_.erase(pages_.lower_bound((size + kPage - 1) / kPage), pages_.end());
      // What a later extension uncovers is zeros.
      auto last = pages_.find(size / kPage);
      if (last != pages_.end())
        std::fill(last->second.begin() + static_cast<long>(size % kPage), last->second.end(), 0);
    }
    size_ = size;
  }

  void Write(uint64_t offset, std::string_view data) {
    size_ = std::max(size_, offset + data.size());
    while (!data.empty()) {
      const uint64_t within = offset % kPage;
      const size_t n = std::min<uint64_t>(kPage - within, data.size());
      auto page = pages_.try_emplace(offset / kPage).first;
      std::copy_n(data.data(), n, page->second.begin() + static_cast<long>(within));
      data.remove_prefix(n);
      offset += n;
    }
  }

  std::string Read(uint64_t offset, uint64_t n) const {
    if (offset >= size_) return std::string();
    std::string out(std::min(n, size_ - offset), '\0');
    const uint64_t end = offset + out.size();
    for (auto it = pages_.lower_bound(offset / kPage); it != pages_.end() && it->first * kPage < end; ++it) {
      const uint64_t from = std::max(offset, it->first * kPage);
      const uint64_t to = std::min(end, (it->first + 1) * kPage);
      std::copy_n(it->second.data() + from % kPage, to - from, out.data() + (from - offset));
    }
    return out;
  }

 private:
  uint64_t size_ = 0;
  std::map<uint64_t, std::array<char, kPage>> pages_;
};

// An operation on a file that no sync has covered yet.
struct FileOp {
  bool resize;
  uint64_t offset;   // of a write; the new size of a resize
  std::string data;  // of a write
};

struct Node;
using NodePtr = std::shared_ptr<Node>;
using Entries = std::map<std::string, NodePtr>;

struct Node {
  bool is_dir = false;
  // A directory.
  Entries live_entries;
  Entries durable_entries;
  // A file.
  Image live;
  Image durable;
  std::vector<FileOp> unsynced;
  bool locked = false;
  bool linked = true;  // false once it has no name: its bytes no longer count

  void Apply(FileOp op) {
    if (op.resize) {
      live.Resize(op.offset);
    } else {
      live.Write(op.offset, op.data);
    }
    unsynced.push_back(std::move(op));
  }
  void MakeDurable() {
    for (const FileOp& op : unsynced) {
      if (op.resize) {
        durable.Resize(op.offset);
      } else {
        durable.Write(op.offset, op.data);
      }
    }
    unsynced.clear();
  }
};

// One create, rename or remove: it becomes durable as a whole or not at all.
struct DirOp {
  struct Edit {
    NodePtr dir;
    std::string name;
    NodePtr node;  // null: the name goes away
  };
  std::vector<Edit> edits;

  bool Touches(const NodePtr& dir) const {
    return std::any_of(edits.begin(), edits.end(), [&](const Edit& e) { return e.dir == dir; });
  }
};

void ApplyEdit(Entries& entries, const DirOp::Edit& edit) {
  if (edit.node) {
    entries[edit.name] = edit.node;
  } else {
    entries.erase(edit.name);
  }
}

std::vector<std::string> Parts(const std::string& path) {
  std::vector<std::string> parts;
  for (const auto& part : std::filesystem::path(path).lexically_normal()) {
    if (part != "/" && part != "." && !part.empty()) parts.push_back(part.string());
  }
  return parts;
}

absl::Status NotFound(std::string_view operation, const std::string& path) {
  return absl::NotFoundError(StrCat(operation, " ", path, ": No such file or directory"));
}

// What a crash leaves of one file.
class CrashedFile {
 public:
  CrashedFile(Random& random, const MemFileSystem::CrashOptions& options)
      : random_(random), options_(options) {}

  Image Make(const Node& file) {
    Image image = file.durable;
    for (const FileOp& op : file.unsynced) {
      if (op.resize) {
        if (random_.Chance(options_.keep_write)) image.Resize(op.offset);
      } else {
        KeepSome(op, image);
      }
    }
    return image;
  }

 private:
  void KeepSome(const FileOp& op, Image& image) {
    const uint64_t end = op.offset + op.data.size();
    // The new length may be on the disk although the bytes are not.
    if (random_.Chance(options_.keep_write) && image.size() < end) image.Resize(end);
    for (uint64_t at = op.offset; at < end;) {
      const uint64_t page_end = std::min(end, (at / kPage + 1) * kPage);
      const std::string_view bytes = std::string_view(op.data).substr(at - op.offset, page_end - at);
      if (random_.Chance(options_.keep_write)) {
        image.Write(at, bytes);
      } else if (random_.Chance(options_.tear_write)) {
        Tear(at, bytes, image);
      }
      at = page_end;
    }
  }

  // Damages only what the operation itself wrote: a sector's older bytes are not at risk from a later append.
  void Tear(uint64_t at, std::string_view bytes, Image& image) {
    while (!bytes.empty()) {
      const size_t n = std::min<uint64_t>(bytes.size(), kSector - at % kSector);
      switch (random_.Below(4)) {
        case 0:
          image.Write(at, bytes.substr(0, n));
          break;
        case 1:  // the old bytes
          break;
        case 2:
          image.Write(at, std::string(n, '\0'));
          break;
        case 3: {
          std::string garbage(n, '\0');
          for (char& c : garbage) c = static_cast<char>(random_.Next());
          image.Write(at, garbage);
          break;
        }
      }
      at += n;
      bytes.remove_prefix(n);
    }
  }

  Random& random_;
  const MemFileSystem::CrashOptions& options_;
};

}  // namespace

struct MemFileSystem::State {
  State() { root->is_dir = true; }

  // The functions below want the mutex held, except Fault.
  NodePtr Find(const std::vector<std::string>& parts) const {
    NodePtr node = root;
    for (const std::string& part : parts) {
      if (!node->is_dir) return nullptr;
      auto it = node->live_entries.find(part);
      if (it == node->live_entries.end()) return nullptr;
      node = it->second;
    }
    return node;
  }
  NodePtr FindParent(std::vector<std::string> parts) const {
    if (parts.empty()) return nullptr;
    parts.pop_back();
    NodePtr dir = Find(parts);
    return dir && dir->is_dir ? dir : nullptr;
  }
  void Do(DirOp op) {
    for (const DirOp::Edit& edit : op.edits) ApplyEdit(edit.dir->live_entries, edit);
    unsynced.push_back(std::move(op));
  }
  void Unlink(const NodePtr& node) {
    for (const auto& [name, child] : node->live_entries) Unlink(child);
    if (!node->is_dir && node->linked) used -= node->live.size();
    node->linked = false;
  }
  // Accounts for a file that becomes `size` long.
  absl::Status Reserve(const Node& node, uint64_t size, const std::string& path) {
    if (!node.linked) return absl::OkStatus();
    const uint64_t now = node.live.size();
    if (size > now && size - now > Free()) {
      return absl::ResourceExhaustedError(StrCat("write ", path, ": No space left on device"));
    }
    used = used - now + size;
    return absl::OkStatus();
  }
  uint64_t Free() const { return capacity > used ? capacity - used : 0; }

  absl::Status Fault(Op op, const std::string& path) {
    FaultHook asked;
    {
      std::lock_guard<std::mutex> lock(mutex);
      asked = hook;
    }
    return asked ? asked(op, path) : absl::OkStatus();
  }

  std::mutex mutex;
  NodePtr root = std::make_shared<Node>();
  std::vector<DirOp> unsynced;  // of every directory, in order
  uint64_t capacity = UINT64_MAX;
  uint64_t used = 0;
  bool lying_sync = false;
  FaultHook hook;

  class OpenFile;
  class HeldLock;
};

class MemFileSystem::State::OpenFile final : public File {
 public:
  OpenFile(std::shared_ptr<State> state, NodePtr node, std::string path, bool writable)
      : state_(std::move(state)), node_(std::move(node)), path_(std::move(path)), writable_(writable) {}

  using File::WriteAt;
  absl::Status ReadAt(uint64_t offset, size_t n, std::string* out) const override {
    out->clear();
    if (absl::Status s = state_->Fault(Op::kRead, path_); !s.ok()) return s;
    std::lock_guard<std::mutex> lock(state_->mutex);
    *out = node_->live.Read(offset, n);
    return absl::OkStatus();
  }

  absl::Status WriteAt(uint64_t offset, absl::Span<const std::string_view> pieces) override {
    if (absl::Status s = Allowed(Op::kWrite, "write"); !s.ok()) return s;
    std::string data;
    for (std::string_view piece : pieces) data.append(piece);
    if (data.empty()) return absl::OkStatus();
    std::lock_guard<std::mutex> lock(state_->mutex);
    const uint64_t size = node_->live.size();
    const uint64_t end = offset + data.size();
    absl::Status reserved = state_->Reserve(*node_, std::max(size, end), path_);
    if (!reserved.ok()) {
      // A full disk takes what still fits.
      const uint64_t limit = size + state_->Free();
      if (limit <= offset) return reserved;
      data.resize(limit - offset);
      if (absl::Status s = state_->Reserve(*node_, limit, path_); !s.ok()) return s;
    }
    node_->Apply({false, offset, std::move(data)});
    return reserved;
  }

  absl::Status Preallocate(uint64_t size) override {
    if (absl::Status s = Allowed(Op::kPreallocate, "preallocate"); !s.ok()) return s;
    std::lock_guard<std::mutex> lock(state_->mutex);
    return size > node_->live.size() ? Resize(size) : absl::OkStatus();
  }

  absl::Status Truncate(uint64_t size) override {
    if (absl::Status s = Allowed(Op::kTruncate, "truncate"); !s.ok()) return s;
    std::lock_guard<std::mutex> lock(state_->mutex);
    return Resize(size);
  }

  absl::Status Sync() override {
    absl::Status s = state_->Fault(Op::kSync, path_);
    std::lock_guard<std::mutex> lock(state_->mutex);
    if (!s.ok()) {
      node_->unsynced.clear();  // clean but lost: it reads back, and no later sync writes it
    } else if (!state_->lying_sync) {
      node_->MakeDurable();
    }
    return s;
  }

  absl::StatusOr<uint64_t> Size() const override {
    std::lock_guard<std::mutex> lock(state_->mutex);
    return node_->live.size();
  }
  const std::string& path() const override { return path_; }

 private:
  absl::Status Allowed(Op op, std::string_view what) {
    if (!writable_) return absl::InternalError(StrCat(what, " ", path_, ": Bad file descriptor"));
    return state_->Fault(op, path_);
  }
  absl::Status Resize(uint64_t size) {
    if (absl::Status s = state_->Reserve(*node_, size, path_); !s.ok()) return s;
    node_->Apply({true, size, {}});
    return absl::OkStatus();
  }

  const std::shared_ptr<State> state_;
  const NodePtr node_;
  const std::string path_;
  const bool writable_;
};

class MemFileSystem::State::HeldLock final : public FileLock {
 public:
  HeldLock(std::shared_ptr<State> state, NodePtr node) : state_(std::move(state)), node_(std::move(node)) {}
  ~HeldLock() override {
    std::lock_guard<std::mutex> lock(state_->mutex);
    node_->locked = false;
  }

 private:
  const std::shared_ptr<State> state_;
  const NodePtr node_;
};

MemFileSystem::MemFileSystem() : state_(std::make_shared<State>()) {}
MemFileSystem::~MemFileSystem() = default;

absl::StatusOr<std::unique_ptr<File>> MemFileSystem::Open(const std::string& path, Mode mode) {
  if (absl::Status s = state_->Fault(Op::kOpen, path); !s.ok()) return s;
  std::lock_guard<std::mutex> lock(state_->mutex);
  const std::vector<std::string> parts = Parts(path);
  NodePtr node = state_->Find(parts);
  if (node && node->is_dir) return absl::InternalError(StrCat("open ", path, ": Is a directory"));
  if (node && mode == Mode::kCreateNew) {
    return absl::AlreadyExistsError(StrCat("open ", path, ": File exists"));
  }
  if (!node) {
    NodePtr parent = state_->FindParent(parts);
    if (!parent || mode == Mode::kRead || mode == Mode::kReadWrite) return NotFound("open", path);
    node = std::make_shared<Node>();
    state_->Do({{{parent, parts.back(), node}}});
  }
  return std::make_unique<State::OpenFile>(state_, node, path, mode != Mode::kRead);
}

absl::Status MemFileSystem::Rename(const std::string& from, const std::string& to) {
  if (absl::Status s = state_->Fault(Op::kRename, from); !s.ok()) return s;
  std::lock_guard<std::mutex> lock(state_->mutex);
  const std::vector<std::string> from_parts = Parts(from);
  const std::vector<std::string> to_parts = Parts(to);
  NodePtr node = state_->Find(from_parts);
  NodePtr from_dir = state_->FindParent(from_parts);
  NodePtr to_dir = state_->FindParent(to_parts);
  if (!node || !from_dir || !to_dir) return NotFound("rename", StrCat(from, " to ", to));
  NodePtr replaced = state_->Find(to_parts);
  if (replaced == node) return absl::OkStatus();
  if (replaced) {
    if (replaced->is_dir != node->is_dir || !replaced->live_entries.empty()) {
      return absl::InternalError(StrCat("rename ", from, " to ", to, ": the target is in the way"));
    }
    state_->Unlink(replaced);
  }
  state_->Do({{{from_dir, from_parts.back(), nullptr}, {to_dir, to_parts.back(), node}}});
  return absl::OkStatus();
}

absl::Status MemFileSystem::Remove(const std::string& path) {
  if (absl::Status s = state_->Fault(Op::kRemove, path); !s.ok()) return s;
  std::lock_guard<std::mutex> lock(state_->mutex);
  const std::vector<std::string> parts = Parts(path);
  NodePtr node = state_->Find(parts);
  NodePtr parent = state_->FindParent(parts);
  if (!node || !parent) return NotFound("remove", path);
  if (!node->live_entries.empty()) {
    return absl::InternalError(StrCat("remove ", path, ": Directory not empty"));
  }
  state_->Unlink(node);
  state_->Do({{{parent, parts.back(), nullptr}}});
  return absl::OkStatus();
}

absl::Status MemFileSystem::RemoveAll(const std::string& path) {
  if (absl::Status s = state_->Fault(Op::kRemove, path); !s.ok()) return s;
  std::lock_guard<std::mutex> lock(state_->mutex);
  const std::vector<std::string> parts = Parts(path);
  NodePtr node = state_->Find(parts);
  NodePtr parent = state_->FindParent(parts);
  if (!node || !parent) return absl::OkStatus();
  state_->Unlink(node);
  state_->Do({{{parent, parts.back(), nullptr}}});
  return absl::OkStatus();
}

absl::Status MemFileSystem::CreateDirs(const std::string& path) {
  if (absl::Status s = state_->Fault(Op::kOpen, path); !s.ok()) return s;
  std::lock_guard<std::mutex> lock(state_->mutex);
  NodePtr dir = state_->root;
  for (const std::string& part : Parts(path)) {
    NodePtr& child = dir->live_entries[part];
    if (!child) {
      child = std::make_shared<Node>();
      child->is_dir = true;
      dir->durable_entries[part] = child;
    }
    if (!child->is_dir) {
      return absl::InternalError(StrCat("create directory ", path, ": Not a directory"));
    }
    dir = child;
  }
  return absl::OkStatus();
}

absl::Status MemFileSystem::SyncDir(const std::string& path) {
  if (absl::Status s = state_->Fault(Op::kSyncDir, path); !s.ok()) return s;
  std::lock_guard<std::mutex> lock(state_->mutex);
  NodePtr dir = state_->Find(Parts(path));
  if (!dir || !dir->is_dir) return NotFound("open", path);
  if (state_->lying_sync) return absl::OkStatus();
  std::erase_if(state_->unsynced, [&](const DirOp& op) {
    if (!op.Touches(dir)) return false;
    for (const DirOp::Edit& edit : op.edits) ApplyEdit(edit.dir->durable_entries, edit);
    return true;
  });
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> MemFileSystem::List(const std::string& dir) {
  if (absl::Status s = state_->Fault(Op::kList, dir); !s.ok()) return s;
  std::lock_guard<std::mutex> lock(state_->mutex);
  NodePtr node = state_->Find(Parts(dir));
  if (!node || !node->is_dir) return NotFound("list", dir);
  std::vector<std::string> names;
  for (const auto& [name, child] : node->live_entries) names.push_back(name);
  return names;
}

absl::StatusOr<bool> MemFileSystem::Exists(const std::string& path) {
  std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->Find(Parts(path)) != nullptr;
}

absl::StatusOr<uint64_t> MemFileSystem::FreeBytes(const std::string&) {
  std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->Free();
}

absl::StatusOr<std::unique_ptr<FileLock>> MemFileSystem::Lock(const std::string& path) {
  auto file = Open(path, Mode::kCreate);
  if (!file.ok()) return file.status();
  std::lock_guard<std::mutex> lock(state_->mutex);
  NodePtr node = state_->Find(Parts(path));
  if (!node) return NotFound("lock", path);
  if (node->locked)
    return absl::UnavailableError(StrCat("lock ", path, ": Resource temporarily unavailable"));
  node->locked = true;
  return std::make_unique<State::HeldLock>(state_, node);
}

void MemFileSystem::SetCapacity(uint64_t bytes) {
  std::lock_guard<std::mutex> lock(state_->mutex);
  state_->capacity = bytes;
}

void MemFileSystem::SetFaultHook(FaultHook hook) {
  std::lock_guard<std::mutex> lock(state_->mutex);
  state_->hook = std::move(hook);
}

void MemFileSystem::SetLyingSync(bool lying) {
  std::lock_guard<std::mutex> lock(state_->mutex);
  state_->lying_sync = lying;
}

absl::Status MemFileSystem::FlipBit(const std::string& path, uint64_t offset, int bit) {
  std::lock_guard<std::mutex> lock(state_->mutex);
  NodePtr node = state_->Find(Parts(path));
  if (!node || node->is_dir) return NotFound("open", path);
  if (offset >= node->live.size()) return absl::OutOfRangeError(StrCat(path, " is shorter than that"));
  const char mask = static_cast<char>(1 << bit);
  for (Image* image : {&node->live, &node->durable}) {
    std::string byte = image->Read(offset, 1);
    if (byte.empty()) continue;
    byte[0] = static_cast<char>(byte[0] ^ mask);
    image->Write(offset, byte);
  }
  for (FileOp& op : node->unsynced) {
    if (op.resize || offset < op.offset || offset - op.offset >= op.data.size()) continue;
    char& c = op.data[offset - op.offset];
    c = static_cast<char>(c ^ mask);
  }
  return absl::OkStatus();
}

std::unique_ptr<MemFileSystem> MemFileSystem::CrashClone(Random& random, const CrashOptions& options) const {
  std::lock_guard<std::mutex> lock(state_->mutex);
  // Journals keep the order of a directory's operations: once one is lost, so are those after it.
  std::map<const Node*, Entries> entries;  // of the directories with unsynced operations; looked up only
  std::set<const Node*> stopped;
  for (const DirOp& op : state_->unsynced) {
    const bool lost = std::any_of(op.edits.begin(), op.edits.end(),
                                  [&](const DirOp::Edit& e) { return stopped.contains(e.dir.get()); }) ||
                      !random.Chance(options.keep_directory_op);
    for (const DirOp::Edit& edit : op.edits) {
      if (lost) {
        stopped.insert(edit.dir.get());
      } else {
        ApplyEdit(entries.try_emplace(edit.dir.get(), edit.dir->durable_entries).first->second, edit);
      }
    }
  }

  auto clone = std::make_unique<MemFileSystem>();
  State& result = *clone->state_;
  CrashedFile crashed(random, options);
  std::function<NodePtr(const Node&)> copy = [&](const Node& from) {
    auto to = std::make_shared<Node>();
    to->is_dir = from.is_dir;
    if (from.is_dir) {
      auto kept = entries.find(&from);
      for (const auto& [name, child] : kept == entries.end() ? from.durable_entries : kept->second) {
        to->live_entries.emplace(name, copy(*child));
      }
      to->durable_entries = to->live_entries;
    } else {
      to->live = crashed.Make(from);
      to->durable = to->live;
      result.used += to->live.size();
    }
    return to;
  };
  result.root = copy(*state_->root);
  result.capacity = state_->capacity;
  return clone;
}

}  // namespace kvd::base
