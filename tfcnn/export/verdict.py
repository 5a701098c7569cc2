"""`compare`: what an exported file lost against Keras on the same photos, how sure that is, and whether it may be shipped."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from tfcnn.evaluation.intervals import wilson_interval
from tfcnn.evaluation.paired import mcnemar, paired_interval

MIN_AGREEMENT = 0.99  # of a float file, ties aside: it holds the same numbers but for rounding, so another answer is a tie or an error
# What the rounding of weights to 16 bits may do: decide between two labels where the lower score in Keras is within this share of the
# higher one, and move a score by this share of the largest. MobileNetV2 with weights recovered from 8 bits was moved by 0.026.
TIE, NEAR = 0.05, 0.1
ACCEPTED, REJECTED, UNDECIDED, UNCHECKED = "accepted", "rejected", "undecided", "unchecked"


@dataclass(frozen=True)
class Verdict:
    """The comparison of a file with Keras, photo by photo. Everything that needs labels is None where only parity was checked.

    Attributes:
        accuracy: of the file; `interval`: its 95 % interval (Wilson).
        accuracy_drop: accuracy of Keras minus that of the file; negative where the file was better by chance.
        accuracy_drop_interval: within which the true drop lies, 5 % of the cases beyond each end (Tango 1998).
        lost, gained: photos that only Keras, only the file got right.
        p_value: of McNemar's exact test that both are equally accurate.
        agreement: share of photos with the same answer as Keras.
        max_score_difference, mean_score_difference: over all scores; None if the file gave no finite scores.
        recall_change: by label, of the file minus Keras, where there are photos.
        verdict: "accepted": the whole interval of the drop is within the limit; "rejected": all of it is beyond; "undecided":
            the photos are too few to tell; "unchecked": nothing here can run it. A float file computes the same numbers: it is
            accepted for its answers, ties aside, and its scores, and answers that took the other side of a tie are not counted as lost.
        accepted: whether it may be shipped: not rejected, and what was measured is within the limit.
        reason: one sentence where it is not plainly accepted.
    """

    accuracy: float | None
    interval: tuple[float, float] | None
    accuracy_drop: float | None
    accuracy_drop_interval: tuple[float, float] | None
    lost: int | None
    gained: int | None
    p_value: float | None
    agreement: float | None
    max_score_difference: float | None
    mean_score_difference: float | None
    recall_change: dict[str, float] | None
    verdict: str
    accepted: bool
    reason: str

    @classmethod
    def unchecked(cls, reason: str) -> "Verdict":
        """Of a file that cannot be run here."""
        return cls(**(_nothing() | {"verdict": UNCHECKED, "accepted": False, "reason": reason}))


def compare(scores: np.ndarray, keras_scores: np.ndarray, targets: np.ndarray | None, labels, *, exact: bool, max_accuracy_drop: float) -> Verdict:
    """Compares the scores of a file (n, labels) with those of Keras on the same photos.

    Args:
        targets: integers (n,); None where the photos are no test of accuracy, and only parity is checked.
        exact: for a float file, which must agree with Keras on 99 % of the photos, ties aside, and give nearly the same scores.
        max_accuracy_drop: the limit of the drop, from 0 to 1.

    Source: McNemar 1947, Psychometrika 12, p. 153; Tango 1998, Statistics in Medicine 17, p. 891.
    """
    if scores.shape != keras_scores.shape:
        return _unusable(f"its scores have shape {scores.shape}, those of Keras {keras_scores.shape}")
    if not np.isfinite(scores).all():
        return _unusable(f"its scores are NaN or infinite for {int((~np.isfinite(scores)).any(axis=1).sum())} of {len(scores)} photos")
    answers, keras_answers, n = scores.argmax(axis=1), keras_scores.argmax(axis=1), len(scores)
    same, rows = answers == keras_answers, np.arange(n)
    agreement = float(same.mean())
    tied = ~same & (keras_scores[rows, answers] >= (1 - TIE) * keras_scores[rows, keras_answers])
    difference = np.abs(scores.astype(np.float64) - keras_scores)
    values = _nothing() | {"agreement": agreement, "max_score_difference": float(difference.max()), "mean_score_difference": float(difference.mean())}
    if targets is None:
        judged = _judge_parity(agreement, exact, max_accuracy_drop)
    else:
        right, keras_right = answers == targets, keras_answers == targets
        lost, gained = int((keras_right & ~right).sum()), int((right & ~keras_right).sum())
        drop, interval = (lost - gained) / n, paired_interval(lost, gained, n)
        values |= {"accuracy": float(right.mean()), "interval": wilson_interval(int(right.sum()), n), "accuracy_drop": drop,
                   "accuracy_drop_interval": interval, "lost": lost, "gained": gained, "p_value": mcnemar(lost, gained),
                   "recall_change": _recall_change(right, keras_right, targets, labels)}
        counted = ~tied if exact else np.full(n, True)
        judged = _judge(float((counted & keras_right).sum() - (counted & right).sum()) / n, interval, n, exact, max_accuracy_drop)
    if exact:
        judged = _unlike(float((same | tied).mean()), difference.max(), keras_scores.max()) or judged
    return Verdict(**(values | judged))


def _unlike(explained: float, difference: float, largest: float) -> dict | None:
    """Of a float file: why it does not compute what Keras does; None where it does."""
    if explained < MIN_AGREEMENT:
        reason = f"answers as Keras does, or takes the other side of a tie, on {explained:.3f} of the photos; a float file must on {MIN_AGREEMENT}"
    elif difference > NEAR * largest:
        reason = f"a score differs from that of Keras by {difference:.3g}; in a float file by {NEAR * largest:.3g} at most"
    else:
        return None
    return {"verdict": REJECTED, "accepted": False, "reason": reason}


def _judge_parity(agreement: float, exact: bool, limit: float) -> dict:
    """Without test photos: of a file that changes few answers at most so much is lost; what changed answers are worth, nobody knows."""
    if exact:
        return {"verdict": ACCEPTED, "accepted": True, "reason": ""}
    said = f"no test photos: only parity was checked, it agrees with Keras on {agreement:.3f} of the photos"
    few = agreement >= 1 - limit
    return {"verdict": UNDECIDED, "accepted": few, "reason": said if few else f"{said}, so it may have lost more than {100 * limit:g} points"}


def _judge(drop: float, interval: tuple[float, float], n: int, exact: bool, limit: float) -> dict:
    low, high = interval
    change = lambda points: f"a {'loss' if points > 0 else 'gain'} of {abs(100 * points):.1f} points"
    lost = f"lost {100 * drop:.1f} points against Keras" if drop > 0 else "lost nothing against Keras"
    chance = f"on {n} photos chance allows anything from {change(low)} to {change(high)}"
    beyond = drop > limit + 1e-9
    if beyond:
        return {"verdict": REJECTED if low > limit else UNDECIDED, "accepted": False, "reason": f"{lost}, allowed are {100 * limit:g}; {chance}"}
    sure = exact or high <= limit + 1e-9
    return {"verdict": ACCEPTED if sure else UNDECIDED, "accepted": True, "reason": "" if sure else f"{lost}, but {chance}"}


def _unusable(reason: str) -> Verdict:
    return Verdict(**(_nothing() | {"agreement": 0.0, "verdict": REJECTED, "accepted": False, "reason": reason}))


def _nothing() -> dict[str, Any]:
    return {field.name: None for field in fields(Verdict)}


def _recall_change(right: np.ndarray, keras_right: np.ndarray, targets: np.ndarray, labels) -> dict[str, float]:
    own = {label: targets == target for target, label in enumerate(labels)}
    return {label: float(right[rows].mean() - keras_right[rows].mean()) for label, rows in own.items() if rows.any()}
