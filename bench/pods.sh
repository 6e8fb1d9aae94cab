#!/bin/bash
# A pod of two containers: made and started, listed, stopped and removed; beside podman.
#
#   bench/pods.sh [FLUYT]     RUNS=10
#
# The containers sleep and are killed at the end. Podman's sandbox is its own pause image.
PEERS=${PEERS-podman}
. "$(dirname "$0")/lib.sh"
limits=(); if [ "${#engines[@]}" -gt 1 ]; then limits=("--ulimit" "nofile=$(ulimit -n):$(ulimit -Hn)" "--ulimit" "nproc=16384:16384"); fi
# Podman's sandbox takes its limits from a file only.
printf '[containers]\ndefault_ulimits = ["nofile=%s:%s", "nproc=16384:16384"]\n' "$(ulimit -n)" "$(ulimit -Hn)" >"$work/containers.conf"
export CONTAINERS_CONF=$work/containers.conf
make_pod() { # an engine
    e "$1" pod create --name pair
    for n in 1 2; do e "$1" create --pod pair --name "in$n" "${limits[@]}" bench sleep 1000; done
    e "$1" pod start pair
}
remove_pod() { # podman of Debian removes it and then fails over a cgroup of its own
    e "$1" pod rm -f -t 0 pair 2>"$work/rm.log" || ! e "$1" pod exists pair || { cat "$work/rm.log" >&2; exit 1; }
}
for ((i = 0; i < ${RUNS:-10}; i++)); do
    for name in "${engines[@]}"; do
        once "$name.start" make_pod "$name"
        once "$name.ps" e "$name" pod ps
        once "$name.rm" remove_pod "$name"
    done
done
for what in start ps rm; do
    echo "== pod of two: $what"
    keys=(); for name in "${engines[@]}"; do keys+=("$name.$what"); done
    report "fluyt.$what" "${keys[@]}"
done
