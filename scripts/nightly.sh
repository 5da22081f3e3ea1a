#!/usr/bin/env bash
# Runs every script of Benchmarks/ once at its smallest size, so that none rots: a line a stage with its time. A stage that passed at this commit is
# not run again: --again runs all. Stages can be named: scripts/nightly.sh bench accuracy
set -uo pipefail
cd "$(dirname "$0")/.."

folder=.build-bench/nightly
commit=$(git rev-parse --short HEAD 2>/dev/null || echo none)
binary=$PWD/.build/release/cohort
again=
[ "${1:-}" = --again ] && again=yes && shift
wanted=" $* "
mkdir -p "$folder"
failed=0

# stage NAME SECONDS COMMAND …
stage() {
    local name=$1 limit=$2
    shift 2
    [ "$wanted" = "  " ] || [[ "$wanted" == *" $name "* ]] || return 0
    local done="$folder/$name.$commit" log="$folder/$name.log" begun=$SECONDS
    if [ -f "$done" ] && [ -z "$again" ]; then
        printf '%-14s passed before: %s s\n' "$name" "$(cat "$done")"
        return 0
    fi
    if timeout "$limit" "$@" >"$log" 2>&1 </dev/null; then
        echo $((SECONDS - begun)) >"$done"
        printf '%-14s passed in %s s\n' "$name" $((SECONDS - begun))
    else
        printf '%-14s FAILED after %s s, the log is %s:\n' "$name" $((SECONDS - begun)) "$log"
        tail -n 5 "$log" | sed 's/^/    /'
        failed=$((failed + 1))
    fi
}

[ -x "$binary" ] || { echo "there is no $binary: make build" >&2; exit 1; }
stage bench 300 python3 Benchmarks/bench.py --binary "$binary" --out "$folder/bench.json" --only ready rounds first_train hundred
stage thousand 600 python3 Benchmarks/bench.py --binary "$binary" --out "$folder/bench.json" --only thousand
stage accuracy 600 python3 Benchmarks/accuracy.py --binary "$binary" --out "$folder/accuracy.json" --only iris
stage corpus 600 python3 Benchmarks/corpus.py --binary "$binary" --only '*penguins*' --seconds 60
stage kill_loop 300 python3 Benchmarks/kill_loop.py --binary "$binary" --sessions 2 --minutes 2 --seed 1
stage liars 600 python3 Benchmarks/liars.py --binary "$binary" --seeds 1 --only median --lies none
stage strategies 600 python3 Benchmarks/strategies.py memory --binary "$binary" --seeds 1 --only digits --peers 1
stage peers 600 python3 Benchmarks/peers.py --binary "$binary" --file Examples/penguins.csv --target species --out "$folder/peers.json"
echo "$failed failed"
[ "$failed" -eq 0 ]
