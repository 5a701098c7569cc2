"""Backbone features, computed once for each photo and kept on disk under (network, photo)."""

import hashlib
import json

import numpy as np

from tfcnn.data.dataset import Dataset
from tfcnn.data.store import Store, StoredRows, cache_folder
from tfcnn.models.forward import forward
from tfcnn.progress import stage

PART_SIZE = 2048  # feature rows in one part of the store


def cached_features(model, data: Dataset, rows: np.ndarray | None = None, *, seconds: dict[str, float] | None = None) -> StoredRows:
    """Output of the layer `pooling` for items of `data`, in inference mode, not augmented.

    Args:
        model: from `build_classifier`.
        data: whose photos are passed through it once; those seen before are read from the cache.
        rows: which items, in which order; all if None.

    Returns:
        float32 rows (len(rows), features), read from disk when indexed.
    """
    import keras

    network = keras.Model(model.input, model.get_layer("pooling").output)
    store = Store(cache_folder() / "features" / network_digest(network))
    rows = np.arange(len(data.items)) if rows is None else rows
    missing = list({data.items[row].sha256: row for row in rows if data.items[row].sha256 not in store}.values())
    if missing:
        with stage("features of the backbone", len(missing), seconds) as advance:
            for start in range(0, len(missing), PART_SIZE):
                part = np.array(missing[start:start + PART_SIZE])
                store.add([data.items[row].sha256 for row in part], forward(network, data.inputs, part, advance=advance))
    return store.rows([data.items[row].sha256 for row in rows])


def network_digest(network) -> str:
    """A digest of what a network computes: its structure, constants and weights, not the names of its layers."""
    config = network.get_config()
    text = json.dumps(config, sort_keys=True, default=str)
    for number, name in enumerate(_names(config)):
        text = text.replace(json.dumps(name), f'"#{number}"')
    digest = hashlib.sha256(text.encode())
    for weight in network.weights:
        digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return digest.hexdigest()[:32]


def _names(config) -> list[str]:
    """Every layer name in a model's config, in order of appearance: Keras counts them up within a process."""
    found: dict[str, None] = {}

    def walk(node):
        if isinstance(node, dict):
            if isinstance(node.get("name"), str):
                found.setdefault(node["name"])
            for value in node.values():
                walk(value)
        elif isinstance(node, (list, tuple)):
            for value in node:
                walk(value)

    walk(config)
    return list(found)

