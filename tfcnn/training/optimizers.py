"""One optimizer a group of stages, each with a schedule of its own."""

import re
from collections.abc import Sequence

from tfcnn.errors import InputError, closest
from tfcnn.models.freeze import HEAD, layers_by_stage, open_stages
from tfcnn.training.config import OPTIMIZERS, TrainingConfig


def stage_rates(stages: Sequence[str], config: TrainingConfig) -> dict[str, float]:
    """The highest rate of every stage and of the head.

    A stage that `config.learning_rates` names has the rate from there, every other `config.learning_rate`, times
    `config.layer_decay` for each stage between it and the head (Clark et al. 2020, "ELECTRA", section 3.1 and appendix B).

    Args:
        stages: the names of the stages from input to output.

    Raises:
        InputError: a rate for an unknown stage or for one that stays frozen.
    """
    opened = open_stages(stages, config.trainable)
    given = config.learning_rates or {}
    for stage in given:
        if stage not in (*stages, HEAD):
            raise InputError(f"expected rates of stages, got one for '{stage}'; {closest(stage, [*stages, HEAD])}")
        if stage != HEAD and stage not in opened:
            raise InputError(f"expected rates of stages that learn, got one for '{stage}', which stays frozen with trainable={config.trainable}; "
                             f"leave it out, or give --trainable {stage}")
    below = {stage: config.learning_rate * config.layer_decay**(len(stages) - 1 - number) for number, stage in enumerate(stages)}
    return {**below, HEAD: config.head_learning_rate, **given}


def check_stages(stages: Sequence[str], config: TrainingConfig) -> None:
    """Raises InputError where `config` speaks of stages that a backbone with these does not have, or of rates of frozen ones."""
    stage_rates(stages, config)


def make_optimizer(model, config: TrainingConfig, steps: int):
    """A `MultiOptimizer` with one member of the kind `config.optimizer` for all stages of equal rate.

    Each rate rises linearly over the share `config.warm_up` of the steps (Goyal et al. 2017, section 2.2), then falls to 0 along a
    cosine (Loshchilov & Hutter 2017, section 3) or stays. Biases and BatchNorm are not decayed.

    Args:
        model: from `build_classifier`, with its trainable flags set.
        steps: number of training steps in all.

    Returns:
        The optimizer, and by stage (the head too) the member that trains it; frozen stages have none.
    """
    import keras

    groups = {stage: [v.path for layer in layers for v in layer.trainable_variables] for stage, layers in layers_by_stage(model)}
    rates = stage_rates([stage for stage in groups if stage != HEAD], config)
    members = {}
    mapping = keras.optimizers.OptimizerMap(_member(HEAD, rates[HEAD], config, steps, model))
    learning = [stage for stage, paths in groups.items() if paths and stage != HEAD]
    for rate in dict.fromkeys(rates[stage] for stage in learning):
        alike = [stage for stage in learning if rates[stage] == rate]
        member = _member("_".join(alike), rate, config, steps, model)
        mapping["|".join(re.escape(path) for stage in alike for path in groups[stage])] = member
        members.update(dict.fromkeys(alike, member))
    return keras.optimizers.MultiOptimizer(mapping), {**members, HEAD: mapping.default_optimizer}


def _member(group: str, rate: float, config: TrainingConfig, steps: int, model):
    """The optimizer of one group; its name is that of the group, so that its slots are found again in a new optimizer."""
    import keras

    warm_up = max(1, int(config.warm_up * steps)) if config.warm_up else 0
    schedule = keras.optimizers.schedules.CosineDecay(  # with alpha 1 the cosine is a constant
        initial_learning_rate=rate / warm_up if warm_up else rate, warmup_target=rate if warm_up else None, warmup_steps=warm_up,
        decay_steps=max(1, steps - warm_up), alpha=1.0 if config.schedule == "constant" else 0.0)
    kind, options = OPTIMIZERS[config.optimizer]
    optimizer = getattr(keras.optimizers, kind)(schedule, weight_decay=config.weight_decay, global_clipnorm=config.clip_norm or None,
                                                name=re.sub(r"[^A-Za-z0-9]", "_", f"{config.optimizer}_{group}"), **options)
    optimizer.exclude_from_weight_decay(var_list=[v for v in model.trainable_variables if len(v.shape) < 2])
    return optimizer
