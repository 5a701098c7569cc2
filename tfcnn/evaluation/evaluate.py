"""`evaluate`: every number of a model on one split, as a `Report`; `predict`: scores of photos."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfcnn.data.channels import in_channels
from tfcnn.data.dataset import Dataset
from tfcnn.data.images import load_run_data, splits_by_content
from tfcnn.data.photo import check_geometry, decode_photo
from tfcnn.errors import InputError, WorkError, closest
from tfcnn.models.forward import forward
from tfcnn.record import Run, load_run

Z95 = 1.959964  # two-sided 95 % of the normal distribution

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Report:
    """Every number of an evaluation.

    Attributes:
        split: the split it was measured on.
        n: number of examples.
        accuracy: share of right answers.
        interval: its 95 % interval (Wilson 1927).
        balanced_accuracy: mean of the recalls of the labels.
        log_loss: mean of -log(score of the true label).
        labels: class names.
        per_label: for each label its n, precision, recall and F1.
        confusion: confusion[i][j] counts examples of label i that were taken for label j.
    """

    split: str
    n: int
    accuracy: float
    interval: tuple[float, float]
    balanced_accuracy: float
    log_loss: float
    labels: tuple[str, ...]
    per_label: tuple[dict[str, Any], ...]
    confusion: tuple[tuple[int, ...], ...]

    def to_dict(self) -> dict:
        """Plain dicts, lists and numbers, as stored in run.json."""
        return asdict(self)

    def __str__(self) -> str:
        low, high = self.interval
        lines = [f"{self.split}: accuracy {self.accuracy:.3f} [{low:.3f}, {high:.3f}] on {self.n} photos, "
                 f"balanced accuracy {self.balanced_accuracy:.3f}, log loss {self.log_loss:.3f}"]
        width = max(len(label) for label in self.labels)
        lines += [f"  {row['label']:<{width}}  n {row['n']:>4}  precision {row['precision']:.3f}  recall {row['recall']:.3f}  F1 {row['f1']:.3f}"
                  for row in self.per_label]
        return "\n".join(lines)


class Prediction(NamedTuple):
    """The answer to one photo: its name, the likeliest label, and the score of every label."""

    name: str
    label: str
    score: float
    scores: dict[str, float]


def evaluate(run: Run | str | Path, data: Dataset | None = None, *, split: str = "test") -> Report:
    """Runs the model of a run over one split.

    Args:
        run: a run or its folder.
        data: what to evaluate on; the photos and the split of the run itself if None.
        split: "train", "validation" or "test".

    Raises:
        InputError: an unknown split, a split without photos, other labels than the run's, or a damaged run.
    """
    run = run if isinstance(run, Run) else load_run(run)
    if split not in ("train", "validation", "test"):
        raise InputError(f"expected a split, got split='{split}'; {closest(split, ('train', 'validation', 'test'))}")
    data = data or load_run_data(run)
    check_data(run, data)
    rows = data.rows(split)
    if not len(rows):
        raise InputError(f"expected photos in the split '{split}', found none")
    say_seen(run, data, rows)
    scores = forward(run.load_model(), data.inputs, rows)
    return make_report(scores, data.targets(rows), run.labels, split)


def say_seen(run: Run, data: Dataset, rows: np.ndarray) -> int:
    """Warns of photos that the run was trained on and that are now taken for a test; returns their number."""
    known = splits_by_content(run)
    splits = [known.get(data.items[row].sha256) for row in rows]
    seen = sum(split == "train" != data.items[row].split for split, row in zip(splits, rows, strict=True))
    if seen:
        logger.warning("%d of the %d photos were trained on by '%s': the accuracy is too good to be true", seen, len(rows), run.path)
    return seen


def check_data(run: Run, data: Dataset) -> None:
    """Raises InputError for data with other labels, another image size or another geometry than the run's."""
    if list(data.labels) != run.labels:
        raise InputError(f"expected the labels of the run ({', '.join(run.labels)}), got {', '.join(data.labels)}")
    if list(data.input_shape) != run.record["input_shape"]:
        size, *_, channels = run.record["input_shape"]
        raise InputError(f"expected photos of shape {tuple(run.record['input_shape'])}, got {tuple(data.input_shape)}; "
                         f"load them with image_size={size}{'' if channels == data.input_shape[-1] else f', channels={channels}'}")
    if data.geometry != run.record["geometry"]:
        raise InputError(f"expected photos in the geometry of the run, '{run.record['geometry']}', got '{data.geometry}'; "
                         f"load them with geometry='{run.record['geometry']}'")


