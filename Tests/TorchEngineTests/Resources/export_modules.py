"""Saves modules as a person would, with torch.jit.save: python export_modules.py FOLDER"""

import os
import sys
from typing import Final

import torch
from torch import nn


class Small(nn.Module):
    """What a Cohort's SimpleDNN 6-16-8-3 is."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x):
        return self.layers(x)


class Convolution(nn.Module):
    """Takes pictures of 4 × 4, and keeps statistics of its batches."""

    def __init__(self, outputs):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(16, outputs)

    def forward(self, x):
        return self.head(self.drop(self.features(x).flatten(1)))


class Shared(nn.Module):
    """One tensor in two places, and one that is not trained."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6, bias=False)
        self.second = nn.Linear(6, 6, bias=False)
        self.second.weight = self.first.weight
        self.fixed = nn.Parameter(torch.full((3, 6), 0.5), requires_grad=False)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x))) @ self.fixed.t()


class NoParameters(nn.Module):
    def forward(self, x):
        return x[:, :3]


class Throws(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x):
        return self.layer(x)


class Raises(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x):
        if x.size(1) == 6:
            raise ValueError("no rows of six, please")
        return self.layer(x)


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x):
        return self.layer(x), x


class Reads(nn.Module):
    """Looks into a file of the machine that it runs on."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x):
        secret = torch.from_file("/etc/passwd", False, 4, dtype=torch.uint8)
        return self.layer(x) + secret.sum() * 0


class Loops(nn.Module):
    """Computes endlessly once a feature is above 1000."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x):
        while bool((x > 1000).any()):
            x = x + 1
        return self.layer(x)


class Greedy(nn.Module):
    """Asks for nine tenths of the memory, and touches none of it, once a feature is above 1000."""

    floats: Final[int]

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.floats = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 9 // 40

    def forward(self, x):
        taken = torch.empty(self.floats if bool((x > 1000).any()) else 1)
        return self.layer(x) + 0 * taken.numel()


class Exhausts(nn.Module):
    """Asks for more memory than there is, once a feature is above 1000."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x):
        if bool((x > 1000).any()):
            x = torch.zeros(1 << 62)
        return self.layer(x)


class Normalized(nn.Module):
    """Cannot be trained on a batch of one row."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x):
        return self.layers(x)


def main(folder):
    torch.manual_seed(3)
    modules = {
        "small": Small(), "convolution": Convolution(3), "regression": Convolution(1), "shared": Shared(), "none": NoParameters(),
        "throws": Throws(), "raises": Raises(), "pair": Pair(), "double": Small().double(),
        "line": nn.Sequential(nn.Linear(6, 1)), "reads": Reads(), "loops": Loops(), "exhausts": Exhausts(), "greedy": Greedy(),
        "normalized": Normalized(),
    }
    for name, module in modules.items():
        torch.jit.save(torch.jit.script(module), f"{folder}/{name}.pt")
    # What people try first: no TorchScript.
    torch.save(Small().state_dict(), f"{folder}/state.pt")


if __name__ == "__main__":
    main(sys.argv[1])
