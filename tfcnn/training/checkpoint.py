"""Checkpoints of a fine-tuning: one file each, complete or not there; the newest two are kept.

Not Keras's `BackupAndRestore`: it begins an interrupted epoch anew, leaves out random states, keeps one backup, and writes HDF5, which
crashes the process when the disk is full.
"""

import io
import json
import logging
import re
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfcnn.errors import InputError
from tfcnn.files import write_aside
from tfcnn.workers import bytes_from_chief, from_chief, is_chief

KEPT = 2  # the newest, and the one before it in case the newest is damaged
CLOCK_EVERY = 10  # steps after which the clock is looked at, since workers have to agree on it
ABOUT = "about"  # the array that holds everything but variables, as JSON

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """Where a training was.

    Attributes:
        epoch: epochs that were completed.
        step: steps of the next epoch that were done.
        history: the rows of the completed epochs.
        metrics: the sums behind the metrics of the epoch that was not completed.
        state: the values of all variables, in order.
        best: the weights of the best epoch so far, where the best one is to be kept.
    """

    epoch: int
    step: int
    history: list[dict]
    metrics: list[float]
    state: list[np.ndarray]
    best: list[np.ndarray]


class Saving(NamedTuple):
    """What a fine-tuning writes beside the history and a checkpoint at the end of each epoch.

    Attributes:
        steps: a checkpoint after so many steps; 0 for never.
        minutes: or when so many minutes have passed since the last one.
        tensorboard: logs for TensorBoard.
    """

    steps: int = 0
    minutes: float = 10.0
    tensorboard: bool = False


class Clock:
    """Says when a checkpoint is due, on all workers alike."""

    def __init__(self, saving: Saving, strategy):
        self._saving, self._strategy, self._steps = saving, strategy, 0
        self.restart()

    def restart(self) -> None:
        """Called when a checkpoint was written."""
        self._last = time.monotonic()

    def is_due(self, step: int) -> bool:
        """Called once at each step, with its number in the epoch."""
        self._steps += 1
        late = time.monotonic() - self._last >= 60 * self._saving.minutes
        asked = self._steps % CLOCK_EVERY == 0 and from_chief(self._strategy, late)
        return asked or bool(self._saving.steps and step % self._saving.steps == 0)


def check_saving(saving: Saving) -> None:
    """Raises InputError for numbers that say nothing."""
    if type(saving.steps) is not int or saving.steps < 0:
        raise InputError(f"expected a whole number of steps from 0 up, got checkpoint_steps={saving.steps}")
    if isinstance(saving.minutes, bool) or not isinstance(saving.minutes, (int, float)) or not saving.minutes > 0:
        raise InputError(f"expected minutes above 0, got checkpoint_minutes={saving.minutes}")


SAVING = Saving()


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint, then removes those before the last one, and those of a later step, which were damaged or belong to another try."""
    file = folder / f"epoch-{checkpoint.epoch:04d}-step-{checkpoint.step:07d}.npz"
    about = {"epoch": checkpoint.epoch, "step": checkpoint.step, "history": checkpoint.history, "metrics": checkpoint.metrics,
             "arrays": [len(checkpoint.state), len(checkpoint.best)]}
    arrays: dict[str, Any] = {f"{number:05d}": value for number, value in enumerate([*checkpoint.state, *checkpoint.best])}
    with write_aside(file) as aside, open(aside, "wb") as content:
        np.savez(content, **{ABOUT: np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays})
    found = _checkpoints(folder)
    place = found.index(file)
    for other in found[:max(0, place + 1 - KEPT)] + found[place + 1:]:
        other.unlink()


def newest_checkpoint(folder: Path, strategy=None) -> Checkpoint | None:
    """The newest checkpoint that is whole; the chief reads it for all workers."""
    content, found = b"", None
    files = _checkpoints(folder) if is_chief(strategy) else []
    while files and found is None:
        file = files.pop()
        try:
            content = file.read_bytes()
            found = _read(content)
        except _DAMAGES as error:
            logger.warning("the checkpoint '%s' is damaged (%s: %s); %s", file, type(error).__name__, error,
                           "the one before it is used" if files else "there is none before it, so fine-tuning begins anew")
    if from_chief(strategy, found is None):
        return None
    content = bytes_from_chief(strategy, content)
    return found or _read(content)


def state_of(variables: Sequence) -> list[np.ndarray]:
    """The values of variables, in order."""
    return [np.asarray(variable) for variable in variables]


def assign_state(state: Sequence[np.ndarray], variables: Sequence) -> None:
    """Sets variables to values, in order.

    Raises:
        InputError: these are the values of other variables.
    """
    if [value.shape for value in state] != [tuple(variable.shape) for variable in variables]:
        raise InputError("expected a checkpoint of this model, but its values are of other shapes; train again with --overwrite")
    for variable, value in zip(variables, state, strict=True):
        variable.assign(value)


_DAMAGES = (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile, RuntimeError)  # the last of a flag that says encrypted


def _arrays(content: bytes) -> dict[str, np.ndarray]:
    """All arrays of a file, in order; the checksum of each is compared when it is read."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return {name: file[name] for name in sorted(file)}


def _read(content: bytes) -> Checkpoint:
    arrays = _arrays(content)
    about = json.loads(arrays.pop(ABOUT).tobytes())
    state, best = about.pop("arrays")
    values = list(arrays.values())
    if state + best != len(values):
        raise ValueError("some of its arrays are missing")
    return Checkpoint(**about, state=values[:state], best=values[state:])


def _checkpoints(folder: Path) -> list[Path]:
    """From the oldest to the newest."""
    return sorted(file for file in folder.glob("*.npz") if re.fullmatch(r"epoch-\d+-step-\d+\.npz", file.name))
