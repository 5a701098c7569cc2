"""`train`: the head on cached features, then the open stages; written to a run folder that can be resumed."""

import hashlib
import importlib.metadata
import json
import logging
import platform
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np

from tfcnn.data.dataset import Dataset, batches, examples_per_epoch, training_batches
from tfcnn.errors import InputError
from tfcnn.models.forward import forward
from tfcnn.models.freeze import opens_stages, set_trainable, stages_of
from tfcnn.progress import stage
from tfcnn.record import Run, prepare_output, read_history, remove, write_aside, write_record, write_rows, write_text
from tfcnn.training.checkpoint import restore_checkpoint, save_checkpoint
from tfcnn.training.checks import check_freeze
from tfcnn.training.config import TrainingConfig, check_training
from tfcnn.training.features import cached_features, feature_network, network_digest
from tfcnn.training.head import head_of, train_head
from tfcnn.training.optimizers import check_stages, make_optimizer, stage_rates

HISTORY = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds")  # then the rate of each stage

logger = logging.getLogger(__name__)


def train(model, data: Dataset, config: TrainingConfig | None = None, *, output: str | Path, overwrite: bool = False,
          resume: bool = False, seconds: dict[str, float] | None = None) -> Run:
    """Trains a classifier in two phases and writes it to a run folder.

    Phase 1 finds the head on cached backbone features, without augmentation. Phase 2 fine-tunes the stages that
    `config.trainable` opens together with the head, on augmented photos, and writes a checkpoint after each epoch. The
    result of phase 2 is kept unless phase 1 was better on the validation photos by more than one standard error.

    Args:
        model: from `build_classifier`; its weights are changed.
        data: from `load_images`, with the labels and the image size that the model was built for.
        config: how to train; the defaults if None.
        output: the run folder to write.
        overwrite: replace the run that `output` holds.
        resume: go on with the run that `output` holds; nothing to do if it is finished.
        seconds: times of earlier stages, which are recorded with those of the training.

    Returns:
        The run, with its model, history and validation accuracy recorded.

    Raises:
        InputError: model and data that do not fit together, a bad value in `config`, or an `output` that is taken.
    """
    config = config or TrainingConfig()
    check_training(config)
    _check_fit(model, data, config)
    path, record = Path(output), _record(model, data, config, seconds or {})
    existing = prepare_output(path, overwrite=overwrite, resume=resume)
    if existing is not None:
        _check_same(existing.record, record)
        if existing.record["status"] != "started":
            logger.info("the training of '%s' is finished already", path)
            return existing
        record["replaced"] = existing.record.get("replaced")
    elif (path / "run.json").exists():
        record["replaced"] = _set_aside(path)
    for leftover in path.rglob(".tmp-*"):  # of a process that was killed
        remove(leftover)
    write_record(path, record)

    import keras

    keras.utils.set_random_seed(config.seed)
    _seed_dropout(model, config.seed)
    head_scores = _train_head(model, data, config, record)
    head_weights = model.get_weights()
    history = _fine_tune(model, data, config, path, record["seconds"])
    scores = _keep_better(model, data, head_weights, head_scores) if history else head_scores
    record["kept"] = "head" if scores is head_scores else "fine-tuned"
    record["validation"] = _accuracy(scores, data)
    record["validation_of_head"] = _accuracy(head_scores, data)
    run = _write_run(path, model, data, record)
    remove(path / "checkpoint")
    if record.get("replaced"):
        remove(Path(record["replaced"]))
    return run


def _check_fit(model, data: Dataset, config: TrainingConfig) -> None:
    names = [layer.name for layer in model.layers]
    if not {"backbone", "pooling", "logits"} <= set(names) or not hasattr(model, "model_config"):
        raise InputError(f"expected a model from build_classifier, got one with the layers {', '.join(names[:5])}")
    if model.output_shape[-1] != len(data.labels):
        raise InputError(f"expected a model with {len(data.labels)} outputs for the labels {', '.join(data.labels)}, "
                         f"got {model.output_shape[-1]}; build it with labels=data.labels")
    if tuple(model.input_shape[1:]) != tuple(data.input_shape):
        raise InputError(f"expected photos of shape {model.input_shape[1:]} as the model's input, got {data.input_shape}; "
                         f"load them with image_size={model.input_shape[1]}")
    check_stages([name for name, _ in stages_of(model)], config)


