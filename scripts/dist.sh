#!/usr/bin/env bash
# Makes dist/cohort-VERSION-linux-MACHINE.tar.gz and dist/cohort_VERSION_ARCHITECTURE.deb of .build/release/cohort, with their SHA-256.
# The same build makes the same archive, byte for byte.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    printf 'dist: %s\n' "$*" >&2
    exit 1
}

binary="${COHORT_BINARY:-.build/release/cohort}"
[ -x "$binary" ] || fail "$binary is not there: make build"
if readelf -d "$binary" | grep -q 'libswiftCore'; then fail "$binary needs Swift's libraries at run time: build it with --static-swift-stdlib, as make build does"; fi
version=$("$binary" --version)
name="cohort-$version-linux-$(uname -m)"
# Of the last commit, where there is one: files of the archive have its time.
time=$(git log -1 --format=%ct 2>/dev/null || date +%s)
mkdir -p dist
work=$(mktemp -d "$PWD/dist/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
tree="$work/$name"

umask 022
mkdir -p "$tree"/{bin,lib/cohort} "$tree"/share/{man/man1,cohort,doc/cohort/{docs,licences}} \
    "$tree"/share/{bash-completion/completions,zsh/site-functions,fish/vendor_completions.d}
strip --strip-all -o "$tree/bin/cohort" "$binary"
"$binary" --generate-completion-script bash >"$tree/share/bash-completion/completions/cohort"
"$binary" --generate-completion-script zsh >"$tree/share/zsh/site-functions/_cohort"
"$binary" --generate-completion-script fish >"$tree/share/fish/vendor_completions.d/cohort.fish"
"$binary" --experimental-dump-help | python3 scripts/man-page.py "$version" "$time" | gzip -9n >"$tree/share/man/man1/cohort.1.gz"
cp Examples/penguins.csv "$tree/share/cohort/"
cp README.md CHANGELOG.md LICENSE "$tree/share/doc/cohort/"
cp -r docs/*.md docs/images "$tree/share/doc/cohort/docs/"
# Of the packages that the executable is linked with.
for file in .build/checkouts/*/{LICENSE,NOTICE}*; do
    [ -e "$file" ] || continue
    package=$(basename "$(dirname "$file")")
    cp -L "$file" "$tree/share/doc/cohort/licences/$package-$(basename "$file")"
done

# The .deb takes libraries from Debian; the archive brings those that a machine may not have.
debian="$work/debian"
mkdir -p "$debian/usr" "$debian/DEBIAN"
cp -a "$tree"/{bin,share} "$debian/usr/"
libraries=$({
    ldd "$binary" | awk '/=>/ { print $3 }'
    library=$(ldconfig -p | awk '/libopenblas\.so\.0 .*x86-64|libopenblas\.so\.0 .*AArch64/ { print $NF; exit }')
    [ -n "$library" ] || fail "libopenblas.so.0 is not on this machine: scripts/setup.sh"
    echo "$library"
    ldd "$library" | awk '/=>/ { print $3 }'
} | sort -u)
for library in $libraries; do
    case $(basename "$library") in
    # glibc must be the machine's own, and so what every machine with it has.
    libz.so* | libc.so* | libm.so* | ld-linux* | libdl.so* | libpthread.so* | librt.so* | libresolv.so* | libstdc++.so* | libgcc_s.so*) continue ;;
    esac
    cp -L "$library" "$tree/lib/cohort/"
    file=$(readlink -f "$library")
    package=$(dpkg-query -S "$file" "${file#/usr}" 2>/dev/null | head -n 1 | cut -d: -f1) || true
    if [ -n "$package" ] && [ -e "/usr/share/doc/$package/copyright" ]; then cp -L "/usr/share/doc/$package/copyright" "$tree/share/doc/cohort/licences/$package-copyright"; fi
done

archive="dist/$name.tar.gz"
tar -C "$work" --sort=name --mtime="@$time" --owner=0 --group=0 --numeric-owner -cf - "$name" | gzip -9n >"$work/archive"
mv "$work/archive" "$archive"
printf '%s\n' "$archive"

if command -v dpkg-deb >/dev/null 2>&1; then
    architecture=$(dpkg --print-architecture)
    package="dist/cohort_${version}_$architecture.deb"
    # What `cohort serve` hands out to those who join.
    cp "$archive" "$debian/usr/share/cohort/"
    mv "$debian/usr/share/zsh/site-functions" "$debian/usr/share/zsh/vendor-completions"
    mv "$debian/usr/share/doc/cohort/LICENSE" "$debian/usr/share/doc/cohort/copyright"
    cat >"$debian/DEBIAN/control" <<END
Package: cohort
Version: $version
Architecture: $architecture
Maintainer: Cohort <cohort@localhost>
Section: science
Priority: optional
Installed-Size: $(du -sk "$debian/usr" | cut -f1)
Depends: libc6 (>= 2.35), libgcc-s1, libsqlite3-0 (>= 3.40), libstdc++6 (>= 12), zlib1g
Recommends: ca-certificates, curl, libopenblas0-pthread | libopenblas0
Suggests: libmongoc-1.0-0, librabbitmq4
Description: pool machines and train one model together
 Cohort trains a neural network on a CSV over the machines of a class, a lab
 or a few friends. One program is the server, the peers and the command line;
 with RabbitMQ, MongoDB and S3 it can stand on servers that are there already.
END
    find "$debian" -print0 | xargs -0 touch -h -d "@$time"
    SOURCE_DATE_EPOCH=$time dpkg-deb --root-owner-group -Zxz --build "$debian" "$package" >/dev/null
    printf '%s\n' "$package"
fi
(cd dist && sha256sum cohort*"$version"* >SHA256SUMS)
printf 'dist/SHA256SUMS\n'
