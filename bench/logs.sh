#!/bin/bash
# A burst of 200 MB of log lines: until all of it is in the log, and reading it back; beside a pipe into a file.
#
#   bench/logs.sh [FLUYT]     RUNS=3  MB=200
#
# Each engine logs with its own file driver (fluyt and docker: json-file, podman: k8s-file) as it is set up by default; beyond
# 250 MB fluyt's log gets a limit that drops no lines. The lines come from a file, by `cat`, and once more from `yes` and
# `head` inside the container, which need two processors by themselves.
. "$(dirname "$0")/lib.sh"
line='this is a line of a log of about one hundred characters, more or less, as servers write them all day 12345'
{ yes "$line" || true; } | head -c "$((${MB:-200} * 1000000))" >"$work/lines"
echo >>"$work/lines"
options() {
    case $1 in
        fluyt) [ "${MB:-200}" -le 250 ] || echo "--log-opt max-size=$((MB * 3))m" ;;
        docker) echo "--log-driver json-file" ;;
        podman) echo "--log-driver k8s-file" ;;
    esac
}
burst() { e "$1" run -d --name burst $(options "$1") -v "$work/lines:/lines:ro" bench cat /lines; e "$1" wait burst; }
made() { e "$1" run -d --name made $(options "$1") bench sh -c "yes '$line' | head -c $((${MB:-200} * 1000000))"; e "$1" wait made; }
pipe() { busybox cat "$work/lines" | busybox cat >"$work/copy"; }
made_pipe() { { busybox yes "$line" || true; } | busybox head -c "$((${MB:-200} * 1000000))" | busybox cat >"$work/copy"; }
readback() { e "$1" logs burst >"$work/read"; }
for ((i = 0; i < ${RUNS:-3}; i++)); do
    once pipe pipe
    rm -f "$work/copy"
    once made-pipe made_pipe
    rm -f "$work/copy"
    for name in "${engines[@]}"; do
        once "$name" burst "$name"
        once "$name-read" readback "$name"
        cmp -s "$work/lines" "$work/read" || echo "$name: what was read back differs from what was written"
        rm -f "$work/read"
        e "$name" rm burst >/dev/null
        once "made-$name" made "$name"
        e "$name" rm made >/dev/null
    done
done
echo "== ${MB:-200} MB of lines: run, log, wait (ratio to a pipe into a file)"
report pipe pipe "${engines[@]}"
echo "== the same made by yes and head in the container (ratio to these two and a pipe into a file)"
report made-pipe made-pipe "${engines[@]/#/made-}"
echo "== reading them back with logs (same ratio)"
report pipe "${engines[@]/%/-read}"
