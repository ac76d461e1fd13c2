#!/usr/bin/env bash
# include_rule.sh COMPILER SOURCE_DIR FLAGS_DIR ROOM...
#
# For each room, with the include directories of its own CMake target: a source that includes base compiles, and one
# that includes a room that it must not know does not, because the header cannot be found.
set -euo pipefail
compiler=$1 source=$2 flags_dir=$3
shift 3
rooms=("$@")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Some header of a room, as it is included; nothing if the room has none.
header_of() {
  local path
  path=$(find "$source/src/$1" -name '*.h' | sort | head -n 1)
  [[ -z "$path" ]] || echo "${path#"$source"/src/}"
}

compiles() {
  local flags
  read -r -a flags < "$flags_dir/$1.flags"
  echo "#include \"$2\"" > "$work/probe.cc"
  "$compiler" -std=c++20 -fsyntax-only "${flags[@]}" "$work/probe.cc" 2> "$work/errors"
}

failed=0
tried=0
for room in "${rooms[@]}"; do
  if ! compiles "$room" base/check.h; then
    echo "$room cannot include base/check.h, so this test would prove nothing:" >&2
    cat "$work/errors" >&2
    failed=1
  fi
  for other in base raft wal storage net server; do
    [[ "$other" != "$room" && "$other" != base ]] || continue
    header=$(header_of "$other")
    [[ -n "$header" ]] || continue
    tried=$((tried + 1))
    if compiles "$room" "$header"; then
      echo "$room can include $header" >&2
      failed=1
    elif ! grep -qF "$header: No such file or directory" "$work/errors" &&
      ! grep -qF "'$header' file not found" "$work/errors"; then
      echo "$room fails on $header for another reason:" >&2
      cat "$work/errors" >&2
      failed=1
    fi
  done
done
echo "include rule: ${#rooms[@]} rooms, $tried forbidden includes tried"
[[ $tried -gt 0 ]] || failed=1
exit "$failed"
