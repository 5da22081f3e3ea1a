"""The HTTP side of a peer: registering, beating, leaving, rows and links."""

import hashlib
import json
import logging
import os
import platform
import random
import time
import urllib.error
import urllib.parse
import urllib.request

import numpy as np

from net import Net, Optimizer

log = logging.getLogger("peer")


class Redirects(urllib.request.HTTPRedirectHandler):
    """The server may send on to its object store, which must not see the credential."""

    def redirect_request(self, *arguments):
        request = super().redirect_request(*arguments)
        request.remove_header("Authorization")
        return request


opener = urllib.request.build_opener(Redirects)


class Server:
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
                "samples_per_second": self.speed, "platform": platform.platform(), "version": "python-peer",
                "encodings": ["constant", "f32", "u8", "u16"], "optimizers": ["sgd", "adam", "adamw"], "nets": ["simple"]}

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

    def get(self, link, sha256=None):
        """An object behind a link, or with the credential what is the peer's own."""
        request = urllib.request.Request(urllib.parse.urljoin(self.url, link))
        if link.startswith("/peers/"):
            request.add_header("Authorization", f"Bearer {self.credential}")
        with opener.open(request, timeout=60) as answer:
            content = answer.read()
        if sha256 and hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError("what was downloaded has another SHA-256")
        return content

    def put(self, link, content):
        request = urllib.request.Request(urllib.parse.urljoin(self.url, link), method="PUT", data=content)
        with urllib.request.urlopen(request, timeout=60):
            pass
