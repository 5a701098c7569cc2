"""Which example is for training, which for validation, which for the test."""

import hashlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

import numpy as np

from tfcnn.data.duplicates import connected
from tfcnn.errors import InputError

SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {"train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
               "test": "test", "testing": "test"}


def split_examples(digests: Sequence[str], labels: Sequence[str], *, fractions: tuple[float, float, float] = (0.7, 0.1, 0.2), seed: int = 0,
                   groups: Sequence[int] | np.ndarray | None = None, known: Sequence[str] | None = None) -> list[str]:
    """The split of each example: stratified by label as far as groups allow, the same on every machine, a group never divided.

    Single examples of a label are ordered by sha256(seed, digest): the first go to the test split, the next to validation,
    the rest to training. Before them, each group of several goes, the largest first, where it disturbs the shares least.

    Args:
        digests: content digest of each example; equal digests are always one group.
        labels: label of each example.
        fractions: share of train, validation and test; they add up to 1.
        seed: another seed gives another split.
        groups: a number for each example; those with the same one stay together.
        known: the split of examples that have one already, "" for the others, which follow the known ones of their group.

    Raises:
        InputError: fractions that are not a split, or a label with fewer than three groups.
    """
    check_fractions(fractions)
    parts = ("test", "validation", "train")
    fixed = [parts.index(split) if split else -1 for split in known] if known and any(known) else None
    if fixed is None:
        _check_groups(digests, labels, groups, len(parts))
    targets = _split_targets(_totals(digests, labels), fractions[::-1])
    return [parts[part] for part in _assign(digests, labels, targets, seed=seed, groups=groups, fixed=fixed)]


def complete_splits(given: Sequence[str], digests: Sequence[str], labels: Sequence[str], *, fractions: tuple[float, float, float],
                    seed: int, groups: Sequence[int] | np.ndarray | None = None) -> list[str]:
    """The splits that a data set came with; a validation or test split that it lacks is drawn from its training examples."""
    check_fractions(fractions)
    splits = list(given)
    lacking = [split for split in ("test", "validation") if split not in splits]
    if not lacking:
        return splits
    rows = [row for row, split in enumerate(splits) if split == "train"]
    share = dict(zip(SPLITS, fractions, strict=True))
    shares = np.array([share[split] for split in (*lacking, "train")])
    digests, labels = [digests[row] for row in rows], [labels[row] for row in rows]
    groups = None if groups is None else [groups[row] for row in rows]
    _check_groups(digests, labels, groups, len(shares))
    drawn = _assign(digests, labels, _split_targets(_totals(digests, labels), shares / shares.sum()), seed=seed, groups=groups)
    for row, part in zip(rows, drawn, strict=True):
        splits[row] = (*lacking, "train")[part]
    return splits


def fold_examples(digests: Sequence[str], labels: Sequence[str], *, folds: int, fold: int, fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
                  seed: int = 0, groups: Sequence[int] | np.ndarray | None = None) -> list[str]:
    """The splits of one round of cross-validation: fold number `fold` is the test split, each example is in just one of them.

    Args:
        folds: number of folds, 2 or more.
        fold: from 0 to below `folds`.
        fractions: of what is not tested, validation gets its share of train and validation.

    For the others see `split_examples`.
    """
    check_folds(folds, fold)
    _check_groups(digests, labels, groups, max(folds, len(SPLITS)))
    part_of = _assign(digests, labels, _fold_targets(_totals(digests, labels), folds), seed=seed, groups=groups)
    for part in range(folds):  # a round that cannot be run is named before any was trained
        rest = [row for row, its_part in enumerate(part_of) if its_part != part]
        _check_groups([digests[row] for row in rest], [labels[row] for row in rest], [groups[row] for row in rest] if groups is not None else None, 2)
    given = ["test" if part == fold else "train" for part in part_of]
    return complete_splits(given, digests, labels, fractions=fractions, seed=seed, groups=groups)


