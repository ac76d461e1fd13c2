#include "storage/key_index.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "base/check.h"
#include "base/mutant.h"
#include "storage/key_index_nodes.h"

namespace kvd::storage {
using key_index_internal::Entry;
using key_index_internal::EraseBit;
using key_index_internal::Inner;
using key_index_internal::InsertBit;
using key_index_internal::kFanout;
using key_index_internal::kLoadFanout;
using key_index_internal::kMaxHeight;
using key_index_internal::Leaf;
using key_index_internal::MaskBelow;
using key_index_internal::Node;
using key_index_internal::SumOf;

struct KeyIndex::Tree {
  Node* root = new Leaf;
  int64_t keys = 0;
  LiveSum live;
  size_t entry_bytes = 0;
  size_t node_bytes = sizeof(Leaf);

  // While loading: the live keys, in order, and once more by the revision of their newest version; and what
  // is not the newest of a live key.
  std::vector<Entry*> latest;
  std::vector<Entry*> by_revision;
  size_t reached =
      0;  // [reached, group_end) of by_revision: those of one revision, the last that was asked for
  size_t group_end = 0;  // or the next above it
  size_t matched = 0;    // of latest
  absl::flat_hash_map<std::string_view, Entry*> older;

  ~Tree() {
    FreeNode(root, /*with_entries=*/true);
    for (Entry* entry : latest) Entry::Free(entry);
    for (auto& [key, entry] : older) Entry::Free(entry);
  }

  // The live key whose newest version this is, or null. Revisions are asked for in ascending order: one pass
  // over both instead of a look-up by key for each.
  Entry* MatchLatest(std::string_view key, const KeyVersion& version) {
    if (version.tombstone) return nullptr;
    const auto main = [&](size_t i) { return by_revision[i]->one.mod_main; };
    if (reached == group_end || main(reached) < version.mod_main) {
      for (reached = group_end; reached < by_revision.size() && main(reached) < version.mod_main;) ++reached;
      for (group_end = reached; group_end < by_revision.size() && main(group_end) == version.mod_main;) {
        ++group_end;
      }
    }
    // Those of one transaction stand in the order of their keys.
    const auto begin = by_revision.begin() + static_cast<ptrdiff_t>(reached);
    const auto end = by_revision.begin() + static_cast<ptrdiff_t>(group_end);
    if (begin == end || (*begin)->one.mod_main != version.mod_main) return nullptr;
    const auto it =
        std::lower_bound(begin, end, key, [](const Entry* e, std::string_view k) { return e->key() < k; });
    return it != end && (*it)->key() == key ? *it : nullptr;
  }

  // The way from the root to a leaf.
  struct Path {
    Inner* inner[kMaxHeight];
    int child[kMaxHeight];
    int depth = 0;
    Leaf* leaf = nullptr;
    int at = 0;
    bool found = false;
  };

  Path Descend(std::string_view key) {
    Path path;
    Node* node = root;
    while (!node->leaf) {
      auto* inner = static_cast<Inner*>(node);
      int i = inner->ChildFor(key);
      KVD_CHECK(path.depth < kMaxHeight, "the index is too high");
      path.inner[path.depth] = inner;
      path.child[path.depth++] = i;
      node = inner->children[i];
    }
    path.leaf = static_cast<Leaf*>(node);
    path.at = path.leaf->LowerBound(key);
    path.found = path.at < path.leaf->n && path.leaf->entries[path.at]->key() == key;
    return path;
  }

  const Entry* Find(std::string_view key) const {
    const Node* node = root;
    while (!node->leaf) {
      const auto* inner = static_cast<const Inner*>(node);
      node = inner->children[inner->ChildFor(key)];
    }
    const auto* leaf = static_cast<const Leaf*>(node);
    int at = leaf->LowerBound(key);
    return at < leaf->n && leaf->entries[at]->key() == key ? leaf->entries[at] : nullptr;
  }

  void AddLive(const Path& path, const LiveSum& change) {
    for (int d = 0; d < path.depth; ++d) path.inner[d]->below[path.child[d]] += change;
    live += change;
  }

