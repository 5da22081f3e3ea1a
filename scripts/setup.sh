#!/usr/bin/env bash
# Installs what building Cohort needs, or says what is missing and how to get it. Run again, it does nothing.
set -euo pipefail

fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

command -v swift >/dev/null 2>&1 || fail "Swift is missing. Install Swift 6.2 or newer from https://www.swift.org/install and run this again."
version=$(swift --version 2>/dev/null | sed -nE 's/.*Swift version ([0-9]+)\.([0-9]+).*/\1 \2/p' | head -n 1)
read -r major minor <<<"${version:-0 0}"
if ((major < 6 || (major == 6 && minor < 2))); then
    fail "Swift ${major}.${minor} is too old: 6.2 or newer is needed, from https://www.swift.org/install."
fi

# What it is for: BLAS for training large nets, SQLite for documents, libxcrypt for bcrypt, the headers of librabbitmq and libmongoc for RabbitMQ and MongoDB; pkg-config finds SQLite.
packages=(libopenblas0 libsqlite3-dev libcrypt-dev librabbitmq-dev libmongoc-dev pkg-config)
# For the tests alone: Python and NumPy run the script of docs/model-file.md, openssl makes certificates.
if [ "${1:-}" = test ]; then packages+=(openssl python3 python3-numpy); fi
# Docker Compose, and what makes base images where none can be pulled.
if [ "${1:-}" = docker ]; then
    packages+=(debootstrap openssl python3 python3-venv)
    command -v dockerd >/dev/null 2>&1 || [ -x /usr/sbin/dockerd ] || docker info >/dev/null 2>&1 || packages+=(docker.io)
    command -v docker-compose >/dev/null 2>&1 || docker compose version >/dev/null 2>&1 || packages+=(docker-compose)
fi
# The real servers.
if [ "${1:-}" = api ]; then packages+=(curl python3 python3-venv); fi
if [ "${1:-}" = dist ]; then packages+=(binutils debootstrap procps python3); fi
if [ "${1:-}" = lint ]; then packages+=(nodejs python3); fi
if [ "${1:-}" = torch ]; then packages+=(cmake g++ make python3 python3-venv); fi
if [ "${1:-}" = python ]; then packages+=(python3 python3-venv); fi
if [ "${1:-}" = browser ]; then packages+=(chromium python3 python3-venv); fi
if [ "${1:-}" = integration ]; then packages+=(rabbitmq-server openssl python3 python3-venv util-linux); fi

case "$(uname -s)" in
Linux)
    if command -v dpkg-query >/dev/null 2>&1; then
        missing=()
        for package in "${packages[@]}"; do
            state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
            [ "$state" = installed ] || missing+=("$package")
        done
        [ ${#missing[@]} -eq 0 ] && exit 0
        run=()
        if [ "$(id -u)" -ne 0 ]; then
            command -v sudo >/dev/null 2>&1 || fail "as root, run: apt-get install ${missing[*]}"
            run=(sudo)
        fi
        printf 'setup: installing %s\n' "${missing[*]}"
        "${run[@]}" apt-get update -qq
        "${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}"
    else
        pkg-config --exists sqlite3 librabbitmq libmongoc-1.0 2>/dev/null && { [ "${1:-}" != test ] || python3 -c 'import numpy' 2>/dev/null; } && exit 0
        fail "this is not Debian or Ubuntu: install OpenBLAS, the development files of SQLite 3, libxcrypt, librabbitmq (rabbitmq-c) and libmongoc (mongo-c-driver 1.x), pkg-config, and for the tests Python 3 with NumPy, with your package manager (Fedora: dnf install openblas sqlite-devel libxcrypt-devel librabbitmq-devel mongo-c-driver-devel pkgconf python3-numpy)."
    fi
    ;;
*)
    fail "Cohort runs on Linux for now. On this system, use a Linux virtual machine or container (Debian 12 or Ubuntu 22.04)."
    ;;
esac
