#!/bin/bash
# `run --rm IMAGE true` with everything that belongs to it, against the kernel's own floor; engines side by side.
#
#   bench/run.sh [FLUYT]     RUNS=30
#
# Interleaved runs in one network namespace; medians, minima, and ratios to the floor. Peers: podman, docker if installed.
. "$(dirname "$0")/lib.sh"
need cc
for ((i = 0; i < ${RUNS:-30}; i++)); do
    once floor "$work/floor" "$work/root" "$work/floorwork" -- /bin/true
    for name in "${engines[@]}"; do once "$name" e "$name" run --rm bench true; done
done
echo "== run --rm IMAGE true, on a bridge (ratio to the floor)"
report floor floor "${engines[@]}"
