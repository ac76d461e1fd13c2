#!/usr/bin/env bash
# Runs SEEDS seeds of simulated clusters from FIRST on (default: a fresh range), JOBS at a time. Prints the seeds per
# minute, for each failure the command that replays it, and how often each named place of the code (base/sites.h) was
# reached. A series of nightly size (10000 seeds) fails if one never was.
#
#   soak.sh BIN_DIR [SEEDS] [FIRST]
set -euo pipefail
bin=$1
seeds=${2:-1000}
first=${3:-$(( $(date +%s) % 1000000 * 1000000 ))}
echo "seeds $first to $((first + seeds - 1))"
probes=--probes
((seeds >= 10000)) && probes=--probes=required
exec nice -n 10 "$bin/kvd-sim" --seed="$first" --seeds="$seeds" --jobs="${JOBS:-2}" --keep-going "$probes"
