#!/bin/bash
# The speed of unpacking: single layers against `gzip -dc | tar -x` and `pigz -dc | tar -x`, and `load` of an image of all
# these layers by each engine, against the same pipes one layer after the other.
#
#   bench/unpack.sh [FLUYT]     RUNS=3  ROOT=DIR  TOOL=FILE  DISK=1
#
# Layers: `many` (small files of /usr/share), `big` (large files of /usr/lib) and, with ROOT, `root`: that directory,
# a debootstrap say. TOOL is fluyt-image's example store_tool; it is built if it is not given.
# All this happens in memory (tmpfs), or on the disk of TMPDIR with DISK=1. There ext4 searches long for inodes that were not
# used a moment ago, once thousands of files have been removed, as is done here after each run: that hides everything else.
here=$(cd "$(dirname "$0")" && pwd)
if [ -z "${FLUYT_BENCH_UNPACK:-}" ]; then
    [ "$(id -u)" = 0 ] || { echo "unpack.sh: needs root" >&2; exit 1; }
    if [ -z "${TOOL:-}" ]; then
        (cd "$here/.." && cargo build --quiet --profile fast -p fluyt-image --example store_tool) || exit
        TOOL=$(find "${CARGO_TARGET_DIR:-$here/../target}" -path '*/fast/examples/store_tool' -type f | head -n 1)
    fi
    # Short: podman takes no long path for its run root.
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/fb.XXXX")
    export FLUYT_BENCH_UNPACK=1 TOOL TMPDIR=$scratch
    if [ -n "${DISK:-}" ]; then bash "$0" "$@"; else
        unshare --mount sh -c 'mount -t tmpfs -o size=75% fluyt-bench "$TMPDIR" && exec bash "$0" "$@"' "$0" "$@"
    fi
    code=$?
    rmdir "$scratch"
    exit $code
fi
. "$here/lib.sh"
need gzip sha256sum find
cd "$work"

find /usr/share -xdev -type f -size -64k 2>/dev/null | sort | head -n 20000 >many.list || true
find /usr/lib -xdev -type f -size +4M -size -40M -printf '%s %p\n' 2>/dev/null | sort -k 2 |
    awk '(sum += $1) <= 150000000 { print $2 }' >big.list || true
layers=()
for list in many big; do
    [ -s $list.list ] || { echo "left out: $list: no such files here"; continue; }
    tar -C / -cf $list.tar -T <(cut -c 2- $list.list)
    layers+=($list)
done
if [ -n "${ROOT:-}" ]; then
    tar -C "$ROOT" --one-file-system -cf root.tar .
    layers+=(root)
fi
for layer in "${layers[@]}"; do gzip -6 -k $layer.tar; done

pipe() { # a decompressor, a layer, a directory
    mkdir "$3"
    "$1" -dc "$2.tar.gz" | tar -xp -C "$3"
}
ours() { mkdir "$2"; "$TOOL" extract "$1.tar.gz" "$2"; }
pipes=(gzip)
if command -v pigz >/dev/null; then pipes+=(pigz); fi
for layer in "${layers[@]}"; do
    for ((i = 0; i < ${RUNS:-3}; i++)); do
        for tool in "${pipes[@]}"; do once "$layer-$tool" pipe "$tool" "$layer" out; rm -rf out; done
        once "$layer-fluyt" ours "$layer" out
        rm -rf out
    done
    echo "== layer $layer: $(wc -c <$layer.tar.gz) bytes, unpacked $(wc -c <$layer.tar), $(tar -tf $layer.tar | wc -l) entries (ratio of times to gzip -dc | tar -x)"
    report "$layer-gzip" "${pipes[@]/#/$layer-}" "$layer-fluyt"
done

# An archive as `docker save` makes it, its layers compressed.
mkdir image
ids= names=
for layer in "${layers[@]}"; do
    ln $layer.tar.gz image/$layer.tar.gz
    ids+="${ids:+,}\"sha256:$(sha256sum <$layer.tar | cut -c 1-64)\""
    names+="${names:+,}\"$layer.tar.gz\""
done
echo "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[$ids]}}" >image/config.json
echo "[{\"Config\":\"config.json\",\"RepoTags\":[\"bench:layers\"],\"Layers\":[$names]}]" >image/manifest.json
tar -C image -cf image.tar .
rm -rf image many.tar big.tar root.tar
plain() { mkdir out; for layer in "${layers[@]}"; do pipe "$1" "$layer" "out/$layer"; done; }
for ((i = 0; i < ${RUNS:-3}; i++)); do
    for tool in "${pipes[@]}"; do once "load-$tool" plain "$tool"; rm -rf out; done
    for name in "${engines[@]}"; do
        once "load-$name" e "$name" load -q -i image.tar
        e "$name" rmi bench:layers >/dev/null
    done
done
echo "== load of an image of these layers, $(wc -c <image.tar) bytes (ratio to gzip -dc | tar -x, layer after layer)"
report load-gzip "${pipes[@]/#/load-}" "${engines[@]/#/load-}"
