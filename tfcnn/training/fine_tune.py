"""Phase 2 of `train`: the open stages learn together with the head, on augmented photos."""

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfcnn.data.dataset import Dataset, examples_per_epoch, training_batches
from tfcnn.errors import InputError, WorkError
from tfcnn.models.forward import forward, traced
from tfcnn.models.freeze import HEAD, TO_RGB, Trainable, carry_slots, open_stages, opens_stages, set_flags, stages_of
from tfcnn.progress import stage
from tfcnn.record import read_history, write_rows
from tfcnn.training.checkpoint import best_file, completed_epochs, remove_other_bests, restore_checkpoint, restore_state, save_checkpoint, save_state
from tfcnn.training.checks import check_freeze
from tfcnn.training.config import TrainingConfig
from tfcnn.training.head import seed_dropout
from tfcnn.training.optimizers import averaged, last_rates, scale_rates, stage_optimizer, stage_rates
from tfcnn.training.twin import make_twin, with_scaled_loss

HISTORY = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds")  # then the rate of each stage
# schedule="plateau": rates fall to a third after three epochs without a lower validation loss. Keras's own rule falls to a tenth after
# ten, made for trainings of hundreds of epochs.
PLATEAU_EPOCHS, PLATEAU_FACTOR = 3, 1 / 3

logger = logging.getLogger(__name__)


class Phase(NamedTuple):
    """Epochs in which the same stages are open: from `first` up to (not with) `end`, with what `set_trainable` takes."""

    first: int
    end: int
    trainable: Trainable


def fine_tunes(config: TrainingConfig) -> bool:
    """False where the head on cached features is all there is to train."""
    return config.epochs != 0 and opens_stages(config.trainable)


def phases_of(config: TrainingConfig, stages: Sequence[str]) -> list[Phase]:
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


def fine_tune(model, data: Dataset, config: TrainingConfig, path: Path, seconds: dict) -> list[dict]:
    """Trains the open stages with the head; goes on from the newest checkpoint in `path`, if there is one.

    Args:
        model: from `build_classifier`; its weights are changed.
        data: with a training and a validation split.
        config: with nothing left open.
        path: of the run folder; history and checkpoints are written there.
        seconds: receives the time.

    Returns:
        One dict an epoch, those before a resume too: the fields of HISTORY, then the rate of each stage in its last step.

    Raises:
        WorkError: a loss that is no number.
    """
    if not fine_tunes(config):
        return []
    stages, folder = [name for name, _ in stages_of(model)], path / "checkpoint"
    phases = phases_of(config, stages)
    steps = -(-examples_per_epoch(data, config.balance) // config.batch_size)
    done = completed_epochs(folder)
    history = read_history(path / "history.csv")[:done]
    with model.distribute_strategy.scope():
        learner = make_twin(model, mixed=True) if config.mixed_precision else model
    seed_dropout(learner, config.seed)
    run = traced(learner)  # once for the validation of all phases
    with stage(f"fine-tune, {config.epochs - done} epochs", steps * (config.epochs - done), seconds) as advance:
        for phase in phases[_phase_at(phases, max(done - 1, 0)):]:
            with model.distribute_strategy.scope():
                plan, members = _open(learner, config, phase, steps, last=phase is phases[-1])
                if done > phase.first:
                    restore_checkpoint(learner, folder)
            logger.info("%s", plan)
            _scale_rates(members, config, history, phases)
            if done < phase.end and not _is_over(history, config, phases):
                validate = _validator(learner, run, members, data, config)
                callbacks = [check_freeze(learner, plan), _recorder(learner, members, history, config, phases, path, validate, advance)]
                _fit(learner, data, config, callbacks, first=done, end=phase.end, steps=steps)
                done = phase.end
    _settle(learner, members, history, config, phases, folder)
    if learner is not model:
        model.set_weights(learner.get_weights())
        set_flags(model, phases[-1].trainable, batch_norm=config.batch_norm)  # as the twin's are
    return history


def photos_of(model, data: Dataset, config: TrainingConfig, *, first: int = 0, end: int):
    """The training photos of the epochs from `first` up to (not with) `end` as the configuration wants them, for the replicas of the model."""
    return training_batches(data, batch_size=config.batch_size, augmentation=config.augmentation, mixing=config.mixing, mirror=config.mirror,
                            balance=config.balance, seed=config.seed, first_epoch=first, epochs=end, full=model.distribute_strategy.num_replicas_in_sync > 1)


def plateau_factor(losses: Sequence[float]) -> float:
    """What a plateau rule multiplies the rates with after these validation losses; a function of them alone, so a resume agrees."""
    factor, lowest, waited = 1.0, np.inf, 0
    for loss in losses:
        waited = 0 if loss < lowest else waited + 1
        lowest = min(lowest, loss)
        if waited == PLATEAU_EPOCHS:
            factor, waited = factor * PLATEAU_FACTOR, 0
    return factor


def _phase_at(phases: list[Phase], epoch: int) -> int:
    return next(number for number, phase in enumerate(phases) if epoch < phase.end)


def _open(model, config: TrainingConfig, phase: Phase, steps: int, *, last: bool):
    """Opens the stages of a phase in a model that is compiled for it; what the optimizer knew of those open before goes along."""
    import keras

    stages = [name for name, _ in stages_of(model)]
    old = model.optimizer if phase.first and model.compiled else None
    plan = set_flags(model, phase.trainable, batch_norm=config.batch_norm).with_rates(stage_rates(stages, config))
    opened = {name: number * config.gradual * steps for number, name in enumerate(reversed(open_stages(stages, config.trainable)))}
    optimizer, members = stage_optimizer(model, config, steps * config.epochs, opened=opened, ema=bool(config.ema) and last)
    optimizer = with_scaled_loss(optimizer, model) if config.mixed_precision else optimizer
    model.compile(optimizer, keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing), metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)
    if old is not None:
        carry_slots(old, model.optimizer)
    for variable, average in averaged(members):  # Keras begins with zeros
        average.assign(variable)
    return plan, members


