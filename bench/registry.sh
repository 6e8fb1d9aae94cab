#!/bin/bash
# A registry under 64 concurrent pulls: throughput, processor time and memory, beside docker-registry in the same run.
#
#   bench/registry.sh [FLUYT]     RUNS=3  SECONDS_EACH=3  CONNECTIONS=64  MEGABYTES=20  PARTS="blobs pulls client"
#
# One blob is fetched over and over on all connections by sink.c, once copying what comes (clients of the same machine)
# and once letting the kernel throw it away (the load of clients elsewhere); then a small manifest, as pulls that find
# all blobs at home ask for. Both servers have the same content, pushed by the same client. Runs alternate.
# `pulls`: 64 whole pulls of an image of ten layers at once, each a client of its own that asks for the version, the
# manifest, the configuration and every layer, and throws them away. `client`: the same by 64 `fluyt pull`, each into a
# store of its own in memory; unpacking takes most of that. Memory is read at the start, in the middle and at the end.
IN_MEMORY=1
PEERS="" . "$(dirname "$0")/lib.sh"
cd "$work"
need docker-registry cc curl sha256sum
cc -O2 -o "$work/sink" "$here/sink.c"
head -c "${MEGABYTES:-20}000000" /dev/urandom >"$work/blob"
digest=sha256:$(sha256sum "$work/blob" | cut -d ' ' -f 1)
cat >"$work/peer.yml" <<END
version: 0.1
log: { level: error, accesslog: { disabled: true } }
storage: { filesystem: { rootdirectory: $work/peer }, delete: { enabled: true } }
http: { addr: "127.0.0.1:5001" }
END
"$fluyt" --root "$work/registry" registry serve --addr 127.0.0.1:5000 >"$work/ours.log" 2>&1 &
declare -A pid=([ours]=$!) port=([ours]=5000 [peer]=5001) name=([ours]=fluyt [peer]=docker-registry)
OTEL_TRACES_EXPORTER=none docker-registry serve "$work/peer.yml" >"$work/peer.log" 2>&1 &
pid[peer]=$!
stop() { kill "${pid[ours]}" "${pid[peer]}" 2>/dev/null || true; cleanup; }
trap stop EXIT
for who in ours peer; do
    for _ in $(seq 100); do curl -sf "http://127.0.0.1:${port[$who]}/v2/" >/dev/null && break; sleep 0.1; done
done

memory() { awk '/^VmHWM/ { print $2 }' "/proc/${pid[$1]}/status"; }
ticks() { awk '{ print $14 + $15 }' "/proc/${pid[$1]}/stat"; }
push() { # who, a file: by POST and PUT, as every registry has it
    local base="http://127.0.0.1:${port[$1]}" at sum
    sum=sha256:$(sha256sum "$2" | cut -d ' ' -f 1)
    at=$(curl -sfi -X POST "$base/v2/bench/blob/blobs/uploads/" | tr -d '\r' | awk 'tolower($1) == "location:" { print $2 }')
    [[ $at == http* ]] || at=$base$at
    [[ $at == *\?* ]] && at="$at&digest=$sum" || at="$at?digest=$sum"
    curl -sf -o /dev/null -X PUT -H 'Content-Type: application/octet-stream' --data-binary "@$2" "$at"
}
printf '{}' >"$work/config"
config=sha256:$(sha256sum "$work/config" | cut -d ' ' -f 1)
kind=application/vnd.oci.image.manifest.v1+json
cat >"$work/manifest" <<END
{"schemaVersion":2,"mediaType":"$kind","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"$config","size":2},
"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"$digest","size":$(stat -c %s "$work/blob")}]}
END
for who in ours peer; do
    idle=$(memory "$who")
    push "$who" "$work/config"
    start=$(date +%s%N)
    push "$who" "$work/blob"
    echo "${name[$who]}: push of a blob $((($(date +%s%N) - start) / 1000000)) ms, idle memory $idle KiB"
    curl -sf -o /dev/null -X PUT -H "Content-Type: $kind" --data-binary "@$work/manifest" "http://127.0.0.1:${port[$who]}/v2/bench/blob/manifests/x"
done

parts=" ${PARTS:-blobs pulls client} "
declare -A got=() spent=() high=()
middle() { tr ' ' '\n' <<<"$1" | grep . | sort -n | awk '{ x[NR] = $1 } END { print x[int((NR + 1) / 2)] }'; }
load() { # who, what, path, more words for sink
    local before after n rate failed
    before=$(ticks "$1")
    # A client process for each processor: one alone is busy with receiving before a server is with sending.
    read -r n rate failed <<<"$(
        for _ in $(seq "$(nproc)"); do
            "$work/sink" 127.0.0.1 "${port[$1]}" "$3" $((${CONNECTIONS:-64} / $(nproc))) "${SECONDS_EACH:-3}" ${4:-} &
        done | awk '{ n += $1; rate += $2; failed += $3 } END { printf "%.0f %.0f %.0f\n", n, rate, failed }'
        wait
    )"
    after=$(ticks "$1")
    [ "$failed" = 0 ] || echo "${name[$1]}: $failed connections failed"
    # Requests count for the small one, bytes for the large one.
    case $2 in manifest) rate=$((n / ${SECONDS_EACH:-3})) ;; *) rate=$((rate / 1000000)) ;; esac
    got[$1,$2]+="$rate "
    spent[$1,$2]+="$(awk "BEGIN { printf \"%.1f\", 10 * ($after - $before) / ($rate * ${SECONDS_EACH:-3} + 0.001) * 1000 }") "
    high[$1]=$(memory "$1")
}
blob=/v2/bench/blob/blobs/$digest
if [[ $parts == *" blobs "* ]]; then
    for ((i = 0; i < ${RUNS:-3}; i++)); do
        for who in ours peer; do
            load "$who" copied "$blob"
            load "$who" discarded "$blob" discard
            load "$who" manifest /v2/bench/blob/manifests/x
        done
    done
    printf '%-28s %10s %16s %8s\n' "" fluyt docker-registry ratio
    for what in copied discarded manifest; do
        case $what in manifest) unit=requests/s cost='us/request' ;; *) unit=MB/s cost='ms/GB' ;; esac
        a=$(middle "${got[ours,$what]}") b=$(middle "${got[peer,$what]}")
        printf '%-28s %10s %16s %8.2f\n' "$what, $unit" "$a" "$b" "$(awk "BEGIN { print $a / ($b + 0.001) }")"
        a=$(middle "${spent[ours,$what]}") b=$(middle "${spent[peer,$what]}")
        printf '%-28s %10s %16s %8.2f\n' "  processor, $cost" "$a" "$b" "$(awk "BEGIN { print $a / ($b + 0.001) }")"
    done
    printf '%-28s %10s %16s %8.2f\n' "highest memory, KiB" "${high[ours]}" "${high[peer]}" "$(awk "BEGIN { print ${high[ours]} / ${high[peer]} }")"
