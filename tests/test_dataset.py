"""The batches that are read from a `Dataset`."""

from collections import Counter

import numpy as np
import pytest

from tfcnn.data import dataset as dataset_module
from tfcnn.data.dataset import BALANCES, Dataset, Item, Replicas, batches, class_weights, examples_per_epoch, training_batches
from tfcnn.data.store import Store

SPLITS = ["train", "test", "train", "validation", "train", "train", "test", "train", "train", "validation", "train", "train"]
LABELS = list("acbabcabccab")


@pytest.fixture(scope="module")
def data():
    """12 photos of one grey each, ten times their row number."""
    inputs = np.tile(np.arange(12, dtype=np.uint8)[:, None, None, None] * 10, (1, 4, 6, 3))
    items = tuple(Item(f"{row}.png", label, split, str(row)) for row, (label, split) in enumerate(zip(LABELS, SPLITS, strict=True)))
    return Dataset(inputs=inputs, items=items, labels=("a", "b", "c"), input_shape=(4, 6, 3))


def rows_of(dataset):
    """The row numbers in the order in which they come, one list a batch."""
    return [(pixels.numpy()[:, 0, 0, 0] / 10).astype(int).tolist() for pixels, *_ in dataset]


def test_rows_and_targets_of_a_split_are_in_the_order_of_the_items(data):
    assert data.rows("train").tolist() == [0, 2, 4, 5, 7, 8, 10, 11]
    assert data.rows("validation").tolist() == [3, 9] and data.rows("test").tolist() == [1, 6]
    assert data.targets(data.rows("train")).tolist() == [0, 1, 1, 2, 1, 2, 0, 1]
    assert data.targets(np.array([6, 1])).tolist() == [0, 2] and data.targets(data.rows("none")).tolist() == []


def test_batches_are_float_pixels_and_integer_targets_in_order(data):
    got = list(batches(data, "train", batch_size=3))
    assert [len(pixels) for pixels, _ in got] == [3, 3, 2]
    pixels, targets = (np.concatenate(part) for part in zip(*got, strict=True))
    assert pixels.dtype == np.float32 and targets.dtype == np.int64
    np.testing.assert_array_equal(pixels, data.inputs[data.rows("train")])
    np.testing.assert_array_equal(targets, data.targets(data.rows("train")))
    assert pixels.max() == 110


def test_the_full_range_of_bytes_is_not_scaled():
    inputs = np.zeros((2, 2, 2, 3), np.uint8)
    inputs[1] = 255
    items = (Item("0", "a", "test", "0"), Item("1", "b", "test", "1"))
    data = Dataset(inputs=inputs, items=items, labels=("a", "b"), input_shape=(2, 2, 3))
    (pixels, _), = batches(data, "test")
    assert pixels.numpy().min() == 0 and pixels.numpy().max() == 255


def test_the_splits_of_a_dataset_are_its_batches(data):
    assert rows_of(data.train) == [[0, 2, 4, 5, 7, 8, 10, 11]]
    assert rows_of(data.validation) == [[3, 9]] and rows_of(data.test) == [[1, 6]]
    assert rows_of(data.test) == [[1, 6]]  # a second pass
    assert data.train.element_spec[0].shape.as_list() == [None, 4, 6, 3]


