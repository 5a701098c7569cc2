"""Phase 2 of `train`: the open stages learn together with the head, on augmented photos."""

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfcnn.data.dataset import Dataset, Replicas, examples_per_epoch, training_batches
from tfcnn.errors import InputError, WorkError
from tfcnn.models.forward import forward, traced
from tfcnn.models.freeze import HEAD, TO_RGB, Trainable, carry_slots, open_stages, opens_stages, set_flags, stages_of
from tfcnn.progress import stage
from tfcnn.record import write_rows
from tfcnn.training.checkpoint import (
    SAVING,
    Checkpoint,
    Clock,
    Saving,
    assign_state,
    best_file,
    newest_checkpoint,
    remove_other_bests,
    restore_state,
    save_checkpoint,
    save_state,
    state_of,
)
from tfcnn.training.checks import check_freeze
from tfcnn.training.config import TrainingConfig
from tfcnn.training.head import seed_dropout
from tfcnn.training.optimizers import averaged, last_rates, scale_rates, stage_optimizer, stage_rates
from tfcnn.training.twin import with_scaled_loss
from tfcnn.training.watch import bound_text, epoch_text, tensorboard_writer
from tfcnn.workers import count_of, index_of, is_chief, together

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


def fine_tune(model, data: Dataset, config: TrainingConfig, path: Path, seconds: dict, *, saving: Saving = SAVING) -> list[dict]:
    """Trains the open stages with the head; goes on from the newest checkpoint in `path`, if there is one.

    Args:
        model: from `build_classifier`; its weights are changed.
        data: with a training and a validation split.
        config: with nothing left open.
        path: of the run folder; history and checkpoints are written there, by one worker where there are several.
        seconds: receives the time.
        saving: when checkpoints are written besides those at the end of each epoch.

    Returns:
        One dict an epoch, those before a resume too: the fields of HISTORY, then the rate of each stage in its last step.

    Raises:
        WorkError: a loss that is no number.
    """
    if not fine_tunes(config):
        return []
    from tfcnn.training.learner import make_learner

    stages, folder, strategy = [name for name, _ in stages_of(model)], path / "checkpoint", model.distribute_strategy
    phases = phases_of(config, stages)
    examples = examples_per_epoch(data, config.balance)
    steps = -(-examples // config.batch_size)
    found = newest_checkpoint(folder, strategy)
    done, history = (found.epoch, list(found.history)) if found else (0, [])
    learner = make_learner(model, mixed=config.mixed_precision)
    seed_dropout(learner, config.seed)
    left = steps * (config.epochs - done) - (found.step if found else 0)
    with strategy.scope(), together(strategy), stage(f"fine-tune, {config.epochs - done} epochs", left, seconds, photos=config.batch_size) as advance:
        run = traced(learner, strategy)  # once for the validation of all phases
        for phase in phases[_phase_at(phases, done if found and found.step else max(done - 1, 0)):]:
            plan, members = _open(learner, config, phase, steps, last=phase is phases[-1])
            began = found if found and (found.epoch, found.step) > (phase.first, 0) else None
            if began:
                assign_state(began.state, _variables(learner))
            logger.info("%s", plan)
            _scale_rates(members, config, history, phases)
            if done < phase.end and not _is_over(history, config, phases):
                learner.done_before = began.step if began else 0
                validate = _validator(learner, run, members, data, config)
                recorder = _recorder(learner, members, history, config, phases, path, validate, advance,
                                     photos=examples, began=began, saving=saving)
                _fit(learner, data, config, [check_freeze(learner, plan, first_step=learner.done_before), recorder], first=done, end=phase.end, steps=steps)
                done, found = phase.end, None
        _settle(learner, members, history, config, phases, folder)
    if (bound := bound_text(learner.waited, learner.measured)):
        logger.info("%s", bound)
    model.set_weights(learner.get_weights())
    set_flags(model, phases[-1].trainable, batch_norm=config.batch_norm)  # as those of a twin are
    return history


def photos_of(data: Dataset, config: TrainingConfig, strategy, *, first: int = 0, first_step: int = 0, end: int):
    """The training photos of the epochs from `first` up to (not with) `end` as the configuration wants them, for the replicas of a strategy."""
    from tfcnn.training.learner import OwnPart

    count = strategy.num_replicas_in_sync
    own = count // count_of(strategy)
    part = training_batches(data, batch_size=config.batch_size, augmentation=config.augmentation, mixing=config.mixing, mirror=config.mirror,
                            balance=config.balance, seed=config.seed, first_epoch=first, first_step=first_step, epochs=end,
                            replicas=Replicas(count, index_of(strategy) * own, own))
    return OwnPart(part) if own == 1 else strategy.distribute_datasets_from_function(lambda context: part)


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


def _variables(model) -> list:
    return [*model.variables, *model.optimizer.variables]


def _open(model, config: TrainingConfig, phase: Phase, steps: int, *, last: bool):
    """Opens the stages of a phase in a model that is compiled for it; what the optimizer knew of those open before goes along."""
    import keras

    stages = [name for name, _ in stages_of(model)]
    old = model.optimizer if phase.first and model.compiled else None
    plan = set_flags(model, phase.trainable, batch_norm=config.batch_norm).with_rates(stage_rates(stages, config))
    opened = {name: number * config.gradual * steps for number, name in enumerate(reversed(open_stages(stages, config.trainable)))}
    optimizer, members = stage_optimizer(model, config, steps * config.epochs, opened=opened, ema=bool(config.ema) and last)
    optimizer = with_scaled_loss(optimizer, model.distribute_strategy) if config.mixed_precision else optimizer
    model.compile(optimizer, keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing, reduction=None),
                  jit_compile=config.xla)
    model.optimizer.build(model.trainable_variables)
    if old is not None:
        carry_slots(old, model.optimizer)
    for variable, average in averaged(members):  # Keras begins with zeros
        average.assign(variable)
    return plan, members


