"""A model of Cohort's as ONNX, without Cohort: python predict_onnx.py model.onnx data.csv

Prints the predictions of a CSV (UTF-8, with a header, without date columns) as JSON lines. Needs onnxruntime and NumPy.
The file comes from `cohort model SESSION --format onnx`."""

import csv
import json
import sys

import numpy as np
import onnxruntime


def main(model, data):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    with open(data, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # Each input is a column: numbers (NaN where there is none) or texts (empty where there is none).
    columns = {}
    for column in session.get_inputs():
        values = [(row.get(column.name) or "").strip() for row in rows]
        if column.type == "tensor(double)":
            columns[column.name] = np.array([[float(value or "nan")] for value in values])
        else:
            columns[column.name] = np.array([[value] for value in values], dtype=object)
    results = dict(zip([output.name for output in session.get_outputs()], session.run(None, columns)))
    if "label" in results:
        classes = json.loads(session.get_modelmeta().custom_metadata_map["schema"])["classes"]
        for label, probabilities in zip(results["label"], results["probabilities"]):
            print(json.dumps({"label": label, "probabilities": dict(zip(classes, probabilities.tolist()))}))
    else:
        for (value,) in results["value"].tolist():
            print(json.dumps({"value": value}))


if __name__ == "__main__":
    main(*sys.argv[1:])
