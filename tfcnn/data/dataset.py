"""`Dataset`: labelled examples in three splits, and the batches that are read from them."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from tfcnn.data.augment import augment_photos


class Item(NamedTuple):
    """One example: where it came from, what it is, which split it is in."""

    path: str
    label: str
    split: str
    sha256: str


class Quarantined(NamedTuple):
    """A file that was left out, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Dataset:
    """Labelled examples in three splits.

    Attributes:
        inputs: one row an item, read like an array: `inputs[rows]` is uint8 (len(rows), height, width, 3), 0-255 RGB.
        items: one `Item` a row of `inputs`.
        labels: class names; the target of an item is the index of its label here.
        input_shape: (height, width, 3).
        source: the folder the files came from; empty for arrays.
        quarantined: files that could not be used.
        arguments: what `load_images` was called with, so that a run can load the same data again.
    """

    inputs: Any = field(repr=False)
    items: tuple[Item, ...] = field(repr=False)
    labels: tuple[str, ...]
    input_shape: tuple[int, ...]
    source: str = ""
    quarantined: tuple[Quarantined, ...] = ()
    arguments: dict = field(default_factory=dict)

    def rows(self, split: str) -> np.ndarray:
        """Row numbers of one split, in the order of `items`."""
        return np.array([row for row, item in enumerate(self.items) if item.split == split], dtype=np.int64)

    def targets(self, rows: np.ndarray) -> np.ndarray:
        """Integer targets of these rows."""
        index = {label: target for target, label in enumerate(self.labels)}
        return np.array([index[self.items[row].label] for row in rows], dtype=np.int64)

    @property
    def train(self):
        """`tf.data.Dataset` of (pixels 0-255, target) batches of the training split, in a fixed order, not augmented."""
        return batches(self, "train")

    @property
    def validation(self):
        """`tf.data.Dataset` of (pixels 0-255, target) batches of the validation split."""
        return batches(self, "validation")

    @property
    def test(self):
        """`tf.data.Dataset` of (pixels 0-255, target) batches of the test split."""
        return batches(self, "test")


def batches(data: Dataset, split: str, *, batch_size: int = 32):
    """One pass over a split in its fixed order: float32 pixels (batch, height, width, 3) and int64 targets (batch,)."""
    import tensorflow as tf

    rows = data.rows(split)
    dataset = tf.data.Dataset.from_tensor_slices((rows, data.targets(rows))).batch(batch_size)
    return dataset.map(lambda r, t: (_read(data, r), t), num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)


def training_batches(data: Dataset, *, batch_size: int, augmentation: str, mirror: bool = True, seed: int,
                     first_epoch: int = 0, epochs: int = 1):
    """The training split from epoch `first_epoch` up to (not with) `epochs`, shuffled and augmented anew in each.

    Order and augmentation are functions of (seed, epoch, position) alone, so a training that is resumed at an epoch sees
    what the undisturbed one saw. Targets are one-hot (batch, classes), so that they can be mixed or smoothed.
    """
    import tensorflow as tf

    rows = data.rows("train")
    targets = data.targets(rows)

    def one_epoch(epoch):
        order = tf.random.experimental.stateless_shuffle(tf.range(len(rows)), seed=[seed, tf.cast(epoch, tf.int32)])
        order = tf.data.Dataset.from_tensor_slices(order).batch(batch_size)
        return order.enumerate().map(lambda step, positions: (epoch, step, positions))

    def read(epoch, step, positions):
        pixels = _read(data, tf.gather(rows, positions))
        pixels = augment_photos(pixels, strength=augmentation, mirror=mirror,
                                seed=tf.stack([tf.cast(seed, tf.int64) * 100_003 + epoch, step]))
        return pixels, tf.one_hot(tf.gather(targets, positions), len(data.labels))

    dataset = tf.data.Dataset.range(first_epoch, epochs).flat_map(one_epoch)
    return dataset.map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(2)


def _read(data: Dataset, rows):
    """Pixels of these rows as a float32 tensor; the rows may lie on disk, so NumPy reads them."""
    import tensorflow as tf

    pixels = tf.numpy_function(lambda r: data.inputs[r], [rows], tf.uint8, stateful=False)
    pixels.set_shape((None, *data.input_shape))
    return tf.cast(pixels, tf.float32)
