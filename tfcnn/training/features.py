"""Backbone features, computed once for each photo and kept on disk under (network, photo)."""

import hashlib
import json

import numpy as np

from tfcnn.data.dataset import Dataset
from tfcnn.data.photo import pixels_key
from tfcnn.data.store import Store, StoredRows, cache_folder
from tfcnn.models.forward import forward
from tfcnn.progress import stage
from tfcnn.workers import count_of, from_chief, is_chief, sum_of

PART_SIZE = 2048  # feature rows in one part of the store


def cached_features(model, data: Dataset, rows: np.ndarray | None = None, *, digest: str = "",
                    seconds: dict[str, float] | None = None, strategy=None) -> StoredRows:
    """Output of the layer `pooling` for items of `data`, in inference mode, not augmented.

    Args:
        model: from `build_classifier`.
        data: whose photos are passed through it once; those seen before are read from the cache.
        rows: which items, in which order; all if None.
        digest: `network_digest(feature_network(model))` where it is known already.
        seconds: receives the time of the stage.
        strategy: that of the model, to use all its replicas; its workers have to call this together.

    Returns:
        float32 rows (len(rows), features), read from disk when indexed.
    """
    network = feature_network(model)
    folder = cache_folder() / "features" / f"{pixels_key(data.geometry)}-{digest or network_digest(network)}{_facts_digest(data)}"
    store, rows = Store(folder), np.arange(len(data.items)) if rows is None else rows
    keys = [data.items[row].sha256 for row in rows]
    lacks = sum_of(strategy, np.array([key not in store for key in keys], np.int32)) > 0  # on one worker at least: they work together
    missing = list({keys[place]: rows[place] for place in np.flatnonzero(lacks)}.values())
    if missing:
        with stage("features of the backbone", len(missing), seconds) as advance:
            for start in range(0, len(missing), PART_SIZE):
                part = np.array(missing[start:start + PART_SIZE])
                store = _add(store, folder, [data.items[row].sha256 for row in part],
                             forward(network, data.inputs, part, advance=advance, strategy=strategy), strategy)
    return store.rows(keys)


def _add(store: Store, folder, keys: list[str], features: np.ndarray, strategy) -> Store:
    """Adds a part to the store: the chief for all where they share the folder, else each for itself."""
    if is_chief(strategy):
        store.add(keys, features)
    if count_of(strategy) > 1:
        from_chief(strategy, "it is there")
        store = Store(folder)
        if any(key not in store for key in keys):
            store.add(keys, features)
    return store


def _facts_digest(data: Dataset) -> str:
    """Of what numbers mean in data of other kinds: the same text has others in another vocabulary."""
    told = json.dumps(data.facts, sort_keys=True)
    return f"-{hashlib.sha256(told.encode()).hexdigest()[:16]}" if data.facts else ""


def feature_network(model):
    """The part of a classifier from the input to `pooling`, whose output a frozen backbone never changes."""
    import keras

    return keras.Model(model.input, model.get_layer("pooling").output)


def network_digest(network) -> str:
    """A digest of what a network computes: its structure, constants and weights, not the names of its layers."""
    config = network.get_config()
    numbers = {name: f"#{number}" for number, name in enumerate(_names(config))}
    digest = hashlib.sha256(json.dumps(_without_names(config, numbers), sort_keys=True, default=str).encode())
    for weight in network.weights:
        digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return digest.hexdigest()[:32]


def _names(node) -> list[str]:
    """Every layer name in a model's config, once, in order of appearance: Keras counts the names up within a process."""
    if isinstance(node, dict):
        own = [node["name"]] if isinstance(node.get("name"), str) else []
        return list(dict.fromkeys(own + [name for value in node.values() for name in _names(value)]))
    if isinstance(node, (list, tuple)):
        return list(dict.fromkeys(name for value in node for name in _names(value)))
    return []


def _without_names(node, numbers: dict[str, str], key: str = ""):
    """The config with layer names, where they stand as such, replaced by numbers, and without what changes no output."""
    if isinstance(node, dict):
        return {k: _without_names(value, numbers, k) for k, value in node.items() if k != "trainable"}
    if isinstance(node, (list, tuple)):
        return [_without_names(value, numbers, key) for value in node]
    is_name = isinstance(node, str) and key in ("name", "keras_history", "input_layers", "output_layers")
    return numbers.get(node, node) if is_name else node
