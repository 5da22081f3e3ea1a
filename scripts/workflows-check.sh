#!/usr/bin/env bash
# Holds .github/ against its schemas and zizmor's rules, and the cluster templates against their languages. They run elsewhere: this is their test here.
set -euo pipefail
cd "$(dirname "$0")/.."
export PIP_CONSTRAINT="$PWD/scripts/constraints.txt"

tools="$PWD/.build-tools/workflows"
if [ ! -x "$tools/bin/zizmor" ] || [ ! -x "$tools/bin/check-jsonschema" ]; then
    python3 -m venv "$tools"
    "$tools/bin/python" -m pip install --quiet --disable-pip-version-check check-jsonschema zizmor
fi
"$tools/bin/check-jsonschema" --builtin-schema vendor.github-workflows .github/workflows/*.yml
"$tools/bin/check-jsonschema" --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/idea.yml
"$tools/bin/zizmor" --offline --quiet .github/workflows
bash -n deploy/cluster/cohort.sbatch
# An Apptainer definition is headers and then sections, whose scripts are a shell's.
python3 - deploy/cluster/cohort.def <<'END'
import re, subprocess, sys

text = open(sys.argv[1]).read()
head, *sections = re.split(r"^%(\w+)\n", text, flags=re.MULTILINE)
headers = dict(line.split(": ", 1) for line in head.splitlines() if line and not line.startswith("#"))
assert headers.keys() == {"Bootstrap", "From"}, headers
named = dict(zip(sections[::2], sections[1::2]))
assert named.keys() <= {"files", "post", "runscript", "test", "environment", "labels", "help"}, named.keys()
for name in named.keys() & {"post", "runscript", "test"}:
    subprocess.run(["sh", "-n"], input=named[name], text=True, check=True)
END
