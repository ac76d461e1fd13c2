// GET /metrics in Prometheus's text format. Parts of the member hand in collectors, which are asked at each
// scrape; names and labels are etcd's, since dashboards and alerts match on them.
//
// Thread-safety: a collector is called on any I/O thread, possibly on several at once, and must not block. A
// MetricSink belongs to one scrape and one thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kvd::net {
class FrontDoor;
}  // namespace kvd::net

namespace kvd::server {

class MetricSink {
 public:
  using Labels = std::vector<std::pair<std::string, std::string>>;

  MetricSink();
  ~MetricSink();
  MetricSink(const MetricSink&) = delete;
  MetricSink& operator=(const MetricSink&) = delete;

  // One sample. Samples of one name share the help of the first of them, and differ in their labels.
  void Gauge(std::string_view name, std::string_view help, double value, const Labels& labels = {});
  void Counter(std::string_view name, std::string_view help, double value, const Labels& labels = {});

  // Everything so far, names in order.
  std::string Text() const;

 private:
  struct Families;
  std::unique_ptr<Families> families_;
};

using MetricCollector = std::function<void(MetricSink&)>;

// Serves GET /metrics with what the collectors say. Before the front door starts.
void RegisterMetrics(net::FrontDoor& door, std::vector<MetricCollector> collectors);

// process_* and os_fd_*, as every exporter has them; from /proc.
void CollectProcessMetrics(MetricSink& sink);
// etcd_server_version, and kvd_server_version beside it.
void CollectVersionMetrics(MetricSink& sink);

}  // namespace kvd::server
