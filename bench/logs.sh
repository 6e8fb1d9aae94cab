#!/bin/bash
# A burst of 200 MB of log lines: until all of it is in the log, and reading it back; beside a pipe into a file.
#
#   bench/logs.sh [FLUYT]     RUNS=3  MB=200
#
# Each engine logs with its own file driver (docker: json-file, podman: k8s-file) and without a limit that would drop lines.
. "$(dirname "$0")/lib.sh"
line='this is a line of a log of about one hundred characters, more or less, as servers write them all day 12345'
{ yes "$line" || true; } | head -c "$((${MB:-200} * 1000000))" >"$work/lines"
echo >>"$work/lines"
options() {
    case $1 in
        fluyt | docker) echo "--log-driver json-file --log-opt max-size=2g" ;;
        podman) echo "--log-driver k8s-file" ;;
    esac
}
burst() { e "$1" run -d --name burst $(options "$1") -v "$work/lines:/lines:ro" bench cat /lines; e "$1" wait burst; }
pipe() { busybox cat "$work/lines" | busybox cat >"$work/copy"; }
readback() { e "$1" logs burst >"$work/read"; }
for ((i = 0; i < ${RUNS:-3}; i++)); do
    once pipe pipe
    rm -f "$work/copy"
    for name in "${engines[@]}"; do
        once "$name" burst "$name"
        once "$name-read" readback "$name"
        cmp -s "$work/lines" "$work/read" || echo "$name: what was read back differs from what was written"
        rm -f "$work/read"
        e "$name" rm burst >/dev/null
    done
done
echo "== ${MB:-200} MB of lines: run, log, wait (ratio to a pipe into a file)"
report pipe pipe "${engines[@]}"
echo "== reading them back with logs (same ratio)"
report pipe "${engines[@]/%/-read}"
