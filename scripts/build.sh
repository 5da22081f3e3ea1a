#!/usr/bin/env bash
# Builds the optimized `cohort` with one line of progress: build.sh OPTIONS… are those of `swift build`. The compiler's output is in .build/build.log.
set -uo pipefail
cd "$(dirname "$0")/.."

log=.build/build.log
mkdir -p .build
cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
if [ ! -d .build/release ]; then
    # Measured: 6 to 17 minutes on two cores, as busy as they are; a little is not parallel.
    echo "build: the first build compiles Swift's server libraries and two copies of BoringSSL: about $((2 + 20 / cores)) minutes on $cores cores; later ones take less"
fi
begun=$SECONDS
show() {
    local shown=0 step total
    while IFS= read -r line; do
        printf '%s\n' "$line" >>"$log"
        [[ $line =~ ^\[([0-9]+)/([0-9]+)\] ]] || continue
        step=${BASH_REMATCH[1]} total=${BASH_REMATCH[2]}
        if [ -t 1 ]; then
            printf '\rbuild: %d of %d steps, %d s ' "$step" "$total" $((SECONDS - begun))
        elif ((SECONDS - begun >= shown + 60)); then
            shown=$((SECONDS - begun))
            printf 'build: %d of %d steps, %d s\n' "$step" "$total" "$shown"
        fi
    done
    [ ! -t 1 ] || printf '\r\033[K'
}
: >"$log"
"${SWIFT:-swift}" build -c release --product cohort "$@" 2>&1 | show
status=${PIPESTATUS[0]}
if [ "$status" -ne 0 ]; then
    grep -E 'error:|warning: unre' "$log" | sort -u | head -n 40 >&2
    tail -n 20 "$log" >&2
    echo "build: failed; all of the compiler's output is in $log" >&2
    exit "$status"
fi
echo "build: .build/release/cohort, $((SECONDS - begun)) s"
