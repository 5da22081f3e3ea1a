#!/usr/bin/env python3
"""The numbers of Cohort, measured on this machine: a table on standard output, and bench.json.

    make bench                       # or, after `make build`:
    python3 Benchmarks/bench.py --binary .build/release/cohort --out bench.json [--only NAME ...] [--before BINARY]

With --before the rounds of a larger net are also measured with another version's binary, by turns.

Needs Python 3.11 and nothing else. Every server listens on loopback, keeps its data in a scratch folder, and is ended by its process.
"""

import argparse
import asyncio
import contextlib
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import statistics
import subprocess
import tempfile
import time

from floor import seconds_of_a_round
from simulated import Connection, Person, SimulatedPeer

TICKS = os.sysconf("SC_CLK_TCK")


class Process:
    """A `cohort` process with its standard output as lines."""

    def __init__(self, binary, arguments, environment, log):
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            [binary, *arguments], env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=open(log, "w"), text=True)

    def url(self):
        for line in self.process.stdout:
            if line.startswith("listening on "):
                return line.split()[-1]
        raise SystemExit(f"the server did not start: exit status {self.process.wait()}")

    def resident(self):
        """Bytes."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in fields.splitlines() if line.startswith("VmRSS:"))) * 1024

    def peak(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in fields.splitlines() if line.startswith("VmHWM:"))) * 1024

    def cpu(self):
        """Seconds of processor time so far."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()


