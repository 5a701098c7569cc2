"""An on-disk store of array rows, each found again by a content key; photos and features are kept in it.

A store is a folder of parts. A part is `NAME.npy` (rows) and `NAME.keys` (one key a line). The array is renamed into
place before the key file, and only whole parts are read, so a killed process leaves at worst an unused array. A part is
named by its keys: two processes that build the same part replace it by its equal. Rows are read with `preadv` and not
mapped: mapped pages count as memory of the process, and each map holds a file open.
"""

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from tfcnn.errors import InputError, WorkError
from tfcnn.files import write_aside
from tfcnn.locks import Lock

KINDS = ("photos", "thumbnails", "features", "volumes", "videos")  # what is kept, a folder each
CACHE_GB = 50  # of everything in the cache, unless TFCNN_CACHE_GB says otherwise
LEFTOVER_SECONDS = 86_400  # a temporary file this old belongs to a process that died


def cache_folder() -> Path:
    """The folder of everything that can be computed again: `$TFCNN_CACHE`, else the user's cache folder."""
    base = os.environ.get("TFCNN_CACHE")
    if base:
        return Path(base)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tfcnn"


def cache_bound() -> int:
    """Bytes that the cache may take: `$TFCNN_CACHE_GB`, else CACHE_GB."""
    text = os.environ.get("TFCNN_CACHE_GB") or str(CACHE_GB)
    try:
        bound = float(text)
    except ValueError:
        bound = -1.0
    if not 0 <= bound < float("inf"):
        raise InputError(f"expected gigabytes from 0 up, got TFCNN_CACHE_GB={text}; set it to a number such as {CACHE_GB}")
    return int(bound * 1e9)


class Part(NamedTuple):
    """Where the rows of one part begin in their file, and how many there are."""

    file: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype


