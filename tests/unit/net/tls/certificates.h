// Authorities and certificates for tests, as PEM files in a directory of the test's own.
#pragma once

#include <memory>
#include <string>
#include <vector>

namespace kvd::net {

// A directory that goes with the object.
class CertificateDir {
 public:
  CertificateDir();
  ~CertificateDir();
  std::string Path(const std::string& name) const { return path_ + "/" + name; }
  // Replaces the file in one step.
  void Write(const std::string& name, const std::string& text) const;

 private:
  std::string path_;
};

struct CertificateRequest {
  std::string common_name = "kvd";
  std::string alt_names = "IP:127.0.0.1,DNS:localhost";  // as openssl.cnf has them; "": none
  std::string usages = "serverAuth,clientAuth";
  int days = 1;  // < 0: it has expired by then
};

// An authority. Its own certificate is "<name>.pem" in the directory.
class TestAuthority {
 public:
  TestAuthority(const CertificateDir& dir, const std::string& name);
  ~TestAuthority();
  // Writes "<name>.pem" and "<name>.key", and gives the serial number.
  long Issue(const std::string& name, const CertificateRequest& request = {});
  // Writes a revocation list.
  void Revoke(const std::string& file, const std::vector<long>& serials, bool der = false);
  std::string file() const;

 private:
  struct Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace kvd::net
