#!/usr/bin/env bash
# kvd beside etcd-server in the same run: three members of each on loopback, h2load on the leader with 16 connections
# of 16 streams and 256-byte values; puts, linearizable and serializable reads, in alternating rounds. Prints requests
# per second, CPU per request over all members (from /proc), and the ratios of the medians.
#
#   bench/run.sh [--rounds N] [--seconds N] [--only kvd|etcd] [--kvd BINARY] [--etcd BINARY] [--json FILE]
#
# Absolute figures drift with the machine: compare what stands in one table.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/cluster-lib.sh

rounds=3
seconds=5
connections=16
streams=16
value_bytes=256
kvd=build/release/bin/kvd
etcd=$(command -v etcd || true)
systems=(etcd kvd)
json=
while [[ $# -gt 0 ]]; do
  case "$1" in
    --rounds) rounds=$2; shift ;;
    --seconds) seconds=$2; shift ;;
    --only) systems=("$2"); shift ;;
    --kvd) kvd=$2; shift ;;
    --etcd) etcd=$2; shift ;;
    --json) json=$2; shift ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
  shift
done

scripts/install-deps.sh test
[[ -n "$etcd" ]] || etcd=$(command -v etcd)
export ETCDCTL_API=3

work=$(mktemp -d "${TMPDIR:-/tmp}/kvd-bench.XXXXXX")
cluster_init "$work"
finish() {
  local status=$?
  trap - EXIT INT TERM
  cluster_stop_all
  rm -rf "$work"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

declare -A binary=([etcd]=$etcd [kvd]=$kvd)
declare -A base_port=([etcd]=14100 [kvd]=14200)
declare -A endpoints=() leader=() samples=()

die() {
  echo "bench: $*" >&2
  exit 1
}

start() {
  local system=$1 base=${base_port[$1]} initial= i
  [[ -x "${binary[$system]}" ]] || die "${binary[$system]} is not there"
  for i in 1 2 3; do
    cluster_port_free $((base + i)) && cluster_port_free $((base + 10 + i)) || die "port $((base + i)) is taken"
    initial+="${initial:+,}m$i=http://127.0.0.1:$((base + 10 + i))"
    endpoints[$system]+="${endpoints[$system]:+,}127.0.0.1:$((base + i))"
  done
  for i in 1 2 3; do
    cluster_start "$system$i" "${binary[$system]}" "m$i" $((base + i)) $((base + 10 + i)) "$initial" \
      --initial-cluster-token "$system" --quota-backend-bytes 8589934592 --log-level error
  done
  for i in 1 2 3; do
    if ! cluster_wait_ready "http://127.0.0.1:$((base + i))" 30; then
      cluster_show_log "$system$i"
      die "$system$i does not serve"
    fi
  done
}

ctl() {
  local system=$1
  shift
  etcdctl --endpoints="${endpoints[$system]}" "$@"
}

# The client address of the leader.
find_leader() {
  ctl "$1" endpoint status -w json |
    jq -r '.[] | select(.Status.leader == .Status.header.member_id) | .Endpoint' | head -n 1
}

revision() {
  etcdctl --endpoints="${leader[$1]}" get bench -w json | jq -r '.header.revision'
}

# User and system time of the system's members so far, in clock ticks.
cpu_ticks() {
  local i total=0 line fields
  for i in 1 2 3; do
    line=$(< "/proc/${CLUSTER_PID[$1$i]}/stat")
    read -r -a fields <<< "${line##*) }"
    total=$((total + fields[11] + fields[12]))
  done
  echo "$total"
}

declare -A path=([put]=/etcdserverpb.KV/Put [linearizable]=/etcdserverpb.KV/Range [serializable]=/etcdserverpb.KV/Range)

load() {
  h2load -c "$connections" -m "$streams" -t 1 -D "$3" -d "$work/$2.body" -H 'content-type: application/grpc' \
    -H 'te: trailers' "http://${leader[$1]}${path[$2]}"
}

# measure SYSTEM OPERATION: one run; appends "requests/s microseconds-of-CPU/request" to the samples.
measure() {
  local system=$1 operation=$2 before after start_revision report total rate data_bytes
  leader[$system]=$(find_leader "$system")
  [[ -n "${leader[$system]}" ]] || die "$system has no leader"
  load "$system" "$operation" 1 > /dev/null
  start_revision=$(revision "$system")
  before=$(cpu_ticks "$system")
  report=$(load "$system" "$operation" "$seconds")
  after=$(cpu_ticks "$system")
  total=$(sed -nE 's/^requests: .* ([0-9]+) succeeded.*/\1/p' <<< "$report")
  rate=$(sed -nE 's/^finished in [^,]*, ([0-9.]+) req\/s.*/\1/p' <<< "$report")
  data_bytes=$(sed -nE 's/.*\(([0-9]+)\) data$/\1/p' <<< "$report")
  [[ -n "$total" && "$total" -gt 0 ]] || die "$system $operation: no request succeeded: $report"
  grep -qE '^requests: .* 0 failed, 0 errored' <<< "$report" || die "$system $operation: requests failed: $report"
  # An HTTP 200 may carry a gRPC error: count what was written, and look at the size of what was read.
  if [[ "$operation" == put ]]; then
    local written=$(($(revision "$system") - start_revision))
    ((written >= total)) || die "$system: $total puts answered, $written made"
  else
    ((data_bytes / total > value_bytes)) || die "$system $operation: answers are too small to be values"
  fi
  local micros
  micros=$(awk -v t="$((after - before))" -v hz="$(getconf CLK_TCK)" -v n="$total" 'BEGIN { printf "%.1f", t / hz * 1e6 / n }')
  samples[$system.$operation]+="$rate $micros"$'\n'
  printf '  %-6s %-13s %10.0f req/s  %7.1f us CPU/req\n' "$system" "$operation" "$rate" "$micros"
}

# median SYSTEM OPERATION COLUMN
median() {
  awk -v c="$3" 'NF { print $c }' <<< "${samples[$1.$2]}" | sort -g |
    awk '{ v[NR] = $1 } END { print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

bench/frame.py put bench "$value_bytes" "$work/put.body"
bench/frame.py range bench linearizable "$work/linearizable.body"
bench/frame.py range bench serializable "$work/serializable.body"

for system in "${systems[@]}"; do start "$system"; done
for system in "${systems[@]}"; do
  ctl "$system" put bench "$(printf 'v%.0s' $(seq "$value_bytes"))" > /dev/null
done

operations=(put linearizable serializable)
for ((round = 1; round <= rounds; ++round)); do
  echo "round $round of $rounds"
  for operation in "${operations[@]}"; do
    order=("${systems[@]}")
    if ((round % 2 == 0 && ${#systems[@]} == 2)); then order=("${systems[1]}" "${systems[0]}"); fi
    for system in "${order[@]}"; do measure "$system" "$operation"; done
  done
done

echo
echo "$connections connections x $streams streams, $value_bytes-byte values, 3 members, medians of $rounds rounds of $seconds s"
printf '%-14s' operation
for system in "${systems[@]}"; do printf '%14s %16s' "$system req/s" "$system us CPU/req"; done
[[ ${#systems[@]} -lt 2 ]] || printf '%12s %12s' 'throughput' 'CPU'
echo
for operation in "${operations[@]}"; do
  printf '%-14s' "$operation"
  for system in "${systems[@]}"; do
    printf '%14.0f %16.1f' "$(median "$system" "$operation" 1)" "$(median "$system" "$operation" 2)"
  done
  if [[ ${#systems[@]} -eq 2 ]]; then
    awk -v a="$(median kvd "$operation" 1)" -v b="$(median etcd "$operation" 1)" -v c="$(median kvd "$operation" 2)" \
      -v d="$(median etcd "$operation" 2)" 'BEGIN { printf "%11.2fx %11.2fx", a / b, c / d }'
  fi
  echo
done

if [[ -n "$json" ]]; then
  {
    printf '{"commit":"%s","connections":%d,"streams":%d,"value_bytes":%d,"results":[' \
      "$(git rev-parse --short HEAD 2> /dev/null || true)" "$connections" "$streams" "$value_bytes"
    separator=
    for system in "${systems[@]}"; do
      for operation in "${operations[@]}"; do
        printf '%s{"system":"%s","operation":"%s","requests_per_second":%s,"cpu_us_per_request":%s}' "$separator" \
          "$system" "$operation" "$(median "$system" "$operation" 1)" "$(median "$system" "$operation" 2)"
        separator=,
      done
    done
    echo ']}'
  } > "$json"
  echo "written: $json"
fi
