#!/usr/bin/env bash
# Parses the scripts of the pages, without running them.
set -euo pipefail
cd "$(dirname "$0")/.."

for file in Sources/CPages/files/*.js; do
    node --input-type=module --check <"$file" || { printf 'pages-check: %s cannot be parsed\n' "$file" >&2; exit 1; }
done
sh -n Sources/CPages/files/join.sh
