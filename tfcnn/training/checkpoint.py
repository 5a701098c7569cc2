"""Checkpoints of a fine-tuning: one file an epoch, complete or not there."""

import re
import zipfile
from pathlib import Path

import numpy as np

from tfcnn.errors import InputError
from tfcnn.record import write_aside


def save_checkpoint(model, folder: Path, epoch: int) -> None:
    """Writes weights, optimizer slots and random states after `epoch` epochs, then removes the checkpoint before it.

    NumPy writes it: HDF5 crashes the process when the disk is full.
    """
    state = {f"{number:05d}": np.asarray(variable) for number, variable in enumerate(_variables(model))}
    with write_aside(folder / f"epoch-{epoch:04d}.npz") as aside, open(aside, "wb") as file:
        np.savez(file, **state)
    for number, file in _checkpoints(folder):
        if number < epoch:
            file.unlink()


def restore_checkpoint(model, folder: Path) -> int:
    """Loads the newest checkpoint into a compiled model; returns the number of epochs it has behind it, 0 without one.

    Raises:
        InputError: the file is damaged or of another model.
    """
    found = _checkpoints(folder)
    if not found:
        return 0
    epoch, file = found[-1]
    model.optimizer.build(model.trainable_variables)  # so that there are slots to load into
    try:
        with np.load(file) as state:
            for variable, name in zip(_variables(model), sorted(state), strict=True):
                variable.assign(state[name])
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"expected a checkpoint of this model in '{file}', but it cannot be loaded; train again with --overwrite") from error
    return epoch


def _variables(model) -> list:
    return [*model.variables, *model.optimizer.variables]


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    pattern = re.compile(r"epoch-(\d+)\.npz")
    return sorted((int(m.group(1)), file) for file in folder.glob("*.npz") if (m := pattern.fullmatch(file.name)))
