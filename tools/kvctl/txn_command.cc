#include <string>

#include "absl/strings/ascii.h"
#include "base/strings.h"
#include "command.h"
#include "etcdserverpb/rpc.grpc.pb.h"
#include "kv_requests.h"
#include "line_parser.h"

namespace kvd::ctl {
namespace {

using etcdserverpb::RequestOp;
using etcdserverpb::TxnRequest;

// One line of a branch: put, get or del with their flags.
Exit ParseOperation(const std::string& line, std::istream& in, RequestOp* op) {
  const std::vector<std::string> words = SplitWords(line);
  if (words.size() < 2) return Fail(kExitInvalidInput, base::StrCat("invalid txn compare request: ", line));
  const std::vector<std::string> rest(words.begin() + 1, words.end());
  Exit invalid = Fail(kExitInvalidInput, base::StrCat("invalid txn request: ", line));
  FlagSet flags;
  if (words[0] == "put") {
    PutWords put;
    put.DefineFlags(flags);
    const auto args = flags.Parse(rest);
    return args.ok() ? put.Build(*args, in, op->mutable_request_put()) : invalid;
  }
  if (words[0] == "get") {
    GetWords get;
    get.DefineFlags(flags);
    const auto args = flags.Parse(rest);
    return args.ok() ? get.Build(*args, op->mutable_request_range()) : invalid;
  }
  if (words[0] == "del") {
    DelWords del;
    del.DefineFlags(flags);
    const auto args = flags.Parse(rest);
    return args.ok() ? del.Build(*args, op->mutable_request_delete_range()) : invalid;
  }
  return invalid;
}

class TxnCommand final : public Command {
 public:
  void DefineFlags(FlagSet& flags) override {
    flags.Bool("interactive", &interactive_, "say what is to be entered", 'i');
  }

  Exit Run(Session& session, const std::vector<std::string>& args) override {
    if (!args.empty()) return Fail(kExitBadArgs, "txn command does not accept argument");
    TxnRequest request;
    if (Exit exit = Read(session, &request); !exit.ok()) return exit;
    etcdserverpb::TxnResponse response;
    const grpc::Status status = session.client().Call(&etcdserverpb::KV::Stub::Txn, request, &response,
                                                      ReadOnly(request) ? Retry::kRead : Retry::kWrite);
    return status.ok() ? session.printer().Txn(response) : FailedCall(status);
  }

 private:
  // Three blocks of lines, each ended by an empty line.
  Exit Read(Session& session, TxnRequest* request) const {
    Prompt(session, "compares:");
    Exit exit = ReadBlock(session.in(), [&](const std::string& line) {
      absl::StatusOr<etcdserverpb::Compare> compare = ParseCompare(line);
      if (!compare.ok()) return Fail(kExitInvalidInput, std::string(compare.status().message()));
      *request->add_compare() = *std::move(compare);
      return Success();
    });
    if (!exit.ok()) return exit;
    Prompt(session, "success requests (get, put, del):");
    exit = ReadBlock(session.in(), [&](const std::string& line) {
      return ParseOperation(line, session.in(), request->add_success());
    });
    if (!exit.ok()) return exit;
    Prompt(session, "failure requests (get, put, del):");
    return ReadBlock(session.in(), [&](const std::string& line) {
      return ParseOperation(line, session.in(), request->add_failure());
    });
  }

  template <typename F>
  static Exit ReadBlock(std::istream& in, F on_line) {
    std::string line;
    while (std::getline(in, line) && !in.eof()) {
      const std::string text(absl::StripAsciiWhitespace(line));
      if (text.empty()) return Success();
      if (Exit exit = on_line(text); !exit.ok()) return exit;
    }
    return Fail(kExitInvalidInput, "EOF");
  }

  void Prompt(Session& session, const char* text) const {
    if (interactive_) session.out() << text << "\n" << std::flush;
  }

  static bool ReadOnly(const TxnRequest& request) {
    for (const auto* branch : {&request.success(), &request.failure()}) {
      for (const RequestOp& op : *branch) {
        if (!op.has_request_range()) return false;
      }
    }
    return true;
  }

  bool interactive_ = false;
};

}  // namespace

std::vector<CommandEntry> TxnCommands() {
  return {
      {"txn", "", "run the transaction that stdin describes", [] { return std::make_unique<TxnCommand>(); }}};
}

}  // namespace kvd::ctl
