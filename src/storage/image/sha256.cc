// The checksum at the end of a backup.
#include <openssl/evp.h>

#include <memory>
#include <string>

#include "base/check.h"
#include "base/file_system.h"
#include "base/strings.h"
#include "storage/image/image_reader.h"
#include "storage/image/image_writer.h"

namespace kvd::storage::image {
namespace {

constexpr size_t kDigestBytes = 32;
constexpr uint64_t kChunkBytes = 1 << 20;

// Of the file's first `size` bytes.
absl::StatusOr<std::string> Sha256(const base::File& file, uint64_t size) {
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  KVD_CHECK(context && EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1, "SHA-256 is there");
  std::string chunk;
  for (uint64_t offset = 0; offset < size; offset += chunk.size()) {
    if (absl::Status s = file.ReadAt(offset, std::min(kChunkBytes, size - offset), &chunk); !s.ok()) return s;
    if (chunk.empty()) return absl::DataLossError(base::StrCat(file.path(), ": the file became shorter"));
    KVD_CHECK(EVP_DigestUpdate(context.get(), chunk.data(), chunk.size()) == 1, "hashing bytes cannot fail");
  }
  std::string digest(kDigestBytes, '\0');
  KVD_CHECK(EVP_DigestFinal_ex(context.get(), reinterpret_cast<unsigned char*>(digest.data()), nullptr) == 1,
            "hashing cannot fail");
  return digest;
}

}  // namespace

absl::Status AppendSha256(base::File& file, uint64_t size) {
  auto digest = Sha256(file, size);
  if (!digest.ok()) return digest.status();
  return file.WriteAt(size, *digest);
}

absl::StatusOr<Sha256Trailer> CheckSha256(const base::File& file) {
  auto size = file.Size();
  if (!size.ok()) return size.status();
  if (*size % 512 != kDigestBytes) return Sha256Trailer::kNone;
  auto digest = Sha256(file, *size - kDigestBytes);
  if (!digest.ok()) return digest.status();
  std::string trailer;
  if (absl::Status s = file.ReadAt(*size - kDigestBytes, kDigestBytes, &trailer); !s.ok()) return s;
  if (trailer != *digest) {
    return absl::DataLossError(base::StrCat(file.path(), ": its SHA-256 does not match its contents"));
  }
  return Sha256Trailer::kMatches;
}

}  // namespace kvd::storage::image
