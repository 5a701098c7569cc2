"""`build_classifier`: raw pixels 0-255 → three channels → preprocessing → backbone → pooling → head."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from tfcnn.errors import InputError, closest, is_plain
from tfcnn.kinds import IMAGE, KINDS, kind_of
from tfcnn.models.backbones import BACKBONES, MAXIMUM_SIZE, VIT, has_class_token, preprocess_function
from tfcnn.models.freeze import OWN, set_trainable
from tfcnn.models.weights import build_with_weights, check_weights

POOLINGS = ("avg", "max", "token")
FRAMES = ("pool", "inflate")
CHANNELS = (1, 3, 4)
# What the input of a classifier is called, by the rank of an example, where its network has no better name.
INPUTS = {1: "audio", 2: "signal", 3: "image", 4: "volume"}
BACKBONE, IMAGENET = "mobilenet_v3_small", "imagenet"
# The functions of `keras.activations` that work number by number; written out, so that a name is checked without TensorFlow.
ACTIVATIONS = ("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "swish", "mish", "hard_silu", "hard_swish", "softplus", "softsign",
               "squareplus", "tanh", "hard_tanh", "tanh_shrink", "sigmoid", "hard_sigmoid", "log_sigmoid", "soft_shrink", "hard_shrink", "linear")


_OWN_LAYERS = re.compile(r"head|to_rgb|logits|(hidden|batch_norm)_\d+")  # what layers of a classifier and groups of a training are called


@dataclass(frozen=True)
class ModelConfig:
    """What `build_classifier` takes.

    What a search tries of a field stands in its metadata: `choices`, or `low` and `high` with a `scale`, linear or log; `level` says whether
    by heads on cached features ("head"), by fine-tuning ("fine"), or ("both") by heads where they have hidden layers, else by fine-tuning.

    Attributes:
        backbone: a name that `tfcnn backbones` lists; in Python also a `keras.Model` from pixels 0-255 to features; left out, mobilenet_v3_small
            for photos, resnet for series, mel_cnn for sound, kim_cnn for texts.
        weights: "imagenet" (a download), "none" (random), a weights file, another run's folder, for a ViT a preset of KerasHub, or for texts a file
            with vectors of words; left out, imagenet for backbones of photos, none for other networks.
        image_size: height and width of the input in pixels; left out, the backbone's own.
        pooling: "avg" or "max" over the feature maps (of a ViT: over the patches, without the class token), or "token", the
            class token; left out, "token" for a ViT and "avg" for the others.
        hidden: units of Dense layers between pooling and the output; on the command line with commas, as in 256,64, or none.
        dropout: share of features dropped before each Dense layer in training, from 0 to below 1.
        activation: of the hidden layers, a name of `keras.activations`.
        head_batch_norm: a BatchNorm after each hidden layer, before its activation; it learns with the head.
        channels: of the input: 3 (RGB), 1 (grey), or 4 (RGB and one more, of arrays that have it).
        frames: how a backbone of photos takes the slices of a volume or the frames of a video: pool (each by itself, then the mean of their features;
            left out, this one) or inflate (its convolutions see those beside each one too).
    """

    backbone: Any = None
    weights: str | None = None
    image_size: int | None = None
    pooling: str | None = field(default=None, metadata={"choices": ("avg", "max"), "level": "head"})
    hidden: tuple[int, ...] = field(default=(), metadata={"choices": ("none", "64", "256", "1024"), "level": "head"})
    dropout: float = field(default=0.2, metadata={"low": 0.0, "high": 0.6, "scale": "linear", "level": "both"})
    activation: str = field(default="relu", metadata={"choices": ("relu", "gelu"), "level": "head"})
    head_batch_norm: bool = field(default=False, metadata={"choices": (False, True), "level": "head"})
    channels: int = 3
    frames: str | None = None


if TYPE_CHECKING:
    import keras

    @dataclass(frozen=True)
    class Named(ModelConfig):
        """A configuration with its backbone and weights said; this and the next are for type checkers alone, and a `ModelConfig` like any other."""

        weights: str = ""

    @dataclass(frozen=True)
    class Filled(Named):
        """A configuration that leaves nothing open."""

        image_size: int = 0
        pooling: str = ""
else:
    Named = Filled = ModelConfig


def build_classifier(backbone: "str | keras.Model" = BACKBONE, *, labels: Sequence[str], weights: str | None = IMAGENET,
                     image_size: int | None = ModelConfig.image_size, pooling: str | None = ModelConfig.pooling,
                     hidden: Sequence[int] = ModelConfig.hidden, dropout: float = ModelConfig.dropout, activation: str = ModelConfig.activation,
                     head_batch_norm: bool = ModelConfig.head_batch_norm, channels: int = ModelConfig.channels, frames: str | None = None,
                     before: "keras.Model | None" = None, inside: Callable | None = None, after: Callable | None = None) -> "keras.Model":
    """A classifier on a backbone whose layers are all frozen.

    Args:
        backbone: a name of `BACKBONES`, or a `keras.Model` that takes pixels 0-255 (it does its own preprocessing).
        labels: class names, in the order of the outputs.
        weights: "imagenet"; "none" or None (random); a weights file; the folder of another run with this backbone; for a
            ViT also the name or folder of a preset of KerasHub. A `keras.Model` keeps its own weights and size.
        image_size: height and width of the input in pixels; by default the backbone's own.
        pooling: "avg" or "max" over the feature maps; over the tokens of a sequence, of a ViT the patches without the class
            token (He et al. 2022, appendix A.1); "token" takes a ViT's class token (Dosovitskiy et al. 2021, equation 4).
        hidden: units of Dense layers between pooling and output.
        dropout: share of features dropped before each Dense layer in training.
        activation: of the hidden layers, one of `ACTIVATIONS`.
        head_batch_norm: a BatchNorm between each hidden layer and its activation.
        channels: 3 for RGB; 1 for grey, which every channel of the backbone gets; 4 for RGB and one more, which a 1x1
            convolution `to_rgb` maps to pixels of three channels. It starts as the first three, and `set_trainable` opens it
            whenever it opens a stage. A `keras.Model` has its own number.
        frames: how `inside` takes slices or frames; remembered in `model.model_config`.
        before: a `keras.Model` from what the classifier gets to what the backbone takes, such as from samples of sound to pixels.
        inside: (the backbone) → the network that stands in its place, with its layers.
        after: (pooled features of what `before` gives) → those of an example, at last by a layer named `pooling`.

    Returns:
        A functional `keras.Model`: float32 (batch, height, width, channels) pixels 0-255 in, named `image`; softmax scores
        (batch, len(labels)) out, layer `predictions`. Its parts are the layers `backbone`, `pooling`, `logits`; all
        layers after `pooling` are the head. `model.model_config` has the defaults filled in, `model.labels` the labels.

    Raises:
        InputError: an unknown backbone or argument, or weights of another network.
        WorkError: the ImageNet weights cannot be downloaded.
    """
    import keras

    hidden = tuple(hidden) if isinstance(hidden, Sequence) else hidden
    config = ModelConfig(backbone, str(weights or "none"), image_size, pooling, hidden, dropout, activation, head_batch_norm, channels, frames)
    check_config(config, labels)
    row = BACKBONES[backbone] if isinstance(backbone, str) else None
    if isinstance(backbone, str):
        config = filled = with_defaults(config)
        network = build_with_weights(backbone, filled.image_size, filled.weights)
    else:
        network = _own_backbone(backbone, config)
        config = replace(config, backbone=backbone.name, weights=OWN, image_size=network.input_shape[1], pooling=pooling or "avg",
                         channels=network.input_shape[-1])

    network = inside(network) if inside else network
    first = before or network
    image = keras.Input(**_input_of(first, config if row and not before else None))  # (batch, height, width, channels), 0-255
    x = before(image) if before else image
    x = preprocess_function(row)(_three_channels(x)) if row else x                  # (batch, height, width, 3)
    x = _pooled(network(x), config.pooling or "avg", "pooling_of_frames" if after else "pooling", class_token=bool(row and has_class_token(row)))
    x = after(x) if after else x                                                    # (batch, features)
    x = _head(x, config, len(labels))                                               # (batch, labels)
    model = keras.Model(image, x, name="classifier")
    model.model_config, model.labels = config, tuple(labels)
    set_trainable(model, False)
    return model


def _input_of(first, config: ModelConfig | None) -> dict[str, Any]:
    """Shape, type and name of the input of a classifier, by the network that gets it; of photos with as many channels as configured."""
    shape = (*first.input_shape[1:-1], config.channels if config else first.input_shape[-1])
    name = first.inputs[0].name if first.inputs[0].name in KINDS else INPUTS[len(shape)]
    return {"shape": shape, "dtype": first.inputs[0].dtype, "name": name}


def build_head(features: int, config: ModelConfig, labels: Sequence[str]):
    """The head of a classifier alone, as a `keras.Model` of pooled features (batch, features); its layers have the names that
    `build_classifier` gives them.

    Args:
        features: how many the layer `pooling` has.
        config: of the classifier; its backbone is not built.
        labels: class names, in the order of the outputs.
    """
    import keras

    pooled = keras.Input((features,), name="features")                              # (batch, features)
    x = _head(keras.layers.Identity(name="pooling")(pooled), config, len(labels))   # (batch, labels)
    model = keras.Model(pooled, x, name="head_alone")
    model.model_config, model.labels = config, tuple(labels)
    return model


def check_config(config: ModelConfig, labels: Sequence[str] | None = None) -> None:
    """Raises InputError where `build_classifier` could not use these arguments; needs no TensorFlow for a named backbone."""
    config = named(config)
    if isinstance(config.backbone, str):
        if config.backbone not in BACKBONES:
            raise InputError(f"expected the name of a backbone, got '{config.backbone}'; {closest(config.backbone, BACKBONES)}")
        check_weights(config.weights, config.backbone)
        _check_image_size(config)
    elif not hasattr(config.backbone, "layers") or not getattr(config.backbone, "inputs", None):
        raise InputError(f"expected the name of a backbone or a keras.Model, functional or Sequential with an Input, got backbone={config.backbone!r}")
    _check_pooling(config)
    _check_head(config)
    if config.frames not in (None, *FRAMES):
        raise InputError(f"expected frames pool or inflate, got frames='{config.frames}'")
    if config.channels not in CHANNELS:
        raise InputError(f"expected 1 channel (grey), 3 (RGB) or 4 (RGB and one more), got channels={config.channels}")
    if labels is not None and (isinstance(labels, str) or not isinstance(labels, Sequence) or not all(isinstance(label, str) for label in labels)):
        raise InputError(f"expected labels as a list of texts, got labels={labels!r}")
    if labels is not None and (len(labels) < 2 or len(set(labels)) != len(labels)):
        raise InputError(f"expected at least two different labels, got labels={list(labels)}")
    if not all(is_plain(label) for label in labels or ()):
        raise InputError(f"expected labels of one line in UTF-8, got labels={list(labels or ())!a}; they stand in labels.txt, one a line")


def named(config: ModelConfig, kind: str = IMAGE) -> Named:
    """The same with the backbone and the weights that a kind of data has where nothing was said."""
    networks = kind_of(kind).networks
    backbone = config.backbone or (networks[0] if networks else BACKBONE)
    weights = config.weights or ("none" if backbone in networks else IMAGENET)
    return cast(Named, replace(config, backbone=backbone, weights=weights))


def with_defaults(config: ModelConfig) -> Filled:
    """The same with what a named backbone decides where nothing was said: image size and pooling."""
    named_one = named(config)
    row = BACKBONES[named_one.backbone]
    pooling = config.pooling or ("token" if has_class_token(row) else "avg")
    return cast(Filled, replace(named_one, image_size=config.image_size or row.image_size, pooling=pooling))


def _check_image_size(config: ModelConfig) -> None:
    row, size = BACKBONES[config.backbone], config.image_size
    if size is None:
        return
    if not isinstance(size, int) or not row.minimum_size <= size <= MAXIMUM_SIZE:
        raise InputError(f"expected an image size from {row.minimum_size} to {MAXIMUM_SIZE} pixels for {config.backbone}, got image_size={size}")
    if row.build == VIT and size % row.options["patch_size"]:
        patch = row.options["patch_size"]
        raise InputError(f"expected a multiple of {patch} pixels, the side of a patch of {config.backbone}, got image_size={size}; "
                         f"give {size - size % patch} or {size + patch - size % patch}")


def _check_pooling(config: ModelConfig) -> None:
    if config.pooling is not None and config.pooling not in POOLINGS:
        raise InputError(f"expected pooling 'avg' or 'max', or 'token' for a ViT, got pooling='{config.pooling}'")
    if config.pooling == "token" and not (isinstance(config.backbone, str) and has_class_token(BACKBONES[config.backbone])):
        name = config.backbone if isinstance(config.backbone, str) else config.backbone.name
        raise InputError(f"expected pooling 'avg' or 'max' for {name}, which has no class token, got pooling='token'")


def _check_head(config: ModelConfig) -> None:
    if not isinstance(config.hidden, Sequence) or any(not isinstance(units, int) or isinstance(units, bool) or units < 1 for units in config.hidden):
        raise InputError(f"expected the units of each hidden layer as whole numbers above 0, got hidden={config.hidden}; write hidden=(256,) for one layer")
    if isinstance(config.dropout, bool) or not isinstance(config.dropout, (int, float)) or not 0 <= config.dropout < 1:
        raise InputError(f"expected a dropout from 0 to below 1, got dropout={config.dropout!r}")
    if config.activation not in ACTIVATIONS:
        raise InputError(f"expected the activation of the hidden layers by Keras's name, got activation='{config.activation}'; "
                         f"{closest(config.activation, ACTIVATIONS)}")
    if not isinstance(config.head_batch_norm, bool):
        raise InputError(f"expected head_batch_norm True or False, got head_batch_norm={config.head_batch_norm!r}")


def _own_backbone(model, config: ModelConfig):
    """The caller's network under the name `backbone`; layers and weights stay the caller's."""
    import keras

    shape = tuple(model.input_shape[1:]) if len(model.inputs) == 1 else ()
    if len(model.outputs) != 1 or len(shape) not in INPUTS or None in (shape[1:] if len(shape) == 2 else shape):
        raise InputError("expected a backbone with one input of fixed shape (height, width, channels) or (depth, height, width, channels), or of shape "
                         "(steps, channels), and one output, got "
                         f"input_shape={model.input_shape} and {len(model.outputs)} outputs")
    paths = [weight.path for weight in model.weights]
    taken = [path for path in paths if paths.count(path) > 1 or _OWN_LAYERS.fullmatch(path.split("/")[0])]
    if taken:
        raise InputError(f"expected weights with paths of their own, apart from those of the head, in the backbone '{model.name}', got '{taken[0]}'; "
                         "give its layers other names")
    own = {"channels": model.input_shape[-1], "image_size": model.input_shape[1]}
    for name, value in own.items():
        if getattr(config, name) not in (getattr(ModelConfig, name), value):
            raise InputError(f"expected {name}={value}, the number that the backbone '{model.name}' takes, got {name}={getattr(config, name)}")
    if config.weights not in (IMAGENET, "none"):
        raise InputError(f"expected no weights for the backbone '{model.name}', which keeps its own, got weights='{config.weights}'; "
                         "load them with load_weights before")
    return keras.Model(model.inputs[0], model.outputs[0], name="backbone")


def _three_channels(image):
    """Pixels (batch, height, width, 1, 3 or 4) to pixels (batch, height, width, 3)."""
    import keras
    import numpy as np

    if image.shape[-1] == 1:
        return keras.layers.Concatenate(name="grey_to_rgb")([image, image, image])
    if image.shape[-1] == 4:
        layer = keras.layers.Conv2D(3, 1, use_bias=False, name="to_rgb")
        image = layer(image)
        layer.set_weights([np.eye(4, 3, dtype=np.float32)[None, None]])  # the first three, and nothing of the fourth
    return image


def _pooled(x, pooling: str, name: str, *, class_token: bool):
    """One vector an image (batch, features), by a layer of this name, of maps, tokens or vectors; a class token stands first."""
    from keras import layers

    if len(x.shape) in (4, 5):
        layer = getattr(layers, f"Global{'Average' if pooling == 'avg' else 'Max'}Pooling{len(x.shape) - 2}D")
        return layer(name=name)(x)
    if pooling == "token":
        return layers.Flatten(name=name)(layers.Cropping1D((0, x.shape[1] - 1), name="class_token")(x))
    if len(x.shape) == 3:
        x = layers.Cropping1D((1, 0), name="patch_tokens")(x) if class_token else x
        layer = layers.GlobalAveragePooling1D if pooling == "avg" else layers.GlobalMaxPooling1D
        return layer(name=name)(x)
    return layers.Flatten(name=name)(x)


def _head(x, config: ModelConfig, labels: int):
    """Softmax scores (batch, labels) of features (batch, features)."""
    from keras import layers

    for number, units in enumerate(config.hidden, start=1):
        x = layers.Dropout(config.dropout, name=f"dropout_{number}")(x)
        if config.head_batch_norm:
            x = layers.Dense(units, name=f"hidden_{number}")(x)
            x = layers.BatchNormalization(name=f"batch_norm_{number}")(x)
            x = layers.Activation(config.activation, name=f"activation_{number}")(x)
        else:
            x = layers.Dense(units, activation=config.activation, name=f"hidden_{number}")(x)
    x = layers.Dropout(config.dropout, name="dropout")(x)
    x = layers.Dense(labels, name="logits")(x)
    return layers.Activation("softmax", dtype="float32", name="predictions")(x)
