#!/usr/bin/env bash
# A separate RabbitMQ for tests, on loopback, with TLS and the management API: rabbitmq.sh start|stop|kill|restart|trace_on|trace_off|alarm_on|alarm_off FOLDER
# `start` prints COHORT_TEST_… lines. Everything lies in FOLDER; ports are the first free ones from the given base on.
set -euo pipefail

action=${1:-}
folder=${2:-}
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/server.sh
. "$here/server.sh"
server=/usr/lib/rabbitmq/bin/rabbitmq-server
[ -x "$server" ] || fail "RabbitMQ is not on this machine (apt-get install rabbitmq-server)"

# The account that RabbitMQ runs as, in front of a command.
as_rabbitmq() {
    if [ "$(id -u)" -eq 0 ]; then set -- setpriv --reuid=rabbitmq --regid=rabbitmq --init-groups "$@"; fi
    exec "$@"
}

launch() {
    # shellcheck disable=SC1091
    . "$folder/ports"
    [ "$(id -u)" -ne 0 ] || chown -R rabbitmq "$folder"
    HOME="$folder" RABBITMQ_NODENAME="cohort$dist@localhost" RABBITMQ_CONFIG_FILE="$folder/rabbitmq" RABBITMQ_ADVANCED_CONFIG_FILE="$folder/advanced.config" RABBITMQ_MNESIA_BASE="$folder/db" \
        RABBITMQ_LOG_BASE="$folder/log" RABBITMQ_ENABLED_PLUGINS_FILE="$folder/enabled_plugins" RABBITMQ_DIST_PORT="$dist" \
        RABBITMQ_PID_FILE="$folder/pid" ERL_EPMD_ADDRESS=127.0.0.1 \
        as_rabbitmq "$server" >"$folder/out" 2>&1 &
    for _ in $(seq 300); do
        if python3 - "$plain" <<'PY' 2>/dev/null
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 1)
s.settimeout(2)
s.sendall(b"AMQP\0\0\x09\x01")
sys.exit(0 if s.recv(8) else 1)
PY
        then return 0; fi
        sleep 0.2
    done
    cat "$folder/out" >&2
    fail "it did not start within 60 s"
}

case "$action" in
start)
    mkdir -p "$folder/db" "$folder/log"
    folder=$(cd "$folder" && pwd)
    "$here/certificates.sh" "$folder/tls"
    plain=$(free_port) tls=$(free_port) management=$(free_port) dist=$(free_port)
    printf 'plain=%s\ntls=%s\nmanagement=%s\ndist=%s\n' "$plain" "$tls" "$management" "$dist" >"$folder/ports"
    cat >"$folder/rabbitmq.conf" <<CONF
listeners.tcp.1 = 127.0.0.1:$plain
listeners.ssl.1 = 127.0.0.1:$tls
ssl_options.cacertfile = $folder/tls/ca.pem
ssl_options.certfile = $folder/tls/server.pem
ssl_options.keyfile = $folder/tls/server.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
management.tcp.ip = 127.0.0.1
management.tcp.port = $management
default_user = cohort
default_pass = test-secret
consumer_timeout = ${COHORT_TEST_CONSUMER_TIMEOUT:-10000}
collect_statistics_interval = 1000
CONF
    # How often a channel looks whether a delivery is held for too long; there is no line of the other file for it.
    printf '[{rabbit, [{channel_tick_interval, 1000}]}].\n' >"$folder/advanced.config"
    printf '[rabbitmq_management].\n' >"$folder/enabled_plugins"
    chmod 755 "$folder"
    launch
    printf 'COHORT_TEST_AMQP_URL=amqp://cohort:test-secret@127.0.0.1:%s\n' "$plain"
    printf 'COHORT_TEST_AMQPS_URL=amqps://cohort:test-secret@localhost:%s?cacertfile=%s\n' "$tls" "$folder/tls/ca.pem"
    printf 'COHORT_TEST_AMQP_ADMIN_URL=http://cohort:test-secret@127.0.0.1:%s\n' "$management"
    printf 'COHORT_TEST_RABBITMQ_FOLDER=%s\n' "$folder"
    ;;
stop) end "$folder/pid" TERM ;;
kill) end "$folder/pid" KILL ;;
restart)
    end "$folder/pid" TERM
    launch
    ;;
trace_on | trace_off)
    # Copies of all messages go to the exchange amq.rabbitmq.trace.
    # shellcheck disable=SC1091
    . "$folder/ports"
    (HOME="$folder" as_rabbitmq /usr/lib/rabbitmq/bin/rabbitmqctl -q -n "cohort$dist@localhost" "$action")
    ;;
alarm_on | alarm_off)
    # As if memory were short: it takes nothing from those that publish.
    # shellcheck disable=SC1091
    . "$folder/ports"
    share=0.4
    [ "$action" = alarm_off ] || share=0.0000001
    (HOME="$folder" as_rabbitmq /usr/lib/rabbitmq/bin/rabbitmqctl -q -n "cohort$dist@localhost" set_vm_memory_high_watermark "$share")
    ;;
*) fail "unknown action '$action'" ;;
esac
