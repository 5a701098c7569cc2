"""Phase 2 of `train`: the open stages learn together with the head, on augmented photos."""

import logging
from pathlib import Path

import numpy as np

from tfcnn.data.dataset import Dataset, Replicas, examples_per_epoch, training_batches
from tfcnn.models.forward import forward, traced
from tfcnn.models.freeze import carry_slots, open_stages, set_flags, stages_of
from tfcnn.progress import stage
from tfcnn.training.checkpoint import SAVING, Saving, assign_state, newest_checkpoint
from tfcnn.training.checks import check_freeze
from tfcnn.training.config import Filled
from tfcnn.training.course import Course, Phase, fine_tunes
from tfcnn.training.head import seed_dropout
from tfcnn.training.optimizers import averaged, stage_optimizer, stage_rates, swap_averages
from tfcnn.training.watch import bound_text
from tfcnn.workers import count_of, index_of, together

logger = logging.getLogger(__name__)


def fine_tune(model, data: Dataset, config: Filled, path: Path, seconds: dict, *, saving: Saving = SAVING) -> list[dict]:
    """Trains the open stages with the head; goes on from the newest checkpoint in `path`, if there is one.

    Args:
        model: from `build_classifier`; its weights are changed.
        data: with a training and a validation split.
        config: with nothing left open.
        path: of the run folder; history and checkpoints are written there, by one worker where there are several.
        seconds: receives the time.
        saving: when checkpoints are written besides those at the end of each epoch.

    Returns:
        One dict an epoch, those before a resume too: the fields of `recorder.HISTORY`, then the rate of each stage in its last step.

    Raises:
        WorkError: a loss that is no number.
    """
    if not fine_tunes(config):
        return []
    from tfcnn.models.vary import set_strength
    from tfcnn.training.learner import make_learner
    from tfcnn.training.recorder import Recorder, follow_plateau, variables_of

    course, strategy = Course(config, [name for name, _ in stages_of(model)], path), model.distribute_strategy
    phases = course.phases
    examples = examples_per_epoch(data, config.balance)
    steps = -(-examples // config.batch_size)
    found = newest_checkpoint(course.checkpoints, strategy)
    done = found.epoch if found else 0
    if found:
        steps_done = f" and {found.step} of {steps} steps of the next one" if found.step else ""
        logger.info("fine-tuning goes on after epoch %d of %d%s", done, config.epochs, steps_done)
        course.history.extend(found.history)
        course.best_weights.extend(found.best)
    learner = make_learner(model, mixed=bool(config.mixed_precision))
    set_strength(learner, config.augmentation)
    seed_dropout(learner, config.seed)
    left = steps * (config.epochs - done) - (found.step if found else 0)
    with strategy.scope(), together(strategy), stage(f"fine-tune, {config.epochs - done} epochs", left, seconds, photos=config.batch_size) as advance:
        run = traced(learner, strategy)  # once for the validation of all phases
        for phase in phases[_phase_at(phases, done if found and found.step else max(done - 1, 0)):]:
            plan, members = _open(learner, course, phase, steps)
            began = found if found and (found.epoch, found.step) > (phase.first, 0) else None
            if began:
                assign_state(began.state, variables_of(learner))
            logger.info("%s", plan)
            follow_plateau(members, course)
            if done < phase.end and not course.is_over:
                learner.done_before = began.step if began else 0
                recorder = Recorder(course, members, strategy=strategy, photos=examples, began=began, saving=saving,
                                    validate=_validator(learner, run, members, data, config), advance=advance)
                _fit(learner, data, config, [check_freeze(learner, plan, first_step=learner.done_before), recorder], first=done, end=phase.end, steps=steps)
                done, found = phase.end, None
        _settle(learner, members, course)
    if (bound := bound_text(learner.waited, learner.measured)):
        logger.info("%s", bound)
    model.set_weights(learner.get_weights())
    set_flags(model, phases[-1].trainable, batch_norm=config.batch_norm)  # as those of a twin are
    return course.history


def photos_of(data: Dataset, config: Filled, strategy, *, first: int = 0, first_step: int = 0, end: int):
    """The training photos of the epochs from `first` up to (not with) `end` as the configuration wants them, for the replicas of a strategy."""
    from tfcnn.training.learner import OwnPart

    count = strategy.num_replicas_in_sync
    own = count // count_of(strategy)
    part = training_batches(data, batch_size=config.batch_size, augmentation=config.augmentation, mixing=config.mixing, mirror=config.mirror,
                            balance=config.balance, seed=config.seed, first_epoch=first, first_step=first_step, epochs=end,
                            replicas=Replicas(count, index_of(strategy) * own, own))
    return OwnPart(part) if own == 1 else strategy.distribute_datasets_from_function(lambda context: part)


def _phase_at(phases: list[Phase], epoch: int) -> int:
    return next(number for number, phase in enumerate(phases) if epoch < phase.end)


def _open(model, course: Course, phase: Phase, steps: int):
    """Opens the stages of a phase in a model that is compiled for it; what the optimizer knew of those open before goes along."""
    config, stages, last = course.config, course.stages, phase == course.phases[-1]
    old = model.optimizer if phase.first and model.compiled else None
    plan = set_flags(model, phase.trainable, batch_norm=config.batch_norm).with_rates(stage_rates(stages, config))
    opened = {name: number * config.gradual * steps for number, name in enumerate(reversed(open_stages(stages, config.trainable)))}
    optimizer, members = stage_optimizer(model, config, steps * config.epochs, opened=opened, ema=bool(config.ema) and last)
    model.compile_for(optimizer, label_smoothing=config.label_smoothing, xla=config.xla)
    model.optimizer.build(model.trainable_variables)
    if old is not None:
        carry_slots(old, model.optimizer)
    for variable, average in averaged(members):  # Keras begins with zeros
        average.assign(variable)
    return plan, members


def _fit(model, data: Dataset, config: Filled, callbacks: list, *, first: int, end: int, steps: int) -> None:
    photos = photos_of(data, config, model.distribute_strategy, first=first, first_step=model.done_before, end=end)
    model.fit(photos, steps_per_epoch=steps, initial_epoch=first, epochs=end, callbacks=callbacks, shuffle=False, verbose=0)


def _validator(model, run, members: dict, data: Dataset, config: Filled):
    """A function that gives loss and accuracy of the validation photos, with the running averages where there are any.

    Not by `fit`: this gives the same numbers on any number of replicas, to the last digit.
    """
    import keras

    rows = data.rows("validation")
    targets = data.targets(rows)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing, reduction=None)  # Keras divides means by the replicas

    def validate() -> dict[str, float]:
        swap_averages(members)
        scores = forward(model, data.inputs, rows, run=run, strategy=model.distribute_strategy)
        swap_averages(members)
        return {"val_loss": float(np.mean(loss(np.eye(len(data.labels), dtype=np.float32)[targets], scores))),
                "val_accuracy": float((scores.argmax(axis=1) == targets).mean())}

    return validate


def _settle(model, members: dict, course: Course) -> None:
    """Leaves the model with the weights that are kept: of the best epoch, the averages, or the last ones."""
    if course.config.patience:
        logger.info("epoch %d of %d had the lowest validation loss: its weights are kept", course.best, len(course.history))
        assign_state(course.best_weights, model.variables)
    else:
        for variable, average in averaged(members):
            variable.assign(average)
