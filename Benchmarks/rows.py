#!/usr/bin/env python3
"""What it costs to bring a session's rows to its machines, by turns with another version of `cohort`.

    python3 Benchmarks/rows.py [--gigabytes 0.5] [--peers 4] [--before BINARY] [--scratch DIR]

Makes a CSV of 40 columns (pixels, categories, years and numbers), starts a server, peers, and a proxy between them that counts bytes, and trains one step on each peer: what the
server sent, each peer's disk, the seconds from the start to the first training, and the peers' CPU time. Adds rows to bench.json; with --before as ratios."""

import argparse
import json
import os
import pathlib
import random
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TICKS = os.sysconf("SC_CLK_TCK")


def write_csv(path, gigabytes):
    draw = random.Random(1)
    words = [f"town{number}" for number in range(50)]
    lines = []
    for _ in range(60_000):
        pixels = [str(draw.randrange(256)) for _ in range(20)]
        numbers = [f"{draw.gauss(0, 1):.5f}" for _ in range(8)]
        rest = [draw.choice(words) for _ in range(8)] + [str(draw.randrange(1950, 2020)) for _ in range(4)]
        lines.append(",".join(pixels + numbers + rest) + f",{'ab'[float(numbers[0]) + int(pixels[0]) / 256 > 0.5]}\n")
    chunk = "".join(lines).encode()
    with open(path, "wb") as file:
        file.write((",".join(f"x{index}" for index in range(40)) + ",y\n").encode())
        for _ in range(max(1, round(gigabytes * 1e9 / len(chunk)))):
            file.write(chunk)


