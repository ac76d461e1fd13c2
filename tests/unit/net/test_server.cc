#include "test_server.h"

#include <algorithm>

#include "base/check.h"
#include "net/grpc_wire.h"

namespace kvd::net {

struct TestServer::ChatHandler final : StreamHandler {
  ChatHandler(Events& e, std::shared_ptr<StreamCall> c) : events(e), call(std::move(c)) {}
  void OnMessage(std::string_view message) override { call->Write(std::string(message)); }
  void OnHalfClose() override { call->Finish(StatusCode::kOk, ""); }
  void OnClosed() override { events.Add(call->cancelled() ? "chat cancelled" : "chat closed"); }
  Events& events;
  std::shared_ptr<StreamCall> call;
};

// Answers with as many bytes as were asked for, in parts made on the worker thread, and says how many parts
// it made and that it is gone. It ends `missing` bytes early, or goes that many too far if that is negative.
struct TestServer::MadeReply final : WriteEvents, std::enable_shared_from_this<MadeReply> {
  MadeReply(TestServer& s, UnaryCall c, uint64_t n, int64_t m)
      : server(s), call(std::move(c)), left(n), missing(m) {}
  ~MadeReply() override { server.events_.Add("made gone"); }
  void OnWritable() override { Pump(); }
  void OnClosed() override {
    server.events_.Add(call.cancelled() ? "made cancelled" : "made closed");
    closed = true;
  }
  void Begin() {
    call.ReplyInParts(left, shared_from_this());
    left -= static_cast<uint64_t>(missing);
    Pump();
  }
  void Pump() {
    server.worker_.Post([self = shared_from_this()] {
      constexpr uint64_t kPart = uint64_t{128} * 1024;
      while (self->left > 0 && !self->closed &&
             self->call.queued_bytes() < FrontDoorOptions().stream_high_bytes) {
        self->server.events_.Add("made");
        std::string part;
        for (uint64_t i = std::min(self->left, kPart); i > 0; --i) {
          part.push_back(static_cast<char>('a' + self->left-- % 26));
        }
        self->call.WritePart(std::move(part));
        if (self->left == 0 && self->missing != 0) self->call.BreakOff();
      }
    });
  }
  TestServer& server;
  const UnaryCall call;
  uint64_t left;
  const int64_t missing;
  std::atomic<bool> closed{false};
};

// Messages of kBytes each that begin with a number.
class TestServer::NumberSource final : public MessageSource {
 public:
  static constexpr size_t kBytes = 500;
  NumberSource(Events& events, size_t first, size_t end) : events_(events), next_(first), end_(end) {}
  ~NumberSource() override { events_.Add("numbers gone"); }
  size_t size() const { return (end_ - next_) * (kGrpcPrefixBytes + kBytes); }
  Message Next(size_t max_bytes) override {
    std::string out;
    do {
      char prefix[kGrpcPrefixBytes];
      StoreGrpcPrefix(prefix, kBytes);
      out.append(prefix, sizeof prefix);
      std::string message = std::to_string(next_) + ' ';
      message.resize(kBytes, 'n');
      out += message;
    } while (++next_ < end_ && out.size() + kGrpcPrefixBytes + kBytes <= max_bytes);
    return Message(std::move(out));
  }

