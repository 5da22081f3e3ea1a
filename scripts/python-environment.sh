# Sourced by what tests with Python: $python is the interpreter of an environment that has the client of clients/python, installed as a wheel.
export PIP_CONSTRAINT="$PWD/scripts/constraints.txt"
export COHORT_BINARY="${COHORT_BINARY:-$PWD/.build/debug/cohort}"
tools="$PWD/.build-tools/python-client"
python="$tools/bin/python"
[ -x "$COHORT_BINARY" ] || swift build --product cohort
if ! "$python" -c 'import build, httpx, ipykernel, mypy, nbclient, pandas, pytest, setuptools, sklearn, yaml' 2>/dev/null; then
    python3 -m venv "$tools"
    "$python" -m pip install --quiet --disable-pip-version-check build httpx ipykernel mypy nbclient pandas pytest pyyaml scikit-learn 'setuptools>=77'
fi
folder=$(mktemp -d /tmp/cohort-python.XXXXXX)
trap 'rm -rf "$folder"' EXIT
cp -r clients/python "$folder/source"
cd "$folder/source"
"$python" -m build --no-isolation --wheel --outdir "$folder/dist" . >"$folder/build.log" 2>&1 || { tail -n 20 "$folder/build.log"; exit 1; }
"$python" -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps "$folder"/dist/cohort_client-*.whl
cd "$OLDPWD"
