"""`train`: the head on cached features, then the open stages; written to a run folder that can be resumed."""

import logging
import secrets
import time
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfcnn.data.calibration import write_calibration
from tfcnn.data.dataset import Dataset
from tfcnn.data.scores import scores_of, write_scores
from tfcnn.data.text import vocabulary_text
from tfcnn.errors import InputError
from tfcnn.files import alone_in, remove, write_aside, write_rows, write_text
from tfcnn.kinds import IMAGE, differing, said_of
from tfcnn.models.forward import forward
from tfcnn.models.freeze import OWN, has_batch_norm, is_named, stages_of
from tfcnn.models.temperature import fit_temperature
from tfcnn.progress import stage
from tfcnn.record import VOCABULARY, Run, differences, labels_text, load_run, prepare_output, write_record
from tfcnn.training.checkpoint import Saving, check_saving
from tfcnn.training.config import CHOSEN_BY_MACHINE, Filled, TrainingConfig, check_augmentation, check_training
from tfcnn.training.course import fine_tunes, phases_of
from tfcnn.training.features import cached_features
from tfcnn.training.fine_tune import fine_tune
from tfcnn.training.head import head_of, seed_dropout, summary, train_head
from tfcnn.training.machine import MachineConfig
from tfcnn.training.optimizers import batch_factor, check_rates
from tfcnn.training.provenance import check_same_run, check_workers, record_of
from tfcnn.training.rule import complete
from tfcnn.training.strategy import check_no_scope
from tfcnn.training.twin import chosen_by_machine
from tfcnn.workers import check_same, on_chief, take_from_chief, together

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)


def train(model: "keras.Model", data: Dataset, config: TrainingConfig | None = None, *, output: str | Path, overwrite: bool = False,
          resume: bool = False, seconds: dict[str, float] | None = None, machine: MachineConfig | None = None) -> Run:
    """Trains a classifier in two phases and writes it to a run folder.

    Phase 1 finds the head on cached backbone features, without augmentation. Phase 2 fine-tunes the stages that
    `config.trainable` opens together with the head, on augmented photos, and writes a checkpoint after each epoch. The
    result of phase 2 is kept unless phase 1 was better on the validation photos by more than one standard error.

    Args:
        model: from `build_classifier`; its weights are changed.
        data: from `load_images`, with the labels and the image size that the model was built for.
        config: how to train; what it leaves open is filled in by `tfcnn.training.rule`, and the record holds the result.
        output: the run folder to write.
        overwrite: replace the run that `output` holds.
        resume: go on with the run that `output` holds; nothing to do if it is finished.
        seconds: times of earlier stages, which are recorded with those of the training.
        machine: when checkpoints are written besides those at the end of each epoch, whether logs for TensorBoard, and whether the same bits
            again on a GPU; the strategy is that of the model.

    Returns:
        The run, with its model, history and validation accuracy recorded.

    Raises:
        InputError: model and data that do not fit together, a bad value in `config`, or an `output` that is taken or that another
            process trains.
        WorkError: a loss that is no number, or a step that changed what was to stay as it is.
    """
    check_no_scope()
    machine, path = machine or MachineConfig(), Path(output)
    saving = Saving(machine.checkpoint_steps, machine.checkpoint_minutes, machine.tensorboard)
    check_saving(saving)
    stages_of(model)  # of build_classifier
    asked = config or TrainingConfig()
    check_training(asked)
    if machine.deterministic:
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    strategy = model.distribute_strategy
    with together(strategy):
        check_same(strategy, "the same arguments", {"resume": resume, "overwrite": overwrite}, "start all with the same command")
        asked = replace(asked, **on_chief(strategy, lambda: _chosen_before(path, asked) if resume else {}))
    filled = checked_config(model, data, asked)
    record = {**record_of(model, data, filled, seconds or {}), "machine": asdict(machine)}
    with together(strategy), ExitStack() as held:
        check_workers(strategy, record)
        existing = on_chief(strategy, lambda: _begin(path, record, held, overwrite=overwrite, resume=resume))
        if existing is not None:
            logger.info("the training of '%s' is finished already", path)
            return Run(path, existing)
        return _train(model, data, filled, path, record, saving)


