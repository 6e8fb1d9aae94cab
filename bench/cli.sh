#!/bin/sh
# What the command line itself costs: whole processes that do next to nothing, beside the same words of peers.
#
#   bench/cli.sh [FLUYT]
#
# FLUYT is the program (default: the release build). Medians of 200 runs. Needs hyperfine.
set -eu
fluyt=${1:-target/x86_64-unknown-linux-gnu/release/fluyt}
command -v hyperfine >/dev/null || { echo "bench/cli.sh: hyperfine is missing (apt-get install hyperfine)" >&2; exit 1; }
[ -x "$fluyt" ] || { echo "bench/cli.sh: $fluyt is missing (cargo build --release -p fluyt)" >&2; exit 1; }

FLUYT_ROOT=$(mktemp -d /tmp/fluyt-bench-cli.XXXXXX)
export FLUYT_ROOT
trap 'rm -rf "$FLUYT_ROOT"' EXIT

measure() { # a name, then the command in one word
    hyperfine -N --warmup 20 --runs 200 --export-csv "$FLUYT_ROOT/bench.csv" "$2" >/dev/null 2>&1 ||
        { echo "$1: failed" >&2; return 0; }
    awk -F, -v name="$1" 'NR == 2 { printf "%-16s %7.2f ms\n", name, $4 * 1000 }' "$FLUYT_ROOT/bench.csv"
}

measure 'fluyt version' "$fluyt version"
measure 'fluyt run --help' "$fluyt run --help"
measure 'fluyt ps' "$fluyt ps"
measure 'fluyt images' "$fluyt images"
if command -v docker >/dev/null; then measure 'docker run --help' 'docker run --help'; fi
if command -v podman >/dev/null; then measure 'podman run --help' 'podman run --help'; fi
