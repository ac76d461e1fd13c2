#!/usr/bin/env bash
# Builds kvd-sim with the planted bugs in a tree of its own, looks for each with seeds 1 to SEEDS, and prints who found
# it and after how many seeds. Fails if one is not found, or if the same build without any finds something.
#
#   mutants.sh [SEEDS]      ONLY=pattern: those whose name matches
#   mutants.sh --quick      the few whose names the list marks with a star, with 60 seeds each
set -uo pipefail
cd "$(dirname "$0")/../.."
quick=0
if [[ ${1:-} == --quick ]]; then
  quick=1
  shift
  set -- 60
fi
seeds=${1:-2000}
[[ -f build/mutants/build.ninja ]] || cmake --preset mutants > /dev/null || exit 1
cmake --build build/mutants -j "${JOBS:-2}" --target kvd-sim > build/mutants/build.log 2>&1 ||
  { tail -40 build/mutants/build.log; exit 1; }
sim=build/mutants/bin/kvd-sim
missed=0
most=0

printf '%-30s %-10s %-24s %s\n' 'planted bug' 'room' 'found by' 'seeds'
while read -r name room what; do
  [[ -z $name || $name == \#* || ! $name =~ ${ONLY:-.} ]] && continue
  ((quick)) && [[ $what != *\* ]] && continue
  if out=$(nice -n 10 "$sim" --seed=1 --seeds="$seeds" --jobs=2 --mutant="$name" 2> /dev/null); then
    printf '%-30s %-10s %-24s %s\n' "$name" "$room" 'NOT FOUND' "$seeds"
    missed=$((missed + 1))
    continue
  fi
  line=$(grep -m1 FAILED <<< "$out")
  seed=$(sed -E 's/^seed ([0-9]+) .*/\1/' <<< "$line")
  checker=$(sed -E 's/.*FAILED \[([^]]*)\].*/\1/' <<< "$line")
  ((seed > most)) && most=$seed
  printf '%-30s %-10s %-24s %s\n' "$name" "$room" "$checker" "$seed"
done < tests/sim/mutants.txt

if ! nice -n 10 "$sim" --seed=1 --seeds="$((most > 50 ? most : 50))" --jobs=2; then
  echo 'the build without a planted bug fails as well'
  exit 1
fi
echo "not found: $missed"
exit $((missed > 0))
