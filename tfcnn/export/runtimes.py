"""`run_file`: an exported file on many photos in its own runtime, in a fresh process, with what it took."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfcnn.errors import WorkError

COPIED = 64  # photos at a time, so that a large test split does not have to fit into memory
THREADS = (1, 2)
TIMED = 50  # photos for a number of threads beside the first, which runs all
SCRIPT = Path(__file__).with_name("run_file.py")


class Measured(NamedTuple):
    """What a file gave and took.

    Attributes:
        scores: (n, labels).
        latency: median and 95th percentile of the milliseconds a photo, one photo at a time, by number of threads, on this host.
        memory: the most memory of the process in bytes: the runtime, the model and one photo.
    """

    scores: np.ndarray
    latency: dict[int, tuple[float, float]]
    memory: int


def run_file(runtime: str, path: Path, photos) -> Measured:
    """Runs an exported file on photos in a process that holds nothing but its runtime, which shows that the file is all that is needed.

    Args:
        runtime: a name of `LOADERS` in run_file.py.
        path: the file or folder; photos and scores lie beside it meanwhile, under a temporary name.
        photos: uint8 (n, height, width, channels), or series float32 (n, steps, channels), an array or what is indexed like one.

    Raises:
        WorkError: the file does not load or run.
    """
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=path.parent) as folder:
        pixels = Path(folder) / "photos.npy"
        _copy(photos, pixels, len(photos))
        scores, milliseconds, memory = _run(runtime, path, pixels, THREADS[0])
        latency = {THREADS[0]: _summary(milliseconds)}
        if len(photos) > TIMED:
            _copy(photos, pixels, TIMED)
        for threads in THREADS[1:]:
            latency[threads] = _summary(_run(runtime, path, pixels, threads)[1])
    return Measured(scores, latency, memory)


def scores_of(runtime: str, path: Path, photos) -> np.ndarray:
    """The scores (n, labels) alone; see `run_file`."""
    with tempfile.TemporaryDirectory() as folder:
        pixels = Path(folder) / "photos.npy"
        _copy(photos, pixels, len(photos))
        return _run(runtime, path, pixels, threads=2)[0]


def _copy(photos, pixels: Path, count: int) -> None:
    """Some photos as a `.npy` file, by ordinary writing: where a mapped file finds the disk full, the process dies without a word."""
    with open(pixels, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": photos.dtype.str, "fortran_order": False, "shape": (count, *photos.shape[1:])})
        for start in range(0, count, COPIED):
            file.write(np.ascontiguousarray(photos[start:min(start + COPIED, count)], dtype=photos.dtype).data)


def _run(runtime: str, path: Path, pixels: Path, threads: int) -> tuple[np.ndarray, np.ndarray, int]:
    result = pixels.with_name("result.npz")
    command = [sys.executable, "-P", str(SCRIPT), runtime, str(path), str(pixels), str(result), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise WorkError(f"expected '{path.name}' to load and run in a fresh process, but it failed: {lines[-1]}")
    with np.load(result) as arrays:
        return arrays["scores"], arrays["milliseconds"], int(arrays["memory"])


def _summary(milliseconds: np.ndarray) -> tuple[float, float]:
    return round(float(np.median(milliseconds)), 3), round(float(np.percentile(milliseconds, 95)), 3)
