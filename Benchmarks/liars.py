#!/usr/bin/env python3
"""Eight peers of which two lie: accuracy on held-out rows by strategy and lie, beside none lying. The honest ones are real peers; the liars are the Python peer of
Examples, over HTTP, whose update is changed before it is sent, or whose labels are.

    python3 Benchmarks/liars.py [--binary .build/release/cohort] [--venv DIR] [--out bench.json] [--seeds 2] [--only fedavg …]

Digits (scikit-learn), ten rounds of three epochs, Adam 0.005, batch 16, one hidden layer of 64. A row holds when a robust strategy stays within 2 points of what it
reaches when nobody lies. Makes a virtual environment once."""
import argparse
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
LIES = ["none", "sign flip", "times 10", "noise", "labels"]
STRATEGIES = ["fedavg", "median", "trimmed_mean", "krum", "multi_krum", "geometric_median", "centered_clipping"]


def lie(arguments):
    """A peer that lies, until it is ended."""
    import numpy as np

    sys.path.insert(0, str(HERE.parent / "Examples" / "python-peer"))
    import peer as honest

    class LyingNet(honest.Net):
        def file(self, streams, *arguments_of_file):
            random = np.random.default_rng()
            changes = [tensor - start for tensor, start in zip(self.parameters, self.start)]
            if arguments.lie == "sign flip":
                changes = [-change for change in changes]
            elif arguments.lie == "times 10":
                changes = [-10 * change for change in changes]
            elif arguments.lie == "noise":
                size = 3 * max(float(np.sqrt(np.mean(change**2))) for change in changes)
                changes = [random.normal(0, size, change.shape).astype(np.float32) for change in changes]
            self.parameters = [start + change for start, change in zip(self.start, changes)]
            return super().file(streams, *arguments_of_file)

    class LyingTable(honest.Table):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.y = int(self.y.max()) - self.y

    honest.Net = LyingNet
    if arguments.lie == "labels":
        honest.Table = LyingTable
    arguments.serve, told = "mine", threading.Lock()
    server = honest.Server(arguments)
    if arguments.speed:
        server.speed = float(arguments.speed)
    call = server.call
    server.call = lambda method, path, body=None, token=None: call(
        method, path, {key: value for key, value in body.items() if key != "transport"} if path == "/peers" else body, token)
    server.register()

    def send(event):
        with told:
            try:
                server.call("POST", f"/peers/{server.id}/events", event)
            except honest.urllib.error.HTTPError as error:
                work.stopped.add(event["session_id"]) if error.code == 409 else None

    work = honest.Work(server, send)
    threading.Thread(target=server.beat, args=(threading.Event(), lambda: os._exit(1)), daemon=True).start()
    request = honest.urllib.request.Request(f"{server.url}/peers/{server.id}/commands?registration={server.registration}")
    request.add_header("Authorization", f"Bearer {server.credential}")
    through = 0
    with honest.urllib.request.urlopen(request) as lines:
        for line in lines:
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field == "id":
                through = int(value)
            elif field == "data":
                server.call("POST", f"/peers/{server.id}/commands/ack", {"through": through})
                work.obey(json.loads(value))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", default=str(HERE.parent / ".build/release/cohort"))
    parser.add_argument("--venv", default=str(HERE.parent / ".build-bench" / "venv-liars"))
    parser.add_argument("--out")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=STRATEGIES)
    parser.add_argument("--lies", nargs="*", default=LIES)
    for option in ("--lie", "--server", "--token", "--name", "--speed"):
        parser.add_argument(option, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.lie:
        return lie(arguments)
    from accuracy import Pool
    from strategies import WRITE

    python = f"{arguments.venv}/bin/python"
    if not os.path.exists(python):
        subprocess.run(["python3", "-m", "venv", arguments.venv], check=True)
        subprocess.run([f"{arguments.venv}/bin/pip", "install", "-q", "scikit-learn", "numpy", "pika"], check=True)
    found = {}
    with tempfile.TemporaryDirectory(prefix="cohort-liars-") as folder:
        data = f"{folder}/digits.csv"
        subprocess.run([python, "-c", WRITE, "digits", data], check=True)
        for kind in arguments.lies:
            os.makedirs(f"{folder}/{kind}")
            pool = Pool(arguments.binary, f"{folder}/{kind}", 8 if kind == "none" else 6)
            liars = []
            try:
                token = pool.call("token").split()[-1]
                # As fast as the others: rows are dealt by it, and a mean is weighted by rows.
                speed = statistics.median(peer["samples_per_second"] for peer in json.loads(pool.call("peers", "--json")))
                if kind != "none":
                    for index in range(2):
                        liars.append(subprocess.Popen(
                            [python, __file__, "--lie", kind, "--server", pool.url, "--token", token, "--name", f"liar-{index}", "--speed", str(speed)],
                            stderr=open(f"{folder}/{kind}/liar-{index}.log", "w"), env={**os.environ, "OMP_NUM_THREADS": "1"}))
                    # The API has no stream of peers.
                    for _ in range(300):
                        if pool.call("peers").count("ONLINE") >= 8:
                            break
                        if any(liar.poll() is not None for liar in liars):
                            sys.exit(f"a liar ended: {folder}/{kind}/liar-*.log says why")
                        time.sleep(0.2)
                    else:
                        sys.exit("the liars did not come within a minute")
                for strategy in arguments.only:
                    robust = ["--malicious-peers", "2"] if strategy != "fedavg" else []
                    scores = []
                    for seed in range(arguments.seeds):
                        lines = pool.call(
                            "train", data, "--target", "y", "--peers", "8", "--strategy", strategy, *robust, "--rounds", "10", "--epochs", "3", "--batch-size",
                            "16", "--lr", "0.005", "--hidden", "64", "--seed", str(seed), "--validation", "0.25", "--wait", "--json", check=False)
                        result = json.loads(lines.strip().splitlines()[-1])
                        scores.append(result["metrics"]["accuracy"] if "metrics" in result else float("nan"))
                    found[strategy, kind] = statistics.fmean(scores)
                    print(f"{strategy}, {kind}: {100 * found[strategy, kind]:.1f} %", flush=True)
            finally:
                for process in liars:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                pool.stop()
    print(f"| strategy | {' | '.join(arguments.lies)} |\n|---|{'---|' * len(arguments.lies)}")
    for strategy in arguments.only:
        print(f"| {strategy} | {' | '.join(f'{100 * found[strategy, kind]:.1f} %' for kind in arguments.lies)} |")
    if arguments.out:
        path = pathlib.Path(arguments.out)
        rows = [
            {"name": f"{strategy}, two of eight peers lie ({kind}), accuracy", "unit": "share", "ours": found[strategy, kind], "peer": "none lies",
             "theirs": found[strategy, "none"], "ratio": found[strategy, kind] / found[strategy, "none"], "bar": 0.98,
             "holds": strategy == "fedavg" or found[strategy, kind] >= found[strategy, "none"] - 0.02}
            for strategy in arguments.only for kind in arguments.lies if kind != "none" and "none" in arguments.lies]
        names = {row["name"] for row in rows}
        others = [row for row in json.loads(path.read_text()) if row["name"] not in names] if path.exists() else []
        path.write_text(json.dumps(others + rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
