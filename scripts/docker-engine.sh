#!/usr/bin/env bash
# A separate Docker engine for tests, where none runs: docker-engine.sh start|stop FOLDER
# `start` prints DOCKER_HOST=…; everything, images too, lies in FOLDER. It needs root. Where none can run, it ends with 77.
set -euo pipefail

action=${1:-}
folder=${2:-}
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/server.sh
. "$here/server.sh"

cannot() {
    printf 'docker-engine: %s\n' "$*" >&2
    exit 77
}

case "$action" in
start)
    command -v dockerd >/dev/null 2>&1 || PATH=$PATH:/usr/sbin
    command -v dockerd >/dev/null 2>&1 || fail "dockerd is not on this machine (apt-get install docker.io)"
    [ "$(id -u)" -eq 0 ] || cannot "starting an engine needs root; or start Docker, and be in its group"
    mkdir -p "$folder"
    folder=$(cd "$folder" && pwd)
    dockerd --data-root "$folder/root" --exec-root "$folder/run" -H "unix://$folder/docker.sock" -p "$folder/pid" >"$folder/out" 2>&1 &
    for _ in $(seq 300); do
        if DOCKER_HOST="unix://$folder/docker.sock" docker info >/dev/null 2>&1; then
            printf 'DOCKER_HOST=unix://%s/docker.sock\n' "$folder"
            exit 0
        fi
        kill -0 $! 2>/dev/null || break
        sleep 0.2
    done
    end "$folder/pid" TERM
    tail -n 20 "$folder/out" >&2
    cannot "no engine can run here"
    ;;
stop) end "$folder/pid" TERM ;;
*) fail "unknown action '$action'" ;;
esac
