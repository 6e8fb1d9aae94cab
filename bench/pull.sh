#!/bin/bash
# Pulls and pushes against a local docker-registry, beside docker, podman, skopeo and a pipe of tools, in the same run.
#
#   bench/pull.sh [FLUYT]     RUNS=5  PARTS="bound layer ten push"  TREE=/usr/lib  MB=121  DISK=1
#
# bound  what this machine can do at most with the same layer: each part of the work alone
# layer  pull of an image of one gzip layer of MB megabytes unpacked, into a store that does not have it
# ten    pull of an image of ten layers, of as many bytes in all
# push   push of the image of ten layers into a registry that is empty each time
#
# skopeo unpacks nothing: it copies blobs into a directory. The pipe is `curl | pigz -dc | tar -x`; it verifies nothing.
# All this happens in memory (tmpfs), or on the disk of TMPDIR with DISK=1. There ext4 without a journal searches long for
# inodes that were not used a moment ago, once many files have been removed, as is done here after each run.
[ -n "${DISK:-}" ] || IN_MEMORY=1
. "$(dirname "$0")/lib.sh"
need docker-registry curl gzip sha256sum find
cd "$work"
runs=${RUNS:-5}
parts=" ${PARTS:-bound layer ten push} "

serve() { # port, directory: a registry in the background; its pid is in $served
    mkdir -p "$2"
    printf 'version: 0.1\nlog: { level: error, accesslog: { disabled: true } }\nstorage: { filesystem: { rootdirectory: %s } }\nhttp: { addr: "127.0.0.1:%d" }\n' "$2" "$1" >"registry-$1.yml"
    OTEL_TRACES_EXPORTER=none docker-registry serve "registry-$1.yml" >"registry-$1.log" 2>&1 &
    served=$!
    for _ in $(seq 200); do curl -sf "http://127.0.0.1:$1/v2/" >/dev/null && return; sleep 0.05; done
    echo "docker-registry did not start" >&2; exit 1
}
main= target=
finish() { for p in $main $target; do kill "$p" 2>/dev/null || true; done; cleanup; }
trap finish EXIT
serve 5001 "$work/registry"; main=$served

put() { # a repository, a file: by POST and PUT; prints its digest
    local base="http://127.0.0.1:5001" at sum
    sum=sha256:$(sha256sum "$2" | cut -d ' ' -f 1)
    at=$(curl -sfi -X POST "$base/v2/$1/blobs/uploads/" | tr -d '\r' | awk 'tolower($1) == "location:" { print $2 }')
    [[ $at == *\?* ]] && at="$at&digest=$sum" || at="$at?digest=$sum"
    curl -sf -o /dev/null -X PUT -H 'Content-Type: application/octet-stream' --data-binary "@$2" "$at"
    echo "$sum"
}
publish() { # a repository, archives without compression: an image with these layers
    local repo=$1 tar ids= layers= digest config; shift
    for tar in "$@"; do
        gzip -6 -k -f "$tar"
        ids+="${ids:+,}\"sha256:$(sha256sum <"$tar" | cut -c 1-64)\""
        digest=$(put "$repo" "$tar.gz")
        layers+="${layers:+,}{\"mediaType\":\"application/vnd.docker.image.rootfs.diff.tar.gzip\",\"size\":$(stat -c %s "$tar.gz"),\"digest\":\"$digest\"}"
    done
    printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[%s]}}' "$ids" >config
    config=$(put "$repo" config)
    printf '{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{"mediaType":"application/vnd.docker.container.image.v1+json","size":%d,"digest":"%s"},"layers":[%s]}' \
        "$(stat -c %s config)" "$config" "$layers" >manifest
    curl -sf -o /dev/null -X PUT -H 'Content-Type: application/vnd.docker.distribution.manifest.v2+json' --data-binary @manifest "http://127.0.0.1:5001/v2/$repo/manifests/x"
}
# Files of this machine until they are MB megabytes, and the same in ten parts.
find "${TREE:-/usr/lib}" -xdev -type f -size -8M -printf '%s %p\n' 2>/dev/null | sort -k 2 |
    awk -v most="$((${MB:-121} * 1000000))" '(sum += $1 + 1024) <= most { print int(sum * 10 / most), substr($2, 2) }' >list
