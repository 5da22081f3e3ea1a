#!/usr/bin/env python3
"""A peer of Cohort in Python: it joins a server, listens at its RabbitMQ and trains with NumPy. Written from docs/protocol.md alone.

    pip install -r requirements.txt
    python3 peer.py --server http://SERVER:8080 --token TOKEN [--name NAME] [--serve everyone] [--ca-file CA.pem]
"""

import argparse
import base64
import collections
import hashlib
import hmac
import io
import json
import logging
import math
import os
import platform
import queue
import random
import signal
import socket
import ssl
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
import pika
import pika.exceptions

from data import Table
from net import Net, Optimizer

log = logging.getLogger("peer")


class Stopped(Exception):
    """The work is not wanted any more."""


class Server:
    """The HTTP side: registering, beating, leaving, and links."""

    def __init__(self, arguments):
        self.url, self.token, self.arguments, self.credential = arguments.server.rstrip("/"), arguments.token, arguments, None

    def call(self, method, path, body=None, token=None):
        request = urllib.request.Request(self.url + path, method=method, data=None if body is None else json.dumps(body).encode())
        request.add_header("Authorization", f"Bearer {token or self.credential}")
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def register(self):
        body = {"name": self.arguments.name, "serve": self.arguments.serve, "transport": "amqp", "capabilities": self.capabilities()}
        if self.credential:
            body |= {"id": self.id, "credential": self.credential}
        answer = self.call("POST", "/peers", body, token=self.token)
        self.id, self.registration, self.credential = answer["peer_id"], answer["registration"], answer["credential"]
        self.interval, self.broker = answer["heartbeat_interval"], answer["broker"]
        log.info("registered as %s (%s)", self.arguments.name, self.id)

    def capabilities(self):
        if not hasattr(self, "speed"):
            # The protocol's small net, for a moment.
            net = Net({"inputs": 64, "hidden": [128, 64], "outputs": 10, "activation": "relu", "dropout": 0, "task": "classification"}, 1)
            net.initialize(1)
            adam = Optimizer({"name": "adam", "weight_decay": 0, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8})
            x, y = np.random.rand(64, 64).astype(np.float32), np.random.randint(0, 10, 64)
            begun, samples = time.perf_counter(), 0
            while time.perf_counter() - begun < 0.2:
                net.step(x, y, None, 0, adam, 0.001)
                samples += 64
            self.speed = samples / (time.perf_counter() - begun)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return {"cores": os.cpu_count() or 1, "memory_bytes": memory, "engine": "numpy", "device": "cpu",
                "samples_per_second": self.speed, "platform": platform.platform(), "version": "python-peer"}

    def beat(self, ended, on_gone):
        while not ended.wait(self.interval * random.uniform(0.8, 1.2)):
            try:
                self.call("POST", f"/peers/{self.id}/heartbeat", {"registration": self.registration})
            except urllib.error.HTTPError as error:
                if error.code in (404, 409):
                    return on_gone()
                log.warning("a beat was answered %s", error.code)
            except OSError as error:
                log.warning("the server is away: %s", error)

    def leave(self):
        self.call("DELETE", f"/peers/{self.id}?registration={self.registration}")

    def get(self, link, sha256):
        with urllib.request.urlopen(urllib.parse.urljoin(self.url, link), timeout=60) as answer:
            content = answer.read()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError("what was downloaded has another SHA-256")
        return content

    def put(self, link, content):
        request = urllib.request.Request(urllib.parse.urljoin(self.url, link), method="PUT", data=content)
        with urllib.request.urlopen(request, timeout=60):
            pass


