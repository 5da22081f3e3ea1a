#!/usr/bin/env bash
# Holds the API's description against a running server, with programs that others wrote: openapi-spec-validator reads it, schemathesis
# sends what it allows and what it does not, openapi-python-client makes a client of it that starts a session and predicts.
set -euo pipefail
cd "$(dirname "$0")/.."
export PIP_CONSTRAINT="$PWD/scripts/constraints.txt"

export PATH="$PWD/.build-tools/api/bin:$PATH"
cohort="${COHORT_BINARY:-.build/debug/cohort}"
python=.build-tools/api/bin/python
if ! "$python" -c 'import schemathesis, openapi_python_client, openapi_spec_validator, ruff' 2>/dev/null; then
    python3 -m venv .build-tools/api
    "$python" -m pip install --quiet --disable-pip-version-check 'schemathesis==4.*' openapi-python-client openapi-spec-validator ruff
fi
[ -x "$cohort" ] || swift build --product cohort
folder=$(mktemp -d /tmp/cohort-api.XXXXXX)
export XDG_CONFIG_HOME="$folder/config" COHORT_LOG_LEVEL=warning
pids=()
trap 'for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; done; rm -rf "$folder"' EXIT

"$cohort" serve --port 0 --data-dir "$folder/server" >"$folder/server.out" 2>"$folder/server.log" &
pids+=($!)
for _ in $(seq 300); do grep -q '^listening on ' "$folder/server.out" && break; sleep 0.1; done
url=$(sed -n 's/^listening on //p' "$folder/server.out")
"$cohort" signup --server "$url" --email api@example.org --password 'correct horse' >/dev/null
token=$("$cohort" token)
COHORT_TOKEN="$token" "$cohort" peer --server "$url" --name api-peer --data-dir "$folder/peer" 2>"$folder/peer.log" &
pids+=($!)
"$cohort" train Examples/penguins.csv --target species --rounds 2 --seed 1 --wait --json >"$folder/train.json" || { tail -1 "$folder/train.json"; exit 1; }
user=$("$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["access_token"])' "$XDG_CONFIG_HOME/cohort/credentials.json")
session=$("$python" -c 'import json, sys; print(json.loads(open(sys.argv[1]).readline())["session_id"])' "$folder/train.json")

curl -sS "$url/openapi.json" >"$folder/openapi.json"
"$python" -m openapi_spec_validator "$folder/openapi.json"

# What a password or a CSV must be, a schema does not say: positive_data_acceptance is left out. As a person, with the session that is there; what ends it, or changes the password, is not for a program that tries everything. A stream
# has no end to wait for.
cat >"$folder/schemathesis.toml" <<END
[parameters]
"path.id" = "$session"
"query.session_id" = "$session"

# A session that it started may still have the peer: "try again later" is then the right answer, and described.
[[operations]]
include-path-regex = "^/sessions/(start|check)$"
checks.not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 503]
END
# From the folder, where it leaves what it keeps for later.
st="$PWD/.build-tools/api/bin/st"
(cd "$folder" && "$st" --config-file schemathesis.toml run "$url/openapi.json" -H "Authorization: Bearer $user" \
    --checks all --exclude-checks positive_data_acceptance --phases examples,coverage,fuzzing --max-examples 20 --seed 1 \
    --include-path-regex '^/(sessions|auth|peers$|health|metrics|openapi)' --exclude-path-regex '(events|/auth/password)$' \
    --exclude-operation-id delete_session --exclude-operation-id delete_account --exclude-operation-id sign_out --request-timeout 20 --no-color)

# A client made of the description.
printf 'content_type_overrides:\n  text/csv: application/octet-stream\n' >"$folder/generator.yaml"
(cd "$folder" && "$OLDPWD/.build-tools/api/bin/openapi-python-client" generate --config generator.yaml --path openapi.json --meta none --output-path "$folder/client" >"$folder/generate.log" 2>&1) ||
    { cat "$folder/generate.log"; exit 1; }
# It knows no application/x-ndjson, which a peer's events may come as; everything else it must understand.
if grep -E '^(WARNING|ERROR)' "$folder/generate.log" | grep -v 'POST /peers/{id}/events'; then
    cat "$folder/generate.log"
    exit 1
fi
PYTHONPATH="$folder" "$python" scripts/generated-client.py "$url"
echo "the API is as it is described"
