"""scikit-learn's interface: an estimator whose ``fit`` trains on a Cohort server, and which predicts on this machine."""

from __future__ import annotations

import difflib
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from ._client import Client, connect
from ._errors import CohortError
from ._run import Run

_TARGET = "target"


#: The settings of ``POST /sessions/start`` that an estimator takes as parameters, so that a search can vary them.
SETTINGS = (
    "activation", "batch_size", "beta1", "beta2", "buffer_size", "category", "class_weight", "dropout", "early_stopping", "epochs", "epsilon", "gradient_clip", "group", "hidden", "ignore", "keep_updates",
    "label_smoothing", "local_steps", "loss", "lr", "lr_schedule", "malicious_peers", "max_norm_ratio", "min_peers", "momentum", "name", "nearest_neighbor_mixing", "nesterov",
    "note", "number", "optimizer", "optimizer_state", "per_peer", "pool", "proximal_mu", "rounds", "scaling", "seed", "server_lr", "server_momentum", "server_tau", "strategy",
    "update_compression", "use", "validation", "weight_decay", "weighting",
)


class _Loaded:
    """In place of the client of a run that was read from a file."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise CohortError("this run was read from a file, without its sign-in: cohort.connect(…).run(id) is the same run", "unauthenticated")


class _Estimator(BaseEstimator):  # type: ignore[misc]
    _task: str

    def __init__(
        self, client: Client | None = None, peers: int | str = 1, settings: dict[str, Any] | None = None, progress: bool = False, **parameters: Any
    ) -> None:
        self.client = client
        self.peers = peers
        self.settings = settings
        self.progress = progress
        self.parameters = parameters

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Own parameters, and every setting: None where the server's default holds."""
        own = {name: getattr(self, name) for name in ("client", "peers", "settings", "progress")}
        return {**own, **dict.fromkeys(SETTINGS), **self.parameters}

    def set_params(self, **parameters: Any) -> Any:
        """Sets own parameters and settings by name."""
        for name, value in parameters.items():
            if name in ("client", "peers", "settings", "progress"):
                setattr(self, name, value)
            elif name in SETTINGS:
                self.parameters[name] = value
            else:
                near = difflib.get_close_matches(name, [*SETTINGS, "client", "peers", "settings", "progress"], 1)
                raise ValueError(f"there is no parameter '{name}' of {type(self).__name__}" + (f"; did you mean '{near[0]}'?" if near else ""))
        return self

    def __getstate__(self) -> dict[str, Any]:
        # A fitted estimator goes into files, where no sign-in belongs; it predicts without one. One that is to be fitted goes to workers, which need it.
        state = dict(super().__getstate__())
        if "model_" in state:
            state["client"] = None
            state["run_"] = Run(_Loaded(), self.run_.id)  # type: ignore[arg-type]
        return state

    def fit(self, X: Any, y: Any) -> Any:
        """Trains with ``peers`` machines. ``X``: a DataFrame, or an array [rows, columns]; ``y``: [rows]."""
        frame = self._frame(X)
        if len(frame) != len(y):
            raise ValueError(f"X has {len(frame)} rows and y {len(y)}")
        self._check_labels(y)
        self.n_features_in_ = frame.shape[1]
        self._columns = list(frame.columns)
        name = _TARGET
        while name in frame.columns:
            name += "_"
        frame[name] = self._labels(y)
        unknown = next((name for name in self.parameters if name not in SETTINGS), None)
        if unknown is not None:
            self.set_params(**{unknown: None})
        client = self.client or connect()
        settings = {**(self.settings or {}), **{name: value for name, value in self.parameters.items() if value is not None}}
        self.run_: Run = client.fit(
            frame, target=name, peers=self.peers, task=self._task, progress=self.progress, **settings  # type: ignore[arg-type]
        )
        self.model_ = self.run_.model
        return self

    def _labels(self, y: Any) -> npt.NDArray[Any]:
        return np.asarray(y)

    def _check_labels(self, y: Any) -> None:
        missing = pd.isna(pd.Series(np.asarray(y, dtype=object))).sum()
        if missing:
            raise ValueError(f"y has {missing} missing values of {len(y)}; leave those rows out")

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

    ``client``: of ``cohort.connect``; else the user who is signed in on this machine. Every setting of ``Client.fit`` is a parameter as well, so that a search
    can vary it: ``GridSearchCV(CohortClassifier(client), {"lr": [0.001, 0.01]}, n_jobs=2)``. A fitted estimator can be pickled: the file holds the model, and no sign-in.

    >>> estimator = cohort.CohortClassifier(client, peers=2, rounds=12, lr=0.01, seed=1)
    >>> estimator.fit(df[["bill_length_mm", "bill_depth_mm"]], df.species).score(df[["bill_length_mm", "bill_depth_mm"]], df.species) > 0.8
    True
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
