#!/usr/bin/env bash
# The Python client of clients/python as others get it: built as a wheel, installed, its types checked, its tests against a real server with
# real peers, and the notebook.
set -euo pipefail
cd "$(dirname "$0")/.."
export PIP_CONSTRAINT="$PWD/scripts/constraints.txt"

export COHORT_BINARY="${COHORT_BINARY:-$PWD/.build/debug/cohort}"
tools="$PWD/.build-tools/python-client"
python="$tools/bin/python"
[ -x "$COHORT_BINARY" ] || swift build --product cohort
if ! "$python" -c 'import build, httpx, ipykernel, mypy, nbclient, pandas, pytest, setuptools, sklearn' 2>/dev/null; then
    python3 -m venv "$tools"
    "$python" -m pip install --quiet --disable-pip-version-check build httpx ipykernel mypy nbclient pandas pytest scikit-learn 'setuptools>=77'
fi
folder=$(mktemp -d /tmp/cohort-python.XXXXXX)
trap 'rm -rf "$folder"' EXIT
cp -r clients/python "$folder/source"
cd "$folder/source"
"$python" -m build --no-isolation --wheel --outdir "$folder/dist" . >"$folder/build.log" 2>&1 || { tail -n 20 "$folder/build.log"; exit 1; }
"$python" -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps "$folder"/dist/cohort_client-*.whl
"$python" -m mypy
cd "$OLDPWD/clients/python"
PYTHONDONTWRITEBYTECODE=1 "$python" -m pytest -q -p no:cacheprovider tests
