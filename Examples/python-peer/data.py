"""From the CSV and the schema of TRAIN to arrays: what docs/protocol.md and docs/model-file.md say of rows and columns."""

import csv
import io

import numpy as np

MISSING = {"", "na", "n/a", "#n/a", "<na>", "nan", "null", "none", "?", "inf", "+inf", "-inf", "infinity", "-infinity"}
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

    def below(self, bound):
        return (self.next() * bound) >> 64

    def float(self):
        return (self.next() >> 40) * 2.0**-24

    def shuffle(self, items):
        for last in range(len(items) - 1, 0, -1):
            other = self.below(last + 1)
            items[last], items[other] = items[other], items[last]


class Table:
    """Rows that have a target: `x` [rows, features] and `y` [rows] (a class's number, or the standardized quantity), and which are held out."""

    def __init__(self, file, schema):
        self.schema = schema
        self.comma = schema["delimiter"] == ";"
        columns = schema["columns"]
        if any(column["kind"] == "date" for column in columns):
            raise ValueError("this peer does not read dates")
        target = next(index for index, column in enumerate(columns) if column["kind"] == "target")
        group = next((index for index, column in enumerate(columns) if column["name"] == schema.get("group")), None)
        self.is_classification = schema["task"] == "classification"
        if self.is_classification:
            classes = schema["classes"]
            # Labels such as 001 are codes: their text counts.
            numbered = all(self.number(label) is not None and not (label[:1] == "0" and label[1:2].isdigit()) for label in classes)
            known = {self.number(label) if numbered else label: index for index, label in enumerate(classes)}
            training, held_out = schema["class_counts"], list(schema["validation_counts"])
        else:
            classes, training, held_out = [""], [schema["training_rows"]], [schema["validation_rows"]]
        left = [a + b for a, b in zip(training, held_out)]
        streams = [Generator(schema["split_seed"], f"split/{label}") for label in classes]

        x, y, validation = [], [], []
        for line, record in enumerate(self.records(file)):
            if len(record) != len(columns):
                raise ValueError(f"record {line + 1} has {len(record)} fields, not {len(columns)}")
            text = record[target].strip()
            label = 0
            if self.is_classification:
                label = known.get(self.number(text) if numbered else text)
                if label is None:
                    if text.lower() in MISSING:
                        continue
                    raise ValueError(f"record {line + 1}: '{text[:40]}' is not among the classes")
                y.append(label)
            elif text.lower() in MISSING:
                continue
            else:
                y.append((self.number(text) - columns[target]["mean"]) / columns[target]["std"])
            if group is not None:
                number = Generator(schema["split_seed"], f"group/{record[group].strip()}").next() >> 32
                validation.append(number < schema.get("group_threshold", 0))
            else:
                held = held_out[label] > 0 and streams[label].below(max(1, left[label])) < held_out[label]
                left[label] -= held_out[label] > 0
                held_out[label] -= held
                validation.append(held)
            x.append([feature for column, cell in zip(columns, record) for feature in self.features(column, cell.strip())])
        self.x = np.array(x, np.float32).reshape(len(x), -1)
        self.y = np.array(y, np.int64 if self.is_classification else np.float32)
        validation = np.array(validation, bool)
        self.training, self.validation = np.flatnonzero(~validation), np.flatnonzero(validation)

    def records(self, file):
        text = io.TextIOWrapper(file, encoding={"windows-1252": "cp1252"}.get(self.schema.get("encoding"), self.schema.get("encoding") or "utf-8"),
                                newline="")
        if text.read(1) != "\ufeff":
            text.seek(0)
        space = self.schema["delimiter"] == " "
        records = csv.reader(text, delimiter=self.schema["delimiter"], skipinitialspace=space)
        records = (record for record in records if record and record != ["\x1a"])
        if space:
            records = ([field for field in record if field] for record in records)
        if self.schema["has_header"]:
            next(records)
        return records

    def number(self, text):
        try:
            return float(text.replace(",", ".") if self.comma else text) if text.lower() not in MISSING else None
        except ValueError:
            return None

    def features(self, column, text):
        missing = text.lower() in MISSING
        if column["kind"] == "numeric":
            value = column["mean"] if missing else self.number(text)
            yield (value - column.get("shift", column["mean"])) / column.get("scale", column["std"])
        elif column["kind"] == "categorical":
            # `None` is a word among words.
            missing = missing and text.lower() != "none"
            own = [float(not missing and text == category) for category in column["categories"]]
            yield from own + [float(not missing and not any(own))] * column.get("has_other", False)

    def assigned(self, rows):
        """The rows that TRAIN's `rows` means."""
        order = list(self.training)
        Generator(rows["seed"], "rows").shuffle(order)
        return np.array([row for part in rows["ranges"] for row in order[part["start"]:part["end"]]], np.int64)
