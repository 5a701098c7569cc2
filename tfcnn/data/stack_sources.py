"""`open_stacks`: where stacks of pictures, which volumes and videos are, come from, and what each is before it is read.

A `Form` says what is different about a kind: the files it is read from, what their headers say, and what they become.
"""

import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfcnn.data.arrays import pairs_of, parts_of
from tfcnn.data.npz import rows_of_npz, shapes_of_npz
from tfcnn.data.pictures import PICTURES
from tfcnn.data.sources import Example, Source, label_text, open_source
from tfcnn.errors import InputError, first_line, is_plain
from tfcnn.kinds import KINDS

KEPT = (np.uint8, np.int8, np.int16, np.uint16)  # types of arrays that are kept on disk as they are


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
        shape: (facts) → that of a row; `name`: (facts) → of the store that rows are kept in, with everything that they depend on besides their content.
        bring: (files, array or None, dtype, facts) → a row.
    """

    kind: str
    pictures: str
    axis: str
    endings: tuple[str, ...]
    measure: Callable
    measured: Callable
    check: Callable
    dtype: type
    shape: Callable
    name: Callable
    bring: Callable


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


    def channels(self) -> int:
        """Of all that can be used.

        Raises:
            InputError: they differ.
        """
        found = sorted({measured.channels for measured in self.usable()})
        if len(found) > 1:
            raise InputError(f"expected {KINDS[self.source.kind].many} of one number of channels, got {' and '.join(map(str, found))}")
        return found[0]


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


def check_module(name: str, purpose: str, extra: str) -> None:
    """Raises InputError where a package of an extra is not installed."""
    try:
        importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"expected {name} {purpose}, but {error}; install it with pip install 'tfcnn[{extra}]'") from error


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
