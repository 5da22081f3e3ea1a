"""Times training steps of PyTorch, eager, on the CPU: what EngineBench is held against. Same work: float32, Adam 1e-3, softmax cross-entropy,
rows in memory, shuffled every epoch.

    python engine_torch.py THREADS NET:BATCH...        such as 784-256-128-10:64

One JSON object a line: {"net": ..., "batch": ..., "threads": ..., "microseconds": ...}."""

import json
import statistics
import sys
import time

import torch


def step(widths, batch):
    """Microseconds a step, the median of nine runs of at least 0.1 s."""
    steps = 50
    rows = steps * batch
    torch.manual_seed(1)
    features, targets = torch.rand(rows, widths[0]), torch.randint(widths[-1], (rows,))
    layers = []
    for inputs, outputs in zip(widths, widths[1:]):
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loss_function = torch.nn.CrossEntropyLoss()

    def train():
        order = torch.randperm(rows)
        total = 0.0
        for start in range(0, rows, batch):
            index = order[start:start + batch]
            optimizer.zero_grad(set_to_none=True)
            loss = loss_function(model(features[index]), targets[index])
            loss.backward()
            optimizer.step()
            total += loss.item()
        return total

    train()
    times = []
    for _ in range(9):
        done, begun = 0, time.perf_counter()
        while done == 0 or time.perf_counter() - begun < 0.1:
            train()
            done += steps
        times.append((time.perf_counter() - begun) * 1e6 / done)
    return statistics.median(times)


def main():
    threads = int(sys.argv[1])
    torch.set_num_threads(threads)
    for argument in sys.argv[2:]:
        net, batch = argument.split(":")
        microseconds = step([int(width) for width in net.split("-")], int(batch))
        print(json.dumps({"net": net, "batch": int(batch), "threads": threads, "microseconds": microseconds}), flush=True)


if __name__ == "__main__":
    main()
