#!/usr/bin/env bash
# Runs every test that `swift build --build-tests` has built, in four runs one after the other: what computes, what coordinates whole sessions in one
# process, what serves, and what starts processes. In one run together, a training loop would hold the few threads that servers answer on. A test in
# none of the four fails the run.
set -uo pipefail
cd "$(dirname "$0")/.."

computing='CohortCoreTests|CohortWireTests|CohortSessionTests|CohortStrategiesTests|CohortTrainingTests|TorchEngineTests'
coordinating='CohortCoordinatorTests'
serving='CohortServerTests|CohortPeerTests|ContractTests|OTLPTracerTests'
processes='SystemTests'

all=$(ls -d Tests/*Tests | xargs -n 1 basename | sort)
known=$(tr '|' '\n' <<<"$computing|$coordinating|$serving|$processes" | sort)
if [ "$all" != "$known" ]; then
    echo "scripts/test.sh runs other targets than Tests/ has:" >&2
    diff <(echo "$known") <(echo "$all") >&2
    exit 1
fi

failed=0
for targets in "$computing" "$coordinating" "$serving" "$processes"; do
    "${SWIFT:-swift}" test --skip-build --filter "^($targets)\\." "$@" || failed=$((failed + 1))
done
[ $failed -eq 0 ] || echo "$failed of 4 runs have failed: see above" >&2
exit $((failed > 0))
