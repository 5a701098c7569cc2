"""`evaluate`: every number of a model on one split, as a `Report`."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tfcnn.data.dataset import Dataset, splits_by_content
from tfcnn.data.run_data import check_known, load_run_data
from tfcnn.data.scores import Scores, read_scores, scores_of
from tfcnn.data.split import SPLITS
from tfcnn.errors import InputError, WorkError, closest
from tfcnn.evaluation.calibration import PRECISIONS, calibration_of, thresholds_of, with_temperature
from tfcnn.evaluation.intervals import Interval, wilson_interval
from tfcnn.evaluation.metrics import areas_of_labels, numbers_of, top_k
from tfcnn.kinds import IMAGE, KINDS, differing, in_words
from tfcnn.models.forward import forward
from tfcnn.progress import stage
from tfcnn.record import Run, load_run

NAMED = 3  # photos that an error names

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Report:
    """Every number of an evaluation. Records of earlier versions have the first of them alone.

    Attributes:
        split: the split it was measured on.
        n: number of examples.
        accuracy: share of right answers.
        interval: its 95 % interval (Wilson 1927).
        balanced_accuracy: mean of the recalls of the labels that have photos.
        log_loss: mean of -log(score of the true label).
        labels: class names.
        per_label: for each label its n, precision, recall and F1, 95 % intervals (Wilson) of the first two, and the areas under its curves
            against all other labels, `roc_auc` and `average_precision`.
        confusion: `confusion[i][j]` counts examples of label i that were taken for label j.
        top_k: by k the share of photos whose true label is among the k likeliest.
        macro_f1, weighted_f1: mean F1 of the labels that have photos, each counted once, or as often as it has photos.
        roc_auc, average_precision: means over the labels for which they are defined; None without any.
        brier: mean over photos of the sum over labels of (score - truth)², from 0 to 2.
        intervals: 95 % intervals by the names above, `top_2` and so on among them: Wilson's for shares of photos, else by the bootstrap; None
            where that says nothing, where all answers are right, for instance. With fewer than about ten wrong answers those of the
            bootstrap are too narrow.
        calibration: `as_is`, what `tfcnn.evaluation.calibration.calibration_of` says of the scores; `temperature` of the run, and the same
            of scores with it as `calibrated`, None for a run without.
        thresholds: what `tfcnn.evaluation.calibration.thresholds_of` says, with thresholds that were chosen on the validation photos.
        kind: of the data, a name of `tfcnn.kinds.KINDS`.
    """

    split: str
    n: int
    accuracy: float
    interval: Interval
    balanced_accuracy: float
    log_loss: float
    labels: tuple[str, ...]
    per_label: tuple[dict[str, Any], ...]
    confusion: tuple[tuple[int, ...], ...]
    top_k: dict[str, float] = field(default_factory=dict)
    macro_f1: float | None = None
    weighted_f1: float | None = None
    roc_auc: float | None = None
    average_precision: float | None = None
    brier: float | None = None
    intervals: dict[str, Interval | None] = field(default_factory=dict)
    calibration: dict[str, Any] | None = None
    thresholds: tuple[dict[str, Any], ...] = ()
    kind: str = IMAGE

    def __post_init__(self) -> None:
        rows = (row if "precision_interval" in row else {**row, **_missing_of(self.confusion, place)} for place, row in enumerate(self.per_label))
        object.__setattr__(self, "per_label", tuple(rows))

    @property
    def many(self) -> str:
        """What its examples are called."""
        return KINDS[self.kind].many

    def to_dict(self) -> dict:
        """Plain dicts, lists and numbers, as stored in run.json."""
        return asdict(self)

    def numbers(self) -> list[tuple[str, float, Interval | None]]:
        """(what it is, value, 95 % interval) of each number of the whole split that there is."""
        named = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", **{f"top_{k}": f"true label among the first {k}" for k in self.top_k},
                 "macro_f1": "F1, mean of labels", "weighted_f1": "F1, mean of photos", "roc_auc": "area under ROC curve",
                 "average_precision": "average precision", "log_loss": "log loss", "brier": "Brier score"}
        tops, intervals = {f"top_{k}": value for k, value in self.top_k.items()}, {"accuracy": self.interval, **self.intervals}
        values = {name: tops[name] if name in tops else getattr(self, name) for name in named}
        return [(in_words(text, self.kind), values[name], intervals.get(name)) for name, text in named.items() if values[name] is not None]

    def confusions(self) -> list[tuple[int, int, int]]:
        """(target, answer, how often) of the mistakes, the most frequent first."""
        found = [(target, answer, count) for target, row in enumerate(self.confusion) for answer, count in enumerate(row) if count and target != answer]
        return sorted(found, key=lambda mistake: -mistake[2])

    def __str__(self) -> str:
        lines = [f"{self.split}: accuracy {_shown(self.accuracy, self.interval)} on {self.n} photos"]
        lines += [f"  {text:<28} {_shown(value, interval)}" for text, value, interval in self.numbers()[1:]]
        if self.calibration:
            better = self.calibration["calibrated"]
            lines.append(f"  {'calibration error':<28} {self.calibration['as_is']['error']:.3f}" + (
                f"; {better['error']:.3f} with temperature {self.calibration['temperature']:.2f} (log loss {better['log_loss']:.3f})" if better else ""))
        lines += [f"  right {100 * row['wished']:g} times of 100: {threshold_text(row)}" for row in self.thresholds]
        width = max(len(label) for label in self.labels)
        none = f"no {self.many}"
        of_label = lambda row: f"precision {row['precision']:.3f}  recall {row['recall']:.3f}  F1 {row['f1']:.3f}" if row["n"] else none
        lines = in_words("\n".join(lines), self.kind).splitlines()
        lines += [f"  {row['label']:<{width}}  n {row['n']:>4}  {of_label(row)}" for row in self.per_label]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from tfcnn.evaluation.display import report_html

        return report_html(self)


def _missing_of(confusion: Sequence[Sequence[int]], place: int) -> dict[str, Any]:
    """What records of earlier versions do not say of a label, as far as it follows from the others."""
    right, answered, n = confusion[place][place], sum(row[place] for row in confusion), sum(confusion[place])
    return {"precision_interval": wilson_interval(right, answered), "recall_interval": wilson_interval(right, n), "roc_auc": None, "average_precision": None}


def threshold_text(row: dict[str, Any]) -> str:
    """In words, what came of a threshold."""
    if row["threshold"] is None:
        return "no score is high enough on the validation photos"
    right = "no answer is left" if row["right"] is None else f"{_shown(row['right'], row['interval'])} are right"
    return f"answers with a score from {row['threshold']:.3f} up: {right}, {_shown(row['refused'], row['refused_interval'])} of the photos are refused"


def _shown(value: float, interval: Interval | None) -> str:
    return f"{value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")


def evaluate(run: Run | str | Path, data: Dataset | None = None, *, split: str = "test", precisions: Sequence[float] = PRECISIONS) -> Report:
    """Runs the model of a run over one split.

    Args:
        run: a run or its folder.
        data: what to evaluate on, which may lack some of the run's labels; the photos and the split of the run itself if None.
        split: "train", "validation" or "test".
        precisions: wished shares of right answers, above 0 to 1, that score thresholds are looked up for.

    Raises:
        InputError: an unknown split or a precision out of range, a split without photos, labels that the run does not know, or a damaged run.
        WorkError: scores that are no numbers.
    """
    run = run if isinstance(run, Run) else load_run(run)
    if split not in SPLITS:
        raise InputError(f"expected a split, got split='{split}'; {closest(split, SPLITS)}")
    wrong = [precision for precision in precisions if isinstance(precision, bool) or not isinstance(precision, (int, float)) or not 0 < precision <= 1]
    if wrong:
        raise InputError(f"expected wished precisions above 0 to 1, got precision={wrong[0]!r}")
    data = data or load_run_data(run)
    scored = score(run, data, split)
    say_seen(run, data, data.rows(split))
    return report_of(run, scored, split, precisions)


def score(run: Run, data: Dataset, split: str, *, model=None) -> Scores:
    """The scores of the photos of a split, with their paths and targets among the labels of the run.

    Args:
        model: of the run, where it is loaded already.

    Raises:
        InputError: data that the run does not fit, or a split without photos.
        WorkError: scores that are no numbers.
    """
    check_data(run, data)
    data, rows = replace(data, labels=tuple(run.labels)), data.rows(split)
    if not len(rows):
        there = ", ".join(f"{name} {len(data.rows(name))}" for name in SPLITS if len(data.rows(name))) or "none"
        raise InputError(f"expected photos in the split '{split}', found none; give another split (photos: {there}) or other photos")
    model = model or run.load_model()
    with stage("forward passes", len(rows), photos=1) as advance:
        scored = scores_of(data, rows, forward(model, data.inputs, rows, advance=advance))
    _check_scores(scored.scores, scored.paths)
    return scored


def report_of(run: Run, scored: Scores, split: str, precisions: Sequence[float] = PRECISIONS) -> Report:
    """The report of scores of a run; thresholds are chosen on the validation photos whose scores it keeps."""
    report = make_report(scored.scores, scored.targets, run.labels, split, temperature=run.record.get("temperature"), kind=run.kind)
    kept = read_scores(run, "validation")
    others = ~np.isin(kept.digests, scored.digests) if kept is not None else np.zeros(0, bool)  # a threshold is too good for photos that chose it
    if kept is None or not others.any():
        why = "the run keeps no scores of validation photos" if kept is None else "the validation photos, on which they are chosen, are among these"
        if kept is None and run.record["data"]["splits"]["validation"] and run.record["data"]["source"]:
            why += "; 'tfcnn report --again' computes them"
        logger.info("no score thresholds: %s", why)
        return report
    return replace(report, thresholds=tuple(thresholds_of(scored.scores, scored.targets, kept.scores[others], kept.targets[others], precisions)))


def say_seen(run: Run, data: Dataset, rows: np.ndarray) -> int:
    """Warns of photos that the run was trained on, or that chose it, and that are now taken for a test; returns how many were trained on."""
    known = splits_by_content(run)
    seen = Counter(split for row in rows if (split := known.get(data.items[row].sha256)) != data.items[row].split)
    if seen["train"]:
        logger.warning("%d of the %d %s were trained on by '%s': the accuracy is too good to be true", seen["train"], len(rows), data.many, run.path)
    if seen["validation"]:
        logger.warning("%d of the %d %s are validation %s of '%s', by which it was chosen: the accuracy may be too good", seen["validation"],
                       len(rows), data.many, data.many, run.path)
    return seen["train"]


def check_data(run: Run, data: Dataset) -> None:
    """Raises InputError for data with labels that the run does not know, another image size or another geometry than the run's."""
    check_known(run, data.labels)
    if list(data.input_shape) != run.record["input_shape"]:
        size, *_, channels = run.record["input_shape"]
        if run.kind != IMAGE:
            raise InputError(f"expected {KINDS[run.kind].many} of shape {tuple(run.record['input_shape'])}, got {tuple(data.input_shape)}; "
                             "load them with tfcnn.data.run_data.load_for_run")
        raise InputError(f"expected photos of shape {tuple(run.record['input_shape'])}, got {tuple(data.input_shape)}; "
                         f"load them with image_size={size}{'' if channels == data.input_shape[-1] else f', channels={channels}'}")
    if run.kind != IMAGE and (other := differing(run.facts, data.facts)):
        raise InputError(f"expected {KINDS[run.kind].many} of the {other} of the run, got another; load them with tfcnn.data.run_data.load_for_run")
    if data.geometry != run.record["geometry"]:
        raise InputError(f"expected photos in the geometry of the run, '{run.record['geometry']}', got '{data.geometry}'; "
                         f"load them with geometry='{run.record['geometry']}'")


