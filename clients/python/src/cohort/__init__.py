"""Train one model on several machines with a Cohort server.

    import cohort

    run = cohort.connect("http://127.0.0.1:8080").fit(df, target="species", peers=3)
    run.history            # loss and accuracy of each round, as a DataFrame
    run.predict(df)        # on the server
    run.model.predict(df)  # here, from the model file, with NumPy alone
"""

from ._async import AsyncClient
from ._client import Client, Peer, connect
from ._errors import CohortError, TrainingFailed
from ._model import Model
from ._module import save_module
from ._run import Run

__all__ = ["AsyncClient", "Client", "CohortClassifier", "CohortError", "CohortRegressor", "Model", "Peer", "Run", "TrainingFailed", "connect", "save_module"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # scikit-learn is wanted only by those who use its interface.
    if name in ("CohortClassifier", "CohortRegressor"):
        from . import sklearn

        return getattr(sklearn, name)
    raise AttributeError(f"module 'cohort' has no attribute '{name}'")
