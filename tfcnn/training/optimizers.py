"""AdamW with one learning-rate schedule for the backbone and one for the head."""

import re

from tfcnn.training.config import TrainingConfig

WARM_UP = 0.1  # share of the steps in which the rate rises (Goyal et al. 2017, section 2.2)
CLIP_NORM = 1.0  # of the gradient, for each group (Dosovitskiy et al. 2021, appendix B.1.1)


def make_optimizer(model, config: TrainingConfig, steps: int):
    """One AdamW a group: `backbone` variables at `learning_rate`, all others at `head_learning_rate`.

    Each rate rises linearly over the first tenth of the steps and falls to 0 along a cosine (Loshchilov & Hutter 2017,
    section 3). Biases and BatchNorm are not decayed.

    Args:
        model: with its trainable flags set.
        steps: number of training steps in all.
    """
    import keras

    groups = keras.optimizers.OptimizerMap(_adamw(config.head_learning_rate, config, steps, model))
    backbone = [variable.path for variable in model.get_layer("backbone").trainable_variables]
    if not backbone:
        return _adamw(config.head_learning_rate, config, steps, model)
    groups["|".join(re.escape(path) for path in backbone)] = _adamw(config.learning_rate, config, steps, model)
    return keras.optimizers.MultiOptimizer(groups)


def _adamw(rate: float, config: TrainingConfig, steps: int, model):
    import keras

    warm_up = max(1, int(WARM_UP * steps))
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=rate / warm_up, warmup_target=rate, warmup_steps=warm_up, decay_steps=max(1, steps - warm_up))
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=config.weight_decay, global_clipnorm=CLIP_NORM)
    optimizer.exclude_from_weight_decay(var_list=[v for v in model.trainable_variables if len(v.shape) < 2])
    return optimizer


def learning_rates(optimizer) -> dict[str, float]:
    """The rates that the next step will use; 0 for the backbone where it has no group."""
    groups = [float(member.learning_rate) for member in getattr(optimizer, "optimizers", [optimizer])]
    return {"learning_rate": groups[0] if len(groups) == 2 else 0.0, "head_learning_rate": groups[-1]}
