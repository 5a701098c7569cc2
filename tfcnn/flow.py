"""The whole flow in one function: photos → split → classifier → train → evaluate → export → run folder."""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tfcnn.data.images import load_images
from tfcnn.data.sources import list_class_folders, sort_labels
from tfcnn.data.split import check_count, check_fractions
from tfcnn.errors import InputError
from tfcnn.evaluation.evaluate import evaluate
from tfcnn.evaluation.report import write_report
from tfcnn.export.formats import DEFAULT_FORMATS
from tfcnn.export.gate import check_formats, export
from tfcnn.models.backbones import BACKBONES
from tfcnn.models.classifier import ModelConfig, build_classifier, check_config, check_trainable
from tfcnn.progress import stage
from tfcnn.record import Run, load_run, prepare_output, write_record
from tfcnn.training.config import TrainingConfig, check_training
from tfcnn.training.strategy import check_strategy, make_strategy
from tfcnn.training.train import train

logger = logging.getLogger(__name__)


def train_and_export(source: str | Path, *, output: str | Path, model: ModelConfig | None = None, training: TrainingConfig | None = None,
                     split: tuple[float, float, float] = (0.7, 0.1, 0.2), formats: Sequence[str] = DEFAULT_FORMATS,
                     strategy: str = "auto", overwrite: bool = False, resume: bool = False) -> Run:
    """From a folder of photos to a run folder with a trained, evaluated model and files that were checked.

    Args:
        source: a folder with one folder a class.
        output: the run folder to write.
        model: which classifier; the defaults if None.
        training: how to train it; the defaults if None. Its seed also draws the split.
        split: fractions of train, validation and test.
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
    model, training = model or ModelConfig(), training or TrainingConfig()
    check_config(model)
    if not isinstance(model.backbone, str):
        raise InputError("expected the name of a backbone, got a keras.Model; give it to build_classifier, then train, evaluate and export")
    check_training(training)
    check_formats(formats)
    check_fractions(split)
    check_strategy(strategy)
    check_trainable([name for name, _ in BACKBONES[model.backbone].stages], training.trainable)
    if Path(output).resolve().is_relative_to(Path(source).resolve()):
        raise InputError(f"expected an output folder outside of the photos, got '{output}' in '{source}'; give another --output")
    examples = list_class_folders(source)
    for label, count in Counter(example.label for example in examples).items():
        check_count(label, count)
    existing = prepare_output(output, overwrite=overwrite, resume=resume)
    if existing is not None and existing.record["status"] == "finished":
        _say_finished(existing, model, training)
        return _export_missing(existing, formats)

    seconds: dict[str, float] = {}
    start = time.perf_counter()
    with stage("load TensorFlow", seconds=seconds):
        import keras

        devices = make_strategy(strategy)
    size = model.image_size or BACKBONES[model.backbone].image_size
    # Before the photos are decoded, since weights may be missing or of another network.
    with stage("build the classifier", seconds=seconds), devices.scope():
        keras.utils.set_random_seed(training.seed)
        classifier = build_classifier(model.backbone, labels=sort_labels(e.label for e in examples), weights=model.weights, image_size=size,
                                      pooling=model.pooling, hidden=model.hidden, dropout=model.dropout)
    data = load_images(source, image_size=size, split=split, seed=training.seed, seconds=seconds)
    run = train(classifier, data, training, output=output, overwrite=overwrite, resume=existing is not None, seconds=seconds)
    return finish(run, data, formats=formats, started=start)


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
    if formats:
        export(run, data, formats=formats, seconds=seconds)
    seconds["total"] = round(time.perf_counter() - started, 2)
    record = {**load_run(run.path).record, "status": "finished", "seconds": seconds}
    write_report(Run(run.path, record))
    return write_record(run.path, record)  # last, so that a run that is called finished has everything


def _say_finished(run: Run, model: ModelConfig, training: TrainingConfig) -> None:
    """Says that nothing is trained, and which arguments had no effect for that."""
    given = {**asdict(training), "backbone": model.backbone, "pooling": model.pooling, "hidden": list(model.hidden), "dropout": model.dropout}
    before = {**run.record["model"], **run.record["training"]}
    ignored = [f"{name} (was {before[name]}, is {value})" for name, value in given.items() if name in before and before[name] != value]
    logger.warning("'%s' is finished already: nothing is trained%s; give --overwrite to train anew", run.path,
                   f", these arguments are ignored: {', '.join(ignored)}" if ignored else "")


def _export_missing(run: Run, formats: Sequence[str]) -> Run:
    """Formats that a finished run was not yet asked for."""
    missing = [name for name in formats if name not in [e["format"] for e in run.record.get("exports", [])]]
    if missing:
        export(run, formats=missing)
    return load_run(run.path)
