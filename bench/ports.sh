#!/bin/bash
# Requests per second by a port published on 127.0.0.1, against the same server without any network of its own.
#
#   bench/ports.sh [FLUYT]     RUNS=3  SECONDS_EACH=3
#
# The server (pages.c) answers each request on a kept connection with one short page; wrk asks with 32 connections.
. "$(dirname "$0")/lib.sh"
need wrk cc
declare -A rps=()
ask() { # a key, a port
    local got
    got=$(wrk -t 1 -c 32 -d "${SECONDS_EACH:-3}" "http://127.0.0.1:$2/" | awk '/^Requests\/sec/ { print $2 }')
    rps[$1]+="${got:-0} "
}
"$work/root/bin/pages" 8100 &
server=$!
port=8100
for name in "${engines[@]}"; do
    port=$((port + 1))
    e "$name" run -d --name pages -p "127.0.0.1:$port:80" bench /bin/pages 80 >/dev/null
done
sleep 1
for ((i = 0; i < ${RUNS:-3}; i++)); do
    ask host 8100
    port=8100
    for name in "${engines[@]}"; do port=$((port + 1)); ask "$name" "$port"; done
done
kill "$server"
middle() { tr ' ' '\n' <<<"${rps[$1]}" | grep . | sort -n | awk '{ x[NR] = $1 } END { print x[int((NR + 1) / 2)] }'; }
echo "== requests per second (part of the host network's)"
for name in host "${engines[@]}"; do
    printf '%-12s %10.0f   %5.1f %%\n' "$name" "$(middle "$name")" "$(awk "BEGIN { print 100 * $(middle "$name") / $(middle host) }")"
done
