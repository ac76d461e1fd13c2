#!/usr/bin/env bash
# The ban list: what would make a run depend on more than its inputs, and what has a better form here. Prints every
# line that breaks it, with what to use instead.
set -euo pipefail
cd "$(dirname "$0")/.."
bad=0

# ban PATTERN WHERE... -- ALLOWED_FILES INSTEAD: ALLOWED_FILES is an extended pattern of paths ("-" for none).
ban() {
  local pattern=$1 allowed=$2 instead=$3
  shift 3
  local hits
  hits=$(grep -rnE --include='*.h' --include='*.cc' "$pattern" "$@" 2> /dev/null |
    grep -vE '^[^:]*:[0-9]+:\s*//' || true)
  [[ "$allowed" == - ]] || hits=$(grep -vE "^($allowed)" <<< "$hits" || true)
  [[ -n "$hits" ]] || return 0
  sed "s|\$|  <- $instead|" <<< "$hits" >&2
  bad=1
}

ban '\bstd::j?thread([^:a-zA-Z_]|$)|\bpthread_create\b|\bstd::async\b' \
  'src/base/executor\.cc|src/base/log\.cc|src/net/io_thread' 'post to a base::Executor' src
ban '\bstd::random_device\b|\bs?rand\(\)|\bstd::mt19937|\babsl::BitGen\b|\bgetrandom\(' \
  'src/base/random\.cc' 'draw from the base::Random that was given' src
ban '(system|steady|high_resolution)_clock::now|\bclock_gettime\(|\bgettimeofday\(|[^_a-zA-Z]time\((nullptr|NULL|0)\)|\babsl::Now\(' \
  'src/base/clock\.cc' 'ask the base::Clock that was given' src
ban 'sleep_(for|until)\(|\bu?sleep\(|\bnanosleep\(|\babsl::SleepFor\(' - 'base::Executor::PostAfter' src
ban '\bgetenv\(' 'src/server/config/sd_notify\.cc|tools/' 'settings come through server/config' src tools
ban '\bunordered_(map|set)<|\b(flat|node)_hash_(map|set)<' - 'ordered containers: a walk must not depend on a hash' src/raft
ban '\bthrow\b' - 'absl::Status' src
ban '\bassert\(' - 'KVD_CHECK, which stays on' src tools
ban '\busing namespace\b' - 'names from namespaces one by one' src tools tests
ban '\b(TODO|FIXME|XXX|HACK)\b' - 'finish it, or leave it out' src tools tests bench
ban '\bstd::(cout|cerr)\b|\bprintf\(' 'tools/|src/base/(check|log)\.cc' 'KVD_LOG' src

# A file is one concept.
while IFS= read -r file; do
  lines=$(wc -l < "$file")
  if [[ $lines -gt 650 ]]; then
    echo "$file: $lines lines  <- at most 650: one concept per file" >&2
    bad=1
  fi
done < <(find src tools -name '*.h' -o -name '*.cc')

while IFS= read -r file; do
  if ! grep -q '^#pragma once' "$file"; then
    echo "$file  <- a header begins with what it is for, then #pragma once" >&2
    bad=1
  fi
done < <(find src tools tests -name '*.h')

[[ $bad -eq 0 ]] && echo "ban list: clean"
exit "$bad"
