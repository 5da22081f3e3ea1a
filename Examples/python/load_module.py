"""A trained module of one's own, back in PyTorch: python load_module.py model.safetensors

The file is what `cohort model SESSION` writes: the weights by name, and the module as bytes. Loading a module runs its author's code. Needs torch and
safetensors."""

import io
import sys

import torch
from safetensors.torch import load_file


def load(path):
    """The module with its weights, ready to predict."""
    tensors = load_file(path)
    module = torch.jit.load(io.BytesIO(tensors.pop("__module__").numpy().tobytes()), map_location="cpu")
    module.load_state_dict(tensors, strict=False)  # Counters of whole numbers are not trained.
    return module.eval()


if __name__ == "__main__":
    print(load(sys.argv[1]))
