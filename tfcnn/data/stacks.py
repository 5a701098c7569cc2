"""What volumes and videos have in common once they are opened: each is read once and kept on disk, and those of a prediction are found and read."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tfcnn.data.arrange import Found, arrange, check_examples, like_text
from tfcnn.data.dataset import Dataset
from tfcnn.data.pictures import PICTURES, in_order
from tfcnn.data.read import PART_BYTES, Read, content_digest
from tfcnn.data.sources import Example
from tfcnn.data.stack_sources import Form, Stacks, ending_of, open_stacks, tried
from tfcnn.data.store import Store, cache_bound, cache_folder, trim_cache
from tfcnn.errors import InputError, first_line
from tfcnn.kinds import KINDS
from tfcnn.progress import stage
from tfcnn.record import Run, load_run

AT_ONCE = 16  # stacks whose statistics are taken together


def look_at(source: Any, form: Form, facts_of: Callable, *, group_by: str | None, folds: int | None, check: bool) -> Found:
    """The stacks of a source, brought to one form and kept on disk.

    Args:
        facts_of: (what was opened) → the facts that all are brought to.
        group_by, folds: see `load_images`; `check`: whether there have to be enough of each label for a split, which is said before they are read.
    """
    opened = open_stacks(source, form, group_by)
    if check:
        check_examples(opened.source, folds)
    facts = facts_of(opened)
    store, reads = keep(opened, facts)
    return Found(opened.source, reads, {"store": store}, facts)


def dataset_of(found: Found, form: Form, known: Mapping[str, str], options: Mapping[str, Any], *, split, seed: int, folds: int | None, fold: int,
               like: Run | str | Path | None, window: Sequence[float] = ()) -> Dataset:
    """The stacks that were found, in splits; with the statistics of the training ones among its facts where they are not known yet.

    Args:
        known: the splits of the run `like`, from `check_split`.
        options: what the loader takes besides, for the record.
        window: lowest and highest value that the statistics see; all if empty.
    """
    arranged = arrange(found.source, found.reads, split=split, seed=seed, folds=folds, fold=fold, known=known)
    given = {name: list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value for name, value in options.items()}
    arguments = {"split": split and list(split), "seed": seed, "folds": folds, "fold": fold, "like": like_text(like), "kind": form.kind, **given}
    data = Dataset(inputs=found.contents["store"].rows([read.digest for read in arranged.reads]), items=arranged.items, labels=arranged.labels,
                   input_shape=form.shape(found.facts), geometry=form.kind, source=found.source.name, quarantined=arranged.quarantined, leaks=arranged.leaks,
                   arguments=arguments, kind=form.kind, facts=dict(found.facts))
    if "mean" in data.facts or not len(data.rows("train")):
        return data
    return replace(data, facts={**data.facts, **channel_statistics(data, *window)})


def facts_of_run(like: Run | str | Path | None, kind: str, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """Of the run whose splits are followed: its stacks are known by what they hold in its form. None where there is no such run.

    Raises:
        InputError: something else was asked for beside it.
    """
    run = like if isinstance(like, Run) or like is None else load_run(like)
    if run is None or run.kind != kind:
        return None
    if any(value is not None for value in asked.values()):
        raise InputError(f"expected no {', '.join(asked)} beside a run that is followed, got "
                         f"{', '.join(f'{name}={value}' for name, value in asked.items())}; leave them out")
    return {name: value for name, value in run.facts.items() if name not in ("mean", "variance")}


def keep(opened: Stacks, facts: Mapping[str, Any]) -> tuple[Store, list[Read]]:
    """A store with every stack that can be used, and what became of each."""
    trim_cache(cache_bound())
    many, form, shape = KINDS[opened.source.kind].many, opened.form, opened.form.shape(facts)
    store = Store(cache_folder() / many / f"{form.name(facts)}-{opened.dtype.name}")
    arrays = opened.arrays() if opened.arrays else iter([None] * len(opened.contents))
    rows = list(zip(opened.source.examples or (), opened.contents, opened.measured, strict=True))
    together = max(1, PART_BYTES // (opened.dtype.itemsize * int(np.prod(shape))))
    reads: list[Read] = []

    def one(files, array):
        values = form.bring(files, array, opened.dtype, facts)
        if values.shape != shape:  # rows of a store are alike
            raise InputError(f"shape {values.shape}, not {shape}")
        return values

    with stage(f"read {len(rows)} {many}", len(rows)) as advance, ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(rows), together):
            part = [(*row, next(arrays)) for row in rows[start:start + together]]
            fresh: dict[str, np.ndarray] = {}
            for read, values in pool.map(lambda row: _read(row[0], row[1], row[2], row[3], store, form, one), part):
                reads.append(read)
                if values is not None and read.digest not in store:
                    fresh[read.digest] = values
                advance()
            if fresh:
                store.add(list(fresh), list(fresh.values()))
    return store, reads


def files_reader(inputs: Sequence[str | Path], form: Form, facts: Mapping[str, Any]) -> tuple[list[str], Callable]:
    """The stacks that are named or lie in folders, and (range of rows) → for each what it holds, or None and why it cannot be read."""
    if wrong := next((type(path).__name__ for path in inputs if not isinstance(path, (str, os.PathLike))), None):
        raise InputError(f"expected files, or one array of {KINDS[form.kind].many}, got a list with {wrong}; give np.stack of them")
    stacks = [files for path in inputs for files in _below(Path(path), form)]
    form.check(stacks)
    names = [files[0] if ending_of(files[0], form) in form.endings else str(Path(files[0]).parent) for files in stacks]

    def one(row: int):
        values = tried(lambda: form.bring(stacks[row], None, np.float32, facts))
        return (None, f"{names[row]}: {values}") if isinstance(values, str) else (values, None)

    def read(rows):
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(one, rows))

    return names, read


def channel_statistics(data: Dataset, lowest: float = -np.inf, highest: float = np.inf) -> dict[str, list[float]]:
    """`mean` and `variance` of each channel over the training stacks, within a window of intensities."""
    rows = data.rows("train")
    count, total, squares = 0, np.zeros(()), np.zeros(())
    for start in range(0, len(rows), AT_ONCE):
        values = np.clip(data.inputs[rows[start:start + AT_ONCE]].astype(np.float64), lowest, highest)
        count += values[..., 0].size
        total, squares = total + values.sum(axis=(0, 1, 2, 3)), squares + (values**2).sum(axis=(0, 1, 2, 3))
    mean = total / count
    variance = squares / count - mean**2
    return {"mean": mean.tolist(), "variance": np.where(variance > 1e-12 * (1 + mean**2), variance, 1.0).tolist()}


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
