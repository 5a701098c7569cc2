"""Mixed precision: a twin of a model that computes in 16 bits and keeps its weights in 32."""

import logging
from pathlib import Path

logger = logging.getLogger(__name__)

TENSOR_CORES = (7, 0)  # compute capability of the first GPUs that multiply float16 faster (Volta)
CPU_UNITS = ("amx_bf16", "avx512_bf16")  # flags of processors that multiply bfloat16


def as_mixed(model):
    """A copy of a float32 classifier that computes in 16 bits: bfloat16, or float16 on a GPU, with losses scaled by Keras.

    The scores stay float32. The copy has weights of its own; the model is saved and exported in float32, since a network of 16
    bits does not convert to TFLite's own operators.

    Source: Micikevicius et al. 2018, "Mixed Precision Training", section 3.
    """
    import keras

    policy = _policy()

    def copied(layer):  # an operation without weights computes in whatever it is given
        config = layer.get_config()
        if isinstance(layer, keras.layers.Layer) and not isinstance(layer, keras.layers.InputLayer) and layer.name != "predictions":
            config["dtype"] = policy
        return type(layer).from_config(config)

    twin = keras.models.clone_model(model, clone_function=copied, recursive=True)
    twin.set_weights(model.get_weights())
    for layer in twin.get_layer("backbone").layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it computes with constants that it draws from its weights here
    twin.model_config = model.model_config
    return twin


def warn_of_mixed() -> None:
    """Warns where the machine has no units for 16 bits, so that mixed precision only costs."""
    if _policy() == "mixed_float16" or _has_bfloat16():
        return
    logger.warning("this machine multiplies 16-bit numbers no faster: a step in mixed precision took about 4 times as long where it was measured "
                   "(benchmarks/step_time.py); leave --mixed-precision out")


def _policy() -> str:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    capable = [tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) >= TENSOR_CORES for gpu in gpus]
    return "mixed_float16" if capable and all(capable) else "mixed_bfloat16"


def _has_bfloat16() -> bool:
    """True for a TPU, or a processor whose flags say so."""
    import tensorflow as tf

    if tf.config.list_logical_devices("TPU"):
        return True
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return False
    return not tf.config.list_physical_devices("GPU") and any(unit in flags for unit in CPU_UNITS)
