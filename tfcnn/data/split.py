"""Which example is for training, which for validation, which for the test."""

import hashlib
from collections.abc import Sequence

from tfcnn.errors import InputError

SPLITS = ("train", "validation", "test")


def split_examples(digests: Sequence[str], labels: Sequence[str], *, fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
                   seed: int = 0) -> list[str]:
    """The split of each example: stratified by label, the same on every machine, equal content always together.

    Within a label the groups of equal content are ordered by sha256(seed, digest): the order depends on the content and
    the seed alone. The first go to the test split, the next to validation, the rest to training.

    Args:
        digests: content digest of each example; equal digests are one group.
        labels: label of each example.
        fractions: share of train, validation and test; they add up to 1.
        seed: another seed gives another split.

    Raises:
        InputError: fractions that are not a split, or a label with fewer than three different examples.
    """
    check_fractions(fractions)
    group_label: dict[str, str] = {}
    for digest, label in zip(digests, labels, strict=True):
        group_label[digest] = min(label, group_label.get(digest, label))
    split_of: dict[str, str] = {}
    for label in sorted(set(labels)):
        groups = sorted((digest for digest, its_label in group_label.items() if its_label == label),
                        key=lambda digest: hashlib.sha256(f"{seed}:{digest}".encode()).digest())
        check_count(label, len(groups))
        validation = min(max(1, round(fractions[1] * len(groups))), len(groups) - 2)
        test = min(max(1, round(fractions[2] * len(groups))), len(groups) - validation - 1)
        for index, digest in enumerate(groups):
            split_of[digest] = "test" if index < test else "validation" if index < test + validation else "train"
    return [split_of[digest] for digest in digests]


def check_count(label: str, count: int) -> None:
    """Raises InputError for a label with fewer examples than there are splits."""
    if count < len(SPLITS):
        raise InputError(f"expected at least three different readable photos in every class (one for training, one for validation, "
                         f"one for the test), found {count} in '{label}'; add photos or remove the class")


def check_fractions(fractions: Sequence[float]) -> None:
    """Raises InputError unless these are three positive fractions that add up to 1."""
    if len(fractions) != 3 or min(fractions) <= 0 or not abs(sum(fractions) - 1) <= 1e-6:
        raise InputError(f"expected three positive fractions (train, validation, test) that add up to 1, got split={tuple(fractions)}")