fi

# What a process has of memory now: private and its share of what is common, and all of it, in KiB.
memory_now() { awk '/^Rss:/ { r = $2 } /^Pss:/ { p = $2 } END { printf "rss %d pss %d", r, p }' "/proc/${pid[$1]}/smaps_rollup"; }
clients=${CONNECTIONS:-64}
if [[ $parts == *" pulls "* || $parts == *" client "* ]]; then
    # Ten layers of two megabytes, a tenth of it text.
    layers= ids=
    for i in $(seq 10); do
        mkdir -p "layer$i"
        head -c 1800000 /dev/urandom >"layer$i/noise"
        { yes "line of layer $i" || true; } | head -c 200000 >"layer$i/text"
        tar -C "layer$i" -cf "layer$i.tar" .
        ids+="${ids:+,}\"sha256:$(sha256sum <"layer$i.tar" | cut -c 1-64)\""
        gzip -n "layer$i.tar"
        layers+="${layers:+,}{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\",\"size\":$(stat -c %s "layer$i.tar.gz"),\"digest\":\"sha256:$(sha256sum <"layer$i.tar.gz" | cut -c 1-64)\"}"
    done
    printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[%s]}}' "$ids" >config
    config=sha256:$(sha256sum <config | cut -c 1-64)
    printf '{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":%d},"layers":[%s]}' \
        "$kind" "$config" "$(stat -c %s config)" "$layers" >manifest
    for who in ours peer; do
        for file in config layer*.tar.gz; do push "$who" "$file"; done
        curl -sf -o /dev/null -X PUT -H "Content-Type: $kind" --data-binary @manifest "http://127.0.0.1:${port[$who]}/v2/bench/blob/manifests/ten"
        base=http://127.0.0.1:${port[$who]}/v2
        { # One client: one connection, everything in turn.
            printf 'silent\nfail\nheader = "Accept: %s"\n' "$kind"
            for path in / /bench/blob/manifests/ten "/bench/blob/blobs/$config" $(for i in $(seq 10); do echo "/bench/blob/blobs/sha256:$(sha256sum <"layer$i.tar.gz" | cut -c 1-64)"; done); do
                printf 'url = "%s%s"\noutput = "/dev/null"\n' "$base" "$path"
            done
        } >"pull-$who"
    done
    bytes=$(cat layer*.tar.gz | wc -c)
fi
pulls() { # who: as many clients as there are connections, all at once
    seq "$clients" | xargs -P "$clients" -I{} curl -K "pull-$1" || echo "${name[$1]}: some pulls failed"
}
client() { seq "$clients" | xargs -P "$clients" -I{} "$fluyt" --root "$work/stores/{}" pull -q "127.0.0.1:${port[$1]}/bench/blob:ten" >/dev/null || echo "${name[$1]}: some pulls failed"; }
for part in pulls client; do
    [[ $parts == *" $part "* ]] || continue
    for ((i = 0; i < ${RUNS:-3}; i++)); do
        for who in ours peer; do
            case $i in 0) when=start ;; $((${RUNS:-3} / 2))) when=middle ;; *) when=end ;; esac
            before=$(ticks "$who")
            [ "$part" = pulls ] || mkdir -p "$work/stores"
            [ "$i" -gt 0 ] || echo "${name[$who]}, before the first round of $part: $(memory_now "$who") KiB"
            once "$part-$who" "$part" "$who"
            spent[$who,$part]+="$((10 * ($(ticks "$who") - before))) "
            echo "${name[$who]}, $part, round $i ($when): $(memory_now "$who") KiB, highest $(memory "$who")"
            rm -rf "$work/stores"
        done
    done
    echo "== $clients pulls of an image of ten layers, $bytes bytes each, all at once (ratio to fluyt's server; processor time of the server: $(middle "${spent[ours,$part]}") and $(middle "${spent[peer,$part]}") ms)"
    report "$part-ours" "$part-ours" "$part-peer"
done
