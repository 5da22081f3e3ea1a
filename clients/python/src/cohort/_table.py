"""Tables as people have them, as the server takes them."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Union

#: A pandas DataFrame, the path of a CSV, or rows as mappings from column to value.
Table = Union["os.PathLike[str]", str, Iterable[Mapping[str, Any]], Any]

Cell = Union[str, float, int, bool, None]


def is_frame(table: Any) -> bool:
    """Whether it is a DataFrame, without importing pandas."""
    return hasattr(table, "to_csv") and hasattr(table, "columns")


def columns(table: Any) -> list[str] | None:
    """The columns' names of a DataFrame; None for other tables."""
    return [str(name) for name in table.columns] if is_frame(table) else None


def csv_bytes(table: Any) -> tuple[bytes, str]:
    """The table as a CSV in UTF-8, and a name for it."""
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
