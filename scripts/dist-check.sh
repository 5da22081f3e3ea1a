#!/usr/bin/env bash
# Tries what scripts/dist.sh has made in a separate Debian 12, which has nothing but its base: the package, the archive, and the server's
# `curl … | sh`. It needs root, for debootstrap and chroot; without it, it ends with 77.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    printf 'dist-check: %s\n' "$*" >&2
    exit 1
}
if [ "$(id -u)" -ne 0 ] || ! command -v debootstrap >/dev/null 2>&1; then
    printf 'dist-check: a root and debootstrap are needed (apt-get install debootstrap)\n' >&2
    exit 77
fi
(cd dist && sha256sum --quiet -c SHA256SUMS)
archive=$(ls dist/cohort-*-linux-"$(uname -m)".tar.gz)
package=$(ls dist/cohort_*_"$(dpkg --print-architecture)".deb)

folder=$(mktemp -d /tmp/cohort-dist.XXXXXX)
server=
cleanup() {
    local code=$?
    [ -z "$server" ] || { kill "$server" 2>/dev/null || true; }
    pkill -TERM -f -- "--name joiner-$$" || true
    [ "$code" -eq 0 ] || tail -n 20 "$folder"/*.log >&2 2>/dev/null || true
    for place in proc dev/null; do umount "$folder"/*/$place 2>/dev/null || true; done
    rm -rf --one-file-system "$folder"
}
trap cleanup EXIT

# Two machines: one with the package, one that only joins.
cp -a "$(scripts/debian.sh bookworm)" "$folder/joiner"
chroot "$folder/joiner" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends curl >"$folder/curl.log" 2>&1 || fail "curl could not be installed"
cp -a "$folder/joiner" "$folder/packaged"
for root in joiner packaged; do
    mount -t proc proc "$folder/$root/proc" 2>/dev/null || mount --rbind /proc "$folder/$root/proc" || {
        printf 'dist-check: /proc cannot be mounted in a chroot here\n' >&2
        exit 77
    }
    chroot "$folder/$root" useradd --create-home ada
done
as_ada() { # ROOT COMMAND: as somebody who is not root.
    local root=$1
    shift
    chroot --userspec=ada "$folder/$root" env -i HOME=/home/ada PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 "$@"
}

echo "the package installs with what it needs, and the demo runs"
cp "$package" "$folder/packaged/tmp/cohort.deb"
chroot "$folder/packaged" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends /tmp/cohort.deb >"$folder/apt.log" 2>&1 || fail "apt-get cannot install $package"
as_ada packaged cohort demo >"$folder/demo.log" 2>&1 || fail "the demo fails"
grep -q 'Three predictions' "$folder/demo.log" || fail "the demo predicts nothing"
[ -s "$folder/packaged/usr/share/man/man1/cohort.1.gz" ] || fail "there is no manual page"
as_ada packaged bash -c '. /usr/share/bash-completion/completions/cohort && complete -p cohort' >/dev/null || fail "bash does not complete"

echo "the archive runs where it is unpacked, with its libraries"
tar -xzf "$archive" -C "$folder/joiner/home/ada"
mv "$folder/joiner/home/ada"/cohort-* "$folder/joiner/home/ada/unpacked"
# docs/install.md and the script of /join name this version.
newer=$(objdump -T "$folder"/joiner/home/ada/unpacked/{bin/*,lib/cohort/*} | grep -oE 'GLIBC_2\.[0-9]+' | sort -uV | awk -F. '$2 > 35')
[ -z "$newer" ] || fail "the archive asks for $newer: docs/install.md promises GLIBC_2.35"
as_ada joiner unpacked/bin/cohort demo --peers 1 >"$folder/archive.log" 2>&1 || (cd / && as_ada joiner /home/ada/unpacked/bin/cohort demo --peers 1 >"$folder/archive.log" 2>&1) || fail "the unpacked demo fails"
rm -rf "$folder/joiner/home/ada/unpacked"

echo "a machine without Cohort joins with one line, over TLS with a new certificate"
chroot --userspec=ada "$folder/packaged" env -i HOME=/home/ada PATH=/usr/bin:/bin cohort serve --port 0 --tls auto >"$folder/server.out" 2>"$folder/server.log" &
server=$!
for _ in $(seq 300); do grep -q '^certificate fingerprint ' "$folder/server.out" && break; sleep 0.1; done
url=$(sed -n 's/^listening on //p' "$folder/server.out")
fingerprint=$(sed -n 's/^certificate fingerprint //p' "$folder/server.out")
pin=$(sed -n 's/^public key sha256\/\///p' "$folder/server.out")
as_ada packaged cohort signup --server "$url" --fingerprint "$fingerprint" --email ada@example.org --password 'correct horse' >/dev/null
token=$(as_ada packaged cohort token)
script=$(as_ada joiner curl -fsS --insecure --pinnedpubkey "sha256//$pin" "$url/join") || fail "the server hands out no script"
grep -q "$(sha256sum "$archive" | cut -d' ' -f1)" <<<"$script" || fail "the server hands out another archive than $archive"
as_ada joiner curl -fsS --insecure --pinnedpubkey 'sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=' "$url/join" >/dev/null 2>&1 && fail "another server's key is taken"
as_ada joiner sh -c "curl -fsS --insecure --pinnedpubkey 'sha256//$pin' '$url/join' | sh -s -- '$token' --name joiner-$$" >"$folder/joiner.log" 2>&1 &
peer=$!
as_ada packaged cohort train /usr/share/cohort/penguins.csv --target species --rounds 2 --wait -o /home/ada/model.safetensors >"$folder/train.log" 2>&1 || fail "training with the machine that joined fails"
grep -q "^joiner-$$" "$folder/train.log" || fail "it was not the machine that joined that trained"
as_ada packaged cohort predict /home/ada/model.safetensors /usr/share/cohort/penguins.csv >/dev/null || fail "the model does not predict"
pkill -TERM -f -- "bin/cohort peer .*--name joiner-$$"
wait "$peer" || fail "the peer does not end in order"
kill "$server"
wait "$server" || fail "the server does not end in order"
server=

echo "the package goes, and what people made stays"
chroot "$folder/packaged" env DEBIAN_FRONTEND=noninteractive apt-get remove -y -qq cohort >>"$folder/apt.log" 2>&1
[ ! -e "$folder/packaged/usr/bin/cohort" ] && [ -e "$folder/packaged/home/ada/model.safetensors" ] || fail "apt-get remove left or took the wrong things"
echo "dist-check: all of it works"