def _record(model, data: Dataset, config: TrainingConfig, seconds: dict[str, float]) -> dict:
    found = Counter(item.label for item in data.items)
    counts = {label: found[label] for label in data.labels}
    digest = hashlib.sha256("\n".join(sorted(f"{i.sha256},{i.label},{i.split}" for i in data.items)).encode()).hexdigest()
    return {
        "status": "started",
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": {"python": platform.python_version(), **{p: importlib.metadata.version(p) for p in ("tfcnn", "tensorflow", "keras", "numpy")}},
        "labels": list(data.labels),
        "input_shape": list(data.input_shape),
        "geometry": data.geometry,
        "model": {**asdict(model.model_config), "digest": network_digest(feature_network(model)), "parameters": model.count_params(),
                  "stages": [name for name, _ in stages_of(model)]},
        "training": asdict(config),
        "data": {"source": data.source, "arguments": data.arguments, "digest": digest, "counts": counts,
                 "splits": {s: len(data.rows(s)) for s in ("train", "validation", "test")},
                 "leaks": data.leaks, "quarantined": [q._asdict() for q in data.quarantined]},
        "seconds": dict(seconds),
    }


def _check_same(old: dict, new: dict) -> None:
    """Raises InputError if a resumed run would go on with other data or arguments than it began with."""
    if old["data"]["digest"] != new["data"]["digest"]:
        raise InputError("expected the photos and split that the run began with, but they changed; train again with --overwrite")
    for part in ("training", "model"):
        for key, value in json.loads(json.dumps(new[part])).items():
            before = old[part].get(key)
            if key not in ("digest", "weights") and before != value:  # the digest tells whether the weights are the same
                raise InputError(f"expected the arguments that the run began with, but {key} was {before} and is {value}; "
                                 "give the same, or train again with --overwrite")
    if old["model"]["digest"] != new["model"]["digest"]:
        raise InputError("expected the backbone weights that the run began with, but the model has others; build it as it was, or train again with --overwrite")


def _set_aside(path: Path) -> str:
    """Renames the old run, which is deleted only when the new one is trained."""
    path = path.resolve()
    replaced = path.with_name(f"{path.name}.replaced-{time.strftime('%Y%m%d-%H%M%S')}")
    path.rename(replaced)
    logger.info("the run that was there is kept as '%s' until the new one is trained", replaced)
    return str(replaced)


def _seed_dropout(model, seed: int) -> None:
    """The random state of a Dropout layer is drawn when it is built, so the seed of a training has to be put into it."""
    import keras

    for number, layer in enumerate(model.layers):
        if isinstance(layer, keras.layers.Dropout) and layer.rate:
            layer.seed_generator.state.assign([seed, number])


def _train_head(model, data: Dataset, config: TrainingConfig, record: dict) -> np.ndarray:
    """Sets the weights of the head; returns the scores of the validation photos, which the features give for nothing."""
    train, validation = data.rows("train"), data.rows("validation")
    features = cached_features(model, data, np.concatenate([train, validation]), digest=record["model"]["digest"], seconds=record["seconds"])
    with stage("head on cached features", seconds=record["seconds"]):
        train_head(model, features[:len(train)], data.targets(train), config)
        return head_of(model)(features[len(train):], training=False).numpy()


