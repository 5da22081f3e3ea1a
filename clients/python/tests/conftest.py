"""A real server and two real peers, as separate processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cohort

ROOT = Path(__file__).resolve().parents[3]
BINARY = Path(os.environ.get("COHORT_BINARY", ROOT / ".build/debug/cohort"))
EMAIL, PASSWORD = "ada@example.org", "correct horse"


class Server:
    """``cohort serve`` on a free port, in a separate folder."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.environment = {**os.environ, "XDG_CONFIG_HOME": str(folder / "config"), "COHORT_LOG_LEVEL": "warning"}
        self.process = self.start("serve", "--port", "0", "--data-dir", str(folder / "server"), *options, stdout=subprocess.PIPE)
        assert self.process.stdout
        self.url = self.process.stdout.readline().decode().removeprefix("listening on ").strip()
        self.others: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str, **options: object) -> subprocess.Popen[bytes]:
        log = open(self.folder / f"{arguments[0]}.log", "ab")
        return subprocess.Popen([BINARY, *arguments], env=self.environment, stderr=log, **options)  # type: ignore[call-overload, no-any-return]

    def run(self, *arguments: str) -> str:
        return subprocess.run([BINARY, *arguments], env=self.environment, check=True, capture_output=True, timeout=60).stdout.decode()

    def add_peer(self, name: str, token: str) -> None:
        self.others.append(
            self.start("peer", "--server", self.url, "--token", token, "--name", name, "--threads", "1", "--data-dir", str(self.folder / name))
        )

    def stop(self) -> None:
        for process in [*self.others, self.process]:
            process.terminate()
        for process in [*self.others, self.process]:
            process.wait(timeout=30)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("cohort"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[cohort.Client]:
    with cohort.connect(server.url, email=EMAIL, password=PASSWORD, signup=True) as client:
        token = client.join_token("tests")
        for name in ("one", "two"):
            server.add_peer(name, token)
        client.wait_for_peers(2)
        yield client


@pytest.fixture(scope="session")
def penguins() -> object:
    import pandas as pd

    return pd.read_csv(ROOT / "Examples/penguins.csv")


if sys.platform != "linux":
    pytest.skip("a Cohort server runs on Linux", allow_module_level=True)
