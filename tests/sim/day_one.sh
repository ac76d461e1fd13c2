#!/usr/bin/env bash
# Every name that DAY-ONE.md gives is that of a test, a scenario, a planted bug or a listed place.
set -euo pipefail
cd "$(dirname "$0")/../.."
missing=0
names=0
while read -r name; do
  names=$((names + 1))
  case $name in
    *.txt) [[ -f tests/unit/raft/scenarios/$name ]] ;;
    probe:*) grep -qF "\"${name#probe: }\"" tests/sim/sim_sites.cc ;;
    *.*) grep -rqE "TEST(_F|_P)?\(${name%%.*}, ${name#*.}\)" tests/unit ;;
    *) grep -q "^$name " tests/sim/mutants.txt ;;
  esac || { echo "DAY-ONE.md: no such thing: $name"; missing=$((missing + 1)); }
done < <(grep '^|' tests/sim/DAY-ONE.md | grep -oE '`[^`]+`' | tr -d '\`' | grep -vE '^(DrawSwarm|Defragment)$')
echo "$names names, $missing missing"
((names > 60 && missing == 0))
