"""Where examples come from: `open_source` takes anything a user has and gives one kind of thing back, a `Source`.

Arrays, `.npz` files and `tf.data` are read in `arrays.py`, tensorflow-datasets in `prepared.py`.
"""

import csv
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfcnn.data.split import SPLIT_NAMES, SPLITS
from tfcnn.errors import InputError, closest, is_plain
from tfcnn.kinds import IMAGE, hint_of

SHOWN = 5  # of the missing files


class Example(NamedTuple):
    """One example before its pixels are read.

    Attributes:
        path: of its file; where there is none, a name that tells the row of its source.
        label: class name.
        split: the split that the source puts it into, or "".
        group: what it must not be separated from (a patient, a camera), or "".
    """

    path: str
    label: str
    split: str = ""
    group: str = ""


@dataclass(frozen=True)
class Source:
    """Where examples come from.

    Attributes:
        name: what opens it again: a path or a `tfds:` name; empty for what lies in memory.
        read: each example with its content, in a fixed order: a path, the bytes of a file, or uint8 pixels (height, width, 3 or 4).
        examples: all of them, where they are known before anything is read.
        count: their number, where it is known.
        shape: (height, width, 3 or 4) of pixels that are of one size already.
        kind: of the examples, a name of `tfcnn.kinds.KINDS`.
    """

    name: str
    read: Callable[[], Iterator[tuple[Example, str | bytes | np.ndarray]]] = field(repr=False)
    examples: tuple[Example, ...] | None = field(default=None, repr=False)
    count: int | None = None
    shape: tuple[int, int, int] | None = None
    kind: str = IMAGE


def open_source(source: Any, *, group_by: str | None = None, data_dir: str | Path | None = None, channels: int = 3) -> Source:
    """What a user calls data, as a `Source`; nothing is decoded yet.

    Args:
        source: a folder of class folders (or of train, validation and test folders of class folders), a CSV with the columns
            path, label and perhaps split (paths relative to the file), an `.npz`, "tfds:NAME[/CONFIG][:VERSION]", a pandas
            frame with these columns, a tuple of paths and labels, a tuple of images and targets, a `tf.data.Dataset` of
            (image, label), or a dict of either by split.
        group_by: a column whose equal values must not be separated.
        data_dir: where tensorflow-datasets keeps its data.
        channels: 4 takes nothing but pixels of four channels (arrays, an `.npz`, `tf.data`); otherwise photos are read as RGB.

    Raises:
        InputError: none of these, or one that cannot be used.
    """
    is_text = isinstance(source, (str, os.PathLike))
    table = hasattr(source, "columns") or (is_text and str(source).lower().endswith(".csv"))
    if group_by is not None and not table:
        raise InputError(f"expected a CSV or a frame for group_by, since it names a column, got group_by='{group_by}' with {_describe(source)}")
    if data_dir is not None and not str(source).startswith("tfds:"):
        raise InputError(f"expected 'tfds:NAME' for data_dir, got data_dir='{data_dir}' with {_describe(source)}; leave it out")
    if channels == 4 and not _has_pixels(source):
        raise InputError(f"expected arrays, an .npz or a tf.data.Dataset with channels=4, since photos in files have three, got {_describe(source)}; "
                         "give one of these, or train on photos without channels=4")
    if is_text and str(source).startswith("tfds:"):
        from tfcnn.data.prepared import open_tfds

        return open_tfds(str(source), whole_path(data_dir))
    if is_text:
        return _open_path(os.path.abspath(source), group_by, channels)
    if hasattr(source, "columns"):
        if len(set(source.columns)) < len(list(source.columns)):
            raise InputError(f"expected each column once in the frame, got {', '.join(map(str, source.columns))}; rename one of them")
        columns = {name: list(source[name]) for name in source.columns}
        return files_source("", _examples(columns, "the frame", Path.cwd(), group_by))
    if isinstance(source, tuple) and len(source) == 2 and _are_paths(source[0]):
        paths, labels = list(source[0]), list(source[1]) if isinstance(source[1], Iterable) else []
        if len(paths) != len(labels):
            raise InputError(f"expected one label a path, got {len(paths)} paths and {len(labels)} labels")
        return files_source("", _examples({"path": paths, "label": labels}, "the list", Path.cwd(), None))
    if (isinstance(source, tuple) and len(source) == 2) or isinstance(source, dict) or hasattr(source, "element_spec"):
        from tfcnn.data.arrays import open_arrays

        return open_arrays(source, channels)
    raise InputError(f"expected photos, got {_describe(source)}; give a folder, a CSV, an .npz, 'tfds:NAME', a frame with the columns path and label, "
                     "(paths, labels), (images, targets) or a tf.data.Dataset of (image, label)")


