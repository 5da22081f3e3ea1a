"""scikit-learn's interface, trained on a real server."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import cohort

SETTINGS = {"rounds": 10, "epochs": 3, "batch_size": 8, "lr": 0.005, "hidden": [16], "seed": 1}


def test_a_classifier_in_a_pipeline_under_cross_validation(client: cohort.Client) -> None:
    X, y = load_iris(return_X_y=True)
    estimator = make_pipeline(StandardScaler(), cohort.CohortClassifier(client, peers=2, settings=SETTINGS))
    scores = cross_val_score(estimator, X, y, cv=3)
    assert scores.mean() > 0.85, scores
    estimator.fit(X, y)
    assert estimator.predict(X).dtype == y.dtype
    np.testing.assert_allclose(estimator.predict_proba(X).sum(axis=1), 1, atol=1e-6)
    assert estimator.score(X, y) > 0.85


def test_a_regressor(client: cohort.Client) -> None:
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    estimator = cohort.CohortRegressor(client, settings=SETTINGS).fit(X, y)
    assert estimator.score(X, y) > 0.3
    assert estimator.run_.results["task"] == "regression"
    with pytest.raises(ValueError, match="9 columns"):
        estimator.predict(X.iloc[:, :9])


def test_what_scikit_learn_asks_of_an_estimator(client: cohort.Client) -> None:
    estimator = cohort.CohortClassifier(client, peers=2)
    assert estimator.get_params()["peers"] == 2
    assert estimator.set_params(peers=1).peers == 1
    with pytest.raises(NotFittedError):
        cohort.CohortClassifier(client).predict([[1.0]])
    assert clone(cohort.CohortRegressor(None, peers=3)).peers == 3
