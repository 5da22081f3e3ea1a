"""Tables as people have them, as the server takes them."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Union

import numpy as np
import numpy.typing as npt

#: A pandas DataFrame, the path of a CSV, or rows as mappings from column to value.
Table = Union["os.PathLike[str]", str, Iterable[Mapping[str, Any]], Any]

_TYPES = {
    "f8": "F64", "f4": "F32", "f2": "F16", "i8": "I64", "i4": "I32", "i2": "I16", "i1": "I8", "u8": "U64", "u4": "U32", "u2": "U16", "u1": "U8", "b1": "BOOL",
}

Cell = Union[str, float, int, bool, None]


def is_frame(table: Any) -> bool:
    """Whether it is a DataFrame, without importing pandas."""
    return hasattr(table, "to_csv") and hasattr(table, "columns")


def columns(table: Any) -> list[str] | None:
    """The columns' names of a DataFrame; None for other tables."""
    return [str(name) for name in table.columns] if is_frame(table) else None


def categories(table: Any) -> list[str]:
    """The columns of a DataFrame that hold numbers and are declared ``category``."""
    if not is_frame(table):
        return []
    declared = [(str(name), kind) for name, kind in zip(table.columns, table.dtypes) if str(kind) == "category"]
    return [name for name, kind in declared if np.issubdtype(getattr(kind.categories, "dtype", np.dtype(object)), np.number)]


def is_tensors(table: Any) -> bool:
    """Whether it is (inputs, targets): arrays, or tensors of PyTorch."""
    return isinstance(table, tuple) and len(table) == 2 and all(hasattr(part, "shape") and hasattr(part, "dtype") for part in table)


def array(values: Any) -> npt.NDArray[Any]:
    """An array, or a tensor of PyTorch, as an array in C's order."""
    return np.ascontiguousarray(values.detach().cpu().numpy() if hasattr(values, "detach") else values)


def tensor_bytes(inputs: Any, targets: Any) -> bytes:
    """A data set of tensors: a ``.safetensors`` file with ``inputs`` [rows, …] and ``targets`` [rows].

    Raises ``ValueError`` for arrays that do not go together.
    """
    x, y = array(inputs), array(targets)
    if x.ndim < 1 or y.shape not in ((x.shape[0],), (x.shape[0], 1)):
        raise ValueError(f"inputs have the shape {x.shape} and targets {y.shape}; targets must be one number a row")
    header: dict[str, Any] = {}
    place = 0
    parts = []
    for name, values in (("inputs", x), ("targets", y)):
        kind = _TYPES.get(values.dtype.str.lstrip("<|="))
        if kind is None:
            raise ValueError(f"{name} are {values.dtype}; numbers are needed")
        data = values.tobytes()
        header[name] = {"dtype": kind, "shape": list(values.shape), "data_offsets": [place, place + len(data)]}
        place += len(data)
        parts.append(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(parts)


def check(table: Any) -> None:
    """What the server would refuse of a DataFrame, or misread, before anything is sent.

    Raises ``ValueError``, naming the column.
    """
    if not is_frame(table):
        return
    if getattr(table.columns, "nlevels", 1) > 1:
        raise ValueError(f"the table's columns have {table.columns.nlevels} levels; flatten them first: df.columns = ['_'.join(map(str, c)) for c in df.columns]")
    names = [str(name) for name in table.columns]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{names.count(twice)} columns are named '{twice}'; each needs a name of its own")
    if len(names) < 2:
        raise ValueError(f"the table has {len(names)} columns; a target and a column to predict it from are needed")
    if len(table) == 0:
        raise ValueError("the table has no rows")
    for name, kind in zip(table.columns, table.dtypes):
        if getattr(kind, "kind", "") == "m":
            raise ValueError(f"'{name}' holds time spans; make numbers of them: df['{name}'].dt.total_seconds()")
        if getattr(kind, "kind", "") == "c":
            raise ValueError(f"'{name}' holds complex numbers; a column for each part is needed")
        if kind == object:
            odd = next((value for value in table[name].head(1_000) if isinstance(value, (dict, list, tuple, set, np.ndarray))), None)
            if odd is not None:
                raise ValueError(f"'{name}' holds a {type(odd).__name__} in a cell; a cell is a number, a text or a date")


def csv_bytes(table: Any) -> tuple[bytes, str]:
    """The table as a CSV in UTF-8, or as tensors, and a name for it."""
    if is_tensors(table):
        return tensor_bytes(*table), "tensors.safetensors"
    if isinstance(table, (str, os.PathLike)):
        with open(table, "rb") as file:
            return file.read(), os.path.basename(os.fspath(table))
    if is_frame(table):
        return table.to_csv(index=False).encode(), "frame.csv"
    rows = [dict(row) for row in table]
    if not rows:
        raise ValueError("the table has no rows")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: "" if _is_missing(value) else value for name, value in row.items()} for row in rows)
    return text.getvalue().encode(), "rows.csv"


def records(table: Any) -> Iterator[dict[str, Cell]]:
    """The rows by column name, their values as JSON has them."""
    if isinstance(table, (str, os.PathLike)):
        with open(table, encoding="utf-8-sig", newline="") as file:
            sample = file.read(65_536)
            file.seek(0)
            try:
                dialect: Any = csv.Sniffer().sniff(sample, ",;\t|")
            except csv.Error:
                dialect = csv.excel
            yield from csv.DictReader(file, dialect=dialect)
    elif is_frame(table):
        # As training saw it: 1.0 and True are categories by how they are written.
        yield from csv.DictReader(io.StringIO(table.to_csv(index=False)))
    else:
        for row in table:
            yield {str(name): _cell(value) for name, value in row.items()}


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value)) or type(value).__name__ in ("NAType", "NaTType")


def _cell(value: Any) -> Cell:
    if _is_missing(value):
        return None
    if hasattr(value, "item"):  # NumPy's scalars.
        value = value.item()
        if _is_missing(value):
            return None
    if isinstance(value, bool):
        return str(value)  # As a CSV has it.
    return value if isinstance(value, (str, int, float)) else str(value)
