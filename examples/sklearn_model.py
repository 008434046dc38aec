"""A model of scikit-learn as an endpoint on your machine.

    pip install aiosmrt scikit-learn
    cd examples && aiosmrt serve --model sklearn_model:predict

Asked with {"instances": [[5.1, 3.5, 1.4, 0.2]]}, it answers with the names of the flowers.
"""

import json

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from aiosmrt.local import InvocationRequest, ModelFailure

_flowers = load_iris()
_model = LogisticRegression(max_iter=1000).fit(_flowers.data, _flowers.target)


def predict(request: InvocationRequest) -> object:
    """Answer one request."""
    try:
        found = _model.predict(json.loads(request.body)["instances"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFailure(400, f"no body such as {{'instances': [[5.1, …]]}}: {error}") from error
    return {"predictions": [str(_flowers.target_names[index]) for index in found]}
