#include "server/member/node_metrics.h"

#include "base/log.h"
#include "server/metrics/metrics.h"
#include "server/node/node.h"
#include "storage/store.h"

namespace kvd::server {
namespace {

void CollectConsensus(const Node& node, MetricSink& sink) {
  RaftDriver::State raft = node.driver().state();
  sink.Gauge("etcd_server_has_leader", "Whether or not a leader exists. 1 is existence, 0 is not.",
             node.has_leader() ? 1 : 0);
  sink.Gauge("etcd_server_is_leader", "Whether or not this member is a leader. 1 if is, 0 otherwise.",
             node.is_leader() ? 1 : 0);
  sink.Gauge("etcd_server_is_learner", "Whether or not this member is a learner. 1 if is, 0 otherwise.",
             node.is_learner() ? 1 : 0);
  sink.Counter("etcd_server_leader_changes_seen_total", "The number of leader changes seen.",
               static_cast<double>(node.leader_changes()));
  sink.Gauge("etcd_server_proposals_committed_total", "The total number of consensus proposals committed.",
             static_cast<double>(raft.commit));
  sink.Gauge("etcd_server_proposals_applied_total", "The total number of consensus proposals applied.",
             static_cast<double>(node.applier().applied_index()));
  sink.Gauge("etcd_server_proposals_pending", "The current number of pending proposals to commit.",
             static_cast<double>(node.proposals_pending()));
  sink.Gauge("etcd_server_id",
             "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.", 1,
             {{"server_id", base::HexId(node.member_id())}});
  for (const Alarms::Alarm& alarm : node.alarms().List(AlarmType::kNone)) {
    sink.Gauge(
        "etcd_debugging_server_alarms",
        "Alarms for every member in cluster. 1 for 'server_id' label with ID.", 1,
        {{"server_id", base::HexId(alarm.member)}, {"alarm_type", std::string(AlarmName(alarm.type))}});
  }
}

void CollectStore(const Node& node, MetricSink& sink) {
  sink.Gauge("etcd_server_quota_backend_bytes", "Current backend storage quota size in bytes.",
             static_cast<double>(node.options().quota_bytes));
  sink.Gauge("etcd_mvcc_db_total_size_in_bytes",
             "Total size of the underlying database physically allocated in bytes.",
             static_cast<double>(node.db_size()));
  sink.Gauge("etcd_mvcc_db_total_size_in_use_in_bytes",
             "Total size of the underlying database logically in use in bytes.",
             static_cast<double>(node.store().size_in_use_bytes()));
  sink.Gauge("etcd_debugging_mvcc_current_revision", "The current revision of store.",
             static_cast<double>(node.store().current_revision()));
  sink.Gauge("etcd_debugging_mvcc_compact_revision", "The revision of the last compaction in store.",
             static_cast<double>(node.store().compact_revision()));
  sink.Gauge("etcd_debugging_mvcc_keys_total", "Total number of keys.",
             static_cast<double>(node.store().live_keys()));
}

}  // namespace

void CollectNodeMetrics(const Node& node, MetricSink& sink) {
  CollectConsensus(node, sink);
  CollectStore(node, sink);
}

}  // namespace kvd::server
