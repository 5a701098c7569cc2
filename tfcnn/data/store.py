"""An on-disk store of array rows, each found again by a content key; photos and features are kept in it.

A store is a folder of parts. A part is `NAME.npy` (rows, memory-mapped when read) and `NAME.keys` (one key a line). The
array is renamed into place before the key file, and only parts with a key file are read, so a killed process leaves at
worst an unused array. A part is named by its keys: two processes that build the same part replace it by its equal.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfcnn.record import write_aside


def cache_folder() -> Path:
    """The folder of everything that can be computed again: `$TFCNN_CACHE`, else the user's cache folder."""
    base = os.environ.get("TFCNN_CACHE")
    if base:
        return Path(base)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tfcnn"


class Store:
    """Rows of equal shape and dtype under content keys."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._where: dict[str, tuple[str, int]] = {}
        for keys_file in sorted(folder.glob("*.keys")):
            if keys_file.with_suffix(".npy").exists():
                self._index(keys_file.stem, keys_file.read_text().split())

    def _index(self, part: str, keys: Sequence[str]) -> None:
        self._where.update((key, (part, row)) for row, key in enumerate(keys))

    def __contains__(self, key: str) -> bool:
        return key in self._where

    def add(self, keys: Sequence[str], rows: np.ndarray) -> None:
        """Publishes one part; `rows[i]` belongs to `keys[i]`."""
        part = hashlib.sha256("\n".join(keys).encode()).hexdigest()[:16]
        self.folder.mkdir(parents=True, exist_ok=True)
        with write_aside(self.folder / f"{part}.npy") as path, open(path, "wb") as file:
            np.save(file, rows)
        with write_aside(self.folder / f"{part}.keys") as path:
            path.write_text("\n".join(keys))
        self._index(part, keys)

    def rows(self, keys: Sequence[str]) -> "StoredRows":
        """The rows of these keys, in this order, read from disk only when they are indexed."""
        names = sorted({self._where[key][0] for key in keys})
        parts = [np.load(self.folder / f"{name}.npy", mmap_mode="r") for name in names]
        number = {name: index for index, name in enumerate(names)}
        places = np.array([(number[part], row) for part, row in (self._where[key] for key in keys)])
        return StoredRows(parts, places.reshape(-1, 2))


class StoredRows:
    """Reads like an array with rows on disk: `rows[indices]` copies just those rows into memory."""

    def __init__(self, parts: list[np.ndarray], places: np.ndarray):
        self._parts, self._places = parts, places
        self.shape = (len(places), *parts[0].shape[1:])
        self.dtype = parts[0].dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices) -> np.ndarray:
        places = self._places[indices]
        if places.ndim == 1:
            return np.array(self._parts[places[0]][places[1]])
        return np.stack([self._parts[part][row] for part, row in places]) if len(places) else (
            np.empty((0, *self.shape[1:]), self.dtype))
