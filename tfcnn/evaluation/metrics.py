"""Numbers of an evaluation, from scores and targets alone.

Those with an interval are functions of how much each photo counts: with all weights 1 they are the number itself, with the weights of
a bootstrap its value in each sample. So number and interval cannot mean different things.
"""

from typing import Any, NamedTuple

import numpy as np

from tfcnn.evaluation.intervals import FEWEST_RESAMPLES, RESAMPLES, Interval, bootstrap_intervals, wilson_interval

TOP = (2, 3, 5)  # k of the top-k accuracies, where there are more labels than that
WORK = 10**8  # weighed scores, up to which the areas under curves have all samples of the bootstrap


def ranks_of(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Place of the true label among the scores (n, labels) of each photo, from 0; of equal scores the first label comes first, as in argmax."""
    own = scores[np.arange(len(targets)), targets][:, None]
    before = np.arange(scores.shape[1])[None] < targets[:, None]
    return ((scores > own) | ((scores == own) & before)).sum(axis=1)


def top_k(scores: np.ndarray, targets: np.ndarray) -> tuple[dict[str, float], dict[str, Interval]]:
    """Share of photos whose true label is among the k likeliest, by k, and its intervals."""
    ranks, n = ranks_of(scores, targets), len(targets)
    right = {str(k): int((ranks < k).sum()) for k in TOP if k < scores.shape[1]}
    return {k: count / n for k, count in right.items()}, {k: wilson_interval(count, n) for k, count in right.items()}


def losses_of(scores: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """By photo: `log_loss`, -log of the score of the true label, of scores that are made to sum to 1 and not below 2.2e-16; and `brier`, the sum
    over the labels of (score - truth)², 0 to 2.

    Source: Brier 1950, "Verification of forecasts expressed in terms of probability", equation 2.
    """
    scores = scores.astype(np.float64)
    shares = scores / scores.sum(axis=1, keepdims=True)
    truth = np.eye(scores.shape[1])[targets]
    own = np.clip(shares[np.arange(len(targets)), targets], np.finfo(np.float64).eps, 1)
    return {"log_loss": -np.log(own), "brier": ((shares - truth) ** 2).sum(axis=1)}


def numbers_of(scores: np.ndarray, targets: np.ndarray, *,
               samples: int = RESAMPLES) -> tuple[dict[str, Any], dict[str, Interval | None]]:
    """Balanced accuracy, F1 macro and weighted, log loss, Brier score, and areas under the curves of receiver operating characteristic and of
    precision against recall, with their 95 % intervals.

    Means over labels are of those that have photos, areas of those that have photos and are not all there is. A number that no label
    has is None.

    Args:
        scores: (n, labels).
        targets: integers (n,).
        samples: of the bootstrap; the areas have fewer where there are many scores.
    """
    every = np.ones((1, len(targets)))
    values: dict[str, Any] = {}
    intervals: dict[str, Interval | None] = {}
    fewer = min(samples, int(max(WORK / scores.size, FEWEST_RESAMPLES)))
    for statistics, count in ((_Counts(scores, targets), samples), (_Areas(scores, targets), fewer)):
        values |= {name: float(value[0]) if np.isfinite(value[0]) else None for name, value in statistics(every).items()}
        intervals |= bootstrap_intervals(statistics, len(targets), areas=isinstance(statistics, _Areas), count=count)
    return values, intervals


def areas_of_labels(scores: np.ndarray, targets: np.ndarray) -> list[dict[str, float | None]]:
    """`roc_auc` and `average_precision` of each label against all others; None where it has no photos or all of them."""
    areas = _Areas(scores, targets).by_label(np.ones((1, len(targets))))
    plain = lambda value: float(value) if np.isfinite(value) else None
    return [{name: plain(of_labels[target, 0]) for name, of_labels in areas.items()} for target in range(scores.shape[1])]


class _Counts:
    """What follows from answers, and means over photos."""

    def __init__(self, scores: np.ndarray, targets: np.ndarray):
        labels = np.eye(scores.shape[1], dtype=np.float32)
        truth, answers = labels[targets], labels[scores.argmax(axis=1)]
        self._columns = np.concatenate([truth, answers, truth * answers], axis=1)
        self._losses = {name: loss.astype(np.float32) for name, loss in losses_of(scores, targets).items()}

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        truth, answers, right = np.split(weights @ self._columns, 3, axis=1)  # (samples, labels) each
        there = truth > 0
        recall = np.divide(right, truth, out=np.full_like(right, np.nan), where=there)
        f1 = np.divide(2 * right, truth + answers, out=np.full_like(right, np.nan), where=there)
        share = truth / truth.sum(axis=1, keepdims=True)
        means = {name: weights @ loss / len(loss) for name, loss in self._losses.items()}
        return {"balanced_accuracy": np.nanmean(recall, axis=1), "macro_f1": np.nanmean(f1, axis=1), "weighted_f1": np.nansum(f1 * share, axis=1), **means}


class _Areas:
    """Areas under curves, of each label against all others; equal scores are passed together, as one point of the curve.

    Source: Fawcett 2006, "An introduction to ROC analysis", section 7; average precision as scikit-learn defines it, the sum of
    (recall now - recall before) · precision.
    """

    def __init__(self, scores: np.ndarray, targets: np.ndarray):
        self._curves = [_curve_of(column, targets == target) for target, column in enumerate(scores.T)]

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        return {name: _mean_of_numbers(values) for name, values in self.by_label(weights).items()}

    def by_label(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """(labels, samples) each; NaN where a label has no photos in a sample or all of them."""
        weights = np.ascontiguousarray(weights.T)  # a row a photo: sorting them moves whole rows
        found = [_areas(weights, curve) for curve in self._curves]
        return {"roc_auc": np.stack([roc for roc, _ in found]), "average_precision": np.stack([precision for _, precision in found])}


class _Curve(NamedTuple):
    """Photos by falling score of a label (`order`), and for each photo of the label how many photos, and how many of the label (`own_`), come
    before those with its score, and up to the last of them."""

    order: np.ndarray
    own: np.ndarray
    before: np.ndarray
    upto: np.ndarray
    own_before: np.ndarray
    own_upto: np.ndarray


def _curve_of(column: np.ndarray, is_own: np.ndarray) -> _Curve:
    order = np.argsort(-column, kind="stable")
    scores, own = -column[order], np.flatnonzero(is_own[order])
    before, upto = np.searchsorted(scores, scores[own], "left"), np.searchsorted(scores, scores[own], "right")
    return _Curve(order, own, before, upto, np.searchsorted(own, before), np.searchsorted(own, upto))


def _areas(weights: np.ndarray, curve: _Curve) -> tuple[np.ndarray, np.ndarray]:
    """Both areas from weights (n, samples)."""
    weights = weights[curve.order]
    passed, own = _sums_so_far(weights), _sums_so_far(weights[curve.own])
    own_before, own_upto, upto = own[curve.own_before], own[curve.own_upto], passed[curve.upto]
    owns, others = own[-1].astype(np.float64), passed[-1].astype(np.float64) - own[-1]
    others_above = (upto - own_upto + passed[curve.before] - own_before) / 2  # half of those with the same score
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 is NaN, a label without photos
        roc = 1 - (weights[curve.own] * others_above).sum(axis=0, dtype=np.float64) / (owns * others)
        precision = (weights[curve.own] * own_upto / np.maximum(upto, 1)).sum(axis=0, dtype=np.float64) / owns
    defined = (owns > 0) & (others > 0)
    return np.where(defined, roc, np.nan), np.where(defined, precision, np.nan)


def _sums_so_far(weights: np.ndarray) -> np.ndarray:
    """(n + 1, samples): of the first 0, 1, ... n rows. They are whole numbers, which float32 has without error up to 16 million."""
    sums = np.zeros((len(weights) + 1, weights.shape[1]), weights.dtype)
    np.cumsum(weights, axis=0, out=sums[1:])
    return sums


def _mean_of_numbers(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what is no NaN; NaN where nothing is."""
    known = np.isfinite(values)
    return np.divide(np.where(known, values, 0).sum(axis=0), known.sum(axis=0), out=np.full(values.shape[1], np.nan), where=known.any(axis=0))
