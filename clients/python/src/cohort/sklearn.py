"""scikit-learn's interface: an estimator whose ``fit`` trains on a Cohort server, and which predicts on this machine."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from ._client import Client, connect
from ._run import Run

_TARGET = "target"


class _Estimator(BaseEstimator):  # type: ignore[misc]
    _task: str

    def __init__(self, client: Client | None = None, peers: int | str = 1, settings: dict[str, Any] | None = None, progress: bool = False) -> None:
        self.client = client
        self.peers = peers
        self.settings = settings
        self.progress = progress

    def fit(self, X: Any, y: Any) -> Any:
        """Trains with ``peers`` machines. ``X``: a DataFrame, or an array [rows, columns]; ``y``: [rows]."""
        frame = self._frame(X)
        if len(frame) != len(y):
            raise ValueError(f"X has {len(frame)} rows and y {len(y)}")
        self.n_features_in_ = frame.shape[1]
        self._columns = list(frame.columns)
        name = _TARGET
        while name in frame.columns:
            name += "_"
        frame[name] = self._labels(y)
        client = self.client or connect()
        self.run_: Run = client.fit(
            frame, target=name, peers=self.peers, task=self._task, progress=self.progress, **(self.settings or {})  # type: ignore[arg-type]
        )
        self.model_ = self.run_.model
        return self

    def _labels(self, y: Any) -> npt.NDArray[Any]:
        return np.asarray(y)

    def _frame(self, X: Any) -> Any:
        if isinstance(X, pd.DataFrame):
            frame = X.copy()
            frame.columns = [str(name) for name in frame.columns]
            return frame
        X = np.asarray(X)
        if X.ndim != 2:
            raise ValueError(f"X has the shape {X.shape}; it must be [rows, columns]")
        return pd.DataFrame(X, columns=[f"x{index}" for index in range(X.shape[1])])

    def _table(self, X: Any) -> Any:
        check_is_fitted(self, "model_")
        frame = self._frame(X)
        if frame.shape[1] != self.n_features_in_:
            raise ValueError(f"X has {frame.shape[1]} columns; the model was trained on {self.n_features_in_}")
        return frame


class CohortClassifier(ClassifierMixin, _Estimator):  # type: ignore[misc]
    """A classifier that a Cohort server trains.

    ``client``: of ``cohort.connect``; else the user who is signed in on this machine. ``settings``: those of ``Client.fit``.
    """

    _task = "classification"

    def _labels(self, y: Any) -> npt.NDArray[Any]:
        self.classes_, numbers = np.unique(np.asarray(y), return_inverse=True)
        # As separate texts: whatever the labels are, they come back as they were.
        return np.array([f"c{number}" for number in numbers])

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """A label of ``classes_`` for each row."""
        probabilities = self.predict_proba(X)
        return np.asarray(self.classes_[probabilities.argmax(axis=1)])

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """The probability of each of ``classes_``: [rows, classes]."""
        table = self._table(X)
        found = self.model_.predict_proba(table)
        probabilities = np.zeros((len(found), len(self.classes_)))
        for place, label in enumerate(self.model_.classes):
            probabilities[:, int(label[1:])] = found[:, place]
        return probabilities


class CohortRegressor(RegressorMixin, _Estimator):  # type: ignore[misc]
    """A regressor that a Cohort server trains. Its parameters are those of ``CohortClassifier``."""

    _task = "regression"

    def predict(self, X: Any) -> npt.NDArray[np.float64]:
        """A number for each row."""
        table = self._table(X)
        return np.asarray(self.model_.predict(table), np.float64)
