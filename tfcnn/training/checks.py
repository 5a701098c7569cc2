"""Whether a training changes what was planned, and nothing else."""

from typing import TYPE_CHECKING

from tfcnn.errors import InputError, WorkError
from tfcnn.models.freeze import FreezePlan, freeze_plan, optimizer_of

if TYPE_CHECKING:
    import keras

NAMED = 5  # variables that a message names before it counts the rest


def check_freeze(model: "keras.Model", plan: FreezePlan, *, first_step: int = 0) -> "keras.callbacks.Callback":
    """A callback for `fit` that stops a training which does not do what was planned.

    After the first step, before the second, it compares every variable with its value before: a frozen one that moved, the
    statistics of BatchNorm too, or a planned one that is not trained, ends the training. At the start of each epoch it compares
    the flags: Keras ignores a `trainable` that changes after `compile`. The other steps cost nothing.

    Args:
        model: compiled, about to be trained.
        plan: from `set_trainable`.
        first_step: of the first epoch, where those before it were done by another process.

    Raises:
        InputError: no plan.
        WorkError: from within `fit`, with the names of the variables.
    """
    if not isinstance(plan, FreezePlan):
        raise InputError(f"expected the plan that set_trainable returned, got plan={plan!r}")
    import keras
    import numpy as np

    planned = {id(variable) for variable in plan.planned}
    before: dict[int, np.ndarray] = {}

    def compare_flags(epoch, logs=None):
        flags = {id(variable) for variable in freeze_plan(model).planned}
        changed = [v.path for v in model.variables if (id(v) in planned) != (id(v) in flags)]
        if changed:
            raise WorkError(f"expected what is trainable to stay as it was planned, but it changed for {_names(changed)}; "
                            "set_trainable compiles again, where layer.trainable alone has no effect")

    def remember(logs=None):
        before.update({id(v): v.numpy().copy() for v in _weights(model)})

    def compare_values(step, logs=None):
        if not before or step <= first_step:  # nothing to do, or no step was done yet
            return
        moved = {id(v) for v in _weights(model) if not np.array_equal(before[id(v)], v.numpy(), equal_nan=True)}
        frozen = [v.path for v in _weights(model) if id(v) in moved - planned]
        left = [v.path for v in _weights(model) if id(v) in planned - moved and not _is_trained(model, v)]
        before.clear()
        if frozen:
            raise WorkError(f"expected frozen variables to stay as they are, but the first step moved {_names(frozen)}; compile after set_trainable")
        if left:
            raise WorkError(f"expected the first step to move the open stages, but it left {_names(left)}; compile after set_trainable")

    # Not at the end of a batch: for that Keras waits for every step, instead of preparing the next one meanwhile. An epoch may have one step.
    return keras.callbacks.LambdaCallback(on_train_begin=remember, on_epoch_begin=compare_flags, on_train_batch_begin=compare_values,
                                          on_epoch_end=lambda epoch, logs: compare_values(first_step + 1))


def _weights(model) -> list:
    """Without the states of random generators, which every step moves."""
    return [weight for weight in model.weights if "seed_generator" not in weight.path]


def _is_trained(model, variable) -> bool:
    """True where the optimizer holds a trainable variable: its step may be 0, or smaller than what float32 shows beside its value."""
    optimizer = optimizer_of(model)
    members = getattr(optimizer, "optimizers", [optimizer])
    return variable.trainable and any(held is variable for member in members for held in member._trainable_variables)  # Keras gives no public way to them


def _names(paths: list[str]) -> str:
    rest = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return ", ".join(paths[:NAMED]) + rest
