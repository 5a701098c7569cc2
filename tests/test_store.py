"""The on-disk store of array rows, and the bound on what all stores take."""

import itertools
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from tfcnn.data import store as store_module
from tfcnn.data.store import LEFTOVER_SECONDS, Store, cache_bound, cache_folder, list_cache, trim_cache
from tfcnn.errors import InputError, WorkError

ROWS = np.arange(48, dtype=np.float32).reshape(12, 2, 2)
KEYS = [f"k{number}" for number in range(12)]

# A process that opens the store argv[1] and holds it until its input ends.
HOLDER = """
import sys
from pathlib import Path
from tfcnn.data.store import Store
store = Store(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the test's own."""
    monkeypatch.setenv("TFCNN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fill(folder, parts, *, rows=100, age=0):
    """Files (.npy, .keys) of so many closed parts of one store, each used a minute before the next, the last `age` seconds ago."""
    files = []
    for part in range(parts):
        before = set(folder.glob("*.npy"))
        Store(folder).add([f"{folder.name}-{part}-{row}" for row in range(rows)], np.zeros((rows, 100), np.uint8))
        (array,) = set(folder.glob("*.npy")) - before
        files.append((array, array.with_suffix(".keys")))
    for part, (_, keys) in enumerate(files):
        used = time.time() - age - 60 * (parts - 1 - part)
        os.utime(keys, (used, used))
    return files


def size_of(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != ".lock")


def leftover(path, age):
    """A file that a killed process left so many seconds ago."""
    path.write_bytes(b"x" * 1000)
    os.utime(path, (time.time() - age, time.time() - age))
    return path


# Rows.


def test_rows_come_back_in_the_order_asked_for(tmp_path):
    store = Store(tmp_path / "s")
    first, second = np.arange(6, dtype=np.float32).reshape(3, 2), np.array([[9, 9], [8, 8]], np.float32)
    store.add(["a", "b", "c"], first)
    store.add(["d", "e"], second)
    again = Store(tmp_path / "s")
    rows = again.rows(["e", "a", "d"])
    assert rows.shape == (3, 2) and len(rows) == 3 and rows.dtype == np.float32
    np.testing.assert_array_equal(rows[np.array([0, 1, 2])], [[8, 8], [0, 1], [9, 9]])
    np.testing.assert_array_equal(rows[1], [0, 1])
    assert rows[np.array([], int)].shape == (0, 2)


@pytest.mark.parametrize("index", [
    slice(None), slice(2, 9), slice(None, None, -1), slice(10, 2, -3), slice(5, 5), [3], [11, 0, 5, 5, 0], np.array([-1, -12]), np.array([[0, 5], [11, 3]])[0],
    np.arange(12) % 3 == 0, np.zeros(12, bool), np.arange(12)[::-1], 0, 7, -1, np.int64(3)], ids=str)
def test_indexing_is_that_of_an_array_over_several_parts(tmp_path, index):
    store = Store(tmp_path)
    order = np.random.default_rng(0).permutation(12)
    for part in np.split(order, [1, 6, 8]):
        store.add([KEYS[row] for row in part], ROWS[part])
    got = Store(tmp_path).rows(KEYS)[index]
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, ROWS[index])


@pytest.mark.parametrize("index", [12, -13, [0, 12], np.ones(11, bool)], ids=str)
def test_an_index_out_of_range_is_an_error(tmp_path, index):
    store = Store(tmp_path)
    store.add(KEYS, ROWS)
    with pytest.raises(IndexError):
        store.rows(KEYS)[index]


@pytest.mark.parametrize("indices", [[2, 3, 4, 8], [11, 0, 5, 5], [7], []], ids=str)
def test_chosen_rows_are_read_only_when_they_are_indexed(tmp_path, indices):
    store = Store(tmp_path)
    for part in np.split(np.arange(12), [5]):
        store.add([KEYS[row] for row in part], ROWS[part])
    indices = np.array(indices, np.int64)
    rows = store.rows(KEYS).choose(indices)
    assert len(rows) == len(indices) and rows.shape == (len(indices), 2, 2) and rows.dtype == np.float32
    np.testing.assert_array_equal(rows[:], ROWS[indices])
    np.testing.assert_array_equal(np.array(list(rows)).reshape(-1, 2, 2), ROWS[indices])


