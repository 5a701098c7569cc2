"""Whether scores mean what they say: reliability, calibration error, and the score from which answers are right as often as wished."""

from typing import Any

import numpy as np

from tfcnn.evaluation.intervals import wilson_interval
from tfcnn.evaluation.metrics import losses_of

BINS = 15  # of equal width, as in Guo et al. 2017, section 2
PRECISIONS = (0.9, 0.95, 0.99)  # that thresholds are looked up for


def calibration_of(scores: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    """Expected calibration error of the likeliest labels, mean log loss and Brier score, and the bins of a reliability diagram.

    Args:
        scores: (n, labels).
        targets: integers (n,).

    Returns:
        `error`: the mean over photos of |share right - mean score| of their bin, which on few photos is above 0 even for scores that
        mean what they say; `log_loss`, `brier`; `bins`: n, mean `score`, share `right` and its 95 % `interval` of each bin with photos.

    Source: Guo et al. 2017, "On calibration of modern neural networks", equations 2 to 4.
    """
    top, right = scores.max(axis=1).astype(np.float64), scores.argmax(axis=1) == targets
    place = np.minimum((top * BINS).astype(int), BINS - 1)
    bins: list[dict[str, Any]] = []
    for number in np.unique(place):
        chosen = place == number
        n, good = int(chosen.sum()), int(right[chosen].sum())
        bins.append({"n": n, "score": float(top[chosen].mean()), "right": good / n, "interval": wilson_interval(good, n)})
    error = sum(row["n"] * abs(row["right"] - row["score"]) for row in bins) / len(targets)
    return {"error": error, **{name: float(loss.mean()) for name, loss in losses_of(scores, targets).items()}, "bins": bins}


def with_temperature(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Scores (n, labels) of logits divided by a temperature."""
    from scipy.special import softmax

    return softmax(np.log(np.maximum(scores.astype(np.float64), 1e-12)) / temperature, axis=1)


def find_threshold(scores: np.ndarray, targets: np.ndarray, precision: float) -> float | None:
    """The lowest score so that, of the photos whose answer scores at least that, `precision` or more are right; None where no score does.

    Args:
        scores: (n, labels) of photos that are not those of the test: a threshold chosen on these is too good for them.
        targets: integers (n,).
        precision: wished share of right answers, above 0 to 1.
    """
    if not len(targets):
        return None
    top, right = scores.max(axis=1), scores.argmax(axis=1) == targets
    order = np.argsort(-top, kind="stable")
    share = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    ends = np.append(np.flatnonzero(np.diff(top[order])), len(order) - 1)  # photos with the same score are taken together
    good = ends[share[ends] >= precision]
    return float(top[order][good[-1]]) if len(good) else None


def thresholds_of(scores: np.ndarray, targets: np.ndarray, chosen_scores: np.ndarray, chosen_targets: np.ndarray,
                  precisions=PRECISIONS) -> list[dict[str, Any]]:
    """For each wished precision the threshold that validation photos say, and what came of it on others.

    Args:
        scores, targets: of the photos that it is tried on.
        chosen_scores, chosen_targets: of those that it is chosen on.

    Returns:
        `wished`, `threshold`, `n` photos that it accepts, the share of them that is `right` with its `interval`, and the share of all
        that is `refused` with its `refused_interval`; without a threshold all is None but the first.
    """
    rows = []
    for wished in precisions:
        threshold = find_threshold(chosen_scores, chosen_targets, wished)
        row = dict.fromkeys(("threshold", "n", "right", "interval", "refused", "refused_interval"))
        if threshold is not None:
            taken = scores.max(axis=1) >= threshold
            n, good = int(taken.sum()), int((scores.argmax(axis=1) == targets)[taken].sum())
            row = {"threshold": threshold, "n": n, "right": good / n if n else None, "interval": wilson_interval(good, n) if n else None,
                   "refused": 1 - n / len(targets), "refused_interval": wilson_interval(len(targets) - n, len(targets))}
        rows.append({"wished": wished, **row})
    return rows
