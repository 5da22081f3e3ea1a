#!/usr/bin/env python3
"""Put and get of 100 MB in a SeaweedFS on this machine: Cohort's S3 store and boto3, in turns. Needs boto3 (PyPI).

    python3 Benchmarks/s3.py StoreBench [--megabytes 100] [--rounds 3]

COHORT_ONLY=StoreBench swift build -c release builds StoreBench.
"""
import argparse
import io
import json
import os
import resource
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import boto3
from botocore.config import Config

HERE = Path(__file__).resolve().parent
REPEATS = 3


class Sink(io.RawIOBase):
    """Takes bytes and drops them; boto3 writes its parts where it likes."""

    def writable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=0):
        return offset

    def write(self, data):
        return len(data)


def boto(endpoint, key, secret, data):
    client = boto3.client("s3", endpoint_url=endpoint, aws_access_key_id=key, aws_secret_access_key=secret, region_name="us-east-1",
                          config=Config(s3={"addressing_style": "path"}))
    rows = []
    for number in range(REPEATS):
        start = time.monotonic()
        client.upload_fileobj(io.BytesIO(data), "cohort", f"boto/{number}.bin")
        middle = time.monotonic()
        client.download_fileobj("cohort", f"boto/{number}.bin", Sink())
        rows.append({"put_s": middle - start, "get_s": time.monotonic() - middle})
        client.delete_object(Bucket="cohort", Key=f"boto/{number}.bin")
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bench", help="StoreBench, as built")
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    megabytes = arguments.megabytes
    with tempfile.TemporaryDirectory() as folder:
        lines = subprocess.run([HERE.parent / "scripts/seaweedfs.sh", "start", folder], check=True, capture_output=True, text=True).stdout
        env = dict(line.replace('"', "").split("=", 1) for line in lines.splitlines())
        try:
            url, key, secret = env["COHORT_TEST_S3_URL"], env["COHORT_TEST_S3_KEY"], env["COHORT_TEST_S3_SECRET"]
            ours, theirs, peak = [], [], 0.0
            data = os.urandom(megabytes << 20)
            for _ in range(arguments.rounds):
                out = subprocess.run([arguments.bench, url, str(megabytes), str(REPEATS)], check=True, capture_output=True, text=True,
                                     env={**os.environ, "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}).stdout
                rows = [json.loads(line) for line in out.splitlines()]
                peak = max(peak, rows.pop()["peak_mb"])
                ours += rows
                theirs += boto(url.split("endpoint=")[1], key, secret, data)
            for what in ("put_s", "get_s"):
                a, b = (statistics.median(row[what] for row in rows) for rows in (ours, theirs))
                print(f"{what[:3]} of {megabytes} MB: Cohort {a:.3f} s, boto3 {b:.3f} s, {b / a:.2f} times as fast")
            print(f"peak memory: Cohort {peak:.0f} MB, boto3 with the file in memory "
                  f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
        finally:
            subprocess.run([HERE.parent / "scripts/seaweedfs.sh", "stop", folder], check=False)


if __name__ == "__main__":
    main()
