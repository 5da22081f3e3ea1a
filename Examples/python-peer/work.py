"""What TRAIN asks for: rows, weights, epochs, the answer."""

import base64
import collections
import hashlib
import logging
import math
import queue
import threading
import time

import numpy as np

from net import Net, Optimizer
from table import Table

log = logging.getLogger("peer")


class Stopped(Exception):
    """The work is not wanted any more."""


class Work:
    """What TRAIN asks for, done on a separate thread."""

    def __init__(self, server, send):
        self.server, self.send = server, send
        self.commands = queue.Queue()
        self.table, self.stopped, self.answers, self.newest = (None, None), set(), collections.OrderedDict(), {}
        self.optimizer = None, None  # whose it is, and the optimizer of the last round
        # Whose it is; what the answers that counted left: what rounding took, the control variate; the last answer's round, and what that left.
        self.left = None, (None, None), None, (None, None)
        threading.Thread(target=self.run, daemon=True).start()

    def obey(self, command):
        """Called on the connection's thread: never waits."""
        session, generation = command["session_id"], command.get("generation", 0)
        if command["type"] == "STOP":
            self.stopped.add(session)
        elif generation < self.newest.get(session, 0):
            return
        elif command["type"] == "REFUSED":
            log.warning("refused: %s", command["reason"])
            self.answers.clear()
        elif command["type"] in ("ENABLE", "TRAIN"):
            self.newest[session] = generation
            if command["type"] == "ENABLE":
                self.stopped.discard(session)
            self.commands.put(command)
        else:
            log.warning("unknown command %s", command["type"])

    def run(self):
        while True:
            command = self.commands.get()
            about = {"session_id": command["session_id"], "peer_id": self.server.id, "generation": command["generation"]}
            try:
                if command["type"] == "ENABLE":
                    prepare = command.get("prepare")
                    self.send({"type": "ENABLED", **about, "capabilities": self.server.capabilities(), "ready": prepare is None})
                    if prepare:
                        self.rows(prepare, prepare["rows"], about)
                        self.send({"type": "READY", **about})
                elif command["session_id"] not in self.stopped:
                    self.send(self.answer(command, about))
            except Stopped:
                log.info("session %s wants no more work", command["session_id"])
            except Exception as error:
                log.exception("the work failed")
                self.send({"type": "ERROR", **about, "round": command.get("round", 0), "message": str(error)[:1000],
                           "retryable": isinstance(error, OSError)})

    def check(self, session):
        if session in self.stopped:
            raise Stopped

    def rows(self, link, places, about, data=None, held_out=None):
        """The table of the session, in which these rows are: places to train on, positions in the held-out rows."""
        key = (about["session_id"], link["table_sha256"])
        if self.table[0] != key:
            self.table = key, Table(self.server, about["session_id"], link)
        table = self.table[1]
        if held_out:
            places = places + [{name: position + table.training for name, position in held_out.items()}]
        table.add(places, data, lambda: self.send({"type": "PROGRESS", **about, "phase": "loading", "progress": 0.0}))
        return table

    def answer(self, train, about):
        key = (train["session_id"], train["generation"], train["round"], train.get("attempt", 0))
        if key in self.answers:
            return self.answers[key]  # A repeat.
        part = train.get("validation_rows")
        table = self.rows(train, train["rows"], about, train.get("row_data"), part)
        net = Net(train["model"], train["seed"])
        remembered = {}
        if train.get("weights_url"):
            data = base64.b64decode(train["weights"]) if train.get("weights") else b""
            good = hashlib.sha256(data).hexdigest() == train["weights_sha256"]
            remembered = net.load(data if good else self.server.get(train["weights_url"], train["weights_sha256"]), train.get("streams", []))
        else:
            net.initialize(train["model_seed"])
        held_out = table.training + np.arange(part["start"], part["end"]) if part else np.zeros(0, np.int64)
        results = {}
        if train.get("weights_url") and part:
            results["evaluation"] = net.counts(table, held_out)
        left, correction = self.settled(train), None
        if train.get("streams") == ["control_variate"] and train["epochs"]:
            of_all = remembered.get("control_variate") or [np.zeros_like(tensor) for tensor in net.parameters]
            own = left[1] or of_all
            correction = [mean - part for mean, part in zip(of_all, own)]
        results |= self.train(train, about, table, net, held_out, remembered, correction)
        if train["evaluate_after"]:
            results["own_evaluation"] = net.counts(table, held_out)
        self.check(train["session_id"])
        done = {"type": "DONE", **about, "round": train["round"], "attempt": train.get("attempt", 0), "results": results}
        if train.get("update_url"):
            optimizer = self.optimizer[1]
            if correction:
                streams = {"control_variate": self.mean_gradient(net, correction) if self.rates else own}
            else:
                streams = optimizer.streams(train.get("update_streams", train.get("streams", [])), net.parameters)
            content, rest = net.file(streams, train.get("update_compression"), left[0])
            self.left = train["session_id"], left, train["round"], (rest, streams.get("control_variate"))
            if streams and not correction:
                results["optimizer_steps"] = optimizer.steps
            done["update"] = {"key": train["update_key"], "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            if len(content) <= train.get("inline_update_bytes", 0):
                done["update_data"] = base64.b64encode(content).decode()
            else:
                self.send({"type": "PROGRESS", **about, "phase": "uploading", "progress": 0.0})
                self.server.put(train["update_url"], content)
        self.answers[key] = done
        while len(self.answers) > 4:
            self.answers.popitem(last=False)
        return done

    def settled(self, train):
        """What the last answer that counted left: (what rounding took, the control variate)."""
        session, settled, last, pending = self.left
        if session != train["session_id"]:
            return None, None
        return pending if last is not None and last == train.get("counted_round") else settled

    def mean_gradient(self, net, correction):
        """Of all steps of this round, each of which also subtracted lr times the correction."""
        return [(start - tensor) / np.float32(self.rates) - part for start, tensor, part in zip(net.start, net.parameters, correction)]

    def train(self, train, about, table, net, held_out, remembered, correction=None):
        kept = train.get("optimizer_state") == "keep" and self.optimizer[0] == (train["session_id"], train["optimizer"])
        optimizer, rows = self.optimizer[1] if kept else Optimizer(train["optimizer"]), np.concatenate([np.arange(part["start"], part["end"]) for part in train["rows"]] or [np.zeros(0, np.int64)])
        if remembered:
            optimizer.go_on(remembered, train.get("optimizer_steps"))
        self.optimizer = (train["session_id"], train["optimizer"]), optimizer
        weights = np.array(train["class_weights"], np.float32) if train.get("class_weights") else None
        pull = (train["proximal_mu"], [tensor.copy() for tensor in net.parameters]) if train.get("proximal_mu") else None
        batch, deadline = train["batch_size"], time.perf_counter() + (train.get("time_limit") or math.inf)
        begun = told = time.perf_counter()
        self.rates = 0.0
        samples, epochs, last, best, since = 0, 0, {}, (math.inf, None), 0
        steps = train.get("steps", math.inf)
        for epoch in range(train["epochs"]):
            lr, order = train["lr"] * factor(train.get("lr_schedule"), epoch), net.random.permutation(rows)
            left = steps - epoch * -(-len(rows) // batch)
            # Of an epoch that is cut short, as many rows as its steps take.
            order = order[:max(0, left) * batch] if left * batch < len(order) else order
            loss, correct, seen, start = 0.0, 0, 0, time.perf_counter()
            for first in range(0, len(order), batch):
                self.check(train["session_id"])
                if time.perf_counter() > deadline:
                    break
                chosen = order[first:first + batch]
                loss_sum, right = net.step(table.x[chosen], table.y[chosen], weights, train.get("label_smoothing", 0), optimizer, lr, pull, train.get("loss"), correction)
                self.rates += lr
                loss, correct, seen = loss + loss_sum, correct + right, seen + len(chosen)
                if time.perf_counter() - told > min(5, train.get("progress_within", 60) / 4):
                    told = time.perf_counter()
                    self.send({"type": "PROGRESS", **about, "phase": "training", "progress": epoch / train["epochs"]})
            if not math.isfinite(loss):
                raise ValueError(f"the loss is not a number any more after epoch {epoch + 1}: lower the learning rate")
            samples += seen
            if seen:
                last = {"loss": loss / seen} | ({"accuracy": correct / seen} if table.is_classification else {})
            if seen < len(order) or not seen:
                break
            epochs += len(order) == len(rows)
            told = time.perf_counter()
            heartbeat = {"type": "HEARTBEAT", **about, "round": train["round"], "epoch": epoch + 1, **last,
                         "samples_per_second": seen / max(told - start, 1e-6), "progress": (epoch + 1) / train["epochs"]}
            if train.get("early_stopping"):
                counts = net.counts(table, held_out)
                own = counts["loss_sum"] / max(1, counts["samples"])
                heartbeat["validation"] = {"loss": own, "samples": counts["samples"]} | (
                    {"accuracy": counts["correct"] / max(1, counts["samples"])} if table.is_classification else {})
                since = 0 if own < best[0] else since + 1
                if since == 0:
                    best = (own, [tensor.copy() for tensor in net.parameters])
            self.send(heartbeat)
            if train.get("early_stopping") and since >= train["early_stopping"]:
                break
        if best[1]:
            net.parameters = best[1]
        return last | {"samples": samples, "epochs": epochs, "seconds": time.perf_counter() - begun}


def factor(schedule, epoch):
    """What the learning rate is multiplied by."""
    if not schedule or schedule["epochs"] <= 1:
        return 1.0
    share = min(schedule["epoch"] + epoch, schedule["epochs"] - 1) / schedule["epochs"]
    return {"constant": 1.0, "linear": 1 - share, "cosine": (1 + math.cos(math.pi * share)) / 2, "decay": min(1.0, 3 * (1 - share))}[
        schedule["name"]]