def _train(model, data: Dataset, config: Filled, path: Path, record: dict, saving: Saving) -> Run:
    import keras

    strategy = model.distribute_strategy
    keras.utils.set_random_seed(config.seed)
    seed_dropout(model, config.seed)
    head_scores = _train_head(model, data, config, record) if config.head_first else None
    head_weights = model.get_weights()
    fine_tune(model, data, config, path, record["seconds"], saving=saving)
    if head_scores is None or fine_tunes(config):  # where there is no head to keep, `checked_config` saw to the fine-tuning
        scores, record["kept"], record["kept_because"] = _keep_better(model, data, head_weights, head_scores)
        logger.info("%s", record["kept_because"])
    else:
        scores, record["kept"], record["kept_because"] = head_scores, "head", "there was no fine-tuning"
    record["validation"] = _accuracy(scores, data)
    record["temperature"] = fit_temperature(scores, data.targets(data.rows("validation")))
    record["validation_of_head"] = None if head_scores is None else _accuracy(head_scores, data)
    return Run(path, on_chief(strategy, lambda: _end(path, model, data, record, scores)))


def _begin(path: Path, record: dict, held: ExitStack, *, overwrite: bool, resume: bool) -> dict | None:
    """Writes the record of a run that begins or goes on, and keeps other processes out of it as long as `held` is open; gives the
    record of a training that is finished already."""
    existing = prepare_output(path, overwrite=overwrite, resume=resume)
    if existing is not None:
        check_same_run(existing.record, record)
        if existing.record["status"] != "started":
            return _tidy(path, existing.record)  # after a training that was killed between its last steps
        _go_on(existing.record, record)
    elif (path / "run.json").exists():
        with alone_in(path):  # a run that is being trained is not renamed under the hands of its process
            record["replaced"] = [*_replaced_by(path), _set_aside(path)]
    elif resume:
        logger.info("there is no run in '%s' to go on with: this one begins", path)
    held.enter_context(alone_in(path))
    write_record(path, record)
    return None


def _go_on(old: dict, record: dict) -> None:
    """Makes the record of a resumed training that of the run, with what is not as it was when the run began."""
    changed = differences(old, record)
    if changed:
        logger.warning("the run began otherwise than it goes on, so its end may differ from that of an undisturbed one: %s", "; ".join(changed))
    now = {"at": record["created"], "changed": changed}
    record.update({name: old[name] for name in ("created", "versions", "code", "hardware", "replaced") if name in old})
    record["resumed"] = [*old.get("resumed", []), now]


def _chosen_before(path: Path, config: TrainingConfig) -> dict:
    """What the machine chose when the run began, where nothing else is asked for: a resume on another one goes on with it."""
    if not (path / "run.json").exists():
        return {}
    before = load_run(path).record["training"]
    return {name: before[name] for name in CHOSEN_BY_MACHINE if getattr(config, name) is None and name in before}


def _end(path: Path, model, data: Dataset, record: dict, scores: np.ndarray) -> dict:
    """Writes the trained run, with the scores of its validation photos, and removes what only its training needed."""
    write_scores(path, "validation", scores_of(data, data.rows("validation"), scores))
    return _tidy(path, _write_run(path, model, data, record).record)


def _tidy(path: Path, record: dict) -> dict:
    """Removes what is of no use when a run is trained: its checkpoints, and runs that it replaced."""
    remove(path / "checkpoint")
    for replaced in record.get("replaced", []):
        remove(Path(replaced))
    return write_record(path, {name: value for name, value in record.items() if name != "replaced"}).record if "replaced" in record else record


