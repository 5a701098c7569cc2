"""The whole flow in one function: photos → split → classifier → train → evaluate → export → run folder."""

import json
import logging
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from tfcnn.data.config import DataConfig
from tfcnn.data.grid import draw_grid
from tfcnn.data.images import check_examples, check_like, load_images
from tfcnn.data.photo import check_geometry
from tfcnn.data.sources import check_outside, open_source, sort_labels
from tfcnn.data.split import check_folds, check_fractions
from tfcnn.errors import InputError
from tfcnn.evaluation.evaluate import evaluate, wilson_interval
from tfcnn.evaluation.report import write_report
from tfcnn.export.formats import DEFAULT_FORMATS
from tfcnn.export.gate import check_formats, export
from tfcnn.models.backbones import BACKBONES
from tfcnn.models.classifier import ModelConfig, build_classifier, check_config
from tfcnn.models.freeze import opens_stages
from tfcnn.progress import stage
from tfcnn.record import Run, load_run, prepare_output, write_aside, write_record, write_text
from tfcnn.training.config import TrainingConfig, check_training
from tfcnn.training.optimizers import check_stages
from tfcnn.training.strategy import check_strategy, make_strategy
from tfcnn.training.train import train

DRAWN_CLASSES, DRAWN_COLUMNS = 4, 8  # rows and columns of the picture of augmented photos

logger = logging.getLogger(__name__)


def train_and_export(source: Any, *, output: str | Path, model: ModelConfig | None = None, training: TrainingConfig | None = None,
                     data: DataConfig | None = None, formats: Sequence[str] = DEFAULT_FORMATS,
                     strategy: str = "auto", overwrite: bool = False, resume: bool = False) -> Run:
    """From a folder of photos to a run folder with a trained, evaluated model and files that were checked.

    Args:
        source: whatever `load_images` takes.
        output: the run folder to write.
        model: which classifier; the defaults if None.
        training: how to train it; the defaults if None. Its seed also draws the split.
        data: how the source is split and made square; the defaults if None.
        formats: names of `tfcnn.export.formats.EXPORTERS`.
        strategy: a name that `make_strategy` takes.
        overwrite: replace the run that `output` holds.
        resume: go on with the run that `output` holds; nothing to do if it is finished.

    Returns:
        The finished run; `run.record` has the keys validation, test, exports and seconds.

    Raises:
        InputError: anything that cannot work, before the slow part begins.
        WorkError: a download, a conversion or a write that failed.
    """
    model, training, data = model or ModelConfig(), training or TrainingConfig(), data or DataConfig()
    size = _check(source, output, model, training, data, formats, strategy)
    opened = open_source(source, group_by=data.group_by, data_dir=data.data_dir)
    check_examples(opened, data.folds)
    existing = prepare_output(output, overwrite=overwrite, resume=resume)
    if existing is not None and existing.record["status"] == "finished":
        _say_finished(existing, model, training, data)
        return _export_missing(existing, formats)

    seconds: dict[str, float] = {}
    start = time.perf_counter()
    with stage("load TensorFlow", seconds=seconds):
        import keras

        devices = make_strategy(strategy)

    def build(labels):
        with stage("build the classifier", seconds=seconds), devices.scope():
            keras.utils.set_random_seed(training.seed)
            return build_classifier(model.backbone, labels=labels, weights=model.weights, image_size=size, pooling=model.pooling,
                                    hidden=model.hidden, dropout=model.dropout)

    # Where the labels are known, before the photos are decoded, since weights may be missing or of another network.
    classifier = build(sort_labels(e.label for e in opened.examples)) if opened.examples else None
    photos = load_images(opened, image_size=size, seed=training.seed, seconds=seconds, **{**asdict(data), "fold": data.fold or 0})
    run = train(classifier or build(photos.labels), photos, training, output=output, overwrite=overwrite, resume=existing is not None, seconds=seconds)
    return finish(run, photos, formats=formats, started=start)


