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

from tfcnn.data.calibration import write_calibration
from tfcnn.data.dataset import Dataset
from tfcnn.errors import InputError
from tfcnn.models.forward import forward
from tfcnn.models.freeze import has_batch_norm, is_named, stages_of
from tfcnn.models.temperature import fit_temperature
from tfcnn.progress import stage
from tfcnn.record import Run, labels_text, prepare_output, remove, remove_leftovers, write_aside, write_record, write_rows, write_text
from tfcnn.training.config import TrainingConfig, check_training
from tfcnn.training.features import cached_features, feature_network, network_digest
from tfcnn.training.fine_tune import fine_tune, fine_tunes, phases_of
from tfcnn.training.head import head_of, seed_dropout, train_head
from tfcnn.training.optimizers import check_rates
from tfcnn.training.rule import complete
from tfcnn.training.twin import warn_of_mixed

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
        config: how to train; what it leaves open is filled in by `tfcnn.training.rule`, and the record holds the result.
        output: the run folder to write.
        overwrite: replace the run that `output` holds.
        resume: go on with the run that `output` holds; nothing to do if it is finished.
        seconds: times of earlier stages, which are recorded with those of the training.

    Returns:
        The run, with its model, history and validation accuracy recorded.

    Raises:
        InputError: model and data that do not fit together, a bad value in `config`, or an `output` that is taken.
        WorkError: a loss that is no number, or a step that changed what was to stay as it is.
    """
    config = checked_config(model, data, config or TrainingConfig())
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
    remove_leftovers(path)
    write_record(path, record)

    import keras

    keras.utils.set_random_seed(config.seed)
    seed_dropout(model, config.seed)
    head_scores = _train_head(model, data, config, record)
    head_weights = model.get_weights()
    fine_tune(model, data, config, path, record["seconds"])
    scores, record["kept"], record["kept_because"] = head_scores, "head", "there was no fine-tuning"
    if fine_tunes(config):
        scores, record["kept"], record["kept_because"] = _keep_better(model, data, head_weights, head_scores)
        logger.info("%s", record["kept_because"])
    record["validation"] = _accuracy(scores, data)
    record["temperature"] = fit_temperature(scores, data.targets(data.rows("validation")))
    record["validation_of_head"] = _accuracy(head_scores, data)
    run = _write_run(path, model, data, record)
    remove(path / "checkpoint")
    if record.get("replaced"):
        remove(Path(record["replaced"]))
    return run


def checked_config(model, data: Dataset, config: TrainingConfig) -> TrainingConfig:
    """The configuration with what it leaves open filled in.

    Raises:
        InputError: a bad value, or model and data that do not fit together.
    """
    if not isinstance(config, TrainingConfig):
        raise InputError(f"expected a TrainingConfig, got config={config!r}; write TrainingConfig(epochs=10)")
    check_training(config)
    _check_fit(model, data)
    stages = [name for name, _ in stages_of(model)]
    check_rates(stages, config)
    named = is_named(model)  # of a backbone of one's own nothing is known: it is taken for a pretrained one with BatchNorm
    config = complete(config, photos=len(data.rows("train")), stages=stages, batch_norm=not named or has_batch_norm(model),
                      pretrained=not named or model.model_config.weights != "none")
    if fine_tunes(config):
        phases_of(config, stages)
        if config.mixed_precision:
            warn_of_mixed(model.distribute_strategy)
    return config


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
    for split in ("train", "validation"):
        if not len(data.rows(split)):
            raise InputError(f"expected {split} photos, got none; load the data with a split")
    missing = set(range(len(data.labels))) - set(data.targets(data.rows("train")).tolist())
    if missing:
        raise InputError(f"expected training photos of every label, got none of {', '.join(data.labels[target] for target in sorted(missing))}")


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
            if key not in ("digest", "weights") and json.dumps(before) != json.dumps(value):  # the digest tells whether the weights are the same
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


def _train_head(model, data: Dataset, config: TrainingConfig, record: dict) -> np.ndarray:
    """Sets the weights of the head; returns the scores of the validation photos, which the features give for nothing."""
    train, validation = data.rows("train"), data.rows("validation")
    features = cached_features(model, data, np.concatenate([train, validation]), digest=record["model"]["digest"], seconds=record["seconds"])
    with stage("head on cached features", seconds=record["seconds"]):
        train_head(model, features[:len(train)], data.targets(train), config)
        return head_of(model)(features[len(train):], training=False).numpy()


def _keep_better(model, data: Dataset, head_weights: list, head_scores: np.ndarray) -> tuple[np.ndarray, str, str]:
    """Goes back to the weights after phase 1 where they were better on validation by more than one standard error.

    The difference of two paired accuracies, in photos, has the standard error sqrt(b + c), where b and c count the photos
    that only one of the two got right (McNemar 1947).

    Returns:
        The validation scores of what is kept, "head" or "fine-tuned", and a sentence that says why.
    """
    targets = data.targets(data.rows("validation"))
    head_right = head_scores.argmax(axis=1) == targets
    fine_scores = forward(model, data.inputs, data.rows("validation"))
    fine_right = fine_scores.argmax(axis=1) == targets
    lost, gained = int((head_right & ~fine_right).sum()), int((fine_right & ~head_right).sum())
    error = np.sqrt(lost + gained)
    counts = f"of {len(targets)} validation photos fine-tuning gained {gained} and lost {lost} (one standard error of the difference: {error:.1f})"
    if lost - gained > error:
        model.set_weights(head_weights)
        return head_scores, "head", f"{counts}: the head on the frozen backbone is kept"
    return fine_scores, "fine-tuned", f"{counts}: the fine-tuned network is kept"


def _accuracy(scores: np.ndarray, data: Dataset) -> dict:
    right = scores.argmax(axis=1) == data.targets(data.rows("validation"))
    return {"accuracy": float(right.mean()), "n": len(right)}


def _write_run(path: Path, model, data: Dataset, record: dict) -> Run:
    import keras

    write_text(path / "labels.txt", labels_text(data.labels))
    write_rows(path / "items.csv", data.items[0]._fields, data.items)
    with write_aside(path / "model.keras") as aside:  # a new model on the same layers leaves the optimizer behind
        keras.Model(model.inputs, model.outputs, name=model.name).save(aside)
    calibration = write_calibration(path, data)
    return write_record(path, {**{key: value for key, value in record.items() if key != "replaced"}, "calibration": calibration, "status": "trained"})