  void Insert(Path& path, Entry* entry) {
    Leaf* leaf = path.leaf;
    ++keys;
    entry_bytes += entry->bytes();
    if (entry->live()) AddLive(path, entry->sum());
    if (leaf->n < kFanout) {
      InsertIntoLeaf(leaf, path.at, entry);
      return;
    }
    // A full leaf: keys that come in ascending order leave full leaves behind.
    bool at_end = path.at == kFanout && IsLast(path);
    int split = at_end ? kFanout : kFanout / 2;
    auto* right = new Leaf;
    node_bytes += sizeof(Leaf);
    right->n = kFanout - split;
    std::copy(leaf->entries + split, leaf->entries + kFanout, right->entries);
    right->live = split >= 64 ? 0 : leaf->live >> split;
    leaf->n = split;
    leaf->live &= MaskBelow(split);
    if (path.at >= split && (at_end || path.at > split)) {
      InsertIntoLeaf(right, path.at - split, entry);
    } else {
      InsertIntoLeaf(leaf, path.at, entry);
    }
    InsertSibling(path, path.depth, leaf, right, std::string(right->entries[0]->key()));
  }

  const KeyVersion* Latest(std::string_view key) const {
    const Entry* entry = Find(key);
    return entry ? &entry->data()[entry->count - 1] : nullptr;
  }

  // Live keys < key.
  int64_t Rank(std::string_view key) const {
    int64_t rank = 0;
    const Node* node = root;
    while (!node->leaf) {
      const auto* inner = static_cast<const Inner*>(node);
      int child = inner->ChildFor(key);
      for (int i = 0; i < child; ++i) rank += inner->below[i].keys;
      node = inner->children[child];
    }
    const auto* leaf = static_cast<const Leaf*>(node);
    int at = leaf->LowerBound(key);
    return rank + std::popcount(leaf->live & MaskBelow(at));
  }

  // Of the keys < key.
  LiveSum SumBelow(std::string_view key) const {
    LiveSum sum;
    const Node* node = root;
    while (!node->leaf) {
      const auto* inner = static_cast<const Inner*>(node);
      int child = inner->ChildFor(key);
      for (int i = 0; i < child; ++i) sum += inner->below[i];
      node = inner->children[child];
    }
    const auto* leaf = static_cast<const Leaf*>(node);
    return sum += SumOf(leaf, leaf->LowerBound(key));
  }

  // Calls visit(entry) for entries >= from, ascending, until it returns false.
  template <typename Visit>
  static bool VisitFrom(const Node* node, std::string_view from, const Visit& visit) {
    if (node->leaf) {
      const auto* leaf = static_cast<const Leaf*>(node);
      for (int i = from.empty() ? 0 : leaf->LowerBound(from); i < leaf->n; ++i) {
        if (!visit(leaf->entries[i])) return false;
      }
      return true;
    }
    const auto* inner = static_cast<const Inner*>(node);
    for (int i = inner->ChildFor(from), first = i; i < inner->n; ++i) {
      if (!VisitFrom(inner->children[i], i == first ? from : std::string_view(), visit)) return false;
    }
    return true;
  }

  void Erase(std::string_view key) {
    Path path = Descend(key);
    KVD_CHECK(path.found, "erasing a key that is not in the index");
    Leaf* leaf = path.leaf;
    Entry* entry = leaf->entries[path.at];
    std::copy(leaf->entries + path.at + 1, leaf->entries + leaf->n, leaf->entries + path.at);
    EraseBit(leaf->live, path.at);
    --leaf->n;
    --keys;
    entry_bytes -= entry->bytes();
    Entry::Free(entry);
    // Nodes go when they are empty; they are not merged before.
    if (leaf->n > 0 || path.depth == 0) return;
    delete leaf;
    node_bytes -= sizeof(Leaf);
    for (int d = path.depth - 1; d >= 0; --d) {
      path.inner[d]->EraseChild(path.child[d]);
      if (path.inner[d]->n > 0) break;
      if (d == 0) {
        delete path.inner[0];
        node_bytes += sizeof(Leaf) - sizeof(Inner);
        root = new Leaf;
        return;
      }
      delete path.inner[d];
      node_bytes -= sizeof(Inner);
    }
    while (!root->leaf && root->n == 1) {
      auto* old = static_cast<Inner*>(root);
      root = old->children[0];
      delete old;
      node_bytes -= sizeof(Inner);
    }
  }