class Work:
    """What TRAIN asks for, done on a separate thread."""

    def __init__(self, server, send):
        self.server, self.send = server, send
        self.commands = queue.Queue()
        self.tables, self.stopped, self.answers, self.newest = {}, set(), collections.OrderedDict(), {}
        self.optimizer = None, None  # whose it is, and the optimizer of the last round
        # Whose it is; what the answers that counted left: what rounding took, the control variate; the last answer's round, and what that left.
        self.left = None, (None, None), None, (None, None)
        threading.Thread(target=self.run, daemon=True).start()

    def obey(self, command):
        """Called on the connection's thread: never waits."""
        session, generation = command["session_id"], command.get("generation", 0)
        if command["type"] == "STOP":
            self.stopped.add(session)
        elif generation < self.newest.get(session, 0):
            return
        elif command["type"] == "REFUSED":
            log.warning("refused: %s", command["reason"])
            self.answers.clear()
        elif command["type"] in ("ENABLE", "TRAIN"):
            self.newest[session] = generation
            if command["type"] == "ENABLE":
                self.stopped.discard(session)
            self.commands.put(command)
        else:
            log.warning("unknown command %s", command["type"])

    def run(self):
        while True:
            command = self.commands.get()
            about = {"session_id": command["session_id"], "peer_id": self.server.id, "generation": command["generation"]}
            try:
                if command["type"] == "ENABLE":
                    prepare = command.get("prepare")
                    self.send({"type": "ENABLED", **about, "capabilities": self.server.capabilities(), "ready": prepare is None})
                    if prepare:
                        self.table(prepare, about)
                        self.send({"type": "READY", **about})
                elif command["session_id"] not in self.stopped:
                    self.send(self.answer(command, about))
            except Stopped:
                log.info("session %s wants no more work", command["session_id"])
            except Exception as error:
                log.exception("the work failed")
                self.send({"type": "ERROR", **about, "round": command.get("round", 0), "message": str(error)[:1000],
                           "retryable": isinstance(error, OSError)})

    def check(self, session):
        if session in self.stopped:
            raise Stopped

    def table(self, links, about):
        key = (links["csv_sha256"], links.get("schema_sha256"))
        if key not in self.tables:
            self.send({"type": "PROGRESS", **about, "phase": "loading", "progress": 0.0})
            schema = links.get("schema") or json.loads(self.server.get(links["schema_url"], links["schema_sha256"]))
            content = self.server.get(links["csv_url"], links["csv_sha256"])
            self.tables = {key: Table(io.BytesIO(content), schema)}
        return self.tables[key]

    def answer(self, train, about):
        key = (train["session_id"], train["generation"], train["round"], train.get("attempt", 0))
        if key in self.answers:
            return self.answers[key]  # A repeat.
        table = self.table(train, about)
        net = Net(train["model"], train["seed"])
        remembered = {}
        if train.get("weights_url"):
            data = base64.b64decode(train["weights"]) if train.get("weights") else b""
            good = hashlib.sha256(data).hexdigest() == train["weights_sha256"]
            remembered = net.load(data if good else self.server.get(train["weights_url"], train["weights_sha256"]), train.get("streams", []))
        else:
            net.initialize(train["model_seed"])
        part = train.get("validation_rows")
        held_out = table.validation[part["start"]:part["end"]] if part else table.validation
        results = {}
        if train.get("weights_url") and part:
            results["evaluation"] = net.counts(table, held_out)
        left, correction = self.settled(train), None
        if train.get("streams") == ["control_variate"] and train["epochs"]:
            of_all = remembered.get("control_variate") or [np.zeros_like(tensor) for tensor in net.parameters]
            own = left[1] or of_all
            correction = [mean - part for mean, part in zip(of_all, own)]
        results |= self.train(train, about, table, net, held_out, remembered, correction)
        if train["evaluate_after"]:
            results["own_evaluation"] = net.counts(table, held_out)
        self.check(train["session_id"])
        done = {"type": "DONE", **about, "round": train["round"], "attempt": train.get("attempt", 0), "results": results}
        if train.get("update_url"):
            optimizer = self.optimizer[1]
            if correction:
                streams = {"control_variate": self.mean_gradient(net, correction) if self.rates else own}
            else:
                streams = optimizer.streams(train.get("update_streams", train.get("streams", [])), net.parameters)
            content, rest = net.file(streams, train.get("update_compression"), left[0])
            self.left = train["session_id"], left, train["round"], (rest, streams.get("control_variate"))
            if streams and not correction:
                results["optimizer_steps"] = optimizer.steps
            done["update"] = {"key": train["update_key"], "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            if len(content) <= train.get("inline_update_bytes", 0):
                done["update_data"] = base64.b64encode(content).decode()
            else:
                self.send({"type": "PROGRESS", **about, "phase": "uploading", "progress": 0.0})
                self.server.put(train["update_url"], content)
        self.answers[key] = done
        while len(self.answers) > 4:
            self.answers.popitem(last=False)
        return done

    def settled(self, train):
        """What the last answer that counted left: (what rounding took, the control variate)."""
        session, settled, last, pending = self.left
        if session != train["session_id"]:
            return None, None
        return pending if last is not None and last == train.get("counted_round") else settled

    def mean_gradient(self, net, correction):
        """Of all steps of this round, each of which also subtracted lr times the correction."""
        return [(start - tensor) / np.float32(self.rates) - part for start, tensor, part in zip(net.start, net.parameters, correction)]

    def train(self, train, about, table, net, held_out, remembered, correction=None):
        kept = train.get("optimizer_state") == "keep" and self.optimizer[0] == (train["session_id"], train["optimizer"])
        optimizer, rows = self.optimizer[1] if kept else Optimizer(train["optimizer"]), table.assigned(train["rows"])
        if remembered:
            optimizer.go_on(remembered, train.get("optimizer_steps"))
        self.optimizer = (train["session_id"], train["optimizer"]), optimizer
        weights = np.array(train["class_weights"], np.float32) if train.get("class_weights") else None
        pull = (train["proximal_mu"], [tensor.copy() for tensor in net.parameters]) if train.get("proximal_mu") else None
        batch, deadline = train["batch_size"], time.perf_counter() + (train.get("time_limit") or math.inf)
        begun = told = time.perf_counter()
        self.rates = 0.0
        samples, epochs, last, best, since = 0, 0, {}, (math.inf, None), 0
        steps = train.get("steps", math.inf)
        for epoch in range(train["epochs"]):
            lr, order = train["lr"] * factor(train.get("lr_schedule"), epoch), net.random.permutation(rows)
            left = steps - epoch * -(-len(rows) // batch)
            # Of an epoch that is cut short, as many rows as its steps take.
            order = order[:max(0, left) * batch] if left * batch < len(order) else order
            loss, correct, seen, start = 0.0, 0, 0, time.perf_counter()
            for first in range(0, len(order), batch):
                self.check(train["session_id"])
                if time.perf_counter() > deadline:
                    break
                chosen = order[first:first + batch]
                loss_sum, right = net.step(table.x[chosen], table.y[chosen], weights, train.get("label_smoothing", 0), optimizer, lr, pull, train.get("loss"), correction)
                self.rates += lr
                loss, correct, seen = loss + loss_sum, correct + right, seen + len(chosen)
                if time.perf_counter() - told > min(5, train.get("progress_within", 60) / 4):
                    told = time.perf_counter()
                    self.send({"type": "PROGRESS", **about, "phase": "training", "progress": epoch / train["epochs"]})
            if not math.isfinite(loss):
                raise ValueError(f"the loss is not a number any more after epoch {epoch + 1}: lower the learning rate")
            samples += seen
            if seen:
                last = {"loss": loss / seen} | ({"accuracy": correct / seen} if table.is_classification else {})
            if seen < len(order) or not seen:
                break
            epochs += len(order) == len(rows)
            told = time.perf_counter()
            heartbeat = {"type": "HEARTBEAT", **about, "round": train["round"], "epoch": epoch + 1, **last,
                         "samples_per_second": seen / max(told - start, 1e-6), "progress": (epoch + 1) / train["epochs"]}
            if train.get("early_stopping"):
                counts = net.counts(table, held_out)
                own = counts["loss_sum"] / max(1, counts["samples"])
                heartbeat["validation"] = {"loss": own, "samples": counts["samples"]} | (
                    {"accuracy": counts["correct"] / max(1, counts["samples"])} if table.is_classification else {})
                since = 0 if own < best[0] else since + 1
                if since == 0:
                    best = (own, [tensor.copy() for tensor in net.parameters])
            self.send(heartbeat)
            if train.get("early_stopping") and since >= train["early_stopping"]:
                break
        if best[1]:
            net.parameters = best[1]
        return last | {"samples": samples, "epochs": epochs, "seconds": time.perf_counter() - begun}


def factor(schedule, epoch):
    """What the learning rate is multiplied by."""
    if not schedule or schedule["epochs"] <= 1:
        return 1.0
    share = min(schedule["epoch"] + epoch, schedule["epochs"] - 1) / schedule["epochs"]
    return {"constant": 1.0, "linear": 1 - share, "cosine": (1 + math.cos(math.pi * share)) / 2, "decay": min(1.0, 3 * (1 - share))}[
        schedule["name"]]


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
