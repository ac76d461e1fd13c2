#include "base/file_system.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/strings.h"

namespace kvd::base {
namespace {

absl::StatusCode CodeOf(int error) {
  switch (error) {
    case ENOENT:
      return absl::StatusCode::kNotFound;
    case EEXIST:
      return absl::StatusCode::kAlreadyExists;
    case ENOSPC:
    case EDQUOT:
      return absl::StatusCode::kResourceExhausted;
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::StatusCode::kPermissionDenied;
    case EWOULDBLOCK:
      return absl::StatusCode::kUnavailable;
    case EIO:
      return absl::StatusCode::kDataLoss;
    default:
      return absl::StatusCode::kInternal;
  }
}

absl::Status ErrorOf(std::string_view operation, const std::string& path, int error) {
  return absl::Status(CodeOf(error),
                      StrCat(operation, " ", path, ": ", std::generic_category().message(error)));
}

// Repeats a call that a signal interrupted. Returns what it returned, with errno set if that is -1.
template <typename Call>
auto Retry(Call call) {
  decltype(call()) result;
  do {
    result = call();
  } while (result == -1 && (errno == EINTR || errno == EAGAIN));
  return result;
}

class PosixFile final : public File {
 public:
  PosixFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  ~PosixFile() override { close(fd_); }
  PosixFile(const PosixFile&) = delete;
  PosixFile& operator=(const PosixFile&) = delete;

  using File::WriteAt;
  absl::Status ReadAt(uint64_t offset, size_t n, std::string* out) const override;
  absl::Status WriteAt(uint64_t offset, absl::Span<const std::string_view> pieces) override;
  absl::Status Preallocate(uint64_t size) override;
  absl::Status Truncate(uint64_t size) override {
    if (Retry([&] { return ftruncate(fd_, static_cast<off_t>(size)); }) == -1) return Error("truncate");
    return absl::OkStatus();
  }
  absl::Status Sync() override {
    // EINTR of fdatasync is not repeated: what happened to the pages is unknown.
    if (fdatasync(fd_) == -1) return Error("fdatasync");
    return absl::OkStatus();
  }
  absl::StatusOr<uint64_t> Size() const override {
    struct stat st;
    if (fstat(fd_, &st) == -1) return Error("stat");
    return static_cast<uint64_t>(st.st_size);
  }
  const std::string& path() const override { return path_; }

 private:
  absl::Status Error(std::string_view operation) const { return ErrorOf(operation, path_, errno); }

