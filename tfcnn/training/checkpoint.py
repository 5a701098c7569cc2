"""Checkpoints of a fine-tuning: one file an epoch, complete or not there."""

import csv
import re
from pathlib import Path

from tfcnn.errors import InputError
from tfcnn.record import write_aside


def save_checkpoint(model, folder: Path, epoch: int) -> None:
    """Writes weights and optimizer slots after `epoch` epochs, then removes the checkpoint before it."""
    with write_aside(folder / f"epoch-{epoch:04d}.weights.h5") as aside:
        model.save_weights(aside)
    for number, file in _checkpoints(folder):
        if number < epoch:
            file.unlink()


def restore_checkpoint(model, folder: Path) -> int:
    """Loads the newest checkpoint into a compiled model; returns the number of epochs it has behind it, 0 without one."""
    found = _checkpoints(folder)
    if not found:
        return 0
    epoch, file = found[-1]
    model.optimizer.build(model.trainable_variables)  # so that there are slots to load into
    try:
        model.load_weights(file)
    except (ValueError, OSError, KeyError) as error:
        raise InputError(f"expected a checkpoint of this model in '{file}', but it cannot be loaded; train again with --overwrite") from error
    return epoch


def read_history(file: Path) -> list[dict]:
    """The rows of a history.csv; none if there is no file."""
    if not file.exists():
        return []
    with open(file, newline="", encoding="utf-8") as lines:
        return [{"epoch": int(row.pop("epoch")), **{k: float(v) for k, v in row.items()}} for row in csv.DictReader(lines)]


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    pattern = re.compile(r"epoch-(\d+)\.weights\.h5")
    return sorted((int(m.group(1)), file) for file in folder.glob("*.h5") if (m := pattern.fullmatch(file.name)))
