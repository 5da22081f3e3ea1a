"""SimpleDNN in NumPy: layers, losses, optimizers, and the file that its weights travel in."""

import json
import math

import numpy as np

MASK = (1 << 64) - 1


class Generator:
    """SplitMix64, a stream for a purpose."""

    def __init__(self, seed, purpose):
        hash = 0xCBF29CE484222325
        for byte in purpose.encode():
            hash = ((hash ^ byte) * 0x100000001B3) & MASK
        self.state = seed ^ hash
        self.state = self.next()

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    def float(self):
        return (self.next() >> 40) * 2.0**-24


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
        self.start = [tensor.copy() for tensor in self.parameters]

    def load(self, file, streams=()):
        """Takes the weights of a file; what an optimizer remembers stands behind them as tensors STREAM/NAME: a list each, {} where it is not there."""
        length = int.from_bytes(file[:8], "little")
        header, body = json.loads(file[8:8 + length]), file[8 + length:]

        def tensor(name):
            start, end = header[name]["data_offsets"]
            return np.frombuffer(body[start:end], "<f4").reshape(header[name]["shape"]).copy()

        self.parameters = [tensor(name) for name in self.names()]
        self.start = [tensor.copy() for tensor in self.parameters]
        names = {stream: [f"{stream}/{name}" for name in self.names()] for stream in streams}
        return {stream: [tensor(name) for name in own] for stream, own in names.items() if all(name in header for name in own)}

    def file(self, streams, compression=None, rest=None):
        """The weights, and behind them each stream, by its name. With `compression` the change of the weights that were loaded, plus `rest`, in fewer bytes,
        and `streams` become what is read of it. Returns the file and what rounding leaves of the change (None without)."""
        names = self.names() + [f"{stream}/{name}" for stream in streams for name in self.names()]
        tensors = [*self.parameters, *(tensor for own in streams.values() for tensor in own)]
        if not compression:
            return safetensors({name: ("F32", tensor.shape, tensor.astype("<f4").tobytes()) for name, tensor in zip(names, tensors)}), None
        change = np.concatenate([(tensor - start).ravel() for tensor, start in zip(self.parameters, self.start)])
        change += 0 if rest is None else rest
        entries, all_scales = {}, []
        for number, stream in enumerate([None, *streams]):
            flat = change if stream is None else np.concatenate([tensor.ravel() for tensor in streams[stream]])
            dtype, codes, scales, found = compressed(flat, compression, stream == "exp_avg_sq")
            if stream is None:
                rest = change - found
            else:
                ends = np.cumsum([tensor.size for tensor in self.parameters])[:-1]
                streams[stream] = [part.reshape(tensor.shape) for part, tensor in zip(np.split(found, ends), self.parameters)]
            all_scales += scales
            offset = 0
            for name, tensor in list(zip(names, tensors))[number * len(self.parameters):(number + 1) * len(self.parameters)]:
                entries[name] = (dtype, tensor.shape, codes[offset:offset + tensor.size].tobytes())
                offset += tensor.size
        if all_scales:
            scales = np.concatenate(all_scales).astype("<f4")
            entries = {"scales": ("F32", scales.shape, scales.tobytes())} | entries
        return safetensors(entries, {"cohort_update": "change"}), rest

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

    def losses(self, outputs, y, loss=None):
        """Of each row: its loss, the gradient by its outputs, whether it is right. Of a number `loss` is what is minimized: the reported loss is the square."""
        if self.spec["task"] == "regression":
            error = outputs[:, 0] - y
            slope = np.sign(error) if loss == "l1" else np.clip(error, -1, 1) if loss == "huber" else 2 * error
            return error * error, slope[:, None], np.zeros(len(y), bool)
        shifted = outputs - outputs.max(1, keepdims=True)
        logarithms = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        gradient = np.exp(logarithms)
        gradient[np.arange(len(y)), y] -= 1
        return -logarithms[np.arange(len(y)), y], gradient, outputs.argmax(1) == y

    def counts(self, table, rows):
        """Sums over rows, as evaluations are reported."""
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

    def step(self, x, y, weights, smoothing, optimizer, lr, pull=None, loss=None, correction=None):
        """One batch; returns the sum of losses and how many are right."""
        outputs, kept = self.forward(x, training=True)
        if smoothing:
            losses, delta, right = self.smoothed(outputs, y, weights, smoothing)
        else:
            losses, delta, right = self.losses(outputs, y, loss)
            share = np.full(len(y), 1 / len(y), np.float32) if weights is None else weights[y] / weights[y].sum()
            delta = (delta * share[:, None]).astype(np.float32)
        gradients = []
        for layer in reversed(range(len(kept))):
            inputs, slope = kept[layer]
            gradients[:0] = [delta.T @ inputs, delta.sum(0)]
            if slope is not None:
                delta = (delta @ self.parameters[2 * layer]) * slope
        optimizer.apply(self.parameters, gradients, lr)
        if correction:
            for tensor, part in zip(self.parameters, correction):
                tensor -= np.float32(lr) * part
        if pull:  # (μ, the weights that the round began with)
            for tensor, start in zip(self.parameters, pull[1]):
                tensor -= np.float32(lr * pull[0]) * (tensor - start)
        return float(losses.sum(dtype=np.float64)), int(right.sum())


