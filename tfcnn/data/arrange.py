"""Which examples of a source are used, and which split each is in; the same for every kind of data."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from tfcnn.data.dataset import Item, Quarantined, splits_by_content
from tfcnn.data.duplicates import connected
from tfcnn.data.read import Read
from tfcnn.data.sources import Source, sort_labels
from tfcnn.data.split import SPLITS, check_count, check_folds, check_fractions, complete_splits, fold_examples, split_examples
from tfcnn.errors import InputError
from tfcnn.kinds import IMAGE, KINDS, said_of
from tfcnn.record import Run, load_run

logger = logging.getLogger(__name__)


class Arranged(NamedTuple):
    """What becomes of the examples of a source.

    Attributes:
        reads: those that are used.
        items: an item for each of them.
        labels: class names.
        quarantined: those that are left out.
        leaks: how many are in more than one of the splits that the source came with.
    """

    reads: list[Read]
    items: tuple[Item, ...]
    labels: tuple[str, ...]
    quarantined: tuple[Quarantined, ...]
    leaks: int


class Found(NamedTuple):
    """What a source of another kind than photos holds.

    Attributes:
        source: of the examples.
        reads: all of them.
        contents: what each that can be used holds, by its path.
        facts: of all of them, as far as they are known before they are split.
        notes: paths by what is unusual about them.
        alike: a text for each path, equal for near copies; empty where they are not looked for.
    """

    source: Source
    reads: list[Read]
    contents: dict[str, Any]
    facts: Mapping[str, Any] = MappingProxyType({})
    notes: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    alike: Mapping[str, str] = MappingProxyType({})


def arrange(source: Source, reads: list[Read], *, near: Callable = lambda reads: [], split, seed: int, folds: int | None = None, fold: int = 0,
            known: Mapping[str, str] | None = None) -> Arranged:
    """Leaves out what cannot be used and what stands under two labels, and splits the rest with copies in one split.

    Args:
        source: of the examples.
        reads: all of them.
        near: (reads that are used) → pairs of rows that have to stay together besides copies.
        split: fractions of train, validation and test; None draws nothing.
        seed, folds, fold: as `load_images` takes them.
        known: the split of contents that a run has, under their SHA-256.

    Raises:
        InputError: fewer than two classes, or a class with too few examples.
    """
    with said_of(source.kind):
        return _arrange(source, reads, near, split, seed=seed, folds=folds, fold=fold, known=known)


def _arrange(source: Source, reads: list[Read], near: Callable, split, *, seed: int, folds: int | None, fold: int, known) -> Arranged:
    good, quarantined = sort_out(reads, source.kind)
    _check_good(source, reads, good, quarantined, draws=split is not None)
    labels, digests = [r.example.label for r in good], [r.digest for r in good]
    names = sort_labels(labels)
    if len(names) < 2 and split is not None:  # to measure a model, photos of one class will do
        raise InputError(f"expected at least two classes, found {len(names)}: {', '.join(names)}")
    groups = group_reads(good, near(good))
    leaks = _count_leaks(groups, [r.example.split for r in good], source.kind)
    splits = split_reads(good, groups, split=split, seed=seed, folds=folds, fold=fold, known=known)
    items = tuple(Item(r.example.path, label, part, digest) for r, label, part, digest in zip(good, labels, splits, digests, strict=True))
    return Arranged(good, items, names, quarantined, leaks)


def near_of(found: Found) -> Callable:
    """For `arrange`: pairs of rows of near copies."""
    def pairs(reads: list[Read]) -> list[tuple[int, int]]:
        first: dict[str, int] = {}
        return [(first.setdefault(found.alike[read.example.path], row), row) for row, read in enumerate(reads) if read.example.path in found.alike]

    return pairs


def check_split(split, folds: int | None, fold: int, like: Run | str | Path | None) -> dict[str, str]:
    """Raises InputError for arguments of a split that cannot be followed; gives the split of each content of the run `like`."""
    if split is not None:
        check_fractions(split)
    if folds is not None:
        check_folds(folds, fold)
    if folds is not None and split is None:
        raise InputError(f"expected fractions for a cross-validation, got folds={folds} with split=None")
    return check_like(like, folds)


def check_examples(source: Source, folds: int | None = None) -> None:
    """Raises InputError for one class alone, or one with too few files to be split, where the files are known before they are read."""
    _check_kind(source)
    with said_of(source.kind):
        _check_examples(source, folds)


def _check_kind(source: Source) -> None:
    """Raises InputError for a source of photos that holds files of another kind alone, as where `--kind` was forgotten."""
    if source.kind != IMAGE or not source.examples:
        return
    paths = [example.path for example in source.examples]
    name = next((name for name, row in KINDS.items() if row.endings and all(path.lower().endswith(row.endings) for path in paths)), None)
    if name:
        raise InputError(f"expected photos in '{source.name}', found {KINDS[name].many}, such as '{Path(paths[0]).name}'; give --kind {name}")


def _check_examples(source: Source, folds: int | None) -> None:
    if source.examples is None:
        return
    labels = {example.label for example in source.examples}
    if len(labels) == 1:
        where = f" in '{source.name}'" if source.name else ""
        raise InputError(f"expected photos of at least two classes{where}, found those of one class ('{labels.pop()}'); add another class")
    if any(example.split for example in source.examples):
        if folds is not None:
            raise InputError(f"expected data without splits of its own for a cross-validation, got folds={folds}; remove its splits")
    else:
        for label, count in Counter(example.label for example in source.examples).items():
            check_count(label, count, max(folds or 0, len(SPLITS)))


def check_like(like: Run | str | Path | None, folds: int | None) -> dict[str, str]:
    """The split of each photo of the run that is to be followed, under its SHA-256; empty if there is none.

    Raises:
        InputError: no such run, one without a split, or one together with folds.
    """
    if like is None:
        return {}
    if folds is not None:
        raise InputError(f"expected either folds or a run whose split is followed, got folds={folds} and like='{like}'")
    run = like if isinstance(like, Run) else load_run(like)
    known = splits_by_content(run)
    if not known:
        raise InputError(f"expected a run with a split, but '{run.path}' has no items.csv; its training was not completed")
    return known


def like_text(like: Run | str | Path | None) -> str | None:
    """The folder of the run that is followed, for a record."""
    return str(like.path if isinstance(like, Run) else like) if like is not None else None


def sort_out(reads: list[Read], kind: str = IMAGE) -> tuple[list[Read], tuple[Quarantined, ...]]:
    """What can be used, and what cannot: unreadable photos, and photos that stand under two labels."""
    places: dict[str, dict[str, str]] = {}
    for read in reads:
        if read.digest:
            places.setdefault(read.digest, {}).setdefault(read.example.label, read.example.path)
    good, quarantined = [], []
    for read in reads:
        others = {label: path for label, path in places.get(read.digest, {}).items() if label != read.example.label}
        if others:
            label, path = next(iter(others.items()))
            said = f"contradiction: the same {KINDS[kind].one} is labelled '{read.example.label}' here and '{label}' in {path}"
            quarantined.append(Quarantined(read.example.path, said))
        elif read.reason:
            quarantined.append(Quarantined(read.example.path, read.reason))
        else:
            good.append(read)
    return good, tuple(quarantined)


def first_rows(reads: list[Read]) -> dict[str, int]:
    """The first row of each content."""
    first: dict[str, int] = {}
    for row, read in enumerate(reads):
        first.setdefault(read.digest, row)
    return first


def group_reads(reads: list[Read], pairs: list[tuple[int, int]]) -> np.ndarray:
    """A number for each example: copies, the near copies in `pairs`, and examples that the source groups, share one."""
    first = first_rows(reads)
    leader: dict[str, int] = {}
    joined = pairs + [(first[read.digest], row) for row, read in enumerate(reads)]
    joined += [(leader.setdefault(read.example.group, row), row) for row, read in enumerate(reads) if read.example.group]
    return connected(len(reads), joined)


def split_reads(reads: list[Read], groups: np.ndarray, *, split, seed: int = 0, folds: int | None = None, fold: int = 0,
                known: Mapping[str, str] | None = None) -> list[str]:
    """The split of each example; raises InputError where a class cannot be in all of them."""
    digests, labels, given = [r.digest for r in reads], [r.example.label for r in reads], [r.example.split for r in reads]
    if split is None:
        splits = [part or "test" for part in given]
    elif folds is not None:
        splits = fold_examples(digests, labels, folds=folds, fold=fold, fractions=split, seed=seed, groups=groups)
    elif known:
        found = sum(digest in known for digest in digests)
        if not found:
            raise InputError(f"expected photos of the run to be followed among the {len(digests)} photos, found none; give another run, or leave like out")
        logger.info("%d of the %d photos keep the split of the run", found, len(digests))
        stored = [known.get(digest, part) for digest, part in zip(digests, given, strict=True)]
        splits = split_examples(digests, labels, fractions=split, seed=seed, groups=groups, known=stored)
    elif any(given):
        splits = complete_splits(given, digests, labels, fractions=split, seed=seed, groups=groups)
    else:
        splits = split_examples(digests, labels, fractions=split, seed=seed, groups=groups)
    if split is not None:
        for label in sort_labels(set(labels) - {label for label, part in zip(labels, splits, strict=True) if part == "train"}):
            raise InputError(f"expected training photos of every class, found none of '{label}'; add photos or remove the class")
        for part in SPLITS[1:]:
            if part not in splits:
                raise InputError(f"expected photos in the {part} split, found none; add photos or give other fractions")
    return splits


def _check_good(source: Source, reads: list[Read], good: list[Read], quarantined: tuple[Quarantined, ...], *, draws: bool) -> None:
    if reads and not good:
        raise InputError(f"expected photos in '{source.name}', but none of its {len(reads)} files can be used; "
                         f"the first: {quarantined[0].path}: {quarantined[0].reason}")
    if draws:
        for label in sort_labels({read.example.label for read in reads} - {read.example.label for read in good}):
            check_count(label, 0)


def _count_leaks(groups: np.ndarray, given: list[str], kind: str) -> int:
    """How many photos (with their copies) are in more than one of the splits that a source came with; says so."""
    splits: dict[int, set[str]] = {}
    for group, part in zip(groups, given, strict=True):
        splits.setdefault(int(group), set()).add(part)
    leaks = sum(len(parts) > 1 for parts in splits.values())
    if leaks:
        logger.warning("%d %s or their copies are in more than one of the splits that the data came with, so its test is too good; "
                       "'tfcnn audit' names them", leaks, KINDS[kind].many)
    return leaks
