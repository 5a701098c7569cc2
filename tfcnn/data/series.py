"""Where series come from: `.ts` files of the UCR and UEA archives, CSV, `.npz` and arrays; each series is float32 (steps, channels)."""

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

import numpy as np

from tfcnn.data.arrays import parts_of
from tfcnn.data.sources import label_text
from tfcnn.data.split import SPLIT_NAMES
from tfcnn.errors import InputError, is_plain

FLAGS = ("timestamps", "missing", "univariate", "equallength")  # of the header of a .ts file, true or false
NOT_VALUES = ("label", "split", "group", "series")  # columns of a CSV that hold no values
ENDINGS = (".ts", ".csv", ".npz")
LONGEST_SAID = 120  # characters of what stands where a number should
PATTERN = {"train": "*_TRAIN.ts", "test": "*_TEST.ts"}  # how the archives name the two files of a set


class Series(NamedTuple):
    """One series: `values` float32 (steps, channels), NaN where one is missing; the label, and the split and group that its source names, or ""."""

    name: str
    values: np.ndarray
    label: str
    split: str = ""
    group: str = ""


def read_series(source: Any, *, labelled: bool = True) -> tuple[str, list[Series]]:
    """(what opens the source again, its series).

    Args:
        source: a folder with NAME_TRAIN.ts and NAME_TEST.ts; a `.ts` file; a CSV; an `.npz` with x and y, or x_train, y_train, x_test and y_test;
            in Python (series, labels), where the series are an array (n, steps) or (n, steps, channels), or a list of arrays (steps,) or
            (steps, channels) of different lengths; or a dict of such pairs by split.

            A CSV has a column label, perhaps split and group, and a series a line with its values in the other columns, from left to right; or,
            with a column series that numbers or names them, a step a line with a column for each channel. An empty cell is a missing value.
        labelled: False takes a CSV or an `.npz` without labels too; they are "" then.

    Raises:
        InputError: none of these, or one that cannot be read.
    """
    if isinstance(source, (str, os.PathLike)):
        path = os.path.abspath(source)
        return path, list(_read_path(Path(path), labelled=labelled))
    parts = parts_of(source)
    for name, part in parts.items():
        if not (isinstance(part, tuple) and len(part) == 2):
            raise InputError(f"expected (series, labels){' for each split' if name else ''}, got {type(part).__name__}; give a path, a pair or a dict of pairs")
    return "", [series for name, part in parts.items() for series in _of_arrays(part[0], part[1], "array", name)]


def _read_path(path: Path, *, labelled: bool) -> Iterator[Series]:
    if not path.exists():
        raise InputError(f"expected series, but there is no '{path}'; check the path")
    if path.is_dir():
        yield from _read_archive(path)
    elif path.suffix.lower() == ".ts":
        yield from read_ts(path)
    elif path.suffix.lower() == ".csv":
        yield from _read_csv(path, labelled=labelled)
    elif path.suffix.lower() == ".npz":
        yield from _read_npz(path, labelled=labelled)
    else:
        raise InputError(f"expected a folder with .ts files, a .ts, a .csv or an .npz, got '{path}'")


def _read_archive(folder: Path) -> Iterator[Series]:
    for split, pattern in PATTERN.items():
        found = sorted(folder.glob(pattern))
        if len(found) != 1:
            raise InputError(f"expected one {pattern} in '{folder}', found {len(found)}; give a folder as the UCR and UEA archives have it, or a file")
        yield from (series._replace(split=split) for series in read_ts(found[0]))


def read_ts(path: Path) -> Iterator[Series]:
    """The series of a `.ts` file, one a line: channels with ':' between them, values with ',', the label last, '?' for what is missing.

    Raises:
        InputError: a broken header or line.
    """
    header: dict[str, list[str]] = {}
    with open(path, encoding="utf-8", errors="replace") as lines:
        numbered = ((number, line.strip()) for number, line in enumerate(lines, start=1))
        numbered = ((number, line) for number, line in numbered if line and not line.startswith(("#", "%")))
        for number, line in numbered:
            key, *values = line.split()
            if not key.startswith("@"):
                raise InputError(f"expected lines that begin with @ before @data in '{path}', got '{line:.40}' in line {number}; the header is broken")
            if key.lower() == "@data":
                break
            header[key[1:].lower()] = values
        else:
            raise InputError(f"expected a line @data in '{path}', found none; the header is broken")
        labels = _check_header(path, header)
        for number, line in numbered:
            *channels, label = line.split(":")
            if not channels or label.strip() not in labels:
                raise InputError(f"expected values and one of the labels {', '.join(labels)} at the end of line {number} of '{path}', got '{line[-40:]}'")
            yield Series(f"{path}/{number}", _joined([_numbers(text.split(","), path, number) for text in channels]), label.strip())


def _check_header(path: Path, header: Mapping[str, Sequence[str]]) -> list[str]:
    """The labels of a `.ts` file."""
    for name in FLAGS:
        if [value.lower() for value in header.get(name, ["false"])] not in (["true"], ["false"]):
            raise InputError(f"expected @{name} true or false in '{path}', got '{' '.join(header[name])}'; the header is broken")
    if header.get("timestamps", ["false"])[0].lower() == "true":
        raise InputError(f"expected series without times of their own in '{path}', got @timeStamps true; sample them at equal steps first")
    flag, *labels = header.get("classlabel", ["false"])
    if flag.lower() != "true" or len(set(labels)) < 2:
        raise InputError(f"expected @classLabel true and at least two labels in '{path}', got '{' '.join([flag, *labels])}'; a series needs a label")
    return labels