def safetensors(entries, metadata=None):
    """A file of tensors, by name: (dtype, shape, bytes)."""
    header, offset = {"__metadata__": metadata} if metadata else {}, 0
    for name, (dtype, shape, content) in entries.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + len(content)]}
        offset += len(content)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(content for _, _, content in entries.values())


def compressed(flat, compression, squares, block=1024):
    """The dtype, the codes, the blocks' scales, and what is read of them, as docs/protocol.md has it."""
    flat = flat.astype(np.float32)
    if compression == "fp32":
        return "F32", flat.astype("<f4"), [], flat
    if compression == "fp16" and not squares:
        halves = np.clip(flat, -65504, 65504).astype("<f2")
        return "F16", halves, [], halves.astype(np.float32)
    if compression in ("fp16", "bf16"):
        bits = flat.view(np.uint32)
        halves = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
        return "BF16", halves, [], (halves.astype(np.uint32) << 16).view(np.float32)
    blocks = np.pad(flat, (0, -len(flat) % block)).reshape(-1, block)
    scales = np.abs(blocks).max(1) / np.float32(1 if squares else 127)
    with np.errstate(divide="ignore", invalid="ignore"):
        if squares:
            codes = np.where(blocks > 0, np.clip(255 + np.rint(8 * np.log2(blocks / scales[:, None])), 1, 255), 0).astype(np.uint8)
            found = np.where(codes > 0, np.exp2((codes.astype(np.float64) - 255) / 8).astype(np.float32), 0) * scales[:, None]
        else:
            codes = np.where(scales[:, None] > 0, np.clip(np.rint(blocks / scales[:, None]), -127, 127), 0).astype(np.int8)
            found = codes.astype(np.float32) * scales[:, None]
    return "U8" if squares else "I8", codes.ravel()[:len(flat)], [scales], found.ravel()[:len(flat)]


class Optimizer:
    """SGD, Adam and AdamW as PyTorch has them."""

    def __init__(self, spec):
        self.spec, self.steps, self.first, self.second = spec, 0, None, None

    def streams(self, names, parameters):
        """What it remembers, as PyTorch calls it."""
        kept = {"momentum_buffer": self.first, "exp_avg": self.first, "exp_avg_sq": self.second}
        return {name: kept[name] or [np.zeros_like(tensor) for tensor in parameters] for name in names}

    def go_on(self, streams, steps):
        """From what was averaged after so many steps; what was not stays as it is here, and without that a part is no use."""
        names = ["momentum_buffer"] if self.spec["name"] == "sgd" else ["exp_avg", "exp_avg_sq"]
        if not self.steps and not (steps and all(name in streams for name in names)):
            return
        before = self.first
        self.first = streams.get("momentum_buffer") or streams.get("exp_avg") or self.first
        self.second = streams.get("exp_avg_sq") or self.second or [np.zeros_like(tensor) for tensor in self.first]
        if "exp_avg" in streams and "exp_avg_sq" not in streams:
            least = np.float32((1 - self.spec["beta2"]**self.steps) / (1 - self.spec["beta1"]**self.steps)**2)
            self.second = [
                np.where(np.abs(first) > np.abs(own), np.maximum(second, least * first * first), second)
                for own, first, second in zip(before, self.first, self.second)]
        self.steps = self.steps or steps

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
