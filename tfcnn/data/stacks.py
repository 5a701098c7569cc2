"""Stacks of pictures, which volumes and videos are: where they come from, each read once and kept on disk, and those of a prediction.

A `Form` says what is different about a kind: the files it is read from, and what their headers say.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfcnn.data.arrays import pairs_of, parts_of
from tfcnn.data.dataset import Dataset
from tfcnn.data.npz import rows_of_npz, shapes_of_npz
from tfcnn.data.pictures import PICTURES, in_order
from tfcnn.data.read import PART_BYTES, Read, content_digest
from tfcnn.data.sources import Example, Source, label_text, open_source
from tfcnn.data.store import Store, cache_bound, cache_folder, trim_cache
from tfcnn.errors import InputError, first_line, is_plain
from tfcnn.kinds import KINDS
from tfcnn.progress import stage

KEPT = (np.uint8, np.int8, np.int16, np.uint16)  # types of arrays that are kept on disk as they are
AT_ONCE = 16  # stacks whose statistics are taken together


class Form(NamedTuple):
    """How stacks of one kind are read.

    Attributes:
        kind: a name of `tfcnn.kinds.KINDS`.
        pictures: what the pictures of one are called, "slices" or "frames"; `axis`: what their axis is called.
        endings: of files that hold a whole one.
        measure: (the files of one, in any order) → what their headers say, with a `shape` of three sides and `channels`.
        measured: (shape, channels) of a row of an array → the same.
        check: (the files of each) raises InputError where an extra is missing.
        dtype: what the rows of files are kept as.
    """

    kind: str
    pictures: str
    axis: str
    endings: tuple[str, ...]
    measure: Callable
    measured: Callable
    check: Callable
    dtype: type


@dataclass(frozen=True)
class Stacks:
    """Where stacks come from.

    Attributes:
        source: their examples.
        contents: what each is read from: files, or () for those of arrays.
        arrays: each array, one by one; of files nothing.
        measured: what each is before it is read, or why it cannot be used.
        dtype: what rows are kept as.
        form: how they are read.
    """

    source: Source
    contents: tuple[tuple[str, ...], ...]
    arrays: Callable[[], Iterator[np.ndarray]] | None
    measured: tuple[Any, ...]
    dtype: np.dtype
    form: Form

    def usable(self) -> list:
        """What is known of those that can be used so far.

        Raises:
            InputError: there are none.
        """
        good = [found for found in self.measured if not isinstance(found, str)]
        if not good:
            where = f" in '{self.source.name}'" if self.source.name else ""
            raise InputError(f"expected {KINDS[self.source.kind].many}{where}, but none of {len(self.measured)} can be used; the first: {self.measured[0]}")
        return good


def open_stacks(source: Any, form: Form, group_by: str | None = None) -> Stacks:
    """What a loader takes, nothing read yet but headers.

    Raises:
        InputError: another source, or one that cannot be used.
    """
    is_text = isinstance(source, (str, os.PathLike))
    if is_text and str(source).lower().endswith(".npz"):
        return _of_arrays(os.path.abspath(source), _npz_parts(source), form)
    if isinstance(source, dict) or (isinstance(source, tuple) and len(source) == 2 and getattr(source[0], "ndim", 0) >= 2):
        return _of_arrays("", {split: _pair(part, form) for split, part in parts_of(source).items()}, form)
    return _of_files(open_source(source, group_by=group_by), form)


def ending_of(path: str | Path, form: Form) -> str:
    """That of a form's endings or of pictures which a name has, or ""."""
    name = str(path).lower()
    return next((ending for ending in (*form.endings, *PICTURES) if name.endswith(ending)), "")


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