  const int fd_;
  const std::string path_;
};

absl::Status PosixFile::ReadAt(uint64_t offset, size_t n, std::string* out) const {
  out->resize(n);
  size_t done = 0;
  while (done < n) {
    ssize_t got =
        Retry([&] { return pread(fd_, out->data() + done, n - done, static_cast<off_t>(offset + done)); });
    if (got == -1) return Error("read");
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  out->resize(done);
  return absl::OkStatus();
}

absl::Status PosixFile::WriteAt(uint64_t offset, absl::Span<const std::string_view> pieces) {
  constexpr size_t kMaxPieces = std::min(IOV_MAX, 256);
  iovec vec[kMaxPieces];
  size_t next = 0;  // the first piece not wholly written
  size_t skip = 0;  // bytes of it that are
  for (;;) {
    size_t count = 0;
    for (size_t i = next; i < pieces.size() && count < kMaxPieces; ++i) {
      std::string_view piece = pieces[i].substr(i == next ? skip : 0);
      if (piece.empty()) continue;
      vec[count++] = {const_cast<char*>(piece.data()), piece.size()};
    }
    if (count == 0) return absl::OkStatus();
    ssize_t wrote =
        Retry([&] { return pwritev(fd_, vec, static_cast<int>(count), static_cast<off_t>(offset)); });
    if (wrote == -1) return Error("write");
    offset += static_cast<uint64_t>(wrote);
    size_t left = static_cast<size_t>(wrote) + skip;
    while (next < pieces.size() && left >= pieces[next].size()) left -= pieces[next++].size();
    skip = left;
  }
}

absl::Status PosixFile::Preallocate(uint64_t size) {
  if (Retry([&] { return fallocate(fd_, 0, 0, static_cast<off_t>(size)); }) == 0) return absl::OkStatus();
  if (errno != EOPNOTSUPP && errno != ENOSYS) return Error("preallocate");
  // A file system that cannot reserve: at least the length is there.
  absl::StatusOr<uint64_t> now = Size();
  if (!now.ok()) return now.status();
  return *now >= size ? absl::OkStatus() : Truncate(size);
}

class PosixFileLock final : public FileLock {
 public:
  explicit PosixFileLock(int fd) : fd_(fd) {}
  ~PosixFileLock() override { close(fd_); }
  PosixFileLock(const PosixFileLock&) = delete;
  PosixFileLock& operator=(const PosixFileLock&) = delete;

 private:
  const int fd_;
};

class PosixFileSystemImpl final : public FileSystem {
 public:
  absl::StatusOr<std::unique_ptr<File>> Open(const std::string& path, Mode mode) override {
    int flags = O_CLOEXEC;
    switch (mode) {
      case Mode::kRead:
        flags |= O_RDONLY;
        break;
      case Mode::kReadWrite:
        flags |= O_RDWR;
        break;
      case Mode::kCreate:
        flags |= O_RDWR | O_CREAT;
        break;
      case Mode::kCreateNew:
        flags |= O_RDWR | O_CREAT | O_EXCL;
        break;
    }
    int fd = Retry([&] { return open(path.c_str(), flags, 0600); });
    if (fd == -1) return ErrorOf("open", path, errno);
    return std::make_unique<PosixFile>(fd, path);
  }

  absl::Status Rename(const std::string& from, const std::string& to) override {
    if (rename(from.c_str(), to.c_str()) == -1) return ErrorOf("rename", StrCat(from, " to ", to), errno);
    return absl::OkStatus();
  }

  absl::Status Remove(const std::string& path) override {
    if (remove(path.c_str()) == -1) return ErrorOf("remove", path, errno);
    return absl::OkStatus();
  }

  absl::Status RemoveAll(const std::string& path) override {
    std::error_code error;
    std::filesystem::remove_all(path, error);
    if (error) return ErrorOf("remove", path, error.value());
    return absl::OkStatus();
  }

  absl::Status CreateDirs(const std::string& path) override {
    std::filesystem::path made;
    for (const auto& part : std::filesystem::path(path)) {
      std::string parent = made.empty() ? "." : made.string();
      made /= part;
      if (mkdir(made.c_str(), 0700) == 0) {
        if (absl::Status s = SyncDir(parent); !s.ok()) return s;
        continue;
      }
      // Something of that name is fine if it is a directory; a read-only parent of one that is there, too.
      const int error = errno;
      struct stat st;
      if (stat(made.c_str(), &st) == -1) return ErrorOf("create directory", made.string(), error);
      if (!S_ISDIR(st.st_mode)) return ErrorOf("create directory", made.string(), ENOTDIR);
    }
    return absl::OkStatus();
  }

  absl::Status SyncDir(const std::string& path) override {
    int fd = Retry([&] { return open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
    if (fd == -1) return ErrorOf("open", path, errno);
    const int result = fsync(fd);
    const int error = errno;
    close(fd);
    // A directory that cannot be synced at all (EINVAL) is not a failure of the disk.
    if (result == -1 && error != EINVAL) return ErrorOf("fsync", path, error);
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<std::string>> List(const std::string& dir) override {
    DIR* d = opendir(dir.c_str());
    if (d == nullptr) return ErrorOf("list", dir, errno);
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = readdir(d)) {
      std::string_view name = entry->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
    }
    const int error = errno;
    closedir(d);
    if (error != 0) return ErrorOf("list", dir, error);
    std::sort(names.begin(), names.end());
    return names;
  }

  absl::StatusOr<bool> Exists(const std::string& path) override {
    struct stat st;
    if (stat(path.c_str(), &st) == 0) return true;
    if (errno == ENOENT || errno == ENOTDIR) return false;
    return ErrorOf("stat", path, errno);
  }

  absl::StatusOr<uint64_t> FreeBytes(const std::string& path) override {
    struct statvfs st;
    if (Retry([&] { return statvfs(path.c_str(), &st); }) == -1) return ErrorOf("statvfs", path, errno);
    return static_cast<uint64_t>(st.f_bavail) * st.f_frsize;
  }

  absl::StatusOr<std::unique_ptr<FileLock>> Lock(const std::string& path) override {
    int fd = Retry([&] { return open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600); });
    if (fd == -1) return ErrorOf("open", path, errno);
    int result;
    do {
      result = flock(fd, LOCK_EX | LOCK_NB);
    } while (result == -1 && errno == EINTR);
    if (result == -1) {
      const int error = errno;
      close(fd);
      return ErrorOf("lock", path, error);
    }
    return std::make_unique<PosixFileLock>(fd);
  }
};

}  // namespace

FileSystem& PosixFileSystem() {
  static PosixFileSystemImpl* const fs = new PosixFileSystemImpl;
  return *fs;
}

absl::StatusOr<std::string> ReadFile(FileSystem& fs, const std::string& path) {
  auto file = fs.Open(path, FileSystem::Mode::kRead);
  if (!file.ok()) return file.status();
  auto size = (*file)->Size();
  if (!size.ok()) return size.status();
  std::string data;
  if (absl::Status s = (*file)->ReadAt(0, *size, &data); !s.ok()) return s;
  return data;
}

absl::Status WriteFileAtomically(FileSystem& fs, const std::string& path, std::string_view data) {
  const std::string temporary = path + ".tmp";
  {
    auto file = fs.Open(temporary, FileSystem::Mode::kCreate);
    if (!file.ok()) return file.status();
    if (absl::Status s = (*file)->Truncate(0); !s.ok()) return s;
    if (absl::Status s = (*file)->WriteAt(0, data); !s.ok()) return s;
    if (absl::Status s = (*file)->Sync(); !s.ok()) return s;
  }
  if (absl::Status s = fs.Rename(temporary, path); !s.ok()) return s;
  const size_t slash = path.rfind('/');
  const std::string dir = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  return fs.SyncDir(dir);
}

std::string JoinPath(std::string_view dir, std::string_view name) {
  if (dir.empty()) return std::string(name);
  if (dir.back() == '/') return StrCat(dir, name);
  return StrCat(dir, "/", name);
}

}  // namespace kvd::base