def make_report(scores: np.ndarray, targets: np.ndarray, labels: Sequence[str], split: str) -> Report:
    """The report of scores (n, labels) against integer targets (n,)."""
    from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support

    if not np.isfinite(scores).all():
        bad = int((~np.isfinite(scores)).any(axis=1).sum())
        raise WorkError(f"expected finite scores, got NaN or infinity for {bad} of {len(scores)} photos; the training diverged, give a lower learning rate")
    every = np.arange(len(labels))
    answers = scores.argmax(axis=1)
    precision, recall, f1, count = precision_recall_fscore_support(targets, answers, labels=every, zero_division=0)
    return Report(
        split=split, n=len(targets), accuracy=float(np.mean(answers == targets)),
        interval=wilson_interval(int(np.sum(answers == targets)), len(targets)),
        balanced_accuracy=float(recall[count > 0].mean()),
        log_loss=float(log_loss(targets, scores.astype(np.float64) / scores.sum(axis=1, keepdims=True, dtype=np.float64), labels=every)),
        labels=tuple(labels),
        per_label=tuple({"label": label, "n": int(count[i]), "precision": float(precision[i]), "recall": float(recall[i]), "f1": float(f1[i])}
                        for i, label in enumerate(labels)),
        confusion=tuple(tuple(int(v) for v in row) for row in confusion_matrix(targets, answers, labels=every)))


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """95 % interval of a proportion. Source: Wilson 1927, Journal of the American Statistical Association 22, p. 209."""
    if n == 0:
        return 0.0, 1.0
    share, z2 = successes / n, Z95**2
    centre, half = share + z2 / (2 * n), Z95 * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, float((centre - half) / (1 + z2 / n))), min(1.0, float((centre + half) / (1 + z2 / n)))


def predict(run: Run | str | Path, inputs: Sequence[str | Path] | np.ndarray) -> list[Prediction]:
    """Label and scores of each photo, with the geometry and orientation of the training.

    Args:
        run: a run or its folder.
        inputs: paths of photos, or an array (n, height, width, channels) of pixels 0-255 in the model's input shape.

    Raises:
        InputError: a file that cannot be decoded, files for a model of four channels, or an array of another shape.
    """
    run = run if isinstance(run, Run) else load_run(run)
    shape = tuple(run.record["input_shape"])
    check_geometry(None, run.record["geometry"])
    if isinstance(inputs, np.ndarray):
        if inputs.shape[1:] != shape:
            raise InputError(f"expected pixels of shape (n, {', '.join(map(str, shape))}), got {inputs.shape}")
        names, pixels = [f"array/{row}" for row in range(len(inputs))], inputs
    else:
        if isinstance(inputs, (str, Path)) or not len(inputs):
            raise InputError(f"expected a list of photos, got inputs={inputs!r}; write [path]")
        if shape[-1] == 4:
            raise InputError(f"expected pixels of four channels, which files of photos do not have, got '{inputs[0]}'; "
                             f"in Python, give predict an array of shape (n, {', '.join(map(str, shape))})")
        photos = np.stack([_read(path, shape[0], run.record["geometry"]) for path in inputs])
        names, pixels = [str(path) for path in inputs], in_channels(photos, shape[-1])
    scores = forward(run.load_model(), pixels)
    return [Prediction(name, run.labels[row.argmax()], float(row.max()), dict(zip(run.labels, map(float, row), strict=True)))
            for name, row in zip(names, scores, strict=True)]


def _read(path: str | Path, image_size: int, geometry: str) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a damaged EXIF block is worth a warning to Pillow; the pixels are whole
            return decode_photo(path, image_size, geometry).pixels
    except IsADirectoryError:
        raise InputError(f"expected a photo, but '{path}' is a folder; give the files in it") from None
    except FileNotFoundError:
        raise InputError(f"expected a photo, but there is no file '{path}'; check the path") from None
    except Exception as error:  # Pillow's decoders raise nearly anything on a broken file
        raise InputError(f"expected a photo in '{path}', but it cannot be decoded ({type(error).__name__}); leave it out") from error