def keep(opened: Stacks, name: str, shape: Sequence[int], bring: Callable) -> tuple[Store, list[Read]]:
    """A store with every stack that can be used, and what became of each.

    Args:
        name: of the store's folder below that of all stacks of the kind; of everything that rows depend on besides their content.
        shape: of a row.
        bring: (files, array or None, dtype) → a row.
    """
    trim_cache(cache_bound())
    many = KINDS[opened.source.kind].many
    store = Store(cache_folder() / many / f"{name}-{opened.dtype.name}")
    arrays = opened.arrays() if opened.arrays else iter([None] * len(opened.contents))
    rows = list(zip(opened.source.examples, opened.contents, opened.measured, strict=True))
    together = max(1, PART_BYTES // (opened.dtype.itemsize * int(np.prod(shape))))
    reads: list[Read] = []

    def one(files, array):
        values = bring(files, array, opened.dtype)
        if values.shape != tuple(shape):  # rows of a store are alike
            raise InputError(f"shape {values.shape}, not {tuple(shape)}")
        return values

    with stage(f"read {len(rows)} {many}", len(rows)) as advance, ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(rows), together):
            part = [(*row, next(arrays)) for row in rows[start:start + together]]
            fresh: dict[str, np.ndarray] = {}
            for read, values in pool.map(lambda row: _read(*row, store, opened.form, one), part):
                reads.append(read)
                if values is not None and read.digest not in store:
                    fresh[read.digest] = values
                advance()
            if fresh:
                store.add(list(fresh), list(fresh.values()))
    return store, reads


def files_reader(inputs: Sequence[str | Path], form: Form, bring: Callable) -> tuple[list[str], Callable]:
    """The stacks that are named or lie in folders, and (range of rows) → for each its row by `bring`, or None and why it cannot be read."""
    if wrong := next((type(path).__name__ for path in inputs if not isinstance(path, (str, os.PathLike))), None):
        raise InputError(f"expected files, or one array of {KINDS[form.kind].many}, got a list with {wrong}; give np.stack of them")
    stacks = [files for path in inputs for files in _below(Path(path), form)]
    form.check(stacks)
    names = [files[0] if ending_of(files[0], form) in form.endings else str(Path(files[0]).parent) for files in stacks]

    def one(row: int):
        values = tried(lambda: bring(stacks[row], None, np.float32))
        return (None, f"{names[row]}: {values}") if isinstance(values, str) else (values, None)

    def read(rows):
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(one, rows))

    return names, read


def channel_statistics(data: Dataset, lowest: float = -np.inf, highest: float = np.inf) -> dict[str, list[float]]:
    """`mean` and `variance` of each channel over the training stacks, within a window of intensities."""
    rows = data.rows("train")
    count, total, squares = 0, 0.0, 0.0
    for start in range(0, len(rows), AT_ONCE):
        values = np.clip(data.inputs[rows[start:start + AT_ONCE]].astype(np.float64), lowest, highest)
        count += values[..., 0].size
        total, squares = total + values.sum(axis=(0, 1, 2, 3)), squares + (values**2).sum(axis=(0, 1, 2, 3))
    mean = total / count
    variance = squares / count - mean**2
    return {"mean": mean.tolist(), "variance": np.where(variance > 1e-12 * (1 + mean**2), variance, 1.0).tolist()}


def _of_files(opened: Source, form: Form) -> Stacks:
    row = KINDS[form.kind]
    if opened.examples is None or opened.shape is not None:
        raise InputError(f"expected {row.many} as files or arrays, got '{opened.name}'; give a folder of class folders, a CSV, an .npz, or "
                         f"({row.many}, labels)")
    stacks: dict[tuple, list[str]] = {}
    for example in opened.examples:
        place = Path(example.path).parent
        if ending_of(example.path, form) in PICTURES:
            if place.name == example.label:
                raise InputError(f"expected a folder for the {form.pictures} of each {row.one}, got {form.pictures} in the class folder '{place}'; "
                                 f"move those of each {row.one} into a folder of its own")
            stacks.setdefault((example._replace(path=str(place)),), []).append(example.path)
        else:
            stacks.setdefault((example,), []).append(example.path)
    examples, contents = tuple(example for example, in stacks), tuple(map(tuple, stacks.values()))
    form.check(contents)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        measured = tuple(pool.map(lambda files: tried(lambda: _measured(files, form)), contents))
    source = Source(opened.name, lambda: iter(()), examples, len(examples), kind=form.kind)
    return Stacks(source, contents, None, measured, np.dtype(form.dtype), form)


def _measured(files: tuple[str, ...], form: Form):
    if not ending_of(files[0], form):
        raise InputError(f"no {KINDS[form.kind].one}: expected {', '.join(form.endings)} or a folder of {form.pictures}")
    return form.measure(files)


def _npz_parts(path: str | Path) -> dict[str, tuple]:
    """By split: (shape of its stacks, their type, an iterator over them, labels)."""
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


