#!/usr/bin/env bash
# A separate SeaweedFS, which speaks S3, for tests, on loopback, with TLS beside: seaweedfs.sh start|stop|kill|restart FOLDER
# `start` prints COHORT_TEST_… lines. Everything lies in FOLDER, but for the program, which is kept in .build-tools.
set -euo pipefail

action=${1:-}
folder=${2:-}
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/server.sh
. "$here/server.sh"
weed="$tools/bin/weed"

free_ports() {
    python3 - "$1" <<'PY'
import socket, sys
# SeaweedFS's gRPC ports are its ports + 10000: both must be free, and in range.
found, held = [], []
port = 20000
while len(found) < int(sys.argv[1]):
    port += 1
    try:
        for number in (port, port + 10000):
            s = socket.socket()
            s.bind(("127.0.0.1", number))
            held.append(s)
        found.append(str(port))
    except OSError:
        pass
print(" ".join(found))
PY
}

launch() {
    # shellcheck disable=SC1091
    . "$folder/ports"
    "$weed" server -dir="$folder/data" -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.port="$master" -volume.port="$volume" -filer.port="$filer" \
        -s3 -s3.port="$plain" -s3.port.https="$tls" -s3.cert.file="$folder/tls/server.pem" -s3.key.file="$folder/tls/server.key" \
        -s3.config="$folder/s3.json" -s3.autoCreateBucket=false -s3.port.iceberg=0 -s3.port.lance=0 -volume.max=20 -master.volumeSizeLimitMB=256 -master.electionTimeout=1s \
        -master.telemetry=false >"$folder/out" 2>&1 &
    echo $! >"$folder/pid"
    for _ in $(seq 300); do
        if python3 - "$plain" "$tls" <<'PY' 2>/dev/null
import ssl, sys, urllib.error, urllib.request
def answers(url):
    try:
        urllib.request.urlopen(url, timeout=2, context=ssl._create_unverified_context() if url.startswith("https") else None)
    except urllib.error.HTTPError as error:
        # It knows that it has not been told who asks.
        return error.code == 403
    return True
sys.exit(0 if answers(f"http://127.0.0.1:{sys.argv[1]}/") and answers(f"https://127.0.0.1:{sys.argv[2]}/") else 1)
PY
        then return 0; fi
        kill -0 "$(cat "$folder/pid")" 2>/dev/null || break
        sleep 0.2
    done
    tail -n 40 "$folder/out" >&2
    fail "it did not start within 60 s"
}

case "$action" in
start)
    install_weed
    mkdir -p "$folder/data"
    folder=$(cd "$folder" && pwd)
    "$here/certificates.sh" "$folder/tls"
    read -r plain tls master volume filer <<<"$(free_ports 5)"
    printf 'plain=%s\ntls=%s\nmaster=%s\nvolume=%s\nfiler=%s\n' "$plain" "$tls" "$master" "$volume" "$filer" >"$folder/ports"
    cat >"$folder/s3.json" <<'JSON'
{"identities": [{"name": "cohort", "credentials": [{"accessKey": "cohort-test", "secretKey": "test-secret-of-s3"}],
 "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}
JSON
    launch
    printf 'COHORT_TEST_S3_URL="s3://cohort?create=yes&endpoint=http://127.0.0.1:%s"\n' "$plain"
    printf 'COHORT_TEST_S3_TLS_URL="s3://cohort?create=yes&endpoint=https://localhost:%s&cacertfile=%s"\n' "$tls" "$folder/tls/ca.pem"
    printf 'COHORT_TEST_S3_KEY=cohort-test\nCOHORT_TEST_S3_SECRET=test-secret-of-s3\n'
    printf 'COHORT_TEST_S3_FOLDER=%s\n' "$folder"
    ;;
stop) end "$folder/pid" TERM ;;
kill) end "$folder/pid" KILL ;;
restart)
    end "$folder/pid" TERM
    launch
    ;;
*) fail "unknown action '$action'" ;;
esac
