"""Makes one module for four features: python make_module.py NAME FOLDER writes NAME.pt and NAME.safetensors"""

import importlib.util
import json
import pathlib
import sys

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, outputs=3):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, outputs))

    def forward(self, x):
        return self.layers(x)


class Endless(Net):
    """Of one row, as it is tried, it answers; of a batch it does not."""

    def forward(self, x):
        while x.size(0) > 1:
            x = x + 1
        return self.layers(x)


class Raises(Net):
    def forward(self, x):
        if x.size(0) > 1:
            raise ValueError("not today")
        return self.layers(x)


MODULES = {"net": Net, "wide": lambda: Net(5), "endless": Endless, "raises": Raises, "liar": Net}


def main(name, folder):
    place = pathlib.Path(__file__).resolve().parents[3] / "clients/python/src/cohort/_module.py"
    spec = importlib.util.spec_from_file_location("module", place)
    client = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(client)
    torch.manual_seed(3)
    module = MODULES[name]()
    torch.jit.save(torch.jit.script(module), f"{folder}/{name}.pt")
    path = pathlib.Path(f"{folder}/{name}.safetensors")
    client.save_module(module, path, input_shape=4)
    if name == "liar":
        # Its first weight is called by another name than it has.
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = data[8 : 8 + length].decode().rstrip().replace("layers.0.weight", "layers.9.weight").encode()
        json.loads(header)
        header += b" " * (-len(header) % 8)
        path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])


if __name__ == "__main__":
    main(*sys.argv[1:])
