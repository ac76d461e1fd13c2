#include "server/node/data_version.h"

#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/file_system.h"
#include "base/log.h"
#include "base/strings.h"

namespace kvd::server {
namespace {

std::string PathIn(const std::string& member_dir) {
  return base::JoinPath(member_dir, "version");
}

bool Decode(const std::string& text, DataVersion* out) {
  out->format = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const std::vector<std::string> words = absl::StrSplit(line, absl::MaxSplits(' ', 1));
    if (words.size() != 2) return false;
    if (words[0] == "format" && !absl::SimpleAtoi(words[1], &out->format)) return false;
    if (words[0] == "kvd") out->kvd = words[1];
    if (words[0] == "member" && !absl::SimpleHexAtoi(words[1], &out->member_id)) return false;
    if (words[0] == "cluster" && !absl::SimpleHexAtoi(words[1], &out->cluster_id)) return false;
  }
  return out->format > 0;
}

}  // namespace

absl::StatusOr<std::optional<DataVersion>> ReadDataVersion(base::FileSystem& fs,
                                                           const std::string& member_dir) {
  const absl::StatusOr<std::string> text = base::ReadFile(fs, PathIn(member_dir));
  if (absl::IsNotFound(text.status())) return std::nullopt;
  if (!text.ok()) return text.status();
  DataVersion version;
  if (!Decode(*text, &version)) {
    KVD_LOG(kWarn, "the file that says which version wrote the data cannot be understood; passing over it",
            {"path", PathIn(member_dir)});
    return std::nullopt;
  }
  if (version.format > kDataFormat) {
    return absl::FailedPreconditionError(base::StrCat(
        "the data in ", member_dir, " were last written by kvd ", version.kvd, " in format ", version.format,
        ", and this program knows formats up to ", kDataFormat, ": start kvd ", version.kvd, " or newer"));
  }
  return version;
}

absl::Status WriteDataVersion(base::FileSystem& fs, const std::string& member_dir,
                              const DataVersion& version) {
  return base::WriteFileAtomically(
      fs, PathIn(member_dir),
      base::StrCat("format ", version.format, "\nkvd ", version.kvd, "\nmember ",
                   base::HexId(version.member_id), "\ncluster ", base::HexId(version.cluster_id), "\n"));
}

}  // namespace kvd::server
