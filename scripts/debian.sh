#!/usr/bin/env bash
# A minimal Debian, made once by debootstrap and copied by what needs one: debian.sh RELEASE prints its folder. It needs root.
set -euo pipefail
cd "$(dirname "$0")/.."

release=$1
base=$PWD/.build-tools/debian/$release
mkdir -p "$(dirname "$base")"
# One at a time: two scripts may want it at once.
exec 9>"$base.lock"
flock 9
if [ ! -e "$base.done" ]; then
    rm -rf --one-file-system "$base"
    debootstrap --variant=minbase --include=ca-certificates "$release" "$base" >"$base.log" 2>&1 || {
        tail -n 20 "$base.log" >&2
        printf 'debian: debootstrap cannot make a Debian %s\n' "$release" >&2
        exit 1
    }
    # Packages start no services in a chroot.
    printf '#!/bin/sh\nexit 101\n' >"$base/usr/sbin/policy-rc.d"
    chmod +x "$base/usr/sbin/policy-rc.d"
    touch "$base.done"
fi
printf '%s\n' "$base"
