// The certificate of --auto-tls and --peer-auto-tls.

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <string>

#include "absl/strings/str_join.h"
#include "base/file_system.h"
#include "base/log.h"
#include "base/strings.h"
#include "net/tls/tls_internal.h"

namespace kvd::net {

using tls_internal::BioPtr;
using tls_internal::KeyPtr;
using tls_internal::TakeSslError;
using tls_internal::X509Ptr;

namespace {

absl::Status Failed() {
  return absl::InternalError(base::StrCat("cannot generate a self-signed certificate: ", TakeSslError()));
}

bool AddExtension(X509* certificate, int id, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, id, value.c_str());
  const bool added = extension != nullptr && X509_add_ext(certificate, extension, -1) == 1;
  X509_EXTENSION_free(extension);
  return added;
}

std::string AltNames(absl::Span<const std::string> hosts) {
  std::vector<std::string> names;
  for (const std::string& host : hosts) {
    ASN1_OCTET_STRING* address = a2i_IPADDRESS(host.c_str());
    names.push_back(base::StrCat(address != nullptr ? "IP:" : "DNS:", host));
    ASN1_OCTET_STRING_free(address);
  }
  ERR_clear_error();
  return absl::StrJoin(names, ",");
}

X509Ptr MakeCertificate(EVP_PKEY* key, absl::Span<const std::string> hosts, uint64_t validity_years) {
  X509Ptr certificate(X509_new());
  if (certificate == nullptr) return nullptr;
  X509* x = certificate.get();
  unsigned char serial[16];
  X509_NAME* name = X509_get_subject_name(x);
  const auto* organization = reinterpret_cast<const unsigned char*>("etcd");
  bool good = RAND_bytes(serial, sizeof serial) == 1;
  serial[0] &= 0x7f;
  BIGNUM* number = BN_bin2bn(serial, sizeof serial, nullptr);
  good = good && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x)) != nullptr;
  BN_free(number);
  good = good && X509_set_version(x, X509_VERSION_3) == 1 &&
         X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, organization, -1, -1, 0) == 1 &&
         X509_set_issuer_name(x, name) == 1 && X509_set_pubkey(x, key) == 1 &&
         X509_gmtime_adj(X509_getm_notBefore(x), 0) != nullptr &&
         X509_time_adj_ex(X509_getm_notAfter(x), static_cast<int>(validity_years * 365), 0, nullptr) !=
             nullptr &&
         AddExtension(x, NID_basic_constraints, "critical,CA:FALSE") &&
         AddExtension(x, NID_key_usage, "critical,digitalSignature,keyEncipherment") &&
         AddExtension(x, NID_ext_key_usage, "serverAuth,clientAuth");
  if (good && !hosts.empty()) good = AddExtension(x, NID_subject_alt_name, AltNames(hosts));
  if (!good || X509_sign(x, key, EVP_sha512()) == 0) return nullptr;
  return certificate;
}

std::string Text(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return size <= 0 ? std::string() : std::string(data, static_cast<size_t>(size));
}

}  // namespace

absl::Status MakeSelfSignedCertificate(const std::string& dir, absl::Span<const std::string> hosts,
                                       uint64_t validity_years) {
  base::FileSystem& fs = base::PosixFileSystem();
  const std::string cert_path = base::JoinPath(dir, "cert.pem");
  const std::string key_path = base::JoinPath(dir, "key.pem");
  auto has_cert = fs.Exists(cert_path);
  auto has_key = fs.Exists(key_path);
  if (!has_cert.ok()) return has_cert.status();
  if (!has_key.ok()) return has_key.status();
  if (*has_cert && *has_key) return absl::OkStatus();

  ERR_clear_error();
  KeyPtr key(EVP_EC_gen("P-521"));
  if (key == nullptr) return Failed();
  X509Ptr certificate = MakeCertificate(key.get(), hosts, validity_years);
  if (certificate == nullptr) return Failed();
  BioPtr cert_text(BIO_new(BIO_s_mem())), key_text(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_X509(cert_text.get(), certificate.get()) != 1 ||
      PEM_write_bio_PrivateKey(key_text.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) != 1) {
    return Failed();
  }
  // The directory, and what the file system makes in it, is this user's alone.
  if (absl::Status made = fs.CreateDirs(dir); !made.ok()) return made;
  if (absl::Status w = base::WriteFileAtomically(fs, key_path, Text(key_text.get())); !w.ok()) return w;
  if (absl::Status w = base::WriteFileAtomically(fs, cert_path, Text(cert_text.get())); !w.ok()) return w;
  KVD_LOG(kInfo, "created a self-signed certificate", {"path", cert_path},
          {"hosts", std::vector<std::string>(hosts.begin(), hosts.end())},
          {"validity-years", validity_years});
  return absl::OkStatus();
}

}  // namespace kvd::net
