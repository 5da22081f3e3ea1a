#!/usr/bin/env bash
# The wheel as somebody gets it who has nothing but Python: installed from its file into a fresh environment, then a server and a peer started by hand,
# and a model of one's own CSV in four commands.
set -euo pipefail
cd "$(dirname "$0")/.."
export PIP_CONSTRAINT="$PWD/scripts/constraints.txt"

fail() {
    printf 'wheel-check: %s\n' "$*" >&2
    exit 1
}
(cd dist && sha256sum --quiet -c SHA256SUMS)
wheel=$(ls "$PWD"/dist/cohort_client-*_"$(uname -m)".whl)
folder=$(mktemp -d /tmp/cohort-wheel-check.XXXXXX)
pids=()
cleanup() {
    local code=$?
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    [ "$code" -eq 0 ] || tail -n 20 "$folder"/*.log >&2 2>/dev/null || true
    rm -rf "$folder"
}
trap cleanup EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "$wheel"
cat >"$folder/own.csv" <<'END'
size,colour,kind
END
for i in $(seq 300); do echo "$((i * 37 % 100)),$([ $((i % 3)) = 0 ] && echo red || echo blue),$([ $((i * 37 % 100)) -gt 50 ] && echo large || echo small)" >>"$folder/own.csv"; done
export PATH="$folder/venv/bin:/usr/bin:/bin" HOME="$folder" XDG_CONFIG_HOME="$folder/config"
cd "$folder"
[ "$(command -v cohort)" = "$folder/venv/bin/cohort" ] || fail "there is no command 'cohort'"
[ "$(cohort --version)" = "$(python -c 'import cohort; print(cohort.__version__)')" ] || fail "the command and the client have different versions"

begun=$SECONDS
# 1: the server, in a terminal of its own.
cohort serve --port 0 >server.out 2>server.log &
pids+=($!)
for _ in $(seq 600); do grep -q '^listening on ' server.out && break; sleep 0.1; done
export COHORT_SERVER
COHORT_SERVER=$(sed -n 's/^listening on //p' server.out)
# 2: an account.
cohort signup --email you@example.org --password 'correct horse' >signup.log 2>&1
# 3: the peer, in another terminal.
COHORT_TOKEN=$(cohort token) cohort peer >peer.log 2>&1 &
pids+=($!)
# 4: the model.
cohort train own.csv --target kind --wait --output model.safetensors >train.log 2>&1
seconds=$((SECONDS - begun))
cohort predict model.safetensors own.csv >predicted.csv
python - <<'END'
import csv
import cohort

run = cohort.connect().run()
assert run.score > 0.9, run
model = cohort.Model.load("model.safetensors")
rows = list(csv.DictReader(open("own.csv")))
right = sum(predicted == row["kind"] for predicted, row in zip(model.predict(rows), rows)) / len(rows)
assert right > 0.9, right
END
echo "wheel-check: from the wheel to a model in 4 commands and $seconds s"
