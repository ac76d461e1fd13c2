#include "server/node/peer_link.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "base/executor.h"
#include "base/file_system.h"
#include "base/log.h"
#include "net/io_thread.h"
#include "net/peer/http_client.h"
#include "net/peer/peer_transport.h"
#include "raftpb/raft.pb.h"
#include "server/node/raft_convert.h"

namespace kvd::server {
namespace {

constexpr std::string_view kPaths[] = {"/members",          "/members/promote/", "/members/hashkv",
                                       "/leases",           "/leases/internal",  "/version",
                                       "/downgrade/enabled"};

// Reads a snapshot's file on the executor for file work.
class FileSource final : public net::SnapshotSource {
 public:
  FileSource(base::FileSystem& fs, base::Executor& files, PeerReceiver* receiver, std::string path)
      : fs_(fs), files_(files), receiver_(receiver), path_(std::move(path)) {}
  ~FileSource() override {
    files_.Post([receiver = receiver_, path = path_, file = std::move(file_)]() mutable {
      file.reset();
      receiver->DropSnapshot(path);
    });
  }

  void Read(size_t max_bytes, ReadDone done) override {
    files_.Post([this, max_bytes, done = std::move(done)]() mutable { done(ReadNow(max_bytes)); });
  }

 private:
  absl::StatusOr<std::string> ReadNow(size_t max_bytes) {
    if (file_ == nullptr) {
      absl::StatusOr<std::unique_ptr<base::File>> opened = fs_.Open(path_, base::FileSystem::Mode::kRead);
      if (!opened.ok()) return opened.status();
      file_ = std::move(*opened);
    }
    std::string bytes;
    if (absl::Status read = file_->ReadAt(offset_, max_bytes, &bytes); !read.ok()) return read;
    offset_ += bytes.size();
    return bytes;
  }

  base::FileSystem& fs_;
  base::Executor& files_;
  PeerReceiver* receiver_;
  const std::string path_;
  std::unique_ptr<base::File> file_;
  uint64_t offset_ = 0;
};

// Writes an incoming snapshot to a file, syncs it and gives it to the node.
class FileSink final : public net::SnapshotSink {
 public:
  FileSink(base::FileSystem& fs, base::Executor& files, PeerReceiver* receiver, raft::Message message)
      : state_(std::make_shared<State>(fs, files, receiver, std::move(message))) {}
  ~FileSink() override {
    state_->files.Post([state = state_] {
      if (!state->adopted) state->Discard();
    });
  }

  void Write(std::string bytes, WriteDone done) override {
    state_->files.Post([state = state_, bytes = std::move(bytes), done = std::move(done)]() mutable {
      done(state->Write(bytes));
    });
  }
  void Finish(WriteDone done) override {
    state_->files.Post([state = state_, done = std::move(done)]() mutable {
      absl::Status synced = state->Open();
      if (synced.ok()) synced = state->file->Sync();
      if (!synced.ok()) {
        done(synced);
        return;
      }
      state->file.reset();
      state->adopted = true;
      state->receiver->AdoptSnapshot(std::move(state->message), state->path, std::move(done));
    });
  }

 private:
  // Outlives the sink while file work is queued. Files executor only, after construction.
  struct State {
    State(base::FileSystem& fs_in, base::Executor& files_in, PeerReceiver* receiver_in,
          raft::Message message_in)
        : fs(fs_in), files(files_in), receiver(receiver_in), message(std::move(message_in)) {}

    absl::Status Open() {
      if (file != nullptr) return absl::OkStatus();
      path = receiver->IncomingSnapshotPath();
      absl::StatusOr<std::unique_ptr<base::File>> opened = fs.Open(path, base::FileSystem::Mode::kCreateNew);
      if (!opened.ok()) return opened.status();
      file = std::move(*opened);
      return absl::OkStatus();
    }
    absl::Status Write(std::string_view bytes) {
      if (absl::Status opened = Open(); !opened.ok()) return opened;
      absl::Status written = file->WriteAt(offset, bytes);
      if (written.ok()) offset += bytes.size();
      return written;
    }
    void Discard() {
      if (file == nullptr) return;
      file.reset();
      if (absl::Status removed = fs.Remove(path); !removed.ok()) {
        KVD_LOG(kWarn, "an unfinished snapshot was not removed", {"path", path}, {"error", removed});
      }
    }

