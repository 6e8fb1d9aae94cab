#!/bin/sh
# The speed of unpacking one layer, against `gzip -dc | tar -x` and `pigz -dc | tar -x` where that is installed.
#
#   bench/unpack.sh [DIRECTORY]
#
# DIRECTORY (default: a fresh `debootstrap --variant=minbase` root) becomes the layer. Runs are interleaved, the
# medians and their ratios printed. Needs root.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d /tmp/fluyt-bench-unpack.XXXXXX)
trap 'rm -rf "$work"' EXIT
runs=${RUNS:-7}
root=${1:-}
if [ -z "$root" ]; then
    root=$work/root
    debootstrap --variant=minbase bookworm "$root" >/dev/null
fi
tar -C "$root" -cf - . | gzip -6 > "$work/layer.tar.gz"
tool=${TOOL:-}
if [ -z "$tool" ]; then
    (cd "$here" && cargo build --quiet --profile fast -p fluyt-image --example store_tool)
    tool=$(find "${CARGO_TARGET_DIR:-$here/target}" -path '*/fast/examples/store_tool' -type f | head -n 1)
fi

now() { date +%s%N; }
one() {
    rm -rf "$work/out"
    mkdir "$work/out"
    start=$(now)
    case $1 in
        gzip) gzip -dc "$work/layer.tar.gz" | tar -xp -C "$work/out" ;;
        pigz) pigz -dc "$work/layer.tar.gz" | tar -xp -C "$work/out" ;;
        fluyt) "$tool" extract "$work/layer.tar.gz" "$work/out" >/dev/null ;;
    esac
    echo $((($(now) - start) / 1000)) >> "$work/$1.us"
}
peers=gzip
command -v pigz >/dev/null && peers="gzip pigz"
for peer in $peers fluyt; do one "$peer"; rm "$work/$peer.us"; done
i=0
while [ "$i" -lt "$runs" ]; do
    for peer in $peers fluyt; do one "$peer"; done
    i=$((i + 1))
done
median() { sort -n "$work/$1.us" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
ours=$(median fluyt)
echo "fluyt: $((ours / 1000)) ms"
for peer in $peers; do
    theirs=$(median "$peer")
    echo "$peer | tar: $((theirs / 1000)) ms; fluyt's speed is $(awk "BEGIN { printf \"%.2f\", $theirs / $ours }") of it"
done