def _fit(model, data: Dataset, config: TrainingConfig, callbacks: list, *, first: int, end: int, steps: int) -> None:
    photos = photos_of(data, config, model.distribute_strategy, first=first, first_step=model.done_before, end=end)
    model.fit(photos, steps_per_epoch=steps, initial_epoch=first, epochs=end, callbacks=callbacks, shuffle=False, verbose=0)


def _validator(model, run, members: dict, data: Dataset, config: TrainingConfig):
    """A function that gives loss and accuracy of the validation photos, with the running averages where there are any.

    Not by `fit`: this gives the same numbers on any number of replicas, to the last digit.
    """
    import keras

    rows = data.rows("validation")
    targets = data.targets(rows)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing, reduction=None)  # Keras divides means by the replicas

    def validate() -> dict[str, float]:
        _swap(members)
        scores = forward(model, data.inputs, rows, run=run, strategy=model.distribute_strategy)
        _swap(members)
        return {"val_loss": float(np.mean(loss(np.eye(len(data.labels), dtype=np.float32)[targets], scores))),
                "val_accuracy": float((scores.argmax(axis=1) == targets).mean())}

    return validate


def _recorder(model, members: dict, history: list[dict], config: TrainingConfig, phases: list[Phase], path: Path, validate, advance, *,
              photos: int, began: Checkpoint | None, saving: Saving):
    """A callback that validates and writes history at the end of each epoch, and checkpoints there and in between."""
    import keras

    stages = [*([TO_RGB] if TO_RGB in members else []), *open_stages([name for name, _ in stages_of(model)], config.trainable), HEAD]
    folder, strategy = path / "checkpoint", model.distribute_strategy
    started, clock, epoch_now = time.perf_counter(), Clock(saving, strategy), 0
    write_logs = tensorboard_writer(path / "tensorboard") if saving.tensorboard and is_chief(strategy) else None

    def begin_epoch(epoch, logs=None):
        nonlocal epoch_now
        epoch_now = epoch
        if began and epoch == began.epoch and began.step:
            for variable, value in zip([v for metric in model.metrics for v in metric.variables], began.metrics, strict=True):
                variable.assign(value)

    def begin_step(step, logs=None):
        if step and (began is None or (epoch_now, step) > (began.epoch, began.step)) and clock.is_due(step):
            _save(model, folder, epoch_now, step, history)
            clock.restart()
        if began is None or (epoch_now, step) >= (began.epoch, began.step):
            advance()

    def end_epoch(epoch, logs):
        nonlocal started
        results = {**logs, **validate()}
        values = {name: round(float(results[name]), 5) for name in HISTORY if name in results}
        if not np.isfinite([values["loss"], values["val_loss"]]).all():
            raise WorkError(f"expected a finite loss, got {values['loss']} in training and {values['val_loss']} in validation in epoch {epoch + 1}: "
                            "the training diverged; give lower rates ('tfcnn find-rate' suggests some) and --overwrite")
        rates = last_rates(members)
        started, taken = time.perf_counter(), time.perf_counter() - started  # the next epoch pays for the writing of this one
        history.append({"epoch": epoch + 1, **values, "seconds": round(taken, 3), **{f"rate_{name}": rates.get(name, 0.0) for name in stages}})
        best = _best_epoch(history, phases)
        if config.patience and best == epoch + 1 and is_chief(strategy):
            _swap(members)
            save_state(best_file(folder, best), model.variables)
            _swap(members)
        before = began.step * config.batch_size if began and epoch == began.epoch else 0
        logger.info("%s", epoch_text(history[-1], epochs=config.epochs, photos=photos - before))
        if is_chief(strategy):
            write_rows(path / "history.csv", list(history[-1]), (row.values() for row in history))
        _save(model, folder, epoch + 1, 0, history)
        clock.restart()
        if is_chief(strategy):
            if write_logs:
                write_logs(history[-1])
            remove_other_bests(folder, [best, _best_epoch(history[:-1], phases)])
        _scale_rates(members, config, history, phases)
        model.stop_training = _is_over(history, config, phases)
        advance(0, f"validation accuracy {values['val_accuracy']:.3f}")

    # A step is counted when it begins: for the end of a batch Keras would wait for it.
    return keras.callbacks.LambdaCallback(on_epoch_begin=begin_epoch, on_train_batch_begin=begin_step, on_epoch_end=end_epoch)


def _save(model, folder: Path, epoch: int, step: int, history: list[dict]) -> None:
    """Writes a checkpoint after `epoch` epochs and `step` steps of the next one."""
    import tensorflow as tf

    # Every worker reads them, since the sums are spread over all.
    metrics = [float(tf.convert_to_tensor(variable.value)) for metric in model.metrics for variable in metric.variables]
    if is_chief(model.distribute_strategy):
        save_checkpoint(folder, Checkpoint(epoch, step, history, metrics, state_of(_variables(model))))


def _settle(model, members: dict, history: list[dict], config: TrainingConfig, phases: list[Phase], folder: Path) -> None:
    """Leaves the model with the weights that are kept: of the best epoch, the averages, or the last ones."""
    if config.patience:
        best = _best_epoch(history, phases)
        logger.info("epoch %d of %d had the lowest validation loss: its weights are kept", best, len(history))
        restore_state(best_file(folder, best), model.variables, model.distribute_strategy)
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
