#!/bin/bash
# Compares the OCI runtime with its peers and with the kernel's own floor, whole processes, interleaved.
#
#   bench/runtime.sh [FLUYT]     FLUYT: the binary to measure (default: target/…/release/fluyt or $FLUYT)
#
# Prints medians in milliseconds and ratios to the floor: a bare bundle, the same with Docker's seccomp profile, and exec
# against nsenter. Needs root, busybox-static, jq, a C compiler; peers (crun, runc, youki) are measured if installed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
fluyt=${1:-${FLUYT:-$here/../target/x86_64-unknown-linux-gnu/release/fluyt}}
runs=${RUNS:-60}
for tool in jq cc busybox nsenter; do command -v $tool >/dev/null || { echo "missing: $tool"; exit 1; }; done
[ "$(id -u)" = 0 ] || { echo "needs root"; exit 1; }
work=$(mktemp -d /tmp/fluyt-bench.XXXXXX)
# The runtimes' state on tmpfs, as their defaults below /run are: making and removing a file costs microseconds there.
state=$(mktemp -d /dev/shm/fluyt-bench.XXXXXX)
trap 'for r in ${runtimes[*]-}; do $r --root "$state/s-$(basename "$r")" delete -f bench-exec >/dev/null 2>&1 || true; done; rm -rf "$work" "$state"' EXIT
cc -O2 -o "$work/floor" "$here/floor.c"
mkdir -p "$work/b/rootfs"/{bin,proc,dev,sys,tmp} && cp "$(command -v busybox)" "$work/b/rootfs/bin/"
for a in true sh sleep; do ln -s busybox "$work/b/rootfs/bin/$a"; done
ln -s "$fluyt" "$work/fluyt-runc"
runtimes=("$work/fluyt-runc")
for peer in crun runc youki; do command -v $peer >/dev/null && runtimes+=("$(command -v $peer)"); done
cd "$work/b" && "$work/fluyt-runc" spec
jq '.ociVersion="1.0.2" | .process.terminal=false | .process.args=["/bin/true"] | .root.readonly=false
  | .mounts |= map(select(.type != "cgroup")) | .linux.namespaces |= map(select(.type != "cgroup"))' config.json > bare.json
profile=/usr/share/containers/seccomp.json
if [ -e $profile ]; then
  jq --slurpfile p $profile '.linux.seccomp = ($p[0] | {defaultAction, defaultErrnoRet,
      architectures: ["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_X32"],
      syscalls: [.syscalls[] | select(((.includes // {}) | length) == 0 or (.includes.arches // [] | index("amd64")))
        | {names, action, args, errnoRet} | with_entries(select(.value != null))]})' bare.json > seccomp.json
fi
# A peer that cannot run on this host is named and left out.
cp bare.json config.json
able=()
for r in "${runtimes[@]}"; do
  if why=$("$r" --root "$state/s" run probe 2>&1 </dev/null); then able+=("$r"); else echo "left out: $(basename "$r"): $why"; "$r" --root "$state/s" delete -f probe >/dev/null 2>&1 || true; fi
done
runtimes=("${able[@]}")
now() { local t=$EPOCHREALTIME; echo $(( ${t%.*} * 1000000 + 10#${t#*.} )); }
declare -A times
once() { local key=$1; shift; local a b; a=$(now); "$@" >/dev/null; b=$(now); times[$key]+="$((b - a)) "; }
median() { tr ' ' '\n' <<<"${times[$1]}" | grep . | sort -n | awk '{x[NR]=$1} END {printf "%.2f", x[int((NR+1)/2)]/1000}'; }
measure() {
  local case=$1; cp "$case.json" config.json; times=()
  for ((i = 0; i < runs; i++)); do
    once floor "$work/floor" "$work/b/rootfs" "$work/floorwork" -- /bin/true
    for r in "${runtimes[@]}"; do once "$r" "$r" --root "$state/s" run "b$i"; done
  done
  local floor; floor=$(median floor)
  printf '%-28s %8s ms\n' "floor" "$floor"
  for r in "${runtimes[@]}"; do
    local m; m=$(median "$r"); printf '%-28s %8s ms  %6s x floor\n' "$(basename "$r")" "$m" "$(awk "BEGIN{printf \"%.2f\", $m/$floor}")"
  done
}
echo "== run, bare bundle ($runs interleaved runs)"; measure bare
[ -e seccomp.json ] && { echo "== run, Docker's seccomp profile"; measure seccomp; }
echo "== exec of true"
jq '.process.args=["/bin/sleep","1000"]' bare.json > config.json
times=()
for r in "${runtimes[@]}"; do "$r" --root "$state/s-$(basename "$r")" run -d bench-exec </dev/null >/dev/null 2>&1; done
pid=$("${runtimes[0]}" --root "$state/s-$(basename "${runtimes[0]}")" state bench-exec | jq .pid)
for ((i = 0; i < runs; i++)); do
  once nsenter nsenter -t "$pid" -m -u -i -n -p -C /bin/true
  for r in "${runtimes[@]}"; do once "$r" "$r" --root "$state/s-$(basename "$r")" exec bench-exec /bin/true; done
done
base=$(median nsenter); printf '%-28s %8s ms\n' nsenter "$base"
for r in "${runtimes[@]}"; do
  m=$(median "$r"); printf '%-28s %8s ms  %6s x nsenter\n' "$(basename "$r")" "$m" "$(awk "BEGIN{printf \"%.2f\", $m/$base}")"
  "$r" --root "$state/s-$(basename "$r")" delete -f bench-exec
done
