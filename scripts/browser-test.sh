#!/usr/bin/env bash
# The pages in a real browser, headless, against a real server with real peers (Tests/Browser). `browser-test.sh fetch` only makes its environment.
set -euo pipefail
cd "$(dirname "$0")/.."
export PIP_CONSTRAINT="$PWD/scripts/constraints.txt"

export COHORT_BINARY="${COHORT_BINARY:-$PWD/.build/debug/cohort}"
tools="$PWD/.build-tools/browser"
if ! "$tools/bin/python" -c 'import axe_playwright_python, playwright, pytest' 2>/dev/null; then
    python3 -m venv "$tools"
    "$tools/bin/python" -m pip install --quiet --disable-pip-version-check axe-playwright-python playwright pytest
fi
[ "${1:-}" = fetch ] && exit
[ -x "$COHORT_BINARY" ] || swift build --product cohort
cd Tests/Browser
PYTHONDONTWRITEBYTECODE=1 "$tools/bin/python" -m pytest -q -p no:cacheprovider .