 private:
  Events& events_;
  size_t next_;
  const size_t end_;
};

// Writes 64 KiB messages on the worker thread whenever the queue is below the high mark, up to `limit` of
// them.
struct TestServer::FloodHandler final : StreamHandler, std::enable_shared_from_this<FloodHandler> {
  FloodHandler(TestServer& s, std::shared_ptr<StreamCall> c, size_t n)
      : server(s), call(std::move(c)), left(n) {}
  void OnMessage(std::string_view) override {}
  void OnHalfClose() override {}
  void OnWritable() override {
    server.events_.Add("flood writable");
    Pump();
  }
  void OnClosed() override { server.events_.Add("flood closed"); }
  void Pump() {
    server.worker_.Post([self = shared_from_this()] {
      size_t high = FrontDoorOptions().stream_high_bytes;
      while (self->left > 0 && self->call->queued_bytes() < high && !self->call->cancelled()) {
        self->call->Write(self->block);
        --self->left;
      }
      if (self->left == 0) self->call->Finish(StatusCode::kOk, "");
      self->server.events_.Add("flood pumped");
    });
  }
  TestServer& server;
  std::shared_ptr<StreamCall> call;
  size_t left;
  const base::SharedBytes block{std::string(size_t{64} * 1024, 'x')};
};

struct TestServer::SlowHandler final : StreamHandler {
  SlowHandler(Events& e, std::shared_ptr<StreamCall> c) : events(e), call(std::move(c)) {}
  void OnMessage(std::string_view message) override {
    call->PauseReading();
    events.Add("slow got " + std::to_string(message.size()));
  }
  void OnHalfClose() override {
    events.Add("slow half closed");
    call->Finish(StatusCode::kAborted, "100% d\xc3\xb6ne\n");
  }
  void OnClosed() override { events.Add("slow closed"); }
  Events& events;
  std::shared_ptr<StreamCall> call;
};

TestServer::TestServer(FrontDoorOptions options, int threads, ListenOptions listen)
    : threads_(std::make_unique<IoThreads>(threads)), door_(std::make_unique<FrontDoor>(*threads_, options)) {
  RegisterGrpc();
  RegisterHttp();
  auto port = door_->Listen("127.0.0.1", 0, listen);
  KVD_CHECK(port.ok(), "a free port");
  port_ = *port;
  door_->Start();
}

TestServer::~TestServer() {
  door_->Shutdown(std::chrono::seconds(0));
  ReleaseHanging();
  worker_.Stop();
  last_stream_.reset();
  threads_->Stop();
}

std::shared_ptr<StreamCall> TestServer::last_stream() {
  std::lock_guard<std::mutex> lock(mutex_);
  return last_stream_;
}

void TestServer::ReleaseHanging() {
  std::vector<UnaryCall> calls;
  std::lock_guard<std::mutex> lock(mutex_);
  calls.swap(hanging_);
}

void TestServer::RegisterGrpc() {
  door_->RegisterUnary("/test.Echo/Unary",
                       [](const UnaryCall& call) { call.Reply(std::string(call.request())); });
  door_->RegisterUnary("/test.Echo/Later", [this](UnaryCall call) {
    worker_.Post([call = std::move(call)] { call.Reply(std::string(call.request())); });
  });
  door_->RegisterUnary("/test.Echo/Fail", [](const UnaryCall& call) {
    call.Fail(StatusCode::kFailedPrecondition, std::string(call.request()));
  });
  door_->RegisterUnary("/test.Echo/Drop", [](const UnaryCall&) {});
  door_->RegisterUnary("/test.Echo/Hang", [this](UnaryCall call) {
    call.OnCancelled([this] {
      events_.Add("hang cancelled");
      ReleaseHanging();  // the answer of a dropped call comes too late
    });
    events_.Add("hang started");
    std::lock_guard<std::mutex> lock(mutex_);
    hanging_.push_back(std::move(call));
  });
  door_->RegisterUnary("/test.Echo/Meta", [](const UnaryCall& call) {
    call.Reply(std::string(call.metadata("token").value_or("none")));
  });
  door_->RegisterUnary("/test.Echo/Pieces", [this](UnaryCall call) {
    worker_.Post([call = std::move(call)] {
      base::SharedBytes shared{std::string(call.request())};
      Message message;
      message.AppendCopy(call.request());
      message.Append(shared);
      message.Append(shared);
      call.Reply(std::move(message));
    });
  });
  const auto made = [this](const UnaryCall& call, int64_t missing) {
    const uint64_t size = std::stoull(std::string(call.request()));
    worker_.Post(
        [this, size, missing, call] { std::make_shared<MadeReply>(*this, call, size, missing)->Begin(); });
  };
  door_->RegisterUnary("/test.Echo/Made", [made](const UnaryCall& call) { made(call, 0); });
  door_->RegisterUnary("/test.Echo/MadeShort", [made](const UnaryCall& call) { made(call, 1); });
  door_->RegisterUnary("/test.Echo/MadeLong", [made](const UnaryCall& call) { made(call, -1); });
  door_->RegisterServerStream("/test.Echo/Count",
                              [](std::string_view request, const std::shared_ptr<StreamCall>& call) {
                                for (size_t i = 0; i < request.size(); ++i) call->Write(std::to_string(i));
                                call->Finish(StatusCode::kOk, "");
                                return std::shared_ptr<StreamHandler>();
                              });
  door_->RegisterServerStream(
      "/test.Echo/Numbers", [this](std::string_view request, const std::shared_ptr<StreamCall>& call) {
        const size_t count = std::stoul(std::string(request));
        for (size_t first = 0; first < count; first += 1000) {
          auto numbered = std::make_unique<NumberSource>(events_, first, std::min(first + 1000, count));
          const size_t size = numbered->size();
          call->WriteFrom(size, std::move(numbered));
          call->Write(std::string());
          call->WriteFramed(NumberSource(events_, 0, 2).Next(SIZE_MAX));
        }
        call->Finish(StatusCode::kOk, "");
        std::lock_guard<std::mutex> lock(mutex_);
        last_stream_ = call;
        return std::shared_ptr<StreamHandler>();
      });
  door_->RegisterBidi("/test.Echo/Chat", [this](std::shared_ptr<StreamCall> call) {
    return std::make_shared<ChatHandler>(events_, std::move(call));
  });
  door_->RegisterServerStream(
      "/test.Echo/Flood", [this](std::string_view request, const std::shared_ptr<StreamCall>& call) {
        auto handler = std::make_shared<FloodHandler>(*this, call, std::stoul(std::string(request)));
        {
          std::lock_guard<std::mutex> lock(mutex_);
          last_stream_ = call;
        }
        handler->Pump();
        return handler;
      });
  door_->RegisterBidi("/test.Echo/Slow", [this](std::shared_ptr<StreamCall> call) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      last_stream_ = call;
    }
    return std::make_shared<SlowHandler>(events_, std::move(call));
  });
}

void TestServer::RegisterHttp() {
  door_->RegisterHttp("GET", "/hello", [](const std::shared_ptr<HttpCall>& call) {
    HttpResponse response;
    response.headers.emplace_back("Content-Type", "text/plain");
    response.body = "hello " + call->request().query + "\n";
    call->Reply(std::move(response));
  });
  door_->RegisterHttp("POST", "/post", [](const std::shared_ptr<HttpCall>& call) {
    HttpResponse response;
    response.body = call->request().body;
    call->Reply(std::move(response));
  });
  door_->RegisterHttp("", "/later/", [this](std::shared_ptr<HttpCall> call) {
    worker_.Post([call = std::move(call)] {
      HttpResponse response;
      response.status = 201;
      response.body = call->request().path;
      call->Reply(std::move(response));
    });
  });
  door_->RegisterHttp("GET", "/stream", [this](std::shared_ptr<HttpCall> call) {
    worker_.Post([call = std::move(call)] {
      HttpResponse response;
      response.body = std::string("one,");
      call->StartBody(std::move(response));
      call->WriteBody(std::string("two,"));
      call->WriteBody(std::string(100'000, 'x'));
      call->EndBody();
    });
  });
  door_->RegisterHttp("GET", "/drop", [](const std::shared_ptr<HttpCall>&) {});
}

}  // namespace kvd::net
