"""The rows of a session's table that were dealt to this peer, as docs/data.md describes them."""

import base64
import json

import numpy as np

CODES = {"u8": "u1", "u16": "<u2"}


class Table:
    """`x` [rows, features] and `y` [rows] (a class's number, or the standardized quantity): zeros where no row has come."""

    def __init__(self, server, session, link):
        self.server, self.path = server, f"/peers/{server.id}/sessions/{session}"
        manifest = link.get("table") or json.loads(server.get(f"{self.path}/table", link["table_sha256"]))
        if manifest["version"] != 1:
            raise ValueError(f"this peer does not read tables of version {manifest['version']}")
        self.manifest, self.parts, self.layout = manifest, manifest["parts"], manifest["layout"]
        words = base64.b64decode(manifest["dictionary"]) if "dictionary" in manifest else server.get(
            f"{self.path}/table/dictionary", manifest["dictionary_sha256"])
        self.dictionary = np.frombuffer(words, "<f4")
        self.training, self.is_classification = self.parts["training_rows"], manifest["task"] == "classification"
        rows = self.training + self.parts["validation_rows"]
        self.x = np.zeros((rows, sum(column["features"] for column in self.layout["columns"])), np.float32)
        self.y = np.zeros(rows, np.int64 if self.is_classification else np.float32)
        self.known = np.zeros(rows, bool)

    def add(self, places, data, on_fetch=lambda: None):
        """Takes the rows at these places from `data` (base64, in that order), or fetches what is not there yet."""
        if data:
            data, start = base64.b64decode(data), 0
            for place in places:
                end = start + (place["end"] - place["start"]) * self.layout["record_bytes"]
                self.decode(place["start"], place["end"], data[start:end])
                start = end
            return
        size = self.parts["rows_per_part"]
        for place in places:
            for part in range(place["start"] // size, -(-place["end"] // size)):
                start, end = max(place["start"], part * size), min(place["end"], (part + 1) * size)
                if start < end and not self.known[start:end].all():
                    on_fetch()
                    self.decode(start, end, self.server.get(f"{self.path}/parts/{part}?start={start}&end={end}"))

    def decode(self, start, end, content):
        records = np.frombuffer(content, np.uint8).reshape(end - start, self.layout["record_bytes"])
        feature = 0
        for column in self.layout["columns"]:
            count = column["features"]
            self.x[start:end, feature:feature + count] = self.features(column, count, records)
            feature += count
        self.y[start:end] = self.values(records, self.layout["target"], self.layout["target_offset"], 1)[:, 0]
        self.known[start:end] = True

    def features(self, column, count, records):
        if column["encoding"] == "f32":
            return self.values(records, "f32", column["offset"], count)
        codes = np.zeros(len(records), int) if column["encoding"] == "constant" else self.values(
            records, column["encoding"], column["offset"], 1)[:, 0]
        if "vectors" not in column:  # The feature that is 1; a further code: none is.
            return np.eye(count + 1, count, dtype=np.float32)[codes]
        first = column["vectors"]["start"]
        return self.dictionary[first:first + column["vectors"]["count"] * count].reshape(-1, count)[codes]

    def values(self, records, encoding, offset, count):
        width = {"f32": 4, "u8": 1, "u16": 2}[encoding]
        return np.ascontiguousarray(records[:, offset:offset + width * count]).view(CODES.get(encoding, "<f4"))