def whole_path(path: str | Path | None) -> str | None:
    """The path from the root, so that a run finds its data from another folder; an address such as gs://bucket stays."""
    if path is None:
        return None
    return str(path) if "://" in str(path) else os.path.abspath(os.path.expanduser(path))


def _describe(source) -> str:
    if isinstance(source, (str, os.PathLike)):
        return f"'{source}'"
    return f"a tuple of {len(source)}" if isinstance(source, tuple) else f"{type(source).__module__}.{type(source).__name__}"


def _has_pixels(source) -> bool:
    """True for what may hold pixels rather than files: they alone can have four channels."""
    if isinstance(source, (str, os.PathLike)):
        return not str(source).startswith("tfds:") and str(source).lower().endswith(".npz")
    return not hasattr(source, "columns") and not (isinstance(source, tuple) and len(source) == 2 and _are_paths(source[0]))


def _are_paths(values) -> bool:
    return not isinstance(values, (str, bytes)) and isinstance(values, Collection) and not (isinstance(values, np.ndarray) and values.ndim != 1) and all(
        isinstance(value, (str, os.PathLike)) for value in values) and len(values) > 0


def _open_path(path: str, group_by: str | None, channels: int) -> Source:
    if path.lower().endswith(".csv") and os.path.isfile(path):
        return files_source(path, _read_csv(path, group_by))
    if path.lower().endswith(".npz") and os.path.isfile(path):
        from tfcnn.data.arrays import open_npz

        return open_npz(path, channels)
    return files_source(path, list_class_folders(path))


def files_source(name: str, examples: Sequence[Example]) -> Source:
    """A source of files: the content of an example is its path."""
    examples = tuple(examples)
    return Source(name, lambda: ((example, example.path) for example in examples), examples, len(examples))


def list_class_folders(folder: str | Path) -> list[Example]:
    """Every file below `folder/LABEL/` or `folder/SPLIT/LABEL/`, in an order that does not depend on the file system.

    Hidden files and folders are left out; whether a file is a photo is found out when it is decoded.

    Raises:
        InputError: no such folder, or no class folders in it.
    """
    folder = Path(folder)
    if not folder.exists():
        raise InputError(f"expected a folder of class folders, a CSV or an .npz, but there is no '{folder}'; check the path")
    if not folder.is_dir():
        raise InputError(f"expected a folder of class folders, a CSV or an .npz, but '{folder}' is a file; give the folder that holds one folder a class")
    classes = _folders(folder)
    splits = {c: SPLIT_NAMES.get(c.name.lower()) for c in classes}
    if not {"train", "test"} <= set(splits.values()) and not ("train" in splits.values() and all(splits.values())):
        return _list_classes(folder)
    others = [c.name for c, split in splits.items() if split is None]
    if others:
        raise InputError(f"expected train, validation and test folders or class folders in '{folder}', found both: {', '.join(c.name for c in classes)}; "
                         f"move {', '.join(others)} elsewhere")
    return [example._replace(split=split) for part, split in splits.items() if split for example in _list_classes(part)]


def _list_classes(folder: Path) -> list[Example]:
    classes = _folders(folder)
    if not classes:
        raise InputError(f"expected one folder a class in '{folder}', found none; put the photos of each class into a folder named after it")
    files = {c.name: _files(c) for c in classes}
    empty = [name for name, found in files.items() if not found]
    if empty:
        raise InputError(f"expected photos in every class folder of '{folder}', found none in '{empty[0]}'; add photos or remove the folder")
    examples = [Example(path, name) for name, found in files.items() for path in found]
    for example in examples:
        if not is_plain(example.path):
            raise InputError(f"expected file names of one line in UTF-8, got {example.path!a}; rename it")
    return examples


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _files(folder: Path) -> list[str]:
    found, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if os.path.realpath(place) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(os.path.realpath(place))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [os.path.join(place, name) for name in names if not name.startswith(".")]
    return sorted(path for path in found if os.path.isfile(path))


