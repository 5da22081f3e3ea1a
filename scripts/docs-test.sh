#!/usr/bin/env bash
# The code blocks of README and docs, run against real servers and peers; commands and settings in the text held against the program.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/python-environment.sh
"$python" scripts/docs-test.py "$@"
