"""A twin of a model with weights of its own, also one that computes in 16 bits (mixed precision)."""

import logging
from pathlib import Path

from tfcnn.models.recast import recast

logger = logging.getLogger(__name__)

TENSOR_CORES = (7, 0)  # compute capability of the first GPUs that multiply float16 faster (Volta)
CPU_UNITS = ("amx_bf16", "avx512_bf16")  # flags of processors that multiply bfloat16
# Of a step in float32: benchmarks/step_time.py on two cores with such units, and with ONEDNN_MAX_CPU_ISA=AVX512_CORE, which hides them.
COST_WITH_UNITS, COST = 1.5, 2.7


def make_twin(model, *, mixed: bool = False):
    """A copy of a classifier, equal and apart.

    Args:
        model: from `build_classifier`, in float32.
        mixed: the copy computes in 16 bits and keeps its weights in 32: bfloat16, or float16 on GPUs. Its scores stay float32.
            What is saved and exported is the float32 model, since a network of 16 bits does not convert to TFLite's own operators.

    Source: Micikevicius et al. 2018, "Mixed Precision Training", section 3.
    """
    twin = recast(model, _policy(model.distribute_strategy) if mixed else None)
    twin.model_config, twin.labels = model.model_config, model.labels
    return twin


def with_scaled_loss(optimizer, model):
    """The optimizer of a twin in mixed precision: float16 needs losses that are scaled up, since small gradients would be 0.

    Keras does this by itself only for a model whose own policy is mixed_float16, not one that is made of such layers.

    Source: Micikevicius et al. 2018, section 3.2.
    """
    import keras

    if _policy(model.distribute_strategy) != "mixed_float16":
        return optimizer
    return keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale")


def warn_of_mixed(strategy) -> None:
    """Warns on a CPU and on an old GPU, where mixed precision only costs."""
    import tensorflow as tf

    if _policy(strategy) == "mixed_float16" or tf.config.list_logical_devices("TPU"):
        return
    cost = COST_WITH_UNITS if _has_bfloat16() else COST
    logger.warning("mixed precision is slower on this machine: a step took %.1f times as long where it was measured (benchmarks/step_time.py); "
                   "leave --mixed-precision out", cost)


def _policy(strategy) -> str:
    """float16 where all that computes is a GPU with units for it, else bfloat16, whose range needs no scaling."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    try:
        on_gpus = all("GPU" in device.upper() for device in strategy.extended.worker_devices)
    except RuntimeError:  # TensorFlow's default strategy, which takes a GPU if there is one
        on_gpus = bool(gpus)
    capable = [tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) >= TENSOR_CORES for gpu in gpus]
    return "mixed_float16" if on_gpus and capable and all(capable) else "mixed_bfloat16"


def _has_bfloat16() -> bool:
    """True for a processor whose flags say that it multiplies bfloat16."""
    try:
        return any(unit in Path("/proc/cpuinfo").read_text(encoding="utf-8").split() for unit in CPU_UNITS)
    except OSError:
        return False
