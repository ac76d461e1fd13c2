// Users, roles and what roles permit: etcd's auth store (ETCD: server/auth/store.go), changed by the log
// alone and kept in storage's auth tables in etcd's form, so that images and mixed clusters carry it.
//
// Whether authentication is enabled is kept too, since the log or an image of a cluster of etcd may say so;
// this version does not authenticate, and serves no client while it is.
//
// Thread-safety: Load and Apply on the apply thread; everything else from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace kvd::server {

// The tables that hold it, with etcd's bucket names "auth", "authUsers" and "authRoles".
enum class AuthTable { kAuth, kUsers, kRoles };

// Where changes go: the batch that is being applied.
class AuthTables {
 public:
  virtual ~AuthTables() = default;
  virtual void Put(AuthTable table, std::string_view key, std::string_view value) = 0;
  virtual void Delete(AuthTable table, std::string_view key) = 0;
};

class AuthStore {
 public:
  using Visit = absl::FunctionRef<void(std::string_view key, std::string_view value)>;

  AuthStore();
  ~AuthStore();
  AuthStore(const AuthStore&) = delete;
  AuthStore& operator=(const AuthStore&) = delete;

  // Replaces everything by what the tables hold. `read` calls its visitor for every record of a table.
  // Errors: kDataLoss for a record that is not etcd's.
  absl::Status Load(absl::FunctionRef<void(AuthTable table, Visit visit)> read);

  // Whether a field of InternalRaftRequest is a request that Apply takes.
  static bool Takes(uint32_t field);
  // Applies the encoded request, writes what changes to `tables`, and gives the fields of the response after
  // its header. An error is etcd's text and changes nothing; kInvalidArgument with another text for bytes
  // that are no such request.
  absl::StatusOr<std::string> Apply(uint32_t field, std::string_view request, AuthTables& tables);

  bool enabled() const { return enabled_.load(std::memory_order_acquire); }
  // Moves on with each change. 1 for a store to which nothing has been done.
  uint64_t revision() const { return revision_.load(std::memory_order_acquire); }
  // Whether there is a root user with the root role. Errors: etcd's texts.
  absl::Status CanEnable() const;

 private:
  struct State;
  struct Change;

  std::unique_ptr<State> state_;  // guarded by mutex_
  mutable std::mutex mutex_;
  std::atomic<bool> enabled_{false};
  std::atomic<uint64_t> revision_{1};
};

}  // namespace kvd::server
