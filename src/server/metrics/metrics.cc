#include "server/metrics/metrics.h"

#include <map>
#include <sstream>

#include "net/grpc_server.h"
#include "net/http_call.h"
#include "prometheus/metric_family.h"
#include "prometheus/text_serializer.h"
#include "server/config/config.h"

namespace kvd::server {

struct MetricSink::Families {
  std::map<std::string, prometheus::MetricFamily, std::less<>> by_name;

  prometheus::ClientMetric& Add(std::string_view name, std::string_view help, prometheus::MetricType type,
                                const Labels& labels) {
    auto it = by_name.find(name);
    if (it == by_name.end()) {
      prometheus::MetricFamily family;
      family.name = std::string(name);
      family.help = std::string(help);
      family.type = type;
      it = by_name.emplace(family.name, std::move(family)).first;
    }
    prometheus::ClientMetric& metric = it->second.metric.emplace_back();
    for (const auto& [label, value] : labels) metric.label.push_back({label, value});
    return metric;
  }
};

MetricSink::MetricSink() : families_(std::make_unique<Families>()) {}
MetricSink::~MetricSink() = default;

void MetricSink::Gauge(std::string_view name, std::string_view help, double value, const Labels& labels) {
  families_->Add(name, help, prometheus::MetricType::Gauge, labels).gauge.value = value;
}

void MetricSink::Counter(std::string_view name, std::string_view help, double value, const Labels& labels) {
  families_->Add(name, help, prometheus::MetricType::Counter, labels).counter.value = value;
}

std::string MetricSink::Text() const {
  std::vector<prometheus::MetricFamily> all;
  all.reserve(families_->by_name.size());
  for (const auto& [name, family] : families_->by_name) all.push_back(family);
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, all);
  return out.str();
}

void RegisterMetrics(net::FrontDoor& door, std::vector<MetricCollector> collectors) {
  door.RegisterHttp(
      "GET", "/metrics", [collectors = std::move(collectors)](const std::shared_ptr<net::HttpCall>& call) {
        MetricSink sink;
        for (const MetricCollector& collect : collectors) collect(sink);
        net::HttpResponse response;
        response.headers.emplace_back("Content-Type", "text/plain; version=0.0.4; charset=utf-8");
        response.body = net::Message(sink.Text());
        call->Reply(std::move(response));
      });
}

void CollectVersionMetrics(MetricSink& sink) {
  sink.Gauge("etcd_server_version",
             "Which version is running. 1 for 'server_version' label with current version.", 1,
             {{"server_version", std::string(kEtcdVersion)}});
  sink.Gauge("kvd_server_version", "Which version of kvd is running.", 1,
             {{"version", std::string(KvdVersion())}});
}

}  // namespace kvd::server
