#!/usr/bin/env bash
# The Python wheel with the executable inside, in dist/: one `pip install` of the file gives `import cohort` and the command `cohort`. It is the
# client's wheel and what `make dist` has put into the archive, so it runs where that runs.
set -euo pipefail
cd "$(dirname "$0")/.."
export PIP_CONSTRAINT="$PWD/scripts/constraints.txt"

fail() {
    printf 'wheel: %s\n' "$*" >&2
    exit 1
}
machine=$(uname -m)
version=$(scripts/version.sh)
archive="dist/cohort-$version-linux-$machine.tar.gz"
[ -e "$archive" ] || fail "there is no $archive: make dist"
grep -q "^version = \"$version\"$" clients/python/pyproject.toml || fail "clients/python/pyproject.toml has another version than $version"
tools="$PWD/.build-tools/wheel"
python="$tools/bin/python"
if ! "$python" -c 'import build, setuptools, wheel' 2>/dev/null; then
    python3 -m venv "$tools"
    "$python" -m pip install --quiet --disable-pip-version-check build 'setuptools>=77' wheel
fi
work=$(mktemp -d /tmp/cohort-wheel.XXXXXX)
trap 'rm -rf "$work"' EXIT

cp -r clients/python "$work/source"
"$python" -m build --no-isolation --wheel --outdir "$work/pure" "$work/source" >"$work/build.log" 2>&1 || { tail -n 20 "$work/build.log" >&2; exit 1; }
"$python" -m wheel unpack --dest "$work" "$work"/pure/cohort_client-*.whl >/dev/null
tree="$work/cohort_client-$version"
tar -xzf "$archive" -C "$work"
unpacked="$work/cohort-$version-linux-$machine"
# Files of `scripts` go to the environment's bin, those of `data` below its root: the executable finds its libraries at ../lib/cohort.
data="$tree/cohort_client-$version.data"
mkdir -p "$data/scripts" "$data/data/lib" "$data/data/share/cohort" "$data/data/share/man" "$data/data/share/doc/cohort"
cp "$unpacked/bin/cohort" "$data/scripts/"
cp -r "$unpacked/lib/cohort" "$data/data/lib/"
cp "$unpacked/share/cohort/penguins.csv" "$data/data/share/cohort/"
cp -r "$unpacked/share/man/man1" "$data/data/share/man/"
cp -r "$unpacked/share/doc/cohort/licences" "$data/data/share/doc/cohort/"
# The newest symbols of glibc that anything inside needs.
glibc=$(find "$data/scripts" "$data/data/lib" -type f -exec objdump -T {} + 2>/dev/null | grep -oE 'GLIBC_[0-9]+\.[0-9]+' | sort -uV | tail -n 1)
[ -n "$glibc" ] || fail "objdump tells no version of glibc (apt-get install binutils)"
tag="manylinux_$(tr . _ <<<"${glibc#GLIBC_}")_$machine"
sed -i -e 's/^Root-Is-Purelib: .*/Root-Is-Purelib: false/' -e "s/^Tag: .*/Tag: py3-none-$tag/" "$tree/cohort_client-$version.dist-info/WHEEL"
mkdir -p dist
rm -f dist/cohort_client-*-"$machine".whl
"$python" -m wheel pack --dest-dir dist "$tree" >/dev/null
printf 'dist/%s\n' "$(basename dist/cohort_client-"$version"-py3-none-"$tag".whl)"
(cd dist && sha256sum cohort*"$version"* >SHA256SUMS)
