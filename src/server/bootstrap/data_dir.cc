#include <sys/stat.h>

#include "base/file_system.h"
#include "base/log.h"
#include "base/strings.h"
#include "server/bootstrap/bootstrap.h"

namespace kvd::server {
namespace {

absl::Status Annotated(std::string_view what, const absl::Status& status) {
  return absl::Status(status.code(), base::ToAbsl(base::StrCat(what, ": ", status.message())));
}

// A file can be made, written and removed again.
absl::Status CheckWritable(base::FileSystem& fs, const std::string& dir) {
  const std::string probe = base::JoinPath(dir, ".touch");
  auto file = fs.Open(probe, base::FileSystem::Mode::kCreate);
  if (!file.ok()) return file.status();
  file->reset();
  return fs.Remove(probe);
}

// Others may read what members keep to themselves; as etcd, this is said and nothing is changed.
void WarnOfPermissions(const std::string& dir) {
  struct stat info {};
  if (::stat(dir.c_str(), &info) != 0 || (info.st_mode & 0777) == 0700) return;
  char mode[8];
  std::snprintf(mode, sizeof(mode), "%04o", info.st_mode & 0777U);
  KVD_LOG(kWarn, "directory has other permissions than the recommended 0700", {"dir", dir},
          {"permission", mode});
}

absl::Status CheckEntries(const Config& config, base::FileSystem& fs) {
  auto names = fs.List(config.data_dir);
  if (!names.ok()) return names.status();
  for (const std::string& name : *names) {
    if (name == "proxy") {
      return absl::FailedPreconditionError(base::StrCat(
          "the data directory ", config.data_dir, " is that of a v2 proxy, which is not there any more"));
    }
    // "fixtures" holds the certificates that --auto-tls has made.
    if (name == "member" || name == "fixtures" || name == ".touch" || name == "lost+found") continue;
    KVD_LOG(kWarn, "found invalid file under data directory", {"filename", name},
            {"data-dir", config.data_dir});
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status DataDir::Create(const std::string& dir) {
  auto existed = fs_.Exists(dir);
  if (!existed.ok()) return existed.status();
  if (!*existed) created_.push_back(dir);
  return fs_.CreateDirs(dir);
}

absl::Status DataDir::Prepare() {
  if (absl::Status status = Create(config_.data_dir); !status.ok()) {
    return Annotated("cannot access data directory", status);
  }
  if (absl::Status status = CheckEntries(config_, fs_); !status.ok()) return status;
  if (created_.empty() && &fs_ == &base::PosixFileSystem()) WarnOfPermissions(config_.data_dir);
  for (const std::string& dir : {config_.MemberDir(), config_.SnapDir()}) {
    if (absl::Status status = Create(dir); !status.ok()) {
      return Annotated("cannot access member directory", status);
    }
  }
  if (absl::Status status = CheckWritable(fs_, config_.MemberDir()); !status.ok()) {
    return Annotated("cannot write to member directory", status);
  }
  return absl::OkStatus();
}

void DataDir::Undo() {
  for (auto dir = created_.rbegin(); dir != created_.rend(); ++dir) {
    // Remove takes only what is empty, and a file in the place of a directory is not ours.
    if (absl::Status removed = fs_.Remove(*dir); !removed.ok()) break;
  }
  created_.clear();
}

}  // namespace kvd::server