class Bench:
    def __init__(self, binary, folder, before=None):
        self.binary, self.folder, self.rows, self.count = binary, folder, [], 0
        self.before = before

    def row(self, name, unit, ours, bar, peer=None, theirs=None):
        """`bar` is the most that `ours` may be."""
        ratio = round(theirs / ours, 2) if theirs and ours else None
        self.rows.append(dict(name=name, unit=unit, ours=round(ours, 3), peer=peer, theirs=theirs, ratio=ratio, bar=bar, holds=ours <= bar))
        print(f"{name:58} {ours:12.2f} {unit:14} bar {bar:<8} {'holds' if ours <= bar else 'FALLS SHORT'}", flush=True)

    @contextlib.contextmanager
    def server(self, **environment):
        self.count += 1
        folder = f"{self.folder}/{self.count}"
        os.makedirs(folder)
        server = Process(
            self.binary, ["serve", "--host", "127.0.0.1", "--port", "0", "--data-dir", f"{folder}/server", "--log-level", "error"],
            {"HOME": folder, **environment}, f"{folder}/server.log")
        try:
            server.folder = folder
            server.base = server.url()
            server.ready = time.perf_counter() - server.started
            yield server
        finally:
            server.stop()
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def peers(self, server, token, count):
        peers = [
            Process(
                self.binary,
                ["peer", "--server", server.base, "--name", f"peer-{index}", "--data-dir", f"{server.folder}/peer-{index}", "--threads", "1", "--log-level", "error"],
                {"HOME": server.folder, "COHORT_TOKEN": token}, f"{server.folder}/peer-{index}.log")
            for index in range(count)
        ]
        try:
            yield peers
        finally:
            for peer in peers:
                peer.stop()

    # One method a number; each makes its own world.

    async def ready(self):
        """From exec to the ready line, on a data folder that is new; the median of five."""
        times = []
        for _ in range(5):
            with self.server() as server:
                times.append(server.ready * 1000)
        self.row("server ready, from exec", "ms", sorted(times)[2], 300)

    async def idle(self):
        with self.server() as server:
            person = await Person.signup(server.base)
            with self.peers(server, await person.token(), 1) as peers:
                await person.wait_for_peers(1)
                await asyncio.sleep(12)  # Two beats: what stays when nothing happens.
                self.row("idle server, resident", "MB", server.resident() / 1e6, 60)
                self.row("idle peer, resident", "MB", peers[0].resident() / 1e6, 40)

    async def rounds(self):
        """The whole time of a round; its training is below a millisecond, so this is nearly all overhead."""
        count = 50
        with self.server() as server:
            person = await Person.signup(server.base)
            with self.peers(server, await person.token(), 3):
                await person.wait_for_peers(3)
                text = "a,b,y\n" + "".join(f"{i % 7},{i % 5},{'xyz'[i % 3]}\n" for i in range(60))
                session = await person.start(text.encode(), peers=3, rounds=count, epochs=1, batch_size=8, hidden="4", seed=1)
                await person.wait(session)
                times = sorted(r["seconds"] * 1000 for r in (await person.get(f"/sessions/{session}"))["rounds"])
                self.row(
                    "fedavg round, 3 peers, tiny net, all but <1 ms overhead", "ms, median", times[len(times) // 2], 10,
                    "Flower 1.41, deployment engine, 2 clients on digits: 196 s for 20 rounds on a machine like this", 9800)
                self.row("the same, 90th percentile", "ms", times[int(len(times) * 0.9)], 25)

    async def exchange(self):
        """What a round costs beside its training, which is one step on 24 rows a peer: 0.6 MB of weights, with Adam's moments 1.8 MB, and a tiny net."""
        for name, hidden, memory, bar in (
            ("0.6 MB of weights and Adam's moments", "256,256,256", "average", 0.4), ("0.6 MB of weights", "256,256,256", "reset", 0.35),
            ("a tiny net", "4", "reset", 0.75)):
            widths = [64, *map(int, hidden.split(",")), 10]
            count = sum(inputs * outputs + outputs for inputs, outputs in zip(widths, widths[1:]))
            least = seconds_of_a_round(4 * count * (3 if memory == "average" else 1)) * 1000
            ours, theirs = [], []
            for turn in range(3):
                # By turns, in the other order each time.
                for binary, times in [(self.binary, ours), (self.before, theirs)][::1 if turn % 2 else -1]:
                    if binary:
                        times.append(await self.median_round(binary, hidden, memory))
            ours = statistics.median(ours)
            self.row(f"round of three peers, {name}", "ms, median", ours, 2 * least, "twice the same bytes through loopback and SHA-256", 2 * least)
            if theirs:
                theirs = statistics.median(theirs)
                self.row("the same, beside the other version", "times", ours / theirs, bar)

    async def median_round(self, binary, hidden, memory):
        draw = random.Random(1)
        text = ",".join(f"x{index}" for index in range(64)) + ",y\n"
        text += "".join(",".join(f"{draw.gauss(0, 1):.4f}" for _ in range(64)) + f",c{row % 10}\n" for row in range(120))
        bench = Bench(binary, f"{self.folder}/{self.count}-of")
        self.count += 1
        with bench.server() as server:
            person = await Person.signup(server.base)
            with bench.peers(server, await person.token(), 3):
                await person.wait_for_peers(3)
                session = await person.start(
                    text.encode(), peers=3, rounds=60, epochs=1, batch_size=64, hidden=hidden, seed=1, optimizer_state=memory)
                await person.wait(session)
                return statistics.median(r["seconds"] * 1000 for r in (await person.get(f"/sessions/{session}"))["rounds"])

    async def first_train(self):
        await self.first_train_of(3, "start request to the last peer's first TRAIN", 100)

    async def hundred(self):
        """With COHORT_BROKER_URL in the environment through a RabbitMQ, as every number here."""
        await self.first_train_of(100, "start request to the last of 100 peers' first TRAIN", 1000)

    async def first_train_of(self, count, name, bar):
        """From the start request to the last peer's first TRAIN; the median of five."""
        times = []
        with self.server() as server:
            person = await Person.signup(server.base)
            token = await person.token()
            peers = [SimulatedPeer(server.base, token, f"simulated-{i}") for i in range(count)]
            async with contextlib.AsyncExitStack() as stack:
                for peer in peers:
                    await stack.enter_async_context(peer.joined())
                text = "a,b,y\n" + "".join(f"{i % 7},{i % 5},{'xyz'[i % 3]}\n" for i in range(3_000))
                for _ in range(5):
                    await person.wait_for_peers(count)
                    for peer in peers:
                        peer.first_train = None
                    begun = time.perf_counter()
                    session = await person.start(text.encode(), peers=count, rounds=1, epochs=1, batch_size=8, hidden="4", seed=1)
                    await person.wait(session)
                    times.append((max(peer.first_train for peer in peers) - begun) * 1000)
        self.row(name, "ms, median", sorted(times)[2], bar)

    async def upload(self):
        """A CSV of 1 GB; the most the server ever held while it was uploaded."""
        path = f"{self.folder}/large.csv"
        line = b"0.123456789,0.987654321,1.23456789,2.3456789,3.456789,class1\n0.2,0.1,1.5,2.5,3.5,class2\n"
        block = line * (1_048_576 // len(line))
        with open(path, "wb") as file:
            file.write(b"a,b,c,d,e,y\n")
            while file.tell() < 1_000_000_000:
                file.write(block)
        try:
            with self.server() as server:
                person = await Person.signup(server.base)
                peer = SimulatedPeer(server.base, await person.token(), "simulated", train=False)
                async with peer.joined():
                    begun = time.perf_counter()
                    session = await person.start_file(path, peers=1, rounds=1, epochs=1)
                    seconds = time.perf_counter() - begun
                    self.row("1 GB upload: server's peak memory until 201", "MB", server.peak() / 1e6, 100)
                    print(f"{'':58} {os.path.getsize(path) / 1e6 / seconds:12.0f} MB/s")
                    await person.wait(session, until=lambda status: status["status"] != "PENDING")
                    self.row("the same, the data set looked through as well", "MB", server.peak() / 1e6, 100)
                    await person.post(f"/sessions/{session}/cancel", {})
        finally:
            os.remove(path)

    async def thousand(self):
        """1,000 simulated peers in a separate process work, each a stream and a beat every 5 s."""
        await self.many(1_000, idle_bar=15, seconds_bar=300, memory_bar=400)

    async def ten_thousand(self):
        """10,000 of them, with a beat every 20 s, so that this process is not what is measured."""
        await self.many(10_000, idle_bar=25, seconds_bar=500, memory_bar=1_500, COHORT_MACHINES_PER_TOKEN="20000", COHORT_HEARTBEAT_INTERVAL="20", COHORT_SUSPECT_AFTER="90", COHORT_DEAD_AFTER="180")

    async def many(self, count, idle_bar, seconds_bar, memory_bar, **settings):
        raise_descriptor_limit()
        with self.server(**settings) as server:
            person = await Person.signup(server.base)
            token = await person.token()
            shared = [Connection(server.base) for _ in range(400)] if count > 5_000 else None
            peers = [SimulatedPeer(server.base, token, f"simulated-{i:05}", shared=shared) for i in range(count)]
            async with contextlib.AsyncExitStack() as stack:
                for start in range(0, count, 50):
                    await asyncio.gather(*(stack.enter_async_context(peer.joined()) for peer in peers[start:start + 50]))
                await asyncio.sleep(5)
                cpu, begun = server.cpu(), time.perf_counter()
                await asyncio.sleep(20)
                self.row(f"{count:,} connected peers with beats: server", "% of a core", (server.cpu() - cpu) / (time.perf_counter() - begun) * 100, idle_bar)
                text = "a,b,y\n" + "".join(f"{i % 7},{i % 5},{'xyz'[i % 3]}\n" for i in range(count * 25 // 2))
                cpu, begun = server.cpu(), time.perf_counter()
                session = await person.start(text.encode(), peers=count, rounds=2, epochs=1, batch_size=4, hidden="4", seed=1)
                status = await person.wait(session, limit=seconds_bar, every=max(0.1, count / 5_000))
                seconds, used = time.perf_counter() - begun, server.cpu() - cpu
                trained = [peer.first_train - begun for peer in peers if peer.first_train]
                self.row(f"a session of 2 rounds over all {count:,}", f"s, {status['status']}", seconds, seconds_bar if status["status"] == "COMPLETED" else 0)
                self.row("the same: from the first TRAIN to the last", "s", max(trained) - min(trained), seconds_bar / 4)
                self.row("the same: a round", "s", max(r["seconds"] for r in (await person.get(f"/sessions/{session}"))["rounds"]), seconds_bar / 2)
                self.row("the same: server's processor time", "s", used, seconds_bar / 2)
                self.row("the same: server's peak memory", "MB", server.peak() / 1e6, memory_bar)


def raise_descriptor_limit():
    """Two connections a peer."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", default=".build/release/cohort")
    parser.add_argument("--out", default="bench.json")
    numbers = ["ready", "idle", "rounds", "exchange", "first_train", "hundred", "upload", "thousand", "ten_thousand"]
    parser.add_argument("--only", nargs="+", choices=numbers, default=numbers)
    parser.add_argument("--before", help="another version's binary")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cohort-bench-") as folder:
        bench = Bench(os.path.abspath(arguments.binary), folder, arguments.before and os.path.abspath(arguments.before))
        for number in arguments.only:
            await getattr(bench, number)()
    pathlib.Path(arguments.out).write_text(json.dumps(bench.rows, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
