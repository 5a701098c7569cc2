"""`build_classifier`: raw RGB 0-255 → preprocessing → backbone → pooling → head."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tfcnn.errors import InputError, closest, is_plain
from tfcnn.models.backbones import BACKBONES, preprocess_function
from tfcnn.models.freeze import set_trainable
from tfcnn.models.weights import build_with_imagenet, check_weights, load_backbone_weights

POOLINGS = ("avg", "max")


@dataclass(frozen=True)
class ModelConfig:
    """What `build_classifier` takes.

    Attributes:
        backbone: a name that `tfcnn backbones` lists; in Python also a `keras.Model` from pixels 0-255 to features.
        weights: "imagenet" (Keras's own download), "none" (random), or a weights file.
        image_size: height and width of the input in pixels; None takes the backbone's own.
        pooling: "avg" or "max" over the feature maps.
        hidden: units of Dense layers between pooling and the output.
        dropout: share of features dropped before each Dense layer in training, from 0 to below 1.
    """

    backbone: Any = "mobilenet_v3_small"
    weights: str = "imagenet"
    image_size: int | None = None
    pooling: str = "avg"
    hidden: tuple[int, ...] = ()
    dropout: float = 0.2


def build_classifier(backbone="mobilenet_v3_small", *, labels: Sequence[str], weights: str | None = ModelConfig.weights,
                     image_size: int | None = ModelConfig.image_size, pooling: str = ModelConfig.pooling,
                     hidden: Sequence[int] = ModelConfig.hidden, dropout: float = ModelConfig.dropout):
    """A classifier on a backbone whose layers are all frozen.

    Args:
        backbone: a name of `BACKBONES`, or a `keras.Model` that takes pixels 0-255 (it does its own preprocessing).
        labels: class names, in the order of the outputs.
        weights: "imagenet", "none" or None (random), or a weights file; a `keras.Model` keeps its own.
        image_size: height and width of the input in pixels; by default the backbone's own.
        pooling: "avg" or "max" over the feature maps.
        hidden: units of Dense layers (ReLU) between pooling and output.
        dropout: share of features dropped before each Dense layer in training.

    Returns:
        A functional `keras.Model`: float32 (batch, height, width, 3) pixels 0-255 in, named `image`; softmax scores
        (batch, len(labels)) out, layer `predictions`. Its parts are the layers `backbone`, `pooling`, `logits`.

    Raises:
        InputError: an unknown backbone or argument, or weights of another network.
        WorkError: the ImageNet weights cannot be downloaded.
    """
    import keras

    config = ModelConfig(backbone, str(weights or "none"), image_size, pooling, tuple(hidden), dropout)
    check_config(config, labels)
    if isinstance(backbone, str):
        network, preprocess = _named_backbone(config), preprocess_function(BACKBONES[backbone])
    else:
        network, preprocess = _own_backbone(backbone), lambda pixels: pixels

    image = keras.Input(network.input_shape[1:], name="image", dtype="float32")     # (batch, height, width, 3), 0-255
    x = network(preprocess(image))                                                  # (batch, h, w, channels)
    if len(x.shape) == 4:
        layer = keras.layers.GlobalAveragePooling2D if pooling == "avg" else keras.layers.GlobalMaxPooling2D
        x = layer(name="pooling")(x)                                                # (batch, channels)
    else:
        x = keras.layers.Flatten(name="pooling")(x)
    for number, units in enumerate(config.hidden, start=1):
        x = keras.layers.Dropout(dropout, name=f"dropout_{number}")(x)
        x = keras.layers.Dense(units, activation="relu", name=f"hidden_{number}")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    x = keras.layers.Dense(len(labels), name="logits")(x)                           # (batch, labels)
    x = keras.layers.Activation("softmax", dtype="float32", name="predictions")(x)
    model = keras.Model(image, x, name="classifier")
    model.model_config = replace(config, image_size=network.input_shape[1], backbone=config.backbone if isinstance(backbone, str) else backbone.name)
    set_trainable(model, False)
    return model


def check_config(config: ModelConfig, labels: Sequence[str] | None = None) -> None:
    """Raises InputError where `build_classifier` could not use these arguments; needs no TensorFlow for a named backbone."""
    if isinstance(config.backbone, str):
        if config.backbone not in BACKBONES:
            raise InputError(f"expected the name of a backbone, got '{config.backbone}'; {closest(config.backbone, BACKBONES)}")
        check_weights(config.weights)
        if config.image_size is not None and not 32 <= config.image_size <= 2048:
            raise InputError(f"expected an image size from 32 to 2048 pixels, got image_size={config.image_size}")
    elif not hasattr(config.backbone, "layers"):
        raise InputError(f"expected the name of a backbone or a keras.Model, got backbone={config.backbone!r}")
    if config.pooling not in POOLINGS:
        raise InputError(f"expected pooling 'avg' or 'max', got pooling='{config.pooling}'")
    if any(not isinstance(units, int) or units < 1 for units in config.hidden):
        raise InputError(f"expected the units of each hidden layer as whole numbers above 0, got hidden={config.hidden}")
    if not 0 <= config.dropout < 1:
        raise InputError(f"expected a dropout from 0 to below 1, got dropout={config.dropout}")
    if labels is not None and (len(labels) < 2 or len(set(labels)) != len(labels)):
        raise InputError(f"expected at least two different labels, got labels={list(labels)}")
    if not all(is_plain(label) for label in labels or ()):
        raise InputError(f"expected labels of one line in UTF-8, got labels={list(labels)!a}; they stand in labels.txt, one a line")


def _named_backbone(config: ModelConfig):
    import keras

    row = BACKBONES[config.backbone]
    build = getattr(keras.applications, row.build)
    size = config.image_size or row.image_size
    arguments = {"include_top": False, "input_shape": (size, size, 3), "name": "backbone"}
    if config.weights == "imagenet":
        return build_with_imagenet(build, config.backbone, **arguments)
    network = build(weights=None, **arguments)
    if config.weights != "none":
        load_backbone_weights(network, config.weights, config.backbone)
    return network


def _own_backbone(model):
    """The caller's network under the name `backbone`; layers and weights stay the caller's."""
    import keras

    if len(model.inputs) != 1 or len(model.outputs) != 1 or len(model.input_shape) != 4 or None in model.input_shape[1:]:
        raise InputError(f"expected a backbone with one input of fixed shape (height, width, channels) and one output, got input_shape={model.input_shape}")
    return keras.Model(model.inputs[0], model.outputs[0], name="backbone")