  // Builds the tree over ascending entries.
  void Build(const std::vector<Entry*>& entries) {
    std::vector<std::pair<Node*, std::string_view>> level;  // with the lowest key below
    for (size_t i = 0; i < entries.size(); i += kLoadFanout) {
      auto* leaf = new Leaf;
      leaf->n = static_cast<int>(std::min<size_t>(kLoadFanout, entries.size() - i));
      for (int k = 0; k < leaf->n; ++k) {
        Entry* entry = entries[i + static_cast<size_t>(k)];
        leaf->entries[k] = entry;
        leaf->live |= static_cast<uint64_t>(entry->live()) << k;
        entry_bytes += entry->bytes();
      }
      level.emplace_back(leaf, leaf->entries[0]->key());
    }
    keys = static_cast<int64_t>(entries.size());
    if (level.empty()) return;
    node_bytes = level.size() * sizeof(Leaf);
    while (level.size() > 1) {
      std::vector<std::pair<Node*, std::string_view>> above;
      for (size_t i = 0; i < level.size(); i += kLoadFanout) {
        auto* inner = new Inner;
        node_bytes += sizeof(Inner);
        for (size_t k = i; k < std::min(i + kLoadFanout, level.size()); ++k) {
          inner->InsertChild(inner->n, k == i ? std::string() : std::string(level[k].second), level[k].first,
                             SumOf(level[k].first));
        }
        above.emplace_back(inner, level[i].second);
      }
      level = std::move(above);
    }
    delete static_cast<Leaf*>(root);
    root = level[0].first;
    live = SumOf(root);
  }

 private:
  static void FreeNode(Node* node, bool with_entries) {
    if (node->leaf) {
      auto* leaf = static_cast<Leaf*>(node);
      for (int i = 0; with_entries && i < leaf->n; ++i) Entry::Free(leaf->entries[i]);
      delete leaf;
      return;
    }
    auto* inner = static_cast<Inner*>(node);
    for (int i = 0; i < inner->n; ++i) FreeNode(inner->children[i], with_entries);
    delete inner;
  }

  static void InsertIntoLeaf(Leaf* leaf, int at, Entry* entry) {
    std::copy_backward(leaf->entries + at, leaf->entries + leaf->n, leaf->entries + leaf->n + 1);
    leaf->entries[at] = entry;
    InsertBit(leaf->live, at, entry->live());
    ++leaf->n;
  }

  static bool IsLast(const Path& path) {
    for (int d = 0; d < path.depth; ++d) {
      if (path.child[d] != path.inner[d]->n - 1) return false;
    }
    return true;
  }

