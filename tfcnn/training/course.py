"""`Course`: a fine-tuning as it is planned and as it went so far, and all that follows from these two alone.

What is a function of the recorded losses needs no state of its own in a checkpoint: plateaus, patience and the best epoch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfcnn.errors import InputError
from tfcnn.models.freeze import Trainable, open_stages, opens_stages
from tfcnn.training.config import Filled, TrainingConfig

# schedule="plateau": rates fall to a third after three epochs without a lower validation loss. Keras's own rule falls to a tenth after
# ten, made for trainings of hundreds of epochs.
PLATEAU_EPOCHS, PLATEAU_FACTOR = 3, 1 / 3


ROWS = 100  # of a history, about: twice as many epochs or more are not recorded one by one


class Phase(NamedTuple):
    """Epochs in which the same stages are open: from `first` up to (not with) `end`, with what `set_trainable` takes."""

    first: int
    end: int
    trainable: Trainable


@dataclass(frozen=True)
class Course:
    """What is to be done, and what was.

    Attributes:
        config: with nothing left open.
        stages: names of the backbone's stages from input to output.
        path: of the run folder.
        history: one dict for each epoch that was recorded; it grows.
        best_weights: with a patience, those of the best epoch so far.
    """

    config: Filled
    stages: Sequence[str]
    path: Path
    history: list[dict] = field(default_factory=list)
    best_weights: list[np.ndarray] = field(default_factory=list)

    @property
    def phases(self) -> list[Phase]:
        """Of the whole training, in order."""
        return phases_of(self.config, self.stages)

    @property
    def checkpoints(self) -> Path:
        """The folder they are in."""
        return self.path / "checkpoint"

    @property
    def every(self) -> int:
        """Epochs from one row of the history to the next: more than one where there are 200 or more, whatever the data.

        Of tens of series an epoch is a few steps, and a training has hundreds: to validate and to write a checkpoint after each took half of its time.
        """
        asks = self.config.patience or self.config.schedule == "plateau" or self.config.gradual
        return 1 if asks else max(1, self.config.epochs // ROWS)

    def is_recorded(self, epoch: int) -> bool:
        """Whether it is validated and written down where the training is after this number of epochs."""
        return epoch % self.every == 0 or epoch == self.config.epochs

    @property
    def best(self) -> int:
        """The number, from 1, of the epoch with the lowest validation loss among those in which all stages were open; 0 before there is one."""
        rows = self.history[self.phases[-1].first:]
        return min(rows, key=lambda row: row["val_loss"])["epoch"] if rows else 0

    @property
    def is_over(self) -> bool:
        """True where the patience is at its end; epochs before all stages are open do not count."""
        return bool(self.config.patience and self.best) and len(self.history) - self.best >= self.config.patience

    @property
    def rate_factor(self) -> float:
        """What a plateau rule makes of the epochs since all stages are open and their rates have risen; 1 with another schedule."""
        if self.config.schedule != "plateau":
            return 1.0
        risen = self.phases[-1].first + math.ceil(self.config.warm_up * self.config.epochs)
        return plateau_factor([row["val_loss"] for row in self.history[risen:]])


def fine_tunes(config: TrainingConfig) -> bool:
    """False where the head on cached features is all there is to train."""
    return config.epochs != 0 and (config.trainable is None or opens_stages(config.trainable))


def phases_of(config: Filled, stages: Sequence[str]) -> list[Phase]:
    """The phases of a fine-tuning: one, or with `gradual` one for each stage that is opened (Howard & Ruder 2018, section 3.3).

    Raises:
        InputError: too few epochs to open every stage.
    """
    if not config.gradual:
        return [Phase(0, config.epochs, config.trainable)]
    count = len(open_stages(stages, config.trainable))
    if config.epochs <= config.gradual * (count - 1):
        raise InputError(f"expected more than {config.gradual * (count - 1)} epochs to open {count} stages {config.gradual} epochs apart, "
                         f"got epochs={config.epochs}; give more epochs, or fewer stages with --trainable")
    starts = [config.gradual * number for number in range(count)]
    return [Phase(first, end, number) for number, (first, end) in enumerate(zip(starts, [*starts[1:], config.epochs], strict=True), start=1)]


def plateau_factor(losses: Sequence[float]) -> float:
    """What a plateau rule multiplies the rates with after these validation losses."""
    factor, lowest, waited = 1.0, np.inf, 0
    for loss in losses:
        waited = 0 if loss < lowest else waited + 1
        lowest = min(lowest, loss)
        if waited == PLATEAU_EPOCHS:
            factor, waited = factor * PLATEAU_FACTOR, 0
    return factor
