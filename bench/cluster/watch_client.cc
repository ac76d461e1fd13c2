#include "watch_client.h"

#include <cstdio>
#include <cstdlib>

#include "requests.h"
#include "wire.h"

namespace kvd::bench {

WatchStream::WatchStream(Connection& connection, WatchSink& sink) : sink_(sink) {
  connection.Start(method::kWatch, this, /*half_close=*/false);
}

void WatchStream::Add(std::string_view key, std::string_view range_end, int64_t start_revision) {
  Encoder create;
  create.Bytes(1, key).BytesIfSet(2, range_end).VarintIfSet(3, static_cast<uint64_t>(start_revision));
  Connection::Send(this, Frame(Encoder().Bytes(1, create.str()).str()));
}

void WatchStream::OnMessage(std::string_view message) {
  Reader reader(message);
  while (const std::optional<Field> field = reader.Next()) {
    if (field->number == 3 && field->value != 0) sink_.OnCreated();
    if (field->number == 4 && field->value != 0) {
      std::fprintf(stderr, "kvbench: a watch was cancelled\n");
      std::exit(1);
    }
    if (field->number != 11) continue;
    const std::optional<Field> kv = Find(field->bytes, 2);
    const std::optional<Field> value = kv ? Find(kv->bytes, 5) : std::nullopt;
    sink_.OnEvent(value ? value->bytes : std::string_view());
  }
}

void WatchStream::OnEnd(int status, std::string_view text) {
  std::fprintf(stderr, "kvbench: a watch stream ended: %d %.*s\n", status, static_cast<int>(text.size()),
               text.data());
  std::exit(1);
}

}  // namespace kvd::bench
