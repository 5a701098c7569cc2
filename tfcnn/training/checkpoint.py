"""Checkpoints of a fine-tuning: one file an epoch, complete or not there."""

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfcnn.errors import InputError
from tfcnn.record import write_aside


def save_checkpoint(model, folder: Path, epoch: int) -> None:
    """Writes weights, optimizer slots and random states after `epoch` epochs, then removes the checkpoint before it."""
    save_state(folder / f"epoch-{epoch:04d}.npz", _variables(model))
    for number, file in _checkpoints(folder):
        if number < epoch:
            file.unlink()


def restore_checkpoint(model, folder: Path) -> None:
    """Loads the newest checkpoint into a model whose optimizer is built.

    Raises:
        InputError: the file is damaged or of another model.
    """
    restore_state(_checkpoints(folder)[-1][1], _variables(model))


def completed_epochs(folder: Path) -> int:
    """The number of epochs that the newest checkpoint has behind it, 0 without one."""
    found = _checkpoints(folder)
    return found[-1][0] if found else 0


def best_file(folder: Path, epoch: int) -> Path:
    """Where the weights of an epoch are kept while no later one is better."""
    return folder / f"best-{epoch:04d}.npz"


def remove_other_bests(folder: Path, epoch: int) -> None:
    """Removes the weights of epochs that are not the best any more; called when the history names this one."""
    for file in folder.glob("best-*.npz"):
        if file != best_file(folder, epoch):
            file.unlink()


def save_state(file: Path, variables: Sequence) -> None:
    """Writes the values of variables, in order. NumPy writes them: HDF5 crashes the process when the disk is full."""
    state = {f"{number:05d}": np.asarray(variable) for number, variable in enumerate(variables)}
    with write_aside(file) as aside, open(aside, "wb") as content:
        np.savez(content, **state)


def restore_state(file: Path, variables: Sequence) -> None:
    """Loads what `save_state` wrote.

    Raises:
        InputError: the file is missing, damaged, or of other variables.
    """
    try:
        with np.load(file) as state:
            for variable, name in zip(variables, sorted(state), strict=True):
                variable.assign(state[name])
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"expected a checkpoint of this model in '{file}', but it cannot be loaded; train again with --overwrite") from error


def _variables(model) -> list:
    return [*model.variables, *model.optimizer.variables]


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    pattern = re.compile(r"epoch-(\d+)\.npz")
    return sorted((int(m.group(1)), file) for file in folder.glob("*.npz") if (m := pattern.fullmatch(file.name)))
