"""`export`: writes files for servers and phones, and runs each on the whole test split before it is called done."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tfcnn.data.dataset import Dataset
from tfcnn.data.images import load_run_data
from tfcnn.errors import InputError, WorkError, closest, first_line
from tfcnn.evaluation.evaluate import check_data
from tfcnn.evaluation.report import write_report
from tfcnn.export.formats import DEFAULT_FORMATS, EXPORTERS
from tfcnn.models.forward import forward
from tfcnn.progress import stage
from tfcnn.record import Run, load_run, name_aside, publish, remove, write_record

MAX_ACCURACY_DROP = 0.02
MIN_AGREEMENT = 0.99  # of a float file: it holds the same numbers, so a different answer is a tie or an error
CALIBRATION_PHOTOS = 200  # TensorFlow's guide asks for 100 to 500

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Export:
    """One exported file and how it did on the test split.

    Attributes:
        format: a name of `EXPORTERS`.
        path: the file, relative to the run folder; below `exports/rejected/` if it was not accepted.
        bytes: its size, of all files for a folder.
        n: number of test photos.
        accuracy: of the file in its own runtime.
        agreement: share of photos with the same answer as Keras.
        max_score_difference: largest difference of any score from Keras; None if the file gave no finite scores.
        milliseconds: median time a photo, one photo at a time on one thread of this host.
        accepted: whether it may be shipped.
        reason: why not, or empty.
    """

    format: str
    path: str
    bytes: int
    n: int
    accuracy: float
    agreement: float
    max_score_difference: float | None
    milliseconds: float
    accepted: bool
    reason: str


def export(run: Run | str | Path, data: Dataset | None = None, *, formats: Sequence[str] = DEFAULT_FORMATS,
           max_accuracy_drop: float = MAX_ACCURACY_DROP, seconds: dict[str, float] | None = None) -> list[Export]:
    """Writes a run's model in some formats, runs each file on the test split, and rejects what got worse.

    A file is rejected if its accuracy is more than `max_accuracy_drop` below Keras's, or if it is a float file whose
    answers agree with Keras on less than 99 % of the photos. A rejected file is kept below `exports/rejected/`.

    Args:
        run: a run or its folder.
        data: with the test split, and training photos for int8; the run's own photos if None.
        formats: names of `EXPORTERS`.
        max_accuracy_drop: from 0 to 1.
        seconds: receives the time of each stage.

    Returns:
        One `Export` a format, also stored in run.json.

    Raises:
        InputError: an unknown format, or a run without test photos.
        WorkError: a format that cannot be written or run.
    """
    run = run if isinstance(run, Run) else load_run(run)
    check_formats(formats)
    if not 0 <= max_accuracy_drop <= 1:
        raise InputError(f"expected the accuracy drop that is allowed from 0 to 1, got max_accuracy_drop={max_accuracy_drop}")
    formats = list(dict.fromkeys(formats))
    data = data or load_run_data(run)
    check_data(run, data)
    rows = data.rows("test")
    if not len(rows):
        raise InputError("expected test photos to check the files with, found none")
    model = run.load_model()
    photos, targets = data.photos(rows), data.targets(rows)
    keras_scores = forward(model, photos)
    calibration = _calibration(data) if any(EXPORTERS[name].calibrated for name in formats) else None
    exports = []
    for name in formats:
        with stage(f"export and check {name}", seconds=seconds):
            exports.append(_export_one(run, model, name, photos, targets, keras_scores, calibration, max_accuracy_drop))
        record = load_run(run.path).record  # written after each file, so that a failing format does not hide those before it
        rows = {**{row["format"]: row for row in record.get("exports", [])}, name: asdict(exports[-1])}
        run = write_record(run.path, {**record, "exports": list(rows.values())})
    if run.record["status"] == "finished":
        write_report(run)  # page and card list the files
    return exports


def check_formats(formats: Sequence[str]) -> None:
    """Raises InputError for a format that is not in `EXPORTERS`."""
    if isinstance(formats, str):
        raise InputError(f"expected a list of formats, got the text '{formats}'; write formats=['{formats}']")
    for name in formats:
        if name not in EXPORTERS:
            raise InputError(f"expected an export format, got '{name}'; {closest(name, EXPORTERS)}")


def _export_one(run, model, name, photos, targets, keras_scores, calibration, max_accuracy_drop) -> Export:
    exporter = EXPORTERS[name]
    good = run.path / "exports" / exporter.file
    bad = run.path / "exports" / "rejected" / exporter.file
    with name_aside(good) as aside:  # the file gets its name after the check: whatever lies in exports/ was verified
        try:
            exporter.write(model, aside, run.labels, calibration)
            scores, milliseconds = exporter.run(aside, photos)
        except (InputError, WorkError, OSError):
            raise
        except Exception as error:  # converters and runtimes raise errors of their own, many of them bare
            raise WorkError(f"expected to write and run {name}, but it failed ({type(error).__name__}): {first_line(error)}") from error
        verdict = _compare(scores, keras_scores, targets, exact=exporter.exact, max_accuracy_drop=max_accuracy_drop)
        path, other = (good, bad) if verdict["accepted"] else (bad, good)
        publish(aside, path)
        remove(other)  # of an earlier export, whose verdict no longer holds
    if verdict["reason"]:
        logger.warning("%s is rejected: %s", name, verdict["reason"])
    files = [f for f in path.rglob("*") if f.is_file()] if path.is_dir() else [path]
    return Export(format=name, path=str(path.relative_to(run.path)), bytes=sum(f.stat().st_size for f in files), n=len(targets),
                  milliseconds=round(milliseconds, 3), **verdict)


def _compare(scores, keras_scores, targets, *, exact: bool, max_accuracy_drop: float) -> dict:
    """Accuracy, agreement and score difference of a file against Keras, and the verdict."""
    if scores.shape != keras_scores.shape or not np.isfinite(scores).all():
        return {"accuracy": 0.0, "agreement": 0.0, "max_score_difference": None, "accepted": False,
                "reason": f"its scores have shape {scores.shape} or are not finite"}
    keras_answers, answers = keras_scores.argmax(axis=1), scores.argmax(axis=1)
    accuracy, before = float(np.mean(answers == targets)), float(np.mean(keras_answers == targets))
    agreement = float(np.mean(answers == keras_answers))
    reason = ""
    if before - accuracy > max_accuracy_drop + 1e-9:
        reason = f"accuracy {accuracy:.3f} is {before - accuracy:.3f} below Keras ({before:.3f}); allowed is {max_accuracy_drop:g}"
    elif exact and agreement < MIN_AGREEMENT:
        reason = f"agrees with Keras on {agreement:.3f} of the photos; a float file must reach {MIN_AGREEMENT}"
    return {"accuracy": accuracy, "agreement": agreement, "max_score_difference": float(np.abs(scores - keras_scores).max()),
            "accepted": not reason, "reason": reason}


def _calibration(data: Dataset) -> np.ndarray:
    """Training photos, the labels in turn, so that each has its share; at most CALIBRATION_PHOTOS."""
    rows = data.rows("train")
    targets = data.targets(rows)
    turn = np.empty(len(rows), np.int64)
    for target in np.unique(targets):
        turn[targets == target] = np.arange(np.sum(targets == target))
    return data.inputs[rows[np.argsort(turn, kind="stable")][:CALIBRATION_PHOTOS]]

