"""`read_photos`: each photo decoded once into the store, whatever interrupts it."""

import errno
import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
from PIL import Image

from tfcnn.data import read
from tfcnn.data.photo import decode_photo
from tfcnn.data.read import content_digest, read_photos
from tfcnn.data.sources import Example, Source, files_source, list_class_folders
from tfcnn.errors import InputError

SIDE, PART = 24, 7  # pixels, photos in a part of the store

# A process that reads argv[1], kills itself at the point argv[2] that is reached for the argv[3]-th time, and never comes to its end.
READER = f"""
import os, signal, sys
import numpy as np
from tfcnn.data import read, store
from tfcnn.data.sources import files_source, list_class_folders

read.PART_BYTES = {PART * 3 * SIDE**2}
where, left = sys.argv[2], [int(sys.argv[3])]

def die_at(point):
    if point == where:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

def decode(*arguments, real=read.decode_photo):
    die_at("decode")
    return real(*arguments)

def save(file, rows, real=store._write_rows):
    if where == "half a part":
        die_at_half(file, rows, real)
    real(file, rows)
    die_at("saved")

def die_at_half(file, rows, real):
    left[0] -= 1
    if left[0] < 0:
        real(file, rows)
        file.flush()
        file.truncate(sum(row.nbytes for row in rows) // 2)
        os.kill(os.getpid(), signal.SIGKILL)

def replace(old, new, real=os.replace):
    real(old, new)
    die_at("renamed")

read.decode_photo, store._write_rows, os.replace = decode, save, replace
print("ready", flush=True)
sys.stdin.readline()
read.read_photos(files_source("", list_class_folders(sys.argv[1])), {SIDE}, "stretch")
print("done")
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the test's own, whose stores have parts of PART photos."""
    monkeypatch.setenv("TFCNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(read, "PART_BYTES", PART * 3 * SIDE**2)
    return tmp_path / "cache"


@pytest.fixture
def decoded(monkeypatch):
    """The contents that are decoded from here on."""
    contents = []
    monkeypatch.setattr(read, "decode_photo", lambda content, *rest: (contents.append(content), decode_photo(content, *rest))[1])
    return contents


def source_of(folder):
    return files_source(str(folder), list_class_folders(folder))


def parts_of(cache):
    """Content of every part below a cache, by its name."""
    return {str(path.relative_to(cache)): path.read_bytes() for path in cache.rglob("*") if path.suffix in (".npy", ".keys") and path.name[0] != "."}


def rows_of(photos):
    """(pixels, thumbnails) of all reads."""
    digests = [one.digest for one in photos.reads]
    return photos.pixels.rows(digests)[:], photos.thumbnails.rows(digests)[:]


def start(folder, cache, point="none", times=0):
    process = subprocess.Popen([sys.executable, "-c", READER, str(folder), point, str(times)], text=True, env={**os.environ, "TFCNN_CACHE": str(cache)},
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    return process


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, photos):
    """The parts that a process leaves which nothing disturbs."""
    cache = tmp_path_factory.mktemp("undisturbed")
    output, error = start(photos, cache).communicate("\n")
    assert output == "done\n", error
    return parts_of(cache)


# Once.


def test_a_second_read_decodes_nothing(photos, cache, decoded):
    first = read_photos(source_of(photos), SIDE, "stretch")
    assert len(decoded) == 60 and [one.facts[:3] for one in first.reads] == [("JPEG", 56, 48)] * 60
    parts = parts_of(cache)
    second = read_photos(source_of(photos), SIDE, "stretch")
    assert len(decoded) == 60 and [one.facts for one in second.reads] == [None] * 60
    assert [one[:3] for one in second.reads] == [one[:3] for one in first.reads] and parts_of(cache) == parts
    for before, after in zip(rows_of(first), rows_of(second), strict=True):
        np.testing.assert_array_equal(before, after)


def test_what_is_stored_is_what_is_decoded(photos, cache):
    result = read_photos(source_of(photos), SIDE, "letterbox")
    pixels, thumbnails = rows_of(result)
    for row in (0, 6, 7, 59):
        path = result.reads[row].example.path
        expected = decode_photo(path, SIDE, "letterbox")
        np.testing.assert_array_equal(pixels[row], expected.pixels)
        np.testing.assert_array_equal(thumbnails[row], expected.thumbnail)
        with open(path, "rb") as file:
            content = file.read()
        assert result.reads[row].digest == hashlib.sha256(content).hexdigest() and result.reads[row].bytes == len(content)
        assert result.reads[row].reason == ""


@pytest.mark.parametrize("size, geometry", [(SIDE + 1, "stretch"), (SIDE, "letterbox"), (SIDE, "center_crop")])
def test_another_size_or_geometry_is_another_store(photos, cache, decoded, size, geometry):
    read_photos(source_of(photos), SIDE, "stretch")
    read_photos(source_of(photos), size, geometry)
    assert len(decoded) == 120
    read_photos(source_of(photos), SIDE, "stretch")
    assert len(decoded) == 120


def test_only_a_changed_file_is_decoded_anew(photos, tmp_path, cache, decoded):
    folder = shutil.copytree(photos, tmp_path / "p")
    before = read_photos(source_of(folder), SIDE, "stretch")
    Image.new("RGB", (30, 30), (1, 2, 3)).save(folder / "green" / "07.jpg", format="PNG")
    after = read_photos(source_of(folder), SIDE, "stretch")
    assert len(decoded) == 61
    changed = [row for row in range(60) if before.reads[row].digest != after.reads[row].digest]
    assert [after.reads[row].example.path for row in changed] == [str(folder / "green" / "07.jpg")]
    assert (after.pixels.rows([after.reads[changed[0]].digest])[0] == (1, 2, 3)).all()
    shutil.copy(photos / "green" / "07.jpg", folder / "green")  # the old content is still there
    assert read_photos(source_of(folder), SIDE, "stretch").reads == [one._replace(facts=None) for one in before.reads]
    assert len(decoded) == 61


def test_a_moved_file_is_found_by_its_content(photos, tmp_path, cache, decoded):
    read_photos(source_of(photos), SIDE, "stretch")
    folder = shutil.copytree(photos, tmp_path / "p")
    (folder / "red" / "00.jpg").rename(folder / "red" / "zzz.png")
    result = read_photos(source_of(folder), SIDE, "stretch")
    assert len(decoded) == 60 and result.reads[-1].example.path == str(folder / "red" / "zzz.png")


def test_always_decode_gives_the_facts_of_stored_photos_and_adds_nothing(photos, cache, decoded):
    first = read_photos(source_of(photos), SIDE, "stretch")
    state = {path: path.stat().st_mtime_ns for path in cache.rglob("*.npy")}
    again = read_photos(source_of(photos), SIDE, "stretch", always_decode=True)
    assert len(decoded) == 120 and again.reads == first.reads and again.reads[0].facts is not None
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.npy")} == state


def test_copies_are_stored_once(photos, tmp_path, cache):
    paths = sorted(photos.glob("red/*.jpg"))
    examples = [Example(str(paths[number % 10]), "red") for number in range(40)]
    result = read_photos(files_source("", examples), SIDE, "stretch")
    assert len(result.reads) == 40 and len({one.digest for one in result.reads}) == 10
    keys = [key for name, content in parts_of(cache / "photos").items() if name.endswith(".keys") for key in content.decode().split()]
    assert len(keys) == len(set(keys)) == 10


# In order.


def test_reads_and_parts_follow_the_order_of_the_source(photos, cache, monkeypatch):
    def slow_first(content, *rest):
        if hashlib.sha256(content).digest()[0] % 4 == 0:
            threading.Event().wait(0.01)  # so that decoding ends in another order
        return decode_photo(content, *rest)

    monkeypatch.setattr(read, "decode_photo", slow_first)
    advanced = []
    result = read_photos(source_of(photos), SIDE, "stretch", advance=lambda: advanced.append(1))
    examples = list_class_folders(photos)
    assert [one.example for one in result.reads] == examples and len(advanced) == 60
    digests = [one.digest for one in result.reads]
    expected = {"\n".join(digests[start:start + PART]) for start in range(0, 60, PART)}
    for store in ("photos", "thumbnails"):
        assert {content.decode() for name, content in parts_of(cache / store).items() if name.endswith(".keys")} == expected


def test_two_builds_are_equal_bit_for_bit(photos, cache, undisturbed):
    read_photos(source_of(photos), SIDE, "stretch")
    assert parts_of(cache) == undisturbed and len(undisturbed) == 2 * 2 * 9


def test_at_most_two_parts_are_decoded_and_not_yet_stored(photos, cache, monkeypatch):
    alive, most, lock = [0], [0], threading.Lock()

    def change(by):
        with lock:
            alive[0] += by
            most[0] = max(most[0], alive[0])

    def decode(*arguments):
        photo = decode_photo(*arguments)
        change(1)
        weakref.finalize(photo.pixels, change, -1)
        return photo

    monkeypatch.setattr(read, "decode_photo", decode)
    read_photos(source_of(photos), SIDE, "stretch")
    assert PART < most[0] <= 2 * PART and alive[0] == 0


# Interrupted.


@pytest.mark.parametrize("point, times, decodes", [
    ("decode", 0, {60}), ("decode", 25, {60 - 14, 60 - 21}),  # photos of the fourth part begin when two parts are stored
    ("half a part", 6, {60 - 21}), ("saved", 7, {60 - 21}),  # pixels and thumbnails take turns
    ("renamed", 12, {60 - 21}), ("renamed", 13, {60 - 21}), ("renamed", 14, {60 - 21}), ("renamed", 15, {60 - 28})])
def test_a_build_that_was_killed_goes_on_and_ends_with_the_same_files(photos, cache, decoded, undisturbed, point, times, decodes):
    process = start(photos, cache, point, times)
    output, error = process.communicate("\n")
    assert process.returncode == -signal.SIGKILL and output == "", error
    assert 0 <= len(parts_of(cache)) < len(undisturbed)
    result = read_photos(source_of(photos), SIDE, "stretch")
    assert len(decoded) in decodes
    assert parts_of(cache) == undisturbed
    pixels, _ = rows_of(result)
    np.testing.assert_array_equal(pixels[59], decode_photo(result.reads[59].example.path, SIDE).pixels)


def test_two_processes_that_build_the_same_store_at_once_end_with_the_same_files(photos, cache, decoded, undisturbed):
    processes = [start(photos, cache) for _ in range(2)]
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        output, error = process.communicate(timeout=60)
        assert process.returncode == 0 and output == "done\n", error
    result = read_photos(source_of(photos), SIDE, "stretch")
    assert decoded == [] and len(result.reads) == 60
    pixels, thumbnails = rows_of(result)
    for row, one in enumerate(result.reads):
        expected = decode_photo(one.example.path, SIDE)
        assert (pixels[row] == expected.pixels).all() and (thumbnails[row] == expected.thumbnail).all()
    assert parts_of(cache) == undisturbed and not list(cache.rglob(".tmp-*"))


# What cannot be read.


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.ENOMEM, errno.ESTALE])
@pytest.mark.parametrize("when", ["open", "read"])
def test_the_trouble_of_the_machine_is_raised_and_no_files_fault(photos, cache, monkeypatch, number, when):
    class Broken(io.BytesIO):
        def read(self):
            raise OSError(number, os.strerror(number))

    def failing(path, mode):
        if not path.endswith("green/03.jpg"):
            return open(path, mode)
        if when == "read":
            return Broken()
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(read, "open", failing, raising=False)
    with pytest.raises(OSError, match=os.strerror(number)):
        read_photos(source_of(photos), SIDE, "stretch")


