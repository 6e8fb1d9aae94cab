#!/bin/bash
# A project of ten services, up, up again unchanged, and down: `fluyt compose`, docker-compose on fluyt's socket, docker-compose
# on dockerd; each in turn, RUNS times.
#
#   bench/compose.sh [FLUYT]     RUNS=5  PEERS=docker
#
# Ten services in three tiers with `depends_on`, two networks, one volume, three published ports; the image is local. The
# containers do nothing and end at once when told to, so that what is measured is compose and the engine.
PEERS=${PEERS-docker}
. "$(dirname "$0")/lib.sh"
need python3
mkdir "$work/shop"
file=$work/shop/compose.yml
{
    echo 'version: "3.7"'
    echo 'services:'
    service() { # name, network(s), what it depends on, more
        printf '  %s:\n    image: bench\n    command: ["sleep", "1000"]\n    stop_signal: SIGKILL\n    networks: [%s]\n' "$1" "$2"
        [ -z "$3" ] || printf '    depends_on: [%s]\n' "$3"
        [ -z "${4:-}" ] || printf '    %s\n' "$4"
    }
    service db back "" 'volumes: ["data:/data"]'
    service cache back ""
    service queue back ""
    for i in 1 2 3 4; do service "app$i" "front, back" "db, cache, queue" 'environment: {A: "1", B: "2"}'; done
    for i in 1 2; do service "web$i" front "app1, app2, app3, app4" "ports: [\"1808$i:80\"]"; done
    service edge front "web1, web2" 'ports: ["18080:80"]'
    echo 'networks: {front: {}, back: {}}'
    echo 'volumes: {data: {}}'
} >"$file"

kinds=(fluyt)
if command -v docker-compose >/dev/null; then
    "$fluyt" --root "$work/fluyt" engine -H "unix://$work/fluyt.sock" >"$work/engine.log" 2>&1 & engine=$!
    trap 'kill $engine 2>/dev/null || true; cleanup' EXIT
    for _ in $(seq 100); do [ -S "$work/fluyt.sock" ] && break; sleep 0.1; done
    kinds+=(onfluyt)
    [ -z "$dockerd" ] || kinds+=(ondocker)
else
    echo "left out: docker-compose is not installed"
fi
compose() {
    case $1 in
        fluyt) "$fluyt" --root "$work/fluyt" compose -p shop -f "$file" "${@:2}" ;;
        onfluyt) DOCKER_HOST=unix://$work/fluyt.sock docker-compose -p shop -f "$file" "${@:2}" ;;
        ondocker) DOCKER_HOST=unix://$work/docker.sock docker-compose -p shop -f "$file" "${@:2}" ;;
    esac 2>>"$work/compose.log"
}
for ((i = 0; i < ${RUNS:-5}; i++)); do
    for kind in "${kinds[@]}"; do
        once "$kind.up" compose "$kind" up -d
        once "$kind.again" compose "$kind" up -d
        once "$kind.ps" compose "$kind" ps
        once "$kind.down" compose "$kind" down -v
    done
done || { tail -n 20 "$work/compose.log" >&2; exit 1; }
for what in up again ps down; do
    echo "== compose $what"
    keys=(); for kind in "${kinds[@]}"; do keys+=("$kind.$what"); done
    report "fluyt.$what" "${keys[@]}"
done
