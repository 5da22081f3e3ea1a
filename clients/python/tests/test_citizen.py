"""What people expect of a library: types, pickles, searches, doctests, an event loop."""

from __future__ import annotations

import asyncio
import doctest
import importlib
import os
import pickle
import socketserver
import threading
import time
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from conftest import EMAIL, PASSWORD, Server
from sklearn.model_selection import GridSearchCV

import cohort
from cohort import _dates, _labels
from cohort.sklearn import SETTINGS


@pytest.fixture(scope="module")
def flags() -> pd.DataFrame:
    """Three columns that tell a flag, a whole number, a fraction and a word apart."""
    random = np.random.default_rng(1)
    x = random.normal(size=240)
    return pd.DataFrame({"a": x, "b": random.normal(size=240), "flag": x > 0, "number": np.where(x > 0, 7, 3), "share": np.where(x > 0, 0.5, 1.5), "text": np.where(x > 0, "7", "3")})


@pytest.mark.parametrize("target", ["flag", "number", "share", "text"])
def test_predictions_have_the_targets_type(client: cohort.Client, flags: pd.DataFrame, target: str, tmp_path: Path) -> None:
    table = flags[["a", "b", target]]
    run = client.fit(table, target=target, peers=2, task="classification", rounds=10, lr=0.01, seed=1, progress=False)
    for predicted in (run.predict(table), run.predict(table, local=True), run.model.predict(table)):
        assert predicted.dtype == table[target].to_numpy().dtype
        assert (predicted == table[target]).mean() > 0.9
    # A file that somebody else loads: as pandas would read the column.
    run.save(tmp_path / "m.safetensors")
    loaded = cohort.Model.load(tmp_path / "m.safetensors").predict(table)
    if target in ("flag", "number"):
        assert (loaded == table[target]).mean() > 0.9


def test_labels_without_their_data_are_what_pandas_reads() -> None:
    for classes, kind in ((["False", "True"], "b"), (["-3", "0", "12"], "i"), (["007", "12"], "O"), (["1", "x"], "O")):
        assert _labels.typed(classes, None, classes).dtype.kind == kind


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "2 columns are named 'a'"),
        (pd.DataFrame({"a": [], "b": []}), "no rows"),
        (pd.DataFrame({"a": [1]}), "1 columns"),
        (pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")])), "2 levels"),
        (pd.DataFrame({"a": [{"x": 1}], "b": [1]}), "'a' holds a dict"),
        (pd.DataFrame({"a": pd.to_timedelta([1], unit="s"), "b": [1]}), "'a' holds time spans"),
        (pd.DataFrame({"a": [1j], "b": [1]}), "'a' holds complex numbers"),
    ],
)
def test_a_table_is_looked_at_before_anything_is_sent(client: cohort.Client, table: pd.DataFrame, sentence: str) -> None:
    before = len(client.sessions())
    with pytest.raises(ValueError, match=sentence):
        client.fit(table, progress=False)
    assert len(client.sessions()) == before


def test_a_search_over_a_setting_in_two_processes(client: cohort.Client, flags: pd.DataFrame) -> None:
    search = GridSearchCV(cohort.CohortClassifier(client, rounds=3, seed=1), {"lr": [0.0001, 0.02]}, n_jobs=2, cv=2, error_score="raise")
    search.fit(flags[["a", "b"]], flags.flag)
    assert search.best_params_ == {"lr": 0.02} and search.best_score_ > 0.85