def check_count(label: str, count: int, parts: int = len(SPLITS), grouped: bool = False) -> None:
    """Raises InputError for a label with fewer examples than there are splits."""
    if count < parts:
        word = {2: "two", 3: "three"}.get(parts, str(parts))
        what = "groups of photos that do not hang together" if grouped else "different readable photos"
        each = {2: "one for training, one for the split that is drawn", 3: "one for training, one for validation, one for the test"}.get(parts, "one a fold")
        raise InputError(f"expected at least {word} {what} in every class ({each}), found {count} in '{label}'; add photos or remove the class")


def check_fractions(fractions: Sequence[float]) -> None:
    """Raises InputError unless these are three positive fractions that add up to 1."""
    numbers = isinstance(fractions, Sequence) and all(isinstance(fraction, (int, float)) for fraction in fractions)
    if not numbers or len(fractions) != 3 or min(fractions) <= 0 or not abs(sum(fractions) - 1) <= 1e-6:
        shown = tuple(fractions) if isinstance(fractions, (list, tuple)) else fractions
        raise InputError(f"expected three positive fractions (train, validation, test) that add up to 1, got split={shown}")


def check_folds(folds: int | None, fold: int | None = 0) -> int:
    """The number of folds; raises InputError for one that is none, or a fold that is not there."""
    if not isinstance(folds, int) or folds < 2:
        raise InputError(f"expected two folds or more, got folds={folds}")
    if not isinstance(fold, int) or not 0 <= fold < folds:
        raise InputError(f"expected a fold from 0 to {folds - 1}, got fold={fold}")
    return folds


def _assign(digests, labels, targets, *, seed, groups=None, fixed=None) -> list[int]:
    """The part of each example, near `targets` (labels in ascending order, parts); groups with a fixed example follow it."""
    names = sorted(set(labels))
    members = _members(digests, groups)
    counts = [_count(rows, digests, labels, names) for rows in members]
    order = {digest: hashlib.sha256(f"{seed}:{digest}".encode()).digest() for digest in set(digests)}
    keys = [min(order[digests[row]] for row in rows) for rows in members]
    part_of = [max(fixed[row] for row in rows) if fixed else -1 for rows in members]
    filled = np.zeros_like(targets)
    for group, part in enumerate(part_of):
        if part >= 0:
            _add(filled, part, counts[group])
    free = [group for group, part in enumerate(part_of) if part < 0]
    single = {group for group in free if sum(counts[group].values()) == 1}
    for group in sorted(set(free) - single, key=lambda g: (-len(members[g]), keys[g])):
        part_of[group] = _least_disturbed(filled, targets, counts[group])
        _add(filled, part_of[group], counts[group])
    queues: dict[int, list[int]] = {}
    for group in sorted(single, key=lambda g: keys[g]):
        queues.setdefault(next(iter(counts[group])), []).append(group)
    for label, queue in queues.items():
        for group, part in zip(queue, _fill(targets[label], filled[label], len(queue)), strict=True):
            part_of[group] = part
            _add(filled, part, counts[group])
    _serve_empty_parts(part_of, filled, counts, sorted(free, key=lambda g: (len(members[g]), keys[g])))
    result = list(fixed) if fixed else [-1] * len(digests)
    for rows, part in zip(members, part_of, strict=True):
        for row in rows:
            result[row] = part if result[row] < 0 else result[row]
    return result


def _members(digests, groups) -> list[list[int]]:
    """Rows of each group, in order of their first rows; equal digests join the groups that they are in."""
    first: dict = {}
    pairs = [(first.setdefault(("digest", digest), row), row) for row, digest in enumerate(digests)]
    if groups is not None:
        pairs += [(first.setdefault(("group", group), row), row) for row, group in enumerate(groups)]
    rows_of: dict[int, list[int]] = {}
    for row, group in enumerate(connected(len(digests), pairs)):
        rows_of.setdefault(int(group), []).append(row)
    return list(rows_of.values())


