#!/bin/bash
# Builds beside `docker build` (BuildKit, as it is inside dockerd) and `podman build`, in the same run.
#
#   bench/build.sh [FLUYT]     RUNS=5  PARTS="ten wide files"  FILES=20000  MB=1000  DISK=1
#
# ten    ten steps on busybox (five RUN, three COPY, WORKDIR, ENV): cold, then again with everything in the cache
# wide   eight independent stages that compute, joined by one: two processors have to be busy all the time
# files  COPY of 20,000 small files: cold, again, and again after every file got a new mtime
# layer  COPY of one file of 1 GB: cold and again
#
# Cold means that the first step has not been seen before (a build argument changes), so nothing after it is cached;
# the base image is there. Docker's client has BuildKit built in before version 23 and needs the buildx plugin since;
# without both, the classic builder is measured, and this script says so.
# All this happens in memory (tmpfs), or on the disk of TMPDIR with DISK=1, as it should for `layer`.
[ -n "${DISK:-}" ] || IN_MEMORY=1
. "$(dirname "$0")/lib.sh"
cd "$work"

buildkit=
client=docker
if [[ " ${engines[*]} " == *" docker "* ]]; then
    for candidate in docker /usr/bin/docker; do
        printf 'FROM scratch\nCOPY probe /\n' >Dockerfile.probe
        mkdir -p probe && touch probe/probe
        if DOCKER_BUILDKIT=1 "$candidate" -H "unix://$work/docker.sock" build -q -f Dockerfile.probe probe >/dev/null 2>&1; then
            client=$candidate buildkit=1
            break
        fi
    done
    [ -n "$buildkit" ] && echo "docker: BuildKit ($("$client" --version))" || echo "docker: the classic builder ($("$client" --version))"
fi
b() { # an engine, a name, a directory, more words: builds quietly
    local name=$1 tag=$2 dir=$3; shift 3
    case $name in
        fluyt) "$fluyt" --root "$work/fluyt" build -q -t "$tag" "$@" "$dir" ;;
        # Its own network set-up needs more than this namespace has; a build without one is its faster case anyway.
        podman) e podman build -q --network none --jobs 2 --ulimit "nofile=$(ulimit -n):$(ulimit -Hn)" -t "$tag" "$@" "$dir" ;;
        docker) DOCKER_BUILDKIT=${buildkit:-0} "$client" -H "unix://$work/docker.sock" build -q -t "$tag" "$@" "$dir" ;;
    esac
}
# Every engine calls the image it imported by another full name.
base() { case $1 in podman) echo localhost/bench ;; *) echo bench ;; esac; }
builds() { # part, round, engine: one cold build, timed
    once "$1-$3-cold" b "$3" "$1" "$1" --build-arg "ROUND=$2" --build-arg "BASE=$(base "$3")"
}
again() { # part, round, engine, what to call it
    once "$1-$3-$4" b "$3" "$1" "$1" --build-arg "ROUND=$2" --build-arg "BASE=$(base "$3")"
}
parts=" ${PARTS:-ten wide files} "
runs=${RUNS:-5}
keys() { local k=() n; for n in "${engines[@]}"; do k+=("$1-$n-$2"); done; echo "${k[@]}"; }

if [[ $parts == *" ten "* ]]; then
    mkdir -p ten/dir
    for i in $(seq 50); do echo "$i" >"ten/dir/file$i"; done
    echo a >ten/a.txt; echo b >ten/b.txt
    cat >ten/Dockerfile <<'END'
ARG BASE
FROM ${BASE}
ARG ROUND
ENV ONE=1
RUN echo $ROUND >/round
WORKDIR /app
COPY a.txt /app/
RUN echo two >/app/two
COPY b.txt /app/
RUN echo three >/app/three
COPY dir /app/dir
RUN cat /app/a.txt /app/b.txt >/app/four
RUN echo five >/app/five
END
    for ((i = 0; i < runs; i++)); do
        for name in "${engines[@]}"; do
            builds ten "$i" "$name"
            for _ in 1 2 3; do again ten "$i" "$name" cached; done
        done
    done
    echo "== ten steps, cold (ratio to fluyt)"; report ten-fluyt-cold $(keys ten cold)
    echo "== ten steps, all cached (ratio to fluyt)"; report ten-fluyt-cached $(keys ten cached)
