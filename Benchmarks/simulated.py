"""People and peers for the benchmarks, in plain Python: also a second implementation of docs/protocol.md."""

import asyncio
import contextlib
import hashlib
import json
import random
import struct
import time
import urllib.parse


class Connection:
    """HTTP/1.1 over one kept-alive connection, one request at a time."""

    def __init__(self, base, token=None):
        url = urllib.parse.urlsplit(base)
        self.host, self.port, self.token = url.hostname, url.port, token
        self.lock, self.reader, self.writer = asyncio.Lock(), None, None

    async def request(self, method, path, body=None, headers=None, length=None, token=None):
        """Returns (status, headers, body). `body` is bytes, or an iterable of bytes with `length`."""
        async with self.lock:
            for attempt in range(2):
                try:
                    if self.writer is None or self.writer.is_closing():
                        self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
                    await self._send(method, path, body, headers, length, token or self.token)
                    return await self._receive()
                except (ConnectionError, asyncio.IncompleteReadError):
                    self.close()
                    if attempt or length is not None:
                        raise

    async def _send(self, method, path, body, headers, length, token):
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}:{self.port}"]
        if token and not path.startswith("/objects/"):
            lines.append(f"Authorization: Bearer {token}")
        for key, value in (headers or {}).items():
            lines.append(f"{key}: {value}")
        if body is not None or method in ("POST", "PUT"):
            lines.append(f"Content-Length: {length if length is not None else len(body or b'')}")
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        if length is not None:
            for chunk in body:
                self.writer.write(chunk)
                await self.writer.drain()
        elif body:
            self.writer.write(body)
        await self.writer.drain()

    async def _head(self):
        status = int((await self.reader.readuntil(b"\r\n")).split()[1])
        headers = {}
        while (line := await self.reader.readuntil(b"\r\n")) != b"\r\n":
            key, _, value = line.decode().partition(":")
            headers[key.strip().lower()] = value.strip()
        return status, headers

    async def _receive(self):
        status, headers = await self._head()
        if headers.get("transfer-encoding") == "chunked":
            body = b"".join([chunk async for chunk in self._chunks()])
        else:
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection") == "close":
            self.close()
        return status, headers, body

    async def _chunks(self):
        while size := int((await self.reader.readuntil(b"\r\n")).strip(), 16):
            yield await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)

    async def lines(self, path, headers=None):
        """The lines of a response that streams."""
        self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        await self._send("GET", path, None, headers, None, self.token)
        status, _ = await self._head()
        if status != 200:
            raise ConnectionError(f"{path}: {status}")
        rest = b""
        async for chunk in self._chunks():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line.decode().rstrip("\r")

    def close(self):
        if self.writer:
            self.writer.close()
        self.writer = None


class Borrowed:
    """Calls of one peer over connections that many share: thousands of peers need a connection each for their stream already."""

    def __init__(self, shared, token):
        self.shared, self.token, self.turn = shared, token, random.randrange(len(shared))

    async def request(self, *arguments):
        self.turn = (self.turn + 1) % len(self.shared)
        return await self.shared[self.turn].request(*arguments, token=self.token)

    def close(self):
        pass


