#include "server/http/http_endpoints.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/strings.h"
#include "net/grpc_server.h"
#include "storage/store.h"

namespace kvd::server {
namespace {

constexpr int kOk = 200;
constexpr int kUnavailable = 503;

void Reply(net::HttpCall& call, int status, std::string_view type, std::string body) {
  net::HttpResponse response;
  response.status = status;
  response.headers.emplace_back("Content-Type", std::string(type));
  response.headers.emplace_back("X-Content-Type-Options", "nosniff");
  response.body = net::Message(std::move(body));
  call.Reply(std::move(response));
}

void ReplyHealth(net::HttpCall& call, std::string_view reason) {
  bool healthy = reason.empty();
  Reply(call, healthy ? kOk : kUnavailable, "application/json",
        absl::StrCat("{\"health\":\"", healthy ? "true" : "false", "\",\"reason\":\"", base::ToAbsl(reason),
                     "\"}\n"));
}

bool Contains(const std::vector<std::string>& values, std::string_view value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

}  // namespace

// The verdicts of one request, in the order of its checks.
struct HttpEndpoints::Round {
  std::mutex mutex;
  std::vector<std::string> names;
  std::vector<std::string> failures;
  size_t waiting = 0;

  std::string Text(const std::string& path, bool verbose, bool* failed) const {
    std::string lines;
    *failed = false;
    for (size_t i = 0; i < names.size(); ++i) {
      bool bad = !failures[i].empty();
      *failed = *failed || bad;
      lines += bad ? absl::StrCat("[-]", names[i], " failed: ", failures[i], "\n")
                   : absl::StrCat("[+]", names[i], " ok\n");
    }
    if (*failed) return absl::StrCat(lines, path, " check failed\n");
    return verbose ? absl::StrCat(lines, "ok\n") : "ok\n";
  }
};

void HttpEndpoints::Register(net::FrontDoor& door) {
  RegisterHealth(door);
  door.RegisterHttp("GET", "/version", [this](std::shared_ptr<net::HttpCall> call) {
    Reply(*call, kOk, "application/json", VersionJson(*node_.cluster().View()));
  });
}

void HttpEndpoints::RegisterHealth(net::FrontDoor& door) {
  door.RegisterHttp("GET", "/health",
                    [this](std::shared_ptr<net::HttpCall> call) { Health(std::move(call)); });
  RegisterChecks(
      door, "/livez",
      {{"serializable_read", &HttpEndpoints::CheckSerializable}, {"log_sync", &HttpEndpoints::CheckLogSync}});
  RegisterChecks(door, "/readyz",
                 {{"data_corruption", &HttpEndpoints::CheckCorruption},
                  {"serializable_read", &HttpEndpoints::CheckSerializable},
                  {"linearizable_read", &HttpEndpoints::CheckLinearizable},
                  {"non_learner", &HttpEndpoints::CheckNonLearner},
                  {"log_sync", &HttpEndpoints::CheckLogSync}});
}

void HttpEndpoints::Health(std::shared_ptr<net::HttpCall> call) {
  std::vector<std::string> excluded = call->request().Query("exclude");
  bool serializable = Contains(call->request().Query("serializable"), "true");
  for (AlarmType alarm : {AlarmType::kNoSpace, AlarmType::kCorrupt}) {
    bool raised =
        node_.alarms().IsRaised(alarm) || (alarm == AlarmType::kNoSpace && node_.disk_nearly_full());
    if (!raised || Contains(excluded, AlarmName(alarm))) continue;
    return ReplyHealth(*call, absl::StrCat("ALARM ", base::ToAbsl(AlarmName(alarm))));
  }
  if (serializable) {
    return CheckSerializable([call](std::string failure) {
      ReplyHealth(*call, failure.empty() ? "" : absl::StrCat("RANGE ERROR:", failure));
    });
  }
  if (!node_.has_leader()) return ReplyHealth(*call, "RAFT NO LEADER");
  CheckLinearizable([call](std::string failure) {
    ReplyHealth(*call, failure.empty() ? "" : absl::StrCat("RANGE ERROR:", failure));
  });
}

void HttpEndpoints::RegisterChecks(net::FrontDoor& door, const std::string& path, std::vector<Check> checks) {
  for (const Check& check : checks) {
    std::string one = absl::StrCat(path, "/", check.name);
    door.RegisterHttp("GET", one, [this, one, check](std::shared_ptr<net::HttpCall> call) {
      RunChecks(call, one, {check});
    });
  }
  door.RegisterHttp(
      "GET", path, [this, path, checks = std::move(checks)](std::shared_ptr<net::HttpCall> call) {
        std::vector<std::string> excluded = call->request().Query("exclude");
        std::vector<Check> wanted;
        for (const Check& check : checks) {
          auto it = std::find(excluded.begin(), excluded.end(), check.name);
          if (it == excluded.end()) {
            wanted.push_back(check);
          } else {
            excluded.erase(it);
          }
        }
        if (!excluded.empty())
          KVD_LOG(kWarn, "some health checks cannot be excluded", {"missing-health-checks", excluded});
        RunChecks(call, path, wanted);
      });
}

void HttpEndpoints::RunChecks(const std::shared_ptr<net::HttpCall>& call, const std::string& path,
                              const std::vector<Check>& checks) {
  auto round = std::make_shared<Round>();
  for (const Check& check : checks) round->names.push_back(check.name);
  round->failures.resize(checks.size());
  round->waiting = checks.size() + 1;  // and this function itself
  bool verbose = !call->request().Query("verbose").empty();
  auto finish = [round, call, path, verbose](size_t at, std::string failure) {
    std::string text;
    bool failed = false;
    {
      std::lock_guard<std::mutex> lock(round->mutex);
      if (at < round->failures.size()) round->failures[at] = std::move(failure);
      if (--round->waiting > 0) return;
      text = round->Text(path, verbose, &failed);
    }
    Reply(*call, failed ? kUnavailable : kOk, "text/plain; charset=utf-8", std::move(text));
  };
  for (size_t i = 0; i < checks.size(); ++i) {
    (this->*checks[i].run)([finish, i](std::string failure) { finish(i, std::move(failure)); });
  }
  finish(checks.size(), "");
}

void HttpEndpoints::CheckCorruption(Verdict done) {
  done(node_.alarms().IsRaised(AlarmType::kCorrupt) ? "alarm activated: CORRUPT" : "");
}

void HttpEndpoints::CheckSerializable(Verdict done) {
  storage::OpResult result;
  storage::RangeArgs args;
  args.key = "a";
  args.limit = 1;
  node_.store().Range(args, &result);
  done(result.ok() ? "" : std::string(ErrorText(ToError(result.error))));
}

void HttpEndpoints::CheckLinearizable(Verdict done) {
  node_.LinearizableRead(
      [done = std::move(done)](Error error) mutable { done(std::string(ErrorText(error))); });
}

void HttpEndpoints::CheckNonLearner(Verdict done) {
  done(node_.is_learner() ? "the local member is a learner" : "");
}

// Beyond etcd's checks: a disk that does not answer.
void HttpEndpoints::CheckLogSync(Verdict done) {
  if (!node_.log_stalled()) return done("");
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(node_.log_stalled_for()).count();
  done(absl::StrCat("the log has not been synced for ", ms, "ms"));
}

}  // namespace kvd::server
