// snapshot save, status.
#include <memory>

#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/file_system.h"
#include "base/strings.h"
#include "command.h"
#include "etcdserverpb/rpc.grpc.pb.h"
#include "storage/image/image_reader.h"

namespace kvd::ctl {
namespace {

using base::FileSystem;
using etcdserverpb::Maintenance;
namespace image = storage::image;

constexpr std::string_view kKeyBucket = "key";

// The backup is written beside its final name and renamed, so that a name always stands for a whole one.
class SaveCommand final : public Command {
 public:
  void DefineFlags(FlagSet& flags) override { flags_ = &flags; }

  Exit Run(Session& session, const std::vector<std::string>& args) override {
    if (args.size() != 1) return Fail(kExitBadArgs, "snapshot save expects one argument");
    const std::vector<std::string>& endpoints = session.client().endpoints();
    if (endpoints.size() != 1) {
      return Fail(kExitInterrupted,
                  base::StrCat("snapshot must be requested to one selected node, not multiple [",
                               absl::StrJoin(endpoints, " "), "]"));
    }
    std::string version;
    FileSystem& fs = base::PosixFileSystem();
    const std::string part = args[0] + ".part";
    absl::Status saved = Receive(session, fs, part, &version);
    if (saved.ok()) saved = fs.Rename(part, args[0]);
    if (!saved.ok()) {
      fs.Remove(part).IgnoreError();
      return Fail(kExitInterrupted, std::string(saved.message()));
    }
    session.out() << "Snapshot saved at " << args[0] << "\n";
    if (!version.empty()) session.out() << "Server version " << version << "\n";
    return Success();
  }

 private:
  absl::Status Receive(Session& session, FileSystem& fs, const std::string& path, std::string* version) {
    // A backup takes as long as it takes, unless the user says otherwise.
    const bool limited = flags_->Changed("command-timeout");
    const absl::Time deadline =
        limited ? absl::Now() + session.options().command_timeout : absl::InfiniteFuture();
    const auto channel = session.client().Connect(absl::Now() + session.options().command_timeout);
    if (!channel.ok()) return channel.status();
    grpc::ClientContext context;
    if (limited) context.set_deadline(absl::ToChronoTime(deadline));
    if (absl::Status status = session.client().Prepare(context); !status.ok()) return status;

    absl::StatusOr<std::unique_ptr<base::File>> file = fs.Open(path, FileSystem::Mode::kCreate);
    if (!file.ok()) return file.status();
    if (absl::Status status = (*file)->Truncate(0); !status.ok()) return status;
    const auto stream = Maintenance::NewStub(*channel)->Snapshot(&context, etcdserverpb::SnapshotRequest());
    uint64_t offset = 0;
    absl::Status written;
    for (etcdserverpb::SnapshotResponse piece; written.ok() && stream->Read(&piece);) {
      if (!piece.version().empty()) *version = piece.version();
      written = (*file)->WriteAt(offset, piece.blob());
      offset += piece.blob().size();
    }
    if (!written.ok()) context.TryCancel();
    const grpc::Status status = stream->Finish();
    if (!written.ok()) return written;
    if (!status.ok()) return absl::UnavailableError(ErrorText(status));
    if (absl::Status synced = (*file)->Sync(); !synced.ok()) return synced;
    const absl::StatusOr<image::Sha256Trailer> checksum = image::CheckSha256(**file);
    if (!checksum.ok()) return checksum.status();
    if (*checksum == image::Sha256Trailer::kMatches) return absl::OkStatus();
    return absl::DataLossError(base::StrCat("sha256 checksum not found [bytes: ", offset, "]"));
  }

  FlagSet* flags_ = nullptr;
};

absl::StatusOr<SnapshotFacts> Inspect(const std::string& path) {
  absl::StatusOr<std::unique_ptr<base::File>> file =
      base::PosixFileSystem().Open(path, FileSystem::Mode::kRead);
  if (!file.ok()) return file.status();
  if (auto checksum = image::CheckSha256(**file); !checksum.ok()) return checksum.status();
  const auto reader = image::ImageReader::Open(**file);
  if (!reader.ok()) return reader.status();
  const absl::StatusOr<std::vector<std::string>> buckets = (*reader)->Buckets();
  if (!buckets.ok()) return buckets.status();
  SnapshotFacts facts;
  facts.total_bytes = (*reader)->size_bytes();
  for (const std::string& bucket : *buckets) {
    facts.hash = base::Crc32c(facts.hash, bucket);
    const absl::Status read = (*reader)->ForEach(bucket, [&](std::string_view key, std::string_view value) {
      facts.hash = base::Crc32c(base::Crc32c(facts.hash, key), value);
      ++facts.total_keys;
      if (bucket == kKeyBucket && key.size() >= sizeof(uint64_t)) {
        facts.revision = static_cast<int64_t>(base::LoadBigEndian64(key.data()));
      }
      return absl::OkStatus();
    });
    if (!read.ok()) return read;
  }
  return facts;
}

class StatusCommand final : public Command {
 public:
  Exit Run(Session& session, const std::vector<std::string>& args) override {
    if (args.size() != 1) return Fail(kExitBadArgs, "snapshot status requires exactly one argument");
    const absl::StatusOr<SnapshotFacts> facts = Inspect(args[0]);
    if (!facts.ok()) return Fail(kExitError, std::string(facts.status().message()));
    return session.printer().Snapshot(*facts);
  }
};

}  // namespace

std::vector<CommandEntry> SnapshotCommands() {
  return {
      {"snapshot save", "FILE", "write a backup of an endpoint to a file",
       [] { return std::make_unique<SaveCommand>(); }},
      {"snapshot status", "FILE", "check a backup and show what it holds",
       [] { return std::make_unique<StatusCommand>(); }},
  };
}

}  // namespace kvd::ctl