def checked_config(model, data: Dataset, config: TrainingConfig) -> Filled:
    """The configuration with what it leaves open filled in.

    Raises:
        InputError: a bad value, or model and data that do not fit together.
    """
    check_training(config)
    with said_of(getattr(data, "kind", IMAGE)):
        _check_fit(model, data)
    stages = [name for name, _ in stages_of(model)]
    check_rates(stages, config)
    named = is_named(model)  # of a backbone of one's own nothing is known: it is taken for a pretrained one with BatchNorm
    scratch = data.kind != IMAGE and not (named or _is_transferred(model, data))
    filled = complete(config, photos=len(data.rows("train")), stages=stages, batch_norm=not named or has_batch_norm(model),
                      pretrained=not named or model.model_config.weights != "none", kind=data.kind, scratch=scratch, own=model.model_config.weights == OWN,
                      whole="graph" in data.facts)
    check_augmentation(filled, data.kind)
    if not filled.head_first and not fine_tunes(filled):
        raise InputError("expected something to train, got head_first=False without epochs or open stages; leave head_first out, or open stages")
    filled = replace(filled, **chosen_by_machine(filled, model.distribute_strategy))
    if fine_tunes(filled):
        phases_of(filled, stages)
        _check_batch(filled, model.distribute_strategy)
    return filled


def _is_transferred(model, data: Dataset) -> bool:
    """True for a network, other than a backbone of photos, that begins with the weights of a run, all of them: of words some are always new."""
    return "vocabulary" not in data.facts and model.model_config.weights not in ("none", OWN) and Path(model.model_config.weights).is_dir()


