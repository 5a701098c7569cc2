"""The batches that are read from a `Dataset`."""

import numpy as np
import pytest

from tfcnn.data.dataset import Dataset, Item, batches, training_batches

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
    return [(pixels.numpy()[:, 0, 0, 0] / 10).astype(int).tolist() for pixels, _ in dataset]


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


def test_training_targets_are_one_hot_and_belong_to_their_photo(data):
    for pixels, targets in training_batches(data, batch_size=3, augmentation="none", seed=1, epochs=2):
        rows = (pixels.numpy()[:, 0, 0, 0] / 10).astype(int)
        np.testing.assert_array_equal(targets, np.eye(3, dtype=np.float32)[data.targets(rows)])


def test_the_same_seed_gives_the_same_stream_and_another_seed_another(data):
    stream = lambda seed: np.concatenate([pixels for pixels, _ in training_batches(data, batch_size=8, augmentation="medium", seed=seed, epochs=2)])
    first = stream(7)
    np.testing.assert_array_equal(first, stream(7))
    assert not np.array_equal(first, stream(8))
    order = lambda seed: rows_of(training_batches(data, batch_size=8, augmentation="none", seed=seed))
    assert order(7) != order(8)


def test_the_largest_seed_that_train_takes_works(data):
    got = list(training_batches(data, batch_size=3, augmentation="light", seed=2**31 - 1, first_epoch=1, epochs=2))
    assert [len(pixels) for pixels, _ in got] == [3, 3, 2]
    assert sum(targets.numpy().sum(axis=0) for _, targets in got).tolist() == [2, 4, 2]


def test_each_epoch_and_each_step_augments_anew():
    photo = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    items = tuple(Item(str(row), "a", "train", "0") for row in range(4))  # equal photos: only the changes can tell them apart
    data = Dataset(inputs=np.stack([photo] * 4), items=items, labels=("a",), input_shape=(8, 8, 3))
    changed = [pixels.numpy().tobytes() for pixels, _ in training_batches(data, batch_size=1, augmentation="light", seed=0, epochs=3)]
    assert len(set(changed)) == len(changed) == 12


@pytest.mark.parametrize("first_epoch", [1, 3])
def test_a_stream_that_starts_later_is_the_rest_of_the_full_one(data, first_epoch):
    full = list(training_batches(data, batch_size=3, augmentation="medium", seed=2, epochs=4))
    rest = list(training_batches(data, batch_size=3, augmentation="medium", seed=2, first_epoch=first_epoch, epochs=4))
    assert len(rest) == (4 - first_epoch) * 3
    for (pixels, targets), (again, targets_again) in zip(full[first_epoch * 3:], rest, strict=True):
        np.testing.assert_array_equal(pixels, again)
        np.testing.assert_array_equal(targets, targets_again)
