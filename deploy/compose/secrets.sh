#!/bin/sh
# Makes what the parts of docker-compose.yml keep from each other, once: passwords, and the certificates of RabbitMQ. Each part sees its own folder
# of /secrets alone, a volume. Existing files are kept.
set -eu
umask 022
cd /secrets

secret() { # FILE: made when it is not there, printed.
    [ -s "$1" ] || openssl rand -hex 24 >"$1"
    cat "$1"
}

broker=$(secret broker/password)
database=$(secret database/password)
objects=$(secret objects/password)

if [ ! -s broker/server.pem ]; then
    cd broker
    openssl req -x509 -newkey rsa:3072 -nodes -days 3650 -subj "/CN=Cohort" -keyout /tmp/ca.key -out ca.pem 2>/dev/null
    openssl req -newkey rsa:3072 -nodes -subj "/CN=broker" -keyout server.key -out /tmp/server.csr 2>/dev/null
    printf 'subjectAltName=DNS:broker,DNS:localhost,IP:127.0.0.1\n' >/tmp/server.ext
    # The key of the authority is thrown away: nothing else is signed with it.
    openssl x509 -req -in /tmp/server.csr -CA ca.pem -CAkey /tmp/ca.key -CAcreateserial -days 3650 -extfile /tmp/server.ext -out server.new 2>/dev/null
    rm -f /tmp/ca.key ca.srl
    mv server.new server.pem
    cd ..
fi
cat >broker/rabbitmq.conf <<CONF
listeners.tcp = none
listeners.ssl.default = 5671
ssl_options.cacertfile = /secrets/ca.pem
ssl_options.certfile = /secrets/server.pem
ssl_options.keyfile = /secrets/server.key
ssl_options.verify = verify_none
management.ssl.port = 15671
management.ssl.cacertfile = /secrets/ca.pem
management.ssl.certfile = /secrets/server.pem
management.ssl.keyfile = /secrets/server.key
default_user = cohort
default_pass = $broker
CONF

cat >objects/s3.json <<JSON
{"identities": [{"name": "cohort", "credentials": [{"accessKey": "cohort", "secretKey": "$objects"}], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}
JSON

secret server/jwt-secret >/dev/null
cp broker/ca.pem server/ca.pem
printf 'amqps://cohort:%s@broker:5671?cacertfile=/secrets/ca.pem\n' "$broker" >server/broker-url
printf 'https://cohort:%s@broker:15671?cacertfile=/secrets/ca.pem\n' "$broker" >server/broker-admin-url
printf 'mongodb://cohort-server-database:%s@database:27017/cohort?authSource=admin&authMechanism=SCRAM-SHA-256\n' "$database" >server/database-url
printf '[default]\naws_access_key_id = cohort\naws_secret_access_key = %s\n' "$objects" >server/aws-credentials

secret account/password >/dev/null
[ -s server/invitation-code ] || openssl rand -hex 8 >server/invitation-code
cp server/invitation-code account/invitation-code
cp broker/ca.pem peer/ca.pem

# Readable by the account that runs in the image alone; the other images have separate accounts, and see one folder each.
chown -R 10001:10001 server account peer
chmod 700 server account peer
chmod 600 server/* account/*
chmod 644 broker/* database/* objects/*
