"""One optimizer a group of stages, each with a schedule of its own."""

import re
from collections.abc import Mapping, Sequence

from tfcnn.errors import InputError, closest
from tfcnn.models.freeze import HEAD, TO_RGB, layers_by_stage, open_stages
from tfcnn.training.config import OPTIMIZERS, Filled, TrainingConfig


def stage_rates(stages: Sequence[str], config: Filled) -> dict[str, float]:
    """The highest rate of every stage, of the head, and of the way in of a fourth channel, which is that of the lowest open stage.

    A stage that `config.learning_rates` names has the rate from there, every other `config.learning_rate`, times
    `config.layer_decay` for each stage between it and the head (Clark et al. 2020, "ELECTRA", section 3.1 and appendix B), times
    `batch_factor`.

    Args:
        stages: the names of the stages from input to output.
        config: with nothing left open.

    Raises:
        InputError: a rate for an unknown stage or for one that stays frozen.
    """
    check_rates(stages, config)
    below = {stage: config.learning_rate * config.layer_decay**(len(stages) - 1 - number) for number, stage in enumerate(stages)}
    rates = {**below, HEAD: config.head_learning_rate, **(config.learning_rates or {})}
    rates = {stage: rate * batch_factor(config) for stage, rate in rates.items()}
    opened = open_stages(stages, config.trainable)
    return {TO_RGB: rates[opened[0]], **rates} if opened else rates


def batch_factor(config: Filled) -> float:
    """What all rates are multiplied with for the size of the batch; 1 where no other size is named in `config.rate_batch`.

    Source: Goyal et al. 2017, "Accurate, Large Minibatch SGD", section 2.1, for SGD; Malladi et al. 2022, "On the SDEs and Scaling
        Rules for Adaptive Gradient Algorithms", section 5, for the others.
    """
    ratio = config.batch_size / config.rate_batch if config.rate_batch else 1.0
    return ratio if config.optimizer == "sgd" else ratio**0.5


def check_rates(stages: Sequence[str], config: TrainingConfig) -> None:
    """Raises InputError where `config` names stages that are not there, or gives a rate to a frozen one.

    `trainable` may be left open: then the rule opens every stage that has a rate.
    """
    opened = list(stages) if config.trainable is None else open_stages(stages, config.trainable)
    for stage in config.learning_rates or {}:
        if stage not in (*stages, HEAD):
            raise InputError(f"expected rates of stages, got one for '{stage}'; {closest(stage, [*stages, HEAD])}")
        if stage != HEAD and stage not in opened:
            raise InputError(f"expected rates of stages that learn, got one for '{stage}', which stays frozen with trainable={config.trainable}; "
                             f"leave it out, or give --trainable {stage}")


def make_optimizer(model, config: Filled, rate, **options):
    """The Keras optimizer that `config` names, for the trainable variables of `model`.

    Biases and norms are not decayed. `config.clip_norm` bounds the norm of the gradient, which `Learner` adds up over the replicas first.

    Args:
        model: a Keras model with its trainable flags set.
        config: with nothing left open.
        rate: a rate or a schedule of rates.
        options: more arguments of the optimizer, such as its name.
    """
    import keras

    kind, fixed = OPTIMIZERS[config.optimizer]
    kind = "Adam" if kind == "AdamW" and not config.weight_decay else kind  # the same, and without a product with 0 for every variable
    optimizer = getattr(keras.optimizers, kind)(rate, weight_decay=config.weight_decay or None, global_clipnorm=config.clip_norm or None, **fixed, **options)
    optimizer.exclude_from_weight_decay(var_list=[v for v in model.trainable_variables if len(v.shape) < 2 or v.path.endswith("/bias")])  # of attention too
    return optimizer


def stage_optimizer(model, config: Filled, steps: int, *, opened: Mapping[str, int] | None = None, ema: bool = False):
    """A `MultiOptimizer` with one member of the kind `config.optimizer` for all stages that have the same rate and were opened together.

    Rates follow `StageRate`; decay and clipping are those of `make_optimizer`, the norm being that of each member's gradient.

    Args:
        model: from `build_classifier`, with its trainable flags set.
        config: with nothing left open.
        steps: number of training steps in all.
        opened: the step at which a stage was opened; 0 where nothing is said.
        ema: whether each member keeps a running average of its weights.

    Returns:
        The optimizer, and by stage (the head too) the member that trains it; frozen stages have none.
    """
    import keras

    groups = {stage: [v.path for layer in layers for v in layer.trainable_variables] for stage, layers in layers_by_stage(model)}
    rates = stage_rates([stage for stage in groups if stage not in (HEAD, TO_RGB)], config)
    opened = opened or {}
    alike: dict[tuple, list[str]] = {}
    for stage, paths in groups.items():
        if paths and stage != HEAD:
            alike.setdefault((rates[stage], opened.get(stage, 0)), []).append(stage)
    mapping = keras.optimizers.OptimizerMap(_member([HEAD], rates[HEAD], 0, config, steps, model, ema=ema))
    members = {}
    for (rate, start), stages in alike.items():
        member = _member(stages, rate, start, config, steps, model, ema=ema)
        mapping["|".join(re.escape(path) for stage in stages for path in groups[stage])] = member
        members.update(dict.fromkeys(stages, member))
    return keras.optimizers.MultiOptimizer(mapping, name="stages"), {**members, HEAD: mapping.default_optimizer}


def last_rates(members: Mapping) -> dict[str, float]:
    """The rate of each stage in the step that was done last."""
    return {stage: float(member._learning_rate(member.iterations - 1)) for stage, member in members.items()}


def scale_rates(members: Mapping, factor: float) -> None:
    """Multiplies the rates that the schedules give from now on; Keras gives no public way to the schedule of an optimizer."""
    for member in dict.fromkeys(members.values()):
        member._learning_rate.factor.assign(factor)


def averaged(members: Mapping) -> list[tuple]:
    """(variable, its running average) for all that members with an average train; Keras gives no public way to them."""
    return [pair for member in dict.fromkeys(members.values()) if member.use_ema and member.built
            for pair in zip(member._trainable_variables, member._model_variables_moving_average, strict=True)]


def swap_averages(members: Mapping) -> None:
    """Puts the running averages in the place of the weights, and the weights in theirs."""
    for variable, average in averaged(members):
        value = variable.numpy()
        variable.assign(average)
        average.assign(value)


def _member(stages: list[str], rate: float, opened: int, config: Filled, steps: int, model, *, ema: bool):
    """The optimizer of one group; its name is that of the group, so that its slots are found again in a new optimizer."""
    from tfcnn.training.schedule import StageRate

    warm_up = max(1, int(config.warm_up * steps)) if config.warm_up else 0
    schedule = StageRate(rate, steps=steps, warm_up=warm_up, opened=opened, cosine=config.schedule == "cosine")
    averages = {"use_ema": True, "ema_momentum": config.ema} if ema else {}
    name = re.sub(r"[^A-Za-z0-9]", "_", f"{config.optimizer}_{'_'.join(stages)}")
    return make_optimizer(model, config, schedule, name=name, **averages)
