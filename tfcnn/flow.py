"""The whole flow in one function: photos → split → classifier → train → evaluate → export → run folder."""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

from tfcnn.data.arrange import Found, check_examples, check_split
from tfcnn.data.channels import check_shape
from tfcnn.data.config import DataConfig
from tfcnn.data.dataset import with_validation
from tfcnn.data.images import check_files, load_images
from tfcnn.data.photo import check_geometry
from tfcnn.data.scores import remove_scores
from tfcnn.data.sources import check_outside, open_source, sort_labels
from tfcnn.data.split import check_folds
from tfcnn.errors import InputError, closest
from tfcnn.export.formats import default_formats
from tfcnn.export.gate import check_formats
from tfcnn.files import alone_in, write_rows
from tfcnn.finish import export_missing, finish
from tfcnn.kinds import COMMON, IMAGE, KINDS, function_of, kind_of
from tfcnn.models.backbones import BACKBONES
from tfcnn.models.build import check_network
from tfcnn.models.classifier import BACKBONE, ModelConfig, Named, build_classifier, check_config, named, with_defaults
from tfcnn.progress import stage
from tfcnn.record import Run, changed_arguments, load_run, prepare_output, write_record
from tfcnn.training.config import Filled, TrainingConfig, check_augmentation, check_training
from tfcnn.training.course import fine_tunes, phases_of
from tfcnn.training.find_rate import RateRange, check_steps, find_learning_rate
from tfcnn.training.machine import MachineConfig, check_machine
from tfcnn.training.optimizers import check_rates
from tfcnn.training.provenance import check_arguments, check_code, digest_of
from tfcnn.training.strategy import make_strategy
from tfcnn.training.train import train
from tfcnn.workers import check_same, is_chief, on_chief, together

AS_PATHS = ("weights", "data_dir", "like")  # arguments that may be written otherwise and mean the same; `train` knows

logger = logging.getLogger(__name__)


class Target(NamedTuple):
    """The run folder to write, and what to do with a run that it holds."""

    path: str | Path
    overwrite: bool
    resume: bool


def train_and_export(source: Any, *, output: str | Path, model: ModelConfig | None = None, training: TrainingConfig | None = None,
                     data: DataConfig | None = None, formats: Sequence[str] | None = None,
                     machine: MachineConfig | None = None, overwrite: bool = False, resume: bool = False) -> Run:
    """From a folder of photos to a run folder with a trained, evaluated model and files that were checked.

    Args:
        source: whatever the loader of the kind of data takes, `load_images` where nothing else is said.
        output: the run folder to write.
        model: which classifier; the defaults if None.
        training: how to train it; the defaults if None. Its seed also draws the split.
        data: how the source is split and made square; the defaults if None.
        formats: names of `tfcnn.export.formats.EXPORTERS`; SavedModel and TFLite in float32 and float16 if None, as far as the network can be written so.
        machine: on what to train it; the defaults if None. Of several workers one evaluates, exports and writes.
        overwrite: replace the run that `output` holds.
        resume: go on with the run that `output` holds; nothing to do if it is finished.

    Returns:
        The finished run; `run.record` has the keys validation, test, exports and seconds. Workers that do not write get the run as it
        was trained.

    Raises:
        InputError: anything that cannot work, before the slow part begins.
        WorkError: a download, a conversion or a write that failed.
    """
    training, data, machine = training or TrainingConfig(), data or DataConfig(), machine or MachineConfig()
    formats = default_formats(data.is_whole_graph) if formats is None else formats
    model = check_all(source, output, model or ModelConfig(), training, data, formats, machine)
    opened = open_checked(source, model, data)
    machine, is_left_out = _alone_where_trained(machine, output, resume=resume)
    if is_left_out:
        logger.info("'%s' is trained already; worker 0 evaluates, exports and writes", output)
        return load_run(output)
    given, target = _given(model, training, data), Target(output, overwrite, resume)
    if not is_one_of_several(machine):  # several workers ask together when they have met
        existing = _look_at(target, given)
        if existing is not None and existing.record["status"] == "finished":
            _say_finished(existing, given, opened)
            return export_missing(existing, formats)

    seconds: dict[str, float] = {}
    start = time.perf_counter()
    classifier, photos = _build_and_load(opened, model, training, data, machine, seconds, target)
    run = train(classifier, photos, training, output=output, overwrite=overwrite, resume=resume, seconds=seconds, machine=machine)
    if not is_chief(classifier.distribute_strategy):
        logger.info("this worker is done; worker 0 evaluates, exports and writes")
        return run
    if run.record["status"] == "finished":
        _say_finished(run, given, opened)
        return export_missing(run, formats)
    return finish(run, photos, formats=formats, started=start)


def train_source(source: Any, *, output: str | Path, model: ModelConfig, training: TrainingConfig, data: DataConfig, machine: MachineConfig,
                 refit: bool = False) -> Run:
    """Trains as `train_and_export` does and leaves it there: nothing looks at the test split. Goes on with a run that `output` holds.

    Args:
        refit: trains on the validation photos too; the run has no validation accuracy then.

    For the others see `train_and_export`.
    """
    model = check_all(source, output, model, training, data, (), machine)
    seconds: dict[str, float] = {}
    classifier, photos = _build_and_load(open_checked(source, model, data), model, training, data, machine, seconds)
    run = train(classifier, with_validation(photos) if refit else photos, training, output=output, resume=True, seconds=seconds, machine=machine)
    return _without_validation(run, photos) if refit else run


