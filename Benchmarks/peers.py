#!/usr/bin/env python3
"""How much sooner two peers finish than one: the same epochs over MNIST (or another CSV), each peer with one thread.

    python3 Benchmarks/peers.py --file mnist.csv --target label [--binary .build/release/cohort] [--out bench.json]

One peer, then two, five times in turns, each pool warm (data set in its cache); the time is the session's own, from start to COMPLETED. The
file can be made by read_csv.py."""

import argparse
import json
import os
import pathlib
import statistics
import tempfile

from accuracy import Pool

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", default=str(ROOT / ".build/release/cohort"))
    parser.add_argument("--file", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--out", default="bench.json")
    arguments = parser.parse_args()
    os.environ["COHORT_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as scratch:
        pools = {}
        try:
            for peers in (1, 2):
                os.mkdir(f"{scratch}/{peers}")
                pools[peers] = Pool(arguments.binary, f"{scratch}/{peers}", peers)
            seconds = {1: [], 2: []}
            for turn in range(6):
                for peers, pool in pools.items():
                    pool.call(
                        "train", arguments.file, "--target", arguments.target, "--peers", str(peers), "--rounds", "5", "--epochs", "2",
                        "--hidden", "256,128", "--batch-size", "64", "--seed", "1")
                    logs = json.loads(pool.call("status", "--json"))
                    rounds = json.loads(pool.call("results", logs["session_id"], "--json"))["seconds"]
                    if turn > 0:
                        seconds[peers].append(rounds)
        finally:
            for pool in pools.values():
                pool.stop()
    ratio = statistics.median(b / a for a, b in zip(seconds[1], seconds[2]))
    row = {"name": "10 epochs by two peers of one thread", "unit": "s", "ours": statistics.median(seconds[2]), "peer": "ours, one peer",
           "theirs": statistics.median(seconds[1]), "ratio": ratio, "bar": 0.58, "holds": ratio <= 0.58}
    print(f"one peer {row['theirs']:.2f} s, two {row['ours']:.2f} s: {ratio:.2f}, bar 0.58: {'holds' if row['holds'] else 'FALLS SHORT'}")
    out = pathlib.Path(arguments.out)
    others = [other for other in json.loads(out.read_text()) if other["name"] != row["name"]] if out.exists() else []
    out.write_text(json.dumps(others + [row], indent=1) + "\n")


if __name__ == "__main__":
    main()