def test_rows_are_copies(tmp_path):
    store = Store(tmp_path)
    store.add(KEYS, ROWS)
    rows = store.rows(KEYS)
    rows[:][:] = -1
    np.testing.assert_array_equal(rows[:], ROWS)


@pytest.mark.parametrize("rows", [
    np.arange(6, dtype=np.uint8).reshape(3, 2), np.arange(3.0), np.arange(24, dtype=np.float16).reshape(3, 2, 2, 2),
    np.arange(12)[::2].reshape(3, 2), np.asfortranarray(np.arange(12).reshape(3, 4))], ids=["uint8", "scalars", "float16", "strided", "Fortran"])
def test_rows_of_any_shape_and_type_are_kept(tmp_path, rows):
    Store(tmp_path).add(["a", "b", "c"], rows)
    again = Store(tmp_path).rows(["c", "b", "a"])
    assert again.dtype == rows.dtype and again.shape == rows.shape
    np.testing.assert_array_equal(again[:], rows[::-1])


def test_a_key_is_known_as_soon_as_it_is_added_and_unknown_keys_are_errors(tmp_path):
    store = Store(tmp_path)
    assert "a" not in store
    store.add(["a"], np.zeros((1, 2)))
    assert "a" in store and "b" not in store
    with pytest.raises(KeyError):
        store.rows(["b"])


# Damage.


def test_a_part_without_its_keys_does_not_count(tmp_path):
    store = Store(tmp_path)
    store.add(["a"], np.zeros((1, 2)))
    for keys in tmp_path.glob("*.keys"):  # what a process killed between the two renames leaves
        keys.unlink()
    assert "a" not in Store(tmp_path)


@pytest.mark.parametrize("left", [0, 5, 64, 128, 135, -1])
def test_a_cut_part_is_ignored_and_made_again(tmp_path, left):
    Store(tmp_path).add(KEYS, ROWS)
    (array,) = tmp_path.glob("*.npy")
    whole = array.read_bytes()
    array.write_bytes(whole[:left])
    store = Store(tmp_path)
    assert "k0" not in store
    store.add(KEYS, ROWS)
    assert array.read_bytes() == whole and len(list(tmp_path.glob("*.npy"))) == 1
    np.testing.assert_array_equal(Store(tmp_path).rows(KEYS)[:], ROWS)


def test_a_part_without_its_array_or_of_another_length_is_ignored(tmp_path):
    store = Store(tmp_path)
    store.add(["a", "b"], np.zeros((2, 2)))
    (array,) = tmp_path.glob("*.npy")
    array.with_suffix(".keys").write_text("a\nb\nc")
    assert "a" not in Store(tmp_path)
    array.with_suffix(".keys").write_text("a\nb")
    assert "a" in Store(tmp_path)
    array.unlink()
    assert "a" not in Store(tmp_path)


def test_a_part_that_is_cut_while_it_is_open_is_named(tmp_path):
    store = Store(tmp_path)
    store.add(KEYS, ROWS)
    rows = store.rows(KEYS)
    (array,) = tmp_path.glob("*.npy")
    os.truncate(array, array.stat().st_size - 1)
    np.testing.assert_array_equal(rows[:11], ROWS[:11])  # what is left is good
    with pytest.raises(WorkError, match="but the file was cut; remove it and start again") as caught:
        rows[[3, 11]]
    assert f"'{array}'" in str(caught.value)


def test_a_part_that_was_not_written_whole_leaves_nothing(tmp_path, monkeypatch):
    def fail(file, rows):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    store = Store(tmp_path)
    monkeypatch.setattr(store_module, "_write_rows", fail)
    with pytest.raises(OSError, match="No space left"):
        store.add(KEYS, ROWS)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"] and "k0" not in store


