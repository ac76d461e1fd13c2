#include "server/node/error_table.h"

#include <array>

#include "base/check.h"

namespace kvd::server {
namespace {

// gRPC's numbers (statuscodes.md), spelled here so that this table needs no network header.
enum Code {
  kOkCode = 0,
  kCanceledCode = 1,
  kUnknown = 2,
  kInvalidArgument = 3,
  kDeadline = 4,
  kNotFound = 5,
  kPermissionDeniedCode = 7,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kOutOfRange = 11,
  kInternalCode = 13,
  kUnavailable = 14,
  kDataLoss = 15,
  kUnauthenticated = 16,
};

struct Row {
  Error error;
  Code code;
  std::string_view text;
};

constexpr Row kRows[] = {
    {Error::kOk, kOkCode, ""},
    {Error::kEmptyKey, kInvalidArgument, "etcdserver: key is not provided"},
    {Error::kKeyNotFound, kInvalidArgument, "etcdserver: key not found"},
    {Error::kValueProvided, kInvalidArgument, "etcdserver: value is provided"},
    {Error::kLeaseProvided, kInvalidArgument, "etcdserver: lease is provided"},
    {Error::kTooManyOps, kInvalidArgument, "etcdserver: too many operations in txn request"},
    {Error::kDuplicateKey, kInvalidArgument, "etcdserver: duplicate key given in txn request"},
    {Error::kInvalidClientApiVersion, kInvalidArgument, "etcdserver: invalid client api version"},
    {Error::kInvalidSortOption, kInvalidArgument, "etcdserver: invalid sort option"},
    {Error::kCompacted, kOutOfRange, "etcdserver: mvcc: required revision has been compacted"},
    {Error::kFutureRevision, kOutOfRange, "etcdserver: mvcc: required revision is a future revision"},
    {Error::kNoSpace, kResourceExhausted, "etcdserver: mvcc: database space exceeded"},
    {Error::kLeaseNotFound, kNotFound, "etcdserver: requested lease not found"},
    {Error::kLeaseExists, kFailedPrecondition, "etcdserver: lease already exists"},
    {Error::kLeaseTtlTooLarge, kOutOfRange, "etcdserver: too large lease TTL"},
    {Error::kRequestTooLarge, kInvalidArgument, "etcdserver: request is too large"},
    {Error::kTooManyRequests, kResourceExhausted, "etcdserver: too many requests"},
    {Error::kWatchCanceled, kCanceledCode, "etcdserver: watch canceled"},
    {Error::kMemberExists, kFailedPrecondition, "etcdserver: member ID already exist"},
    {Error::kPeerUrlExists, kFailedPrecondition, "etcdserver: Peer URLs already exists"},
    {Error::kMemberNotEnoughStarted, kFailedPrecondition,
     "etcdserver: re-configuration failed due to not enough started members"},
    {Error::kMemberBadUrls, kInvalidArgument, "etcdserver: given member URLs are invalid"},
    {Error::kMemberNotFound, kNotFound, "etcdserver: member not found"},
    {Error::kMemberNotLearner, kFailedPrecondition, "etcdserver: can only promote a learner member"},
    {Error::kLearnerNotReady, kFailedPrecondition,
     "etcdserver: can only promote a learner member which is in sync with leader"},
    {Error::kTooManyLearners, kFailedPrecondition, "etcdserver: too many learner members in cluster"},
    {Error::kClusterIdMismatch, kFailedPrecondition, "etcdserver: cluster ID mismatch"},
    {Error::kRootUserNotExist, kFailedPrecondition, "etcdserver: root user does not exist"},
    {Error::kRootRoleNotExist, kFailedPrecondition, "etcdserver: root user does not have root role"},
    {Error::kUserAlreadyExists, kFailedPrecondition, "etcdserver: user name already exists"},
    {Error::kUserEmpty, kInvalidArgument, "etcdserver: user name is empty"},
    {Error::kUserNotFound, kFailedPrecondition, "etcdserver: user name not found"},
    {Error::kRoleAlreadyExists, kFailedPrecondition, "etcdserver: role name already exists"},
    {Error::kRoleNotFound, kFailedPrecondition, "etcdserver: role name not found"},
    {Error::kRoleEmpty, kInvalidArgument, "etcdserver: role name is empty"},
    {Error::kAuthFailed, kInvalidArgument, "etcdserver: authentication failed, invalid user ID or password"},
    {Error::kPermissionNotGiven, kInvalidArgument, "etcdserver: permission not given"},
    {Error::kPermissionDenied, kPermissionDeniedCode, "etcdserver: permission denied"},
    {Error::kRoleNotGranted, kFailedPrecondition, "etcdserver: role is not granted to the user"},
    {Error::kPermissionNotGranted, kFailedPrecondition, "etcdserver: permission is not granted to the role"},
    {Error::kAuthNotEnabled, kFailedPrecondition, "etcdserver: authentication is not enabled"},
    {Error::kInvalidAuthToken, kUnauthenticated, "etcdserver: invalid auth token"},
    {Error::kInvalidAuthManagement, kInvalidArgument, "etcdserver: invalid auth management"},
    {Error::kAuthOldRevision, kInvalidArgument, "etcdserver: revision of auth store is old"},
    {Error::kNoLeader, kUnavailable, "etcdserver: no leader"},
    {Error::kNotLeader, kFailedPrecondition, "etcdserver: not leader"},
    {Error::kLeaderChanged, kUnavailable, "etcdserver: leader changed"},
    {Error::kNotCapable, kFailedPrecondition, "etcdserver: not capable"},
    {Error::kStopped, kUnavailable, "etcdserver: server stopped"},
    {Error::kTimeout, kUnavailable, "etcdserver: request timed out"},
    {Error::kTimeoutDueToLeaderFail, kUnavailable,
     "etcdserver: request timed out, possibly due to previous leader failure"},
    {Error::kTimeoutDueToConnectionLost, kUnavailable,
     "etcdserver: request timed out, possibly due to connection lost"},
    {Error::kTimeoutLeaderTransfer, kUnknown, "etcdserver: request timed out, leader transfer took too long"},
    {Error::kTimeoutWaitAppliedIndex, kUnavailable,
     "etcdserver: request timed out, waiting for the applied index took too long"},
    {Error::kUnhealthy, kUnavailable, "etcdserver: unhealthy cluster"},
    {Error::kCorrupt, kDataLoss, "etcdserver: corrupt cluster"},
    {Error::kNotSupportedForLearner, kFailedPrecondition, "etcdserver: rpc not supported for learner"},
    {Error::kBadLeaderTransferee, kFailedPrecondition, "etcdserver: bad leader transferee"},
    {Error::kClusterVersionUnavailable, kFailedPrecondition,
     "etcdserver: cluster version not found during downgrade"},
    {Error::kWrongDowngradeVersionFormat, kInvalidArgument,
     "etcdserver: wrong downgrade target version format"},
    {Error::kInvalidDowngradeTargetVersion, kInvalidArgument, "etcdserver: invalid downgrade target version"},
    {Error::kDowngradeInProcess, kFailedPrecondition, "etcdserver: cluster has a downgrade job in progress"},
    {Error::kNoInflightDowngrade, kFailedPrecondition, "etcdserver: no inflight downgrade job"},
    {Error::kCanceled, kCanceledCode, "context canceled"},
    {Error::kDeadlineExceeded, kDeadline, "context deadline exceeded"},
    {Error::kInternal, kInternalCode, "etcdserver: internal error"},
};

constexpr bool RowsAreInOrder() {
  size_t at = 0;
  for (const Row& row : kRows) {
    if (static_cast<size_t>(row.error) != at++) return false;
  }
  return at == static_cast<size_t>(Error::kCount);
}
static_assert(RowsAreInOrder(), "one row per error, in the order of the enum");

const Row& RowOf(Error error) {
  KVD_CHECK(error < Error::kCount, "an error outside its table");
  return kRows[static_cast<size_t>(error)];
}

}  // namespace

int ErrorCode(Error error) {
  return RowOf(error).code;
}
std::string_view ErrorText(Error error) {
  return RowOf(error).text;
}

Error ErrorFromText(std::string_view text) {
  for (const Row& row : kRows) {
    if (row.text == text) return row.error;
  }
  return Error::kInternal;
}

}  // namespace kvd::server