def _fit(model, data: Dataset, config: TrainingConfig, callbacks: list, *, first: int, end: int, steps: int) -> None:
    photos = photos_of(model, data, config, first=first, end=end)
    model.fit(photos, steps_per_epoch=steps, initial_epoch=first, epochs=end, callbacks=callbacks, shuffle=False, verbose=0)


def _validator(model, run, members: dict, data: Dataset, config: TrainingConfig):
    """A function that gives loss and accuracy of the validation photos, with the running averages where there are any.

    Not by `fit`, whose batches have to be equal on all replicas; this gives the same numbers on any number of them.
    """
    import keras

    rows = data.rows("validation")
    targets = data.targets(rows)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing)

    def validate() -> dict[str, float]:
        _swap(members)
        scores = forward(model, data.inputs, rows, run=run)
        _swap(members)
        return {"val_loss": float(loss(np.eye(len(data.labels), dtype=np.float32)[targets], scores)),
                "val_accuracy": float((scores.argmax(axis=1) == targets).mean())}

    return validate


def _recorder(model, members: dict, history: list[dict], config: TrainingConfig, phases: list[Phase], path: Path, validate, advance):
    """A callback that validates and writes history and checkpoints at the end of each epoch."""
    import keras

    stages = [*([TO_RGB] if TO_RGB in members else []), *open_stages([name for name, _ in stages_of(model)], config.trainable), HEAD]
    folder = path / "checkpoint"
    began = time.perf_counter()

    def end_epoch(epoch, logs):
        nonlocal began
        results = {**logs, **validate()}
        values = {name: round(float(results[name]), 5) for name in HISTORY if name in results}
        if not np.isfinite([values["loss"], values["val_loss"]]).all():
            raise WorkError(f"expected a finite loss, got {values['loss']} in training and {values['val_loss']} in validation in epoch {epoch + 1}: "
                            "the training diverged; give lower rates ('tfcnn find-rate' suggests some) and --overwrite")
        rates = last_rates(members)
        began, taken = time.perf_counter(), time.perf_counter() - began  # the next epoch pays for the writing of this one
        history.append({"epoch": epoch + 1, **values, "seconds": round(taken, 3), **{f"rate_{name}": rates.get(name, 0.0) for name in stages}})
        best = _best_epoch(history, phases)
        if config.patience and best == epoch + 1:
            _swap(members)
            save_state(best_file(folder, best), model.variables)
            _swap(members)
        write_rows(path / "history.csv", list(history[-1]), (row.values() for row in history))
        save_checkpoint(model, folder, epoch + 1)
        remove_other_bests(folder, best)
        _scale_rates(members, config, history, phases)
        model.stop_training = _is_over(history, config, phases)
        advance(0, f"validation accuracy {values['val_accuracy']:.3f}")

    # A step is counted when it begins: for the end of a batch Keras would wait for it.
    return keras.callbacks.LambdaCallback(on_train_batch_begin=lambda step, logs: advance(), on_epoch_end=end_epoch)


def _settle(model, members: dict, history: list[dict], config: TrainingConfig, phases: list[Phase], folder: Path) -> None:
    """Leaves the model with the weights that are kept: of the best epoch, the averages, or the last ones."""
    if config.patience:
        best = _best_epoch(history, phases)
        logger.info("epoch %d of %d had the lowest validation loss: its weights are kept", best, len(history))
        restore_state(best_file(folder, best), model.variables)
    else:
        for variable, average in averaged(members):
            variable.assign(average)


def _scale_rates(members: dict, config: TrainingConfig, history: list[dict], phases: list[Phase]) -> None:
    """What a plateau rule makes of the epochs since all stages are open and their rates have risen."""
    if config.schedule == "plateau":
        risen = phases[-1].first + math.ceil(config.warm_up * config.epochs)
        scale_rates(members, plateau_factor([row["val_loss"] for row in history[risen:]]))


def _best_epoch(history: list[dict], phases: list[Phase]) -> int:
    """The number, from 1, of the epoch with the lowest validation loss among those in which all stages were open; 0 before there is one."""
    rows = history[phases[-1].first:]
    return min(rows, key=lambda row: row["val_loss"])["epoch"] if rows else 0


def _is_over(history: list[dict], config: TrainingConfig, phases: list[Phase]) -> bool:
    """True where the patience is at its end; epochs before all stages are open do not count."""
    best = _best_epoch(history, phases)
    return bool(config.patience and best) and len(history) - best >= config.patience


def _swap(members: dict) -> None:
    for variable, average in averaged(members):
        value = variable.numpy()
        variable.assign(average)
        average.assign(value)
