#!/bin/bash
# A registry under 64 concurrent pulls: throughput, processor time and memory, beside docker-registry in the same run.
#
#   bench/registry.sh [FLUYT]     RUNS=3  SECONDS_EACH=3  CONNECTIONS=64  MEGABYTES=20
#
# One blob is fetched over and over on all connections by sink.c, once copying what comes (clients of the same machine)
# and once letting the kernel throw it away (the load of clients elsewhere); then a small manifest, as pulls that find
# all blobs at home ask for. Both servers have the same content, pushed by the same client. Runs alternate.
PEERS="" . "$(dirname "$0")/lib.sh"
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

declare -A got=() spent=() high=()
load() { # who, what, path, more words for sink
    local before after n rate failed
    before=$(ticks "$1")
    read -r n rate failed <<<"$("$work/sink" 127.0.0.1 "${port[$1]}" "$3" "${CONNECTIONS:-64}" "${SECONDS_EACH:-3}" ${4:-})"
    after=$(ticks "$1")
    [ "$failed" = 0 ] || echo "${name[$1]}: $failed connections failed"
    # Requests count for the small one, bytes for the large one.
    case $2 in manifest) rate=$((n / ${SECONDS_EACH:-3})) ;; *) rate=$((rate / 1000000)) ;; esac
    got[$1,$2]+="$rate "
    spent[$1,$2]+="$(awk "BEGIN { printf \"%.1f\", 10 * ($after - $before) / ($rate * ${SECONDS_EACH:-3} + 0.001) * 1000 }") "
    high[$1]=$(memory "$1")
}
blob=/v2/bench/blob/blobs/$digest
for ((i = 0; i < ${RUNS:-3}; i++)); do
    for who in ours peer; do
        load "$who" copied "$blob"
        load "$who" discarded "$blob" discard
        load "$who" manifest /v2/bench/blob/manifests/x
    done
done
middle() { tr ' ' '\n' <<<"$1" | grep . | sort -n | awk '{ x[NR] = $1 } END { print x[int((NR + 1) / 2)] }'; }
printf '%-28s %10s %16s %8s\n' "" fluyt docker-registry ratio
for what in copied discarded manifest; do
    case $what in manifest) unit=requests/s cost='us/request' ;; *) unit=MB/s cost='ms/GB' ;; esac
    a=$(middle "${got[ours,$what]}") b=$(middle "${got[peer,$what]}")
    printf '%-28s %10s %16s %8.2f\n' "$what, $unit" "$a" "$b" "$(awk "BEGIN { print $a / ($b + 0.001) }")"
    a=$(middle "${spent[ours,$what]}") b=$(middle "${spent[peer,$what]}")
    printf '%-28s %10s %16s %8.2f\n' "  processor, $cost" "$a" "$b" "$(awk "BEGIN { print $a / ($b + 0.001) }")"
done
printf '%-28s %10s %16s %8.2f\n' "highest memory, KiB" "${high[ours]}" "${high[peer]}" "$(awk "BEGIN { print ${high[ours]} / ${high[peer]} }")"