def test_parameters_are_the_servers_settings(client: cohort.Client) -> None:
    described = client._json("GET", "/openapi.json")["paths"]["/sessions/start"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    other = {"file", "filename", "sha256", "peers", "target", "task", "from", "module", "header"}
    assert set(SETTINGS) == set(described) - other
    estimator = cohort.CohortRegressor(client, lr=0.1)
    assert estimator.get_params()["lr"] == 0.1 and estimator.set_params(hidden=[8]).get_params()["hidden"] == [8]
    with pytest.raises(ValueError, match="did you mean 'rounds'"):
        estimator.set_params(round=3)
    with pytest.raises(ValueError, match="there is no parameter 'colour'"):
        cohort.CohortClassifier(client, colour="red").fit([[0], [1]], ["a", "b"])
    with pytest.raises(ValueError, match="3 missing values of 3"):
        cohort.CohortClassifier(client).fit([[0], [1], [2]], [None] * 3)


def test_a_fitted_estimator_goes_into_a_file_without_its_sign_in(client: cohort.Client, flags: pd.DataFrame, tmp_path: Path) -> None:
    estimator = cohort.CohortClassifier(client, rounds=3, lr=0.02, seed=1).fit(flags[["a", "b"]], flags.flag)
    joblib.dump(estimator, tmp_path / "e.joblib")
    assert client._token and client._token.encode() not in (tmp_path / "e.joblib").read_bytes()
    loaded = joblib.load(tmp_path / "e.joblib")
    assert (loaded.predict(flags[["a", "b"]]) == estimator.predict(flags[["a", "b"]])).all()
    with pytest.raises(cohort.CohortError, match="read from a file"):
        _ = loaded.run_.status
    # A client works in another process.
    assert pickle.loads(pickle.dumps(client)).peers() == client.peers()


DATES = {
    "ymd": ["2024-12-31", "2024/1/2 14:30", "2024-02-29T23:05:06.5+01:00", "2023-02-29", "2024-01/02"],
    "dmy": ["31.12.2024", "1/2/69", "1-2-68", "31.4.2024"],
    "mdy": ["12/31/2024", "2/29/24 2:30 PM", "13/1/2024"],
    "day-name-year": ["31 Dec 2024", "1-Sept-24", "1 January 2024", "1 Xyz 2024"],
    "name-day-year": ["Dec 31 2024", "December 31, 2024", "Dec-31-2024 12:00 AM"],
    "name-year": ["Dec 2024", "December-1999"],
    "year-name": ["2024-Dec", "2024 december"],
    "year-quarter": ["1974Q1", "1974-Q4", "1974:1", "1974Q5"],
    "year-month": ["2024-12", "1950M1", "1950:13"],
    "time": ["14:30", "2:30 PM", "24:00", "25:00"],
    "compact": ["20241231", "20240230"],
    "yymmdd": ["241231", "690101"],
    "epoch-seconds": ["0", "1735603200", "-1"],
    "epoch-milliseconds": ["1735603200999"],
}


def test_dates_are_read_as_their_formats_say() -> None:
    read = {(name, text): _dates.read(text, name) for name, texts in DATES.items() for text in texts}
    none = {text for (_, text), date in read.items() if date is None}
    assert none == {"2023-02-29", "2024-01/02", "31.4.2024", "13/1/2024", "1 Xyz 2024", "1974Q5", "1950:13", "25:00", "20240230"}
    assert [read["dmy", text].year for text in ("1/2/69", "1-2-68")] == [1969, 2068]  # type: ignore[union-attr]
    assert read["mdy", "2/29/24 2:30 PM"].hour == 14 and read["name-day-year", "Dec-31-2024 12:00 AM"].hour == 0  # type: ignore[union-attr]
    assert read["year-quarter", "1974-Q4"].month == 10 and read["epoch-seconds", "-1"].year == 1969  # type: ignore[union-attr]


def test_a_model_with_dates_predicts_on_this_machine_as_on_the_server(client: cohort.Client) -> None:
    random = np.random.default_rng(2)
    days = pd.to_datetime("2020-01-01") + pd.to_timedelta(random.integers(0, 1500, 400), unit="D") + pd.to_timedelta(random.integers(0, 86400, 400), unit="s")
    table = pd.DataFrame({"when": days.astype("datetime64[s]"), "x": random.normal(size=400)})
    table["y"] = table.x + np.sin(2 * np.pi * table.when.dt.day_of_year / 365.25) + table.when.dt.hour / 24
    table["when"] = table.when.dt.strftime("%Y-%m-%d %H:%M")
    table.loc[3, "when"] = None
    run = client.fit(table, target="y", peers=2, rounds=5, seed=1, progress=False)
    assert next(column for column in run.model.schema["columns"] if column["name"] == "when")["kind"] == "date"
    assert np.allclose(run.predict(table), run.model.predict(table), atol=1e-4)
    with pytest.raises(ValueError, match="row 1: '2020-13-01' in 'when' is not a date"):
        run.model.predict([{"when": "2020-13-01", "x": 1}])


def test_a_kept_connection_that_the_server_closed_is_no_error() -> None:
    class Closing(socketserver.StreamRequestHandler):
        """Answers the first request of a connection and hangs up at the second, as a server does that closes idle connections."""

        def handle(self) -> None:
            for turn in range(2):
                while (line := self.rfile.readline()) not in (b"\r\n", b""):
                    del line
                if turn == 0:
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Closing) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with cohort.Client(f"http://127.0.0.1:{server.server_address[1]}", "token") as client:
            assert [client.peers() for _ in range(4)] == [[]] * 4
        server.shutdown()


def test_waiting_for_peers_ends_with_the_peer_or_the_time(server: Server, client: cohort.Client) -> None:
    client.wait_for_peers(2, timeout=30)
    began = time.monotonic()
    with pytest.raises(cohort.CohortError, match="99 free peers were waited for"):
        client.wait_for_peers(99, timeout=0.5)
    assert time.monotonic() - began >= 0.5


def test_an_event_loop(server: Server, client: cohort.Client, penguins: pd.DataFrame) -> None:
    async def train() -> tuple[str, list[str]]:
        async with await cohort.AsyncClient.connect(server.url, email=EMAIL, password=PASSWORD) as waiting:
            run = await waiting.fit(penguins, target="species", peers=2, rounds=3, progress=False, wait=False)
            kinds = [notice["kind"] async for notice in waiting.events(run)]
            await waiting.wait(run)
            assert len(await waiting.predict(run, penguins)) == len(penguins) and await waiting.peers() and await waiting.sessions()
            return (await waiting.status(run))["status"], kinds

    status, kinds = asyncio.run(train())
    assert status == "COMPLETED" and "status" in kinds


def test_what_things_are_called(client: cohort.Client, server: Server) -> None:
    assert repr(client) == f"<cohort.Client of {server.url}>"
    run = client.fit([{"x": index % 7, "y": "ab"[index % 2]} for index in range(60)], peers=1, rounds=2, name="tiny", progress=False)
    assert repr(run).startswith("<cohort.Run 'tiny' ") and "accuracy 0." in repr(run) or "accuracy 1.0" in repr(run)
    assert repr(run.model) == "<cohort.Model that predicts 'y' as one of 2 classes>"
    assert client.sessions(limit=1)[0]["name"] == "tiny"


@pytest.mark.parametrize("name", ["_async", "_client", "_model", "_run", "sklearn"])
def test_the_examples_of_docstrings_run(name: str, client: cohort.Client, penguins: pd.DataFrame, tmp_path: Path) -> None:
    run = client.fit(penguins, target="species", peers=2, rounds=12, lr=0.01, seed=1, progress=False)
    path = os.fspath(tmp_path / "model.safetensors")
    run.save(path)
    found = doctest.testmod(importlib.import_module(f"cohort.{name}"), extraglobs={"asyncio": asyncio, "client": client, "cohort": cohort, "df": penguins, "path": path, "run": run})
    assert found.attempted > 0 and found.failed == 0
