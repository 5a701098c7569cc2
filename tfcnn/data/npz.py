"""`.npz` files that may be larger than memory: what their arrays are, and the rows of one, one by one."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np


def rows_of_npz(path: str | Path, name: str) -> Iterator[np.ndarray]:
    """The rows of an array of an `.npz` one by one, so that it may be larger than memory."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as content:
        shape, fortran, dtype = _header(content)
        if fortran:
            with np.load(path, allow_pickle=False) as file:
                yield from file[name]
            return
        length = dtype.itemsize * int(np.prod(shape[1:]))
        for _ in range(shape[0]):
            yield np.frombuffer(content.read(length), dtype).reshape(shape[1:])


def shapes_of_npz(path: str | Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Shape and type of each array of an `.npz`, without reading them."""
    with zipfile.ZipFile(path) as archive:
        found = {}
        for name in archive.namelist():
            with archive.open(name) as content:
                shape, _, dtype = _header(content)
                found[name.removesuffix(".npy")] = (shape, dtype)
        return found


def _header(content) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(content)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(content)
