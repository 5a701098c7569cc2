"""Photos that are pixels already: arrays, `.npz` files and `tf.data`."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfcnn.data.sources import Example, Source, label_text
from tfcnn.data.split import SPLIT_NAMES
from tfcnn.errors import InputError, closest, is_plain
from tfcnn.kinds import hint_of

LOOKED_AT = 64  # images of a tf.data.Dataset after which a range of 0 to 1 is no accident
_SPLIT = "|".join(SPLIT_NAMES)
_KEY = re.compile(rf"(?:({_SPLIT})_)?(images|image|x|data|labels|label|y|targets|target)(?:_({_SPLIT}))?", re.IGNORECASE)


def open_arrays(source: Any, channels: int = 3) -> Source:
    """A tuple (images, targets), a `tf.data.Dataset` of (image, label), or a dict of either by split.

    Args:
        channels: 4 for images of four channels; otherwise they have three or one.

    Raises:
        InputError: another rank, dtype, range or length.
    """
    parts = parts_of(source)
    if all(hasattr(part, "element_spec") for part in parts.values()):
        return _open_tf_data(parts, channels)
    for part in parts.values():
        if not (isinstance(part, tuple) and len(part) == 2):
            raise InputError(f"expected (images, targets) or a tf.data.Dataset for each split, got {type(part).__name__}")
    return _from_memory("", {split: check_arrays(*part, channels=channels) for split, part in parts.items()})


def parts_of(source: Any) -> dict[str, Any]:
    """What a dict has for each split, under the names of ours, or all of it under "".

    Raises:
        InputError: another key, or a split twice.
    """
    parts = source if isinstance(source, Mapping) else {"": source}
    for name in parts:
        if parts is source and str(name).lower() not in SPLIT_NAMES:
            raise InputError(f"expected train, validation and test as keys of the data, got '{name}'; {closest(name, ('train', 'validation', 'test'))}")
    if len({SPLIT_NAMES.get(str(name).lower(), "") for name in parts}) < len(parts):
        raise InputError(f"expected each split once in the data, got {', '.join(map(str, parts))}")
    return {SPLIT_NAMES.get(str(name).lower(), ""): part for name, part in parts.items()}


def open_npz(path: str, channels: int = 3) -> Source:
    """An `.npz` with images and labels, x and y, or one pair a split such as x_train and y_train or train_images and train_labels.

    Raises:
        InputError: other keys, or arrays that are no photos.
    """
    try:
        with open(path, "rb") as content, np.load(content, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # zip files break in many ways
        raise InputError(f"expected arrays without pickled objects in '{path}', but it cannot be read ({type(error).__name__}: {error})") from error
    pairs = pairs_of(list(arrays), path)
    names = next(([_label(name, None) for name in arrays[key]] for key in ("label_names", "class_names") if key in arrays), None)
    return _from_memory(path, {split: check_arrays(arrays[images], arrays[targets], names, channels=channels) for split, (images, targets) in pairs.items()})


def pairs_of(names: Sequence[str], path: str) -> dict[str, tuple[str, str]]:
    """By split, or under "" for all: the keys of an `.npz` that hold images and targets.

    Raises:
        InputError: other keys.
    """
    pairs: dict[str, dict[str, str]] = {}
    for name in names:
        match = _KEY.fullmatch(name)
        if match:
            kind = "images" if match[2].lower() in ("images", "image", "x", "data") else "targets"
            pair = pairs.setdefault(SPLIT_NAMES.get((match[1] or match[3] or "").lower(), ""), {})
            if kind in pair:
                raise InputError(f"expected the {kind} of each split once in '{path}', found {', '.join(names)}")
            pair[kind] = name
    if not pairs or any(len(pair) < 2 for pair in pairs.values()) or ("" in pairs and len(pairs) > 1):
        raise InputError(f"expected the keys images and labels (or x and y, or x_train, y_train, x_test, y_test) in '{path}', found {', '.join(names)}"
                         f"{hint_of(names)}")
    return {split: (pair["images"], pair["targets"]) for split, pair in pairs.items()}


def check_arrays(images, targets, names: list[str] | None = None, *, channels: int = 3) -> tuple[np.ndarray, list[str]]:
    """Photos (n, height, width, 3 or 1, or 4 where they are asked for) with pixels 0-255 and one label a photo, from arrays.

    Raises:
        InputError: another rank, number of channels, dtype, range or length.
    """
    given = type(images).__name__
    try:
        images, targets = np.asarray(images), np.asarray(targets)
    except ValueError as error:  # lists of unequal lengths
        raise InputError("expected images of one size and one target an image, got rows of different shapes; give files, or a tf.data.Dataset") from error
    if not images.ndim:
        raise InputError(f"expected an array of images, or a list of paths, got {given}; give a list of what it holds")
    if images.ndim == 3 and targets.ndim and len(images) == len(targets):
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in _counts(channels):
        raise InputError(_other_shape(images.shape, channels, batch="n, "))
    if targets.ndim == 2 and targets.shape[1] == 1:  # as keras.datasets gives CIFAR
        targets = targets[:, 0]
    if targets.ndim != 1:
        raise InputError(f"expected one target an image, got targets of shape={targets.shape}; give one-hot targets as targets.argmax(axis=1)")
    if len(images) != len(targets):
        raise InputError(f"expected one target an image, got {len(images)} images and {len(targets)} targets")
    if images.dtype.kind not in "uif":
        raise InputError(f"expected pixels as numbers from 0 to 255, got dtype={images.dtype}")
    low, high = (images.min(), images.max()) if images.size else (0, 0)
    _check_range(low, high, images.dtype)
    if names is not None and (targets.dtype.kind not in "ui" or not set(targets.tolist()) <= set(range(len(names)))):
        raise InputError(f"expected whole targets from 0 to {len(names) - 1} for {len(names)} label names, got {targets.dtype}; leave the names out")
    labels = [names[target] if names else _label(np.asarray(target), None) for target in targets.tolist()]
    for label in set(labels):
        if not label.strip() or not is_plain(label):
            raise InputError(f"expected labels of one line with something in them, got {label!a}; rename it")
    return images, labels


def _counts(channels: int) -> tuple[int, ...]:
    """How many channels an image may come with; grey ones become RGB."""
    return (4,) if channels == 4 else (1, 3)


def _other_shape(shape: tuple[int, ...], channels: int, *, batch: str = "", where: str = "") -> str:
    """What to say of images that have another number of channels, or none."""
    wanted = f"({batch}height, width, 4) with channels=4" if channels == 4 else f"({batch}height, width, 3), or grey ones without the 3"
    advice = "; to train on four channels, give channels=4" if channels != 4 and shape[-1] == 4 else ""
    return f"expected images of shape {wanted}, got shape={shape}{where}{advice}"


def _check_range(low, high, dtype) -> None:
    low, high = float(low), float(high)
    if 0 <= low < high <= 1:
        raise InputError(f"expected pixels from 0 to 255, got {np.dtype(dtype)} from {low:g} to {high:g}, which look like 0 to 1; multiply them by 255")
    if not (low >= 0 and high <= 255):
        raise InputError(f"expected pixels from 0 to 255, got {np.dtype(dtype)} from {low:g} to {high:g}; scale them to 0-255 first")


def _from_memory(name: str, parts: dict[str, tuple[np.ndarray, list[str]]]) -> Source:
    shapes = {(*images.shape[1:3], max(3, images.shape[-1])) for images, _ in parts.values()}
    rows = [(split, row) for split, (images, _) in parts.items() for row in range(len(images))]
    examples = tuple(Example(f"{name or 'array'}/{split}/{row}" if split else f"{name or 'array'}/{row}", parts[split][1][row], split) for split, row in rows)

    def read() -> Iterator[tuple[Example, np.ndarray]]:
        for example, (split, row) in zip(examples, rows, strict=True):
            yield example, _to_bytes(parts[split][0][row])

    return Source(name, read, examples, len(examples), shape=shapes.pop() if len(shapes) == 1 else None)


def _to_bytes(pixels: np.ndarray) -> np.ndarray:
    """uint8 (height, width, 3 or 4) from numbers 0-255; one channel becomes three equal ones."""
    if pixels.dtype != np.uint8:
        pixels = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels


def _open_tf_data(parts: dict[str, Any], channels: int) -> Source:
    counts, shapes = [], set()
    for dataset in parts.values():
        spec = dataset.element_spec
        if isinstance(spec, dict) and {"image", "label"} <= set(spec):
            spec = (spec["image"], spec["label"])
        if not (isinstance(spec, tuple) and len(spec) == 2 and all(hasattr(part, "shape") for part in spec)):
            raise InputError(f"expected a tf.data.Dataset of (image, label), got elements {dataset.element_spec}")
        rank = spec[0].shape.rank
        if rank not in (None, 3, 4):
            raise InputError(f"expected images of rank 3, or 4 in batches, got a tf.data.Dataset of {spec[0]}")
        if not (spec[0].dtype.is_integer or spec[0].dtype.is_floating):
            raise InputError(f"expected pixels as numbers from 0 to 255, got a tf.data.Dataset of {spec[0].dtype.name}")
        count = int(dataset.cardinality())
        if count == -1:
            raise InputError("expected a tf.data.Dataset that ends, got one that repeats for ever; remove .repeat()")
        counts.append(count if rank == 3 and count >= 0 else None)
        shapes.add(tuple(spec[0].shape[-3:]) if rank else ())

    def read() -> Iterator[tuple[Example, np.ndarray]]:
        for split, dataset in parts.items():
            names = getattr(dataset, "class_names", None)
            for row, (image, label) in enumerate(_in_range(_single(dataset))):
                if image.ndim != 3 or image.shape[-1] not in _counts(channels):
                    raise InputError(_other_shape(image.shape, channels, where=f" in row {row} of the tf.data.Dataset"))
                yield Example(f"tf.data/{split}/{row}" if split else f"tf.data/{row}", _label(label, names), split), _to_bytes(image)

    shape = shapes.pop() if channels == 4 and len(shapes) == 1 else (None,)  # others may be resized, so their shape need not be known
    known = [count for count in counts if count is not None]
    return Source("", read, None, sum(known) if len(known) == len(counts) else None, shape=None if None in shape else shape)


def _single(dataset) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The examples of a dataset one by one, whether it comes in batches or not."""
    for element in dataset.as_numpy_iterator():
        image, label = (element["image"], element["label"]) if isinstance(element, dict) else element
        if np.ndim(image) == 4:
            yield from zip(np.asarray(image), np.asarray(label), strict=True)
        else:
            yield np.asarray(image), np.asarray(label)


def _in_range(examples) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same examples; raises InputError as soon as it is sure that their pixels are not from 0 to 255."""
    low, high, count, dtype = np.inf, -np.inf, 0, np.uint8
    for image, label in examples:
        low, high, dtype, count = np.minimum(low, image.min()), np.maximum(high, image.max()), image.dtype, count + 1  # which keep a NaN
        if not (low >= 0 and high <= 255) or count == LOOKED_AT:
            _check_range(low, high, dtype)
        yield image, label
    if count:
        _check_range(low, high, dtype)


def _label(label: np.ndarray, names: list[str] | None) -> str:
    if label.ndim == 1 and label.size > 1:
        if label.max() != 1 or label.sum() != 1:
            raise InputError(f"expected one label an image, a number, a text or one-hot, got {label.tolist()[:10]}")
        label = np.asarray(label.argmax())
    value = np.asarray(label).reshape(-1)[0].item()
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise InputError(f"expected labels as text in UTF-8, got {value!r}; decode them first") from None
    return names[int(value)] if names else label_text(value)
