#!/usr/bin/env bash
# Builds the fuzzers and runs each for TIME seconds (default 60), from its corpus in tests/fuzz/corpus/NAME if there is
# one. Ends with 1 if one of them found something; the input is left in build/fuzz/found.
set -euo pipefail
cd "$(dirname "$0")/../.."
scripts/install-deps.sh fuzz
seconds=${TIME:-60}
[[ -f build/fuzz/build.ninja ]] || cmake --preset fuzz
cmake --build build/fuzz --target fuzzers
found=build/fuzz/found
mkdir -p "$found"
status=0
for fuzzer in build/fuzz/bin/fuzz_*; do
  name=${fuzzer##*/fuzz_}
  corpus=build/fuzz/corpus/$name
  mkdir -p "$corpus"
  seeds=()
  [[ -d tests/fuzz/corpus/$name ]] && seeds=("tests/fuzz/corpus/$name")
  echo "fuzz: $name for ${seconds}s"
  # What a fuzzer logs of its inputs is not of interest here.
  if ! "$fuzzer" -max_total_time="$seconds" -rss_limit_mb=4096 -timeout=20 -close_fd_mask=1 -print_final_stats=1 \
      -artifact_prefix="$found/$name-" "$corpus" "${seeds[@]}" > "$found/$name.log" 2>&1; then
    status=1
    echo "fuzz: $name found something:"
    grep -vE '^(\{"level"|#)' "$found/$name.log" | tail -30
  else
    grep -E "stat::number_of_executed_units|^Done" "$found/$name.log" || true
  fi
done
exit "$status"
