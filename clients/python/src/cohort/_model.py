"""A model file, read and used with NumPy alone."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from . import _dates, _labels, _table
from ._module import BYTES

_MISSING = ("", "na", "n/a", "nan", "null", "?")

Floats = npt.NDArray[np.float32]


def _sigmoid(z: Floats) -> Floats:
    # Of the side whose exponential does not overflow.
    small = np.exp(-np.abs(z))
    return np.asarray(np.where(z >= 0, 1 / (1 + small), small / (1 + small)), np.float32)


_ACTIVATIONS: dict[str, Callable[[Floats], Floats]] = {
    "relu": lambda z: np.maximum(z, np.float32(0)),
    "tanh": lambda z: np.tanh(z),
    "sigmoid": _sigmoid,
}


class Model:
    """A trained model: the tensors of a ``.safetensors`` file, and how raw rows become features (docs/model-file.md)."""

    def __init__(self, data: bytes) -> None:
        """Reads the bytes of a model file.

        Raises ``ValueError`` when they are no model file of Cohort.
        """
        self._module: bytes | None = None
        #: The labels as the data had them, where this model was trained from here.
        self._labels: _labels.Labels | None = None
        try:
            length = int.from_bytes(data[:8], "little")
            header = json.loads(data[8 : 8 + length])
            metadata = header.pop("__metadata__")
            self.format: str = metadata["format"]
            self.spec: dict[str, Any] = json.loads(metadata["spec"])
            self.schema: dict[str, Any] = json.loads(metadata["schema"])
            self.origin: dict[str, Any] = json.loads(metadata.get("origin", "{}"))
            tensors = {}
            for name, entry in header.items():
                first, last = (8 + length + offset for offset in entry["data_offsets"])
                if last > len(data):
                    raise ValueError("it is cut short")
                if name == BYTES:
                    self._module = data[first:last]
                    continue
                tensors[name] = np.frombuffer(data[first:last], "<f4").reshape(entry["shape"])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(f"this is no model file of Cohort, or a damaged one: {error}") from error
        if self.format != "cohort/1":
            raise ValueError(f"the model file's format is '{self.format}'; this version reads cohort/1")
        #: By name, as PyTorch has them.
        self.tensors: dict[str, Floats] = tensors
        names = [] if self._module is not None else sorted((name[:-7] for name in tensors if name.endswith(".weight")), key=int)
        #: Weight [out, in] and bias [out] of each linear layer.
        self.layers: list[tuple[Floats, Floats]] = [(tensors[f"{name}.weight"], tensors[f"{name}.bias"]) for name in names]

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Model:
        """Reads a model file."""
        with open(path, "rb") as file:
            return cls(file.read())

    @property
    def is_classifier(self) -> bool:
        """Whether it predicts classes, not a quantity."""
        return bool(self.spec["task"] == "classification")

    @property
    def classes(self) -> list[str]:
        """The labels, in the order of the outputs; empty for a quantity."""
        return list(self.schema["classes"])

    def __repr__(self) -> str:
        what = f"one of {len(self.classes)} classes" if self.is_classifier else "a quantity"
        return f"<cohort.Model that predicts '{self.target}' as {what}>"

    @property
    def target(self) -> str:
        """The column that is predicted."""
        return str(self.schema["target"])

    def features(self, table: _table.Table) -> Floats:
        """What the net sees: [rows, features].

        Raises ``ValueError`` for a cell that cannot be read, naming row and column.
        """
        columns = [column for column in self.schema["columns"] if column["kind"] in ("numeric", "categorical", "date")]
        if hasattr(table, "shape") and hasattr(table, "dtype"):
            return self._of_tensors(_table.array(table), columns)
        rows = list(_table.records(table))
        if rows:
            absent = [column["name"] for column in columns if column["name"] not in rows[0]]
            if absent:
                raise ValueError(f"the table has no column '{absent[0]}'; the model needs {', '.join(c['name'] for c in columns)}")
        matrix = np.zeros((len(rows), int(self.spec["inputs"])), np.float32)
        place = 0
        for column in columns:
            if column["kind"] == "numeric":
                matrix[:, place] = [_number(row.get(column["name"]), column, index) for index, row in enumerate(rows)]
                place += 1
                continue
            if column["kind"] == "date":
                parts = column.get("parts") or []
                for index, row in enumerate(rows):
                    matrix[index, place : place + len(parts)] = _date(row.get(column["name"]), column, parts, index)
                place += len(parts)
                continue
            known = {category: index for index, category in enumerate(column["categories"])}
            width = len(known) + bool(column.get("has_other"))
            for index, row in enumerate(rows):
                text = _text(row.get(column["name"]))
                if text in known:
                    matrix[index, place + known[text]] = 1
                elif text.lower() not in _MISSING and column.get("has_other"):
                    matrix[index, place + len(known)] = 1
            place += width
        return matrix

    def _of_tensors(self, inputs: npt.NDArray[Any], columns: list[dict[str, Any]]) -> Floats:
        x = inputs.reshape(len(inputs), -1).astype(np.float64)
        if x.shape[1] != len(columns) or any(column["kind"] != "numeric" for column in columns):
            raise ValueError(f"the array has {x.shape[1]} numbers a row; the model was not trained on such rows")
        shift = np.array([column.get("shift", column["mean"]) for column in columns])
        scale = np.array([column.get("scale", column["std"]) for column in columns])
        mean = np.array([column["mean"] for column in columns])
        x = np.where(np.isfinite(x), x, mean)
        return np.asarray(((x - shift) / scale).astype(np.float32))

    def decision_function(self, table: _table.Table) -> Floats:
        """The last layer's outputs: [rows, outputs]."""
        if self._module is not None:
            return self._forward(self.features(table))
        activate = _ACTIVATIONS[self.spec["activation"]]
        x = self.features(table)
        for index, (weight, bias) in enumerate(self.layers):
            x = x @ weight.T + bias
            if index + 1 < len(self.layers):
                x = activate(x)
        return x

    def torch_module(self) -> Any:
        """The ``torch.jit.ScriptModule`` of one's own that was trained, with its weights. Its code runs when it is called.

        Raises ``ValueError`` for a SimpleDNN.
        """
        if self._module is None:
            raise ValueError("this model is a SimpleDNN: its layers are in model.layers")
        import torch

        module = torch.jit.load(io.BytesIO(self._module), map_location="cpu")
        # Counters of whole numbers are not trained, and stay as they are.
        module.load_state_dict({name: torch.tensor(values) for name, values in self.tensors.items()}, strict=False)
        return module.eval()

    def _forward(self, features: Floats) -> Floats:
        import torch

        module = self.torch_module()
        shape = self.spec["module"]["input_shape"] or [self.spec["inputs"]]
        with torch.no_grad():
            parts = [module(torch.from_numpy(part).reshape(-1, *shape)).reshape(len(part), -1).numpy() for part in np.array_split(features, max(1, len(features) // 1024))]
        return cast("Floats", np.concatenate(parts))

    def predict_proba(self, table: _table.Table) -> npt.NDArray[np.float64]:
        """The probability of each class: [rows, classes].

        Raises ``ValueError`` for a model of a quantity.
        """
        if not self.is_classifier:
            raise ValueError("this model predicts a quantity: there are no probabilities")
        z = self.decision_function(table).astype(np.float64)
        z = np.exp(z - z.max(axis=1, keepdims=True))
        return cast("npt.NDArray[np.float64]", z / z.sum(axis=1, keepdims=True))

    def predict(self, table: _table.Table) -> npt.NDArray[Any]:
        """A label or a number for each row. Labels have the type that they have in the data: numbers, bool or text.

        >>> model = cohort.Model.load(path)
        >>> model.predict([{"island": "Biscoe", "bill_length_mm": 50, "bill_depth_mm": 15, "flipper_length_mm": 222, "body_mass_g": 5300, "sex": "male", "year": 2009}])
        array(['Gentoo'], dtype=object)
        """
        z = self.decision_function(table)
        if self.is_classifier:
            return _labels.typed([self.classes[index] for index in z.argmax(axis=1)], self._labels, self.classes)
        target = next(column for column in self.schema["columns"] if column["kind"] == "target")
        return np.asarray(z[:, 0].astype(np.float64) * target["std"] + target["mean"])


def _text(value: object) -> str:
    if value is None:
        return ""
    return str(value).strip()


def _date(value: object, column: Mapping[str, Any], parts: list[dict[str, Any]], index: int) -> list[float]:
    text = _text(value)
    if text.lower() in (*_MISSING, "none", "nat"):
        return [0.0] * len(parts)
    date = _dates.read(text, column.get("date_format", "ymd"))
    if date is None:
        raise ValueError(f"row {index + 1}: '{text[:40]}' in '{column['name']}' is not a date, or not of a day that there is")
    return [(_dates.part(date, part["part"]) - part["mean"]) / part["std"] for part in parts]


def _number(value: object, column: Mapping[str, Any], index: int) -> float:
    mean = float(column["mean"])
    x = mean
    text = _text(value)
    if text.lower() not in (*_MISSING, "none"):
        try:
            x = float(text)
        except ValueError:
            raise ValueError(f"row {index + 1}: '{text[:40]}' in '{column['name']}' is not a number") from None
        if not np.isfinite(x):
            x = mean
    return float((x - column.get("shift", mean)) / column.get("scale", column["std"]))
