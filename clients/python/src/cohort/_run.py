"""A session: one training, from its start to its model."""

from __future__ import annotations

import os
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from . import _labels, _table
from ._errors import CohortError, TrainingFailed
from ._model import Model
from ._progress import Progress

if TYPE_CHECKING:
    from ._client import Client

_FINAL = ("COMPLETED", "FAILED", "CANCELLED")


class Run:
    """A session of a server. What it says of itself is asked for when it is wanted."""

    def __init__(self, client: Client, id: str, labels: _labels.Labels | None = None) -> None:
        self._client = client
        self.id = id
        #: The labels as the data had them, where it was started from here.
        self._labels = labels

    def __repr__(self) -> str:
        """The state and, when it has completed, the score: these are asked for."""
        try:
            status = self.status
            score = f", {'R²' if self.results['task'] == 'regression' else 'accuracy'} {self.score:.3f}" if status["status"] == "COMPLETED" else ""
            name = f" '{status['name']}'" if status.get("name") else ""
            return f"<cohort.Run{name} {self.id[:8]}: {status['message']}{score}>"
        except CohortError as error:
            return f"<cohort.Run {self.id[:8]}: {error}>"

    @property
    def status(self) -> dict[str, Any]:
        """``status`` (PENDING, RUNNING, COMPLETED, FAILED, CANCELLED), ``message``, ``progress`` from 0 to 1, ``round`` (from 0), ``peers``, …"""
        return cast("dict[str, Any]", self._client._json("GET", "/sessions/training-status", params={"session_id": self.id}))

    def wait(self, progress: bool = True) -> Run:
        """Returns when the session has completed, across restarts of the server.

        Raises ``TrainingFailed`` when it ends without a model. Interrupted, the session goes on; ``cancel`` ends it.
        """
        shown = Progress(self.id) if progress else None
        patience = 0.2
        while True:
            try:
                for notice in self._client._events(self.id):
                    patience = 0.2
                    if shown:
                        shown.take(notice)
                status = self.status
                if status["status"] in _FINAL:
                    break
            except CohortError as error:
                if error.code != "unavailable":
                    raise
                if shown and patience > 0.2:  # Once is a connection that was cut.
                    shown.say(f"{error}; trying again")
            time.sleep(patience)
            patience = min(patience * 2, 3)
        if shown:
            shown.end(status)
        if status["status"] != "COMPLETED":
            raise TrainingFailed(status.get("error") or status["message"], status["status"].lower())
        return self

    def cancel(self) -> None:
        """Stops the session; what was trained so far stays."""
        self._client._json("POST", f"/sessions/{self.id}/cancel")

    def delete(self) -> None:
        """Removes the ended session from the server, with its data and its model."""
        self._client._json("DELETE", f"/sessions/{self.id}")

    @cached_property
    def results(self) -> dict[str, Any]:
        """What came out: ``metrics`` on the held-out rows, ``evaluation`` in detail, ``peers``, ``history``, ``warnings``, ``seed``, …"""
        return cast("dict[str, Any]", self._client._json("GET", f"/sessions/{self.id}/results"))

    @property
    def score(self) -> float:
        """Accuracy, or R² of a quantity, on the held-out rows.

        >>> run.score > 0.9
        True
        """
        metrics = self.results["metrics"]
        return float(metrics["r2"] if self.results["task"] == "regression" else metrics["accuracy"])

    @property
    def rounds(self) -> list[dict[str, Any]]:
        """A record a finished round: ``round`` (from 1), ``seconds``, ``loss`` and ``accuracy`` of training, ``val_loss`` and ``val_accuracy`` (or
        ``val_r2``) on the held-out rows."""
        session = self._client._json("GET", f"/sessions/{self.id}")
        records = []
        for entry in session.get("rounds") or []:
            record: dict[str, Any] = {"round": entry["round"] + 1, "seconds": entry["seconds"]}
            for prefix, metrics in (("", entry.get("training")), ("val_", entry.get("validation"))):
                record.update({prefix + name: metrics[name] for name in ("loss", "accuracy", "r2") if metrics and name in metrics})
            records.append(record)
        return records

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """A record an epoch of each peer: ``round`` and ``epoch`` (from 1), ``peer``, ``loss``, ``accuracy``, ``samples_per_second``."""
        points = self._client._json("GET", f"/sessions/{self.id}/metrics", params={"format": "json"})
        return [
            {"round": p["round"] + 1, "epoch": p["epoch"], "peer": p["peer_name"]}
            | {name: p[name] for name in ("loss", "accuracy", "r2", "samples_per_second") if name in p}
            for p in points
            if p.get("peer_name")
        ]

    @property
    def history(self) -> Any:
        """``rounds`` as a pandas DataFrame, by round; of strategies without rounds, ``epochs`` by epoch."""
        try:
            import pandas as pd
        except ImportError:
            raise ImportError("run.history is a DataFrame: pip install pandas; run.rounds has the same as dictionaries") from None
        return pd.DataFrame(self.rounds).set_index("round") if self.rounds else pd.DataFrame(self.epochs).set_index("epoch")

    @cached_property
    def model(self) -> Model:
        """The model, which predicts on this machine."""
        model = Model(self._client._model(self.id))
        model._labels = self._labels
        return model

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the model file (``.safetensors``)."""
        data = self._client._model(self.id)
        temporary = f"{os.fspath(path)}.part"
        with open(temporary, "wb") as file:
            file.write(data)
        os.replace(temporary, path)

    def predict(self, table: _table.Table, *, local: bool = False, allow_missing: bool = False) -> npt.NDArray[Any]:
        """A label or a number for each row: on the server, or with ``local`` on this machine. Labels have the type that they have in the data.

        >>> bool((run.predict(df) == df.species).mean() > 0.9)
        True

        With ``allow_missing``, columns that the table does not have count as missing values.
        """
        if local:
            return self.model.predict(table)
        predictions, _ = self._client._predict(self.id, table, allow_missing)
        if predictions and isinstance(predictions[0], str):
            return _labels.typed(predictions, self._labels, self.model.classes)
        return np.array(predictions)

    def predict_file(self, path: str | os.PathLike[str], output: str | os.PathLike[str], *, allow_missing: bool = False) -> None:
        """Predicts a whole CSV on the server, and writes it to ``output`` with the predictions behind its columns."""
        with open(path, "rb") as file:
            data = file.read()
        params = {"allow_missing": str(allow_missing).lower()}
        answer = self._client._request(
            "POST", f"/sessions/{self.id}/predictions", params=params, content=data, headers={"Content-Type": "text/csv"}, timeout=600
        )
        with open(output, "wb") as file:
            file.write(answer.content)

    def predict_proba(self, table: _table.Table, *, local: bool = False, allow_missing: bool = False) -> npt.NDArray[np.float64]:
        """The probability of each class, in the order of ``model.classes``: [rows, classes]."""
        if local:
            return self.model.predict_proba(table)
        _, probabilities = self._client._predict(self.id, table, allow_missing)
        if probabilities is None:
            raise ValueError("this model predicts a quantity, or there are no rows: there are no probabilities")
        return np.array([[row[label] for label in self.model.classes] for row in probabilities], np.float64)
