"""`Recorder`: what happens in a fine-tuning beside its steps: validation, history, checkpoints, the rates of a plateau, the end."""

import logging
import time
from collections.abc import Callable

import keras
import numpy as np

from tfcnn.errors import WorkError
from tfcnn.files import write_rows
from tfcnn.models.freeze import HEAD, TO_RGB, open_stages
from tfcnn.training.checkpoint import Checkpoint, Clock, Saving, save_checkpoint, state_of
from tfcnn.training.course import Course
from tfcnn.training.optimizers import last_rates, scale_rates, swap_averages
from tfcnn.training.watch import epoch_text, tensorboard_writer
from tfcnn.workers import is_chief

HISTORY = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds")  # then the rate of each stage

logger = logging.getLogger(__name__)


class Recorder(keras.callbacks.Callback):
    """Validates and writes history at the end of the epochs that the course records, and checkpoints there and in between.

    It does nothing at the end of a batch, for which Keras would wait: a step is counted when it begins.
    """

    def __init__(self, course: Course, members: dict, *, strategy, photos: int, began: Checkpoint | None, saving: Saving,
                 validate: Callable[[], dict[str, float]], advance: Callable):
        """Args:
            course: its history grows by a row an epoch.
            members: the optimizer of each stage.
            strategy: of the model.
            photos: in an epoch; a row of the history has the seconds of all epochs since the one before it.
            began: the checkpoint that the training went on from.
            saving: when checkpoints are written besides those at the end of each epoch.
            validate: gives loss and accuracy of the validation photos.
            advance: moves the bar.
        """
        super().__init__()
        self.course, self.members, self.photos, self.validate, self.advance = course, members, photos, validate, advance
        self.writes, self.clock, self.started, self.epoch = is_chief(strategy), Clock(saving, strategy), time.perf_counter(), 0
        self.resumed = (began.epoch, began.step) if began else (0, 0)
        self.since: tuple[int, int] | None = None  # (epochs, steps) that were done when the seconds of the next row began
        self.sums = began.metrics if began and began.step else []
        self.log = tensorboard_writer(course.path / "tensorboard") if saving.tensorboard and self.writes else None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self.since = self.since or (epoch, self.resumed[1] if epoch == self.resumed[0] else 0)
        if self.sums and epoch == self.resumed[0]:
            for variable, value in zip(_sums_of(self.model), self.sums, strict=True):
                variable.assign(value)

    def on_train_batch_begin(self, batch, logs=None):
        if batch and (self.epoch, batch) > self.resumed and self.clock.is_due(batch):
            self._save(self.epoch, batch)
        if (self.epoch, batch) >= self.resumed:
            self.advance()

    def on_epoch_end(self, epoch, logs=None):
        if not self.course.is_recorded(epoch + 1):
            return
        row = self._row(epoch, {**(logs or {}), **self.validate()})
        self.course.history.append(row)
        if self.course.config.patience and self.course.best == epoch + 1:
            swap_averages(self.members)
            self.course.best_weights[:] = [value.copy() for value in state_of(self.model.variables)]
            swap_averages(self.members)
        since, steps = self.since or (epoch, 0)
        photos = self.photos * (epoch + 1 - since) - steps * self.course.config.batch_size
        share = max(photos, 1) / self.photos  # nothing is left of an epoch that was done but for its end
        logger.info("%s", epoch_text(row, epochs=self.course.config.epochs, photos=photos, share=share))
        if self.writes:
            write_rows(self.course.path / "history.csv", list(row), (each.values() for each in self.course.history))
        self._save(epoch + 1, 0)
        self.since = (epoch + 1, 0)
        if self.log:
            self.log(row)
        follow_plateau(self.members, self.course)
        self.model.stop_training = self.course.is_over
        self.advance(0, f"validation accuracy {row['val_accuracy']:.3f}")

    def _row(self, epoch: int, results: dict) -> dict:
        """One of the history."""
        values = {name: round(float(results[name]), 5) for name in HISTORY if name in results}
        if not np.isfinite([values["loss"], values["val_loss"]]).all():
            raise WorkError(f"expected a finite loss, got {values['loss']} in training and {values['val_loss']} in validation in epoch {epoch + 1}: "
                            "the training diverged; give lower rates ('tfcnn find-rate' suggests some) and --overwrite")
        course, rates = self.course, last_rates(self.members)
        stages = [*([TO_RGB] if TO_RGB in self.members else []), *open_stages(course.stages, course.config.trainable), HEAD]
        self.started, taken = time.perf_counter(), time.perf_counter() - self.started  # the next epoch pays for the writing of this one
        return {"epoch": epoch + 1, **values, "seconds": round(taken, 3), **{f"rate_{name}": rates.get(name, 0.0) for name in stages}}

    def _save(self, epoch: int, step: int) -> None:
        save_place(self.model, self.course, epoch, step)
        self.clock.restart()


def follow_plateau(members: dict, course: Course) -> None:
    """Gives the rates the factor of the course, where a plateau rule lowered it."""
    if course.rate_factor != 1:
        scale_rates(members, course.rate_factor)


def save_place(learner, course: Course, epoch: int, step: int) -> None:
    """Writes a checkpoint after `epoch` epochs and `step` steps of the next one."""
    import tensorflow as tf

    sums = [float(tf.convert_to_tensor(variable.value)) for variable in _sums_of(learner)]  # every worker reads them: they are spread over all
    if is_chief(learner.distribute_strategy):
        save_checkpoint(course.checkpoints, Checkpoint(epoch, step, course.history, sums, state_of(variables_of(learner)), course.best_weights))


def variables_of(learner) -> list:
    """All that a checkpoint holds, in its order."""
    return [*learner.variables, *learner.optimizer.variables]


def _sums_of(learner) -> list:
    return [variable for metric in learner.metrics for variable in metric.variables]
