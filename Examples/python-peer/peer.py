#!/usr/bin/env python3
"""A peer of Cohort in Python: it joins a server, listens at its RabbitMQ and trains with NumPy. Written from docs/protocol.md alone.

    pip install -r requirements.txt
    python3 peer.py --server http://SERVER:8080 --token TOKEN [--name NAME] [--serve everyone] [--ca-file CA.pem]
"""

import argparse
import collections
import hashlib
import hmac
import json
import logging
import os
import random
import signal
import socket
import ssl
import sys
import threading
import urllib.error

import pika
import pika.exceptions

from server import Server
from work import Work

log = logging.getLogger("peer")


class Peer:
    """The AMQP side: commands in, events out, over connections that may break."""

    def __init__(self, arguments):
        self.server, self.ca_file = Server(arguments), arguments.ca_file
        self.outbox, self.lock, self.connection, self.channel = collections.deque(), threading.Lock(), None, None
        self.work = Work(self.server, self.send)
        self.ended = threading.Event()

    def send(self, event):
        """From any thread. It is published in turn, and kept until the broker has it."""
        with self.lock:
            self.outbox.append(event)
            connection = self.connection
        if connection:
            try:
                connection.add_callback_threadsafe(self.flush)
            except pika.exceptions.ConnectionWrongStateError:
                pass  # The next connection begins with what is left.

    def flush(self):
        while self.outbox:
            event = self.outbox[0]
            body = json.dumps(event).encode()
            headers = {"cohort-peer": self.server.id, "cohort-registration": str(self.server.registration),
                       "cohort-signature": hmac.new(self.server.broker["key"].encode(), body, hashlib.sha256).hexdigest()}
            try:
                self.channel.basic_publish(
                    self.server.broker["event_exchange"], f"coordinator.{event['session_id']}.events", body,
                    pika.BasicProperties(content_type="application/json", delivery_mode=2, headers=headers), mandatory=True)
            except pika.exceptions.UnroutableError:
                log.info("session %s is over", event["session_id"])
                self.work.stopped.add(event["session_id"])
            with self.lock:
                self.outbox.popleft()

    def connect(self):
        parameters = pika.URLParameters(self.server.broker["url"].split("?")[0])
        parameters.heartbeat, parameters.blocked_connection_timeout = 30, 300
        if self.server.broker["url"].startswith("amqps:"):
            parameters.ssl_options = pika.SSLOptions(ssl.create_default_context(cafile=self.ca_file), parameters.host)
        self.connection = pika.BlockingConnection(parameters)
        self.channel = self.connection.channel()
        self.channel.confirm_delivery()
        self.channel.basic_qos(prefetch_count=1)
        self.gone = False
        self.channel.add_on_cancel_callback(lambda frame: self.give_up())
        self.channel.basic_consume(self.server.broker["command_queue"], self.receive)
        log.info("connected to RabbitMQ")
        self.flush()

    def receive(self, channel, method, properties, body):
        channel.basic_ack(method.delivery_tag)  # On acceptance: the work may take long.
        try:
            self.work.obey(json.loads(body))
        except (ValueError, KeyError) as error:
            log.warning("a command that cannot be read was ignored: %s", error)

    def give_up(self):
        """The server has given this registration up."""
        self.gone = True
        if self.channel and self.channel.is_open:
            self.channel.stop_consuming()

    def close(self):
        self.ended.set()
        connection = self.connection
        if connection and connection.is_open:
            connection.add_callback_threadsafe(self.channel.stop_consuming)

    def run(self):
        wait = 0.5
        while not self.ended.is_set():
            beating, registered = threading.Event(), False
            try:
                self.server.register()
                registered = True
                on_gone = lambda: self.connection and self.connection.is_open and self.connection.add_callback_threadsafe(self.give_up)
                threading.Thread(target=self.server.beat, args=(beating, on_gone), daemon=True).start()
                while not self.ended.is_set():
                    try:
                        self.connect()
                        wait = 0.5
                        self.channel.start_consuming()
                        if self.gone:
                            break
                    except (pika.exceptions.ProbableAuthenticationError, pika.exceptions.ProbableAccessDeniedError,
                            pika.exceptions.ChannelClosedByBroker):
                        break  # The account or the queue went with the registration.
                    except (pika.exceptions.AMQPError, OSError) as error:
                        log.warning("RabbitMQ is away: %r", error)
                        self.ended.wait(wait * random.uniform(0.5, 1.5))
                        wait = min(wait * 2, 30)
            except urllib.error.HTTPError as error:
                detail = error.read().decode(errors="replace")
                if error.code in (400, 401, 403):
                    sys.exit(f"the server refuses this peer ({error.code}): {detail}")
                if error.code == 409:
                    self.server.credential = None  # Another has taken this peer's id over: join as a new one.
                log.warning("registering was answered %s: %s", error.code, detail)
                self.ended.wait(wait)
                wait = min(wait * 2, 30)
            except OSError as error:
                log.warning("the server is away: %s", error)
                self.ended.wait(wait * random.uniform(0.5, 1.5))
                wait = min(wait * 2, 30)
            finally:
                beating.set()
                if self.connection and self.connection.is_open:
                    self.connection.close()
                if registered and self.ended.is_set():
                    self.server.leave()


def main():
    parser = argparse.ArgumentParser(description="A peer of Cohort in Python.")
    parser.add_argument("--server", default=os.environ.get("COHORT_SERVER"), help="the server's URL (COHORT_SERVER)")
    parser.add_argument("--token", default=os.environ.get("COHORT_TOKEN"), help="a join token, from `cohort token` (COHORT_TOKEN)")
    parser.add_argument("--name", default=socket.gethostname(), help="how others see this machine")
    parser.add_argument("--serve", default="mine", choices=["mine", "everyone"], help="whose sessions to train")
    parser.add_argument("--ca-file", default=os.environ.get("COHORT_BROKER_CA_FILE"), help="the authorities of the RabbitMQ's certificate (PEM)")
    arguments = parser.parse_args()
    if not arguments.server or not arguments.token:
        parser.error("--server and --token are needed")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("pika").setLevel(logging.ERROR)
    peer = Peer(arguments)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=peer.close).start())
    peer.run()


if __name__ == "__main__":
    main()
