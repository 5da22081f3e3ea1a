"""A model of Cohort's in PyTorch: python load_in_pytorch.py model.safetensors data.csv

Prints the predictions of a CSV (UTF-8, with a header, without date columns) as JSON lines. Needs torch and safetensors."""

import csv
import json
import sys

import torch
from safetensors import safe_open
from torch import nn

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
MISSING = {"", "na", "n/a", "#n/a", "<na>", "nan", "null", "none", "?", "inf", "+inf", "-inf", "infinity", "-infinity"}


def load(path):
    """The net with its weights, its spec, and the schema that makes features of raw rows."""
    with safe_open(path, "pt") as file:
        spec, schema = (json.loads(file.metadata()[name]) for name in ("spec", "schema"))
        state = {name: file.get_tensor(name) for name in file.keys()}
    layers, widths = [], [spec["inputs"], *spec["hidden"], spec["outputs"]]
    for inputs, outputs in zip(widths, widths[1:]):
        layers += [nn.Linear(inputs, outputs), ACTIVATIONS[spec["activation"]]()] + [nn.Dropout(spec["dropout"])] * (spec["dropout"] > 0)
    net = nn.Sequential(*layers[: len(layers) - (2 if spec["dropout"] > 0 else 1)])
    net.load_state_dict(state)
    return net.eval(), spec, schema


def features(row, schema):
    made = []
    for column in schema["columns"]:
        text = (row.get(column["name"]) or "").strip()
        is_missing = text.lower() in MISSING
        if column["kind"] == "numeric":
            number = column["mean"] if is_missing else float(text)
            made.append((number - column.get("shift", column["mean"])) / column.get("scale", column["std"]))
        elif column["kind"] == "categorical":
            own = [float(text == category) for category in column["categories"]]
            made += own + [float(not any(own) and not is_missing)] * bool(column.get("has_other"))
    return made


def main(model, data):
    net, spec, schema = load(model)
    with open(data, newline="", encoding="utf-8") as file:
        x = torch.tensor([features(row, schema) for row in csv.DictReader(file)], dtype=torch.float64).float()
    with torch.no_grad():
        outputs = net(x)
    if spec["task"] == "classification":
        for probabilities in torch.softmax(outputs, 1).tolist():
            print(json.dumps({"probabilities": dict(zip(schema["classes"], probabilities))}))
    else:
        target = next(column for column in schema["columns"] if column["kind"] == "target")
        for (value,) in outputs.double().tolist():
            print(json.dumps({"value": value * target["std"] + target["mean"]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
