// etcdserverpb.Maintenance.Snapshot: the store as an etcd database, in chunks, and its SHA-256 at the end.
// Also Maintenance.Hash, which reads the whole store too.
//
// The image is first written to a file, so that a slow client pins a file and not the store's history.

#include <atomic>
#include <utility>

#include "base/crc32c.h"
#include "base/file_system.h"
#include "base/log.h"
#include "base/strings.h"
#include "etcdserverpb/rpc.pb.h"
#include "net/grpc_server.h"
#include "server/api/services.h"
#include "server/config/config.h"
#include "server/node/snapshot_file.h"
#include "storage/store.h"

namespace kvd::server {
namespace {

constexpr size_t kChunkBytes = size_t{32} * 1024;
constexpr uint64_t kDigestBytes = 32;
// No more than this waits for the client.
constexpr size_t kQueuedBytes = size_t{1} << 20;
static_assert(kQueuedBytes >= net::FrontDoorOptions{}.stream_high_bytes, "OnWritable must follow");

// One stream. Everything but the callbacks of the front door runs on the bulk executor.
class SnapshotStream final : public net::StreamHandler, public std::enable_shared_from_this<SnapshotStream> {
 public:
  SnapshotStream(Node& node, base::FileSystem& fs, std::shared_ptr<net::StreamCall> call)
      : node_(node), fs_(fs), call_(std::move(call)) {}

  void Begin() {
    Post([](SnapshotStream& self) { self.WriteFile(); });
  }

  void OnMessage(std::string_view) override {}
  void OnHalfClose() override {}
  void OnWritable() override {
    Post([](SnapshotStream& self) { self.Pump(); });
  }
  void OnClosed() override {
    closed_.store(true, std::memory_order_release);
    Post([](SnapshotStream& self) { self.Drop(); });
  }

 private:
  template <typename F>
  void Post(F f) {
    node_.bulk().Post([self = shared_from_this(), f] { f(*self); });
  }

  void WriteFile() {
    if (closed_.load(std::memory_order_acquire)) return;
    path_ = node_.IncomingSnapshotPath();
    absl::StatusOr<uint64_t> size =
        WriteSnapshotFile(*node_.store().OpenImage(), fs_, path_, Checksum::kAppended);
    if (!size.ok()) return Fail(size.status());
    size_ = *size;
    absl::StatusOr<std::unique_ptr<base::File>> file = fs_.Open(path_, base::FileSystem::Mode::kRead);
    if (!file.ok()) return Fail(file.status());
    file_ = std::move(*file);
    KVD_LOG(kInfo, "sending database snapshot to client", {"total-bytes", size_ - kDigestBytes});
    Pump();
  }

  void Pump() {
    while (file_ != nullptr && !closed_.load(std::memory_order_acquire)) {
      if (call_->queued_bytes() >= kQueuedBytes) return;  // OnWritable goes on
      // The digest is a message of its own.
      uint64_t end = sent_ < size_ - kDigestBytes ? size_ - kDigestBytes : size_;
      std::string blob;
      absl::Status read = file_->ReadAt(sent_, std::min<uint64_t>(kChunkBytes, end - sent_), &blob);
      if (read.ok() && blob.empty()) read = absl::DataLossError("the snapshot's file has become shorter");
      if (!read.ok()) return Fail(read);
      sent_ += blob.size();
      std::string message;
      if (end < size_) AppendUint64Field(message, 2, end - sent_);
      AppendBytesField(message, 3, blob);
      AppendBytesField(message, 4, kEtcdClusterVersion);
      call_->Write(std::move(message));
      if (sent_ < size_) continue;
      KVD_LOG(kInfo, "successfully sent database snapshot to client", {"total-bytes", size_ - kDigestBytes});
      Drop();
      call_->Finish(net::StatusCode::kOk, "");
    }
  }

  void Fail(const absl::Status& status) {
    KVD_LOG(kWarn, "failed to send a database snapshot to a client", {"error", status});
    call_->Finish(net::StatusCode::kInternal, std::string(base::FromAbsl(status.message())));
    Drop();
  }

  void Drop() {
    file_.reset();
    if (!path_.empty()) node_.DropSnapshot(std::exchange(path_, std::string()));
  }

  Node& node_;
  base::FileSystem& fs_;
  std::shared_ptr<net::StreamCall> call_;
  std::atomic<bool> closed_{false};
  // Bulk executor only.
  std::string path_;
  std::unique_ptr<base::File> file_;
  uint64_t size_ = 0;
  uint64_t sent_ = 0;
};

}  // namespace

void Services::RegisterSnapshot(net::FrontDoor& door) {
  door.RegisterServerStream(
      "/etcdserverpb.Maintenance/Snapshot",
      [this](std::string_view,
             const std::shared_ptr<net::StreamCall>& call) -> std::shared_ptr<net::StreamHandler> {
        if (Error error = AdmitStream(*call, true); error != Error::kOk) {
          Finish(*call, error);
          return nullptr;
        }
        auto stream = std::make_shared<SnapshotStream>(node_, fs_, call);
        stream->Begin();
        return stream;
      });
  door.RegisterUnary("/etcdserverpb.Maintenance/Hash", [this](const net::UnaryCall& call) { Hash(call); });
}

// Of every bucket, but for what members hold differently at one revision: how far each has applied its log.
void Services::Hash(const net::UnaryCall& call) {
  if (!Admit(call)) return;
  node_.bulk().Post([this, call] {
    std::unique_ptr<storage::StoreImage> image = node_.store().OpenImage();
    uint32_t crc = 0;
    std::string current;
    image->ForEachRecord([&](std::string_view bucket, std::string_view key, std::string_view value) {
      if (bucket != current) crc = base::Crc32c(crc, current = std::string(bucket));
      if (bucket == "meta") return true;
      crc = base::Crc32c(base::Crc32c(crc, key), value);
      return true;
    });
    std::string body;
    AppendUint64Field(body, 2, crc);
    call.Reply(WithHeader(node_.Header(image->revision()), std::move(body)));
  });
}

}  // namespace kvd::server