def _pair(part: Any, form: Form) -> tuple:
    if not (isinstance(part, tuple) and len(part) == 2):
        raise InputError(f"expected ({KINDS[form.kind].many}, labels) for each split, got {type(part).__name__}")
    values = np.asarray(part[0])
    return values.shape, values.dtype, lambda: iter(values), part[1]


def _of_arrays(name: str, parts: Mapping[str, tuple], form: Form) -> Stacks:
    examples, measured, row = [], [], KINDS[form.kind]
    for split, (shape, dtype, _, labels) in parts.items():
        if len(shape) not in (4, 5) or dtype.kind not in "uifb":
            raise InputError(f"expected {row.many} as numbers of shape (n, {form.axis}, height, width), perhaps with channels behind, got {dtype} of "
                             f"shape={shape}")
        if not shape[0]:
            raise InputError(f"expected {row.many}, got none{f' in the {split} split' if split else ''}: shape={shape}")
        labels = np.asarray(labels)
        labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels  # as MedMNIST has them
        if labels.ndim != 1 or len(labels) != shape[0]:
            raise InputError(f"expected one label a {row.one}, got {shape[0]} {row.many} and labels of shape={labels.shape}")
        known = tried(lambda shape=shape: form.measured(tuple(shape[1:4]), shape[4] if len(shape) == 5 else 1))
        for number, label in enumerate(labels.tolist()):
            text = label_text(label)
            if not text.strip() or not is_plain(text):
                raise InputError(f"expected labels of one line with something in them, got {text!a} in row {number}")
            examples.append(Example(f"{name or 'array'}/{split}/{number}" if split else f"{name or 'array'}/{number}", text, split))
            measured.append(known)
    types = {np.dtype(part[1]) for part in parts.values()}
    dtype = types.pop() if len(types) == 1 and types <= set(map(np.dtype, KEPT)) else np.dtype(np.float32)
    source = Source(name, lambda: iter(()), tuple(examples), len(examples), kind=form.kind)
    return Stacks(source, ((),) * len(examples), lambda: (row for part in parts.values() for row in part[2]()), tuple(measured), dtype, form)


def _read(example: Example, files: tuple[str, ...], measured: Any, array: np.ndarray | None, store: Store, form: Form,
          bring: Callable) -> tuple[Read, np.ndarray | None]:
    """What is known of one stack, and what it holds where the store lacks it."""
    if isinstance(measured, str):
        return Read(example, "", measured, None, 0), None
    try:
        size = array.nbytes if array is not None else sum(os.path.getsize(file) for file in files)
        digest = content_digest(array) if array is not None else _files_digest(files, form)
    except OSError as error:
        return Read(example, "", first_line(error), None, 0), None
    if digest in store:
        return Read(example, digest, "", None, size), None
    values = tried(lambda: bring(files, array))
    return (Read(example, "", values, None, size), None) if isinstance(values, str) else (Read(example, digest, "", None, size), values)


def _files_digest(files: tuple[str, ...], form: Form) -> str:
    """SHA-256 of a file, or of those of pictures in their order; files may be larger than memory."""
    digests = []
    for file in in_order(files, form.pictures) if files[0].lower().endswith(PICTURES) else files:
        with open(file, "rb") as content:
            digests.append(hashlib.file_digest(content, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else content_digest(" ".join(digests).encode())


def _below(path: Path, form: Form) -> Iterator[tuple[str, ...]]:
    """The files of each stack that is named, or lies in a folder."""
    wanted = f"{', '.join(form.endings)} or a folder of {form.pictures}"
    one = KINDS[form.kind].one
    if not path.exists():
        raise InputError(f"expected a {one}, but there is no '{path}'; check the path")
    if path.is_file():
        if ending_of(path, form) not in form.endings:
            raise InputError(f"expected a {one} as {wanted}, got '{path}'")
        yield (str(path),)
        return
    own = sorted(str(file) for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    pictures = [file for file in own if ending_of(file, form) in PICTURES]
    found = [(file,) for file in own if ending_of(file, form) in form.endings]
    if pictures:
        yield tuple(pictures)
    yield from found
    below = [files for folder in sorted(path.iterdir()) if folder.is_dir() and not folder.name.startswith(".") for files in _quietly(folder, form)]
    yield from below
    if not pictures and not found and not below:
        raise InputError(f"expected a {one} as {wanted} in '{path}', found none")


def _quietly(folder: Path, form: Form) -> list[tuple[str, ...]]:
    try:
        return list(_below(folder, form))
    except InputError:
        return []
