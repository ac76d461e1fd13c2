// A fixture for tests against Debian's etcd and etcdctl: a member on loopback in a directory of its own, both
// gone at the end. Skips where there is no etcd.
//
// Thread-safety: the test's thread only.
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

namespace kvd::support {

class RealEtcdTest : public testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  // Returns once it is healthy. Its data are in Path("data").
  void StartEtcd();
  // Nothing if it does not run. SIGKILL leaves its files as they stand.
  void StopEtcd(int signal);
  // Whether the command succeeds. What it prints is in Printed().
  bool Etcdctl(std::vector<std::string> arguments);
  std::string Printed(std::string_view name = "ctl") const;
  std::string Path(std::string_view name) const;
  const std::string& peer_url() const { return peer_; }

 private:
  std::string dir_, client_, peer_;
  pid_t etcd_ = -1;
};

}  // namespace kvd::support
