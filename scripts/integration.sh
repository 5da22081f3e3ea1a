#!/usr/bin/env bash
# Starts the real servers, runs the tests that need them, and stops them. A missing server is reported, and fails the run in CI.
set -euo pipefail
cd "$(dirname "$0")/.."
export PIP_CONSTRAINT="$PWD/scripts/constraints.txt"

scripts/setup.sh integration
folder=$(mktemp -d /tmp/cohort-integration.XXXXXX)
chmod 755 "$folder"
trap 'for name in rabbitmq seaweedfs mongodb; do scripts/$name.sh stop "$folder/$name" || true; done; rm -rf "$folder"' EXIT
for name in rabbitmq seaweedfs mongodb; do scripts/$name.sh start "$folder/$name" >"$folder/$name.env"; done
set -a
# shellcheck disable=SC1090
for name in rabbitmq seaweedfs mongodb; do . "$folder/$name.env"; done
set +a
export COHORT_TEST_SCRIPTS="$PWD/scripts" COHORT_TEST_PYTHON="$PWD/.build-tools/python-peer/bin/python"
if ! "$COHORT_TEST_PYTHON" -c 'import jsonschema, numpy, pika' 2>/dev/null; then
    python3 -m venv .build-tools/python-peer
    "$COHORT_TEST_PYTHON" -m pip install --quiet --disable-pip-version-check -r Examples/python-peer/requirements.txt jsonschema
fi
swift build --build-tests
# First the suites that need the servers there, then those that kill them.
COHORT_TEST_ONLY_SERVERS=1 timeout 600 swift test --skip-build --filter ContractTests
# Every fifth call of a session goes wrong; COHORT_TEST_EVERY=1 is all of them, in some ten minutes.
COHORT_TEST_EVERY="${COHORT_TEST_EVERY:-5}" timeout 1800 swift test --skip-build --filter OnRealServers
timeout 900 swift test --skip-build --filter 'OverRabbitMQ|OverS3|OverRealServers'