    base::FileSystem& fs;
    base::Executor& files;
    PeerReceiver* receiver;
    raft::Message message;
    std::string path;
    std::unique_ptr<base::File> file;
    uint64_t offset = 0;
    bool adopted = false;
  };
  std::shared_ptr<State> state_;
};

}  // namespace

class PeerLink::Impl final : public net::PeerHandler {
 public:
  Impl(const Options& options, net::IoThread& io, base::FileSystem& fs, base::Executor& files)
      : fs_(fs),
        files_(files),
        tls_(options.tls),
        transport_(io, base::SystemClock(), TransportOptions(options), *this) {
    for (std::string_view path : kPaths) {
      transport_.Handle(std::string(path),
                        [this](net::PeerRequest request, net::PeerTransport::Respond respond) {
                          Serve(std::move(request), std::move(respond));
                        });
    }
  }

  void SetReceiver(PeerReceiver* receiver) { receiver_ = receiver; }
  net::PeerTransport& transport() { return transport_; }
  absl::StatusOr<uint16_t> Listen(std::string_view host, uint16_t port, bool secure) {
    return transport_.ListenPeer(host, port, secure ? tls_ : nullptr);
  }

  void Send(std::vector<raft::Message> messages) {
    // Usually one or two peers: a few vectors, in the order of the messages.
    std::vector<std::pair<uint64_t, std::vector<net::OutgoingMessage>>> by_peer;
    for (raft::Message& message : messages) {
      if (message.type == raft::MessageType::kSnap) {
        SendSnapshot(std::move(message));
        continue;
      }
      auto it =
          std::find_if(by_peer.begin(), by_peer.end(), [&](const auto& p) { return p.first == message.to; });
      if (it == by_peer.end()) it = by_peer.insert(by_peer.end(), {message.to, {}});
      it->second.push_back(ToWire(std::move(message)));
    }
    for (auto& [peer, batch] : by_peer) transport_.Send(peer, std::move(batch));
  }

  void Ask(std::vector<std::string> urls, PeerRequest request, Done done) {
    AskFrom(std::move(urls), 0, std::move(request), std::move(done));
  }

  // net::PeerHandler
  void OnMessages(std::vector<raftpb::Message>&& messages) override {
    std::vector<raft::Message> converted;
    converted.reserve(messages.size());
    for (raftpb::Message& message : messages) converted.push_back(FromWire(std::move(message)));
    receiver_->OnMessages(std::move(converted));
  }
  absl::StatusOr<std::unique_ptr<net::SnapshotSink>> OnSnapshot(raftpb::Message&& message) override {
    return std::make_unique<FileSink>(fs_, files_, receiver_, FromWire(std::move(message)));
  }
  void OnUnreachable(uint64_t peer) override { receiver_->OnUnreachable(peer); }
  void OnSnapshotSent(uint64_t peer, bool ok) override { receiver_->OnSnapshotSent(peer, ok); }
  void OnRemoved(uint64_t) override { receiver_->OnRemoved(); }
  void OnClusterMismatch(uint64_t by) override { receiver_->OnClusterMismatch(by); }
  bool IsIdRemoved(uint64_t id) override { return receiver_->IsIdRemoved(id); }

 private:
  static net::PeerTransportOptions TransportOptions(const Options& options) {
    net::PeerTransportOptions out;
    out.member_id = options.member_id;
    out.cluster_id = options.cluster_id;
    out.server_version = options.server_version;
    out.peer_urls = options.peer_urls;
    out.read_timeout = options.read_timeout;
    out.write_timeout = options.write_timeout;
    out.tls = options.tls;
    out.check_client_address = options.check_client_address;
    return out;
  }