  // `right` holds what was split off `left`, which is at `depth` of the path; `key` is its lowest.
  void InsertSibling(Path& path, int depth, Node* left, Node* right, std::string key) {
    if (depth == 0) {
      auto* inner = new Inner;
      node_bytes += sizeof(Inner);
      inner->InsertChild(0, std::string(), left, SumOf(left));
      inner->InsertChild(1, std::move(key), right, SumOf(right));
      root = inner;
      return;
    }
    Inner* parent = path.inner[depth - 1];
    int at = path.child[depth - 1];
    const LiveSum moved = SumOf(right);
    parent->below[at] -= moved;
    if (parent->n < kFanout) {
      parent->InsertChild(at + 1, std::move(key), right, moved);
      return;
    }
    bool at_end = at == kFanout - 1;
    int split = at_end ? kFanout - 1 : kFanout / 2;
    auto* sibling = new Inner;
    node_bytes += sizeof(Inner);
    std::string separator = parent->keys[split];
    for (int i = split; i < kFanout; ++i) {
      sibling->InsertChild(sibling->n, i == split ? std::string() : std::move(parent->keys[i]),
                           parent->children[i], parent->below[i]);
      parent->keys[i].clear();
    }
    parent->n = split;
    if (at >= split) {
      sibling->InsertChild(at - split + 1, std::move(key), right, moved);
    } else {
      parent->InsertChild(at + 1, std::move(key), right, moved);
    }
    InsertSibling(path, depth - 1, parent, sibling, std::move(separator));
  }
};

KeyIndex::KeyIndex() : tree_(std::make_unique<Tree>()) {}
KeyIndex::~KeyIndex() = default;

LiveSum KeyIndex::Append(std::string_view key, const KeyVersion& version) {
  Tree::Path path = tree_->Descend(key);
  if (!path.found) {
    Entry* entry = Entry::Make(key);
    entry->Push(version);
    tree_->Insert(path, entry);
    return entry->sum();
  }
  Entry* entry = path.leaf->entries[path.at];
  KVD_CHECK(entry->data()[entry->count - 1].revision() < version.revision(), "a key's revisions must ascend");
  const LiveSum before = entry->sum();
  tree_->entry_bytes -= entry->bytes();
  entry->Push(version);
  tree_->entry_bytes += entry->bytes();
  LiveSum change = entry->sum();
  change -= before;
  if (change == LiveSum{}) return change;
  uint64_t bit = uint64_t{1} << path.at;
  path.leaf->live = version.tombstone ? path.leaf->live & ~bit : path.leaf->live | bit;
  tree_->AddLive(path, change);
  return change;
}

const KeyVersion* KeyIndex::Find(std::string_view key, int64_t revision) const {
  const Entry* entry = tree_->Find(key);
  return entry ? entry->At(revision) : nullptr;
}

const KeyVersion* KeyIndex::FindLatest(std::string_view key) const {
  return tree_->Latest(key);
}

absl::Span<const KeyVersion> KeyIndex::Versions(std::string_view key) const {
  const Entry* entry = tree_->Find(key);
  return entry ? entry->versions() : absl::Span<const KeyVersion>();
}

int64_t KeyIndex::CountLive(const base::KeyInterval& interval) const {
  if (interval.empty()) return 0;
  if (interval.is_single()) {
    const KeyVersion* v = FindLatest(interval.start());
    return v && !v->tombstone ? 1 : 0;
  }
  int64_t below = tree_->Rank(interval.start());
  int64_t upto = interval.is_open() ? tree_->live.keys : tree_->Rank(interval.end());
  return upto - below;
}

LiveSum KeyIndex::SumLive(const base::KeyInterval& interval) const {
  if (interval.empty()) return {};
  if (interval.is_single()) {
    const Entry* entry = tree_->Find(interval.start());
    return entry ? entry->sum() : LiveSum{};
  }
  LiveSum sum = interval.is_open() ? tree_->live : tree_->SumBelow(interval.end());
  return sum -= tree_->SumBelow(interval.start());
}

int64_t KeyIndex::live_keys() const {
  return tree_->live.keys;
}
int64_t KeyIndex::keys() const {
  return tree_->keys;
}
size_t KeyIndex::memory_bytes() const {
  return tree_->entry_bytes + tree_->node_bytes;
}

bool KeyIndex::Walk(const base::KeyInterval& interval, std::string_view resume, int64_t revision,
                    size_t max_keys,
                    absl::FunctionRef<bool(std::string_view key, const KeyVersion& version)> visit,
                    std::string* resume_at) const {
  if (interval.empty()) return true;
  size_t looked = 0;
  bool more = false;
  std::string_view from = std::max(resume, interval.start());
  Tree::VisitFrom(tree_->root, from, [&](const Entry* entry) {
    if (interval.Before(entry->key())) return false;
    if (looked == max_keys) {
      resume_at->assign(entry->key());
      more = true;
      return false;
    }
    ++looked;
    const KeyVersion* v = entry->At(revision);
    return v == nullptr || v->tombstone || visit(entry->key(), *v);
  });
  return !more;
}

namespace {

// Drops from `entry` what Sweep lets go.
void SweepEntry(Entry* entry, int64_t compact_revision, absl::Span<const int64_t> pins,
                std::vector<DeadVersion>* dead, bool* kept_for_pins) {
  KeyVersion* v = entry->data();
  const KeyVersion* newest = entry->At(compact_revision);
  if (newest == nullptr) return;
  auto base = static_cast<uint32_t>(newest - v);
  uint32_t kept = 0;
  for (uint32_t i = 0; i < base; ++i) {
    auto pin = std::lower_bound(pins.begin(), pins.end(), v[i].mod_main);
    if (pin != pins.end() && *pin < v[i + 1].mod_main) {
      v[kept++] = v[i];
    } else {
      dead->push_back({v[i].revision(), v[i].tombstone, v[i].large});
    }
  }
  if (kept > 0) *kept_for_pins = true;
  // A tombstone hides what stands below it, and a watch that starts at the compacted revision still wants to
  // see it.
  const int64_t hidden = compact_revision + (KVD_MUTANT("compaction_takes_last_delete") ? 1 : 0);
  if (v[base].tombstone && v[base].mod_main < hidden && kept == 0) {
    dead->push_back({v[base].revision(), /*tombstone=*/true, /*large=*/false});
    ++base;
  }
  if (kept == base) return;
  std::copy(v + base, v + entry->count, v + kept);
  entry->count = kept + (entry->count - base);
  entry->Shrink();
}

}  // namespace

bool KeyIndex::Sweep(int64_t compact_revision, absl::Span<const int64_t> pins, std::string_view resume,
                     size_t max_keys, std::vector<DeadVersion>* dead, bool* kept_for_pins,
                     std::string* resume_at) {
  size_t looked = 0;
  bool more = false;
  std::vector<std::string_view> empty;
  Tree::VisitFrom(tree_->root, resume, [&](Entry* entry) {
    if (looked == max_keys) {
      resume_at->assign(entry->key());
      more = true;
      return false;
    }
    ++looked;
    if (entry->count > 1 || !entry->live()) {
      tree_->entry_bytes -= entry->bytes();
      SweepEntry(entry, compact_revision, pins, dead, kept_for_pins);
      tree_->entry_bytes += entry->bytes();
      if (entry->count == 0) empty.push_back(entry->key());
    }
    return true;
  });
  for (std::string_view key : empty) tree_->Erase(key);
  return !more;
}

void KeyIndex::LoadLatest(std::string_view key, const KeyVersion& version) {
  KVD_CHECK(tree_->latest.empty() || tree_->latest.back()->key() < key, "keys must be loaded in order");
  Entry* entry = Entry::Make(key);
  entry->Push(version);
  tree_->latest.push_back(entry);
}

void KeyIndex::LoadVersion(std::string_view key, const KeyVersion& version) {
  if (tree_->by_revision.empty() && !tree_->latest.empty()) {
    tree_->by_revision = tree_->latest;
    std::stable_sort(tree_->by_revision.begin(), tree_->by_revision.end(),
                     [](const Entry* a, const Entry* b) { return a->one.mod_main < b->one.mod_main; });
  }
  if (Entry* entry = tree_->MatchLatest(key, version)) {
    entry->one = version;
    ++tree_->matched;
    return;
  }
  auto it = tree_->older.find(key);
  if (it == tree_->older.end()) {
    Entry* entry = Entry::Make(key);
    it = tree_->older.emplace(entry->key(), entry).first;
  }
  Entry* entry = it->second;
  KVD_CHECK(entry->count == 0 || entry->data()[entry->count - 1].revision() < version.revision(),
            "a key's revisions must ascend");
  entry->Push(version);
}

bool KeyIndex::FinishLoad() {
  const bool whole = tree_->matched == tree_->latest.size();
  auto less = [](const Entry* a, const Entry* b) { return a->key() < b->key(); };
  std::vector<Entry*> older;
  older.reserve(tree_->older.size());
  for (auto& [key, entry] : tree_->older) older.push_back(entry);
  std::sort(older.begin(), older.end(), less);
  tree_->older = {};
  tree_->by_revision = {};
  std::vector<Entry*> all;
  all.reserve(tree_->latest.size() + older.size());
  size_t next = 0;
  for (Entry* entry : std::exchange(tree_->latest, {})) {
    while (next < older.size() && less(older[next], entry)) all.push_back(older[next++]);
    if (next < older.size() && older[next]->key() == entry->key()) {
      older[next]->Push(entry->one);
      Entry::Free(std::exchange(entry, older[next++]));
    }
    all.push_back(entry);
  }
  all.insert(all.end(), older.begin() + static_cast<ptrdiff_t>(next), older.end());
  tree_->Build(all);
  return whole;
}

}  // namespace kvd::storage
