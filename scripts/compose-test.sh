#!/usr/bin/env bash
# Brings all of docker-compose.yml up, trains through it from outside, kills containers meanwhile, takes it down and up again, and leaves nothing.
# Without a Docker engine it starts one (as root); with COHORT_DOCKER_FOLDER set, engine and images stay there for the next time.
# COHORT_PREBUILT=EXECUTABLE: the image takes this executable, built on Debian 12 with --static-swift-stdlib, instead of building it in its first stage.
set -euo pipefail

action=compose-test
folder=$(mktemp -d /tmp/cohort-compose.XXXXXX)
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/server.sh
. "$here/server.sh"
cd "$here/.."

say() { printf '%s compose-test: %s\n' "$(date +%T)" "$*"; }

export COMPOSE_PROJECT_NAME="cohort-test-$$" COMPOSE_FILE="$PWD/docker-compose.yml"
own_engine=${COHORT_DOCKER_FOLDER:-$folder/docker}
compose=(docker-compose)

leave() {
    local status=$?
    if [ -n "${up:-}" ]; then
        [ $status -eq 0 ] || "${compose[@]}" logs --no-color --tail 60 >&2 || true
        "${compose[@]}" unpause >/dev/null 2>&1 || true
        "${compose[@]}" down -v --timeout 10 >/dev/null 2>&1 || true
    fi
    if [ -n "${started:-}" ] && [ -z "${COHORT_DOCKER_FOLDER:-}" ]; then scripts/docker-engine.sh stop "$own_engine" || true; fi
    umount -R "$own_engine/root" 2>/dev/null || true
    rm -rf "$folder"
    exit $status
}
trap leave EXIT

scripts/setup.sh docker
# Known once what was missing is installed.
command -v docker-compose >/dev/null 2>&1 || compose=(docker compose)
if ! docker info >/dev/null 2>&1; then
    say "no engine answers: starting one"
    if ! DOCKER_HOST="unix://$own_engine/docker.sock" docker info >/dev/null 2>&1; then
        engine=$(scripts/docker-engine.sh start "$own_engine")
        started=yes
        export "${engine?}"
    else
        export DOCKER_HOST="unix://$own_engine/docker.sock"
    fi
fi
COHORT_SKIP_IMAGES=${COHORT_PREBUILT:+swift} scripts/docker-images.sh "$folder/images"
docker run --rm debian:bookworm-slim true || {
    say "no container can run here"
    exit 77
}

# Ports of this run's own; the variables of docker-compose.yml.
COHORT_PORT=$(free_port) COHORT_OBJECTS_PORT=$(free_port) COHORT_BROKER_PAGES_PORT=$(free_port)
export COHORT_PORT COHORT_OBJECTS_PORT COHORT_BROKER_PAGES_PORT
unset COHORT_ADDRESS COHORT_PUBLIC_OBJECTS COHORT_THREADS COHORT_MAX_LOAD COHORT_CONFIG COHORT_TOKEN
url="http://127.0.0.1:$COHORT_PORT"

say "building the image${COHORT_PREBUILT:+ around $COHORT_PREBUILT}"
build() {
    [ -n "${COHORT_PREBUILT:-}" ] || { timeout 3000 "${compose[@]}" build; return; }
    # The Dockerfile without its first stage, whose result is copied from an image of that alone.
    mkdir -p "$folder/executable" "$folder/context"
    strip --strip-all -o "$folder/executable/cohort" "$COHORT_PREBUILT"
    tar -C "$folder/executable" -c . | docker import - cohort-executable >/dev/null
    cp -r deploy "$folder/context/"
    sed -e '/^FROM swift/,/^FROM debian/{/^FROM debian/!d}' -e 's|--from=build /cohort/cohort|--from=cohort-executable /cohort|' Dockerfile >"$folder/context/Dockerfile"
    timeout 600 docker build -t cohort:latest "$folder/context"
}
build >"$folder/build.log" 2>&1 || {
    tail -n 40 "$folder/build.log" >&2
    fail "the image does not build"
}
say "the image has $(docker image inspect -f '{{.Size}}' cohort:latest | awk '{printf "%.0f MB", $1 / 1e6}')"

up=yes
bring_up() {
    timeout 600 "${compose[@]}" up -d >"$folder/up.log" 2>&1 || {
        tail -n 40 "$folder/up.log" >&2
        fail "docker-compose up -d failed"
    }
}
container() { "${compose[@]}" ps -q "$1" | sed -n "${2:-1}p"; }
wait_until() { # WHAT COMMAND…: at most five minutes.
    local what=$1
    shift
    for _ in $(seq 600); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.5
    done
    fail "in vain: $what"
}
bring_up
say "up"

