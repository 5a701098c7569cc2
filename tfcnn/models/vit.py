"""ViT: the network in plain Keras layers, and its weights from presets of KerasHub.

KerasHub's own layers cannot be reloaded one by one (their `get_config` gives arguments that they do not take), so the
same network stands here in layers that plain Keras saves, opens and converts.
"""

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path

from tfcnn.errors import InputError, WorkError, first_line

IMAGENET_PRESET = "vit_base_patch16_224_imagenet"
INSTALL = "pip install -c constraints.txt '.[vit]' in the folder of tfcnn"
EPSILON = 1e-6  # of the norms
# What every ViT of KerasHub's presets has, and the network below with them.
PARTS = {"use_class_token": True, "use_mha_bias": True, "use_mlp_bias": True, "use_patch_bias": True, "layer_norm_epsilon": EPSILON}


def build_vit(image_size: int, *, patch_size: int, num_layers: int, num_heads: int, hidden_dim: int, mlp_dim: int):
    """A ViT without head, random weights.

    Args:
        image_size: height and width of the input in pixels, a multiple of `patch_size`.
        patch_size: side of a patch in pixels.
        num_layers: transformer blocks.
        num_heads: attention heads of a block; they share `hidden_dim`.
        hidden_dim: numbers that describe a token.
        mlp_dim: units between the two Dense layers of a block.

    Returns:
        A `keras.Model` named `backbone`: (batch, image_size, image_size, 3) in [-1, 1] to tokens
        (batch, 1 + patches, hidden_dim), the class token first.

    Source: Dosovitskiy et al. 2021, section 3.1 and equations 1 to 4; dropout 0 as in KerasHub's presets.
    """
    import keras
    from keras import layers

    patches = (image_size // patch_size) ** 2
    image = keras.Input((image_size, image_size, 3), name="pixels")
    x = layers.Conv2D(hidden_dim, patch_size, strides=patch_size, name="patch_embedding")(image)
    x = layers.Reshape((patches, hidden_dim), name="patches")(x)                        # (batch, patches, hidden)
    first = keras.ops.zeros_like(x[:, :1, 0], dtype="int32")                            # (batch, 1): the row of a table of one
    token = layers.Embedding(1, hidden_dim, embeddings_initializer="random_normal", name="class_token")(first)
    x = layers.Concatenate(axis=1, name="tokens")([token, x])                           # (batch, 1 + patches, hidden)
    places = keras.ops.cumsum(keras.ops.ones_like(x[:1, :, 0], dtype="int32"), axis=1) - 1   # (1, 1 + patches): 0, 1, 2, ...
    table = layers.Embedding(1 + patches, hidden_dim, embeddings_initializer=keras.initializers.RandomNormal(stddev=0.02), name="position_embedding")
    x = layers.Add(name="embeddings")([x, table(places)])
    for number in range(1, num_layers + 1):
        x = _block(x, f"block{number}", num_heads, mlp_dim)
    x = _normed(x, "norm")
    return keras.Model(image, x, name="backbone")


def _block(x, name: str, num_heads: int, mlp_dim: int):
    """Attention and a two-layer perceptron, each after a norm and around a shortcut; (batch, tokens, hidden) to the same."""
    from keras import layers

    hidden = x.shape[-1]
    y = _normed(x, f"{name}_norm1")
    y = layers.MultiHeadAttention(num_heads, hidden // num_heads, name=f"{name}_attention")(y, y)
    x = layers.Add(name=f"{name}_add1")([x, y])
    y = _normed(x, f"{name}_norm2")
    y = layers.Dense(mlp_dim, activation="gelu", name=f"{name}_dense1")(y)
    y = layers.Dense(hidden, name=f"{name}_dense2")(y)
    return layers.Add(name=f"{name}_add2")([x, y])


def _normed(x, name: str):
    import keras

    return keras.layers.LayerNormalization(epsilon=EPSILON, name=name)(x)


def is_preset(weights: str) -> bool:
    """True for the name of a KerasHub preset or a folder that holds one; such names begin with vit_ or name a hub."""
    path = Path(weights)
    if path.exists():
        return path.is_dir() and (path / "config.json").is_file()
    return weights.startswith("vit_") or "://" in weights


def check_preset(weights: str, options: Mapping[str, int]) -> None:
    """Raises InputError unless KerasHub is there and, for a folder, its preset has these dimensions; loads no weights."""
    if importlib.util.find_spec("keras_hub") is None:
        raise InputError(f"expected KerasHub for the weights of a ViT, but it is not installed; install it with {INSTALL}, or give --weights none, FILE or RUN")
    file = Path(weights) / "config.json"
    if not file.is_file():
        return
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        kind, values = config["class_name"], dict(config["config"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"expected a preset of KerasHub in '{weights}', but its config.json is damaged ({first_line(error)}); download it again") from error
    if kind != "ViTBackbone":
        raise InputError(f"expected a preset of KerasHub's ViTBackbone in '{weights}', got class_name='{kind}'; give the folder of a ViT")
    _compare(values, options, weights)


def load_preset(network, weights: str, options: Mapping[str, int]) -> None:
    """Copies the weights of a preset into a network of `build_vit`; another image size has its positions interpolated.

    Args:
        network: from `build_vit`.
        weights: the name of a preset, or a folder that holds one.
        options: what the network was built with.

    Raises:
        InputError: no such preset, another architecture, or a damaged folder.
        WorkError: the preset cannot be downloaded.
    """
    check_preset(weights, options)
    import keras_hub

    folder = Path(weights).is_dir()
    source = str(Path(weights).resolve()) if folder else weights
    try:
        if not folder:  # the dimensions before the weights, which are large
            _compare(keras_hub.models.ViTBackbone.from_preset(source, load_weights=False).get_config(), options, weights)
        preset = keras_hub.models.ViTBackbone.from_preset(source)
    except InputError:
        raise
    except Exception as error:  # KerasHub passes on what its download clients and h5py raise
        reason = f"{type(error).__name__}: {first_line(error)}"
        if folder:
            raise InputError(f"expected a preset of KerasHub in '{weights}', but it cannot be read ({reason}); is the download complete?") from error
        if isinstance(error, ValueError):
            raise InputError(f"expected the name of a ViT preset of KerasHub, got weights='{weights}' ({reason}); give its name or its folder") from error
        raise WorkError(f"expected the weights '{weights}' of KerasHub, but they cannot be downloaded ({reason}); load the preset where there is "
                        "a connection, save it with save_to_preset, and give --weights FOLDER") from error
    _copy(preset, network)


def resize_positions(table, positions: int):
    """The position embedding of another image size: the class token's row as it is, the others interpolated on their grid.

    Args:
        table: float (1 + n², hidden), the class token first, then the patches row by row.
        positions: 1 + m², rows of the result.

    Returns:
        float32 (positions, hidden).

    Source: Dosovitskiy et al. 2021, section 3.2.
    """
    import keras
    import numpy as np

    old, new = (round((count - 1) ** 0.5) for count in (len(table), positions))
    if old == new:
        return np.asarray(table, np.float32)
    grid = np.asarray(table[1:], np.float32).reshape(1, old, old, -1)
    grid = keras.ops.convert_to_numpy(keras.ops.image.resize(grid, (new, new), interpolation="bilinear"))
    return np.concatenate([table[:1], grid.reshape(new * new, -1)]).astype(np.float32)


def _compare(config: Mapping, options: Mapping[str, int], weights: str) -> None:
    for key, expected in {**options, **PARTS}.items():
        found = config.get(key, expected)  # presets of before an option was there have its default
        found = found[0] if isinstance(found, (list, tuple)) and len(set(found)) == 1 else found
        if found != expected:
            raise InputError(f"expected a preset with {key}={expected} in '{weights}', got {key}={found}; give one of this architecture")


def _copy(preset, network) -> None:
    """Weights of a KerasHub backbone into the layers that stand for its own."""
    embedding, encoder = preset.get_layer("vit_patching_and_embedding"), preset.get_layer("vit_encoder")
    table = network.get_layer("position_embedding")
    table.set_weights([resize_positions(embedding.position_embedding.get_weights()[0], table.input_dim)])
    network.get_layer("class_token").set_weights([embedding.class_token.numpy()[0]])
    pairs = {"patch_embedding": embedding.patch_embedding, "norm": encoder.layer_norm}
    for number, block in enumerate(encoder.encoder_layers, start=1):
        parts = {"norm1": block.layer_norm_1, "attention": block.mha, "norm2": block.layer_norm_2, "dense1": block.mlp.dense_1, "dense2": block.mlp.dense_2}
        pairs |= {f"block{number}_{part}": layer for part, layer in parts.items()}
    for name, layer in pairs.items():
        network.get_layer(name).set_weights(layer.get_weights())