class Person:
    """A user with an account."""

    def __init__(self, base, access_token):
        self.base, self.connection = base, Connection(base, access_token)

    @classmethod
    async def signup(cls, base):
        person = cls(base, None)
        answer = await person.post("/auth/signup", {"email": "bench@example.org", "password": "correct horse", "name": "Bench"})
        return cls(base, answer["access_token"])

    async def call(self, method, path, body=None, headers=None, length=None):
        status, _, answer = await self.connection.request(method, path, body, headers, length)
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {answer.decode()}")
        return json.loads(answer) if answer else None

    async def get(self, path):
        return await self.call("GET", path)

    async def post(self, path, value):
        return await self.call("POST", path, json.dumps(value).encode(), {"Content-Type": "application/json"})

    async def token(self):
        return (await self.post("/auth/tokens", {"name": "bench"}))["token"]

    @staticmethod
    def form(fields, boundary):
        return "".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n' for key, value in fields.items()
        ).encode() + f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="bench.csv"\r\nContent-Type: text/csv\r\n\r\n'.encode()

    async def start(self, csv, **fields):
        boundary = "cohort-bench"
        body = self.form(fields, boundary) + csv + f"\r\n--{boundary}--\r\n".encode()
        answer = await self.call("POST", "/sessions/start", body, {"Content-Type": f"multipart/form-data; boundary={boundary}"})
        return answer["session_id"]

    async def start_file(self, path, **fields):
        boundary = "cohort-bench"
        head, tail = self.form(fields, boundary), f"\r\n--{boundary}--\r\n".encode()
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(0)

            def chunks():
                yield head
                while chunk := file.read(1 << 20):
                    yield chunk
                yield tail

            answer = await self.call(
                "POST", "/sessions/start", chunks(), {"Content-Type": f"multipart/form-data; boundary={boundary}"},
                length=len(head) + size + len(tail))
        return answer["session_id"]

    async def wait(self, session, until=lambda status: status["status"] in ("COMPLETED", "FAILED", "CANCELLED"), limit=600, every=0.1):
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            status = await self.get(f"/sessions/training-status?session_id={session}")
            if until(status):
                if status["status"] == "FAILED":
                    raise RuntimeError(status["error"])
                return status
            await asyncio.sleep(every)
        raise TimeoutError(json.dumps({key: status.get(key) for key in ("status", "progress", "round", "waiting_for", "error")}))

    async def wait_for_peers(self, count):
        while sum(peer["status"] == "ONLINE" for peer in await self.get("/peers")) < count:
            await asyncio.sleep(0.05)


