"""`load_images`: photos from a folder or from arrays, decoded once, split, as a `Dataset`."""

import csv
import errno
import hashlib
import io
import os
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tfcnn.data.dataset import Dataset, Item, Quarantined
from tfcnn.data.sources import check_arrays, list_class_folders, sort_labels
from tfcnn.data.split import check_count, check_fractions, split_examples
from tfcnn.data.store import Store, cache_folder
from tfcnn.errors import InputError
from tfcnn.progress import stage
from tfcnn.record import Run

GEOMETRY = "stretch"  # what MediaPipe Tasks does on a phone: to the input size, the aspect ratio is not kept
DECODER = 1  # raised when a photo is decoded to other pixels than before, so that old stores are not read
PIXELS = f"{GEOMETRY}-{DECODER}"  # how files become pixels; part of the key of everything that is computed from them
PART_BYTES = 2**26  # pixels in one part of the store: what a killed process loses at most


def load_images(source, *, image_size: int = 224, split: tuple[float, float, float] | None = (0.7, 0.1, 0.2), seed: int = 0,
                seconds: dict[str, float] | None = None) -> Dataset:
    """Photos with their labels in three stratified splits.

    Each file is decoded once, with its EXIF orientation applied, stretched to `image_size` and kept in an on-disk store
    that later runs read. Files that cannot be decoded are left out and listed in `Dataset.quarantined`.

    Args:
        source: a folder with one folder a class, or a tuple (images, targets) of arrays: images (n, height, width, 3) with
            pixels 0-255, already of equal size, and one target or label an image.
        image_size: height and width in pixels that files are resized to.
        split: fractions of train, validation and test; None puts everything into the test split.
        seed: of the split.
        seconds: receives the time of each stage.

    Raises:
        InputError: no such folder, fewer than two classes, or a class with fewer than three readable photos.
    """
    if not isinstance(image_size, int) or not 8 <= image_size <= 2048:
        raise InputError(f"expected an image size from 8 to 2048 pixels, got image_size={image_size}")
    if split is not None:
        check_fractions(split)
    arguments = {"image_size": image_size, "split": split and list(split), "seed": seed}
    if isinstance(source, tuple):
        if len(source) != 2:
            raise InputError(f"expected a folder or a tuple (images, targets), got a tuple of {len(source)}")
        inputs, labels = check_arrays(*source)
        digests = [hashlib.sha256(image.tobytes()).hexdigest() for image in inputs]
        return _assemble(inputs, [f"array/{row}" for row in range(len(labels))], labels, digests, arguments)
    examples = list_class_folders(os.path.abspath(source))
    if split is not None:
        for label, count in Counter(example.label for example in examples).items():
            check_count(label, count)
    with stage("decode photos", len(examples), seconds) as advance:
        digests, quarantined, store = _decode_all([e.path for e in examples], image_size, advance)
    good = [row for row, digest in enumerate(digests) if digest is not None]
    if not good:
        raise InputError(f"expected photos in '{source}', but none of its {len(examples)} files can be decoded; "
                         f"the first: {quarantined[0].path}: {quarantined[0].reason}")
    for label in sort_labels({e.label for e in examples} - {examples[row].label for row in good}):
        check_count(label, 0)
    digests = [digests[row] for row in good]
    return _assemble(store.rows(digests), [str(examples[row].path) for row in good], [examples[row].label for row in good],
                     digests, arguments, source=os.path.abspath(source), quarantined=tuple(quarantined))


def decode_photo(file: str | Path | BinaryIO, image_size: int) -> np.ndarray:
    """One photo as uint8 (image_size, image_size, 3): upright, on white where it is transparent, stretched to the square."""
    from PIL import Image, ImageOps

    with Image.open(file) as image:
        image.load()  # a truncated file fails here, not somewhere later
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16"):  # Pillow would clip at 255
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("RGB").resize((image_size, image_size), Image.Resampling.BILINEAR)
        return np.asarray(image)