def _numbers(texts: Sequence[str], path: Path, line: int) -> np.ndarray:
    try:
        return np.array([float(text) if text.strip() not in ("?", "", "NaN") else np.nan for text in texts], np.float32)
    except ValueError as error:
        said = shorten(str(error), LONGEST_SAID, placeholder=" ...")
        raise InputError(f"expected numbers in line {line} of '{path}', but: {said}") from error


def _joined(channels: Sequence[np.ndarray]) -> np.ndarray:
    """(steps, channels) of channels that may end earlier than others."""
    values = np.full((max(map(len, channels)), len(channels)), np.nan, np.float32)
    for number, channel in enumerate(channels):
        values[:len(channel), number] = channel
    return values


def _read_csv(path: Path, *, labelled: bool) -> Iterator[Series]:
    with open(path, newline="", encoding="utf-8-sig", errors="replace") as lines:
        reader = csv.reader(lines)
        names = next(reader, [])
        if (labelled and "label" not in names) or not names or len(set(names)) < len(names):
            raise InputError(f"expected a column label and each column once in '{path}', found {', '.join(names)[:200] or 'nothing'}")
        values = [place for place, name in enumerate(names) if name not in NOT_VALUES]
        if not values:
            raise InputError(f"expected columns with values besides label in '{path}', found {', '.join(names)}")
        column = {name: names.index(name) for name in NOT_VALUES if name in names}
        rows: dict[str, list] = {}
        for number, row in enumerate(reader, start=2):
            if not row:
                continue
            if len(row) != len(names):
                raise InputError(f"expected {len(names)} cells in line {number} of '{path}', got {len(row)}")
            told = {name: row[place].strip() for name, place in column.items()}
            if told.get("split") and told["split"].lower() not in SPLIT_NAMES:
                raise InputError(f"expected train, validation or test in the column split of '{path}', got '{told['split']}' in line {number}")
            rows.setdefault(told.get("series", str(number)), []).append((number, told, _numbers([row[place] for place in values], path, number)))
    for name, steps in rows.items():
        _, told, first = steps[0]
        other = next((number for number, also, _ in steps if also != told), None)
        if other:
            raise InputError(f"expected one label, split and group for the series '{name}' of '{path}', but line {other} says another")
        array = np.stack([step for _, _, step in steps]) if "series" in column else first[:, None]
        yield Series(f"{path}/{name}", array, told.get("label", ""), SPLIT_NAMES.get(told.get("split", "").lower(), ""), told.get("group", ""))


def _read_npz(path: Path, *, labelled: bool) -> Iterator[Series]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name.lower(): file[name] for name in file.files}
    except Exception as error:  # zip files break in many ways
        raise InputError(f"expected arrays without pickled objects in '{path}', but it cannot be read ({type(error).__name__}: {error})") from error
    pairs = [(f"x{end}", f"y{end}", SPLIT_NAMES.get(end[1:], "")) for end in ("", "_train", "_validation", "_val", "_test") if f"x{end}" in arrays]
    missing = [y for _, y, _ in pairs if y not in arrays] if labelled else []
    if not pairs or missing:
        raise InputError(f"expected the arrays x and y, or x_train, y_train, x_test and y_test in '{path}', found {', '.join(arrays) or 'none'}")
    for x, y, split in pairs:
        yield from _of_arrays(arrays[x], arrays.get(y, np.full(len(arrays[x]), "")), str(path), split)


def _of_arrays(values, labels, name: str, split: str) -> Iterator[Series]:
    labels = np.asarray(labels)
    if isinstance(values, np.ndarray) and values.ndim not in (2, 3):
        raise InputError(f"expected series as an array (n, steps) or (n, steps, channels), got shape={values.shape}")
    if labels.ndim != 1 or len(labels) != len(values):
        raise InputError(f"expected one label a series, got {len(values)} series and labels of shape={labels.shape}")
    for row, (one, label) in enumerate(zip(values, labels.tolist(), strict=True)):
        one = np.asarray(one)
        if one.ndim not in (1, 2) or one.dtype.kind not in "uif":
            raise InputError(f"expected numbers of shape (steps,) or (steps, channels) for a series, got {one.dtype} of shape={one.shape} in row {row}")
        text = label_text(label)
        yield Series(f"{name}/{split}/{row}" if split else f"{name}/{row}", np.asarray(one if one.ndim == 2 else one[:, None], np.float32), text, split)


def check_series(found: Sequence[Series], name: str) -> int:
    """How many channels the series of a source have; raises InputError where they differ, or for a label that cannot be one."""
    if not found:
        raise InputError(f"expected series in '{name}', found none")
    counts = {series.values.shape[1]: series.name for series in found}
    if len(counts) > 1:
        (one, first), (other, second), *_ = counts.items()
        raise InputError(f"expected series of one number of channels, got {one} in {first} and {other} in {second}")
    wrong = next((series for series in found if not series.label.strip() or not is_plain(series.label)), None)
    if wrong:
        raise InputError(f"expected labels of one line with something in them, got {wrong.label!a} in {wrong.name}")
    return next(iter(counts))
