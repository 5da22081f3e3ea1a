#!/usr/bin/env bash
# Makes FOLDER/ca.pem, other.pem (a CA that signed nothing), and server and client certificates for loopback: certificates.sh FOLDER
set -euo pipefail

mkdir -p "$1"
cd "$1"
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=Cohort test CA" -keyout ca.key -out ca.pem 2>/dev/null
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=Another CA" -keyout other.key -out other.pem 2>/dev/null
for name in server client; do
    openssl req -newkey rsa:2048 -nodes -subj "/CN=$name" -keyout "$name.key" -out "$name.csr" 2>/dev/null
    printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\n' >"$name.ext"
    openssl x509 -req -in "$name.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile "$name.ext" -out "$name.pem" 2>/dev/null
done
chmod 644 ./*.key
