#!/bin/bash
# `exec CONTAINER true` against `nsenter -a` into the same container; engines side by side.
#
#   bench/exec.sh [FLUYT]     RUNS=40
. "$(dirname "$0")/lib.sh"
need nsenter
for name in "${engines[@]}"; do e "$name" run -d --name idle bench sleep 1000 >/dev/null; done
pid=$(e fluyt inspect -f '{{.State.Pid}}' idle)
for ((i = 0; i < ${RUNS:-40}; i++)); do
    once nsenter nsenter -t "$pid" -a /bin/true
    for name in "${engines[@]}"; do once "$name" e "$name" exec idle true; done
done
echo "== exec of true (ratio to nsenter -a)"
report nsenter nsenter "${engines[@]}"
