# What the benches share: a scratch directory, an image, the engines that are installed, medians. Sourced, not run.
#
# Everything happens in a network namespace of its own and in one temporary directory, so neither the host's firewall and
# links nor the records of any engine are touched; all of it is gone at the end. Docker is measured by a private dockerd.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)

if [ -z "${FLUYT_BENCH_NS:-}" ]; then
    [ "$(id -u)" = 0 ] || { echo "$(basename "$0"): needs root" >&2; exit 1; }
    exec env FLUYT_BENCH_NS=1 unshare --net ${IN_MEMORY:+--mount} -- timeout --foreground -k 30 "${LIMIT:-900}" bash "$0" "$@"
fi
ip link set lo up

fluyt=$(realpath "${1:-${FLUYT:-$here/../target/x86_64-unknown-linux-gnu/release/fluyt}}")
[ -x "$fluyt" ] || { echo "$fluyt is missing (cargo build --release -p fluyt)" >&2; exit 1; }
need() { for tool in "$@"; do command -v "$tool" >/dev/null || { echo "missing: $tool" >&2; exit 1; }; done; }
need busybox tar ip unshare awk

# With IN_MEMORY all of it lies in a tmpfs: no disk that is busy, none that remembers removed files. Short: podman takes
# no long path for its run root.
scratch=
if [ -n "${IN_MEMORY:-}" ]; then
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/fb.XXXX")
    mount -t tmpfs -o size=60% fluyt-bench "$scratch"
    export TMPDIR=$scratch
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/fluyt-bench.XXXXXX")
dockerd=
engines=()
e() { # an engine, then its words
    local name=$1; shift
    case $name in
        fluyt) "$fluyt" --root "$work/fluyt" "$@" ;;
        podman)
            # Its default limit of open files is above what an unprivileged machine allows.
            if [ "$1" = run ]; then shift; set -- run --ulimit "nofile=$(ulimit -n):$(ulimit -Hn)" --ulimit nproc=16384:16384 "$@"; fi
            if [ "$1" = rm ]; then shift; set -- rm -t 0 "$@"; fi
            podman ${podman_runtime:+--runtime "$podman_runtime"} --root "$work/podman" --runroot "$work/podman-run" --cgroup-manager cgroupfs --events-backend file "$@"
            ;;
        docker) docker -H "unix://$work/docker.sock" "$@" ;;
    esac
}
cleanup() {
    for name in "${engines[@]}"; do
        ids=$(e "$name" ps -aq 2>/dev/null || true)
        [ -z "$ids" ] || e "$name" rm -f $ids >/dev/null 2>&1 || true
    done
    if [ -n "$dockerd" ]; then
        kill "$dockerd" 2>/dev/null || true
        for _ in $(seq 100); do kill -0 "$dockerd" 2>/dev/null || break; sleep 0.1; done
    fi
    awk -v w="$work/" 'index($2, w) == 1 { print $2 }' /proc/mounts | sort -r | while read -r m; do umount -l "$m" || true; done
    rm -rf "$work"
    if [ -n "$scratch" ]; then cd /; umount -l "$scratch"; rmdir "$scratch"; fi
}
trap cleanup EXIT
trap 'exit 143' TERM INT HUP

# The image: busybox, and a server that answers every request with the same page where a C compiler is there.
mkdir -p "$work/root"/{bin,dev,etc,proc,sys,tmp}
cp "$(command -v busybox)" "$work/root/bin/"
for applet in true sh sleep cat yes head dd; do ln -s busybox "$work/root/bin/$applet"; done
if command -v cc >/dev/null; then
    cc -O2 -o "$work/floor" "$here/floor.c"
    cc -O2 -static -o "$work/root/bin/pages" "$here/pages.c"
fi
tar -C "$work/root" -cf "$work/root.tar" .

use() { # tries an engine; one that cannot run a container here is named and left out
    local name=$1
    if why=$({ e "$name" import "$work/root.tar" bench && e "$name" run --rm bench true; } 2>&1 </dev/null); then
        engines+=("$name")
    else
        echo "left out: $name: $(tail -n 1 <<<"$why")"
    fi
}
use fluyt
wants() { [[ " ${PEERS-podman docker} " == *" $1 "* ]] && command -v "$1" >/dev/null; } # PEERS="" leaves all out
if wants podman; then
    # Its own runtime refuses some hosts with both versions of cgroups; then the other one is tried.
    export podman_runtime=
    e podman import "$work/root.tar" bench >/dev/null 2>&1 || true
    e podman run --rm bench true >/dev/null 2>&1 </dev/null || podman_runtime=runc
    use podman
fi
if wants docker && command -v dockerd >/dev/null; then
    dockerd --data-root "$work/docker" --exec-root "$work/docker-exec" -H "unix://$work/docker.sock" \
        -p "$work/docker.pid" --bip 10.213.0.1/16 >"$work/dockerd.log" 2>&1 &
    dockerd=$!
    for _ in $(seq 200); do e docker version >/dev/null 2>&1 && break; sleep 0.1; done
    use docker
fi

now() { local t=$EPOCHREALTIME; echo $((${t%.*} * 1000000 + 10#${t#*.})); }
declare -A times=()
once() { # a key, then a command: its time is noted
    local key=$1 a b; shift
    a=$(now); "$@" >/dev/null; b=$(now)
    times[$key]+="$((b - a)) "
}
pick() { tr ' ' '\n' <<<"${times[$1]}" | grep . | sort -n | awk -v p="$2" '{ x[NR] = $1 } END { i = int(NR * p) + 1; if (i > NR) i = NR; printf "%.2f", x[i] / 1000 }'; }
report() { # the key that counts as one, then the others: median, minimum, ratio of the medians
    local base=$1 key; shift
    base=$(pick "$base" 0.5)
    for key in "$@"; do
        printf '%-14s median %9s ms   minimum %9s ms   %7.2f x\n' "$key" "$(pick "$key" 0.5)" "$(pick "$key" 0)" \
            "$(awk "BEGIN { print $(pick "$key" 0.5) / $base }")"
    done
}
