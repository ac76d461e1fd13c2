#include "watch_fixture.h"

#include <cstdlib>
#include <filesystem>

#include "base/strings.h"
#include "storage/engine.h"

namespace kvd::server {

void TestSink::Send(ResponseBatch responses) {
  ASSERT_EQ(finished, "") << "sent after the end";
  ASSERT_FALSE(responses.empty());
  int count = 0;
  responses.ForEach([&](std::string_view message) {
    ++count;
    queued_ += message.size();
    queue_.emplace_back(message);
  });
  responses_sent.push_back(count);
  max_queued = std::max(max_queued, queued_);
  while (!held_ && !queue_.empty()) TakeOne();
}

void TestSink::Finish(absl::StatusCode code, std::string_view message) {
  ASSERT_EQ(finished, "") << "finished twice";
  finished = base::StrCat(static_cast<int>(code), ": ", message);
}

bool TestSink::TakeOne() {
  if (queue_.empty()) return false;
  const bool above = queued_ > half_;
  etcdserverpb::WatchResponse response;
  EXPECT_TRUE(response.ParseFromString(queue_.front()));
  queued_ -= queue_.front().size();
  queue_.pop_front();
  received.push_back(std::move(response));
  return above && queued_ <= half_;
}

TestClient::TestClient(WatchHub& hub, WatchStreamOptions options)
    : sink_(std::make_shared<TestSink>(hub.max_queued_bytes())),
      stream_(hub.Open(sink_, std::move(options))) {}

void TestClient::Create(const Watch& watch) {
  etcdserverpb::WatchRequest request;
  auto& create = *request.mutable_create_request();
  create.set_key(watch.key);
  create.set_range_end(watch.range_end);
  create.set_start_revision(watch.start);
  create.set_watch_id(watch.id);
  create.set_prev_kv(watch.prev_kv);
  create.set_progress_notify(watch.progress_notify);
  create.set_fragment(watch.fragment);
  if (watch.no_put) create.add_filters(etcdserverpb::WatchCreateRequest::NOPUT);
  if (watch.no_delete) create.add_filters(etcdserverpb::WatchCreateRequest::NODELETE);
  Send(request.SerializeAsString());
}

void TestClient::Cancel(int64_t id) {
  etcdserverpb::WatchRequest request;
  request.mutable_cancel_request()->set_watch_id(id);
  Send(request.SerializeAsString());
}

void TestClient::Progress() {
  etcdserverpb::WatchRequest request;
  request.mutable_progress_request();
  Send(request.SerializeAsString());
}

bool TestClient::TakeOne() {
  if (sink_->empty()) return false;
  if (sink_->TakeOne()) stream_->OnWritable();
  return true;
}

void TestClient::Release() {
  sink_->held_ = false;
  while (TakeOne()) {
  }
}

std::vector<std::string> TestClient::Take() {
  std::vector<std::string> out;
  for (const auto& response : sink_->received) out.push_back(Describe(response));
  sink_->received.clear();
  return out;
}

std::string Describe(const etcdserverpb::WatchResponse& r) {
  EXPECT_EQ(r.header().cluster_id(), 11u);
  EXPECT_EQ(r.header().member_id(), 12u);
  EXPECT_EQ(r.header().raft_term(), 13u);
  const std::string where = base::StrCat(" ", r.watch_id(), " @", r.header().revision());
  if (r.canceled()) {
    std::string out = (r.created() ? "refused" : "canceled") + where;
    if (r.compact_revision() != 0) base::StrAppend(&out, " compacted ", r.compact_revision());
    if (!r.cancel_reason().empty()) base::StrAppend(&out, ": ", r.cancel_reason());
    return out;
  }
  if (r.created()) return "created" + where;
  if (r.events_size() == 0) return "progress" + where;
  std::string out = (r.fragment() ? "fragment" : "events") + where;
  for (int i = 0; i < r.events_size(); ++i) {
    const auto& e = r.events(i);
    out += i == 0 ? ": " : ", ";
    if (e.type() == mvccpb::Event::PUT) {
      base::StrAppend(&out, "put ", e.kv().key(), "=", e.kv().value(), "/", e.kv().mod_revision());
    } else {
      base::StrAppend(&out, "del ", e.kv().key(), "/", e.kv().mod_revision());
    }
    if (e.has_prev_kv()) base::StrAppend(&out, " was ", e.prev_kv().value());
  }
  return out;
}

std::unique_ptr<storage::Store> NewStore(base::Executor& background, const std::string& directory) {
  std::unique_ptr<storage::Engine> engine;
  if (directory.empty()) {
    engine = storage::OpenModelEngine(storage::NewModelDisk());
  } else {
    auto rocks = storage::OpenRocksEngine(directory, {});
    EXPECT_TRUE(rocks.ok()) << rocks.status();
    engine = *std::move(rocks);
  }
  auto store = storage::Store::Open(std::move(engine), background);
  EXPECT_TRUE(store.ok()) << store.status();
  return *std::move(store);
}

std::string NewDirectory() {
  std::string path = testing::TempDir() + "/watch-XXXXXX";
  EXPECT_NE(mkdtemp(path.data()), nullptr);
  return path;
}

int64_t Write(storage::Store& store, uint64_t index, const std::vector<Op>& ops) {
  auto batch = store.BeginApply();
  if (ops.size() == 1 && ops[0].is_delete) {
    batch.DeleteRange({.key = ops[0].key, .range_end = ops[0].value_or_end});
  } else if (ops.size() == 1) {
    batch.Put({.key = ops[0].key, .value = ops[0].value_or_end});
  } else {
    etcdserverpb::TxnRequest txn;
    for (const Op& op : ops) {
      auto& request = *txn.add_success();
      if (op.is_delete) {
        request.mutable_request_delete_range()->set_key(op.key);
        request.mutable_request_delete_range()->set_range_end(op.value_or_end);
      } else {
        request.mutable_request_put()->set_key(op.key);
        request.mutable_request_put()->set_value(op.value_or_end);
      }
    }
    EXPECT_TRUE(batch.Txn(txn).ok());
  }
  batch.Commit({.index = index, .term = 1});
  return store.current_revision();
}

WatchTest::WatchTest(WatchHub::Options options, uint64_t seed, EngineKind engine)
    : scheduler_(seed),
      watch_(scheduler_.NewExecutor("watch")),
      background_(scheduler_.NewExecutor("background")),
      directory_(engine == EngineKind::kRocks ? NewDirectory() : std::string()),
      store_(NewStore(*background_, directory_)) {
  MakeHub(options);
}

WatchTest::~WatchTest() {
  store_->SetObserver(nullptr);
  watch_.reset();
  hub_.reset();
  store_.reset();
  if (!directory_.empty()) std::filesystem::remove_all(directory_);
}

void WatchTest::MakeHub(WatchHub::Options options) {
  hub_ = std::make_unique<WatchHub>(options, *store_, headers_, *watch_, *background_);
  store_->SetObserver(&hub_->observer());
}

void WatchTest::Compact(int64_t revision) {
  auto batch = store_->BeginApply();
  EXPECT_TRUE(batch.Compact(revision).ok());
  batch.Commit({.index = ++index_, .term = 1});
}

}  // namespace kvd::server
