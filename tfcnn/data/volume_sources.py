"""`open_volumes`: where volumes come from, and what each is before it is read; `.npz` files and arrays, or files of `volume_files.py`."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfcnn.data.arrays import pairs_of, parts_of
from tfcnn.data.sources import Example, Source, label_text, open_source
from tfcnn.data.volume_files import ENDINGS, NIFTI, SLICES, Measured, ending_of, measure, rows_of_npz, shapes_of_npz
from tfcnn.errors import InputError, first_line, is_plain

KIND = "volume"
KEPT = (np.uint8, np.int8, np.int16, np.uint16)  # types of arrays that are kept on disk as they are


@dataclass(frozen=True)
class Volumes:
    """Where volumes come from.

    Attributes:
        source: their examples.
        contents: what each is read from: files, or () for those of arrays.
        arrays: each array, one by one; of files nothing.
        measured: what each is before it is read, or why it cannot be used.
        dtype: what rows are kept as.
    """

    source: Source
    contents: tuple[tuple[str, ...], ...]
    arrays: Callable[[], Iterator[np.ndarray]] | None
    measured: tuple[Measured | str, ...]
    dtype: np.dtype


def open_volumes(source: Any, group_by: str | None = None) -> Volumes:
    """What `load_volumes` takes, nothing read yet but headers.

    Raises:
        InputError: another source, or one that cannot be used.
    """
    is_text = isinstance(source, (str, os.PathLike))
    if is_text and str(source).lower().endswith(".npz"):
        return _of_arrays(os.path.abspath(source), _npz_parts(source))
    if isinstance(source, dict) or (isinstance(source, tuple) and len(source) == 2 and getattr(source[0], "ndim", 0) >= 2):
        return _of_arrays("", {split: _pair(part) for split, part in parts_of(source).items()})
    return _of_files(open_source(source, group_by=group_by))


def _of_files(opened: Source) -> Volumes:
    if opened.examples is None or opened.shape is not None:
        raise InputError(f"expected volumes as files or arrays, got '{opened.name}'; give a folder of class folders, a CSV, an .npz, or (volumes, labels)")
    volumes: dict[tuple, list[str]] = {}
    for example in opened.examples:
        place = Path(example.path).parent
        if ending_of(example.path) in SLICES:
            if place.name == example.label:
                raise InputError(f"expected a folder for the slices of each volume, got slices in the class folder '{place}'; move those of each volume "
                                 "into a folder of its own")
            volumes.setdefault((example._replace(path=str(place)),), []).append(example.path)
        else:
            volumes.setdefault((example,), []).append(example.path)
    examples, contents = tuple(example for example, in volumes), tuple(map(tuple, volumes.values()))
    check_nibabel(contents)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        measured = tuple(pool.map(lambda files: tried(lambda: _measured(files)), contents))
    source = Source(opened.name, lambda: iter(()), examples, len(examples), kind=KIND)
    return Volumes(source, contents, None, measured, np.dtype(np.float32))


def _measured(files: tuple[str, ...]) -> Measured:
    if not ending_of(files[0]):
        raise InputError(f"no volume: expected {', '.join(ENDINGS)} or a folder of slices")
    return measure(files)


def check_nibabel(contents: Sequence[tuple[str, ...]]) -> None:
    """Raises InputError where files need an extra that is not installed."""
    if any(ending_of(files[0]) in NIFTI for files in contents):
        try:
            import nibabel  # noqa: F401
        except ImportError as error:
            raise InputError(f"expected nibabel to read NIfTI files, but {error}; install it with pip install 'tfcnn[volume]'") from error


def _npz_parts(path: str | Path) -> dict[str, tuple]:
    """By split: (shape of its volumes, their type, an iterator over them, labels)."""
    try:
        shapes = shapes_of_npz(path)
        pairs = pairs_of(list(shapes), str(path))
        with np.load(path, allow_pickle=False) as file:
            labels = {split: file[targets] for split, (_, targets) in pairs.items()}
    except InputError:
        raise
    except Exception as error:  # zip files break in many ways
        raise InputError(f"expected arrays without pickled objects in '{path}', but it cannot be read ({type(error).__name__}: {error})") from error
    return {split: (*shapes[images], lambda name=images: rows_of_npz(path, name), labels[split]) for split, (images, _) in pairs.items()}


def _pair(part: Any) -> tuple:
    if not (isinstance(part, tuple) and len(part) == 2):
        raise InputError(f"expected (volumes, labels) for each split, got {type(part).__name__}")
    values = np.asarray(part[0])
    return values.shape, values.dtype, lambda: iter(values), part[1]


def _of_arrays(name: str, parts: Mapping[str, tuple]) -> Volumes:
    examples, measured = [], []
    for split, (shape, dtype, _, labels) in parts.items():
        if len(shape) not in (4, 5) or dtype.kind not in "uifb":
            raise InputError(f"expected volumes as numbers of shape (n, depth, height, width), perhaps with channels behind, got {dtype} of shape={shape}")
        labels = np.asarray(labels)
        labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels  # as MedMNIST has them
        if labels.ndim != 1 or len(labels) != shape[0]:
            raise InputError(f"expected one label a volume, got {shape[0]} volumes and labels of shape={labels.shape}")
        for row, label in enumerate(labels.tolist()):
            text = label_text(label)
            if not text.strip() or not is_plain(text):
                raise InputError(f"expected labels of one line with something in them, got {text!a} in row {row}")
            examples.append(Example(f"{name or 'array'}/{split}/{row}" if split else f"{name or 'array'}/{row}", text, split))
            measured.append(Measured(tuple(shape[1:4]), shape[4] if len(shape) == 5 else 1, None))
    types = {np.dtype(part[1]) for part in parts.values()}
    dtype = types.pop() if len(types) == 1 and types <= set(map(np.dtype, KEPT)) else np.dtype(np.float32)
    source = Source(name, lambda: iter(()), tuple(examples), len(examples), kind=KIND)
    return Volumes(source, ((),) * len(examples), lambda: (row for part in parts.values() for row in part[2]()), tuple(measured), dtype)


def tried(work: Callable):
    """What it gives, or in one line why not: readers raise nearly anything on a broken file."""
    try:
        return work()
    except MemoryError:
        raise
    except InputError as error:
        return str(error)
    except Exception as error:
        return f"cannot be read: {first_line(error)}"
