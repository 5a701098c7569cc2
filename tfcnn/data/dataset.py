"""`Dataset`: labelled examples in three splits, and the batches that are read from them."""

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tfcnn.data.augment import augment_photos, mix_photos
from tfcnn.errors import InputError
from tfcnn.kinds import IMAGE, KINDS
from tfcnn.record import Run

if TYPE_CHECKING:
    import tensorflow as tf

IN_MEMORY_BYTES = 2**29  # training photos up to this size are kept in memory; larger sets are read from the store, at half the speed

# How classes of unequal size are trained: as they are, with weights in the loss, or with photos of the small ones repeated.
BALANCES = ("none", "class_weight", "oversample")


class Item(NamedTuple):
    """One example: where it came from, what it is, which split it is in."""

    path: str
    label: str
    split: str
    sha256: str


@dataclass(frozen=True)
class Replicas:
    """How many replicas share each batch, and which of them are served here: `here` of them from number `first` on."""

    count: int
    first: int
    here: int


ALONE = Replicas(1, 0, 1)


class Quarantined(NamedTuple):
    """A file that was left out, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Dataset:
    """Labelled examples in three splits.

    Attributes:
        inputs: one row an item, read like an array: `inputs[rows]` is uint8 (len(rows), height, width, channels), 0-255; three
            channels are RGB, one is grey. Of other kinds as their `load` says.
        items: one `Item` a row of `inputs`.
        labels: class names; the target of an item is the index of its label here.
        input_shape: of an example: of photos (height, width, channels).
        geometry: how photos became this shape, a name of `tfcnn.data.photo.GEOMETRIES`; of other kinds their name.
        source: where the photos came from, as `open_source` takes it; empty for what lay in memory.
        quarantined: files that could not be used.
        leaks: photos that are in more than one of the splits that the source came with.
        arguments: what `load_images` was called with, so that a run can load the same data again.
        kind: a name of `tfcnn.kinds.KINDS`.
        facts: what a network and an app have to know of data of this kind besides its shape: a sampling rate, a vocabulary.
        texts: where numbers stand for words, what they stood for, by the SHA-256 of the item.
    """

    inputs: Any = field(repr=False)
    items: tuple[Item, ...] = field(repr=False)
    labels: tuple[str, ...]
    input_shape: tuple[int | None, ...]
    geometry: str = "stretch"
    source: str = ""
    quarantined: tuple[Quarantined, ...] = ()
    leaks: int = 0
    arguments: dict = field(default_factory=dict)
    kind: str = IMAGE
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)
    texts: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def many(self) -> str:
        """What its examples are called."""
        return KINDS[self.kind].many

    def rows(self, split: str) -> np.ndarray:
        """Row numbers of one split, in the order of `items`."""
        return np.array([row for row, item in enumerate(self.items) if item.split == split], dtype=np.int64)

    def targets(self, rows: np.ndarray) -> np.ndarray:
        """Integer targets of these rows."""
        index = {label: target for target, label in enumerate(self.labels)}
        return np.array([index[self.items[row].label] for row in rows], dtype=np.int64)

    def photos(self, rows: np.ndarray) -> Any:
        """These rows of `inputs`, in this order, to be indexed or iterated; what lies on disk stays there until then."""
        return self.inputs.choose(rows) if not isinstance(self.inputs, np.ndarray) else self.inputs[rows]

    @property
    def train(self) -> "tf.data.Dataset":
        """`tf.data.Dataset` of (pixels 0-255, target) batches of the training split, in a fixed order, not augmented."""
        return batches(self, "train")

    @property
    def validation(self) -> "tf.data.Dataset":
        """`tf.data.Dataset` of (pixels 0-255, target) batches of the validation split."""
        return batches(self, "validation")

    @property
    def test(self) -> "tf.data.Dataset":
        """`tf.data.Dataset` of (pixels 0-255, target) batches of the test split."""
        return batches(self, "test")


def with_validation(data: Dataset) -> Dataset:
    """The same with the validation photos in the training split too, where a choice was made by them and is trained once more."""
    rows = data.rows("validation")
    items = (*data.items, *(data.items[row]._replace(split="train") for row in rows))
    return replace(data, inputs=data.photos(np.concatenate([np.arange(len(data.items)), rows])), items=items)


def batches(data: Dataset, split: str, *, batch_size: int = 32):
    """One pass over a split in its fixed order: float32 pixels (batch, height, width, channels) and int64 targets (batch,)."""
    import tensorflow as tf

    rows = data.rows(split)
    dataset = tf.data.Dataset.from_tensor_slices((rows, data.targets(rows))).batch(batch_size)
    return dataset.map(lambda r, t: (_read(data, r), t), num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)


def training_batches(data: Dataset, *, batch_size: int, augmentation: str, mixing: float | None = None, mirror: bool = True,
                     balance: str = "none", seed: int, first_epoch: int = 0, first_step: int = 0, epochs: int = 1, replicas: Replicas = ALONE):
    """The training split from epoch `first_epoch` up to (not with) `epochs`, shuffled and augmented anew in each.

    Order and augmentation are functions of (seed, epoch, position) alone, so a training that is resumed at a step sees
    what the undisturbed one saw, and several replicas together see what one alone sees.

    Args:
        batch_size: photos in a batch, over all replicas; the last of an epoch may be shorter.
        augmentation: a row of STRENGTHS.
        mixing: share of the photos that are mixed with another one; None takes that of the augmentation.
        mirror: whether half of the photos are mirrored.
        balance: a name of BALANCES.
        seed: from 0 to 2147483647.
        first_step: batches of the first epoch that are left out.
        replicas: the part of each batch that is given; only its photos are read.

    Returns:
        `tf.data.Dataset` of float32 pixels (batch, height, width, channels) 0-255, float32 targets (batch, classes), one-hot or
        mixed, and float32 weights in the loss (batch,). With several replicas each batch comes as one part for each of the
        replicas here, equally large but for one photo; a replica that gets none of a small last batch, which would end a training
        of convolutions in an error of TensorFlow, gets one of it with the weight 0.
    """
    import tensorflow as tf

    rows = data.rows("train")
    read_rows = _reader(data, rows, keep=replicas.here == replicas.count)
    targets = data.targets(rows)
    weights = class_weights(targets, len(data.labels)).astype(np.float32)

    def one_epoch(epoch):
        order = tf.random.experimental.stateless_shuffle(_positions(targets, balance, seed, epoch), seed=[seed, tf.cast(epoch, tf.int32)])
        skipped = tf.where(epoch == first_epoch, tf.cast(first_step, tf.int64), 0)
        steps = tf.data.Dataset.from_tensor_slices(order[skipped * batch_size:]).batch(batch_size)
        return steps.enumerate(skipped).map(lambda step, positions: (epoch, step, positions, tf.cast(replicas.first, tf.int64)))

    def each_replica(epoch, step, positions, first):
        return tf.data.Dataset.range(first, first + replicas.here).map(lambda replica: (epoch, step, positions, replica))

    def read(epoch, step, positions, replica):
        step_seed = tf.stack([tf.cast(seed, tf.int64) * 100_003 + epoch, step])
        places, count = _part_of_batch(tf.size(positions), replicas.count, tf.cast(replica, tf.int32))
        draws = {"seed": step_seed, "places": places, "total": tf.size(positions)} if replicas.count > 1 else {"seed": step_seed}
        positions = tf.gather(positions, places)
        strength = augmentation if data.kind == IMAGE else "none"  # others are changed by layers of their networks
        pixels = augment_photos(read_rows(positions), strength=strength, mirror=mirror, **draws)
        target = tf.gather(targets, positions)
        weight = tf.gather(weights, target) if balance == "class_weight" else tf.ones(tf.shape(target))
        pixels, mixed, weight = mix_photos(pixels, tf.one_hot(target, len(data.labels)), weight, strength=strength, mixing=mixing, **draws)
        if replicas.count == 1:
            return pixels, mixed, weight
        return pixels[1:], mixed[1:], weight[1:] * tf.cast(count > 0, tf.float32)  # without the one that stands before the part

    dataset = tf.data.Dataset.range(first_epoch, epochs).flat_map(one_epoch)
    dataset = dataset.flat_map(each_replica) if replicas.here > 1 else dataset
    return dataset.map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(2 * replicas.here)


def examples_per_epoch(data: Dataset, balance: str = "none") -> int:
    """How many photos an epoch of `training_batches` has."""
    counts = np.bincount(data.targets(data.rows("train")))
    return int(counts.max() * np.count_nonzero(counts)) if balance == "oversample" else int(counts.sum())


def in_turn(groups: np.ndarray) -> np.ndarray:
    """Positions of integers (n,) in an order that takes the groups in turn, so that the first few have all of them."""
    rank = np.empty(len(groups), np.int64)  # how many of the same group stand before each
    for group in np.unique(groups):
        own = np.flatnonzero(groups == group)
        rank[own] = np.arange(len(own))
    return np.lexsort((groups, rank))


def class_weights(targets: np.ndarray, classes: int) -> np.ndarray:
    """The weight of each class that makes all classes count alike, 1 on average over the examples; targets are integers (n,)."""
    counts = np.bincount(targets, minlength=classes)
    return len(targets) / (np.count_nonzero(counts) * np.maximum(counts, 1))


def _part_of_batch(total, replicas: int, replica):
    """Places in a batch of `total` photos that one of several replicas gets, and how many they are.

    Before them stands the place that comes before the first, with which it may be mixed. Where there is nothing for a replica, one
    place is given all the same.
    """
    import tensorflow as tf

    if replicas == 1:
        return tf.range(total), total
    start, end = total * replica // replicas, total * (replica + 1) // replicas
    start = tf.minimum(start, total - 1)
    return tf.range(start - 1, tf.maximum(end, start + 1)) % total, end - start


def _positions(targets: np.ndarray, balance: str, seed: int, epoch):
    """The positions of an epoch; oversampled, each class is repeated to the size of the largest, the rest drawn anew in each epoch."""
    import tensorflow as tf

    if balance != "oversample":
        return tf.range(len(targets))
    largest = np.bincount(targets).max()
    positions = []
    for target in np.unique(targets):
        own = tf.constant(np.flatnonzero(targets == target), tf.int32)
        drawn = tf.random.experimental.stateless_shuffle(own, seed=[seed + int(target) + 1, tf.cast(epoch, tf.int32)])
        positions += [tf.tile(own, [largest // len(own)]), drawn[:largest % len(own)]]
    return tf.concat(positions, axis=0)


def _reader(data: Dataset, rows: np.ndarray, *, keep: bool):
    """A function of positions in `rows` that gives float32 pixels; photos that take little memory are read into it once, if they may be kept."""
    import tensorflow as tf

    if not keep or len(rows) * int(np.prod(data.inputs.shape[1:])) * data.inputs.dtype.itemsize > IN_MEMORY_BYTES:
        return lambda positions: _read(data, tf.gather(rows, positions))
    with tf.device("/cpu:0"):
        pixels = tf.constant(data.inputs[rows])
    return lambda positions: _numbers(tf.gather(pixels, positions))


def _read(data: Dataset, rows):
    """Pixels of these rows as a float32 tensor; the rows may lie on disk, so NumPy reads them."""
    import tensorflow as tf

    pixels = tf.numpy_function(lambda r: data.inputs[r], [rows], tf.as_dtype(data.inputs.dtype), stateful=False)
    pixels.set_shape((None, *data.input_shape))
    return _numbers(pixels)


def _numbers(values):
    """What a network takes: float32 of all but the numbers that stand for words."""
    import tensorflow as tf

    return values if values.dtype == tf.int32 else tf.cast(values, tf.float32)


def splits_by_content(run: Run) -> dict[str, str]:
    """The split of each photo of a run under its SHA-256; nothing where the run has not got so far."""
    return {item.sha256: item.split for item in items_of(run)}


def items_of(run: Run) -> tuple[Item, ...]:
    """The photos of a run, in their order; none where it has not got so far."""
    file = run.path / "items.csv"
    if not file.exists():
        return ()
    with open(file, newline="", encoding="utf-8") as lines:
        try:
            items = tuple(Item(**row) for row in csv.DictReader(lines))
            counts, told = Counter(item.split for item in items), run.record.get("data", {}).get("splits")
            if told and dict(counts) != {split: count for split, count in told.items() if count}:
                raise ValueError(f"{len(items)} photos, not the {sum(told.values())} of run.json")
            return items
        except (TypeError, ValueError, csv.Error) as error:
            raise InputError(f"expected the photos of a run in '{file}', one a line with {', '.join(Item._fields)}, but it is damaged ({error!r:.80}); "
                             "put the right one back or train again with --overwrite") from error
