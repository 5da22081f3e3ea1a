"""Class labels in the type that they had: the server knows them as texts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})")

#: The text of a label in the CSV → the label as it was in the data.
Labels = Mapping[str, Any]


def of_column(column: Any) -> Labels:
    """The labels of a DataFrame's target column, by how a CSV writes them."""
    values = column.dropna().drop_duplicates()
    texts = values.to_frame().to_csv(index=False, header=False).splitlines()
    labels = dict(zip((text.strip().strip('"').replace('""', '"') for text in texts), values.tolist()))
    # A label 1.0 may come back as 1.
    return {**{text[:-2]: value for text, value in labels.items() if isinstance(value, float) and text.endswith(".0")}, **labels}


def typed(texts: Sequence[str], labels: Labels | None, classes: Sequence[str]) -> npt.NDArray[Any]:
    """Labels as an array [rows]: in the type that they had in the data, and else in the one that pandas would read from a CSV.

    ``classes`` are all labels of the model: one that is no number makes all of them texts.
    """
    if labels is not None and all(text in labels for text in classes):
        kind = np.array([labels[text] for text in classes]).dtype
        return np.array([labels[text] for text in texts], dtype=object if kind.kind == "U" else kind)
    if classes and all(text in ("True", "False") for text in classes):
        return np.array([text == "True" for text in texts], dtype=bool)
    if classes and all(_WHOLE.fullmatch(text) for text in classes):
        return np.array([int(text) for text in texts], dtype=np.int64)
    return np.array(list(texts), dtype=object)
