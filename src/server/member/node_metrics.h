// What a scrape is told of the node, under etcd's names.
//
// Thread-safety: any thread, several at once.
#pragma once

namespace kvd::server {

class MetricSink;
class Node;

void CollectNodeMetrics(const Node& node, MetricSink& sink);

}  // namespace kvd::server
