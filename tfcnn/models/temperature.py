"""Temperature scaling: one number that makes scores mean what they say, without changing an answer."""

import numpy as np

LOWEST, HIGHEST = 0.05, 20.0  # beyond them a fit says that the photos are too few


def fit_temperature(scores: np.ndarray, targets: np.ndarray) -> float:
    """The number to divide logits by so that the scores of these photos are the least surprising (log loss).

    Args:
        scores: softmax scores (n, labels) of photos that were not trained on; their logarithms are the logits but for a constant.
        targets: integers (n,).

    Returns:
        Above 1 where the network is too sure of itself; from 0.05 to 20.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    logits = np.log(np.maximum(scores.astype(np.float64), 1e-12))

    def surprise(log_temperature: float) -> float:
        return -log_softmax(logits / np.exp(log_temperature), axis=1)[np.arange(len(targets)), targets].mean()

    return float(np.exp(minimize_scalar(surprise, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded").x))


def divide_logits(model, temperature: float) -> None:
    """Builds a temperature into the weights of a classifier's last Dense layer, so that files need no operator for it."""
    layer = model.get_layer("logits")
    layer.set_weights([weight / np.float32(temperature) for weight in layer.get_weights()])
