"""Which example goes to which split."""

import time
from collections import Counter

import numpy as np
import pytest

from tfcnn.data.split import complete_splits, fold_examples, split_examples
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


def groups_of(**sizes):
    """Digests, labels and groups: for each label the sizes of its groups."""
    labels = [label for label, of in sizes.items() for size in of for _ in range(size)]
    groups = [(label, number) for label, of in sizes.items() for number, size in enumerate(of) for _ in range(size)]
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    return [f"photo-{number}" for number in range(len(labels))], labels, [numbers[group] for group in groups]


def counts_of(splits, labels, label):
    """Examples of a label in train, validation and test."""
    found = Counter(split for split, its in zip(splits, labels, strict=True) if its == label)
    return tuple(found[name] for name in ("train", "validation", "test"))


def parts_of(groups, splits):
    """The splits that each group is in."""
    parts = {}
    for group, split in zip(groups, splits, strict=True):
        parts.setdefault(group, set()).add(split)
    return parts


def test_groups_that_fit_the_shares_give_exactly_the_shares():
    digests, labels, groups = groups_of(cat=[5] * 40, dog=[2] * 30 + [4] * 10)
    splits = split_examples(digests, labels, groups=groups)
    assert counts_of(splits, labels, "cat") == (140, 20, 40)
    assert counts_of(splits, labels, "dog") == (70, 10, 20)
    assert all(len(parts) == 1 for parts in parts_of(groups, splits).values())


@pytest.mark.parametrize("seed", range(20))
def test_groups_of_any_size_are_never_divided_and_leave_no_split_empty(seed):
    rng = np.random.default_rng(seed)
    sizes = {label: rng.choice([1, 1, 2, 3, 8], rng.integers(3, 40)).tolist() for label in ("cat", "dog", "owl")}
    digests, labels, groups = groups_of(**sizes)
    splits = split_examples(digests, labels, groups=groups, seed=seed)
    assert all(len(parts) == 1 for parts in parts_of(groups, splits).values())
    for label, of in sizes.items():
        counts = counts_of(splits, labels, label)
        assert min(counts) > 0
        assert all(abs(count - share * sum(of)) <= max(of) for count, share in zip(counts, (0.7, 0.1, 0.2), strict=True)), counts


def test_large_groups_are_placed_before_small_ones():
    digests, labels, groups = groups_of(cat=[2] * 5 + [10])
    assert counts_of(split_examples(digests, labels, groups=groups), labels, "cat") == (14, 2, 4)


def test_groups_of_mixed_labels_keep_both_labels_near_their_shares():
    """As with patients: each has photos of both labels."""
    labels = [label for patient in range(60) for label in ["ill"] * (1 + patient % 3) + ["well"] * (3 - patient % 3)]
    groups = [patient for patient in range(60) for _ in range(4)]
    splits = split_examples([str(number) for number in range(240)], labels, groups=groups)
    assert all(len(parts) == 1 for parts in parts_of(groups, splits).values())
    for label in ("ill", "well"):
        assert np.abs(np.subtract(counts_of(splits, labels, label), (84, 12, 24))).max() <= 2


def test_copies_tie_their_groups_together():
    """A photo in two groups: all of both stay together, though no number says so."""
    digests, labels, groups = groups_of(cat=[2] * 30)
    for seed in range(20):
        splits = split_examples([*digests, digests[0]], [*labels, "cat"], groups=[*groups, groups[-1]], seed=seed)
        assert len({splits[0], splits[1], splits[-1], splits[-2], splits[-3]}) == 1
    apart = {tuple(split_examples(digests, labels, groups=groups, seed=seed)[row] for row in (0, -1)) for seed in range(20)}
    assert any(first != last for first, last in apart)  # without the copy they are not


def test_a_group_larger_than_a_split_is_for_training():
    digests, labels, groups = groups_of(cat=[50] + [1] * 30)
    splits = split_examples(digests, labels, groups=groups)
    assert set(splits[:50]) == {"train"}
    assert counts_of(splits, labels, "cat") == (56, 8, 16)


def test_a_split_that_got_nothing_takes_the_smallest_group_that_another_can_spare():
    digests, labels, groups = groups_of(cat=[10, 10, 2])  # 16, 2, 4 are wanted: both large ones are for training at first
    assert counts_of(split_examples(digests, labels, groups=groups), labels, "cat") == (10, 10, 2)
    digests, labels, groups = groups_of(cat=[3, 1, 1], dog=[1, 20, 1])
    splits = split_examples(digests, labels, groups=groups, fractions=(0.98, 0.01, 0.01))
    assert counts_of(splits, labels, "cat") == (3, 1, 1) and counts_of(splits, labels, "dog") == (20, 1, 1)


