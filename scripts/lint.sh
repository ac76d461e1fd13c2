#!/usr/bin/env bash
# Checks the format, the include rule, the ban list, and runs clang-tidy.
#
#   scripts/lint.sh [--changed[=REF]] [--no-tidy] [BUILD_DIR]   default: build/release, every file
#   scripts/lint.sh --fix                                       formats the files in place, and nothing else
#
# --changed limits format and clang-tidy to files that differ from REF (default: HEAD).
set -euo pipefail
cd "$(dirname "$0")/.."

build=build/release
ref=
fix=0
tidy=1
for argument in "$@"; do
  case "$argument" in
    --fix) fix=1 ;;
    --no-tidy) tidy=0 ;;
    --changed) ref=HEAD ;;
    --changed=*) ref=${argument#--changed=} ;;
    -*) echo "usage: $0 [--fix] [--changed[=REF]] [--no-tidy] [BUILD_DIR]" >&2; exit 2 ;;
    *) build=$argument ;;
  esac
done

scripts/install-deps.sh lint

if [[ -n "$ref" ]]; then
  list=(git diff --name-only --diff-filter=d "$ref" --)
else
  list=(git ls-files --)
fi
mapfile -t files < <("${list[@]}" 'src/*.h' 'src/*.cc' 'tools/*.h' 'tools/*.cc' 'tests/*.h' 'tests/*.cc' 'bench/*.h' 'bench/*.cc')

if [[ $fix -eq 1 ]]; then
  [[ ${#files[@]} -eq 0 ]] || clang-format-14 -i "${files[@]}"
  exit 0
fi

failed=0
if [[ ${#files[@]} -gt 0 ]]; then
  clang-format-14 --dry-run -Werror "${files[@]}" || failed=1
fi
scripts/check-includes.sh || failed=1
scripts/check-bans.sh || failed=1

sources=()
for file in "${files[@]}"; do
  [[ "$file" == *.cc ]] && sources+=("$file")
done
if [[ $tidy -eq 1 && ${#sources[@]} -gt 0 ]]; then
  if [[ ! -f "$build/compile_commands.json" ]]; then
    echo "lint: $build is not configured; run: cmake --preset ${build#build/}" >&2
    exit 1
  fi
  # Generated headers must be there, and only files that the build knows can be checked.
  cmake --build "$build" --target kvd_proto kvd_proto_grpc > /dev/null
  known=()
  for source in "${sources[@]}"; do
    grep -qF "/$source\"" "$build/compile_commands.json" && known+=("$source")
  done
  # The commands are GCC's: clang does not know all of its warnings.
  printf '%s\0' "${known[@]}" | xargs -0 -n 1 -P 2 clang-tidy-14 --quiet -p "$build" \
    --extra-arg=-Wno-unknown-warning-option --extra-arg=-Wno-unused-command-line-argument 2> >(grep -vE '^[0-9]+ warnings? (generated|treated)|^Suppressed|^Use -header-filter' >&2) || failed=1
fi

[[ $failed -eq 0 ]] && echo "lint: clean"
exit "$failed"
