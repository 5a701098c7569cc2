"""`recast`: a copy of a network that computes in another precision."""

from collections.abc import Mapping
from typing import Any

from tfcnn.models.freeze import every_layer


def recast(model, policy: str | None, *, kinds: Mapping[type, type] | None = None):
    """A copy with weights of its own, equal and apart.

    Args:
        model: a functional `keras.Model`.
        policy: what all layers compute in, a name of Keras such as "float32" or "mixed_bfloat16"; None leaves it as it is. The
            layer `predictions` keeps its own, which is float32 in a classifier, and so do convolutions of maps so small that
            TensorFlow's gradients in bfloat16 are wrong.
        kinds: classes that take the place of others, with the same configuration.
    """
    import keras

    def keeps_its_own(layer):
        return layer.name == "predictions" or (policy == "mixed_bfloat16" and _unsafe(layer))

    def copied(layer):  # an operation without weights computes in whatever it is given
        config = layer.get_config()
        if policy and isinstance(layer, keras.layers.Layer) and not isinstance(layer, keras.layers.InputLayer) and not keeps_its_own(layer):
            config["dtype"] = policy
        kind: Any = (kinds or {}).get(type(layer), type(layer))
        return kind.from_config(config)

    twin = keras.models.clone_model(model, clone_function=copied, recursive=True)
    for variable, value in zip(twin.variables, model.variables, strict=True):
        variable.assign(value)
    for layer in every_layer(twin):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it computes with constants that it draws from its weights here
    return twin


def in_float32(model):
    """The same network, or a copy of it where layers compute in 16 bits, which TFLite's own operators cannot."""
    sixteen = any(getattr(layer, "compute_dtype", "float32") != "float32" for layer in every_layer(model))
    return recast(model, "float32") if sixteen else model


def _unsafe(layer) -> bool:
    """True for a convolution of a map that is smaller than a stride, in three dimensions also than the kernel.

    TensorFlow 2.21 on CPUs then leaves parts of the weights' gradient in bfloat16 unwritten: tests/test_twin.py sees it.
    """
    kernel = getattr(layer, "kernel_size", None)
    if not isinstance(kernel, tuple):
        return False
    least = [max(sides) for sides in zip(kernel, layer.strides, strict=True)] if len(kernel) == 3 else layer.strides
    return any(side is not None and side < smallest for side, smallest in zip(layer.input.shape[1:-1], least, strict=True))