class SimulatedPeer:
    """A peer that speaks the protocol and "trains" by sending back the weights it was given."""

    def __init__(self, base, token, name, train=True, shared=None):
        """`shared`: connections to call over, instead of a separate one."""
        self.base, self.token, self.name, self.train, self.shared = base, token, name, train, shared
        self.calls = self.connect()
        self.first_train = None
        # What an epoch takes, beside telling of it; its loss and accuracy.
        self.epoch_seconds = 0
        self.measure = lambda epoch: (1.0, 0.5)

    def connect(self):
        return Borrowed(self.shared, self.token) if self.shared else Connection(self.base, self.token)

    async def post(self, path, value):
        status, _, body = await self.calls.request("POST", path, json.dumps(value).encode(), {"Content-Type": "application/json"})
        if status >= 300:
            raise RuntimeError(f"POST {path}: {status} {body.decode()}")
        return json.loads(body) if body else None

    @contextlib.asynccontextmanager
    async def joined(self):
        capabilities = dict(
            cores=1, memory_bytes=1 << 30, engine="simulated", device="cpu", samples_per_second=10_000, platform="python", version="1",
            encodings=["constant", "f32", "u8", "u16"])
        self.capabilities = capabilities
        answer = await self.post("/peers", {"name": self.name, "capabilities": capabilities})
        self.id, self.registration, self.interval = answer["peer_id"], answer["registration"], answer["heartbeat_interval"]
        # The join token only registers.
        self.calls.close()
        self.token = answer["credential"]
        self.calls = self.connect()
        tasks = [asyncio.create_task(self.beat()), asyncio.create_task(self.listen())]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.calls.close()

    async def beat(self):
        while True:
            await asyncio.sleep(self.interval * random.uniform(0.8, 1.2))
            await self.post(f"/peers/{self.id}/heartbeat", {"registration": self.registration})

    async def listen(self):
        stream, identifier = Connection(self.base, self.token), None
        async for line in stream.lines(f"/peers/{self.id}/commands?registration={self.registration}"):
            if line.startswith("id:"):
                identifier = int(line[3:])
            elif line.startswith("data:"):
                command = json.loads(line[5:])
                await self.post(f"/peers/{self.id}/commands/ack", {"through": identifier})
                await self.obey(command)

    async def obey(self, command):
        about = {key: command[key] for key in ("session_id", "generation") if key in command} | {"peer_id": self.id}
        if command["type"] == "ENABLE":
            await self.event({"type": "ENABLED", **about, "capabilities": self.capabilities})
        elif command["type"] == "TRAIN":
            self.first_train = self.first_train or time.perf_counter()
            if not self.train:
                return
            about["round"] = command["round"]
            if "attempt" in command:
                about["attempt"] = command["attempt"]
            evaluated = command.get("validation_rows")
            samples = evaluated["end"] - evaluated["start"] if evaluated and command.get("weights_url") else 0
            results = dict(loss=1.0, accuracy=0.5, samples=0, epochs=command["epochs"], seconds=0.001)
            if samples:
                results["evaluation"] = dict(samples=samples, loss_sum=float(samples), correct=samples // 2, target_sum=0, target_square_sum=0)
            done = {"type": "DONE", **about, "results": results}
            if command.get("update_url"):
                results["samples"] = sum(r["end"] - r["start"] for r in command["rows"]) * command["epochs"]
                for epoch in range(1, command["epochs"] + 1):
                    if self.epoch_seconds:
                        await asyncio.sleep(self.epoch_seconds * random.uniform(0.8, 1.2))
                    loss, accuracy = self.measure(command["round"] * command["epochs"] + epoch)
                    await self.event({"type": "HEARTBEAT", **about, "epoch": epoch, "loss": loss, "accuracy": accuracy, "samples_per_second": 1000, "progress": epoch / command["epochs"]})
                weights = await self.weights(command)
                status, _, body = await self.object("PUT", command["update_url"], weights)
                if status >= 300:
                    raise RuntimeError(f"PUT: {status} {body.decode()}")
                done["update"] = {"key": command["update_key"], "sha256": hashlib.sha256(weights).hexdigest(), "bytes": len(weights)}
            await self.event(done)

    async def event(self, value):
        while True:
            status, _, body = await self.calls.request("POST", f"/peers/{self.id}/events", json.dumps(value).encode(), {"Content-Type": "application/json"})
            if status != 503:
                return
            await asyncio.sleep(0.2)

    async def object(self, method, link, body=None):
        """By a presigned link: a path of the server, or a URL of its store."""
        if link.startswith("/"):
            return await self.calls.request(method, link, body)
        url = urllib.parse.urlsplit(link)
        store = Connection(f"{url.scheme}://{url.netloc}")
        try:
            return await store.request(method, f"{url.path}?{url.query}", body)
        finally:
            store.close()

    async def weights(self, command):
        """The round's weights as they came, and behind them what the update is to have beside them: moments of zeros."""
        model, streams = command["model"], command.get("update_streams", command.get("streams")) or []
        widths, stride = [model["inputs"], *model["hidden"], model["outputs"]], 3 if model["dropout"] > 0 else 2
        tensors = []
        for layer, (inputs, outputs) in enumerate(zip(widths, widths[1:])):
            tensors += [(f"{layer * stride}.weight", [outputs, inputs]), (f"{layer * stride}.bias", [outputs])]
        count = sum(shape[0] * (shape[1] if len(shape) > 1 else 1) for _, shape in tensors)
        data = struct.pack(f"<{count}f", *([0.01] * count))
        if command.get("weights_url"):
            _, _, body = await self.object("GET", command["weights_url"])
            if streams == (command.get("streams") or []) and len(body) > 4 * count * (1 + len(streams)):
                return body
            start = 8 + struct.unpack("<Q", body[:8])[0]
            data = body[start:start + 4 * count]
        header, place = {}, 0
        for prefix in ["", *(f"{stream}/" for stream in streams)]:
            for name, shape in tensors:
                size = 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
                header[prefix + name] = {"dtype": "F32", "shape": shape, "data_offsets": [place, place + size]}
                place += size
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text + data + bytes(4 * count * len(streams))