def test_each_epoch_is_a_permutation_of_the_training_split(data):
    stream = rows_of(training_batches(data, batch_size=3, augmentation="none", seed=5, epochs=4))
    assert [len(batch) for batch in stream] == [3, 3, 2] * 4
    epochs = [[row for batch in stream[start:start + 3] for row in batch] for start in range(0, 12, 3)]
    assert all(sorted(epoch) == [0, 2, 4, 5, 7, 8, 10, 11] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4 and [0, 2, 4, 5, 7, 8, 10, 11] not in epochs


@pytest.mark.parametrize(("replicas", "balance"), [(2, "none"), pytest.param(3, "class_weight", marks=pytest.mark.slow),
                                                     pytest.param(4, "oversample", marks=pytest.mark.slow)])
def test_replicas_together_see_what_one_alone_sees(replicas, balance):
    """Strong augmentation mixes photos with the one before them, also across the border of two replicas."""
    inputs = np.random.default_rng(0).integers(0, 256, (13, 8, 8, 3), np.uint8)
    items = tuple(Item(str(row), "abc"[min(row // 3, 2)], "train", str(row)) for row in range(13))
    data = Dataset(inputs=inputs, items=items, labels=("a", "b", "c"), input_shape=(8, 8, 3))
    arguments = {"batch_size": 5, "augmentation": "strong", "balance": balance, "seed": 5, "epochs": 2, "mixing": 1.0}
    alone = [[part.numpy() for part in batch] for batch in training_batches(data, **arguments)]
    for first, here in [(0, replicas)] + [(number, 1) for number in range(replicas)]:
        parts = list(training_batches(data, **arguments, replicas=Replicas(replicas, first, here)))
        assert len(parts) == len(alone) * here
        for step, (pixels, targets, weights) in enumerate(alone):
            start, end = len(pixels) * first // replicas, len(pixels) * (first + here) // replicas
            own = [[part.numpy() for part in batch] for batch in parts[step * here:(step + 1) * here]]
            assert all(1 <= len(batch[0]) <= -(-len(pixels) // replicas) for batch in own)
            real = [np.concatenate([batch[kind][batch[2] > 0] for batch in own]) for kind in range(3)]
            for whole, part in zip((pixels, targets, weights), real, strict=True):
                np.testing.assert_allclose(whole[start:end], part, rtol=1e-6, atol=1e-4)  # equal but for the last bit


@pytest.mark.parametrize("first_step", [0, 1, 2])
def test_a_stream_may_begin_in_the_middle_of_an_epoch(data, first_step):
    arguments = {"batch_size": 3, "augmentation": "medium", "seed": 2, "epochs": 4}
    whole, rest = list(training_batches(data, **arguments)), list(training_batches(data, **arguments, first_epoch=1, first_step=first_step))
    assert len(rest) == 9 - first_step
    for batch, again in zip(whole[3 + first_step:], rest, strict=True):
        for part, same in zip(batch, again, strict=True):
            np.testing.assert_array_equal(part, same)


def test_training_targets_are_one_hot_and_belong_to_their_photo(data):
    for pixels, targets, _ in training_batches(data, batch_size=3, augmentation="none", seed=1, epochs=2):
        rows = (pixels.numpy()[:, 0, 0, 0] / 10).astype(int)
        np.testing.assert_array_equal(targets, np.eye(3, dtype=np.float32)[data.targets(rows)])


def test_the_same_seed_gives_the_same_stream_and_another_seed_another(data):
    stream = lambda seed: np.concatenate([pixels for pixels, *_ in training_batches(data, batch_size=8, augmentation="medium", seed=seed, epochs=2)])
    first = stream(7)
    np.testing.assert_array_equal(first, stream(7))
    assert not np.array_equal(first, stream(8))
    order = lambda seed: rows_of(training_batches(data, batch_size=8, augmentation="none", seed=seed))
    assert order(7) != order(8)


def test_the_largest_seed_that_train_takes_works(data):
    got = list(training_batches(data, batch_size=3, augmentation="light", seed=2**31 - 1, first_epoch=1, epochs=2))
    assert [len(pixels) for pixels, *_ in got] == [3, 3, 2]
    assert sum(targets.numpy().sum(axis=0) for _, targets, _ in got).tolist() == [2, 4, 2]


def test_each_epoch_and_each_step_augments_anew():
    photo = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    items = tuple(Item(str(row), "a", "train", "0") for row in range(4))  # equal photos: only the changes can tell them apart
    data = Dataset(inputs=np.stack([photo] * 4), items=items, labels=("a",), input_shape=(8, 8, 3))
    changed = [pixels.numpy().tobytes() for pixels, *_ in training_batches(data, batch_size=1, augmentation="light", seed=0, epochs=3)]
    assert len(set(changed)) == len(changed) == 12


@pytest.mark.parametrize("first_epoch", [1, 3])
def test_a_stream_that_starts_later_is_the_rest_of_the_full_one(data, first_epoch):
    full = list(training_batches(data, batch_size=3, augmentation="medium", seed=2, epochs=4))
    rest = list(training_batches(data, batch_size=3, augmentation="medium", seed=2, first_epoch=first_epoch, epochs=4))
    assert len(rest) == (4 - first_epoch) * 3
    for (pixels, targets, _), (again, targets_again, _) in zip(full[first_epoch * 3:], rest, strict=True):
        np.testing.assert_array_equal(pixels, again)
        np.testing.assert_array_equal(targets, targets_again)


def test_photos_are_the_rows_asked_for_in_memory_and_on_disk(data, tmp_path):
    keys = [item.sha256 for item in data.items]
    store = Store(tmp_path)
    store.add(keys, data.inputs)
    on_disk = Dataset(inputs=store.rows(keys), items=data.items, labels=data.labels, input_shape=data.input_shape)
    rows = np.array([11, 3, 3, 0])
    for one in (data, on_disk):
        photos = one.photos(rows)
        assert len(photos) == 4 and photos[1].max() == 30
        np.testing.assert_array_equal(photos[:], data.inputs[rows])
    assert not isinstance(on_disk.photos(rows), np.ndarray)


@pytest.mark.parametrize("balance", BALANCES)
def test_a_set_too_large_for_memory_gives_the_same_stream(data, monkeypatch, balance):
    arguments = {"batch_size": 3, "augmentation": "light", "seed": 4, "epochs": 2, "balance": balance}
    kept = list(training_batches(data, **arguments))
    monkeypatch.setattr(dataset_module, "IN_MEMORY_BYTES", 8 * 4 * 6 * 3 - 1)  # one byte less than the training photos
    read = list(training_batches(data, **arguments))
    assert len(kept) == len(read) > 0
    for one, other in zip(kept, read, strict=True):
        for part, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(part, same)


# Balance: 8 training photos, of a 2 (rows 0 and 10), of b 4 (2, 4, 7, 11), of c 2 (5, 8).


@pytest.mark.parametrize("balance, expected", [("none", 8), ("class_weight", 8), ("oversample", 12)])
def test_an_epoch_has_as_many_photos_as_it_says(data, balance, expected):
    assert examples_per_epoch(data, balance) == expected
    stream = training_batches(data, batch_size=5, augmentation="none", balance=balance, seed=0)
    assert sum(len(batch[0]) for batch in stream) == expected
    assert examples_per_epoch(data) == 8


def test_a_class_without_training_photos_is_not_made_up():
    items = tuple(Item(str(row), "aaab"[row], "train" if row < 3 else "test", "") for row in range(4))
    data = Dataset(inputs=np.zeros((4, 4, 4, 3), np.uint8), items=items, labels=("a", "b"), input_shape=(4, 4, 3))
    assert examples_per_epoch(data, "oversample") == 3
    (_, targets, _), = training_batches(data, batch_size=8, augmentation="none", balance="oversample", seed=0)
    assert targets.numpy().tolist() == [[1, 0]] * 3


@pytest.mark.parametrize("targets, classes, expected", [
    ([0, 0, 1, 1], 2, [1, 1]), ([0, 0, 0, 1], 2, [2 / 3, 2]), ([0, 1, 1, 2, 1, 2, 0, 1], 3, [4 / 3, 2 / 3, 4 / 3]), ([0, 2, 2, 2], 3, [2, 4 / 2, 2 / 3])])
def test_class_weights_make_classes_count_alike(targets, classes, expected):
    weights = class_weights(np.array(targets), classes)
    np.testing.assert_allclose(weights, expected)
    assert weights[targets].mean() == pytest.approx(1)
    assert len({round(weights[targets][np.array(targets) == target].sum(), 9) for target in set(targets)}) == 1


def test_class_weights_come_with_their_photos(data):
    seen = []
    for pixels, targets, weights in training_batches(data, batch_size=3, augmentation="none", balance="class_weight", seed=1, epochs=2):
        rows = (pixels.numpy()[:, 0, 0, 0] / 10).astype(int)
        np.testing.assert_array_equal(targets, np.eye(3, dtype=np.float32)[data.targets(rows)])
        np.testing.assert_allclose(weights, np.array([4 / 3, 2 / 3, 4 / 3])[data.targets(rows)], rtol=1e-6)
        assert weights.dtype == np.float32 and weights.shape == (len(rows),)
        seen += rows.tolist()
    assert Counter(seen) == dict.fromkeys([0, 2, 4, 5, 7, 8, 10, 11], 2)


def test_with_other_balances_all_weigh_the_same(data):
    for balance in ("none", "oversample"):
        assert all((weights.numpy() == 1).all() for _, _, weights in training_batches(data, batch_size=3, augmentation="none", balance=balance, seed=1))


def epochs_of(data, **arguments):
    """The row numbers of each epoch of an oversampled stream, in their order."""
    rows = [row for batch in rows_of(training_batches(data, batch_size=5, augmentation="none", balance="oversample", **arguments)) for row in batch]
    count = examples_per_epoch(data, "oversample")
    return [rows[start:start + count] for start in range(0, len(rows), count)]


def test_an_oversampled_epoch_has_every_class_equally_often(data):
    epochs = epochs_of(data, seed=3, epochs=4)
    assert len(epochs) == 4
    for epoch in epochs:
        assert Counter(epoch) == {0: 2, 10: 2, 5: 2, 8: 2, 2: 1, 4: 1, 7: 1, 11: 1}
    assert len({tuple(epoch) for epoch in epochs}) == 4


@pytest.fixture(scope="module")
def uneven():
    """7 training photos of one class and 4 of the other, so that 3 are drawn."""
    inputs = np.tile(np.arange(11, dtype=np.uint8)[:, None, None, None] * 10, (1, 4, 4, 3))
    items = tuple(Item(str(row), "a" if row < 7 else "b", "train", "") for row in range(11))
    return Dataset(inputs=inputs, items=items, labels=("a", "b"), input_shape=(4, 4, 3))


def test_what_is_left_over_is_drawn_anew_in_each_epoch(uneven):
    epochs = epochs_of(uneven, seed=3, epochs=12)
    counts = [Counter(epoch) for epoch in epochs]
    assert all([count[row] for row in range(7)] == [1] * 7 for count in counts)
    assert all(sorted(count[row] for row in range(7, 11)) == [1, 2, 2, 2] for count in counts)
    left_out = [min(range(7, 11), key=count.get) for count in counts]
    assert set(left_out) == {7, 8, 9, 10}


def test_oversampling_is_a_function_of_seed_and_epoch(uneven):
    epochs = epochs_of(uneven, seed=3, epochs=4)
    assert epochs_of(uneven, seed=3, epochs=4) == epochs
    assert epochs_of(uneven, seed=3, first_epoch=2, epochs=4) == epochs[2:]
    assert all(one != other for one, other in zip(epochs_of(uneven, seed=4, epochs=4), epochs, strict=True))
    assert [len(epoch) for epoch in epochs_of(uneven, seed=2**31 - 1, epochs=1)] == [14]  # the largest seed


# Mixing.


@pytest.fixture(scope="module")
def colours():
    """24 training photos of noise, 12, 8 and 4 of each class."""
    inputs = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), np.uint8)
    items = tuple(Item(str(row), label, "train", "") for row, label in enumerate("a" * 12 + "b" * 8 + "c" * 4))
    return Dataset(inputs=inputs, items=items, labels=("a", "b", "c"), input_shape=(16, 16, 3))


def test_strong_augmentation_mixes_targets_that_sum_to_one(colours):
    stream = list(training_batches(colours, batch_size=8, augmentation="strong", seed=1, epochs=6))
    pixels, targets, _ = (np.concatenate(part) for part in zip(*stream, strict=True))
    assert pixels.shape == (144, 16, 16, 3) and pixels.min() >= 0 and pixels.max() <= 255
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
    assert targets.min() >= 0 and (targets.max(axis=1) >= 0.5 - 1e-6).all()
    soft = (targets.max(axis=1) < 1 - 1e-6).mean()
    assert 0.15 < soft < 0.5  # half are mixed, two thirds of them with another class
    assert Counter(targets.argmax(axis=1).tolist()) == {0: 72, 1: 48, 2: 24}  # each photo keeps its own label on top


def test_weaker_augmentation_mixes_nothing(colours):
    for augmentation in ("none", "light", "medium"):
        for _, targets, _ in training_batches(colours, batch_size=8, augmentation=augmentation, seed=1):
            assert set(np.unique(targets)) == {0, 1}


def test_weights_are_mixed_like_the_targets(colours):
    per_class = class_weights(colours.targets(np.arange(24)), 3)
    weights, expected = [], []
    for _, targets, batch_weights in training_batches(colours, batch_size=8, augmentation="strong", balance="class_weight", seed=1, epochs=3):
        weights += batch_weights.numpy().tolist()
        expected += (targets.numpy() @ per_class).tolist()
    np.testing.assert_allclose(weights, expected, rtol=1e-5)
    assert len(set(np.round(weights, 4))) > 3  # not those of the classes alone


@pytest.mark.parametrize("balance", BALANCES)
def test_a_mixed_stream_that_starts_later_is_the_rest_of_the_full_one(colours, balance):
    arguments = {"batch_size": 8, "augmentation": "strong", "balance": balance, "seed": 5, "epochs": 3}
    full, rest = list(training_batches(colours, **arguments)), list(training_batches(colours, first_epoch=2, **arguments))
    assert len(rest) == len(full) // 3 == -(-examples_per_epoch(colours, balance) // 8)
    for one, other in zip(full[-len(rest):], rest, strict=True):
        for part, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(part, same)
