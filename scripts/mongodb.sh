#!/usr/bin/env bash
# Separate servers of MongoDB's wire protocol for tests, on loopback: mongodb.sh start|stop|kill|restart FOLDER
# Debian packages no mongod, so these are two independent servers of the protocol from PyPI: mongoeco (Python 3.13 or newer), with a password,
# and nx-27017. `start` prints COHORT_TEST_… lines; with COHORT_TEST_MONGODB_URL set, the tests use that server as well. stop ends both; kill and restart
# are for mongoeco, or for nx-27017 where there is no Python for it. Everything lies in FOLDER, but for the programs, kept in .build-tools.
set -euo pipefail

action=${1:-}
folder=${2:-}
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/server.sh
. "$here/server.sh"

# The newest Python that mongoeco runs on; nothing when there is none.
new_python() {
    local python
    for python in python3.14 python3.13 python3 "$HOME"/.pyenv/versions/3.1[3-9]*/bin/python3; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 13))' 2>/dev/null; then
            command -v "$python"
            return
        fi
    done
}

install_package() { # NAME PYTHON PACKAGE
    [ -x "$tools/$1/bin/python" ] && "$tools/$1/bin/python" -m pip show -q "${3%%[\[=<>]*}" >/dev/null 2>&1 && return
    { "$2" -m venv "$tools/$1" && "$tools/$1/bin/python" -m pip install --quiet --disable-pip-version-check "$3"; } >&2 ||
        fail "$3 could not be installed from PyPI"
}

wait_for() { # NAME PORT
    for _ in $(seq 300); do
        python3 -c 'import socket, sys; socket.create_connection(("127.0.0.1", int(sys.argv[1])), 1)' "$2" 2>/dev/null && return
        kill -0 "$(cat "$folder/$1.pid")" 2>/dev/null || break
        sleep 0.2
    done
    tail -n 40 "$folder/$1.out" >&2
    fail "$1 did not start within 60 s"
}

launch() { # mongoeco | nx
    # shellcheck disable=SC1091
    . "$folder/ports"
    case "$1" in
    mongoeco)
        "$tools/mongoeco/bin/python" - "$mongoeco" "$folder/mongoeco.sqlite" >"$folder/mongoeco.out" 2>&1 <<'PY' &
import asyncio, signal, sys
from mongoeco.engines.sqlite import SQLiteEngine
from mongoeco.wire import AsyncMongoEcoProxyServer, WireAuthUser

async def main():
    server = AsyncMongoEcoProxyServer(engine=SQLiteEngine(path=sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]),
                                      # mongoeco's salt is "admin:" and the name; libmongoc wants one of 28 bytes.
                                      auth_users=(WireAuthUser("cohort-of-the-test-lab", "test-secret"),))
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.close()

asyncio.run(main())
PY
        echo $! >"$folder/mongoeco.pid"
        wait_for mongoeco "$mongoeco"
        ;;
    nx)
        mkdir -p "$folder/nx"
        "$tools/nx/bin/nx-27017" --host 127.0.0.1 --port "$nx" --data-dir "$folder/nx" --log-file "$folder/nx.log" \
            --pid-file "$folder/nx-own.pid" >"$folder/nx.out" 2>&1 &
        echo $! >"$folder/nx.pid"
        wait_for nx "$nx"
        ;;
    esac
}

case "$action" in
start)
    mkdir -p "$folder"
    folder=$(cd "$folder" && pwd)
    printf 'mongoeco=%s\nnx=%s\n' "$(free_port)" "$(free_port)" >"$folder/ports"
    # shellcheck disable=SC1091
    . "$folder/ports"
    install_package nx python3 'nx-27017>=0.8'
    launch nx
    printf 'COHORT_TEST_NX27017_URL="mongodb://127.0.0.1:%s/?socketTimeoutMS=300000"\n' "$nx"
    python=$(new_python)
    if [ -n "$python" ]; then
        install_package mongoeco "$python" 'mongoeco[wire]>=4.0'
        launch mongoeco
        echo mongoeco >"$folder/first"
        printf 'COHORT_TEST_MONGOECO_URL="mongodb://cohort-of-the-test-lab:test-secret@127.0.0.1:%s/?authSource=admin&authMechanism=SCRAM-SHA-256&socketTimeoutMS=300000"\n' "$mongoeco"
    else
        printf 'mongodb: no Python 3.13: the tests run against nx-27017 alone\n' >&2
        echo nx >"$folder/first"
    fi
    printf 'COHORT_TEST_MONGODB_FOLDER=%s\n' "$folder"
    ;;
stop) for name in mongoeco nx; do end "$folder/$name.pid" TERM; done ;;
kill) end "$folder/$(cat "$folder/first").pid" KILL ;;
restart)
    end "$folder/$(cat "$folder/first").pid" TERM
    launch "$(cat "$folder/first")"
    ;;
*) fail "unknown action '$action'" ;;
esac