# The client is the image's own executable, run on this machine.
docker cp "$(container server):/usr/local/bin/cohort" "$folder/cohort"
cohort() { env HOME="$folder/home" "$folder/cohort" "$@"; }
mkdir -p "$folder/home"
printf 'a password of this test\n' | cohort signup --server "$url" --email eve@example.org && fail "an account was made without an invitation code"
code=$(docker exec "$(container server)" cat /secrets/invitation-code)
printf 'a password of this test\n' | cohort signup --server "$url" --email ada@example.org --invitation "$code"
# Peers that serve everyone are seen by everyone.
peers_online() { [ "$(cohort peers --json | grep -o '"ONLINE"' | wc -l)" -eq "$1" ]; }
wait_until "three peers come online" peers_online 3

say "training, until the first round is seen"
cohort train Examples/penguins.csv --target species --peers 3 --pool everyone --rounds 30 --epochs 20 --seed 7 --json --detach >"$folder/started"
session=$(grep -oE '"session_id" *: *"[^"]+"' "$folder/started" | cut -d'"' -f4)
status() { cohort status "$session" --json; }
first_round() { status | grep -qE '"round" *: *[1-9]'; }
wait_until "the first round" first_round
# At any speed: no peer trains while parts are killed.
"${compose[@]}" pause peer >/dev/null 2>&1
status | grep -q RUNNING || fail "the session was over before anything could be killed: $(status)"
number() { docker ps -q --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" --filter label=com.docker.compose.service=peer --filter "label=com.docker.compose.container-number=$1"; }
victim=$(number 1)
coordinator=$(container coordinator)
docker kill "$coordinator" >/dev/null
docker kill "$victim" >/dev/null 2>&1 || { docker unpause "$victim" && docker kill "$victim"; } >/dev/null
say "killed the coordinator and a peer"
docker start "$coordinator" >/dev/null
for peer in 2 3; do docker unpause "$(number $peer)" >/dev/null; done

over() { status | grep -qE 'COMPLETED|FAILED|CANCELLED'; }
wait_until "the session ends" over
status | grep -q COMPLETED || fail "the session did not complete: $(status)"
cohort results "$session" | tee "$folder/results"
cohort model "$session" -o "$folder/model.safetensors"
cohort predict "$folder/model.safetensors" Examples/penguins.csv -o "$folder/predictions.csv"
python3 - "$folder/predictions.csv" Examples/penguins.csv <<'PY'
import csv, sys
predicted = list(csv.DictReader(open(sys.argv[1])))
rows = list(csv.DictReader(open(sys.argv[2])))
assert len(predicted) == len(rows) == 344, (len(predicted), len(rows))
right = sum(p["species"] == r["species"] for p, r in zip(predicted, rows))
assert right > 0.95 * len(rows), f"only {right} of {len(rows)} are right"
print(f"{right} of {len(rows)} predictions are right")
PY

say "looking for what should not be"
[ "$(docker exec "$(container server)" id -u)" = 10001 ] || fail "the server runs as another account than cohort's"
for name in server coordinator broker database objects peer; do
    if docker port "$(container $name)" 2>/dev/null | grep -v '127\.0\.0\.1'; then fail "$name can be reached from other machines"; fi
done
[ -z "$(docker port "$(container database)")" ] || fail "the database can be reached from outside"
docker exec "$(number 2)" sh -c 'ls /secrets' | sort | tr '\n' ' ' | grep -qx 'ca.pem token ' || fail "a peer sees more than its token and a certificate"
"${compose[@]}" logs --no-color >"$folder/logs" 2>&1
docker inspect $("${compose[@]}" ps -q) >"$folder/inspect"
for file in jwt-secret aws-credentials database-url broker-url; do
    for secret in $(docker exec "$(container server)" cat "/secrets/$file" | grep -oE '[0-9a-f]{48}'); do
        ! grep -q "$secret" "$folder/logs" || fail "a secret of $file stands in a log"
        ! grep -q "$secret" "$folder/inspect" || fail "a secret of $file stands in a container's settings"
    done
done
# A guess is no way in.
printf 'a wrong password\n' | cohort login --server "$url" --email ada@example.org 2>/dev/null && fail "a wrong password was accepted"

say "down, and up again: what was there is there"
timeout 300 "${compose[@]}" down --timeout 30 >/dev/null 2>&1
bring_up
printf 'a password of this test\n' | cohort login --server "$url" --email ada@example.org
status | grep -q COMPLETED || fail "the session is gone"
cohort model "$session" -o "$folder/again.safetensors"
cmp "$folder/model.safetensors" "$folder/again.safetensors" || fail "the model is another"
"${compose[@]}" up -d --scale peer=2 >/dev/null 2>&1
wait_until "two peers" peers_online 2

say "down, with all of it"
timeout 300 "${compose[@]}" down -v --timeout 30 >/dev/null 2>&1
label="label=com.docker.compose.project=$COMPOSE_PROJECT_NAME"
left="$(docker ps -aq --filter "$label")$(docker volume ls -q --filter "$label")$(docker network ls -q --filter "$label")"
[ -z "$left" ] || fail "left behind: $left"
up=
say "passed"
