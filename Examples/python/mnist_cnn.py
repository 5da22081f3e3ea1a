"""A small convolutional net for MNIST as a file that peers train: python mnist_cnn.py net.pt

    cohort train mnist.csv --target label --model net.pt --input-shape 1,28,28 --peers 3 --rounds 5 --batch-size 64 --lr 0.001

mnist.csv has a column `label` and 784 pixels, row by row. Needs torch."""

import sys

import torch
from torch import nn


class Net(nn.Module):
    """[rows, 1, 28, 28] → [rows, 10], a number a digit before softmax."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(32 * 7 * 7, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10))

    def forward(self, x):
        return self.head(self.features(x))


if __name__ == "__main__":
    torch.manual_seed(1)
    torch.jit.save(torch.jit.script(Net()), sys.argv[1])