def _read_csv(path: str, group_by: str | None) -> list[Example]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:  # spreadsheets write a byte order mark
            reader = csv.DictReader(file)
            rows, names = list(reader), reader.fieldnames or []
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"expected a CSV in UTF-8 with commas, but '{path}' cannot be read ({error}); save it so") from error
    columns = {name: [row[name] if row[name] is not None else "" for row in rows] for name in names if name}
    return _examples(columns, f"'{path}'", Path(path).parent, group_by)


def _examples(columns: dict[str, list], where: str, base: Path, group_by: str | None) -> list[Example]:
    """Examples from the columns path, label and perhaps split and `group_by`; every row is checked."""
    for name in ("path", "label", *([group_by] if group_by else [])):
        if name not in columns:
            raise InputError(f"expected the column '{name}' in {where}, found {', '.join(map(str, columns)) or 'no columns'}"
                             f"{hint_of(columns) or '; ' + closest(name, columns)}")
    if not columns["path"]:
        raise InputError(f"expected at least one row in {where}, found none")
    for name in ("path", "label"):
        for row, value in enumerate(columns[name]):
            if not cell_text(value):
                raise InputError(f"expected a {name} in every row of {where}, found none in row {row + 1} after the header; fill it or remove the row")
    paths = [os.path.abspath(base / cell_text(path)) for path in columns["path"]]
    labels = [cell_text(label) for label in columns["label"]]
    splits = _splits(columns.get("split"), len(paths), where)
    groups = [cell_text(value) for value in columns[group_by]] if group_by else [""] * len(paths)
    missing = [path for path in dict.fromkeys(paths) if not os.path.isfile(path)]
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise InputError(f"expected the {len(set(paths))} files of {where}, but {len(missing)} cannot be found: {', '.join(missing[:SHOWN])}{more}; "
                         f"paths are relative to {base}")
    examples: dict[str, Example] = {}
    for example in map(Example, paths, labels, splits, groups):
        before = examples.setdefault(example.path, example)
        for what, is_now, was in (("label", example.label, before.label), ("split", example.split, before.split), (group_by, example.group, before.group)):
            if is_now != was:
                raise InputError(f"expected one {what} a file in {where}, but '{example.path}' has '{was}' and '{is_now}'; remove one of the rows")
        if not is_plain(example.path) or not is_plain(example.label):
            raise InputError(f"expected paths and labels of one line in UTF-8 in {where}, got {example.path!a}, {example.label!a}; rename it")
    return list(examples.values())


def label_text(label: Any) -> str:
    """A label of an array as text; a whole number is one whatever its type."""
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)


def cell_text(value) -> str:
    """A cell as text; "" for the many ways in which a frame says that there is nothing."""
    missing = value is None or (not isinstance(value, str) and str(value) in ("nan", "NaT", "<NA>"))
    return "" if missing else str(value).strip()


def _splits(values: Sequence | None, count: int, where: str) -> list[str]:
    if values is None:
        return [""] * count
    names = [cell_text(value) for value in values]
    if not any(names):
        return names
    for row, name in enumerate(names):
        if name.lower() not in SPLIT_NAMES:
            raise InputError(f"expected {', '.join(SPLITS)} in the column 'split' of {where}, got '{name}' in row {row + 1} after the header; "
                             "fill all rows or none")
    return [SPLIT_NAMES[name.lower()] for name in names]


def check_outside(output: str | Path, source: Any) -> None:
    """Raises InputError for an output folder that lies in the folder of the photos, where it would be taken for a class."""
    if isinstance(source, (str, os.PathLike)) and Path(source).is_dir() and Path(output).resolve().is_relative_to(Path(source).resolve()):
        raise InputError(f"expected an output folder outside of the photos, got '{output}' in '{source}'; give another --output")


def below(source: str, path: str) -> str:
    """The path as it stands below the source, which the reader knows."""
    base = source if os.path.isdir(source) else os.path.dirname(source)
    return os.path.relpath(path, base) if base and path.startswith(base + os.sep) else path


def sort_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """The different labels in the order of their targets: whole numbers by value, so that 10 comes after 9; names by letters."""
    different = set(labels)
    return tuple(sorted(different, key=(lambda label: (int(label), label)) if all(label.isdecimal() for label in different) else None))
