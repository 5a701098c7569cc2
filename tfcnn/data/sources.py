"""Where examples come from: a folder of class folders, or arrays in memory."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfcnn.errors import InputError, is_plain


class Example(NamedTuple):
    """One file and the label it stands under."""

    path: Path
    label: str


def list_class_folders(folder: str | Path) -> list[Example]:
    """Every file below `folder/LABEL/`, in an order that does not depend on the file system.

    Hidden files and folders are left out; whether a file is a photo is found out when it is decoded.

    Raises:
        InputError: no such folder, no class folders in it, or only one class.
    """
    folder = Path(folder)
    if not folder.exists():
        raise InputError(f"expected a folder of class folders, but there is no '{folder}'; check the path")
    if not folder.is_dir():
        raise InputError(f"expected a folder of class folders, but '{folder}' is a file; give the folder that holds one folder a class")
    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not classes:
        raise InputError(f"expected one folder a class in '{folder}', found none; put the photos of each class into a folder named after it")
    files = {c.name: _files(c) for c in classes}
    empty = [name for name, found in files.items() if not found]
    if empty:
        raise InputError(f"expected photos in every class folder of '{folder}', found none in '{empty[0]}'; add photos or remove the folder")
    if len(classes) < 2:
        raise InputError(f"expected photos of at least two classes in '{folder}', found files of one class ('{classes[0].name}'); add another class folder")
    for path in [path for found in files.values() for path in found]:
        if not is_plain(str(path)):
            raise InputError(f"expected file names of one line in UTF-8, got {str(path)!a}; rename it")
    return [Example(path, name) for name, found in files.items() for path in found]


def _files(folder: Path) -> list[Path]:
    hidden = lambda path: any(part.startswith(".") for part in path.relative_to(folder).parts)
    return sorted(p for p in folder.rglob("*") if p.is_file() and not hidden(p))


def sort_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """The different labels in the order of their targets: whole numbers by value, so that 10 comes after 9; names by letters."""
    different = set(labels)
    return tuple(sorted(different, key=(lambda label: (int(label), label)) if all(label.isdecimal() for label in different) else None))


def check_arrays(images, targets) -> tuple[np.ndarray, list[str]]:
    """Photos as uint8 (n, height, width, 3) and one label a photo, from arrays.

    Raises:
        InputError: another rank, number of channels, range or length.
    """
    images, targets = np.asarray(images), np.asarray(targets)
    if images.ndim != 4 or images.shape[-1] != 3:
        raise InputError(f"expected images of shape (n, height, width, 3), got shape={images.shape}; repeat a grey channel three times")
    if targets.ndim == 2 and targets.shape[1] == 1:  # as keras.datasets gives CIFAR
        targets = targets[:, 0]
    if targets.ndim != 1:
        raise InputError(f"expected one target an image, got targets of shape={targets.shape}; give one-hot targets as targets.argmax(axis=1)")
    if len(images) != len(targets):
        raise InputError(f"expected one target an image, got {len(images)} images and {len(targets)} targets")
    if images.dtype != np.uint8:
        low, high = (float(images.min()), float(images.max())) if images.size else (0.0, 0.0)
        if not (low >= 0 and 1 < high <= 255):
            raise InputError(f"expected pixels from 0 to 255, got {images.dtype} from {low:g} to {high:g}; scale them to 0-255 first")
        images = np.round(images).astype(np.uint8)
    return images, [str(target) for target in targets]
