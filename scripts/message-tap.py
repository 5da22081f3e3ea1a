#!/usr/bin/env python3
"""Holds every command and event that passes through a RabbitMQ, whose tracing is on, against docs/messages/messages.schema.json:
message-tap.py AMQP_URL SCHEMA. Says "listening" once it does; on SIGTERM prints how many of each type came, and what did not fit; then exits with 1
if something did not."""

import collections
import json
import signal
import sys

import jsonschema
import pika

url, path = sys.argv[1:]
with open(path) as file:
    schema = json.load(file)
seen, wrong = collections.Counter(), []


def look(channel, method, properties, body):
    key = properties.headers["routing_keys"][0]
    if not key.endswith((".command", ".events")):
        return
    try:
        message = json.loads(body)
        kind = message["type"]
        seen[kind] += 1
        rules = {"$ref": f"#/$defs/{kind}", "$defs": schema["$defs"]} if kind in schema["$defs"] else False
        wrong.extend(f"{kind}: {error.json_path}: {error.message[:300]}" for error in jsonschema.Draft202012Validator(rules).iter_errors(message))
    except (ValueError, KeyError) as error:
        wrong.append(f"{key}: {error}")


connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
queue = channel.queue_declare("", exclusive=True).method.queue
channel.queue_bind(queue, "amq.rabbitmq.trace", "publish.#")
channel.basic_consume(queue, look, auto_ack=True)
signal.signal(signal.SIGTERM, lambda *_: channel.stop_consuming())
print("listening", flush=True)
channel.start_consuming()
print(json.dumps(seen))
print("\n".join(sorted(set(wrong))[:40]))
sys.exit(1 if wrong else 0)
