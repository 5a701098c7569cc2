"""Trials of the first level: heads on cached features."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from tfcnn.data.images import load_images
from tfcnn.locks import Lock
from tfcnn.models.classifier import Filled, ModelConfig, build_classifier, build_head
from tfcnn.models.forward import BATCH, forward, traced
from tfcnn.models.freeze import every_layer, stages_of
from tfcnn.search.job import Job, searches_fine
from tfcnn.search.space import values_of
from tfcnn.training.config import TrainingConfig
from tfcnn.training.features import cached_features
from tfcnn.training.head import seed_dropout, summary, train_head
from tfcnn.training.rule import complete

logger = logging.getLogger(__name__)


class Table(NamedTuple):
    """Features of a network and the targets of their photos, in training and validation; `seconds`: of one photo's forward pass; `before`: how many
    more layers the classifier has before its head than a head alone."""

    features: np.ndarray
    targets: np.ndarray
    validation: np.ndarray
    validation_targets: np.ndarray
    labels: tuple[str, ...]
    photos: int
    seconds: float
    stages: tuple[str, ...]
    before: int = 0


def networks_of(job: Job) -> list[tuple[str, int, str]]:
    """(backbone, image size, pooling) of each network whose features the search needs."""
    values = lambda name: values_of(job.rows[name]) if name in job.rows else [None]
    keys = [] if searches_fine(job) else [key_of(job.configs({})[0])]  # of the defaults, which a space may leave out
    for backbone in values("backbone"):
        for size in values("image_size"):
            for pooling in values("pooling"):
                asked = {"backbone": backbone, "image_size": size, "pooling": pooling}
                keys.append(key_of(job.configs({name: value for name, value in asked.items() if value is not None})[0]))
    return list(dict.fromkeys(keys))


def key_of(model: Filled) -> tuple[str, int, str]:
    """By which a table of features is found."""
    return model.backbone, model.image_size, model.pooling


def load_data(job: Job, opened, image_size: int):
    """The photos of the search at one size, in the splits that each of its runs will have."""
    return load_images(opened, image_size=image_size, channels=job.model.channels, seed=job.training.seed, **job.data.options())


def build_network(job: Job, data, key: tuple[str, int, str]) -> tuple[Any, Table]:
    """A classifier whose features the search needs, and its table as far as it is known before they are computed.

    Args:
        data: the photos, of `load_data`.
        key: of `networks_of`.
    """
    import keras

    backbone, size, pooling = key
    keras.utils.set_random_seed(job.training.seed)
    config = job.configs({"backbone": backbone, "image_size": size, "pooling": pooling})[0]
    model = build_classifier(labels=data.labels, **{**asdict(config), "hidden": ()})
    train, validation = data.rows("train"), data.rows("validation")
    place = lambda network: [layer.name for layer in every_layer(network)].index("pooling")
    before = place(model) - place(build_head(1, config, data.labels))
    return model, Table(np.zeros((0, model.get_layer("pooling").output.shape[-1])), data.targets(train), np.zeros(0), data.targets(validation), data.labels,
                        len(train), _seconds_of_a_photo(model, data), tuple(name for name, _ in stages_of(model)), before)


def with_features(job: Job, data, model, table: Table) -> Table:
    """The table with features from the cache where they are there; workers that share it compute them once."""
    import keras

    train, validation = data.rows("train"), data.rows("validation")
    job.path.mkdir(parents=True, exist_ok=True)
    lock = Lock(job.path, alone=True, wait=True)
    try:
        rows = cached_features(model, data, np.concatenate([train, validation]))
    finally:
        lock.release(remove=True)
    features = np.asarray(rows[np.arange(len(train) + len(validation))])
    keras.utils.clear_session()
    return table._replace(features=features[:len(train)], validation=features[len(train):])


def try_head(table: Table, model: ModelConfig, training: TrainingConfig) -> dict[str, float]:
    """Accuracy, balanced accuracy and log loss on the validation photos of a head that is found on the training photos."""
    start = time.perf_counter()
    found = summary(scores_of_head(table, model, training), table.validation_targets)
    return {**found, "seconds": time.perf_counter() - start}


def scores_of_head(table: Table, model: ModelConfig, training: TrainingConfig) -> np.ndarray:
    """Scores (n, labels) on the validation photos of a head that is found on the training photos; the same whenever it is asked for."""
    import keras

    keras.utils.set_random_seed(training.seed)
    head = build_head(table.features.shape[1], model, table.labels)
    seed_dropout(head, training.seed, before=table.before)
    train_head(head, table.features, table.targets, complete(training, photos=table.photos, stages=table.stages))
    scores = np.asarray(head(table.validation, training=False))
    del head
    keras.utils.clear_session()  # of what hundreds of trials would leave; collects garbage too
    return scores


def seconds_of_a_head(job: Job, table: Table) -> float:
    """Of the head with the most units, on made features: how long one takes is known before any photo has passed the network."""
    made = lambda targets: np.random.default_rng(0).standard_normal((len(targets), table.features.shape[1]), dtype=np.float32)
    largest = head_of_units(job, max)
    return try_head(table._replace(features=made(table.targets), validation=made(table.validation_targets)), *job.configs(largest))["seconds"]


def head_of_units(job: Job, choose: Callable) -> dict[str, Any]:
    """The values of the head with the most or fewest units that the search may try; `choose` is max or min."""
    units = lambda hidden: sum(job.configs({"hidden": hidden})[0].hidden)
    return {"hidden": choose(values_of(job.rows["hidden"]), key=units)} if "hidden" in job.rows else {}


def network_of(values: Mapping[str, Any], job: Job) -> tuple[str, int, str]:
    """Which table a trial with these values needs."""
    return key_of(job.configs(values)[0])


def _seconds_of_a_photo(model, data) -> float:
    """Of a forward pass, the second batch: the first one traces."""
    rows = np.resize(np.arange(len(data.items)), BATCH)
    run = traced(model)
    forward(model, data.inputs, rows, run=run)
    start = time.perf_counter()
    forward(model, data.inputs, rows, run=run)
    return (time.perf_counter() - start) / BATCH
