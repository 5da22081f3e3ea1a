"""Against a real server with real peers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import cohort
from conftest import BINARY, EMAIL, PASSWORD, ROOT, Server

SETTINGS: dict[str, Any] = {"rounds": 4, "epochs": 3, "batch_size": 8, "lr": 0.005, "hidden": [16], "seed": 7}


@pytest.fixture(scope="module")
def run(client: cohort.Client, penguins: pd.DataFrame) -> cohort.Run:
    return client.fit(penguins, target="species", peers=2, progress=False, name="penguins", **SETTINGS)


def test_a_frame_trains_on_two_peers_and_says_what_came_out(run: cohort.Run) -> None:
    assert run.status["status"] == "COMPLETED"
    assert {peer["name"] for peer in run.results["peers"]} == {"one", "two"}
    assert run.results["seed"] == 7 and run.results["rounds"] == 4
    assert run.score > 0.8
    assert list(run.history.index) == [1, 2, 3, 4]
    assert run.history["val_accuracy"].iloc[-1] == pytest.approx(run.score)
    assert run.history["loss"].iloc[-1] < run.history["loss"].iloc[0]
    epochs = run.epochs
    assert len(epochs) == 4 * 3 * 2
    assert {(e["round"], e["epoch"], e["peer"]) for e in epochs} == {(r, e, p) for r in range(1, 5) for e in range(1, 4) for p in ("one", "two")}


def test_server_and_numpy_predict_alike(run: cohort.Run, penguins: pd.DataFrame) -> None:
    there, here = run.predict(penguins), run.predict(penguins, local=True)
    assert list(there) == list(here)
    assert np.mean(there == penguins["species"]) > 0.8
    np.testing.assert_allclose(run.predict_proba(penguins), run.predict_proba(penguins, local=True), atol=1e-5)
    np.testing.assert_allclose(run.predict_proba(penguins).sum(axis=1), 1, atol=1e-5)


def test_training_goes_on_from_a_model(client: cohort.Client, run: cohort.Run, penguins: pd.DataFrame) -> None:
    # Steps too small to learn anything by, and the columns in another order: what it can, it could before.
    onward = client.fit(penguins[penguins.columns[::-1]], progress=False, from_model=run, rounds=1, lr=1e-9, seed=8)
    assert onward.score > 0.8
    with pytest.raises(cohort.CohortError, match="hidden does not go with from"):
        client.fit(penguins, progress=False, from_model=run.id, hidden=[4])


def test_rows_and_paths_are_tables_too(run: cohort.Run, penguins: pd.DataFrame, tmp_path: Path) -> None:
    expected = list(run.predict(penguins.head(20)))
    assert list(run.predict(penguins.head(20).to_dict("records"))) == expected
    assert list(run.model.predict(penguins.head(20).to_dict("records"))) == expected
    path = tmp_path / "rows.csv"
    penguins.head(20).to_csv(path, index=False)
    assert list(run.predict(path)) == expected
    assert list(run.model.predict(path)) == expected


def test_the_saved_file_is_what_the_command_line_reads(run: cohort.Run, penguins: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    run.save(path)
    out = subprocess.run([BINARY, "predict", path, ROOT / "Examples/penguins.csv"], check=True, capture_output=True).stdout.decode().split("\n")
    assert [line.split(",")[0] for line in out[1:] if line] == list(cohort.Model.load(path).predict(penguins))


def test_a_whole_file_comes_back_as_the_command_line_makes_it(run: cohort.Run, tmp_path: Path) -> None:
    path, model = ROOT / "Examples/penguins.csv", tmp_path / "model.safetensors"
    run.save(model)
    run.predict_file(path, tmp_path / "there.csv")
    expected = subprocess.run([BINARY, "predict", model, path, "--keep"], check=True, capture_output=True).stdout
    assert (tmp_path / "there.csv").read_bytes() == expected
    assert len(expected.splitlines()) == 345
    (tmp_path / "broken.csv").write_text("a,b\n1,2\n")
    with pytest.raises(cohort.CohortError, match="no column that the model predicts from"):
        run.predict_file(tmp_path / "broken.csv", tmp_path / "none.csv")
    assert not (tmp_path / "none.csv").exists()
    with pytest.raises(cohort.CohortError, match="empty"):
        (tmp_path / "empty.csv").write_text("")
        run.predict_file(tmp_path / "empty.csv", tmp_path / "none.csv")


def test_a_quantity_and_its_units(client: cohort.Client, penguins: pd.DataFrame) -> None:
    frame = penguins.dropna()[["flipper_length_mm", "bill_length_mm", "sex", "body_mass_g"]]
    run = client.fit(frame, target="body_mass_g", peers="all", progress=False, **{**SETTINGS, "rounds": 8})
    there, here = run.predict(frame), run.predict(frame, local=True)
    np.testing.assert_allclose(there, here, rtol=1e-4)
    assert abs(there.mean() - frame["body_mass_g"].mean()) < 300
    assert run.score == run.results["metrics"]["r2"]
    with pytest.raises(ValueError, match="quantity"):
        run.predict_proba(frame)


def test_the_same_table_is_not_sent_again(client: cohort.Client, penguins: pd.DataFrame, run: cohort.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[list[str]] = []
    plain = client._json

    def watch(method: str, path: str, **options: Any) -> Any:
        if path == "/sessions/start":
            sent.append([name for name, _ in options["files"]])
        return plain(method, path, **options)

    monkeypatch.setattr(client, "_json", watch)
    again = client.fit(penguins, target="species", peers=1, progress=False, rounds=1)
    assert "sha256" in sent[0] and "file" not in sent[0]
    again.delete()
    assert again.id not in [other.id for other in client.runs()]
    assert run.id in [other.id for other in client.runs()]


def test_a_run_goes_on_without_its_watcher_and_can_be_cancelled(client: cohort.Client, penguins: pd.DataFrame) -> None:
    run = client.fit(penguins, target="species", wait=False, rounds=100_000)
    assert client.run().id == run.id
    run.cancel()
    with pytest.raises(cohort.TrainingFailed) as failure:
        run.wait(progress=False)
    assert failure.value.code == "cancelled"
    client.wait_for_peers(2)


def test_refusals_are_the_servers_sentences(client: cohort.Client, server: Server, penguins: pd.DataFrame) -> None:
    with pytest.raises(cohort.CohortError, match="did you mean") as unknown:
        client.fit(penguins, target="species", epoch=3)
    assert unknown.value.code == "invalid" and unknown.value.status == 400
    with pytest.raises(cohort.CohortError) as busy:
        client.fit(penguins, target="species", peers=50)
    assert busy.value.code == "not_enough_peers" and busy.value.status == 400
    with pytest.raises(ValueError, match="did you mean 'species'"):
        client.fit(penguins, target="specie")
    with pytest.raises(cohort.TrainingFailed, match="specie"):
        client.fit(ROOT / "Examples/penguins.csv", target="specie", progress=False)
    with pytest.raises(cohort.CohortError) as wrong:
        cohort.connect(server.url, email=EMAIL, password="wrong horse")
    assert wrong.value.code == "unauthenticated"
    with pytest.raises(cohort.CohortError, match="cohort serve") as away:
        cohort.connect("http://127.0.0.1:9", email=EMAIL, password=PASSWORD)
    assert away.value.code == "unavailable"
    with pytest.raises(ValueError, match="no server's URL"):
        cohort.connect("127.0.0.1:8080", token="x")


def test_whoever_the_command_line_has_signed_in(server: Server, client: cohort.Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", server.environment["XDG_CONFIG_HOME"])
    monkeypatch.delenv("COHORT_SERVER", raising=False)
    server.run("login", "--server", server.url, "--email", EMAIL, "--password", PASSWORD)
    assert {peer.name for peer in cohort.connect().peers()} >= {"one", "two"}
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(cohort.CohortError, match="cohort login"):
        cohort.connect(server.url)
    (tmp_path / "cohort").mkdir()
    (tmp_path / "cohort/credentials.json").write_text("{")
    with pytest.raises(cohort.CohortError, match="credentials.json"):
        cohort.connect(server.url)


def test_closing_ends_the_sign_in_that_connecting_made(client: cohort.Client, server: Server) -> None:
    with cohort.connect(server.url, email=EMAIL, password=PASSWORD) as own:
        token = own._token
        with cohort.connect(server.url, token=token) as lent:
            assert {peer.name for peer in lent.peers()} >= {"one", "two"}
        # A lent token does not end the sign-in.
        assert own.peers()
    own.close()
    with cohort.connect(server.url, token=token) as ended, pytest.raises(cohort.CohortError) as refused:
        ended.peers()
    assert refused.value.code == "unauthenticated"
    assert client.peers()


def test_an_account_takes_an_invitation_where_the_server_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COHORT_INVITATION_CODES", "K7QM2-XW9PD")
    server = Server(tmp_path)
    try:
        with pytest.raises(cohort.CohortError) as refused:
            cohort.connect(server.url, email=EMAIL, password=PASSWORD, signup=True)
        assert refused.value.code == "invitation_required" and refused.value.status == 403
        with cohort.connect(server.url, email=EMAIL, password=PASSWORD, signup=True, invitation="k7qm2xw9pd") as client:
            assert client.peers() == []
    finally:
        server.stop()


def test_a_server_with_a_certificate_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(tmp_path, "--tls", "auto")
    try:
        server.run("signup", "--server", server.url, "--email", EMAIL, "--password", PASSWORD)
        monkeypatch.setenv("XDG_CONFIG_HOME", server.environment["XDG_CONFIG_HOME"])
        assert cohort.connect(server.url).peers() == []
        # Another certificate at the same address.
        known = tmp_path / "config/cohort/known-servers.json"
        known.write_text("{}")
        with pytest.raises(cohort.CohortError, match="(?i)certificate"):
            cohort.connect(server.url).peers()
    finally:
        server.stop()


def test_progress_line_by_line(client: cohort.Client, penguins: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    client.fit(penguins, target="species", **SETTINGS)
    shown = capsys.readouterr().err
    assert "Round 4 of 4 is done, held-out rows: loss" in shown and "100% Training completed" in shown


@pytest.mark.parametrize("data", [b"", b"x", json.dumps({}).encode(), (2).to_bytes(8, "little") + b"{}", b"\xff" * 40])
def test_what_is_no_model_file_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(ValueError, match="no model file"):
        cohort.Model(data)


def test_a_model_says_which_column_is_missing_and_which_cell_is_wrong(run: cohort.Run, penguins: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="'bill_length_mm'"):
        run.model.predict(penguins.drop(columns="bill_length_mm"))
    with pytest.raises(ValueError, match="row 2: 'long' in 'bill_length_mm'"):
        run.model.predict([{**row, "bill_length_mm": value} for row, value in zip(penguins.to_dict("records"), (1.5, "long"))])


def test_tensors_are_a_data_set(client: cohort.Client) -> None:
    generator = np.random.default_rng(3)
    labels = np.arange(240) % 3
    inputs = (generator.normal(size=(240, 2, 3)) * 0.3 + labels[:, None, None]).astype(np.float32)
    run = client.fit((inputs, labels), peers=2, progress=False, **SETTINGS)
    assert run.score > 0.9 and run.model.spec["inputs"] == 6
    predicted = run.model.predict(inputs)
    assert np.mean(predicted == labels) > 0.9
    with pytest.raises(ValueError, match=r"targets must be one number a row"):
        client.fit((inputs, labels[:-1]), progress=False)
    with pytest.raises(ValueError, match="5 numbers a row"):
        run.model.predict(inputs.reshape(240, 6)[:, :5])


def test_a_module_needs_a_shape_and_a_file_that_is_one(client: cohort.Client, penguins: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="input_shape is missing"):
        client.fit(penguins, module=object(), progress=False)
    with pytest.raises(ValueError, match="input_shape is for a module"):
        client.fit(penguins, input_shape=4, progress=False)
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    with pytest.raises(cohort.CohortError, match="this is no module's file") as error:
        client.fit(penguins, module=path, progress=False)
    assert error.value.code == "invalid"


def test_pandas_categories_of_numbers_are_categories(client: cohort.Client) -> None:
    frame = pd.DataFrame({"school": [101 + row % 5 for row in range(100)], "x": [row * 7 % 13 for row in range(100)], "y": ["ab"[row % 2] for row in range(100)]})
    plain = client.fit(frame, target="y", rounds=1, epochs=1, seed=1, progress=False)
    declared = client.fit(frame.astype({"school": "category"}), target="y", rounds=1, epochs=1, seed=1, progress=False)
    kinds = [{column["name"]: column["kind"] for column in client._json("GET", f"/sessions/{run.id}")["dataset"]["schema"]["columns"]} for run in (plain, declared)]
    assert kinds[0]["school"] == "numeric" and kinds[1]["school"] == "categorical"


@pytest.mark.parametrize(("sentence", "words"), [
    ("(the last column was taken; --target chooses another)", "(the last column was taken; target chooses another)"),
    ("an id: --ignore length leaves it out", "an id: ignore=['length'] leaves it out"),
    ("--category 'school id', or --class-weight balanced", "category=['school id'], or class_weight balanced"),
    ("a--b and -- stay", "a--b and -- stay"),
])
def test_sentences_name_parameters_and_no_options(sentence: str, words: str) -> None:
    assert str(cohort.CohortError(sentence, "invalid")) == words
