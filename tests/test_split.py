"""Which example goes to which split."""

from collections import Counter

import numpy as np
import pytest

from tfcnn.data.split import split_examples
from tfcnn.errors import InputError


def photos_of(**counts):
    """Digests and labels of so many different photos of each label."""
    labels = [label for label, count in counts.items() for _ in range(count)]
    return [f"{label}-{number}" for number, label in enumerate(labels)], labels


@pytest.mark.parametrize("count, expected", [
    (100, (70, 10, 20)), (60, (42, 6, 12)), (10, (7, 1, 2)), (7, (5, 1, 1)), (4, (2, 1, 1)), (3, (1, 1, 1))])
def test_every_label_is_split_70_10_20(count, expected):
    digests, labels = photos_of(cat=count, dog=2 * 50)
    splits = Counter(zip(labels, split_examples(digests, labels), strict=True))
    assert tuple(splits["cat", name] for name in ("train", "validation", "test")) == expected
    assert tuple(splits["dog", name] for name in ("train", "validation", "test")) == (70, 10, 20)


@pytest.mark.parametrize("fractions", [(0.1, 0.8, 0.1), (0.01, 0.98, 0.01), (0.01, 0.01, 0.98), (0.98, 0.01, 0.01), (1 / 3, 1 / 3, 1 / 3)])
@pytest.mark.parametrize("count", [3, 4, 5, 9])
def test_every_label_has_an_example_in_every_split(fractions, count):
    digests, labels = photos_of(cat=count)
    assert set(split_examples(digests, labels, fractions=fractions)) == {"train", "validation", "test"}


def test_equal_digests_are_always_together():
    digests = [f"photo-{number}" for number in range(30) for _ in range(1 + number % 4)]
    labels = ["a" if int(digest[6:]) < 15 else "b" for digest in digests]
    for seed in range(20):
        split_of = {}
        for digest, split in zip(digests, split_examples(digests, labels, seed=seed), strict=True):
            assert split_of.setdefault(digest, split) == split
        assert Counter(split_of.values()) == {"train": 20, "validation": 4, "test": 6}  # counted in groups, 15 a label


def test_the_split_does_not_depend_on_the_order_of_the_input():
    digests, labels = photos_of(cat=40, dog=25, owl=9)
    split_of = dict(zip(digests, split_examples(digests, labels, seed=3), strict=True))
    order = np.random.default_rng(0).permutation(len(digests))
    shuffled = split_examples([digests[i] for i in order], [labels[i] for i in order], seed=3)
    assert shuffled == [split_of[digests[i]] for i in order]


def test_one_photo_under_two_labels_is_split_the_same_in_any_order():
    digests, labels = photos_of(cat=20, dog=20)
    digests, labels = [*digests, *digests[:5]], [*labels, *["dog"] * 5]
    there = dict(zip(digests, split_examples(digests, labels), strict=True))
    back = dict(zip(reversed(digests), split_examples(digests[::-1], labels[::-1]), strict=True))
    assert there == back


def test_the_split_is_the_same_on_every_machine():
    # The order of `printf 0:a | sha256sum` and so on; a change here would move every user's photos between test and training.
    splits = split_examples(list("abcdefghij"), ["x"] * 10)
    assert dict(zip("abcdefghij", splits, strict=True)) == {**dict.fromkeys("abcdefghij", "train"), "h": "test", "f": "test", "g": "validation"}


def test_another_seed_gives_another_split_of_the_same_size():
    digests, labels = photos_of(cat=50, dog=50)
    first, second = split_examples(digests, labels, seed=0), split_examples(digests, labels, seed=1)
    assert Counter(first) == Counter(second) == {"train": 70, "validation": 10, "test": 20}
    assert sum(a != b for a, b in zip(first, second, strict=True)) > 20


def test_adding_a_label_or_a_copy_moves_no_other_photo():
    digests, labels = photos_of(cat=30, dog=30)
    before = split_examples(digests, labels)
    more, their_labels = [f"owl-{number}" for number in range(12)], ["owl"] * 12
    after = split_examples([*more, *digests, digests[0], digests[40]], [*their_labels, *labels, labels[0], labels[40]])
    assert after[12:72] == before
    assert after[72:] == [before[0], before[40]]


def test_adding_one_photo_moves_at_most_one_over_each_border():
    digests, labels = photos_of(cat=100)
    before = split_examples(digests, labels)
    for number in range(20):
        after = split_examples([*digests, f"new-{number}"], [*labels, "cat"])
        moved = [(old, new) for old, new in zip(before, after, strict=False) if old != new]
        assert len(moved) <= 2 and len(set(moved)) == len(moved), moved


@pytest.mark.parametrize("fractions", [(0.7, 0.1, 0.1), (0.8, 0.2, 0), (0.9, -0.1, 0.2), (0.8, 0.2), (0.7, 0.1, 0.1, 0.1), (0.7, float("nan"), 0.2)])
def test_fractions_that_are_no_split_are_named(fractions):
    digests, labels = photos_of(cat=10)
    with pytest.raises(InputError, match="three positive fractions") as caught:
        split_examples(digests, labels, fractions=fractions)
    assert f"split={fractions}" in str(caught.value)


def test_a_label_with_fewer_than_three_different_photos_is_named():
    digests, labels = photos_of(cat=10, dog=2)
    with pytest.raises(InputError, match=r"at least three different .* found 2 in 'dog'"):
        split_examples([*digests, digests[-1]], [*labels, "dog"])  # a copy does not help