fi

if [[ $parts == *" wide "* ]]; then
    mkdir -p wide
    {
        printf 'ARG BASE\n'
        for i in $(seq 8); do
            printf 'FROM ${BASE} AS s%d\nARG ROUND\n' "$i"
            printf 'RUN echo %d $ROUND >/out; i=0; while [ $i -lt 150000 ]; do i=$((i+1)); done\n' "$i"
        done
        printf 'FROM ${BASE}\n'
        for i in $(seq 8); do printf 'COPY --from=s%d /out /out%d\n' "$i" "$i"; done
    } >wide/Dockerfile
    for ((i = 0; i < runs; i++)); do
        once wide-alone busybox sh -c 'i=0; while [ $i -lt 150000 ]; do i=$((i+1)); done'
        for name in "${engines[@]}"; do builds wide "$i" "$name"; done
    done
    echo "== eight stages and one that joins them; one of them takes $(pick wide-alone 0.5) ms alone, four such on each of two processors $(awk "BEGIN { print 4 * $(pick wide-alone 0.5) }") ms (ratio to fluyt)"
    report wide-fluyt-cold $(keys wide cold)
fi

if [[ $parts == *" files "* ]]; then
    mkdir -p files
    awk -v n="${FILES:-20000}" -v d=files 'BEGIN { for (i = 0; i < n; i++) { if (i % 100 == 0) { dir = sprintf("%s/tree/%02d/%02d", d, i / 10000, i / 100 % 100); system("mkdir -p " dir) }
        f = dir "/" i; for (j = 0; j < 20 + i % 60; j++) print "line " j " of file " i " with some words in it" >f; close(f) } }'
    printf 'ARG BASE\nFROM ${BASE}\nARG ROUND\nRUN echo $ROUND >/round\nCOPY tree /tree\n' >files/Dockerfile
    for ((i = 0; i < ${FILES_RUNS:-3}; i++)); do
        # New content, so that no engine has seen it.
        find files/tree -type f -name '*7' -exec sh -c 'for f; do echo "$0" >>"$f"; done' "$i" {} +
        for name in "${engines[@]}"; do
            builds files "$i" "$name"
            for _ in 1 2; do again files "$i" "$name" cached; done
        done
        find files/tree -exec touch {} +
        for name in "${engines[@]}"; do again files "$i" "$name" touched; done
    done
    echo "== COPY of ${FILES:-20000} files, $(du -sh --apparent-size files | cut -f 1), cold (ratio to fluyt)"; report files-fluyt-cold $(keys files cold)
    echo "== the same again, nothing changed"; report files-fluyt-cached $(keys files cached)
    echo "== the same, every file with a new mtime"; report files-fluyt-touched $(keys files touched)
fi

if [[ $parts == *" layer "* ]]; then
    mkdir -p layer
    # What programs are made of, as often as it takes.
    while [ "$(stat -c %s layer/big 2>/dev/null || echo 0)" -lt "${MB:-1000}000000" ]; do
        { find /usr/lib -xdev -type f -size +500k -print0 2>/dev/null | xargs -0 cat || true; } 2>/dev/null | head -c "${MB:-1000}000000" >>layer/big
    done
    truncate -s "${MB:-1000}000000" layer/big
    printf 'ARG BASE\nFROM ${BASE}\nARG ROUND\nRUN echo $ROUND >/round\nCOPY big /big\n' >layer/Dockerfile
    for ((i = 0; i < ${LAYER_RUNS:-2}; i++)); do
        echo "$i" >>layer/big
        for name in "${engines[@]}"; do
            builds layer "$i" "$name"
            again layer "$i" "$name" cached
        done
    done
    echo "== COPY of one file of ${MB:-1000} MB, cold (ratio to fluyt)"; report layer-fluyt-cold $(keys layer cold)
    echo "== the same again, nothing changed"; report layer-fluyt-cached $(keys layer cached)
fi
