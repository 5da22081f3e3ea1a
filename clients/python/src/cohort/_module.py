"""A custom PyTorch module, as the file that a session trains (docs/model-file.md)."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

FORMAT = "cohort-module/1"
BYTES = "__module__"


def save_module(module: Any, path: str | os.PathLike[str], *, input_shape: Sequence[int] | int, task: str = "classification") -> None:
    """Writes a ``torch.nn.Module``, or what ``torch.jit.script`` made, as a file for ``cohort train --model`` and ``Client.fit``.

    ``input_shape``: of one row, such as ``(1, 28, 28)``, or how many features. ``forward`` takes [rows, …shape] and gives [rows, outputs]: a number a
    class before softmax, or, with the task ``regression``, one number.

    Raises ``ValueError`` for a module that does not script or train, and when ``forward`` fails on such rows.
    """
    data = package(module, input_shape=input_shape, task=task)
    with open(path, "wb") as file:
        file.write(data)


def package(module: Any, *, input_shape: Sequence[int] | int, task: str = "classification") -> bytes:
    """The bytes of that file."""
    import torch

    if task not in ("classification", "regression"):
        raise ValueError(f"task is '{task}'; it must be classification or regression")
    shape = [input_shape] if isinstance(input_shape, int) else [int(length) for length in input_shape]
    if not shape or any(length < 1 for length in shape):
        raise ValueError(f"input_shape is {input_shape}; it must be lengths such as (1, 28, 28)")
    if not isinstance(module, torch.jit.ScriptModule):
        try:
            module = torch.jit.script(copy.deepcopy(module).cpu())
        except Exception as error:
            raise ValueError(f"torch.jit.script cannot read the module: {str(error).strip().splitlines()[-1]}") from error
    kept = io.BytesIO()
    torch.jit.save(module, kept)
    saved = kept.getvalue()
    # What a peer will load.
    loaded = torch.jit.load(io.BytesIO(saved), map_location="cpu")
    parameters = list(loaded.named_parameters())
    trained = [(name, tensor) for name, tensor in parameters if tensor.requires_grad]
    fixed = [(name, tensor) for name, tensor in parameters if not tensor.requires_grad]
    fixed += [(name, tensor) for name, tensor in loaded.named_buffers() if tensor.dtype == torch.float32]
    if not trained:
        raise ValueError("the module has no parameters that can be trained")
    for name, tensor in trained + fixed:
        if tensor.dtype != torch.float32:
            raise ValueError(f"the module's {name} is {tensor.dtype}; 32-bit floats can be trained: module.float()")
    loaded.eval()
    try:
        with torch.no_grad():
            outputs = loaded(torch.zeros(1, *shape))
    except Exception as error:
        raise ValueError(f"the module fails on inputs of shape {[1, *shape]}: {str(error).strip().splitlines()[-1]}") from error
    if not isinstance(outputs, torch.Tensor) or outputs.ndim not in (1, 2) or outputs.shape[0] != 1:
        raise ValueError(f"the module gives {getattr(outputs, 'shape', type(outputs).__name__)} for one row; [1, outputs] is needed")
    count = int(outputs.shape[1]) if outputs.ndim == 2 else 1
    if task == "regression" and count != 1:
        raise ValueError(f"the module gives {count} numbers; a regression predicts one")
    tensors = [(name, tensor.detach().numpy()) for name, tensor in trained + fixed]
    about = {
        "inputs": prod(shape), "outputs": count, "task": task,
        "module": {
            "format": "torchscript", "sha256": hashlib.sha256(saved).hexdigest(), "input_shape": shape if len(shape) > 1 else [],
            "tensors": [{"name": name, "shape": list(values.shape)} for name, values in tensors], "trained": len(trained),
        },
    }
    header: dict[str, Any] = {"__metadata__": {"format": FORMAT, "module": json.dumps(about)}}
    body = b""
    for name, values in tensors:
        data = np.ascontiguousarray(values, "<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    header[BYTES] = {"dtype": "U8", "shape": [len(saved)], "data_offsets": [len(body), len(body) + len(saved)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body + saved