def _assemble(inputs, paths, labels, digests, arguments, source="", quarantined=()) -> Dataset:
    names = sort_labels(labels)
    fractions = arguments["split"]
    splits = split_examples(digests, labels, fractions=tuple(fractions), seed=arguments["seed"]) if fractions else ["test"] * len(labels)
    items = tuple(Item(*row) for row in zip(paths, labels, splits, digests, strict=True))
    if len(names) < 2:
        raise InputError(f"expected at least two classes, found {len(names)}: {', '.join(names)}")
    return Dataset(inputs=inputs, items=items, labels=names, input_shape=tuple(inputs.shape[1:]), source=source,
                   quarantined=quarantined, arguments=arguments)


def _decode_all(paths: Sequence[Path], image_size: int, advance) -> tuple[list[str | None], list[Quarantined], Store]:
    """Digest of each file (None where it cannot be decoded), what was left out, and the store that holds the rest."""
    store = Store(cache_folder() / "photos" / f"{PIXELS}-{image_size}")
    digests: list[str | None] = []
    quarantined: list[Quarantined] = []
    part_size = max(1, PART_BYTES // (3 * image_size**2))
    with ThreadPoolExecutor(os.cpu_count()) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a damaged EXIF block is worth a warning to Pillow; the pixels are whole
        for start in range(0, len(paths), part_size):
            part = paths[start:start + part_size]
            fresh: dict[str, np.ndarray] = {}

            def read(path):
                return _digest_and_decode(path, image_size, store)

            for path, (digest, pixels, reason) in zip(part, pool.map(read, part), strict=True):
                digests.append(None if reason else digest)
                if reason:
                    quarantined.append(Quarantined(str(path), reason))
                elif pixels is not None:
                    fresh[digest] = pixels
                advance()
            if fresh:
                store.add(list(fresh), np.stack(list(fresh.values())))
    return digests, quarantined, store


def _digest_and_decode(path: Path, image_size: int, store: Store) -> tuple[str, np.ndarray | None, str]:
    """(digest, pixels or None when they are stored already, reason for leaving the file out or '')."""
    try:
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        return digest, None if digest in store else decode_photo(io.BytesIO(content), image_size), ""
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on a broken file
        if isinstance(error, OSError) and error.errno not in (None, errno.EACCES, errno.EPERM, errno.ENOENT):
            raise  # the machine's trouble, not the file's: a lost network drive, too many open files
        return "", None, f"{type(error).__name__}: {_reason(error)}"


def _reason(error: Exception) -> str:
    """Pillow names the object it read from, which says nothing to a user."""
    return re.sub(r" <_io\.BytesIO[^>]*>", "", str(error))


def load_run_data(run: Run) -> Dataset:
    """The photos that a run was trained on, each in the split it was in.

    Raises:
        InputError: the run was trained on arrays, or its photos are missing or changed.
    """
    if not run.record["data"]["source"]:
        raise InputError(f"expected data, since '{run.path}' was trained on arrays in memory; in Python, give the data set as the second argument")
    if not (run.path / "items.csv").exists():
        raise InputError(f"expected a finished run in '{run.path}', but its training was not completed; finish it with --resume")
    with open(run.path / "items.csv", newline="", encoding="utf-8") as file:
        items = tuple(Item(**row) for row in csv.DictReader(file))
    missing = [item.path for item in items if not Path(item.path).exists()]
    if missing:
        raise InputError(f"expected the {len(items)} photos that the run was trained on, but {len(missing)} are missing, "
                         f"the first: {missing[0]}; put them back or give a data set")
    with stage("read photos", len(items)) as advance:
        digests, _, store = _decode_all([Path(item.path) for item in items], run.record["input_shape"][0], advance)
    changed = [item.path for item, digest in zip(items, digests, strict=True) if item.sha256 != digest]
    if changed:
        raise InputError(f"expected the photos that the run was trained on, but {len(changed)} changed since, "
                         f"the first: {changed[0]}; put them back or give a data set")
    inputs = store.rows([item.sha256 for item in items])
    return Dataset(inputs=inputs, items=items, labels=tuple(run.labels), input_shape=tuple(run.record["input_shape"]),
                   source=run.record["data"]["source"], arguments=run.record["data"]["arguments"])
