#!/bin/sh
# Installs Cohort for you alone (no root is needed), and starts a peer of @server@:
#     curl … | sh -s -- TOKEN [options of `cohort peer`]
# Without a TOKEN (or COHORT_TOKEN) it installs, and says how to go on.
set -eu

fail() {
    printf 'join: %s\n' "$*" >&2
    exit 1
}

main() {
    server='@server@'

    system="$(uname -s) $(uname -m)"
    case "$system" in
    # The archives: @archives@
    *) fail "this server hands out @names@, and this machine is $system: build Cohort here (make build), and run: cohort peer --server $server@fingerprint@" ;;
    esac
    for tool in curl tar sha256sum; do
        command -v "$tool" >/dev/null 2>&1 || fail "$tool is missing: install it with your package manager, and run this again"
    done

    home="${XDG_DATA_HOME:-$HOME/.local/share}/cohort/releases"
    folder="$home/$(printf %.16s "$sha256")"
    if [ ! -x "$folder/bin/cohort" ]; then
        mkdir -p "$home"
        part=$(mktemp -d "$home/part.XXXXXX")
        trap 'rm -rf "$part"' EXIT
        trap 'exit 130' INT TERM HUP
        printf 'join: fetching %s (%s MB)\n' "$name" "$megabytes" >&2
        curl -fsS --retry 3@pinned@ -o "$part/archive" "$server/join/archive?machine=$machine" || fail "failed to download the archive from $server"
        printf '%s  %s\n' "$sha256" "$part/archive" | sha256sum -c - >/dev/null 2>&1 ||
            fail "what came is not what $server promised (its SHA-256 differs): run this again"
        mkdir "$part/tree"
        tar -xzf "$part/archive" -C "$part/tree" --strip-components=1 || fail "failed to unpack the archive in $home: is the disk full?"
        # Another one may have been faster.
        mv -T "$part/tree" "$folder" 2>/dev/null || [ -x "$folder/bin/cohort" ] || fail "failed to create $folder"
        rm -rf "$part"
        trap - EXIT INT TERM HUP
    fi
    "$folder/bin/cohort" --version >/dev/null || fail "Cohort does not run here: it needs glibc 2.35 or newer (Debian 12, Ubuntu 22.04, Fedora 36)"
    mkdir -p "$HOME/.local/bin"
    # A program of yours with that name stays.
    if [ -L "$HOME/.local/bin/cohort" ] || [ ! -e "$HOME/.local/bin/cohort" ]; then ln -sfn "$folder/bin/cohort" "$HOME/.local/bin/cohort"; fi
    printf 'join: Cohort is installed: %s\n' "$HOME/.local/bin/cohort" >&2

    token="${COHORT_TOKEN:-}"
    case "${1:-}" in
    '' | -*) ;;
    *)
        token=$1
        shift
        ;;
    esac
    if [ -z "$token" ]; then
        printf 'join: a token of the person whose sessions this machine should train is needed (`cohort token` makes one); then run:\n    %s peer --server %s@fingerprint@ --token TOKEN\n' "$HOME/.local/bin/cohort" "$server" >&2
        exit 0
    fi
    # All users of this machine can see a token in the arguments.
    export COHORT_TOKEN="$token"
    exec "$folder/bin/cohort" peer --server "$server"@fingerprint@ "$@" </dev/null
}

main "$@"
