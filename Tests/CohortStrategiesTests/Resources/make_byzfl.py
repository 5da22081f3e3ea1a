"""Writes byzfl.json: what byzfl (PyPI, MIT licence) makes of the same changes, to hold Cohort's rules against.

    pip install byzfl==0.0.11 && python make_byzfl.py
"""

import json
from pathlib import Path

import numpy as np
from byzfl import CenteredClipping, GeometricMedian, Krum, Median, MultiKrum, TrMean
from byzfl.aggregators.preaggregators import NNM

cases = []
for seed, (count, size, malicious) in enumerate([(5, 7, 1), (8, 33, 2), (9, 50, 3), (12, 20, 4)]):
    random = np.random.default_rng(seed)
    changes = random.normal(0.3, 1, (count, size)).astype(np.float32)
    changes[:malicious] = -10 * changes[:malicious]
    center = random.normal(0.3, 0.5, size).astype(np.float32)
    vectors = changes.astype(np.float64)
    mixed = NNM(f=malicious)(vectors)
    clipping = CenteredClipping(L=1, tau=float(np.median(np.linalg.norm(vectors - center, axis=1))))
    clipping.m = center.astype(np.float64)  # Its initializer refuses every array (0.0.11).
    cases.append(
        {
            "malicious": malicious,
            "changes": changes.tolist(),
            "center": center.tolist(),
            "median": Median()(vectors).tolist(),
            "trimmed_mean": TrMean(f=malicious)(vectors).tolist(),
            "krum": Krum(f=malicious)(vectors).tolist(),
            "multi_krum": MultiKrum(f=malicious)(vectors).tolist(),
            "geometric_median": GeometricMedian(nu=1e-9, T=20_000)(vectors).tolist(),
            "centered_clipping": clipping(vectors).tolist(),
            "nnm_trimmed_mean": TrMean(f=malicious)(mixed).tolist(),
            "nnm_multi_krum": MultiKrum(f=malicious)(mixed).tolist(),
            "nnm_geometric_median": GeometricMedian(nu=1e-9, T=20_000)(mixed).tolist(),
        }
    )
path = Path(__file__).with_name("byzfl.json")
path.write_text(json.dumps(cases))