def _without_validation(run: Run, photos) -> Run:
    """The run, whose validation photos are training photos."""
    items = [item._replace(split="train") if item.split == "validation" else item for item in photos.items]
    write_rows(run.path / "items.csv", items[0]._fields, items)
    remove_scores(run.path, "validation")
    splits = {split: sum(item.split == split for item in items) for split in ("train", "validation", "test")}
    nothing = dict.fromkeys(("validation", "validation_of_head", "temperature", "kept_because"))
    return write_record(run.path, {**run.record, **nothing, "data": {**run.record["data"], "splits": splits}})


def find_rate(source: Any, *, model: ModelConfig | None = None, training: TrainingConfig | None = None, data: DataConfig | None = None,
              machine: MachineConfig | None = None, steps: int = 100) -> RateRange:
    """A learning-rate range test on a source; see `tfcnn.training.find_rate.find_learning_rate`, and `train_and_export` for the arguments.

    Raises:
        InputError: anything that cannot work, before the slow part begins.
        WorkError: a download that failed, or a loss that is no number.
    """
    training, data, machine = training or TrainingConfig(), data or DataConfig(), machine or MachineConfig()
    check_steps(steps)
    model = check_all(source, None, model or ModelConfig(), training, data, (), machine)
    if is_one_of_several(machine):
        raise InputError("expected one process for a range test, got several workers; give --strategy one_device, or leave TF_CONFIG out")
    classifier, photos = _build_and_load(open_checked(source, model, data), model, training, data, machine, {})
    return find_learning_rate(classifier, photos, training, steps=steps)


def check_all(source, output, model: ModelConfig, training: TrainingConfig, data: DataConfig, formats, machine: MachineConfig) -> ModelConfig:
    """Raises InputError for an argument that cannot work; gives the model's with its defaults filled in."""
    model = named(model, data.kind)
    _check_model(model, data.kind)
    check_training(training)
    check_augmentation(training, data.kind)
    check_formats(formats, data.kind, model.backbone, whole=data.is_whole_graph)
    check_split(data.split, data.folds, data.fold or 0, data.like)
    if data.fold is not None:
        check_folds(data.folds, data.fold)
    check_machine(machine)
    if model.backbone in BACKBONES:
        stages = [name for name, _ in BACKBONES[model.backbone].stages]
        check_rates(stages, training)
        if training.epochs is not None and training.trainable is not None and fine_tunes(training):  # else `train` knows it when it knows the photos
            phases_of(cast(Filled, training), stages)
        model = with_defaults(model)
    if data.kind == IMAGE:
        check_geometry(model.image_size, data.geometry)
    _check_fields(data)
    if output is not None:
        check_outside(output, source)
    return model


def _build_and_load(opened, model: ModelConfig, training: TrainingConfig, data: DataConfig, machine: MachineConfig, seconds: dict[str, float],
                    target: Target | None = None):
    """(classifier, photos) of a source that was opened; receives the seconds of each stage.

    Workers compare first what they were told, and what the first of them thinks of the output folder: to build the network they have
    to be alike already.
    """
    with stage("load TensorFlow", seconds=seconds):
        import keras
        import tensorflow as tf

        if machine.deterministic:
            tf.config.experimental.enable_op_determinism()
        strategy = make_strategy(machine.strategy, devices=machine.devices)
    if is_one_of_several(machine):
        check_code(strategy)
        told = {**asdict(model), **asdict(training), **asdict(data), **asdict(machine), "weights": "", "devices": "",  # these may differ by machine
                **({"overwrite": target.overwrite, "resume": target.resume} if target else {})}
        check_same(strategy, "the same arguments", json.loads(json.dumps(told, default=str)), "start all with the same command")
        if data.kind == IMAGE:  # of others all are read already
            check_files(opened, strategy)
        if target:
            on_chief(strategy, lambda: _look_at(target, _given(model, training, data)) and None)

    if data.kind != IMAGE:
        row = kind_of(data.kind)
        with together(strategy):
            examples = function_of(row.load)(opened, seed=training.seed, **data.options())
            check_same(strategy, f"the same {row.many} in the same splits", digest_of(examples), "give all workers the same data")
            with stage("build the classifier", seconds=seconds), strategy.scope():
                keras.utils.set_random_seed(training.seed)
                return function_of(row.build)(model, examples.labels, examples.input_shape, examples.facts), examples

    def build(labels):
        with stage("build the classifier", seconds=seconds), strategy.scope():
            keras.utils.set_random_seed(training.seed)
            return build_classifier(labels=labels, **asdict(model))

    # Where the labels are known, before the photos are decoded, since weights may be missing or of another network.
    with together(strategy):
        classifier = build(sort_labels(e.label for e in opened.examples)) if opened.examples else None
        photos = load_images(opened, image_size=model.image_size, channels=model.channels, seed=training.seed, seconds=seconds,
                             strategy=strategy, **data.options())
        return classifier or build(photos.labels), photos


