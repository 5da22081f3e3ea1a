#!/usr/bin/env python3
"""The smallest peer of Cohort: plain HTTP, fedavg, SGD (--optimizer sgd), NumPy. It shows the protocol; peer.py beside it does all of it.

    pip install numpy
    python3 minimal.py http://SERVER:8080 TOKEN [NAME]
"""

import base64
import hashlib
import json
import os
import sys
import threading
import time
import urllib.error
import urllib.request

import numpy as np

from net import Net
from server import opener
from table import Table


class Server:
    def __init__(self, url, token, name):
        self.url, self.credential = url.rstrip("/"), token
        about = {"cores": os.cpu_count() or 1, "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
                 "engine": "minimal", "device": "cpu", "samples_per_second": 50_000.0, "platform": sys.platform, "version": "minimal",
                 "encodings": ["constant", "f32", "u8", "u16"], "optimizers": ["sgd"], "nets": ["simple"]}
        answer = json.loads(self.call("POST", "/peers", {"name": name, "serve": "mine", "transport": "http", "capabilities": about}))
        self.id, self.registration, self.credential = answer["peer_id"], answer["registration"], answer["credential"]
        self.interval = answer["heartbeat_interval"]

    def open(self, method, path, body=None, timeout=60, kind="application/json"):
        request = urllib.request.Request(self.url + path if path.startswith("/") else path, method=method, data=body)
        if path.startswith("/peers"):  # A link brings its own signature.
            request.add_header("Authorization", f"Bearer {self.credential}")
        request.add_header("Content-Type", kind)
        return opener.open(request, timeout=timeout)

    def call(self, method, path, body=None):
        with self.open(method, path, None if body is None else json.dumps(body).encode()) as answer:
            return answer.read()

    def get(self, link, sha256=None):
        with self.open("GET", link) as answer:
            content = answer.read()
        if sha256 and hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError("what was downloaded has another SHA-256")
        return content

    def put(self, link, content):
        self.open("PUT", link, content, kind="application/octet-stream").close()

    def send(self, event):
        self.call("POST", f"/peers/{self.id}/events", event)

    def beat(self):
        while True:
            time.sleep(self.interval)
            try:
                self.call("POST", f"/peers/{self.id}/heartbeat", {"registration": self.registration})
            except urllib.error.HTTPError as error:
                if error.code in (404, 409):
                    os._exit(3)  # Given up by the server: started again, this program joins as a new peer.
            except OSError as error:
                print(f"the server is away: {error}", file=sys.stderr)

    def commands(self):
        """Server-sent events: a line `data: JSON` each."""
        with self.open("GET", f"/peers/{self.id}/commands?registration={self.registration}", timeout=None) as stream:
            for line in stream:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "id":
                    number = int(value)
                elif name == "data":
                    self.call("POST", f"/peers/{self.id}/commands/ack", {"through": number})
                    yield json.loads(value)


def train(server, tables, command, about):
    """The DONE that answers a TRAIN."""
    if command["optimizer"]["name"] != "sgd" or command["optimizer"]["momentum"] or command.get("streams") or command.get("update_compression"):
        raise ValueError("this peer trains with plain SGD, and sends weights as they are")
    session, held_out = command["session_id"], command.get("validation_rows")
    if session not in tables:
        tables.clear()
        tables[session] = Table(server, session, command)
    table = tables[session]
    places = command["rows"] + ([{name: table.training + at for name, at in held_out.items()}] if held_out else [])
    table.add(places, command.get("row_data"))
    net = Net(command["model"], command["seed"])
    if command.get("weights_url"):
        net.load(server.get(command["weights_url"], command["weights_sha256"]))
    else:
        net.initialize(command["model_seed"])
    results = {}
    if held_out and command.get("weights_url"):
        results["evaluation"] = net.counts(table, table.training + np.arange(held_out["start"], held_out["end"]))
    rows = np.concatenate([np.arange(part["start"], part["end"]) for part in command["rows"]] or [np.zeros(0, int)])
    began, batch = time.perf_counter(), command["batch_size"]
    for epoch in range(command["epochs"]):
        loss, right = 0.0, 0
        order = net.random.permutation(rows)
        for first in range(0, len(order), batch):
            chosen = order[first:first + batch]
            loss_sum, correct = net.step(table.x[chosen], table.y[chosen], None, 0, SGD, command["lr"])
            loss, right = loss + loss_sum, right + correct
        results |= {"loss": loss / len(rows)} | ({"accuracy": right / len(rows)} if table.is_classification else {})
        beat = {"type": "HEARTBEAT", **about, "round": command["round"], "epoch": epoch + 1, "progress": (epoch + 1) / command["epochs"]}
        server.send(beat | {name: results[name] for name in ("loss", "accuracy") if name in results})
    results |= {"samples": len(rows) * command["epochs"], "epochs": command["epochs"], "seconds": time.perf_counter() - began}
    done = {"type": "DONE", **about, "round": command["round"], "attempt": command.get("attempt", 0), "results": results}
    if command.get("update_url"):
        content, _ = net.file({})
        server.put(command["update_url"], content)
        done["update"] = {"key": command["update_key"], "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    return done


class SGD:
    @staticmethod
    def apply(parameters, gradients, lr):
        for tensor, gradient in zip(parameters, gradients):
            tensor -= np.float32(lr) * gradient


def main():
    url, token, name = (sys.argv[1:] + ["minimal"])[:3]
    server, tables = Server(url, token, name), {}
    threading.Thread(target=server.beat, daemon=True).start()
    for command in server.commands():
        about = {"session_id": command["session_id"], "peer_id": server.id, "generation": command.get("generation", 0)}
        try:
            if command["type"] == "ENABLE":
                server.send({"type": "ENABLED", **about})
                if command.get("prepare"):
                    server.send({"type": "READY", **about})
            elif command["type"] == "TRAIN":
                server.send(train(server, tables, command, about))
            elif command["type"] == "STOP":
                tables.pop(command["session_id"], None)
        except (OSError, ValueError) as error:
            server.send({"type": "ERROR", **about, "round": command.get("round", 0), "message": str(error)[:1000], "retryable": False})


if __name__ == "__main__":
    main()