def cross_validate(source: Any, *, output: str | Path, model: ModelConfig | None = None, training: TrainingConfig | None = None,
                   data: DataConfig, formats: Sequence[str] = (), strategy: str = "auto", overwrite: bool = False, resume: bool = False) -> dict:
    """Trains once a fold, so that every photo is tested once by a model that did not see it.

    Args:
        output: folder of the run folders `fold-0`, `fold-1` and so on; `folds.json` is written beside them.
        data: with `folds`.
        formats: of each fold; usually none.

    For the others see `train_and_export`.

    Returns:
        `accuracies` by fold, their `mean` and `sd`, `n` photos in all, `accuracy` over all of them with its 95 % `interval`,
        and the `runs`.
    """
    check_folds(data.folds)
    _check(source, output, model or ModelConfig(), training or TrainingConfig(), data, formats, strategy)
    check_examples(open_source(source, group_by=data.group_by, data_dir=data.data_dir), data.folds)
    if (Path(output) / "run.json").exists():
        raise InputError(f"expected a folder for the folds, but '{output}' holds a run; give another --output")
    runs = []
    for fold in range(data.folds):
        logger.info("fold %d of %d", fold, data.folds)
        runs.append(train_and_export(source, output=Path(output) / f"fold-{fold}", model=model, training=training, data=replace(data, fold=fold),
                                     formats=formats, strategy=strategy, overwrite=overwrite, resume=resume))
    tests = [run.record["test"] for run in runs]
    accuracies, n = [test["accuracy"] for test in tests], sum(test["n"] for test in tests)
    right = sum(round(test["accuracy"] * test["n"]) for test in tests)
    result = {"folds": data.folds, "accuracies": accuracies, "mean": statistics.mean(accuracies), "sd": statistics.stdev(accuracies), "n": n,
              "accuracy": right / n, "interval": list(wilson_interval(right, n)), "runs": [str(run.path) for run in runs]}
    write_text(Path(output) / "folds.json", json.dumps(result, indent=2) + "\n")
    return result


def _check(source, output, model: ModelConfig, training: TrainingConfig, data: DataConfig, formats, strategy: str) -> int:
    """Raises InputError for an argument that cannot work; gives the image size."""
    check_config(model)
    if not isinstance(model.backbone, str):
        raise InputError("expected the name of a backbone, got a keras.Model; give it to build_classifier, then train, evaluate and export")
    check_training(training)
    check_formats(formats)
    check_fractions(data.split)
    if data.folds is not None or data.fold is not None:
        check_folds(data.folds, data.fold or 0)
    check_like(data.like, data.folds)
    check_strategy(strategy)
    check_stages([name for name, _ in BACKBONES[model.backbone].stages], training)
    size = model.image_size or BACKBONES[model.backbone].image_size
    check_geometry(size, data.geometry)
    check_outside(output, source)
    return size


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
        test = evaluate(run, data, split="test").to_dict()
    run = write_record(run.path, {**run.record, "test": test})
    _draw_augmentation(run, data)
    if formats:
        export(run, data, formats=formats, seconds=seconds)
    seconds["total"] = round(time.perf_counter() - started, 2)
    record = {**load_run(run.path).record, "status": "finished", "seconds": seconds}
    write_report(Run(run.path, record))
    return write_record(run.path, record)  # last, so that a run that is called finished has everything


def _draw_augmentation(run: Run, data) -> None:
    """Saves what the augmentation of the run does to one training photo of each of the first classes; the report shows it."""
    training, rows = run.record["training"], data.rows("train")
    if training["augmentation"] == "none" or not opens_stages(training["trainable"]) or training["epochs"] == 0:
        return
    targets = data.targets(rows)
    chosen = [rows[np.argmax(targets == target)] for target in range(min(len(data.labels), DRAWN_CLASSES))]
    grid = draw_grid(data.inputs[np.array(chosen)], strength=training["augmentation"], mirror=training["mirror"], seed=training["seed"], columns=DRAWN_COLUMNS)
    with write_aside(run.path / "augmentation.jpg") as aside:
        grid.save(aside, quality=85)


def _say_finished(run: Run, model: ModelConfig, training: TrainingConfig, data: DataConfig) -> None:
    """Says that nothing is trained, and which arguments had no effect for that."""
    given = {**asdict(training), **asdict(data), "fold": data.fold or 0, "split": list(data.split),
             "backbone": model.backbone, "pooling": model.pooling, "hidden": list(model.hidden), "dropout": model.dropout}
    before = {**run.record["data"]["arguments"], **run.record["model"], **run.record["training"]}
    ignored = [f"{name} (was {before[name]}, is {value})" for name, value in given.items() if name in before and before[name] != value]
    logger.warning("'%s' is finished already: nothing is trained%s; give --overwrite to train anew", run.path,
                   f", these arguments are ignored: {', '.join(ignored)}" if ignored else "")


def _export_missing(run: Run, formats: Sequence[str]) -> Run:
    """Formats that a finished run was not yet asked for."""
    missing = [name for name in formats if name not in [e["format"] for e in run.record.get("exports", [])]]
    if missing:
        export(run, formats=missing)
    return load_run(run.path)