def is_one_of_several(machine: MachineConfig) -> bool:
    """True for a process that trains together with others."""
    task = check_machine(machine)
    return task is not None and task.count > 1


def _alone_where_trained(machine: MachineConfig, output, *, resume: bool) -> tuple[MachineConfig, bool]:
    """What to go on with, and whether this worker has nothing to do: of a run that is trained, worker 0 does the rest without the others.

    They may be gone for good, where a scheduler starts only the one again that failed.
    """
    task = check_machine(machine)
    if task is None or task.count == 1 or not resume or not (Path(output) / "run.json").exists() or load_run(output).record["status"] == "started":
        return machine, False
    return replace(machine, strategy="one_device"), task.index > 0


def open_checked(source, model: ModelConfig, data: DataConfig):
    """The source, as far as it is known to fit before it is read; of another kind than photos what it holds, a `Found`."""
    row = kind_of(data.kind)
    if data.kind != IMAGE:
        if isinstance(source, (str, Path)) and not Path(source).exists():
            raise InputError(f"expected {row.many} in '{source}', but there is nothing; check the path")
        with stage(f"read {row.many}"):
            found = function_of(row.look)(source, **{name: getattr(data, name) for name in row.reading})
        if data.split is not None:
            check_examples(found.source, data.folds)
        return found
    opened = open_source(source, group_by=data.group_by, data_dir=data.data_dir, channels=model.channels)
    check_shape(opened, model.image_size, model.channels)
    check_examples(opened, data.folds)
    return opened


def _given(model: ModelConfig, training: TrainingConfig, data: DataConfig) -> dict:
    """The arguments that were given, by the names that run.json has for them; what is left to the rule is left out."""
    asked = {name: value for name, value in asdict(training).items() if value is not None}
    return {**asked, **asdict(data), **asdict(model), "fold": data.fold or 0}


def _check_model(model: Named, kind: str) -> None:
    """Raises InputError for a network or its arguments that this kind of data cannot have."""
    row = kind_of(kind)
    if not isinstance(model.backbone, str):
        check_config(model)  # what is no network either is said first
        raise InputError("expected the name of a backbone, got a keras.Model; give it to build_classifier, then train, evaluate and export")
    if model.frames and (not row.takes_frames or model.backbone not in BACKBONES):
        raise InputError(f"expected no frames for {row.many} with {model.backbone}, got frames={model.frames}; they say how a network of two "
                         f"dimensions, such as {BACKBONE}, takes the slices of a volume or the frames of a video")
    if kind == IMAGE or (model.backbone in BACKBONES and row.takes_backbones):
        check_config(model)
        if kind != IMAGE and model.channels != ModelConfig.channels:
            raise InputError(f"expected no channels for {row.many}, got channels={model.channels}; a backbone of photos gets grey pixels of them")
    elif model.backbone not in row.networks:
        others = [*row.networks, *(BACKBONES if row.takes_backbones else ())]
        raise InputError(f"expected a network for {row.many}, got '{model.backbone}'; {closest(model.backbone, others)}")
    else:
        check_config(replace(model, backbone=BACKBONE, weights="none"))
        check_network(model, kind)


def _check_fields(data: DataConfig) -> None:
    """Raises InputError for a field that says something of another kind of data."""
    own = {"kind", *COMMON, *KINDS[data.kind].options}
    other = next((field for field in fields(data) if field.name not in own and getattr(data, field.name) != field.default), None)
    if other:
        advice = "a column named group says what stays together" if other.name == "group_by" else "leave it out"
        raise InputError(f"expected no {other.name} for {data.kind} data, got {other.name}={getattr(data, other.name)}; {advice}")


def _look_at(target: Target, given: dict) -> Run | None:
    """The run that is to be resumed, if there is one; raises InputError, before any slow work, where it cannot be with these arguments."""
    existing = prepare_output(target.path, overwrite=target.overwrite, resume=target.resume)
    if (Path(target.path) / "run.json").exists() and (existing is None or existing.record["status"] == "started"):
        with alone_in(Path(target.path)):  # `train` asks again, when it begins to write
            pass
    if existing is not None and existing.record["status"] != "finished":  # where nothing is left to train other arguments do no harm
        check_arguments(existing.record, {name: value for name, value in given.items() if name not in AS_PATHS})
    return existing


def _say_finished(run: Run, given: dict, opened) -> None:
    """Says that nothing is trained, and which arguments had no effect for that."""
    source = opened.source.name if isinstance(opened, Found) else opened.name
    before = run.record["data"]["source"]
    others = {"source": (before, source)} if source and before and source != before else {}
    ignored = [f"{name} (was {old}, is {new})" for name, (old, new) in {**others, **changed_arguments(run.record, given)}.items()]
    logger.warning("'%s' is finished already: nothing is trained%s; give --overwrite to train anew", run.path,
                   f", these arguments are ignored: {', '.join(ignored)}" if ignored else "")
