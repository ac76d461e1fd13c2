#include "server/watch/watcher_index.h"

#include <functional>
#include <string>

#include "base/check.h"

namespace kvd::server {

// The watchers of one interval; for a proper interval also a node of the tree, which is a treap: ordered by
// (start, end), and a heap by priority.
struct WatcherGroup {
  explicit WatcherGroup(const base::KeyInterval& interval)
      : bytes(interval.start()),
        start_size(static_cast<uint32_t>(interval.start().size())),
        single(interval.is_single()),
        open(interval.is_open()) {
    if (!single && !open) bytes.append(interval.end());
    bytes.shrink_to_fit();
  }

  std::string_view start() const { return std::string_view(bytes).substr(0, start_size); }
  std::string_view end() const { return std::string_view(bytes).substr(start_size); }

  std::string bytes;  // start, then end
  uint32_t start_size;
  bool single;
  bool open;
  uint64_t priority = 0;
  WatcherGroup* left = nullptr;
  WatcherGroup* right = nullptr;
  const WatcherGroup* furthest = this;  // of this node and those below, the one whose end is greatest
  Watcher* head = nullptr;
};

namespace {

using Group = WatcherGroup;

uint64_t Mix(uint64_t n) {  // splitmix64's finalizer: the same shapes in every run
  n += 0x9e3779b97f4a7c15;
  n = (n ^ (n >> 30)) * 0xbf58476d1ce4e5b9;
  n = (n ^ (n >> 27)) * 0x94d049bb133111eb;
  return n ^ (n >> 31);
}

// Orders ends; an open end is the greatest.
int CompareEnds(bool a_open, std::string_view a, bool b_open, std::string_view b) {
  if (a_open || b_open) return static_cast<int>(a_open) - static_cast<int>(b_open);
  return a.compare(b);
}

int Compare(std::string_view start, bool open, std::string_view end, const Group& g) {
  const int by_start = start.compare(g.start());
  return by_start != 0 ? by_start : CompareEnds(open, end, g.open, g.end());
}
int Compare(const Group& a, const Group& b) {
  return Compare(a.start(), a.open, a.end(), b);
}

bool Before(const Group& g, std::string_view key) {
  return !g.open && g.end() <= key;
}

void Update(Group* t) {
  t->furthest = t;
  for (const Group* child : {t->left, t->right}) {
    if (child == nullptr) continue;
    const Group* f = child->furthest;
    if (CompareEnds(f->open, f->end(), t->furthest->open, t->furthest->end()) > 0) t->furthest = f;
  }
}

// Parts the tree into what comes before `at` and what comes after.
void Split(Group* t, const Group& at, Group** before, Group** after) {
  if (t == nullptr) {
    *before = *after = nullptr;
  } else if (Compare(*t, at) < 0) {
    Split(t->right, at, &t->right, after);
    *before = t;
    Update(t);
  } else {
    Split(t->left, at, before, &t->left);
    *after = t;
    Update(t);
  }
}

Group* Merge(Group* a, Group* b) {  // everything in a comes before everything in b
  if (a == nullptr) return b;
  if (b == nullptr) return a;
  if (a->priority > b->priority) {
    a->right = Merge(a->right, b);
    Update(a);
    return a;
  }
  b->left = Merge(a, b->left);
  Update(b);
  return b;
}

Group* InsertNode(Group* t, Group* n) {
  if (t == nullptr) return n;
  if (n->priority > t->priority) {
    Split(t, *n, &n->left, &n->right);
    Update(n);
    return n;
  }
  Group*& child = Compare(*n, *t) < 0 ? t->left : t->right;
  child = InsertNode(child, n);
  Update(t);
  return t;
}

Group* RemoveNode(Group* t, Group* n) {
  KVD_CHECK(t != nullptr, "a group of watchers must be in the tree it is removed from");
  if (t == n) return Merge(t->left, t->right);
  Group*& child = Compare(*n, *t) < 0 ? t->left : t->right;
  child = RemoveNode(child, n);
  Update(t);
  return t;
}

bool VisitAll(const Group* g, absl::FunctionRef<bool(Watcher&)> visit) {
  for (Watcher* w = g->head; w != nullptr; w = w->next_in_group) {
    if (!visit(*w)) return false;
  }
  return true;
}

bool Stab(const Group* t, std::string_view key, absl::FunctionRef<bool(Watcher&)> visit) {
  if (t == nullptr || Before(*t->furthest, key)) return true;
  if (!Stab(t->left, key, visit)) return false;
  if (key < t->start()) return true;
  if (!Before(*t, key) && !VisitAll(t, visit)) return false;
  return Stab(t->right, key, visit);
}

void DeleteTree(Group* t) {
  if (t == nullptr) return;
  DeleteTree(t->left);
  DeleteTree(t->right);
  delete t;
}

}  // namespace

size_t WatcherIndex::Hash::operator()(std::string_view key) const {
  return std::hash<std::string_view>()(key);
}
size_t WatcherIndex::Hash::operator()(const WatcherGroup* group) const {
  return (*this)(group->start());
}
bool WatcherIndex::Equal::operator()(const WatcherGroup* a, std::string_view key) const {
  return a->start() == key;
}

WatcherIndex::WatcherIndex() = default;

WatcherIndex::~WatcherIndex() {
  for (Group* g : singles_) delete g;
  DeleteTree(root_);
}

WatcherGroup* WatcherIndex::FindInterval(const base::KeyInterval& interval) const {
  const std::string_view end = interval.is_open() ? std::string_view() : interval.end();
  Group* t = root_;
  while (t != nullptr) {
    const int order = Compare(interval.start(), interval.is_open(), end, *t);
    if (order == 0) return t;
    t = order < 0 ? t->left : t->right;
  }
  return nullptr;
}

void WatcherIndex::Insert(Watcher& watcher, const base::KeyInterval& interval) {
  KVD_CHECK(!interval.empty(), "a watch has keys");
  Group* group = nullptr;
  if (interval.is_single()) {
    const auto it = singles_.find(interval.start());
    group = it != singles_.end() ? *it : *singles_.insert(new Group(interval)).first;
  } else {
    group = FindInterval(interval);
    if (group == nullptr) {
      group = new Group(interval);
      group->priority = Mix(next_priority_++);
      root_ = InsertNode(root_, group);
    }
  }
  watcher.group = group;
  watcher.prev_in_group = nullptr;
  watcher.next_in_group = group->head;
  if (group->head != nullptr) group->head->prev_in_group = &watcher;
  group->head = &watcher;
}

void WatcherIndex::Remove(Watcher& watcher) {
  Group* group = watcher.group;
  if (watcher.next_in_group != nullptr) watcher.next_in_group->prev_in_group = watcher.prev_in_group;
  (watcher.prev_in_group != nullptr ? watcher.prev_in_group->next_in_group : group->head) =
      watcher.next_in_group;
  watcher.group = nullptr;
  watcher.next_in_group = watcher.prev_in_group = nullptr;
  if (group->head != nullptr) return;
  if (group->single) {
    singles_.erase(singles_.find(group->start()));
  } else {
    root_ = RemoveNode(root_, group);
  }
  delete group;
}

base::KeyInterval WatcherIndex::IntervalOf(const Watcher& watcher) {
  const Group& g = *watcher.group;
  if (g.single) return base::KeyInterval::Single(g.start());
  if (g.open) return base::KeyInterval::From(g.start());
  return base::KeyInterval::Between(g.start(), g.end());
}

bool WatcherIndex::Match(std::string_view key, absl::FunctionRef<bool(Watcher&)> visit) const {
  const auto it = singles_.find(key);
  if (it != singles_.end() && !VisitAll(*it, visit)) return false;
  return Stab(root_, key, visit);
}

}  // namespace kvd::server
