#!/usr/bin/env python3
"""Trains on a CSV that does not fit in memory, and holds the rate against that on one that does.

    sudo python3 Benchmarks/large.py [--gigabytes 10] [--memory 2] [--beside 0.4] [--scratch DIR]

Makes a CSV of 100 columns of numbers and a class (50 MB of rows, repeated), starts a server, a peer and the client in one memory control
group of `--memory` GiB, page cache included, and trains an epoch. The same first with a CSV of 0.4 GB and no limit. Needs root, for the
control group, and four times the CSV's size on disk. Adds rows to bench.json."""

import argparse
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
FEATURES = 100


def write_csv(path, gigabytes):
    """Classes follow from the first four columns."""
    draw = random.Random(1)
    lines = []
    for _ in range(70_000):
        values = [draw.gauss(0, 1) for _ in range(FEATURES)]
        lines.append(",".join(f"{value:.4f}" for value in values) + f",{'ab'[values[0] + values[1] > values[2] * values[3]]}\n")
    chunk = "".join(lines).encode()
    with open(path, "wb") as file:
        file.write((",".join(f"x{index}" for index in range(FEATURES)) + ",y\n").encode())
        for _ in range(max(1, round(gigabytes * 1e9 / len(chunk)))):
            file.write(chunk)


class MemoryLimit:
    """A control group of version 1 or 2; None bytes: no limit."""

    def __init__(self, size):
        self.size = size
        self.folder = None
        if size is None:
            return
        first = pathlib.Path("/sys/fs/cgroup/memory")
        self.folder = (first if first.is_dir() else pathlib.Path("/sys/fs/cgroup")) / f"cohort-bench-{os.getpid()}"
        self.folder.mkdir()
        (self.folder / ("memory.limit_in_bytes" if first.is_dir() else "memory.max")).write_text(str(size))

    def enter(self):
        if self.folder:
            (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def kills(self):
        if not self.folder:
            return 0
        for name in ("memory.oom_control", "memory.events"):
            if (self.folder / name).exists():
                found = re.search(r"oom_kill (\d+)", (self.folder / name).read_text())
                return int(found.group(1)) if found else 0
        return 0

    def end(self):
        if self.folder:
            time.sleep(0.5)
            self.folder.rmdir()


def train(binary, csv, limit, scratch):
    """Samples a second of the one peer, and seconds from the upload to the model."""
    home = pathlib.Path(scratch) / "home"
    environment = {**os.environ, "HOME": str(home), "COHORT_UPLOAD_LIMIT": "100G", "COHORT_CACHE_LIMIT": "100G"}
    home.mkdir()
    processes = []

    def start(*arguments):
        processes.append(subprocess.Popen([binary, *arguments], stdout=subprocess.PIPE, text=True, env=environment, preexec_fn=limit.enter))
        return processes[-1]

    def call(*arguments):
        done = subprocess.run([binary, *arguments], stdout=subprocess.PIPE, text=True, env=environment, preexec_fn=limit.enter, check=True)
        return done.stdout

    try:
        server = start("serve", "--port", "0", "--data-dir", f"{scratch}/server")
        address = next(line.split()[-1] for line in server.stdout if "listening on" in line)
        call("signup", "--server", address, "--email", "bench@example.org", "--password", "a long passphrase")
        token = call("token").split()[-1]
        start("peer", "--server", address, "--token", token, "--name", "one", "--data-dir", f"{scratch}/peer")
        time.sleep(2)
        begun = time.monotonic()
        report = call("train", csv, "--peers", "1", "--rounds", "1", "--epochs", "1", "--batch-size", "64", "--target", "y", "--seed", "1",
                      "--validation", "0.02", "--output", f"{scratch}/model.safetensors", "--json")
        seconds = time.monotonic() - begun
        results = json.loads(report.splitlines()[-1])
        return results, seconds
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(30)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=10)
    parser.add_argument("--memory", type=float, default=2)
    parser.add_argument("--beside", type=float, default=0.4, help="gigabytes of the CSV that fits in memory")
    parser.add_argument("--scratch", default=None)
    parser.add_argument("--binary", default=str(ROOT / ".build/release/cohort"))
    parser.add_argument("--out", default="bench.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        rates = {}
        for name, gigabytes, memory in (("small", arguments.beside, None), ("large", arguments.gigabytes, int(arguments.memory * 2**30))):
            data = f"{scratch}/{name}.csv"
            write_csv(data, gigabytes)
            limit = MemoryLimit(memory)
            os.mkdir(f"{scratch}/{name}")
            try:
                results, seconds = train(arguments.binary, data, limit, f"{scratch}/{name}")
            finally:
                killed = limit.kills()
                limit.end()
            rates[name] = results["peers"][0]["samples_per_second"]
            print(f"{name}: {rates[name]:.0f} samples/s, {seconds:.0f} s from upload to model, held-out accuracy {results['metrics']['accuracy']:.4f}, "
                  f"{killed} processes killed for memory", flush=True)
            os.unlink(data)
            shutil.rmtree(f"{scratch}/{name}")
    ratio = rates["large"] / rates["small"]
    row = {
        "name": f"{arguments.gigabytes:g} GB CSV in {arguments.memory:g} GiB of memory", "unit": "samples/s", "ours": rates["large"],
        "peer": "ours, in memory", "theirs": rates["small"], "ratio": ratio, "bar": 0.6, "holds": ratio >= 0.6}
    print(f"{row['name']}: {ratio:.2f} of the rate in memory, bar 0.6: {'holds' if row['holds'] else 'FALLS SHORT'}")
    out = pathlib.Path(arguments.out)
    others = [other for other in json.loads(out.read_text()) if other["name"] != row["name"]] if out.exists() else []
    out.write_text(json.dumps(others + [row], indent=1) + "\n")


if __name__ == "__main__":
    main()