  void Serve(net::PeerRequest request, net::PeerTransport::Respond respond) {
    PeerRequest asked;
    asked.method = std::move(request.method);
    asked.path = std::move(request.path);
    asked.body = std::move(request.body);
    receiver_->OnRequest(asked, [respond = std::move(respond)](PeerAnswer answer) mutable {
      net::PeerResponse response;
      response.status = answer.status;
      response.body = std::move(answer.body);
      respond(std::move(response));
    });
  }

  void SendSnapshot(raft::Message message) {
    uint64_t to = message.to;
    receiver_->MakeSnapshot(std::move(message), [this, to](absl::StatusOr<PeerReceiver::SnapshotFile> made) {
      if (!made.ok()) {
        KVD_LOG(kWarn, "no snapshot could be made for a member", {"to", base::HexId(to)},
                {"error", made.status()});
        receiver_->OnSnapshotSent(to, false);
        return;
      }
      raftpb::Message wire;
      ToWireSnapshot(made->message, &wire);
      KVD_LOG(kInfo, "sending database snapshot", {"snapshot-index", made->message.snapshot->meta.index},
              {"remote-peer-id", base::HexId(to)}, {"bytes", made->size_bytes});
      transport_.SendSnapshot(to, wire, std::make_unique<FileSource>(fs_, files_, receiver_, made->path),
                              made->size_bytes);
    });
  }

  void AskFrom(std::vector<std::string> urls, size_t at, PeerRequest request, Done done) {
    if (at >= urls.size()) {
      done(absl::UnavailableError("the member has no URL that answers"));
      return;
    }
    net::PeerRequest call;
    call.method = request.method;
    call.path = request.path;
    call.body = request.body;
    net::HttpCallOptions options;
    options.timeout = request.timeout;
    std::string url = urls[at];
    transport_.http_client().Call(
        url, call, options,
        [this, urls = std::move(urls), at, request = std::move(request),
         done = std::move(done)](absl::StatusOr<net::PeerResponse> response) mutable {
          if (response.ok()) {
            done(PeerAnswer{response->status, std::move(response->body)});
          } else if (at + 1 < urls.size()) {
            AskFrom(std::move(urls), at + 1, std::move(request), std::move(done));
          } else {
            done(response.status());
          }
        });
  }

  base::FileSystem& fs_;
  base::Executor& files_;
  const std::shared_ptr<const net::TlsContext> tls_;
  PeerReceiver* receiver_ = nullptr;
  net::PeerTransport transport_;
};

PeerLink::PeerLink(const Options& options, net::IoThread& io, base::FileSystem& fs, base::Executor& files)
    : impl_(std::make_unique<Impl>(options, io, fs, files)) {}
PeerLink::~PeerLink() = default;

void PeerLink::SetReceiver(PeerReceiver* receiver) {
  impl_->SetReceiver(receiver);
}
absl::StatusOr<uint16_t> PeerLink::Listen(std::string_view host, uint16_t port, bool secure) {
  return impl_->Listen(host, port, secure);
}
void PeerLink::Stop() {
  impl_->transport().Stop();
}
void PeerLink::Send(std::vector<raft::Message> messages) {
  impl_->Send(std::move(messages));
}
void PeerLink::AddPeer(uint64_t id, std::vector<std::string> urls) {
  impl_->transport().AddPeer(id, std::move(urls));
}
void PeerLink::UpdatePeer(uint64_t id, std::vector<std::string> urls) {
  impl_->transport().UpdatePeer(id, std::move(urls));
}
void PeerLink::RemovePeer(uint64_t id) {
  impl_->transport().RemovePeer(id);
}
std::optional<base::Nanos> PeerLink::ActiveSince(uint64_t id) const {
  return impl_->transport().ActiveSince(id);
}
void PeerLink::Ask(std::vector<std::string> urls, PeerRequest request, Done done) {
  impl_->Ask(std::move(urls), std::move(request), std::move(done));
}

}  // namespace kvd::server
