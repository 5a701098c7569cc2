"""The on-disk store of array rows."""

import numpy as np

from tfcnn.data.store import Store


def test_rows_come_back_in_the_order_asked_for(tmp_path):
    store = Store(tmp_path / "s")
    first, second = np.arange(6, dtype=np.float32).reshape(3, 2), np.array([[9, 9], [8, 8]], np.float32)
    store.add(["a", "b", "c"], first)
    store.add(["d", "e"], second)
    again = Store(tmp_path / "s")
    rows = again.rows(["e", "a", "d"])
    assert rows.shape == (3, 2) and len(rows) == 3
    np.testing.assert_array_equal(rows[np.array([0, 1, 2])], [[8, 8], [0, 1], [9, 9]])
    np.testing.assert_array_equal(rows[1], [0, 1])
    assert rows[np.array([], int)].shape == (0, 2)


def test_a_part_without_its_keys_does_not_count(tmp_path):
    store = Store(tmp_path)
    store.add(["a"], np.zeros((1, 2)))
    for keys in tmp_path.glob("*.keys"):  # what a process killed between the two renames leaves
        keys.unlink()
    assert "a" not in Store(tmp_path)
