#include "watch_stream.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/time/clock.h"

namespace kvd::ctl {
namespace {

constexpr std::string_view kNoLeader = "etcdserver: no leader";

bool CanResume(const grpc::Status& status) {
  if (status.error_message() == kNoLeader) return false;
  return status.error_code() == grpc::StatusCode::UNAVAILABLE ||
         status.error_code() == grpc::StatusCode::INTERNAL;
}

}  // namespace

void WatchStream::Write(const etcdserverpb::WatchRequest& request) {
  // A failed write shows as the end of the stream to the reader, who opens the next one.
  if (stream_ != nullptr) stream_->Write(request);
}

void WatchStream::Add(const etcdserverpb::WatchCreateRequest& request) {
  base::MutexLock lock(mutex_);
  watchers_.push_back({request});
  if (stream_ == nullptr) return;
  created_order_.push_back(watchers_.size() - 1);
  etcdserverpb::WatchRequest message;
  *message.mutable_create_request() = request;
  Write(message);
}

void WatchStream::RequestProgress() {
  base::MutexLock lock(mutex_);
  etcdserverpb::WatchRequest message;
  message.mutable_progress_request();
  Write(message);
}

void WatchStream::Stop() {
  base::MutexLock lock(mutex_);
  stopped_ = true;
  if (context_ != nullptr) context_->TryCancel();
}

grpc::Status WatchStream::Open() {
  const auto channel = client_.Connect(absl::Now() + connect_timeout_);
  if (!channel.ok()) return {grpc::StatusCode::DEADLINE_EXCEEDED, "context deadline exceeded"};
  auto context = std::make_unique<grpc::ClientContext>();
  context->AddMetadata("hasleader", "true");
  if (absl::Status status = client_.Prepare(*context); !status.ok()) {
    return {grpc::StatusCode::UNAUTHENTICATED, std::string(status.message())};
  }
  base::MutexLock lock(mutex_);
  stream_ = nullptr;
  context_ = std::move(context);
  stream_ = etcdserverpb::Watch::NewStub(*channel)->Watch(context_.get());
  created_order_.clear();
  for (size_t i = 0; i < watchers_.size(); ++i) {
    watchers_[i].id = -1;
    if (!watchers_[i].open) continue;
    created_order_.push_back(i);
    etcdserverpb::WatchRequest message;
    *message.mutable_create_request() = watchers_[i].request;
    Write(message);
  }
  return grpc::Status::OK;
}

grpc::Status WatchStream::Run() {
  while (true) {
    if (grpc::Status status = Open(); !status.ok()) return status;
    bool done = false;
    grpc::Status status = Serve(&done);
    if (done) return grpc::Status::OK;
    if (!CanResume(status)) return status;
    client_.Skip();
  }
}

grpc::Status WatchStream::Serve(bool* done) {
  Stream* stream;
  {
    base::MutexLock lock(mutex_);
    stream = stream_.get();
    if (stopped_) context_->TryCancel();
  }
  etcdserverpb::WatchResponse response;
  while (stream->Read(&response)) {
    if (Handle(response)) continue;
    *done = true;
    base::MutexLock lock(mutex_);
    context_->TryCancel();
    break;
  }
  grpc::Status status = stream->Finish();
  base::MutexLock lock(mutex_);
  stream_ = nullptr;
  *done = *done || stopped_;
  return status;
}

// Keeps the table of watchers; what concerns the user goes on to Deliver.
bool WatchStream::Handle(const etcdserverpb::WatchResponse& response) {
  if (response.created()) {
    base::MutexLock lock(mutex_);
    if (created_order_.empty()) return true;
    Watcher& watcher = watchers_[created_order_.front()];
    created_order_.erase(created_order_.begin());
    if (!response.canceled()) {
      watcher.id = response.watch_id();
      if (watcher.request.start_revision() == 0) {
        watcher.request.set_start_revision(response.header().revision() + 1);
      }
      return true;
    }
    // Refused: it is told as a cancellation of a watcher that has this ID for a moment.
    watcher.id = response.watch_id();
  }
  return Deliver(response);
}

bool WatchStream::Deliver(const etcdserverpb::WatchResponse& response) {
  std::vector<size_t> receivers;
  bool any_open = false;
  {
    base::MutexLock lock(mutex_);
    const bool to_all = response.watch_id() == -1 && !response.canceled();
    for (size_t i = 0; i < watchers_.size(); ++i) {
      Watcher& watcher = watchers_[i];
      if (watcher.open && (to_all || watcher.id == response.watch_id())) {
        receivers.push_back(i);
        watcher.open = !response.canceled();
        for (const mvccpb::Event& event : response.events()) {
          watcher.request.set_start_revision(
              std::max(watcher.request.start_revision(), event.kv().mod_revision() + 1));
        }
      }
      any_open = any_open || watcher.open;
    }
  }
  for (size_t receiver : receivers) {
    if (!on_response_(receiver, response)) return false;
  }
  return any_open;
}

}  // namespace kvd::ctl