def _fine_tune(model, data: Dataset, config: TrainingConfig, path: Path, seconds: dict) -> list[dict]:
    """Trains the open stages with the head; returns one dict an epoch (the fields of HISTORY), those before a resume too."""
    import keras
    import tensorflow as tf

    if config.epochs == 0 or not opens_stages(config.trainable):
        return []
    steps = -(-examples_per_epoch(data, config.balance) // config.batch_size)
    with model.distribute_strategy.scope():
        plan = set_trainable(model, config.trainable, batch_norm=config.batch_norm).with_rates(stage_rates([s for s, _ in stages_of(model)], config))
        optimizer, members = make_optimizer(model, config, steps * config.epochs)
        model.compile(optimizer, keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing), metrics=["accuracy"])
        first_epoch = restore_checkpoint(model, path / "checkpoint")
    logger.info("%s", plan)
    history = read_history(path / "history.csv")[:first_epoch]
    train_data = training_batches(data, batch_size=config.batch_size, augmentation=config.augmentation, mirror=config.mirror,
                                  balance=config.balance, seed=config.seed, first_epoch=first_epoch, epochs=config.epochs)
    validation = batches(data, "validation").map(lambda pixels, target: (pixels, tf.one_hot(target, len(data.labels))))
    epochs = config.epochs - first_epoch
    with stage(f"fine-tune, {epochs} epochs", steps * epochs, seconds) as advance:
        began = time.perf_counter()

        def end_epoch(epoch, logs):
            nonlocal began
            logs = {name: round(float(value), 5) for name, value in logs.items()}
            rates = {f"rate_{stage}": float(member.learning_rate) for stage, member in members.items()}  # of the step to come
            history.append({"epoch": epoch + 1, **logs, "seconds": round(time.perf_counter() - began, 2), **rates})
            names = [*HISTORY, *rates]
            write_rows(path / "history.csv", names, ([row[name] for name in names] for row in history))
            save_checkpoint(model, path / "checkpoint", epoch + 1)
            advance(0, f"validation accuracy {logs['val_accuracy']:.3f}")
            began = time.perf_counter()

        callback = keras.callbacks.LambdaCallback(on_train_batch_end=lambda step, logs: advance(), on_epoch_end=end_epoch)
        model.fit(train_data, validation_data=validation, steps_per_epoch=steps, initial_epoch=first_epoch,
                  epochs=config.epochs, callbacks=[check_freeze(model, plan), callback], shuffle=False, verbose=0)
    return history


def _keep_better(model, data: Dataset, head_weights: list, head_scores: np.ndarray) -> np.ndarray:
    """Goes back to the weights after phase 1 where they were better on validation by more than one standard error.

    Returns the validation scores of what is kept.

    The difference of two paired accuracies, in photos, has the standard error sqrt(b + c), where b and c count the photos
    that only one of the two got right (McNemar 1947).
    """
    targets = data.targets(data.rows("validation"))
    head_right = head_scores.argmax(axis=1) == targets
    fine_scores = forward(model, data.inputs, data.rows("validation"))
    fine_right = fine_scores.argmax(axis=1) == targets
    lost, gained = int((head_right & ~fine_right).sum()), int((fine_right & ~head_right).sum())
    if lost - gained > np.sqrt(lost + gained):
        model.set_weights(head_weights)
        logger.info("fine-tuning lost %d validation photos and gained %d: the frozen backbone is kept", lost, gained)
        return head_scores
    return fine_scores


def _accuracy(scores: np.ndarray, data: Dataset) -> dict:
    right = scores.argmax(axis=1) == data.targets(data.rows("validation"))
    return {"accuracy": float(right.mean()), "n": len(right)}


def _write_run(path: Path, model, data: Dataset, record: dict) -> Run:
    import keras

    write_text(path / "labels.txt", "\n".join(data.labels) + "\n")
    write_rows(path / "items.csv", data.items[0]._fields, data.items)
    with write_aside(path / "model.keras") as aside:  # a new model on the same layers leaves the optimizer behind
        keras.Model(model.inputs, model.outputs, name=model.name).save(aside)
    return write_record(path, {**{key: value for key, value in record.items() if key != "replaced"}, "status": "trained"})
