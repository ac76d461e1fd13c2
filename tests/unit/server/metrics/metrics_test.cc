#include "server/metrics/metrics.h"

#include <regex>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvd::server {
namespace {

using testing::HasSubstr;

TEST(MetricSink, WritesTheTextFormat) {
  MetricSink sink;
  sink.Gauge("etcd_server_has_leader", "Whether or not a leader exists.", 1);
  sink.Counter("etcd_network_peer_sent_bytes_total", "Bytes sent.", 10, {{"To", "8e9e05c52164694d"}});
  sink.Counter("etcd_network_peer_sent_bytes_total", "Bytes sent.", 12, {{"To", "a\"b\\c\nd"}});
  EXPECT_EQ(sink.Text(),
            "# HELP etcd_network_peer_sent_bytes_total Bytes sent.\n"
            "# TYPE etcd_network_peer_sent_bytes_total counter\n"
            "etcd_network_peer_sent_bytes_total{To=\"8e9e05c52164694d\"} 10\n"
            "etcd_network_peer_sent_bytes_total{To=\"a\\\"b\\\\c\\nd\"} 12\n"
            "# HELP etcd_server_has_leader Whether or not a leader exists.\n"
            "# TYPE etcd_server_has_leader gauge\n"
            "etcd_server_has_leader 1\n");
}

TEST(MetricSink, IsEmptyWithoutSamples) {
  EXPECT_EQ(MetricSink().Text(), "");
}

double Value(const std::string& text, const std::string& name) {
  std::smatch match;
  if (!std::regex_search(text, match, std::regex("(^|\n)" + name + " ([0-9.e+]+)\n"))) return -1;
  return std::stod(match[2]);
}

TEST(ProcessMetrics, AreThisProcesss) {
  MetricSink sink;
  CollectProcessMetrics(sink);
  const std::string text = sink.Text();
  EXPECT_GE(Value(text, "process_cpu_seconds_total"), 0);
  EXPECT_GT(Value(text, "process_resident_memory_bytes"), 100'000);
  EXPECT_GE(Value(text, "process_open_fds"), 1);
  EXPECT_GT(Value(text, "process_start_time_seconds"), 1'600'000'000);
  EXPECT_EQ(Value(text, "os_fd_used"), Value(text, "process_open_fds"));
}

TEST(VersionMetrics, NameBothVersions) {
  MetricSink sink;
  CollectVersionMetrics(sink);
  EXPECT_THAT(sink.Text(), HasSubstr("etcd_server_version{server_version=\"3.7.1\"} 1\n"));
  EXPECT_THAT(sink.Text(), HasSubstr("kvd_server_version{version=\""));
}

}  // namespace
}  // namespace kvd::server
