#!/usr/bin/env bash
# Runs every script and program of Benchmarks/ once at its smallest size, so that none rots, and what CI leaves out: a line a stage with its time. A stage that passed at this commit is
# not run again: --again runs all. Stages can be named: scripts/nightly.sh bench accuracy. A stage that cannot run here (77) is reported as such.
set -uo pipefail
cd "$(dirname "$0")/.."
export PIP_CONSTRAINT="$PWD/scripts/constraints.txt"

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
    local command=("$@")
    [ "$(type -t "$1")" != function ] || command=(bash -c "$1")
    local status=0
    timeout "$limit" "${command[@]}" >"$log" 2>&1 </dev/null || status=$?
    if [ $status -eq 77 ]; then
        skip "$name" "$(tail -n 1 "$log")"
    elif [ $status -eq 0 ]; then
        echo $((SECONDS - begun)) >"$done"
        printf '%-14s passed in %s s\n' "$name" $((SECONDS - begun))
    else
        printf '%-14s FAILED after %s s, the log is %s:\n' "$name" $((SECONDS - begun)) "$log"
        tail -n 5 "$log" | sed 's/^/    /'
        failed=$((failed + 1))
    fi
}

# skip NAME REASON: a stage that cannot run here, reported rather than omitted.
skip() {
    [ "$wanted" = "  " ] || [[ "$wanted" == *" $1 "* ]] || return 0
    printf '%-14s not run: %s\n' "$1" "$2"
}

# An environment of Python, made once, with what some scripts hold Cohort against.
python=$PWD/.build-bench/python/bin/python
others() {
    "$python" -c 'import aio_pika, boto3, pandas, pyarrow' 2>/dev/null && return
    python3 -m venv .build-bench/python && "$python" -m pip install --quiet --disable-pip-version-check aio-pika boto3 pandas pyarrow
}

# program NAME: one of the executables of Benchmarks/, optimized.
program() { COHORT_ONLY=$1 swift build -c release --scratch-path .build-bench --product "$1"; }

aggregation() {
    local objects="$folder/objects" bench=.build-bench/release/AggregationBench
    rm -rf "$objects" && program AggregationBench && "$bench" make "$objects" 3 1 && "$bench" mean "$objects" 3 1 && "$bench" median "$objects" 3 1
}
read_csv() {
    others && program EngineBench &&
        "$python" Benchmarks/read_csv.py --binary "$binary" --engine-bench .build-bench/release/EngineBench --file Examples/penguins.csv --target species
}
s3() { others && program StoreBench && "$python" Benchmarks/s3.py .build-bench/release/StoreBench --megabytes 10 --rounds 1; }
broker() { others && program BrokerBench && "$python" Benchmarks/broker.py .build-bench/release/BrokerBench --messages 500 --rounds 1; }
export -f others program aggregation read_csv s3 broker
export python binary folder

# Read as a whole before it runs: it takes longer than an edit of this file.
main() {
    [ -x "$binary" ] || { echo "there is no $binary: make build" >&2; exit 1; }
    stage bench 300 python3 Benchmarks/bench.py --binary "$binary" --out "$folder/bench.json" --only ready rounds exchange first_train hundred
    stage thousand 600 python3 Benchmarks/bench.py --binary "$binary" --out "$folder/bench.json" --only thousand
    stage accuracy 600 python3 Benchmarks/accuracy.py --binary "$binary" --out "$folder/accuracy.json" --only iris
    stage corpus 600 python3 Benchmarks/corpus.py --binary "$binary" --only '*penguins*' --seconds 60
    stage kill_loop 300 python3 Benchmarks/kill_loop.py --binary "$binary" --sessions 2 --minutes 2 --seed 1
    stage liars 600 python3 Benchmarks/liars.py --binary "$binary" --seeds 1 --only median --lies none
    stage strategies 600 python3 Benchmarks/strategies.py memory --binary "$binary" --seeds 1 --only digits --peers 1
    stage peers 600 python3 Benchmarks/peers.py --binary "$binary" --file Examples/penguins.csv --target species --out "$folder/peers.json"
    stage rows 300 python3 Benchmarks/rows.py --binary "$binary" --gigabytes 0.05 --peers 2 --out "$folder/rows.json"
    stage engine 900 python3 Benchmarks/engine.py --turns 1 --nets 4-16-3:16 --out "$folder/engine.json"
    stage aggregation 900 aggregation
    stage read_csv 900 read_csv
    stage s3 900 s3
    stage broker 900 broker
    # What a run per change leaves out.
    stage strategy 1200 scripts/strategy-test.sh
    stage compose 3000 scripts/compose-test.sh
    stage every_call 3000 env COHORT_TEST_EVERY=1 scripts/integration.sh
    browser=.build-tools/browser/bin/python
    if [ -x "$browser" ]; then
        stage pages 300 "$browser" Benchmarks/pages.py --binary "$binary" --machines 4 --viewers 10 --out "$folder/pages.json"
    else
        skip pages "make browser-test makes its environment"
    fi
    if [ "$(id -u)" = 0 ]; then
        stage large 300 python3 Benchmarks/large.py --binary "$binary" --gigabytes 0.1 --beside 0.05 --memory 1 --out "$folder/large.json"
    else
        skip large "it makes a control group, for root alone"
    fi
    echo "$failed failed"
    [ "$failed" -eq 0 ]
}
main
