"""What a classifier of other data than photos goes by: telling stretches of time and telling voxels, by Grad-CAM, and words, by leaving each out."""

import math

import numpy as np

from tfcnn.data.text import UNKNOWN
from tfcnn.errors import WorkError
from tfcnn.evaluation.heat import weighted_maps
from tfcnn.evaluation.inside import call_of, check_targets

FINE = 16  # steps of time that maps have at least; the last ones of a deep network are too coarse to point at anything
FINE_VOXELS = 4  # cells along each side of a volume
MOST_PARTS = 100  # of a text that are left out in turn; of a longer one several tokens at a time
BATCH = 32


def stretches(model, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """How much each moment of series or clips counts for a label, by Grad-CAM over time.

    Args:
        model: of `build_classifier`.
        inputs: (n, steps, channels) or (n, samples), as the model gets them.
        targets: for each the index of a label.

    Returns:
        float32 (n, steps or samples), 0-1; all 0 where nothing speaks for the label.

    Raises:
        WorkError: gradients that are no numbers.

    Source: Selvaraju et al. 2017, "Grad-CAM", section 3; over one dimension as in Wang et al. 2017, section II.C.
    """
    targets = check_targets(model, targets, len(inputs))
    maps = weighted_maps(model, _telling_maps(model), inputs, targets)
    of_photos = len(model.get_layer("backbone").input_shape) == 4
    maps = _squares(maps) if of_photos and maps.ndim == 2 else maps
    if maps.ndim == 3:  # (n, time, frequency), or of a backbone of photos (n, frequency, time)
        maps = maps.mean(axis=1 if of_photos else 2)
    _check_finite(maps)
    steps = inputs.shape[1]
    centres = (np.arange(maps.shape[1]) + 0.5) / maps.shape[1] * steps - 0.5
    heat = np.stack([np.interp(np.arange(steps), centres, row) for row in maps]).astype(np.float32)
    return _to_one(heat)


def telling_voxels(model, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """How much each voxel of volumes counts for a label, by Grad-CAM in three dimensions.

    Args:
        model: of `build_classifier`.
        inputs: (n, depth, height, width, channels), as the model gets them.
        targets: for each the index of a label.

    Returns:
        float32 (n, depth, height, width), 0-1, interpolated between the middles of the maps' cells; all 0 where nothing speaks for the label.

    Raises:
        WorkError: gradients that are no numbers.

    Source: Selvaraju et al. 2017, "Grad-CAM", section 3.
    """
    from scipy.ndimage import map_coordinates

    from tfcnn.models.frames import folds_of

    targets = check_targets(model, targets, len(inputs))
    folds = folds_of(model)
    clips = math.prod(fold.parts for fold in folds if fold.one_in_training)  # heat does not run from one into the next
    maps = weighted_maps(model, _telling_maps(model, sides=3, least=FINE_VOXELS), inputs, targets, folded=bool(folds))
    if folds:  # frames, or clips of several frames, which follow each other
        maps = _squares(maps)
        maps = maps.reshape(len(inputs) * clips, -1, *maps.shape[-2:])
    _check_finite(maps)
    sides = (inputs.shape[1] // clips, *inputs.shape[2:4])
    cells = [(np.arange(side) + 0.5) / side * count - 0.5 for side, count in zip(sides, maps.shape[1:], strict=True)]
    places = np.meshgrid(*cells, indexing="ij")
    heat = np.stack([map_coordinates(row, places, order=1, mode="nearest") for row in maps]).astype(np.float32)
    return _to_one(heat.reshape(inputs.shape[:4]))


def without_each(model, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """How much the logit of a label falls when a word is not known: positive where the word speaks for the label, negative against.

    Args:
        model: of `build_classifier`.
        inputs: int32 (n, length), 0 behind the end.
        targets: for each the index of a label.

    Returns:
        float32 (n, length), divided by the largest absolute value of its text, -1 to 1.

    Source: Li et al. 2016, "Understanding Neural Networks through Representation Erasure", section 3.
    """
    import keras
    import tensorflow as tf

    targets = check_targets(model, targets, len(inputs))
    network = keras.Model(model.inputs[0], call_of(model, model.get_layer("logits")).outputs[0])
    run = tf.function(lambda texts: network(texts, training=False), input_signature=[tf.TensorSpec((None, inputs.shape[1]), tf.int32)])
    heat = np.zeros(inputs.shape, np.float32)
    for row, (text, target) in enumerate(zip(inputs, targets, strict=True)):
        count = int(np.count_nonzero(text))
        parts = [part for part in np.array_split(np.arange(count), min(count, MOST_PARTS)) if len(part)]
        variants = np.repeat(text[None], len(parts) + 1, axis=0)
        for number, part in enumerate(parts, start=1):
            variants[number, part] = UNKNOWN
        logits = np.concatenate([run(variants[start:start + BATCH]).numpy()[:, target] for start in range(0, len(variants), BATCH)])
        for part, logit in zip(parts, logits[1:], strict=True):
            heat[row, part] = logits[0] - logit
    top = np.abs(heat).max(axis=1, keepdims=True)
    return np.divide(heat, top, out=np.zeros_like(heat), where=top > 0)


def _squares(maps: np.ndarray) -> np.ndarray:
    """Maps (..., rows, columns), of a ViT from its tokens (n, ..., tokens): the patches row by row, behind the class token."""
    if maps.ndim > 3:
        return maps
    side = math.isqrt(maps.shape[-1])
    return maps[..., -side * side:].reshape(*maps.shape[:-1], side, side)


def _check_finite(maps: np.ndarray) -> None:
    if not np.isfinite(maps).all():
        raise WorkError("expected finite gradients, got NaN or infinity; the training diverged, train again with a lower learning rate")


def _to_one(heat: np.ndarray) -> np.ndarray:
    """Each divided by its largest value."""
    top = heat.max(axis=tuple(range(1, heat.ndim)), keepdims=True)
    return np.divide(heat, top, out=np.zeros_like(heat), where=top > 0)


def _telling_maps(model, sides: int = 1, least: int = FINE):
    """The last maps of the backbone that have so many cells at least along the first sides, such as time; its last ones where none have."""
    import keras

    backbone = model.get_layer("backbone")
    of_photos = len(backbone.input_shape) == 4
    calls = [node for _, nodes in sorted(backbone._nodes_by_depth.items()) for node in nodes if isinstance(node.operation, keras.layers.Layer)]
    maps = [node.outputs[0] for node in calls if not node.is_input and len(node.outputs[0].shape) > 2]
    first = 2 if of_photos else 1
    fine = [tensor for tensor in maps if min(side or least for side in tensor.shape[first:first + sides]) >= least]
    return maps[0] if of_photos else (fine or maps)[0]
