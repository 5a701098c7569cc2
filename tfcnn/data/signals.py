"""`load_signals`: series from anything `read_series` takes, split, as a `Dataset`."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tfcnn.data.arrange import Found, arrange, check_examples, check_split, like_text
from tfcnn.data.dataset import Dataset
from tfcnn.data.read import Read, content_digest
from tfcnn.data.series import ENDINGS, Series, check_series, read_series
from tfcnn.data.sources import Example, Source
from tfcnn.errors import InputError
from tfcnn.files import found_files
from tfcnn.record import Run

KIND = "signal"
LEAST_VARIANCE = 1e-12  # of a channel that never changes: it is not scaled up

logger = logging.getLogger(__name__)


def load_signals(source: Any, *, split: tuple[float, float, float] | None = (0.7, 0.1, 0.2), seed: int = 0, folds: int | None = None, fold: int = 0,
                 like: Run | str | Path | None = None, facts: Mapping[str, Any] | None = None) -> Dataset:
    """Time series with their labels in three stratified splits.

    Series without any value, or with infinite ones, are left out and listed in `Dataset.quarantined`, and so are equal series under two
    labels; equal series land in one split. A source with splits of its own keeps them; the validation split is drawn from its training series.

    Args:
        source: what `tfcnn.data.series.read_series` takes: a folder with NAME_TRAIN.ts and NAME_TEST.ts, a `.ts`, a CSV, an `.npz`, or arrays.
        split: fractions of train, validation and test; None draws nothing and puts series without a split into the test split.
        seed: of the split.
        folds: number of folds of a cross-validation; the test split is then fold number `fold`.
        fold: from 0 to below `folds`.
        like: a run whose series keep their splits.
        facts: of a run that the series are to be like: they get its number of steps.

    Returns:
        A `Dataset` whose `inputs` are float32 (n, steps, channels), NaN behind the end of a shorter series and where a value is missing. Its
        `input_shape` is (steps, channels), or (None, channels) where the series are of different lengths.

    Raises:
        InputError: a source that cannot be used, fewer than two labels, or a label with too few series.
    """
    known = check_split(split, folds, fold, like)
    found = source if isinstance(source, Found) else look(source)
    if split is not None:
        check_examples(found.source, folds)
    arranged = arrange(found.source, found.reads, split=split, seed=seed, folds=folds, fold=fold, known=known)
    values, channels = [found.contents[read.example.path] for read in arranged.reads], found.facts["channels"]
    inputs, lengths = _padded(values, channels), {len(own) for own in values}
    arguments = {"split": split and list(split), "seed": seed, "folds": folds, "fold": fold,
                 "like": like_text(like), "kind": KIND}
    data = Dataset(inputs=inputs, items=arranged.items, labels=arranged.labels, input_shape=(lengths.pop() if len(lengths) == 1 else None, channels),
                   geometry=KIND, source=found.source.name, quarantined=arranged.quarantined, leaks=arranged.leaks, arguments=arguments, kind=KIND)
    return _like_a_run(data, facts) if facts is not None else replace(data, facts=_facts(data))


def look(source: Any) -> Found:
    """The series of a source, before they are split."""
    name, found = read_series(source)
    channels = check_series(found, name)
    reads = [_read(series) for series in found]
    values = {read.example.path: _whole(series.values) for read, series in zip(reads, found, strict=True)}
    opened = Source(name, lambda: iter(()), tuple(read.example for read in reads), len(reads), kind=KIND)
    constant = tuple(path for path, own in values.items() if len(own) and all(len(np.unique(one[~np.isnan(one)])) < 2 for one in own.T))
    lacking = tuple(path for path, own in values.items() if np.isnan(own).any())
    notes = {name: paths for name, paths in (("constant", constant), ("with_missing_values", lacking)) if paths}
    return Found(opened, reads, values, {"channels": channels}, notes)


def read_files(inputs: Sequence[str | Path], shape: tuple[int | None, ...], facts: Mapping[str, Any]) -> tuple[list[str], Callable]:
    """The series of files, whether they have labels or not, and (range of rows) → for each its values, or None and why it cannot be used."""
    found = [series for path in found_files(inputs, ENDINGS, "a file of series", "files of series") for series in read_series(path, labelled=False)[1]]
    if not found:
        raise InputError(f"expected series in '{inputs[0]}', found none")
    values = [_whole(series.values) for series in found]

    def one(row: int):
        name, own, (steps, channels) = found[row].name, values[row], shape
        longest = steps or max(map(len, values))
        if own.shape[1] != channels:
            return None, f"{name}: {own.shape[1]} channels, the network takes {channels}"
        if not len(own) or np.isinf(own).any() or len(own) > longest:
            return None, f"{name}: {_fault(own) or f'{len(own)} steps, the network takes {longest} at most'}"
        return np.pad(own, ((0, longest - len(own)), (0, 0)), constant_values=np.nan), None

    return [series.name for series in found], lambda rows: [one(row) for row in rows]


def _facts(data: Dataset) -> dict[str, Any]:
    steps, channels = data.input_shape
    known = channel_statistics(data) if len(data.rows("train")) else {}
    return {"steps": steps, "channels": channels, **{name: values.tolist() for name, values in known.items()}}


def _like_a_run(data: Dataset, facts: Mapping[str, Any]) -> Dataset:
    """Series of the number of steps that a network takes; shorter ones are padded, which changes nothing."""
    steps, channels = facts["steps"], facts["channels"]
    if data.input_shape[-1] != channels:
        raise InputError(f"expected series of {channels} channels as the run was trained on, got {data.input_shape[-1]}")
    longest = data.inputs.shape[1]
    if steps is not None and longest > steps:
        raise InputError(f"expected series of at most {steps} steps, which the network of the run takes, got {longest}; cut them, or train on longer ones")
    inputs = data.inputs if steps is None else np.pad(data.inputs, ((0, 0), (0, steps - longest), (0, 0)), constant_values=np.nan)
    return replace(data, inputs=inputs, input_shape=(steps, channels), facts=dict(facts))


def channel_statistics(data: Dataset) -> dict[str, np.ndarray]:
    """`mean` and `variance` of each channel over the training series, for `build_network`; a channel that never changes has the variance 1."""
    rows = data.inputs[data.rows("train")].reshape(-1, data.input_shape[-1]).astype(np.float64)
    if not len(rows):
        raise InputError("expected training series, got none; load the data with a split")
    there = np.isfinite(rows)
    count = np.maximum(there.sum(axis=0), 1)
    mean = np.where(there, rows, 0).sum(axis=0) / count
    variance = np.where(there, (rows - mean) ** 2, 0).sum(axis=0) / count
    return {"mean": mean, "variance": np.where(variance > LEAST_VARIANCE, variance, 1.0)}


def _read(series: Series) -> Read:
    values = _whole(series.values)
    reason = _fault(values)
    example = Example(series.name, series.label, series.split, series.group)
    return Read(example, "" if reason else content_digest(values), reason, None, values.nbytes)


def _fault(values: np.ndarray) -> str:
    """Why a series cannot be used, or ""."""
    return "no values" if not len(values) else "infinite values" if np.isinf(values).any() else ""


def _whole(values: np.ndarray) -> np.ndarray:
    """Without the steps at the end that have no value."""
    there = np.flatnonzero(~np.isnan(values).all(axis=1))
    return values[:there[-1] + 1 if len(there) else 0]


def _padded(series: Sequence[np.ndarray], channels: int) -> np.ndarray:
    """float32 (n, longest, channels) with NaN behind the end of shorter ones."""
    values = np.full((len(series), max(map(len, series)), channels), np.nan, np.float32)
    for row, one in enumerate(series):
        values[row, :len(one)] = one
    return values
