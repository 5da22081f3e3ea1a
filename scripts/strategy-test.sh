#!/usr/bin/env bash
# A strategy from outside: Examples/strategy, copied to a separate folder, is tested, built, and trains a session on a server that has it.
# usage: strategy-test.sh [tests]      tests: without the server and the session, which need all of Cohort built again
set -euo pipefail
cd "$(dirname "$0")/.."

root=$PWD
cohort="$root/.build/debug/cohort"
# What is built is kept from run to run; the sources are elsewhere.
scratch="$root/.build-strategy"
[ "${1:-}" = tests ] || [ -x "$cohort" ] || swift build --product cohort
folder=$(mktemp -d /tmp/cohort-strategy.XXXXXX)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$folder"
}
trap finish EXIT
cp -r Examples/strategy "$folder/strategy"
export COHORT_PACKAGE="$root"
# Warnings are of the packages that it depends on as well there.
if [ "${1:-}" = tests ]; then
    cd "$folder/strategy"
    env -u CI swift build --scratch-path "$scratch" --product strategyPackageTests
    env -u CI swift test --scratch-path "$scratch" --skip-build
    exit
fi
(cd "$folder/strategy" && env -u CI swift build --scratch-path "$scratch" --build-tests && env -u CI swift test --scratch-path "$scratch" --skip-build)
mine="$scratch/debug/my-cohort"

export HOME="$folder"
"$mine" serve --host 127.0.0.1 --port 0 --data-dir "$folder/server" --log-level error >"$folder/server.log" 2>&1 &
pids+=($!)
for _ in $(seq 300); do grep -q '^listening on ' "$folder/server.log" && break; sleep 0.2; done
url=$(sed -n 's/^listening on \(.*\)/\1/p' "$folder/server.log" | head -n 1)
[ -n "$url" ] || { cat "$folder/server.log" >&2; exit 1; }
"$cohort" signup --server "$url" --email strategy@example.org --password 'a long passphrase'
token=$("$cohort" token --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["token"])')
for name in ana ben; do
    COHORT_TOKEN="$token" "$cohort" peer --server "$url" --name "$name" --data-dir "$folder/$name" --threads 1 --log-level error >"$folder/$name.log" 2>&1 &
    pids+=($!)
done
for _ in $(seq 300); do [ "$("$cohort" peers --json | python3 -c 'import json, sys; print(sum(peer["status"] == "ONLINE" for peer in json.load(sys.stdin)))')" = 2 ] && break; sleep 0.2; done
"$cohort" train Examples/penguins.csv --target species --strategy square_root --peers 2 --rounds 10 --epochs 5 --batch-size 16 --lr 0.01 --hidden 16 --json >"$folder/results.json"
python3 - "$folder/results.json" <<'PYTHON'
import json, sys
results = json.loads(open(sys.argv[1]).read().strip().splitlines()[-1])
assert results["strategy"] == "square_root" and results["metrics"]["accuracy"] > 0.9, results
print(f"strategy-test: square_root on two peers: accuracy {results['metrics']['accuracy']:.3f}")
PYTHON
