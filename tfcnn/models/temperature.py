"""Temperature scaling: one number that makes scores mean what they say, without changing an answer."""

import numpy as np

LOWEST, HIGHEST = 0.05, 20.0  # where the search ends


def fit_temperature(scores: np.ndarray, targets: np.ndarray) -> float:
    """The number to divide logits by so that the log loss of these photos is least.

    The targets are smoothed as in Platt scaling, to (n + 1) / (n + 2): of 60 photos that are all answered right no fit can conclude
    more than that, and without it the scores would go to 1.

    Args:
        scores: softmax scores (n, labels) of photos that were not trained on; their logarithms are the logits but for a constant.
        targets: integers (n,).

    Returns:
        Above 1 where the network is too sure of itself; from 0.05 to 20.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2; Platt 1999, "Probabilistic outputs for support
    vector machines", section 2.2.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    logits = np.log(np.maximum(scores.astype(np.float64), 1e-12))
    n, labels = scores.shape
    smoothed = np.full((n, labels), 1 / (n + 2) / max(1, labels - 1))
    smoothed[np.arange(n), targets] = (n + 1) / (n + 2)

    def loss(log_temperature: float) -> float:
        return -(smoothed * log_softmax(logits / np.exp(log_temperature), axis=1)).sum(axis=1).mean()

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded").x))


def divide_logits(model, temperature: float) -> None:
    """Builds a temperature into the weights of a classifier's last Dense layer, so that files need no operator for it."""
    layer = model.get_layer("logits")
    layer.set_weights([weight / np.float32(temperature) for weight in layer.get_weights()])