def _check_batch(config: Filled, strategy) -> None:
    """Says what each replica gets of a batch, raises InputError where some would get nothing, or the rates are none any more."""
    replicas = strategy.num_replicas_in_sync
    if config.batch_size < replicas:
        raise InputError(f"expected at least one photo for each of the {replicas} replicas in a batch, got batch_size={config.batch_size}; "
                         f"the batch size is that of all together, give {replicas} or more")
    factor, highest = batch_factor(config), max(config.learning_rate, config.head_learning_rate, *(config.learning_rates or {}).values())
    if factor * highest >= 1:
        raise InputError(f"expected rates below 1 for a batch of {config.batch_size}, got {factor * highest:.3g}, scaled from rate_batch={config.rate_batch}; "
                         "give lower rates, or another batch size")
    most, least = -(-config.batch_size // replicas), config.batch_size // replicas
    scaled = f"rates are multiplied by {factor:.3g} (rate_batch={config.rate_batch})" if config.rate_batch else "rates are as given, not scaled"
    if replicas > 1 or config.rate_batch:
        logger.info("a batch of %d photos: %s on each of %d replicas; %s", config.batch_size, most if most == least else f"{least} or {most}", replicas, scaled)
    if replicas > 1 and config.batch_norm == "train":
        logger.info("BatchNorm layers that learn see the photos of their replica alone")


def _check_fit(model, data: Dataset) -> None:
    stages_of(model)  # of build_classifier
    if not isinstance(data, Dataset):
        raise InputError(f"expected data from load_images, got data={data!r}; write load_images({data!r}, image_size=...)")
    if model.output_shape[-1] != len(data.labels):
        raise InputError(f"expected a model with {len(data.labels)} outputs for the labels {', '.join(data.labels)}, "
                         f"got {model.output_shape[-1]}; build it with labels=data.labels")
    if tuple(model.labels) != tuple(data.labels):
        raise InputError(f"expected a model for the labels {', '.join(data.labels)} in this order, got one for {', '.join(model.labels)}; "
                         "build it with labels=data.labels")
    if tuple(model.input_shape[1:]) != tuple(data.input_shape):
        raise InputError(f"expected photos of shape {model.input_shape[1:]} as the model's input, got {data.input_shape}; "
                         f"load them with image_size={model.input_shape[1]}"
                         f"{'' if model.input_shape[-1] == data.input_shape[-1] else f', channels={model.input_shape[-1]}'}")
    if (other := differing(getattr(model, "facts", {}), data.facts)):
        raise InputError(f"expected photos of the same {other} that the model was built for, got others; build it with the shape and the facts of these data")
    for split in ("train", "validation"):
        if not len(data.rows(split)):
            raise InputError(f"expected {split} photos, got none; load the data with a split")
    missing = set(range(len(data.labels))) - set(data.targets(data.rows("train")).tolist())
    if missing:
        raise InputError(f"expected training photos of every label, got none of {', '.join(data.labels[target] for target in sorted(missing))}")


def _replaced_by(path: Path) -> list[str]:
    """Runs that one which was not completed was to replace."""
    try:
        return list(load_run(path).record.get("replaced", []))
    except InputError:  # a damaged record can be replaced too
        return []


def _set_aside(path: Path) -> str:
    """Renames the old run, which is deleted only when the new one is trained."""
    path = path.resolve()
    replaced = path.with_name(f"{path.name}.replaced-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}")
    path.rename(replaced)
    logger.info("the run that was there is kept as '%s' until the new one is trained", replaced)
    return str(replaced)


def _train_head(model, data: Dataset, config: Filled, record: dict) -> np.ndarray:
    """Sets the weights of the head; returns the scores of the validation photos, which the features give for nothing."""
    train, validation = data.rows("train"), data.rows("validation")
    features = cached_features(model, data, np.concatenate([train, validation]), digest=record["model"]["digest"], seconds=record["seconds"],
                               strategy=model.distribute_strategy)
    with stage("head on cached features", seconds=record["seconds"]):
        train_head(model, features[:len(train)], data.targets(train), config)
        take_from_chief(model.distribute_strategy, head_of(model).weights)  # where processors differ, so do last bits
        return head_of(model)(features[len(train):], training=False).numpy()


def _keep_better(model, data: Dataset, head_weights: list, head_scores: np.ndarray | None) -> tuple[np.ndarray, str, str]:
    """Goes back to the weights after phase 1 where they were better on validation by more than one standard error.

    The difference of two paired accuracies, in photos, has the standard error sqrt(b + c), where b and c count the photos
    that only one of the two got right (McNemar 1947). Where classes are of unequal size, a network that answers with the largest one alone may be hardly less
    accurate: the same is asked with classes counted alike.

    Returns:
        The validation scores of what is kept, "head" or "fine-tuned", and a sentence that says why.
    """
    targets = data.targets(data.rows("validation"))
    fine_scores = forward(model, data.inputs, data.rows("validation"), strategy=model.distribute_strategy)
    if head_scores is None:
        return fine_scores, "fine-tuned", "the whole network was trained from its first step"
    head_right = head_scores.argmax(axis=1) == targets
    fine_right = fine_scores.argmax(axis=1) == targets
    lost, gained = int((head_right & ~fine_right).sum()), int((fine_right & ~head_right).sum())
    error = np.sqrt(lost + gained)
    counts = f"of {len(targets)} validation photos fine-tuning gained {gained} and lost {lost} (one standard error of the difference: {error:.1f})"
    worse_of_classes = _is_worse_of_classes(fine_right.astype(int) - head_right, targets)
    if lost - gained > error or worse_of_classes:
        model.set_weights(head_weights)
        why = "" if lost - gained > error else ", and classes counted alike more than one"
        return head_scores, "head", f"{counts}{why}: the head on the frozen backbone is kept"
    return fine_scores, "fine-tuned", f"{counts}: the fine-tuned network is kept"


def _is_worse_of_classes(difference: np.ndarray, targets: np.ndarray) -> bool:
    """Whether differences of -1, 0 or 1 for each photo sum up to less than one standard error below 0, where all classes weigh alike."""
    weighted = difference / np.bincount(targets)[targets]
    return bool(-weighted.sum() > np.sqrt((weighted**2).sum()))


def _accuracy(scores: np.ndarray, data: Dataset) -> dict:
    return summary(scores, data.targets(data.rows("validation")))


def _write_run(path: Path, model, data: Dataset, record: dict) -> Run:
    import keras

    write_text(path / "labels.txt", labels_text(data.labels))
    if "vocabulary" in data.facts:
        write_text(path / VOCABULARY, vocabulary_text(data.facts["vocabulary"]))
    write_rows(path / "items.csv", data.items[0]._fields, data.items)
    alone = lambda tensors: tensors[0] if len(tensors) == 1 else tensors  # a list of one would make Keras warn of each array that the model is called with
    with write_aside(path / "model.keras") as aside:  # a new model on the same layers leaves the optimizer behind
        keras.Model(alone(model.inputs), alone(model.outputs), name=model.name).save(aside)
    calibration = write_calibration(path, data)
    return write_record(path, {**record, "calibration": calibration, "status": "trained"})