class Store:
    """Rows of equal shape and dtype under content keys; while it is open, `trim_cache` leaves its parts alone."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = Lock(folder, alone=False, wait=True)
        self._parts: list[Part] = []
        self._where: dict[str, tuple[int, int]] = {}
        for keys_file in sorted(folder.glob("[!.]*.keys")):
            self._index(keys_file)

    def _index(self, keys_file: Path) -> None:
        keys = keys_file.read_text(errors="replace").split()  # of a damaged file no key will ever be asked for
        part = _open_part(keys_file.with_suffix(".npy"), len(keys))
        if part is not None:
            self._where.update((key, (len(self._parts), row)) for row, key in enumerate(keys))
            self._parts.append(part)

    def __contains__(self, key: str) -> bool:
        return key in self._where

    def add(self, keys: Sequence[str], rows: Sequence[np.ndarray] | np.ndarray) -> None:
        """Publishes one part; `rows[i]`, all of one shape and dtype, belongs to `keys[i]`."""
        name = hashlib.sha256("\n".join(keys).encode()).hexdigest()[:16]
        with write_aside(self.folder / f"{name}.npy") as path, open(path, "wb") as file:
            _write_rows(file, rows)
        with write_aside(self.folder / f"{name}.keys") as path:
            path.write_text("\n".join(keys))
        self._index(self.folder / f"{name}.keys")

    def rows(self, keys: Sequence[str]) -> "StoredRows":
        """The rows of these keys, in this order, read from disk only when they are indexed."""
        places = np.array([self._where[key] for key in keys], dtype=np.int64).reshape(-1, 2)
        for number in np.unique(places[:, 0]):  # the time of the last use, by which `trim_cache` chooses
            try:
                os.utime(self._parts[number].file.with_suffix(".keys"))
            except OSError:  # a cache that may only be read
                break
        return StoredRows(self._parts, places, self._lock)


def _write_rows(file: BinaryIO, rows: Sequence[np.ndarray] | np.ndarray) -> None:
    """Rows as `np.save` writes their stack, but one by one, since stacked they would be in memory twice."""
    shape, dtype = (len(rows), *rows[0].shape), np.lib.format.dtype_to_descr(rows[0].dtype)
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    file.writelines(np.ascontiguousarray(row).data for row in rows)


class StoredRows:
    """Reads like an array with rows on disk: `rows[indices]` copies just those rows into memory."""

    def __init__(self, parts: Sequence[Part], places: np.ndarray, lock: Lock):
        self._parts, self._places, self._lock = list(parts), places, lock
        sample = self._parts[places[0, 0] if len(places) else 0]
        self.shape = (len(places), *sample.shape[1:])
        self.dtype = sample.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices) -> np.ndarray:
        places = self._places[indices]
        rows = self._read(places.reshape(-1, 2))
        return rows[0] if places.ndim == 1 else rows

    def choose(self, indices) -> "StoredRows":
        """Some of the rows, in this order, still on disk."""
        return StoredRows(self._parts, self._places[indices], self._lock)

    def _read(self, places: np.ndarray) -> np.ndarray:
        rows = np.empty((len(places), *self.shape[1:]), self.dtype)
        row_bytes = self.dtype.itemsize * int(np.prod(self.shape[1:]))
        order = np.lexsort((places[:, 1], places[:, 0]))
        for group in np.split(order, np.flatnonzero(np.diff(places[order, 0])) + 1) if len(order) else ():
            part = self._parts[places[group[0], 0]]
            with open(part.file, "rb", buffering=0) as file:
                for row in group:
                    where = part.offset + int(places[row, 1]) * row_bytes
                    if os.preadv(file.fileno(), [rows[row:row + 1].view(np.uint8).reshape(-1).data], where) != row_bytes:
                        raise WorkError(f"expected a whole row of the cache in '{part.file}', but the file was cut; remove it and start again")
        return rows


def _open_part(file: Path, count: int) -> Part | None:
    """The part in a file; None if the file is missing, cut short or of another length than its keys, so that it is made again."""
    try:
        rows = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return Part(file, rows.offset, rows.shape, rows.dtype) if len(rows) == count else None


class CacheEntry(NamedTuple):
    """One store of the cache: its name, rows, bytes on disk, seconds since 1970 of its last use, and whether a process has it open."""

    name: str
    rows: int
    bytes: int
    used: float
    in_use: bool


def list_cache() -> list[CacheEntry]:
    """What the cache holds, one entry a store."""
    entries = []
    for folder in _stores():
        keys = list(folder.glob("[!.]*.keys"))
        count = sum(len(file.read_text(errors="replace").split()) for file in keys)
        lock = _try_lock(folder)
        entries.append(CacheEntry(str(folder.relative_to(cache_folder())), count, _size(folder),
                                  max((file.stat().st_mtime for file in keys), default=folder.stat().st_mtime), lock is None))
        if lock:
            lock.release()
    return entries


def trim_cache(limit: int) -> int:
    """Removes the parts that were not used for longest until the cache takes at most `limit` bytes; gives the bytes it freed.

    What killed processes left goes first: after a day, at once for a limit of 0. Stores that a process has open are left alone.
    """
    before = sum(_size(folder) for folder in _stores())
    locks = {folder: lock for folder in _stores() if (lock := _try_lock(folder))}
    total = before
    for file in [file for folder in locks for file in _leftovers(folder)]:
        if limit == 0 or time.time() - file.stat().st_mtime > LEFTOVER_SECONDS:
            total -= _bytes(file)
            file.unlink(missing_ok=True)
    parts = sorted((keys.stat().st_mtime, keys) for folder in locks for keys in folder.glob("[!.]*.keys"))
    for _, keys in parts:
        if total <= limit:
            break
        rows = keys.with_suffix(".npy")
        total -= _bytes(keys) + _bytes(rows)
        keys.unlink()  # first, so that no key points at rows that are gone
        rows.unlink(missing_ok=True)
    for lock in locks.values():
        lock.release()
    return before - total


def _leftovers(folder: Path) -> list[Path]:
    """Temporary files, and rows without their keys."""
    return [*folder.glob(".tmp-*"), *(file for file in folder.glob("[!.]*.npy") if not file.with_suffix(".keys").exists())]


def _stores() -> list[Path]:
    """Folders of ours alone: the cache folder may be shared with other programs, and they have locks too."""
    return sorted(lock.parent for kind in KINDS for lock in cache_folder().glob(f"{kind}/*/.lock"))


def _try_lock(folder: Path) -> Lock | None:
    """None where a process has it open, or where that cannot be known."""
    try:
        lock = Lock(folder, alone=True)
    except OSError:
        return None
    return lock if lock.holds else None


def _size(folder: Path) -> int:
    return sum(_bytes(file) for file in folder.iterdir() if file.name != ".lock")


def _bytes(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # another process renamed it meanwhile
        return 0
