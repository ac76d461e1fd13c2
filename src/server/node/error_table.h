// The one table of errors that a client can see: gRPC code and etcd's text (ETCD: api/v3rpc/rpctypes, v3.7).
// Clients and scripts match on the text, so it is part of the interface.
//
// Thread-safety: immutable.
#pragma once

#include <cstdint>
#include <string_view>

namespace kvd::server {

enum class Error : uint8_t {
  kOk,
  // Requests.
  kEmptyKey,
  kKeyNotFound,
  kValueProvided,
  kLeaseProvided,
  kTooManyOps,
  kDuplicateKey,
  kInvalidClientApiVersion,
  kInvalidSortOption,
  kCompacted,
  kFutureRevision,
  kNoSpace,
  kLeaseNotFound,
  kLeaseExists,
  kLeaseTtlTooLarge,
  kRequestTooLarge,
  kTooManyRequests,
  // Watch.
  kWatchCanceled,
  // Membership.
  kMemberExists,
  kPeerUrlExists,
  kMemberNotEnoughStarted,
  kMemberBadUrls,
  kMemberNotFound,
  kMemberNotLearner,
  kLearnerNotReady,
  kTooManyLearners,
  kClusterIdMismatch,
  // Auth.
  kRootUserNotExist,
  kRootRoleNotExist,
  kUserAlreadyExists,
  kUserEmpty,
  kUserNotFound,
  kRoleAlreadyExists,
  kRoleNotFound,
  kRoleEmpty,
  kAuthFailed,
  kPermissionNotGiven,
  kPermissionDenied,
  kRoleNotGranted,
  kPermissionNotGranted,
  kAuthNotEnabled,
  kInvalidAuthToken,
  kInvalidAuthManagement,
  kAuthOldRevision,
  // The member and its cluster.
  kNoLeader,
  kNotLeader,
  kLeaderChanged,
  kNotCapable,
  kStopped,
  kTimeout,
  kTimeoutDueToLeaderFail,
  kTimeoutDueToConnectionLost,
  kTimeoutLeaderTransfer,
  kTimeoutWaitAppliedIndex,
  kUnhealthy,
  kCorrupt,
  kNotSupportedForLearner,
  kBadLeaderTransferee,
  // Downgrade.
  kClusterVersionUnavailable,
  kWrongDowngradeVersionFormat,
  kInvalidDowngradeTargetVersion,
  kDowngradeInProcess,
  kNoInflightDowngrade,
  // Cancellation.
  kCanceled,
  kDeadlineExceeded,
  // Anything that has no row of its own.
  kInternal,
  kCount,
};

// The gRPC status code, as net::StatusCode numbers it.
int ErrorCode(Error error);
// The text without a trailing period, "" for kOk.
std::string_view ErrorText(Error error);
// The row with this text; kInternal if there is none.
Error ErrorFromText(std::string_view text);

}  // namespace kvd::server
