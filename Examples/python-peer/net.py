"""SimpleDNN in NumPy: layers, losses, optimizers, and the file that its weights travel in."""

import json
import math

import numpy as np

from data import Generator


class Net:
    def __init__(self, spec, seed):
        self.spec = spec
        self.widths = [spec["inputs"], *spec["hidden"], spec["outputs"]]
        self.stride = 3 if spec["dropout"] > 0 else 2
        self.random = np.random.default_rng(seed)

    def names(self):
        return [f"{layer * self.stride}.{kind}" for layer in range(len(self.widths) - 1) for kind in ("weight", "bias")]

    def initialize(self, seed):
        """The weights that a seed means: (2 u − 1) / √fan-in, tensor by tensor, row by row."""
        generator = Generator(seed, "weights")
        self.parameters = []
        for inputs, outputs in zip(self.widths, self.widths[1:]):
            bound = np.float32(1) / np.sqrt(np.float32(inputs))
            for shape in ((outputs, inputs), (outputs,)):
                draws = [generator.float() for _ in range(int(np.prod(shape)))]
                self.parameters.append((2 * np.array(draws, np.float32) - 1).reshape(shape) * bound)

    def load(self, file):
        length = int.from_bytes(file[:8], "little")
        header, body = json.loads(file[8:8 + length]), file[8 + length:]
        self.parameters = []
        for name in self.names():
            start, end = header[name]["data_offsets"]
            self.parameters.append(np.frombuffer(body[start:end], "<f4").reshape(header[name]["shape"]).copy())

    def file(self):
        header, offset = {}, 0
        for name, tensor in zip(self.names(), self.parameters):
            header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [offset, offset + tensor.nbytes]}
            offset += tensor.nbytes
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text + b"".join(tensor.astype("<f4").tobytes() for tensor in self.parameters)

    def forward(self, x, training=False):
        """Outputs [rows, outputs], and what the way back needs: each layer's input, and the slope of what made it."""
        kept = []
        slope = None
        for layer in range(len(self.widths) - 1):
            kept.append((x, slope))
            z = x @ self.parameters[2 * layer].T + self.parameters[2 * layer + 1]
            if layer == len(self.widths) - 2:
                return z, kept
            if self.spec["activation"] == "relu":
                x, slope = np.maximum(z, 0), (z > 0).astype(np.float32)
            elif self.spec["activation"] == "tanh":
                x = np.tanh(z)
                slope = 1 - x * x
            else:
                x = 1 / (1 + np.exp(-z))
                slope = x * (1 - x)
            if training and self.spec["dropout"] > 0:
                keep = (self.random.random(x.shape) >= self.spec["dropout"]).astype(np.float32) / np.float32(1 - self.spec["dropout"])
                x, slope = x * keep, slope * keep

    def losses(self, outputs, y):
        """Of each row: its loss, the gradient by its outputs, whether it is right."""
        if self.spec["task"] == "regression":
            error = outputs[:, 0] - y
            return error * error, 2 * error[:, None], np.zeros(len(y), bool)
        shifted = outputs - outputs.max(1, keepdims=True)
        logarithms = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        gradient = np.exp(logarithms)
        gradient[np.arange(len(y)), y] -= 1
        return -logarithms[np.arange(len(y)), y], gradient, outputs.argmax(1) == y

    def counts(self, table, rows):
        """Sums over rows, as evaluations are told."""
        loss, correct = 0.0, 0
        for start in range(0, len(rows), 4096):
            part = rows[start:start + 4096]
            losses, _, right = self.losses(self.forward(table.x[part])[0], table.y[part])
            loss, correct = loss + float(losses.sum(dtype=np.float64)), correct + int(right.sum())
        y = table.y[rows].astype(np.float64) if self.spec["task"] == "regression" else np.zeros(0)
        return {"samples": len(rows), "loss_sum": loss, "correct": correct, "target_sum": float(y.sum()),
                "target_square_sum": float((y * y).sum())}

    def smoothed(self, outputs, y, weights, smoothing):
        """As PyTorch's CrossEntropyLoss(weight, label_smoothing): each row's loss, the gradient of their mean, whether it is right."""
        rows, classes = outputs.shape
        weights = np.ones(classes, np.float32) if weights is None else weights
        desired = np.tile(smoothing / classes * weights, (rows, 1))
        desired[np.arange(rows), y] += (1 - smoothing) * weights[y]
        shifted = outputs - outputs.max(1, keepdims=True)
        logarithms = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        total = weights[y].sum()
        delta = (np.exp(logarithms) * desired.sum(1, keepdims=True) - desired) / total
        return -(desired * logarithms).sum(1) * rows / total, delta.astype(np.float32), outputs.argmax(1) == y

    def step(self, x, y, weights, smoothing, optimizer, lr, pull=None):
        """One batch; returns the sum of losses and how many are right."""
        outputs, kept = self.forward(x, training=True)
        if smoothing:
            losses, delta, right = self.smoothed(outputs, y, weights, smoothing)
        else:
            losses, delta, right = self.losses(outputs, y)
            share = np.full(len(y), 1 / len(y), np.float32) if weights is None else weights[y] / weights[y].sum()
            delta = (delta * share[:, None]).astype(np.float32)
        gradients = []
        for layer in reversed(range(len(kept))):
            inputs, slope = kept[layer]
            gradients[:0] = [delta.T @ inputs, delta.sum(0)]
            if slope is not None:
                delta = (delta @ self.parameters[2 * layer]) * slope
        optimizer.apply(self.parameters, gradients, lr)
        if pull:  # (μ, the weights that the round began with)
            for tensor, start in zip(self.parameters, pull[1]):
                tensor -= np.float32(lr * pull[0]) * (tensor - start)
        return float(losses.sum(dtype=np.float64)), int(right.sum())


class Optimizer:
    """SGD, Adam and AdamW as PyTorch has them."""

    def __init__(self, spec):
        self.spec, self.steps, self.first, self.second = spec, 0, None, None

    def apply(self, parameters, gradients, lr):
        spec = self.spec
        if self.first is None:
            self.first = [np.zeros_like(tensor) for tensor in parameters]
            self.second = [np.zeros_like(tensor) for tensor in parameters]
        self.steps += 1
        if spec.get("gradient_clip"):
            norm = math.sqrt(sum(float((gradient.astype(np.float64)**2).sum()) for gradient in gradients))
            scale = np.float32(min(1, spec["gradient_clip"] / (norm + 1e-6)))
            gradients = [gradient * scale for gradient in gradients]
        for tensor, gradient, first, second in zip(parameters, gradients, self.first, self.second):
            decay = spec["weight_decay"]
            if spec["name"] == "adamw":
                tensor *= 1 - lr * decay
            elif decay:
                gradient = gradient + decay * tensor
            if spec["name"] == "sgd":
                if spec["momentum"]:
                    first *= spec["momentum"] if self.steps > 1 else 0
                    first += gradient
                    gradient = gradient + spec["momentum"] * first if spec["nesterov"] else first
                tensor -= lr * gradient
                continue
            first += (1 - spec["beta1"]) * (gradient - first)
            second += (1 - spec["beta2"]) * (gradient * gradient - second)
            corrected = np.sqrt(second / (1 - spec["beta2"]**self.steps)) + spec["epsilon"]
            tensor -= lr / (1 - spec["beta1"]**self.steps) * first / corrected