awk '{ print $2 }' list >all
tar -C / -cf one.tar -T all
for i in $(seq 0 9); do awk -v i="$i" '$1 == i { print $2 }' list >part; tar -C / -cf "ten$i.tar" -T part; done
publish bench/one one.tar
publish bench/ten ten?.tar
blob=http://127.0.0.1:5001/v2/bench/one/blobs/sha256:$(sha256sum <one.tar.gz | cut -c 1-64)
echo "one layer: $(wc -c <one.tar.gz) bytes, unpacked $(wc -c <one.tar), $(wc -l <all) files"

pipe() { mkdir out; curl -s "$blob" | "$1" -dc | tar -xp -C out; }
pull() { # engine, repository
    case $1 in
        podman) e podman pull -q --tls-verify=false "127.0.0.1:5001/$2:x" ;;
        skopeo) skopeo copy -q --src-tls-verify=false "docker://127.0.0.1:5001/$2:x" "dir:$work/skopeo" ;;
        *) e "$1" pull -q "127.0.0.1:5001/$2:x" ;;
    esac
}
forget() { case $1 in skopeo) rm -rf "$work/skopeo" ;; *) e "$1" rmi "127.0.0.1:5001/$2:x" >/dev/null ;; esac; }
push() { # engine
    case $1 in
        podman) e podman push -q --tls-verify=false "127.0.0.1:5002/bench/ten:x" ;;
        skopeo) skopeo copy -q --dest-tls-verify=false "dir:$work/kept" docker://127.0.0.1:5002/bench/ten:x ;;
        *) e "$1" push -q 127.0.0.1:5002/bench/ten:x ;;
    esac
}
tools=(gzip)
if command -v pigz >/dev/null; then tools+=(pigz); fi
peers=("${engines[@]}")
if command -v skopeo >/dev/null && [ -n "${PEERS-x}" ]; then peers+=(skopeo); fi

if [[ $parts == *" bound "* ]]; then
    for ((i = 0; i < runs; i++)); do
        once download curl -s -o /dev/null "$blob"
        for tool in "${tools[@]}"; do once "inflate-$tool" "$tool" -dc one.tar.gz; done
        if command -v openssl >/dev/null; then
            once sha256-both openssl dgst -sha256 one.tar.gz one.tar
        else
            once sha256-both sha256sum one.tar.gz one.tar
        fi
        mkdir out; once tar-write tar -xp -C out -f one.tar; rm -rf out
        once blob-to-disk dd if=one.tar.gz of=copy bs=1M conv=fdatasync status=none; rm -f copy
    done
    echo "== each part alone (ratio to the download)"
    report download download "${tools[@]/#/inflate-}" sha256-both tar-write blob-to-disk
fi
for part in layer ten; do
    [[ $parts == *" $part "* ]] || continue
    repo=bench/one; [ $part = layer ] || repo=bench/ten
    for ((i = 0; i < runs; i++)); do
        for name in "${peers[@]}"; do
            once "$part-$name" pull "$name" "$repo"
            forget "$name" "$repo"
        done
        [ $part = layer ] || continue
        for tool in "${tools[@]}"; do once "$part-pipe-$tool" pipe "$tool"; rm -rf out; done
    done
    extra=(); [ $part = layer ] && extra=("${tools[@]/#/layer-pipe-}")
    echo "== pull of $repo (ratio to fluyt)"
    report "$part-fluyt" "${peers[@]/#/$part-}" "${extra[@]}"
done
if [[ $parts == *" push "* ]]; then
    for name in "${peers[@]}"; do
        if [ "$name" = skopeo ]; then
            skopeo copy -q --src-tls-verify=false docker://127.0.0.1:5001/bench/ten:x "dir:$work/kept"
        else
            pull "$name" bench/ten >/dev/null
            e "$name" tag 127.0.0.1:5001/bench/ten:x 127.0.0.1:5002/bench/ten:x
        fi
    done
    # Nobody can take the layers from where they came from.
    kill "$main"; wait "$main" 2>/dev/null || true; main=
    for ((i = 0; i < runs; i++)); do
        for name in "${peers[@]}"; do
            serve 5002 "$work/target"; target=$served
            once "push-$name" push "$name"
            kill "$target"; wait "$target" 2>/dev/null || true; target=
            rm -rf "$work/target"
        done
    done
    echo "== push of the image of ten layers (ratio to fluyt)"
    report push-fluyt "${peers[@]/#/push-}"
fi