def test_too_little_memory_is_raised(photos, cache, monkeypatch):
    def decode(*_):
        raise MemoryError

    monkeypatch.setattr(read, "decode_photo", decode)
    with pytest.raises(MemoryError):
        read_photos(source_of(photos), SIDE, "stretch")


def test_files_that_cannot_be_used_have_a_reason_and_are_not_stored(photos, tmp_path, cache):
    whole = (photos / "red" / "00.jpg").read_bytes()
    contents = {"empty.jpg": b"", "half.jpg": whole[:len(whole) // 2], "text.jpg": b"not a photo", "whole.jpg": whole}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    examples = [Example(str(tmp_path / name), "x") for name in [*contents, "gone.jpg"]]
    reads = read_photos(files_source("", examples), SIDE, "stretch").reads
    assert [one.reason.split(":")[0] for one in reads] == ["empty", "truncated", "not an image", "", "unreadable"]
    assert "No such file" in reads[4].reason and all(one.digest == "" and one.facts is None for one in reads if one.reason)
    assert [one.bytes for one in reads] == [0, len(whole) // 2, 11, len(whole), 0]
    assert parts_of(cache).keys() == {f"{store}/stretch-2-24/{hashlib.sha256(reads[3].digest.encode()).hexdigest()[:16]}.{ending}"
                                      for store in ("photos", "thumbnails") for ending in ("npy", "keys")}


def test_a_file_without_permission_is_left_out(photos, cache, monkeypatch):
    def locked(path, mode):
        if path.endswith("red/03.jpg"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return open(path, mode)

    monkeypatch.setattr(read, "open", locked, raising=False)
    left_out = [one for one in read_photos(source_of(photos), SIDE, "stretch").reads if one.reason]
    assert [one.example.path for one in left_out] == [str(photos / "red" / "03.jpg")] and "Permission denied" in left_out[0].reason


def test_a_damaged_exif_block_is_no_reason_and_no_warning(shared, cache):
    examples = [Example(str(shared / "ugly" / name), "x") for name in ("hopper_bad_exif.jpg", "invalid-exif.jpg", "exif-dpi-zerodivision.jpg")]
    assert [one.reason for one in read_photos(files_source("", examples), SIDE, "stretch").reads] == ["", "", ""]


# Other contents than files.


def test_bytes_and_pixels_are_read_like_files(photos, cache, decoded):
    path = photos / "red" / "00.jpg"
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    contents = [path.read_bytes(), pixels, pixels[:, ::-1], str(path)]
    examples = [Example(f"row/{row}", "x") for row in range(4)]
    result = read_photos(Source("", lambda: zip(examples, contents, strict=True)), SIDE, "stretch")
    assert [one.digest for one in result.reads] == [content_digest(contents[0]), hashlib.sha256(b"(30, 40, 3)" + pixels.tobytes()).hexdigest(),
                                                    content_digest(pixels[:, ::-1].copy()), content_digest(contents[0])]
    assert [one.bytes for one in result.reads] == [path.stat().st_size, 3600, 3600, path.stat().st_size]
    assert [one.facts.format for one in result.reads] == ["JPEG", "array", "array", "JPEG"]
    stored, _ = rows_of(result)
    for row in range(4):
        np.testing.assert_array_equal(stored[row], decode_photo(contents[row], SIDE).pixels)


def test_content_that_lies_in_memory_ends_a_part_by_its_size(monkeypatch):
    monkeypatch.setattr(read, "PART_BYTES", 1000)
    pairs = [(Example(str(row), "x"), np.zeros((10, 10, 3), np.uint8)) for row in range(10)]
    assert [len(part) for part in read._parts(iter(pairs), 7)] == [4, 4, 2]
    assert [len(part) for part in read._parts(iter(pairs), 3)] == [3, 3, 3, 1]
    assert [len(part) for part in read._parts(((example, "a path") for example, _ in pairs), 7)] == [7, 3]


# With other workers, which are made up here; real ones are in test_launch.py.


def test_workers_speak_after_each_round_of_parts(photos, cache, monkeypatch):
    """So that one that is gone is noticed while photos are decoded, which may take hours."""
    said = []

    def from_all(strategy, value):
        said.append(value)
        return [value, value if isinstance(value, int) else [["", "of the other", 1]] * (60 - len(value))]

    monkeypatch.setattr(read, "count_of", lambda strategy: 2)
    monkeypatch.setattr(read, "index_of", lambda strategy: 0)
    monkeypatch.setattr(read, "from_all", from_all)
    read_photos(source_of(photos), SIDE, "stretch", strategy=object())
    assert said[:-1] == [1, 3, 5, 7] and len(said[-1]) == 32  # eight parts of eight photos and of four, every other one read here


def test_workers_with_other_numbers_of_examples_are_refused(photos, cache, monkeypatch):
    monkeypatch.setattr(read, "count_of", lambda strategy: 2)
    monkeypatch.setattr(read, "index_of", lambda strategy: 0)
    monkeypatch.setattr(read, "from_all", lambda strategy, value: [value, []])
    with pytest.raises(InputError, match="expected the same data on all 2 workers, but together they read 32 examples where this one counts 60"):
        read_photos(source_of(photos), SIDE, "stretch", strategy=object())


def test_thumbnails_that_a_worker_lacks_are_made_again(photos, cache):
    """The cache may have been trimmed of them alone."""
    before = read_photos(source_of(photos), SIDE, "stretch")
    for file in (cache / "thumbnails").glob("*/*.keys"):
        file.unlink()
    after = read._open_stores(SIDE, "stretch")
    after.reads.extend(before.reads)
    read._read_lacking(source_of(photos), after, 10, SIDE, "stretch")
    digests = [one.digest for one in before.reads]
    np.testing.assert_array_equal(after.thumbnails.rows(digests)[np.arange(60)], before.thumbnails.rows(digests)[np.arange(60)])
