# Starts and stops members on loopback, for the scripts that source this file. Members are known by a key; each has a
# process, a data directory and a log under $CLUSTER_DIR.
#
#   cluster_init DIR; trap cluster_stop_all EXIT
#   cluster_start KEY BINARY NAME CLIENT_PORT PEER_PORT INITIAL_CLUSTER [FLAG...]
#   cluster_wait_ready URL SECONDS

declare -A CLUSTER_PID=()
CLUSTER_DIR=

cluster_init() {
  CLUSTER_DIR=$1
  mkdir -p "$CLUSTER_DIR"
}

# True if nobody listens on the port of loopback.
cluster_port_free() {
  ! (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null
}

cluster_start() {
  local key=$1 binary=$2 name=$3 client=$4 peer=$5 initial=$6
  shift 6
  "$binary" --name "$name" --data-dir "$CLUSTER_DIR/$key" \
    --listen-client-urls "http://127.0.0.1:$client" --advertise-client-urls "http://127.0.0.1:$client" \
    --listen-peer-urls "http://127.0.0.1:$peer" --initial-advertise-peer-urls "http://127.0.0.1:$peer" \
    --initial-cluster "$initial" --initial-cluster-state new "$@" \
    > "$CLUSTER_DIR/$key.log" 2>&1 < /dev/null &
  CLUSTER_PID[$key]=$!
}

cluster_alive() {
  kill -0 "${CLUSTER_PID[$1]}" 2> /dev/null
}

# Waits until GET URL/health answers that all is well.
cluster_wait_ready() {
  local url=$1 seconds=$2 i
  for ((i = 0; i < seconds * 5; ++i)); do
    if cluster_healthy "$url"; then return 0; fi
    sleep 0.2
  done
  return 1
}

# Speaks HTTP itself, so that nothing needs to be installed.
cluster_healthy() {
  local address=${1#http://}
  local answer
  answer=$(timeout 2 bash -c '
    exec 3<> "/dev/tcp/${1%:*}/${1##*:}" || exit 1
    printf "GET /health HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" "$1" >&3
    cat <&3' _ "$address" 2> /dev/null) || return 1
  [[ "$answer" == *'"health":"true"'* ]]
}

cluster_stop() {
  local key=$1 pid=${CLUSTER_PID[$1]:-} i
  [[ -n "$pid" ]] || return 0
  kill -TERM "$pid" 2> /dev/null || true
  for ((i = 0; i < 50; ++i)); do
    kill -0 "$pid" 2> /dev/null || break
    sleep 0.1
  done
  kill -KILL "$pid" 2> /dev/null || true
  wait "$pid" 2> /dev/null || true
  unset "CLUSTER_PID[$key]"
}

# All at once, so that nobody waits for a quorum that is going away.
cluster_stop_all() {
  local key
  for key in "${!CLUSTER_PID[@]}"; do kill -TERM "${CLUSTER_PID[$key]}" 2> /dev/null || true; done
  for key in "${!CLUSTER_PID[@]}"; do cluster_stop "$key"; done
}

# The last lines of a member's log, for a message about a member that did not start.
cluster_show_log() {
  echo "--- the end of $CLUSTER_DIR/$1.log:" >&2
  tail -n 15 "$CLUSTER_DIR/$1.log" >&2
}
