"""Backbone features, computed once for each photo and kept on disk under (network, photo)."""

import hashlib
import json

import numpy as np

from tfcnn.data.dataset import Dataset
from tfcnn.data.store import Store, StoredRows, cache_folder
from tfcnn.models.forward import forward
from tfcnn.progress import stage

PART_SIZE = 2048  # feature rows in one part of the store


def cached_features(model, data: Dataset, *, seconds: dict[str, float] | None = None) -> StoredRows:
    """Output of the layer `pooling` for every item of `data`, in inference mode, not augmented.

    Args:
        model: from `build_classifier`.
        data: whose photos are passed through it once; those seen before are read from the cache.

    Returns:
        float32 rows (items, features), read from disk when indexed.
    """
    import keras

    network = keras.Model(model.input, model.get_layer("pooling").output)
    store = Store(cache_folder() / "features" / network_digest(network))
    digests = [item.sha256 for item in data.items]
    missing = list({digest: row for row, digest in enumerate(digests) if digest not in store}.values())
    if missing:
        with stage("features of the backbone", len(missing), seconds) as advance:
            for start in range(0, len(missing), PART_SIZE):
                rows = np.array(missing[start:start + PART_SIZE])
                store.add([digests[row] for row in rows], forward(network, data.inputs, rows, advance=advance))
    return store.rows(digests)


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

