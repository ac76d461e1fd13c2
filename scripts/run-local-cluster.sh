#!/usr/bin/env bash
# Starts three kvd members on loopback, writes and reads through kvctl, and shows how to go on.
#
#   scripts/run-local-cluster.sh [--keep] [--data-dir DIR] [--bin DIR] [--base-port PORT]
#
# At a terminal the members stay until Ctrl-C; otherwise they are stopped after the show, and so is everything that
# they wrote, unless --keep or --data-dir is given. --keep also leaves the members running in the foreground.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/cluster-lib.sh

usage() {
  echo "usage: $0 [--keep] [--data-dir DIR] [--bin DIR] [--base-port PORT]" >&2
  exit 2
}

bin=build/release/bin
keep=0
data=
base_port=2379
while [[ $# -gt 0 ]]; do
  case "$1" in
    --keep) keep=1 ;;
    --data-dir) data=${2:?$(usage)}; shift ;;
    --bin) bin=${2:?$(usage)}; shift ;;
    --base-port) base_port=${2:?$(usage)}; shift ;;
    *) usage ;;
  esac
  shift
done

for tool in kvd kvctl; do
  if [[ ! -x "$bin/$tool" ]]; then
    echo "run-local-cluster: $bin/$tool is not there; run: make build" >&2
    exit 1
  fi
done

# Member i listens on base_port + 10000 * i for clients (2379, 12379, 22379) and one above for peers.
ports_free() {
  local i
  for i in 0 1 2; do
    cluster_port_free $(($1 + i * 10000)) && cluster_port_free $(($1 + i * 10000 + 1)) || return 1
  done
}
first=$base_port
while ! ports_free "$base_port"; do
  base_port=$((base_port + 10))
  if ((base_port > first + 200)); then
    echo "run-local-cluster: no free ports from $first on; give others with --base-port" >&2
    exit 1
  fi
done

remove_data=0
if [[ -z "$data" ]]; then
  data=$(mktemp -d "${TMPDIR:-/tmp}/kvd-cluster.XXXXXX")
  [[ $keep -eq 1 ]] || remove_data=1
fi
cluster_init "$data"

finish() {
  local status=$?
  trap - EXIT INT TERM
  cluster_stop_all
  if [[ $remove_data -eq 1 ]]; then rm -rf "$data"; else echo "The data are in $data."; fi
  exit "$status"
}
trap finish EXIT
trap 'exit 0' INT TERM

initial=
endpoints=
for i in 0 1 2; do
  client=$((base_port + i * 10000))
  initial+="${initial:+,}m$((i + 1))=http://127.0.0.1:$((client + 1))"
  endpoints+="${endpoints:+,}http://127.0.0.1:$client"
done

echo "Starting three members: $endpoints"
for i in 0 1 2; do
  client=$((base_port + i * 10000))
  cluster_start "m$((i + 1))" "$bin/kvd" "m$((i + 1))" "$client" $((client + 1)) "$initial"
done
for i in 0 1 2; do
  if ! cluster_wait_ready "http://127.0.0.1:$((base_port + i * 10000))" 30; then
    echo "run-local-cluster: member m$((i + 1)) does not serve" >&2
    cluster_show_log "m$((i + 1))"
    exit 1
  fi
done

show() {
  local word line='$ kvctl'
  for word in "$@"; do
    if [[ "$word" == *' '* ]]; then line+=" \"$word\""; else line+=" $word"; fi
  done
  echo
  echo "$line"
  "$bin/kvctl" --endpoints="$endpoints" "$@"
}
show member list -w table
show put greeting "hello from three members"
show get greeting
show endpoint status -w table

value=$("$bin/kvctl" --endpoints="$endpoints" get greeting --print-value-only)
if [[ "$value" != "hello from three members" ]]; then
  echo "run-local-cluster: read back \"$value\"" >&2
  exit 1
fi

cat << TEXT

The cluster serves. Try, in another terminal:

  $bin/kvctl --endpoints=$endpoints put key value
  $bin/kvctl --endpoints=$endpoints watch key
  etcdctl --endpoints=$endpoints get --prefix ''
TEXT

if [[ -t 0 || $keep -eq 1 ]]; then
  echo
  echo "Ctrl-C stops it."
  wait
fi
