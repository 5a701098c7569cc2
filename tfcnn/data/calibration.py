"""The photos that 8-bit files are calibrated on: chosen once, kept in the run folder, so that they are there when the data is not."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfcnn.data.dataset import Dataset, in_turn
from tfcnn.errors import InputError
from tfcnn.files import write_aside
from tfcnn.record import Run

CALIBRATION_FILE = "calibration.npz"
CALIBRATION_PHOTOS = 100  # TensorFlow's guide asks for 100 to 500; they stay in the run folder
HELD_OUT_PHOTOS = 50  # to choose layers with


class Calibration(NamedTuple):
    """Photos uint8 (n, height, width, channels): `photos` that ranges are measured on, and `held_out`, which the training did not learn from."""

    photos: np.ndarray
    held_out: np.ndarray


def choose_calibration(data: Dataset) -> Calibration:
    """Training photos and validation photos, the labels in turn, so that each is there as often as the others."""
    return _read(data, _chosen_rows(data))


def write_calibration(folder: Path, data: Dataset) -> dict:
    """Keeps the chosen photos in a run folder.

    Returns:
        What `run.json` says of them: `file`, the `sha256` of it, `photos` and `held_out`, the SHA-256 of each photo as in `items.csv`.
    """
    rows = _chosen_rows(data)
    with write_aside(folder / CALIBRATION_FILE) as aside:
        np.savez_compressed(aside, **_read(data, rows)._asdict())
        digest = hashlib.sha256(aside.read_bytes()).hexdigest()
    photos, held_out = ([data.items[row].sha256 for row in some] for some in rows)
    return {"file": CALIBRATION_FILE, "sha256": digest, "photos": photos, "held_out": held_out}


def read_calibration(run: Run) -> Calibration | None:
    """The photos that a run keeps; None for a run that has none.

    Raises:
        InputError: the file is missing or not the one that was written.
    """
    told = run.record.get("calibration")
    if not told:
        return None
    file = run.path / told["file"]
    if not file.exists():
        raise InputError(f"expected the calibration photos of the run in '{file}', but the file is missing; put it back, or train again with --overwrite")
    if hashlib.sha256(file.read_bytes()).hexdigest() != told["sha256"]:
        raise InputError(f"expected the calibration photos of the run in '{file}', but the file was changed or is damaged; "
                         "put the right one back, or train again with --overwrite")
    with np.load(file) as arrays:
        return Calibration(arrays["photos"], arrays["held_out"])


def _chosen_rows(data: Dataset) -> list[np.ndarray]:
    """The rows of training and of validation photos."""
    chosen = []
    for split, count in (("train", CALIBRATION_PHOTOS), ("validation", HELD_OUT_PHOTOS)):
        rows = data.rows(split)
        chosen.append(rows[in_turn(data.targets(rows))][:count])
    return chosen


def _read(data: Dataset, chosen: list[np.ndarray]) -> Calibration:
    return Calibration(*(np.asarray(data.inputs[rows], data.inputs.dtype) for rows in chosen))
