#!/usr/bin/env bash
# 50 fixed seeds and as many fresh ones as fit into 20 seconds.
set -euo pipefail
bin=$1
"$bin" --seed=1 --seeds=50 --jobs=2
exec "$bin" --seed="$(( $(date +%s) % 1000000 * 1000000 ))" --seeds=100000 --jobs=2 --budget=20