def make_report(scores: np.ndarray, targets: np.ndarray, labels: Sequence[str], split: str, *, temperature: float | None = None,
                kind: str = IMAGE) -> Report:
    """The report of scores (n, labels) against integer targets (n,)."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    every, answers = np.arange(len(labels)), scores.argmax(axis=1)
    _check_scores(scores, np.arange(len(targets)).astype(str))
    precision, recall, f1, count = precision_recall_fscore_support(targets, answers, labels=every, zero_division=0)
    confusion = confusion_matrix(targets, answers, labels=every)
    right, answered = np.diag(confusion), confusion.sum(axis=0)
    areas = areas_of_labels(scores, targets)
    values, intervals = numbers_of(scores, targets)
    tops, top_intervals = top_k(scores, targets)
    calibrated = calibration_of(with_temperature(scores, temperature), targets) if temperature else None
    interval = wilson_interval(int(right.sum()), len(targets))
    return Report(
        split=split, n=len(targets), accuracy=float(np.mean(answers == targets)), interval=interval, labels=tuple(labels),
        per_label=tuple({"label": label, "n": int(count[i]), "precision": float(precision[i]), "recall": float(recall[i]), "f1": float(f1[i]),
                         "precision_interval": wilson_interval(int(right[i]), int(answered[i])),
                         "recall_interval": wilson_interval(int(right[i]), int(count[i])), **areas[i]} for i, label in enumerate(labels)),
        confusion=tuple(tuple(int(v) for v in row) for row in confusion), top_k=tops,
        intervals={"accuracy": interval, **{f"top_{k}": of_k for k, of_k in top_intervals.items()}, **intervals},
        calibration={"temperature": temperature, "as_is": calibration_of(scores, targets), "calibrated": calibrated}, kind=kind, **values)


def _check_scores(scores: np.ndarray, names: np.ndarray) -> None:
    bad = ~np.isfinite(scores).all(axis=1)
    if bad.any():
        named = ", ".join(names[bad][:NAMED]) + (", ..." if bad.sum() > NAMED else "")
        raise WorkError(f"expected finite scores, got NaN or infinity for {bad.sum()} of {len(bad)} photos ({named}); the training diverged, "
                        "give a lower learning rate")