def test_a_lock_that_cannot_be_had_is_one_error(tmp_path):
    (tmp_path / ".lock").mkdir()  # stands for a folder without permission, which root does not know
    with pytest.raises(IsADirectoryError):
        Store(tmp_path)


# The bound.


def test_the_cache_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("TFCNN_CACHE", "/somewhere/else")
    assert str(cache_folder()) == "/somewhere/else"
    monkeypatch.delenv("TFCNN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert str(cache_folder()) == "/xdg/tfcnn"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert str(cache_folder()) == "/home/me/.cache/tfcnn"


@pytest.mark.parametrize("text, expected", [(None, 50e9), ("", 50e9), ("0", 0), ("1.5", 1.5e9), ("1e-3", 1e6), (" 20 ", 20e9)])
def test_the_bound_is_in_gigabytes(monkeypatch, text, expected):
    if text is None:
        monkeypatch.delenv("TFCNN_CACHE_GB", raising=False)
    else:
        monkeypatch.setenv("TFCNN_CACHE_GB", text)
    assert cache_bound() == expected


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "much", "1,5", "20GB"])
def test_a_bound_that_is_none_is_named(monkeypatch, text):
    monkeypatch.setenv("TFCNN_CACHE_GB", text)
    with pytest.raises(InputError, match="gigabytes from 0 up") as caught:
        cache_bound()
    assert f"TFCNN_CACHE_GB={text};" in str(caught.value)


def test_what_was_not_used_for_longest_goes_first_and_no_more_than_needed(cache):
    old, young = fill(cache / "features" / "a", 3, age=3600), fill(cache / "photos" / "b", 2, age=10)
    part = size_of(cache) / 5
    in_order = [*old, *young]
    for kept in (4, 3, 1):
        before = size_of(cache)
        freed = trim_cache(int(part * (kept + 0.5)))
        assert freed == before - size_of(cache) > 0
        assert [all(file.exists() for file in files) for files in in_order] == [False] * (5 - kept) + [True] * kept
        assert not any(file.exists() for files in in_order[:5 - kept] for file in files)
    assert "b-1-0" in Store(cache / "photos" / "b") and "b-0-0" not in Store(cache / "photos" / "b")


def test_a_cache_within_its_bound_is_left_alone(cache):
    fill(cache / "photos" / "a", 3)
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file()}
    assert trim_cache(size_of(cache)) == 0
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file()} == before
    assert trim_cache(size_of(cache) - 1) > 0


def test_a_part_that_was_read_is_not_the_oldest_any_more(cache):
    first, second = fill(cache / "photos" / "a", 2, age=3600)
    Store(cache / "photos" / "a").rows(["a-0-5"])
    trim_cache(size_of(cache) - 1)
    assert first[0].exists() and first[1].exists() and not second[0].exists()


def test_an_open_store_is_left_alone_and_trimmed_when_it_is_closed(cache):
    fill(cache / "photos" / "a", 2)
    store = Store(cache / "photos" / "a")
    before = size_of(cache)
    assert trim_cache(0) == 0 and size_of(cache) == before
    rows = store.rows(["a-0-0"])
    del store
    assert trim_cache(0) == 0 and rows[0].shape == (100,)  # the rows hold it open
    del rows
    assert trim_cache(0) == before and size_of(cache) == 0


def test_what_is_open_counts_and_the_rest_makes_room_for_it(cache):
    fill(cache / "photos" / "a", 2, age=3600)
    fill(cache / "photos" / "b", 2)
    part = size_of(cache) / 4
    store = Store(cache / "photos" / "a")
    trim_cache(int(part * 2.5))
    assert "a-0-0" in store and size_of(cache / "photos" / "a") == pytest.approx(2 * part, rel=0.01) and size_of(cache / "photos" / "b") == 0


def test_a_store_that_another_process_has_open_is_left_alone_until_it_ends(cache):
    fill(cache / "photos" / "a", 1)
    fill(cache / "photos" / "b", 1)
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(cache / "photos" / "a")], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == "open\n"
        assert [(entry.name, entry.in_use) for entry in list_cache()] == [("photos/a", True), ("photos/b", False)]
        trim_cache(0)
        assert size_of(cache / "photos" / "a") > 0 and size_of(cache / "photos" / "b") == 0
    finally:
        holder.kill()
        holder.communicate()
    assert trim_cache(0) > 0 and size_of(cache / "photos" / "a") == 0


