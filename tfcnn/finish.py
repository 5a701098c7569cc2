"""The end of a run: its test, its files, its report; and what of that is done again later."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfcnn.data.grid import draw_grid
from tfcnn.data.run_data import load_run_data
from tfcnn.data.scores import read_scores, write_scores
from tfcnn.errors import InputError
from tfcnn.evaluation.evaluate import report_of, score
from tfcnn.evaluation.examples import write_examples
from tfcnn.evaluation.report import write_report
from tfcnn.export.gate import export
from tfcnn.files import write_aside
from tfcnn.kinds import IMAGE
from tfcnn.models.temperature import fit_temperature
from tfcnn.progress import stage
from tfcnn.record import Run, load_run, write_record
from tfcnn.training.config import TrainingConfig
from tfcnn.training.course import fine_tunes

DRAWN_CLASSES, DRAWN_COLUMNS = 4, 8  # rows and columns of the picture of augmented photos


def finish(run: Run, data, *, formats: Sequence[str], started: float) -> Run:
    """Evaluates a trained run on the test split, exports it, writes its report, and marks it finished.

    Args:
        run: from `train`.
        data: with the test split.
        formats: names of EXPORTERS.
        started: `time.perf_counter()` of when the work began.
    """
    seconds = dict(run.record["seconds"])
    with stage("evaluate", seconds=seconds):
        run = evaluate_and_keep(run, data)
    _draw_augmentation(run, data)
    if formats:
        export(run, data, formats=formats, seconds=seconds)
    seconds["total"] = round(time.perf_counter() - started, 2)
    record = {**load_run(run.path).record, "status": "finished", "seconds": seconds}
    write_report(Run(run.path, record))
    return write_record(run.path, record)  # last, so that a run that is called finished has everything


def evaluate_and_keep(run: Run, data) -> Run:
    """Evaluates a run on its test split and keeps what a report shows: numbers in run.json, scores of the photos, and some of the photos."""
    model = run.load_model()
    scored = score(run, data, "test", model=model)
    write_scores(run.path, "test", scored)
    write_examples(run, data, scored, model=model)
    return write_record(run.path, {**run.record, "test": report_of(run, scored, "test").to_dict()})


def make_report_again(run: Run, *, again: bool = False) -> Path:
    """Writes page and card of a run again; gives the path of the page.

    Args:
        run: an evaluated one.
        again: evaluates it anew, on its own photos, as those of earlier versions ask for, which kept fewer numbers.

    Raises:
        InputError: a run that was not evaluated, or whose photos are missing where they are needed.
    """
    if "test" not in run.record:
        raise InputError(f"expected an evaluated run, but the training of '{run.path}' was not completed with a test; finish it with --resume")
    if again:
        with stage("evaluate"):
            data = load_run_data(run)
            run = evaluate_and_keep(_with_validation_scores(run, data), data)
    return write_report(run)


def _with_validation_scores(run: Run, data) -> Run:
    """The run, with the scores of its validation photos and the temperature that runs of earlier versions did not keep."""
    if not len(data.rows("validation")) or (read_scores(run, "validation") is not None and run.record.get("temperature")):
        return run
    scored = score(run, data, "validation")
    write_scores(run.path, "validation", scored)
    return write_record(run.path, {**run.record, "temperature": run.record.get("temperature") or fit_temperature(scored.scores, scored.targets)})


def export_missing(run: Run, formats: Sequence[str]) -> Run:
    """Formats that a finished run was not yet asked for."""
    missing = [name for name in formats if name not in [e["format"] for e in run.record.get("exports", [])]]  # 'auto' is never there
    if missing:
        export(run, formats=missing)
    return load_run(run.path)


def _draw_augmentation(run: Run, data) -> None:
    """Saves what the augmentation of the run does to one training photo of each of the first classes; the report shows it."""
    training, rows = run.record["training"], data.rows("train")
    if run.kind != IMAGE or training["augmentation"] == "none" or not fine_tunes(TrainingConfig(**training)):
        return
    targets = data.targets(rows)
    chosen = [rows[np.argmax(targets == target)] for target in range(min(len(data.labels), DRAWN_CLASSES))]
    grid = draw_grid(data.inputs[np.array(chosen)], strength=training["augmentation"], mirror=training["mirror"], seed=training["seed"], columns=DRAWN_COLUMNS)
    with write_aside(run.path / "augmentation.jpg") as aside:
        grid.save(aside, quality=85)
