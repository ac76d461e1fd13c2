#!/usr/bin/env bash
# Installs the Debian packages that kvd needs and that are missing; says what it installs. With "test", also the
# real etcd, its clients and the tools that the tests start. Needs root or sudo only if something is missing.
set -euo pipefail

build_packages=(
  g++ cmake ninja-build ccache mold pkg-config make git
  libprotobuf-dev protobuf-compiler libgrpc++-dev protobuf-compiler-grpc
  libnghttp2-dev libssl-dev zlib1g-dev
  libboost-dev libboost-system-dev libboost-program-options-dev
  librocksdb-dev libjemalloc-dev libabsl-dev libc-ares-dev libyaml-cpp-dev prometheus-cpp-dev
  libspdlog-dev libfmt-dev libcrypt-dev
  libgtest-dev libgmock-dev libbenchmark-dev
)
test_packages=(openssl etcd-server etcd-client etcd-discovery dnsmasq-base nghttp2-client python3 python3-etcd3 curl jq procps nodejs npm strace iproute2 util-linux)
lint_packages=(clang-format-14 clang-tidy-14)
profile_packages=(linux-perf)
fuzz_packages=(clang-14 libclang-rt-14-dev llvm-14)

case "${1:-build}" in
  build) wanted=("${build_packages[@]}") ;;
  test) wanted=("${build_packages[@]}" "${test_packages[@]}") ;;
  lint) wanted=("${build_packages[@]}" "${lint_packages[@]}") ;;
  profile) wanted=("${build_packages[@]}" "${test_packages[@]}" "${profile_packages[@]}") ;;
  fuzz) wanted=("${build_packages[@]}" "${fuzz_packages[@]}") ;;
  all) wanted=("${build_packages[@]}" "${test_packages[@]}" "${lint_packages[@]}" "${profile_packages[@]}" "${fuzz_packages[@]}") ;;
  *) echo "usage: $0 [build|test|lint|profile|fuzz|all]" >&2; exit 2 ;;
esac

if ! command -v dpkg-query > /dev/null; then
  echo "install-deps: this is not a Debian system; install by hand: ${wanted[*]}" >&2
  exit 0
fi

missing=()
for package in "${wanted[@]}"; do
  # A command that is there from elsewhere (a Node.js of the machine's own) counts as its package.
  case "$package" in nodejs) command -v node > /dev/null && continue ;; npm) command -v npm > /dev/null && continue ;; python3) command -v python3 > /dev/null && continue ;; esac
  state=$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2> /dev/null || true)
  [[ "$state" == ii* ]] || missing+=("$package")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

as_root=()
if [[ $(id -u) -ne 0 ]]; then
  if ! command -v sudo > /dev/null; then
    echo "install-deps: run as root: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
echo "install-deps: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -q
"${as_root[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}"
