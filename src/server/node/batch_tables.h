// The tables of other parts, written through the batch that is being applied: what a part changes takes
// effect together with the entry that changes it.
//
// Thread-compatible. The batch is borrowed and outlives them.
#pragma once

#include <string_view>

#include "server/auth/auth_store.h"
#include "server/membership/cluster.h"
#include "storage/store.h"

namespace kvd::server {

// Writes the cluster's tables through the batch that is being applied.
class BatchMemberStore final : public MemberStore {
 public:
  explicit BatchMemberStore(storage::ApplyBatch& batch) : batch_(batch) {}
  void Put(ClusterTable table, std::string_view key, std::string_view value) override {
    batch_.PutTable(TableOf(table), key, value);
  }
  void Delete(ClusterTable table, std::string_view key) override { batch_.DeleteTable(TableOf(table), key); }

 private:
  static storage::Table TableOf(ClusterTable table) {
    switch (table) {
      case ClusterTable::kMembers:
        return storage::Table::kMembers;
      case ClusterTable::kMembersRemoved:
        return storage::Table::kMembersRemoved;
      case ClusterTable::kCluster:
        return storage::Table::kCluster;
    }
    return storage::Table::kCluster;
  }
  storage::ApplyBatch& batch_;
};

// The same for users and roles.
class BatchAuthTables final : public AuthTables {
 public:
  explicit BatchAuthTables(storage::ApplyBatch& batch) : batch_(batch) {}
  void Put(AuthTable table, std::string_view key, std::string_view value) override {
    batch_.PutTable(TableOf(table), key, value);
  }
  void Delete(AuthTable table, std::string_view key) override { batch_.DeleteTable(TableOf(table), key); }

  static storage::Table TableOf(AuthTable table) {
    switch (table) {
      case AuthTable::kAuth:
        return storage::Table::kAuth;
      case AuthTable::kUsers:
        return storage::Table::kAuthUsers;
      case AuthTable::kRoles:
        return storage::Table::kAuthRoles;
    }
    return storage::Table::kAuth;
  }

 private:
  storage::ApplyBatch& batch_;
};

}  // namespace kvd::server
