#!/bin/bash
# Fifty detached containers on a bridge, ten at a time, and what the process that stays with each of them costs in memory.
#
#   bench/many.sh [FLUYT]     RUNS=3  COUNT=50  AT_ONCE=10
#
# Memory: the mean proportional set size of fluyt's monitors, podman's conmon, docker's shims.
. "$(dirname "$0")/lib.sh"
count=${COUNT:-50}
start() { seq "$count" | xargs -P "${AT_ONCE:-10}" -I{} bash -c 'start_one "$@"' _ "$1" {} >/dev/null; }
start_one() { e "$1" run -d --name "m$2" bench sleep 1000; }
export -f e start_one
export fluyt work
memory() { # processes whose command line holds $1
    local p total=0 n=0 pss
    for p in /proc/[0-9]*; do
        tr '\0' ' ' 2>/dev/null <"$p/cmdline" | grep -q -- "$1" || continue
        pss=$(awk '/^Pss:/ { print $2 }' "$p/smaps_rollup" 2>/dev/null || true)
        [ -n "$pss" ] && { total=$((total + pss)); n=$((n + 1)); }
    done
    [ "$n" -gt 0 ] && echo "$((total / n)) KiB each ($n processes)" || echo "none found"
}
declare -A pss=([fluyt]="^fluyt monitor $work/" [podman]="conmon .*$work/" [docker]="containerd-shim.*$work/")
for ((i = 0; i < ${RUNS:-3}; i++)); do
    for name in "${engines[@]}"; do
        once "$name" start "$name"
        [ "$i" -gt 0 ] || echo "$name: memory with $count running: $(memory "${pss[$name]}")"
        e "$name" rm -f $(seq -f 'm%g' "$count") >/dev/null
    done
done
echo "== $count detached containers, ${AT_ONCE:-10} at a time (ratio to fluyt)"
report fluyt "${engines[@]}"
