#include "tls/certificates.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "base/check.h"

namespace kvd::net {
namespace {

std::string TakeText(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  std::string text(data, static_cast<size_t>(size));
  BIO_free(bio);
  return text;
}

std::string PemOf(X509* certificate) {
  BIO* bio = BIO_new(BIO_s_mem());
  PEM_write_bio_X509(bio, certificate);
  return TakeText(bio);
}

std::string PemOf(EVP_PKEY* key) {
  BIO* bio = BIO_new(BIO_s_mem());
  PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr);
  return TakeText(bio);
}

void Extend(X509* issuer, X509* certificate, int id, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, id, value.c_str());
  KVD_CHECK(extension != nullptr, "an extension of a test's certificate");
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

void SetName(X509_NAME* name, const std::string& common_name) {
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(common_name.c_str()), -1, -1, 0);
}

}  // namespace

CertificateDir::CertificateDir() {
  std::string form = (std::filesystem::temp_directory_path() / "kvd-tls-XXXXXX").string();
  KVD_CHECK(mkdtemp(form.data()) != nullptr, "a directory for a test");
  path_ = form;
}

CertificateDir::~CertificateDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void CertificateDir::Write(const std::string& name, const std::string& text) const {
  const std::string next = Path(name + ".next");
  {
    std::ofstream file(next, std::ios::binary);
    file << text;
  }
  std::filesystem::rename(next, Path(name));
}

struct TestAuthority::Impl {
  Impl(const CertificateDir& directory, const std::string& authority)
      : dir(directory), name(authority), key(EVP_EC_gen("P-256")), certificate(X509_new()) {
    X509_set_version(certificate, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    SetName(X509_get_subject_name(certificate), name);
    X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
    X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
    X509_set_pubkey(certificate, key);
    Extend(certificate, certificate, NID_basic_constraints, "critical,CA:TRUE");
    Extend(certificate, certificate, NID_key_usage, "critical,keyCertSign,cRLSign");
    X509_sign(certificate, key, EVP_sha256());
    dir.Write(name + ".pem", PemOf(certificate));
  }
  ~Impl() {
    X509_free(certificate);
    EVP_PKEY_free(key);
  }

  const CertificateDir& dir;
  const std::string name;
  EVP_PKEY* const key;
  X509* const certificate;
  long last_serial = 0x1000;
};

TestAuthority::TestAuthority(const CertificateDir& dir, const std::string& name)
    : impl_(std::make_unique<Impl>(dir, name)) {}
TestAuthority::~TestAuthority() = default;

std::string TestAuthority::file() const {
  return impl_->dir.Path(impl_->name + ".pem");
}

long TestAuthority::Issue(const std::string& name, const CertificateRequest& request) {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* certificate = X509_new();
  X509_set_version(certificate, X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), ++impl_->last_serial);
  SetName(X509_get_subject_name(certificate), request.common_name);
  X509_set_issuer_name(certificate, X509_get_subject_name(impl_->certificate));
  X509_gmtime_adj(X509_getm_notBefore(certificate), request.days < 0 ? 86400L * request.days - 3600 : -3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate), 86400L * request.days);
  X509_set_pubkey(certificate, key);
  Extend(impl_->certificate, certificate, NID_key_usage, "critical,digitalSignature");
  if (!request.usages.empty()) Extend(impl_->certificate, certificate, NID_ext_key_usage, request.usages);
  if (!request.alt_names.empty()) {
    Extend(impl_->certificate, certificate, NID_subject_alt_name, request.alt_names);
  }
  X509_sign(certificate, impl_->key, EVP_sha256());
  impl_->dir.Write(name + ".key", PemOf(key));
  impl_->dir.Write(name + ".pem", PemOf(certificate));
  X509_free(certificate);
  EVP_PKEY_free(key);
  return impl_->last_serial;
}

void TestAuthority::Revoke(const std::string& file, const std::vector<long>& serials, bool der) {
  X509_CRL* list = X509_CRL_new();
  X509_CRL_set_issuer_name(list, X509_get_subject_name(impl_->certificate));
  ASN1_TIME* now = X509_gmtime_adj(nullptr, 0);
  X509_CRL_set1_lastUpdate(list, now);
  for (long serial : serials) {
    X509_REVOKED* revoked = X509_REVOKED_new();
    ASN1_INTEGER* number = ASN1_INTEGER_new();
    ASN1_INTEGER_set(number, serial);
    X509_REVOKED_set_serialNumber(revoked, number);
    X509_REVOKED_set_revocationDate(revoked, now);
    X509_CRL_add0_revoked(list, revoked);
    ASN1_INTEGER_free(number);
  }
  ASN1_TIME_free(now);
  X509_CRL_sign(list, impl_->key, EVP_sha256());
  BIO* bio = BIO_new(BIO_s_mem());
  if (der) {
    i2d_X509_CRL_bio(bio, list);
  } else {
    PEM_write_bio_X509_CRL(bio, list);
  }
  impl_->dir.Write(file, TakeText(bio));
  X509_CRL_free(list);
}

}  // namespace kvd::net
