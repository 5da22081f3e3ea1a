#!/usr/bin/env bash
# Holds deploy/kubernetes/ against the schemas of several versions of Kubernetes, which the PyPI package kubernetes-validate carries.
set -euo pipefail

action=check folder=none
# shellcheck source=scripts/server.sh
. "$(dirname "$0")/server.sh"
cd "$(dirname "$0")/.."

if [ ! -x "$tools/kubernetes/bin/kubernetes-validate" ]; then
    { python3 -m venv "$tools/kubernetes" && "$tools/kubernetes/bin/python" -m pip install --quiet --disable-pip-version-check kubernetes-validate; } >&2 ||
        fail "kubernetes-validate could not be installed from PyPI"
fi
for version in 1.30 1.33 1.36; do
    "$tools/kubernetes/bin/kubernetes-validate" --strict --quiet -k "$version" deploy/kubernetes/*.yaml
done