def _count(rows, digests, labels, names) -> dict[int, int]:
    """How many different examples of each label (by its number) a group has; equal content counts once."""
    label_of = _label_of([digests[row] for row in rows], [labels[row] for row in rows])
    return dict(Counter(bisect_left(names, label) for label in label_of.values()))


def _label_of(digests, labels) -> dict[str, str]:
    """The label that each content counts for: where it has several, the first by letters, whatever the order of the input."""
    label_of: dict[str, str] = {}
    for digest, label in zip(digests, labels, strict=True):
        label_of[digest] = min(label, label_of.get(digest, label))
    return label_of


def _totals(digests, labels) -> list[int]:
    """Different examples of each label, labels in ascending order."""
    counts = Counter(_label_of(digests, labels).values())
    return [counts[label] for label in sorted(set(labels))]


def _split_targets(totals: Sequence[int], shares: Sequence[float]) -> np.ndarray:
    """How many examples of each label each part is to get: at least one, the last part what is left."""
    targets = np.zeros((len(totals), len(shares)), np.int64)
    for label, total in enumerate(totals):
        for part in reversed(range(len(shares) - 1)):
            targets[label, part] = min(max(1, round(shares[part] * total)), total - targets[label].sum() - part - 1)
        targets[label, -1] = total - targets[label].sum()
    return targets


def _fold_targets(totals: Sequence[int], folds: int) -> np.ndarray:
    """Equal parts; the odd examples of each label begin at another fold, so that no fold gets all of them."""
    extra = lambda label, fold: (fold - label) % folds < totals[label] % folds
    return np.array([[total // folds + extra(label, fold) for fold in range(folds)] for label, total in enumerate(totals)], np.int64)


def _check_groups(digests, labels, groups, parts: int) -> None:
    """Raises InputError for a label that is in fewer groups than there are parts."""
    members = _members(digests, groups)
    grouped = any(len({digests[row] for row in rows}) > 1 for rows in members)
    found = Counter(label for rows in members for label in {labels[row] for row in rows})
    for label in sorted(found):
        check_count(label, found[label], parts, grouped=grouped)


def _add(filled: np.ndarray, part: int, count: dict[int, int]) -> None:
    for label, number in count.items():
        filled[label, part] += number


def _least_disturbed(filled: np.ndarray, targets: np.ndarray, count: dict[int, int]) -> int:
    """The part whose shares are nearest to their targets after a group was added; the last one of several."""
    rows, added = np.array(list(count)), np.array(list(count.values()))[:, None]
    excess = filled[rows] - targets[rows]
    cost = (((excess + added) ** 2 - excess**2) / np.maximum(targets[rows], 1)).sum(axis=0)
    return int(np.flatnonzero(cost <= cost.min() + 1e-9)[-1])


def _fill(target: np.ndarray, filled: np.ndarray, count: int) -> list[int]:
    """Parts for `count` single examples of one label: each part up to its target, none left empty while there are enough."""
    parts: list[int] = []
    for part in range(len(target) - 1):
        wanted = max(target[part] - filled[part], int(filled[part] == 0))
        reserved = int((filled[part + 1:] == 0).sum())
        parts += [part] * max(0, min(wanted, count - len(parts) - reserved))
    return parts + [len(target) - 1] * (count - len(parts))


def _serve_empty_parts(part_of: list[int], filled: np.ndarray, counts: list[dict[int, int]], free: Sequence[int]) -> None:
    """Gives each part that has nothing of a label the smallest group of it that another part can spare."""
    for label, part in np.argwhere(filled == 0):
        for group in free:
            giver = part_of[group]
            if label in counts[group] and all(filled[name, giver] > number for name, number in counts[group].items()):
                _add(filled, giver, {name: -number for name, number in counts[group].items()})
                _add(filled, part, counts[group])
                part_of[group] = int(part)
                break
