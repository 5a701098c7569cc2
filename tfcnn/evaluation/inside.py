"""The inside of a classifier: its parts, the tensors between its layers, and many photos through a function of them."""

import math
from collections.abc import Callable, Collection, Sequence

import numpy as np

from tfcnn.errors import InputError, closest

AT_ONCE = 16 * 224**2  # pixels in a batch: what the gradients of a deep network keep of them fits into a few GB


def check_classifier(model) -> None:
    """Raises InputError for a model that is not of `build_classifier`."""
    names = [part.name for part in getattr(model, "layers", [])]
    if missing := [name for name in ("backbone", "pooling", "logits") if name not in names]:
        raise InputError(f"expected a classifier of build_classifier, got a model without the layer '{missing[0]}'; build one on it")


def check_pixels(model, pixels: np.ndarray) -> np.ndarray:
    """Pixels as an array (n, height, width, channels); raises InputError where there are none or the model takes others."""
    pixels, shape = np.asarray(pixels), tuple(model.input_shape[1:])
    if pixels.shape[1:] != shape or not len(pixels):
        raise InputError(f"expected at least one photo as pixels of shape (n, {', '.join(map(str, shape))}), got {pixels.shape}")
    return pixels


def check_targets(model, targets: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    """Targets as an array int32 (count,); raises InputError where they are no outputs of the model."""
    targets, outputs = np.asarray(targets), model.output_shape[-1]
    if targets.shape != (count,) or targets.dtype.kind not in "iu" or targets.min() < 0 or targets.max() >= outputs:
        raise InputError(f"expected a target from 0 to {outputs - 1} for each of {count} photos, got targets={targets.tolist()!r:.60}")
    return targets.astype(np.int32)


def layers_with_maps(backbone) -> dict:
    """{name: its maps} of the layers that give maps of more than one cell, from input to output."""
    import keras

    calls = [node for _, nodes in sorted(backbone._nodes_by_depth.items(), reverse=True) for node in nodes]
    return {node.operation.name: node.outputs[0] for node in calls
            if not node.is_input and isinstance(node.operation, keras.layers.Layer) and len(node.outputs[0].shape) == 4
            and node.outputs[0].shape[1:3] != (1, 1) and None not in node.outputs[0].shape[1:]}


def offer(name: str, choices: Collection[str], whose: str = "backbone") -> str:
    """A hint at the right name, or that there is none."""
    return closest(name, choices) if choices else f"the {whose} has none"


def call_of(network, layer):
    """The call of a layer in the graph of a network, with its input and output tensors.

    `layer.input` and `layer.output` are those of its first call, which may be another model's; there is no public way to ask for this one's.
    """
    return next(node for _, nodes in sorted(network._nodes_by_depth.items()) for node in nodes if node.operation is layer)


def inside_backbone(model, tensors: list) -> Callable:
    """A function from pixels (batch, height, width, channels) to the values of tensors of the graph of the backbone, a list.

    Models that begin at an `Input` leave their layers as they are; one that begins in the middle would add calls to them.
    """
    import keras

    backbone = model.get_layer("backbone")
    before = keras.Model(model.inputs[0], call_of(model, backbone).input_tensors[0])
    inside = keras.Model(backbone.inputs[0], tensors)
    return lambda pixels: keras.tree.flatten(inside(before(pixels, training=False), training=False))  # Keras unpacks a list of one


def head_of(model) -> list:
    """The layers behind the backbone up to the logits; each takes what the one before it gives."""
    names = [layer.name for layer in model.layers]
    return model.layers[names.index("backbone") + 1:names.index("logits") + 1]


def batch_of(model) -> int:
    """Examples in a batch, fewer of larger ones: of photos of many pixels, volumes, and what has many slices or frames."""
    from tfcnn.models.frames import folds_of

    parts = math.prod(fold.parts for fold in folds_of(model))
    return max(1, min(16, AT_ONCE // (parts * math.prod(side or 1 for side in model.get_layer("backbone").input_shape[1:-1]))))


def in_batches(function: Callable, batch: int, *columns: np.ndarray) -> np.ndarray:
    """What a traced function gives for the rows of arrays, all batches of one size: a short last one is filled up with its last row."""
    import tensorflow as tf

    n, results = len(columns[0]), []
    batch = min(batch, n)
    for start in range(0, n, batch):
        rows = np.minimum(np.arange(start, start + batch), n - 1)
        results.append(function(*(tf.constant(column[rows]) for column in columns)).numpy()[:n - start])
    return np.concatenate(results)