class Proxy:
    """Passes connections on, and counts what comes back."""

    def __init__(self, port):
        self.target, self.count = port, 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                ours, _ = self.listener.accept()
                theirs = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                return
            for source, sink, counts in ((ours, theirs, False), (theirs, ours, True)):
                threading.Thread(target=self.carry, args=(source, sink, counts), daemon=True).start()

    def carry(self, source, sink, counts):
        try:
            while data := source.recv(1 << 18):
                sink.sendall(data)
                self.count += len(data) if counts else 0
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class World:
    def __init__(self, binary, folder):
        self.binary, self.folder, self.processes = binary, folder, []
        os.makedirs(f"{folder}/home")
        self.environment = {**os.environ, "HOME": f"{folder}/home", "COHORT_UPLOAD_LIMIT": "100G", "COHORT_CACHE_LIMIT": "100G"}
        server = self.start("serve", "--port", "0", "--data-dir", f"{folder}/server")
        self.address = next(line.split()[-1] for line in server.stdout if "listening on" in line)
        self.proxy = Proxy(int(self.address.rsplit(":", 1)[1]))
        self.call("signup", "--server", self.address, "--email", "bench@example.org", "--password", "a long passphrase")
        self.token = self.call("token").split()[-1]

    def start(self, *arguments):
        self.processes.append(subprocess.Popen([self.binary, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=self.environment))
        return self.processes[-1]

    def call(self, *arguments):
        return subprocess.run([self.binary, *arguments], stdout=subprocess.PIPE, text=True, env=self.environment, check=True).stdout

    def peer(self, number):
        return self.start("peer", "--server", f"http://127.0.0.1:{self.proxy.port}", "--token", self.token, "--name", f"peer-{number}",
                          "--threads", "1", "--data-dir", f"{self.folder}/peer-{number}")

    def online(self, count):
        while sum(peer["status"] == "ONLINE" for peer in json.loads(self.call("peers", "--json"))) < count:
            time.sleep(0.1)

    def train(self, csv, *options):
        arguments = ["train", csv, "--target", "y", "--seed", "1", "--validation", "0.05", "--batch-size", "64", "--json", *options]
        return subprocess.Popen([self.binary, *arguments], stdout=subprocess.PIPE, text=True, env=self.environment)

    def disk(self, peer):
        total = 0
        for root, _, names in os.walk(f"{self.folder}/peer-{peer}"):
            for name in names:
                try:
                    total += os.stat(os.path.join(root, name)).st_blocks * 512
                except OSError:
                    pass
        return total

    def table(self):
        """Bytes of the packed table, while it is there."""
        return sum(os.path.getsize(file) for file in pathlib.Path(f"{self.folder}/server").glob("objects/tables/**/*") if file.is_file() and not file.is_symlink())

    def end(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.wait(60)
        self.proxy.listener.close()


def cpu(process):
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def measure(binary, csv, peers, scratch):
    """One session of one step a peer."""
    world = World(binary, scratch)
    try:
        processes = [world.peer(number) for number in range(peers)]
        world.online(peers)
        before, sent = [cpu(process) for process in processes], world.proxy.count
        begun = time.monotonic()
        session = world.train(csv, "--peers", str(peers), "--rounds", "1", "--epochs", "1", "--local-steps", "1", "--hidden", "8")
        disks, table = [0] * peers, 0
        while session.poll() is None:
            disks = [max(disk, world.disk(number)) for number, disk in enumerate(disks)]
            try:
                table = max(table, world.table())
            except OSError:  # It goes with the session.
                pass
            time.sleep(0.05)
        if session.wait():
            raise SystemExit("the session failed")
        results = json.loads(session.stdout.read().splitlines()[-1])
        used = [cpu(process) - start for process, start in zip(processes, before)]
        return {"sent": world.proxy.count - sent, "disk": max(disks), "cpu": statistics.mean(used), "seconds": time.monotonic() - begun,
                "table": table, "loss": results["metrics"]["loss"]}
    finally:
        world.end()
        shutil.rmtree(scratch)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=0.5)
    parser.add_argument("--peers", type=int, default=4)
    parser.add_argument("--before", help="the executable of another version, by turns with this one")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--scratch", default=None)
    parser.add_argument("--binary", default=str(ROOT / ".build/release/cohort"))
    parser.add_argument("--out", default="bench.json")
    arguments = parser.parse_args()
    found = {"ours": [], "before": []}
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        csv = f"{scratch}/data.csv"
        write_csv(csv, arguments.gigabytes)
        size = os.path.getsize(csv)
        for run in range(arguments.runs):
            for name, binary in (("ours", arguments.binary), ("before", arguments.before)):
                if binary:
                    got = measure(binary, csv, arguments.peers, f"{scratch}/{name}")
                    found[name].append(got)
                    print(f"{name}: {got['sent'] / 1e6:.1f} MB sent, {got['disk'] / 1e6:.1f} MB of disk a peer, {got['cpu']:.2f} s of CPU a peer, "
                          f"{got['seconds']:.1f} s in all, held-out loss {got['loss']:.6f}", flush=True)
    ours = {key: statistics.median(run[key] for run in found["ours"]) for key in found["ours"][0]}
    print(f"the CSV has {size / 1e6:.1f} MB, the packed table {ours['table'] / 1e6:.1f} MB")
    rows = []
    if ours["table"]:
        for name, value, whole, peer, bar in (("bytes sent", ours["sent"], ours["table"], "the packed table", 1.15),
                                              ("a peer's disk", ours["disk"], ours["table"] / arguments.peers, "its share of the table", 1.3)):
            rows.append({"name": f"{name}, {arguments.peers} peers, {size / 1e9:.2g} GB", "unit": "bytes", "ours": value, "peer": peer, "theirs": whole,
                         "ratio": value / whole, "bar": bar, "holds": value / whole <= bar})
    if found["before"]:
        theirs = {key: statistics.median(run[key] for run in found["before"]) for key in found["before"][0]}
        for key, unit, bar in (("sent", "bytes", 0.25), ("disk", "bytes", 0.25), ("cpu", "s", 0.25), ("seconds", "s", 1.0)):
            ratio = ours[key] / theirs[key]
            rows.append({"name": f"rows to {arguments.peers} peers: {key}", "unit": unit, "ours": ours[key], "peer": "the version before", "theirs": theirs[key], "ratio": ratio,
                         "bar": bar, "holds": ratio <= bar})
    for row in rows:
        print(f"{row['name']}: {row['ratio']:.3f} of {row['peer']}, bar {row['bar']}: {'holds' if row['holds'] else 'FALLS SHORT'}")
    out = pathlib.Path(arguments.out)
    names = {row["name"] for row in rows}
    others = [other for other in json.loads(out.read_text()) if other["name"] not in names] if out.exists() else []
    out.write_text(json.dumps(others + rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
