#!/bin/bash
# The Engine API beside dockerd and podman's service: latency, throughput and memory, each server asked by the same client
# (bench/api.py) in turn.
#
#   bench/api.sh [FLUYT]     RUNS=3  LIST=1000  CYCLES=20  LISTENERS=32  LINES=1000000  MEGABYTES=256  RUNNING=100
#
# Times in ms (less is better), throughput in MB/s (more is better). Memory: resident sets of the servers' processes, without
# those that stay with each container (bench/many.sh has these).
. "$(dirname "$0")/lib.sh"
need python3
servers=()
declare -A pids=()
for name in "${engines[@]}"; do
    case $name in
        fluyt) "$fluyt" --root "$work/fluyt" engine -H "unix://$work/fluyt.sock" >"$work/engine.log" 2>&1 & pids[fluyt]=$! ;;
        podman)
            # Its default limits are above what an unprivileged machine allows; a request says nothing of them.
            printf '[containers]\ndefault_ulimits = ["nofile=%s:%s", "nproc=16384:16384"]\n' "$(ulimit -n)" "$(ulimit -Hn)" >"$work/containers.conf"
            CONTAINERS_CONF="$work/containers.conf" podman ${podman_runtime:+--runtime "$podman_runtime"} --root "$work/podman" --runroot "$work/podman-run" \
            --cgroup-manager cgroupfs --events-backend file system service -t 0 "unix://$work/podman.sock" >"$work/podman.log" 2>&1 & pids[podman]=$!
            ;;
        docker) pids[docker]="$dockerd $(pgrep -P "$dockerd" containerd || true)" ;;
    esac
    for _ in $(seq 100); do [ -S "$work/$name.sock" ] && break; sleep 0.1; done
    if python3 "$here/api.py" "$work/$name.sock" cycle 1 >/dev/null 2>"$work/why"; then servers+=("$name"); else echo "left out: $name: $(tail -n 1 "$work/why")"; fi
done
stop() { for name in fluyt podman; do [ -z "${pids[$name]:-}" ] || kill ${pids[$name]} 2>/dev/null || true; done; }
trap 'stop; cleanup' EXIT
rss() { local p total=0; for p in ${pids[$1]}; do total=$((total + $(awk '/^VmRSS:/ { print $2 }' "/proc/$p/status"))); done; echo $total; }

for name in "${servers[@]}"; do echo "$name: memory when idle: $(rss "$name") KiB"; done
declare -A figures=()
measure() { # title, unit, case, number
    local name i figure
    for ((i = 0; i < ${RUNS:-3}; i++)); do
        for name in "${servers[@]}"; do
            figure=$(python3 "$here/api.py" "$work/$name.sock" "$3" "$4" 2>"$work/why.$name.$3") || continue
            figures[$name.$3]+="$figure "
        done
    done
    echo "== $1 ($2; medians, ratio to fluyt)"
    for name in "${servers[@]}"; do
        if [ -z "${figures[$name.$3]:-}" ]; then echo "$name: failed: $(tail -n 1 "$work/why.$name.$3")"; continue; fi
        printf '%-8s %12.3f %8.2f x\n' "$name" "$(median "$name.$3")" "$(awk "BEGIN { print $(median "$name.$3") / $(median "fluyt.$3") }")"
    done
}
median() { tr ' ' '\n' <<<"${figures[$1]}" | grep . | sort -n | awk '{ x[NR] = $1 } END { print x[int((NR + 1) / 2)] }'; }
measure "nothing but an answer" ms ping 2000
measure "inspect" ms inspect 2000
measure "create, start, wait, remove" ms cycle "${CYCLES:-20}"
measure "an event at the last of ${LISTENERS:-32} listeners" ms events "${LISTENERS:-32}"
measure "following the log of a busy container" MB/s logs "${LINES:-1000000}"
measure "a line at who follows the log" ms line 200
measure "attached output" MB/s attach "${MEGABYTES:-256}"
measure "attached input" MB/s input "${MEGABYTES:-256}"
RUNS=1 measure "list of ${LIST:-1000} containers" ms listing "${LIST:-1000}"
for name in "${servers[@]}"; do
    n=$(python3 "$here/api.py" "$work/$name.sock" running "${RUNNING:-100}")
    echo "$name: memory with ${n%.*} containers running: $(rss "$name") KiB"
done