def test_old_leftovers_go_and_young_ones_stay(cache):
    fill(cache / "photos" / "a", 1)
    old = [leftover(cache / "photos" / "a" / name, LEFTOVER_SECONDS + 60) for name in (".tmp-1-x.npy", ".tmp-1-x.keys", "without.npy")]
    young = [leftover(cache / "photos" / "a" / name, LEFTOVER_SECONDS - 60) for name in (".tmp-2-x.npy", "without2.npy")]
    assert trim_cache(size_of(cache) - 2500) == 3000  # they are older than the part
    assert not any(path.exists() for path in old) and all(path.exists() for path in young) and "a-0-0" in Store(cache / "photos" / "a")
    trim_cache(1)
    assert all(path.exists() for path in young) and "a-0-0" not in Store(cache / "photos" / "a")


def test_a_bound_of_zero_removes_every_leftover(cache):
    fill(cache / "photos" / "a", 2)
    leftover(cache / "photos" / "a" / ".tmp-2-x.npy", 0)
    leftover(cache / "photos" / "a" / "without.npy", 0)
    before = size_of(cache)
    assert trim_cache(0) == before
    assert [path.name for path in (cache / "photos" / "a").iterdir()] == [".lock"]


@pytest.mark.parametrize("work", [lambda folder: trim_cache(10**9), lambda folder: list_cache(), Store], ids=["trim", "list", "open"])
def test_what_another_process_renames_meanwhile_is_no_error(cache, work):
    store, ended = Store(cache / "photos" / "a"), threading.Event()

    def write():
        for number in itertools.takewhile(lambda _: not ended.is_set(), itertools.count()):
            store.add([f"k{number % 10}"], np.zeros((1, 8), np.uint8))  # renames two temporary files

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(60):
            work(cache / "photos" / "a")
    finally:
        ended.set()
        writer.join()
    assert list_cache()[0].rows == len(list(cache.rglob("*.npy"))) > 0


def test_an_empty_cache_is_nothing_to_trim_or_list(cache):
    assert trim_cache(0) == 0 and list_cache() == []
    cache.mkdir()
    assert trim_cache(0) == 0 and list_cache() == []


def test_the_list_of_the_cache_says_what_each_store_holds(cache):
    files = fill(cache / "photos" / "stretch-2-24", 2, rows=30, age=500)
    fill(cache / "features" / "x", 1, rows=5)
    used = files[1][1].stat().st_mtime
    store = Store(cache / "features" / "x")
    features, photos = list_cache()
    assert (features.name, features.rows, features.in_use) == ("features/x", 5, True)
    assert photos == ("photos/stretch-2-24", 60, size_of(cache / "photos"), used, False)
    assert 400 < time.time() - photos.used < 600
    del store
    assert not list_cache()[0].in_use


def test_files_of_other_programs_in_the_cache_folder_are_left_alone(cache):
    fill(cache / "photos" / "a", 1)
    for place in (cache / "uv", cache / "photos" / "a" / "deeper"):
        place.mkdir(parents=True)
        for name in (".lock", "precious.txt", "precious.npy"):
            (place / name).write_bytes(b"x")
            os.utime(place / name, (0, 0))
    assert [entry.name for entry in list_cache()] == ["photos/a"] and trim_cache(0) > 0
    assert len(list(cache.rglob("precious.*"))) == 4


def test_a_damaged_file_of_keys_is_as_good_as_none(tmp_path):
    Store(tmp_path).add(KEYS, ROWS)
    (keys,) = tmp_path.glob("*.keys")
    keys.write_bytes(b"\xff\xfe\x00")
    store = Store(tmp_path)
    assert "k0" not in store
    store.add(KEYS, ROWS)
    np.testing.assert_array_equal(Store(tmp_path).rows(KEYS)[:], ROWS)
