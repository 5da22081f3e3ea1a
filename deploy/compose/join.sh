#!/bin/sh
# Makes the join token that the peers of docker-compose.yml come in by, once: a separate account at the server, and a token of it.
set -eu
email=peers@compose.invalid
[ ! -s /secrets/peer/token ] || exit 0
COHORT_INVITATION=$(cat /secrets/account/invitation-code)
export COHORT_INVITATION
cohort signup --server "$COHORT_SERVER" --email "$email" --name "Compose" </secrets/account/password ||
    cohort login --server "$COHORT_SERVER" --email "$email" </secrets/account/password
umask 077
cohort token --name "docker-compose" >/secrets/peer/token.new
mv /secrets/peer/token.new /secrets/peer/token