@pytest.mark.parametrize("sizes", [[10, 10], [30], [1, 29]])
def test_a_label_in_fewer_than_three_groups_is_named_in_one_line(sizes):
    digests, labels, groups = groups_of(cat=[1] * 10, dog=sizes)
    with pytest.raises(InputError, match=f"groups of photos that do not hang together.* found {len(sizes)} in 'dog'") as caught:
        split_examples(digests, labels, groups=groups)
    assert "\n" not in str(caught.value)


def test_groups_are_split_the_same_in_any_order_and_under_any_numbers():
    digests, labels, groups = groups_of(cat=[1, 2, 3] * 8, dog=[1, 1, 6] * 5, owl=[4] * 9)
    labels[0] = "dog"  # one group of two labels
    rng = np.random.default_rng(0)
    order, numbers = rng.permutation(len(digests)), rng.permutation(max(groups) + 1)
    pick = lambda values: [values[row] for row in order]
    there = split_examples(digests, labels, groups=groups, seed=5)
    back = split_examples(pick(digests), pick(labels), groups=[int(numbers[group]) for group in pick(groups)], seed=5)
    assert back == pick(there) and set(there) == {"train", "validation", "test"}


def test_groups_of_one_change_nothing():
    digests, labels = photos_of(cat=40, dog=25)
    assert split_examples(digests, labels, groups=range(65)) == split_examples(digests, labels)


def test_known_examples_keep_their_split_and_new_ones_fill_up_the_shares():
    digests, labels = photos_of(cat=100, dog=50)
    new = [f"new-{number}" for number in range(50)]
    known = split_examples(digests, labels, seed=7)
    splits = split_examples([*digests, *new], [*labels, *["cat"] * 50], seed=3, known=[*known, *[""] * 50])
    assert splits[:150] == known
    assert counts_of(splits[150:], ["cat"] * 50, "cat") == (35, 5, 10)


def test_new_examples_do_not_join_a_split_that_is_too_full():
    digests, labels = photos_of(cat=100)
    splits = split_examples(digests, labels, known=["test"] * 50 + [""] * 50)
    assert splits[:50] == ["test"] * 50
    assert counts_of(splits[50:], labels[50:], "cat") == (40, 10, 0)


def test_a_near_copy_of_a_known_example_follows_it():
    digests, labels = photos_of(cat=60)
    known = split_examples(digests, labels)
    new, groups = [f"new-{row}" for row in range(60)], [*range(60), *range(60)]
    assert split_examples([*digests, *new], labels * 2, groups=groups, known=[*known, *[""] * 60])[60:] == known


def test_a_new_photo_between_test_and_training_is_for_training():
    """It ties a known test photo to a known training photo: in the test split it would be seen before, here it is not tested."""
    digests, labels = photos_of(cat=10)
    known = ["test", "train", "validation", *["train"] * 6, ""]
    assert split_examples(digests, labels, groups=[0, 0, *range(1, 8), 0], known=known) == [*known[:9], "train"]


def test_a_label_that_a_run_did_not_have_gets_its_own_shares():
    digests, labels = photos_of(cat=20, owl=10)
    splits = split_examples(digests, labels, known=[*split_examples(digests[:20], labels[:20]), *[""] * 10])
    assert counts_of(splits, labels, "owl") == (7, 1, 2)


@pytest.mark.parametrize("given, expected", [
    ({"train": 80, "test": 20}, (70, 10, 20)),        # validation: 0.1 / 0.8 of what is left
    ({"train": 90, "validation": 10}, (70, 10, 20)),  # test: 0.2 / 0.9 of it
    ({"train": 100}, (70, 10, 20)),
    ({"train": 24, "test": 76}, (21, 3, 76)),
    ({"train": 5, "validation": 40, "test": 55}, (5, 40, 55))])
def test_splits_that_a_data_set_lacks_are_drawn_from_its_training_examples(given, expected):
    splits = [split for split, count in given.items() for _ in range(count)]
    digests, labels = photos_of(cat=100)
    completed = complete_splits(splits, digests, labels, fractions=(0.7, 0.1, 0.2), seed=0)
    assert counts_of(completed, labels, "cat") == expected
    assert all(old == new for old, new in zip(splits, completed, strict=True) if old != "train")


def test_a_lacking_split_is_drawn_stratified_by_group_and_from_the_seed():
    digests, labels, groups = groups_of(cat=[2] * 50, dog=[2] * 25)
    given = ["test" if row % 100 < 20 else "train" for row in range(150)]
    draw = lambda seed: complete_splits(given, digests, labels, fractions=(0.7, 0.1, 0.2), seed=seed, groups=groups)
    assert counts_of(draw(0), labels, "cat") == (70, 10, 20) and counts_of(draw(0), labels, "dog") == (26, 4, 20)
    assert all(len(parts) == 1 for parts in parts_of(groups, draw(0)).values())
    assert draw(0) == draw(0) != draw(1)


