#!/usr/bin/env bash
# The include rule of the source tree: a room includes only rooms below it.
#
#   base <- raft, wal, storage, net <- server <- tools
#
# raft, wal, storage and net do not know one another. Within server, a part includes only parts below it. Headers are
# named from the root of src/ ("wal/wal.h"), never by "../". Prints every line that breaks the rule.
set -euo pipefail
cd "$(dirname "$0")/.."
bad=0

# complain FILE:LINE:TEXT REASON
complain() {
  echo "$1  <- $2" >&2
  bad=1
}

# allowed ROOM: what its sources may include, as a pattern of first path components.
allowed() {
  case "$1" in
    base) echo 'base' ;;
    raft | wal | storage | net) echo "base|$1|proto" ;;
    server) echo 'base|raft|wal|storage|net|server|proto' ;;
  esac
}

rooms='base|raft|wal|storage|net|server|tools|tests'
for room in base raft wal storage net server; do
  while IFS= read -r hit; do
    target=$(sed -E 's/.*#include "([^"]*)".*/\1/' <<< "$hit")
    first=${target%%/*}
    [[ "$target" == */* ]] || continue
    grep -qE "^($rooms)$" <<< "$first" || continue
    grep -qE "^($(allowed "$room"))$" <<< "$first" || complain "$hit" "$room must not include $first"
  done < <(grep -rnE '^\s*#\s*include "' --include='*.h' --include='*.cc' "src/$room" || true)
done

while IFS= read -r hit; do
  complain "$hit" 'headers are named from the root of src/'
done < <(grep -rnE '^\s*#\s*include [<"]\.\./|/\.\./' --include='*.h' --include='*.cc' src tools tests bench |
  grep -E '#\s*include' || true)

# The consensus core is pure: no I/O, no threads, no clock, no logging.
while IFS= read -r hit; do
  complain "$hit" 'the consensus core is a pure state machine'
done < <(grep -rnE '^\s*#\s*include ["<](thread|mutex|condition_variable|fstream|iostream|fcntl.h|unistd.h|base/(log|file_system|executor|clock).h|absl/synchronization/|absl/time/clock)' \
  src/raft || true)

# Heavy libraries stay out of headers' reach: a header that includes one is not included by another room's headers.
while IFS= read -r header; do
  room=$(cut -d/ -f2 <<< "$header")
  while IFS= read -r hit; do
    complain "$hit" "this header pulls in a heavy library; headers of other rooms must not"
  done < <(grep -rnF "#include \"${header#src/}\"" --include='*.h' src tools | grep -v "^src/$room/" || true)
done < <(grep -rlE '^\s*#\s*include [<"](rocksdb/|boost/asio|boost/beast|nghttp2/|openssl/|yaml-cpp/|spdlog/|grpcpp/)' \
  --include='*.h' src || true)

# The parts of server, lowest first, are those of its CMakeLists.txt.
read -r -a parts < <(sed -nE 's/^foreach\(part (.*)\)$/\1/p' src/server/CMakeLists.txt)
[[ ${#parts[@]} -gt 1 ]] || complain src/server/CMakeLists.txt 'the list of parts is not where it was'
for i in "${!parts[@]}"; do
  for above in "${parts[@]:i+1}"; do
    while IFS= read -r hit; do
      complain "$hit" "server/${parts[i]} must not include server/$above"
    done < <(grep -rnE "#\s*include \"server/$above/" "src/server/${parts[i]}" 2> /dev/null || true)
  done
done

[[ $bad -eq 0 ]] && echo "include rule: clean"
exit "$bad"
