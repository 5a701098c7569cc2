"""`make_strategy`: on which devices the model is made and trained."""

import logging

from tfcnn.errors import InputError, closest

STRATEGIES = ("auto", "cpu", "one_device", "mirrored")

logger = logging.getLogger(__name__)


def make_strategy(name: str = "auto"):
    """A `tf.distribute.Strategy`; build and train the model inside its `scope()`.

    Args:
        name: "auto" (all GPUs mirrored, one GPU, else the CPU), "cpu", "one_device" (the first GPU, else the CPU) or
            "mirrored" (every device of the kind there is, with equal copies of the model).

    Raises:
        InputError: an unknown name.
    """
    check_strategy(name)
    import tensorflow as tf

    gpus = tf.config.list_logical_devices("GPU") if _grow_memory() else []
    if name == "auto":
        name = "mirrored" if len(gpus) > 1 else "one_device" if gpus else "none"
    logger.info("training on %s", f"{len(gpus)} GPU, strategy {name}" if gpus else "the CPU")
    if name == "none":
        return tf.distribute.get_strategy()  # one CPU: TensorFlow's default adds nothing to a step
    if name == "mirrored":
        return tf.distribute.MirroredStrategy([d.name for d in gpus or tf.config.list_logical_devices("CPU")])
    return tf.distribute.OneDeviceStrategy("/gpu:0" if gpus and name == "one_device" else "/cpu:0")


def check_strategy(name: str) -> None:
    """Raises InputError for a name that `make_strategy` does not take."""
    if name not in STRATEGIES:
        raise InputError(f"expected a strategy, got '{name}'; {closest(name, STRATEGIES)}")


def _grow_memory() -> bool:
    """True if there is a GPU; lets TensorFlow take its memory as needed instead of all at once."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:  # the GPU is in use already
            logger.info("%s is initialised already; its memory setting stays", gpu.name)
    return bool(gpus)
