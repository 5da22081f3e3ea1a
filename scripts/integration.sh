#!/usr/bin/env bash
# Starts the real servers, runs the tests that need them, and stops them. A server that cannot be had is said, and fails the run in CI.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh integration
folder=$(mktemp -d /tmp/cohort-integration.XXXXXX)
chmod 755 "$folder"
trap 'scripts/rabbitmq.sh stop "$folder/rabbitmq" || true; rm -rf "$folder"' EXIT
scripts/rabbitmq.sh start "$folder/rabbitmq" >"$folder/env"
set -a
# shellcheck disable=SC1091
. "$folder/env"
set +a
export COHORT_TEST_RABBITMQ_SCRIPT="$PWD/scripts/rabbitmq.sh"
swift build --build-tests
timeout 900 swift test --skip-build --filter 'BrokerTests|OverRabbitMQ|RabbitMQ'
