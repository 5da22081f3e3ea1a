#!/usr/bin/env bash
# The Python client of clients/python as others get it: built as a wheel, installed, its types checked, its tests against a real server with
# real peers, and the notebook.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/python-environment.sh
(cd "$folder/source" && "$python" -m mypy)
cd clients/python
PYTHONDONTWRITEBYTECODE=1 "$python" -m pytest -q -p no:cacheprovider tests
