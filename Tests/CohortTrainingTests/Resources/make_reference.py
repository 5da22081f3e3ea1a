"""Makes reference.json: what PyTorch computes for nets, data and optimizers that the tests draw again from the same seeds.

    python make_reference.py          needs PyTorch

A case's numbers come from one SplitMix64 stream: parameters first (uniform in -0.5 ... 0.5, in the order of the flat vector), then the rows
(uniform in -1 ... 1), then the targets. Vectors are told by their norm and by their products with eight vectors drawn from the seeds 1 ... 8
(uniform in -1 ... 1): so a large net needs no large file."""

import json
import pathlib

import torch

MASK = (1 << 64) - 1


class Generator:
    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
        return z ^ (z >> 31)

    def uniform(self):
        return (self.next() >> 40) * 2.0**-24

    def below(self, bound):
        return self.next() * bound >> 64


def sketch(vector):
    vector = vector.double()
    products = []
    for seed in range(1, 9):
        generator = Generator(seed)
        other = torch.tensor([generator.uniform() * 2 - 1 for _ in range(len(vector))], dtype=torch.float64)
        products.append(float(vector @ other))
    return {"norm": float(vector.norm()), "products": products}


def make(widths, batch, activation, task, optimizer, steps, seed, weights=None):
    generator = Generator(seed)
    layers = []
    for inputs, outputs in zip(widths, widths[1:]):
        linear = torch.nn.Linear(inputs, outputs)
        with torch.no_grad():
            for parameter in (linear.weight, linear.bias):
                values = [generator.uniform() - 0.5 for _ in range(parameter.numel())]
                parameter.copy_(torch.tensor(values).reshape(parameter.shape))
        layers += [linear, {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "sigmoid": torch.nn.Sigmoid}[activation]()]
    model = torch.nn.Sequential(*layers[:-1])
    features = torch.tensor([[generator.uniform() * 2 - 1 for _ in range(widths[0])] for _ in range(batch)])
    if task == "classification":
        targets = torch.tensor([generator.below(widths[-1]) for _ in range(batch)])
        loss_of = torch.nn.CrossEntropyLoss(weight=None if weights is None else torch.tensor(weights))
    else:
        targets = torch.tensor([[generator.uniform() * 2 - 1] for _ in range(batch)])
        loss_of = torch.nn.MSELoss()
    name, lr, options = optimizer
    step = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name](
        model.parameters(), lr=lr, **{"weight_decay": 0.0, **options})

    def flat(what):
        return torch.cat([what(parameter).detach().flatten() for parameter in model.parameters()])

    result = {}
    for number in range(steps):
        step.zero_grad()
        loss = loss_of(model(features), targets)
        loss.backward()
        if number == 0:
            result = {"loss": loss.item(), "gradient": sketch(flat(lambda parameter: parameter.grad))}
        step.step()
    return {
        "widths": widths, "batch": batch, "activation": activation, "task": task, "seed": seed, "steps": steps, "weights": weights,
        "optimizer": {"name": name, "lr": lr, **options}, **result, "parameters": sketch(flat(lambda parameter: parameter)),
    }


def main():
    torch.set_num_threads(1)
    nets = [
        ([4, 16, 3], 16, "relu", "classification"), ([1, 1], 1, "relu", "regression"), ([3, 5, 4, 3], 7, "tanh", "classification"),
        ([17, 33, 2], 31, "sigmoid", "classification"), ([40, 15, 1], 64, "tanh", "regression"), ([7, 64, 65, 11], 5, "relu", "classification"),
        ([64, 128, 64, 10], 64, "relu", "classification"), ([130, 128, 128, 20], 100, "relu", "classification"),
        ([200, 96, 1], 128, "relu", "regression"), ([9, 100], 50, "relu", "classification"),
    ]
    optimizers = [
        ("sgd", 0.1, {}), ("sgd", 0.05, {"momentum": 0.9}), ("sgd", 0.05, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
        ("adam", 0.001, {}), ("adam", 0.001, {"weight_decay": 0.01}), ("adamw", 0.001, {"weight_decay": 0.01}),
    ]
    cases = [make(*net, optimizers[(index + index // 6) % len(optimizers)], 10, 100 + index) for index, net in enumerate(nets + nets[2:6])]
    cases += [
        make(*nets[0], optimizers[3], 10, 200, [0.5, 1.0, 8.0]), make(*nets[5], optimizers[0], 10, 201, [0.25 * (index + 1) for index in range(11)]),
    ]
    assert all(case["parameters"]["norm"] < 1e3 for case in cases), "a case diverged"
    path = pathlib.Path(__file__).with_name("reference.json")
    path.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


if __name__ == "__main__":
    main()
