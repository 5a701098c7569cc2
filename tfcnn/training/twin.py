"""A twin of a model with weights of its own, also one that computes in 16 bits (mixed precision)."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfcnn.models.recast import recast

logger = logging.getLogger(__name__)

TENSOR_CORES = (7, 0)  # compute capability of the first GPUs that multiply float16 faster (Volta)
CPU_UNITS = ("amx_bf16", "avx512_bf16")  # flags of processors that multiply bfloat16
# Of a step in float32: benchmarks/step_time.py on two cores with such units, and with ONEDNN_MAX_CPU_ISA=AVX512_CORE, which hides them.
COST_WITH_UNITS, COST = 1.5, 2.7


def make_twin(model, *, mixed: bool = False, kinds: Mapping[type, type] | None = None):
    """A copy of a classifier, equal and apart.

    Args:
        model: from `build_classifier`, in float32.
        mixed: the copy computes in 16 bits and keeps its weights in 32: bfloat16, or float16 on GPUs. Its scores stay float32.
            What is saved and exported is the float32 model, since a network of 16 bits does not convert to TFLite's own operators.
        kinds: classes of layers that take the place of others, with the same configuration.

    Source: Micikevicius et al. 2018, "Mixed Precision Training", section 3.
    """
    with model.distribute_strategy.scope():
        twin = recast(model, _policy(model.distribute_strategy) if mixed else None, kinds=kinds)
    twin.model_config, twin.labels = model.model_config, model.labels
    return twin


def with_scaled_loss(optimizer, strategy):
    """The optimizer of a twin in mixed precision: float16 needs losses that are scaled up, since small gradients would be 0.

    Keras does this by itself only for a model whose own policy is mixed_float16, not one that is made of such layers.

    Source: Micikevicius et al. 2018, section 3.2.
    """
    import keras

    if _policy(strategy) != "mixed_float16":
        return optimizer
    return keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale")


def chosen_by_machine(config, strategy) -> dict[str, Any]:
    """Whether to compute in 16 bits and to compile steps by XLA on these devices, where the configuration leaves it open; says why."""
    pays, why = _mixed_pays(strategy)
    if config.mixed_precision and not pays:
        logger.warning("mixed precision is slower on this machine: %s; leave --mixed-precision out", why)
    xla, reason = _xla_pays(strategy)
    if config.xla and not xla:
        logger.warning("XLA is slower on this machine: %s; leave --xla out", reason)
    chosen = {"mixed_precision": pays if config.mixed_precision is None else config.mixed_precision, "xla": xla if config.xla is None else config.xla}
    if config.mixed_precision is None or config.xla is None:
        logger.info("%s", "; ".join(text for text, given in ((f"mixed precision {'on' if pays else 'off'}: {why}", config.mixed_precision),
                                                            (f"XLA {'on' if xla else 'off'}: {reason}", config.xla)) if given is None))
    return chosen


def _mixed_pays(strategy) -> tuple[bool, str]:
    import tensorflow as tf

    if tf.config.list_logical_devices("TPU"):
        return True, "TPUs multiply bfloat16"
    if _policy(strategy) == "mixed_float16":
        return True, "these GPUs have units for float16"
    cost = COST_WITH_UNITS if _has_bfloat16() else COST
    return False, f"a step took {cost:.1f} times as long where it was measured (benchmarks/step_time.py)"


def _xla_pays(strategy) -> tuple[bool, str]:

    if not _on_gpus(strategy):
        return False, "on CPUs a step takes 10 to 40 times as long"
    if strategy.num_replicas_in_sync > 1:
        return False, "Keras compiles no step of several replicas"
    return True, "one GPU, as Keras does"


def _policy(strategy) -> str:
    """float16 where all that computes is a GPU with units for it, else bfloat16, whose range needs no scaling."""
    import tensorflow as tf

    gpus = tf.config.get_visible_devices("GPU")
    capable = [tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) >= TENSOR_CORES for gpu in gpus]
    return "mixed_float16" if _on_gpus(strategy) and capable and all(capable) else "mixed_bfloat16"


def _on_gpus(strategy) -> bool:
    """True where all that computes is a GPU."""
    import tensorflow as tf

    try:
        return all("GPU" in device.upper() for device in strategy.extended.worker_devices)
    except RuntimeError:  # TensorFlow's default strategy, which takes a GPU if there is one
        return bool(tf.config.get_visible_devices("GPU"))


def _has_bfloat16() -> bool:
    """True for a processor whose flags say that it multiplies bfloat16."""
    try:
        return any(unit in Path("/proc/cpuinfo").read_text(encoding="utf-8").split() for unit in CPU_UNITS)
    except OSError:
        return False
