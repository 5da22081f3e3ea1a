"""Times training steps of PyTorch, eager, on the CPU: what EngineBench is held against. Same work: float32, Adam 1e-3, softmax cross-entropy,
rows in memory, shuffled every epoch.

    python engine_torch.py THREADS [--compile] NET:BATCH...        such as 784-256-128-10:64

With --compile the net is compiled (torch.compile); on a GPU, if there is one, everything is there.

One JSON object a line: {"net": ..., "batch": ..., "threads": ..., "microseconds": ...}."""

import json
import statistics
import sys
import time

import torch


def step(widths, batch, is_compiled, device):
    """Microseconds a step, the median of nine runs of at least 0.1 s."""
    steps = 50
    rows = steps * batch
    torch.manual_seed(1)
    features, targets = torch.rand(rows, widths[0], device=device), torch.randint(widths[-1], (rows,), device=device)
    layers = []
    for inputs, outputs in zip(widths, widths[1:]):
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1]).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    if is_compiled:
        model = torch.compile(model)
    loss_function = torch.nn.CrossEntropyLoss()

    def train():
        order = torch.randperm(rows, device=device)
        total = torch.zeros((), device=device)
        for start in range(0, rows, batch):
            index = order[start:start + batch]
            optimizer.zero_grad(set_to_none=True)
            loss = loss_function(model(features[index]), targets[index])
            loss.backward()
            optimizer.step()
            total += loss.detach()
        return total.item()

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
    is_compiled, device = "--compile" in sys.argv, "cuda" if torch.cuda.is_available() else "cpu"
    for argument in [argument for argument in sys.argv[2:] if argument != "--compile"]:
        net, batch = argument.split(":")
        microseconds = step([int(width) for width in net.split("-")], int(batch), is_compiled, device)
        print(json.dumps({"net": net, "batch": int(batch), "threads": threads, "device": device, "microseconds": microseconds}), flush=True)


if __name__ == "__main__":
    main()
