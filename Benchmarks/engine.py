#!/usr/bin/env python3
"""Training steps of the native engine beside PyTorch's, eager, on the CPU: the two take turns in one run, and each net is a row.

    python3 Benchmarks/engine.py [--venv DIR] [--nets 4-16-3:16 …] [--out bench.json]

The rows are added to those that the file has. Builds EngineBench (seconds: only the training room), makes a virtual environment with PyTorch once and keeps it. A row's `ratio` is how many
times faster ours is, the median of `--turns` turns; `bar` is what it must be."""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
NETS = {"4-16-3:16": 200, "64-128-64-10:64": 8.5, "784-256-128-10:64": 2.0, "784-256-128-10:256": 1.5, "784-1024-1024-10:256": 1.2}
# What the torch engine's plugin must be, of PyTorch eager, on the CPU; on a GPU 5 times on the two smallest, and not slower on any.
PLUGIN = {"4-16-3:16": 2, "64-128-64-10:64": 2, "784-256-128-10:64": 1.2, "784-256-128-10:256": 1, "784-1024-1024-10:256": 1}
# Above these, two threads on two cores must pay.
LARGE = [net for net in NETS if net.startswith("784")]


def lines(command, **options):
    return [json.loads(line) for line in subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout.splitlines()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--venv", default=str(ROOT / ".build-tools" / "torch"))
    parser.add_argument("--out", default="bench.json")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--plugin", default=str(ROOT / ".build/torch/libcohort-torch.so"), help="what `make torch` built; its rows are left out where it is not")
    parser.add_argument("--nets", nargs="*", choices=list(NETS), default=list(NETS))
    parser.add_argument("--only", choices=["native", "torch"])
    arguments = parser.parse_args()
    python = f"{arguments.venv}/bin/python"
    if not os.path.exists(python):
        print("making an environment with PyTorch, once: some minutes", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", arguments.venv], check=True)
        subprocess.run([f"{arguments.venv}/bin/pip", "install", "-q", "torch", "numpy", "safetensors", "onnx", "onnxruntime"], check=True)
    build = ["swift", "build", "-c", "release", "--scratch-path", ".build-bench"]
    subprocess.run(build, check=True, cwd=ROOT, env={**os.environ, "COHORT_ONLY": "EngineBench"}, stdout=subprocess.DEVNULL)
    ours = str(ROOT / ".build-bench/release/EngineBench")
    theirs = [python, str(ROOT / "Benchmarks/engine_torch.py")]

    rows = []

    def row(name, unit, mine, peer, other, ratios, bar):
        ratio = statistics.median(ratios)
        rows.append({
            "name": name, "unit": unit, "ours": statistics.median(mine), "peer": peer, "theirs": statistics.median(other), "ratio": ratio,
            "bar": bar, "holds": ratio >= bar})
        print(f"{name:52} {rows[-1]['ours']:10.1f} {unit:8} {rows[-1]['theirs']:10.1f} {peer:22} {ratio:8.2f} x, bar {bar}: "
              f"{'holds' if ratio >= bar else 'FALLS SHORT'}", flush=True)

    for net in arguments.nets if arguments.only != "torch" else []:
        bar = NETS[net]
        one, two, torch, sgemm = [], [], [], []
        for _ in range(arguments.turns):
            step, product = lines([ours, "1", net, "sgemm"])
            one.append(step)
            sgemm.append(product["gigaflops"])
            torch.append(lines(theirs + ["1", net])[0])
            two.append(lines([ours, "2", net])[0])
        mine = [step["microseconds"] for step in one]
        other = [step["microseconds"] for step in torch]
        pair = [step["microseconds"] for step in two]
        row(f"step of {net}, one thread", "us", mine, "PyTorch eager", other, [b / a for a, b in zip(mine, other)], bar)
        row(f"step of {net}, two threads", "us", pair, "ours, one thread", mine, [a / b for a, b in zip(mine, pair)],
            1.7 if net in LARGE else 0.9)
        if net == "784-1024-1024-10:256":
            rate = [step["gigaflops"] for step in one]
            row(f"rate of {net}", "GFLOP/s", rate, "sgemm of 1024", sgemm, [a / b for a, b in zip(rate, sgemm)], 0.88)
    has_plugin = os.path.exists(arguments.plugin) and arguments.only != "native"
    if not has_plugin and arguments.only != "native":
        print("the torch engine is left out: `make torch` builds its plugin", file=sys.stderr)
    for net in arguments.nets if has_plugin else []:
        bar = PLUGIN[net]
        plugin, eager, compiled = [], [], []
        for _ in range(arguments.turns):
            plugin.append(lines([ours, f"1:{arguments.plugin}", net])[0]["microseconds"])
            eager.append(lines(theirs + ["1", net])[0])
            compiled.append(lines(theirs + ["1", "--compile", net])[0]["microseconds"])
        if eager[0]["device"] != "cpu":
            bar = 5 if net in list(PLUGIN)[:2] else 1
        eager = [step["microseconds"] for step in eager]
        row(f"torch engine, step of {net}", "us", plugin, "PyTorch eager", eager, [b / a for a, b in zip(plugin, eager)], bar)
        row(f"torch engine, step of {net}, to compiled", "us", plugin, "torch.compile", compiled, [b / a for a, b in zip(plugin, compiled)], 1)
    if arguments.only == "torch":
        return write(arguments.out, rows)
    # Allocations a step: what more epochs cost more, over what they have more steps.
    library = str(ROOT / ".build-bench" / "allocations.so")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, str(ROOT / "Benchmarks/allocations.c"), "-ldl"], check=True)

    def allocations(net, epochs):
        done = subprocess.run([ours, "1", f"epochs={epochs}:{net}"], check=True, stderr=subprocess.PIPE, text=True, env={**os.environ, "LD_PRELOAD": library})
        return int(done.stderr.split()[-2])

    for net in arguments.nets:
        count = (allocations(net, 30) - allocations(net, 10)) / 20
        rows.append({"name": f"allocations an epoch of 50 steps of {net}", "unit": "allocations", "ours": count, "peer": None, "theirs": None,
                     "ratio": None, "bar": 10, "holds": count <= 10})
        print(f"{rows[-1]['name']:52} {count:10.1f}, bar 10: {'holds' if count <= 10 else 'FALLS SHORT'}", flush=True)
    write(arguments.out, rows)


def write(path, rows):
    out = pathlib.Path(path)
    names = {row["name"] for row in rows}
    others = [row for row in json.loads(out.read_text()) if row["name"] not in names] if out.exists() else []
    out.write_text(json.dumps(others + rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