def test_too_few_training_examples_for_the_lacking_splits_are_named():
    digests, labels = photos_of(cat=10, dog=1)
    with pytest.raises(InputError, match=r"at least two different .* found 1 in 'dog'"):
        complete_splits(["train"] * 5 + ["test"] * 5 + ["train"], digests, labels, fractions=(0.7, 0.1, 0.2), seed=0)
    with pytest.raises(InputError, match=r"at least three different .* found 1 in 'dog'"):
        complete_splits(["train"] * 11, digests, labels, fractions=(0.7, 0.1, 0.2), seed=0)


def in_folds(digests, labels, folds, **options):
    """The splits of every round."""
    return [fold_examples(digests, labels, folds=folds, fold=fold, **options) for fold in range(folds)]


@pytest.mark.parametrize("folds", [2, 3, 5, 10])
def test_each_example_is_tested_in_one_fold_and_the_folds_are_stratified(folds):
    digests, labels = photos_of(cat=43, dog=30, owl=11)
    rounds = in_folds(digests, labels, folds)
    assert [column.count("test") for column in zip(*rounds, strict=True)] == [1] * 84
    for label, count in (("cat", 43), ("dog", 30), ("owl", 11)):
        assert {counts_of(splits, labels, label)[2] for splits in rounds} <= {count // folds, -(-count // folds)}
        for splits in rounds:  # validation: 0.1 / 0.8 of what is not tested
            train, validation, test = counts_of(splits, labels, label)
            assert abs(validation - (count - test) / 8) <= 0.5 and train == count - test - validation


def test_the_odd_examples_of_the_labels_fall_on_different_folds():
    digests, labels = photos_of(cat=7, dog=7, owl=7)
    assert [splits.count("test") for splits in in_folds(digests, labels, 3)] == [7, 7, 7]


def test_folds_do_not_depend_on_the_order_of_the_input():
    digests, labels, groups = groups_of(cat=[1, 2, 3] * 8, dog=[1] * 20)
    order = np.random.default_rng(0).permutation(len(digests))
    pick = lambda values: [values[row] for row in order]
    for there, back in zip(in_folds(digests, labels, 4, groups=groups, seed=2),
                           in_folds(pick(digests), pick(labels), 4, groups=pick(groups), seed=2), strict=True):
        assert back == pick(there)
    assert in_folds(digests, labels, 4, seed=2) != in_folds(digests, labels, 4, seed=3)


def test_folds_divide_no_group():
    digests, labels, groups = groups_of(cat=[3] * 12 + [1] * 9, dog=[7] * 6)
    rounds = in_folds(digests, labels, 3, groups=groups)
    assert [column.count("test") for column in zip(*rounds, strict=True)] == [1] * 87
    for splits in rounds:
        assert all(len(parts) == 1 for parts in parts_of(groups, splits).values())
        assert (counts_of(splits, labels, "cat")[2], counts_of(splits, labels, "dog")[2]) == (15, 14)


@pytest.mark.parametrize("sizes", [[1] * 3, [1] * 4, [20, 1, 1, 1, 1], [6, 5, 1, 1, 1, 1, 1, 1]], ids=str)
def test_either_all_rounds_of_a_cross_validation_can_be_run_or_none(sizes):
    """A round that is refused after others were trained comes too late."""
    digests, labels, groups = groups_of(cat=sizes, dog=[1] * 20)
    can = []
    for fold in range(2):
        try:
            fold_examples(digests, labels, folds=2, fold=fold, groups=groups)
            can.append(True)
        except InputError:
            can.append(False)
    assert can[0] == can[1]


def test_a_label_with_fewer_groups_than_folds_is_named():
    digests, labels, groups = groups_of(cat=[1] * 10, dog=[5] * 4)
    with pytest.raises(InputError, match=r"at least 5 groups .*one a fold.* found 4 in 'dog'"):
        fold_examples(digests, labels, folds=5, fold=0, groups=groups)
    with pytest.raises(InputError, match=r"at least three different .* found 2 in 'owl'"):
        fold_examples(*photos_of(cat=10, owl=2), folds=2, fold=0)


@pytest.mark.parametrize("folds, fold, words", [
    (1, 0, "folds=1"), (0, 0, "folds=0"), (2.0, 0, r"folds=2\.0"), ("3", 0, "folds=3"), (None, 0, "folds=None"),
    (5, 5, "from 0 to 4, got fold=5"), (5, -1, "from 0 to 4, got fold=-1")])
def test_folds_that_are_none_are_named(folds, fold, words):
    with pytest.raises(InputError, match=words):
        fold_examples(*photos_of(cat=10), folds=folds, fold=fold)


def test_twenty_thousand_examples_in_groups_are_split_in_seconds():
    """About 0.4 s; a step that compares each group with each would take minutes."""
    labels = [str(number % 10) for number in range(20_000)]
    groups = [number // 3 if number % 2 else 20_000 + number for number in range(20_000)]
    start = time.perf_counter()
    splits = split_examples([str(number) for number in range(20_000)], labels, groups=groups)
    assert time.perf_counter() - start < 10
    for label in map(str, range(10)):
        assert counts_of(splits, labels, label) == (1400, 200, 400)
