"""`heat_maps`: where in its photos a classifier finds what it goes by, by Grad-CAM, attention rollout or integrated gradients."""

import math
import re
from collections.abc import Sequence

import numpy as np

from tfcnn.errors import InputError, WorkError, closest
from tfcnn.evaluation.inside import (
    batch_of,
    call_of,
    check_classifier,
    check_pixels,
    check_targets,
    head_of,
    in_batches,
    inside_backbone,
    layers_with_maps,
    offer,
)
from tfcnn.models.recast import in_float32

GRAD_CAM, ROLLOUT, INTEGRATED = "grad_cam", "attention_rollout", "integrated_gradients"
METHODS = ("auto", GRAD_CAM, ROLLOUT, INTEGRATED)
STEPS = 64  # of integrated gradients; Sundararajan et al. 2017, section 5, find 20 to 300 enough
SHOWN = 99  # percentile: single pixels of large attributions would leave all others dark


def heat_maps(model, pixels: np.ndarray, targets: Sequence[int] | np.ndarray, *, method: str = "auto", layer: str | None = None) -> np.ndarray:
    """How much each pixel counts for a label, one map a photo.

    Grad-CAM shows what speaks for the label and not what speaks against it; where nothing speaks for it the map is zero. Attention
    rollout shows what a ViT gathered, whatever the label. Integrated gradients are attributions to single pixels, here the sum of
    their absolute values over the channels, clipped at the 99th percentile. Each map is divided by its largest value, so that
    maps of two photos cannot be compared with each other.

    Args:
        model: of `build_classifier`, new or loaded.
        pixels: (n, height, width, channels), 0-255, in the model's input shape.
        targets: for each photo the index of the label to explain.
        method: "grad_cam", "attention_rollout" or "integrated_gradients"; "auto" is attention rollout for a ViT, Grad-CAM for networks
            that end in feature maps, and integrated gradients for others.
        layer: for Grad-CAM, a layer of the backbone with feature maps; the last ones if None.

    Returns:
        float32 (n, height, width), 0-1. Coarse maps are interpolated bilinearly between the centres of their cells.

    Raises:
        InputError: an unknown method or layer, a method that this network cannot be explained with, or pixels or targets of another network.
        WorkError: gradients that are no numbers.
    """
    method = check_method(model, method, layer)
    pixels = check_pixels(model, pixels)
    targets = check_targets(model, targets, len(pixels))
    if method == INTEGRATED:
        heat = np.abs(integrated_gradients(model, pixels, targets)).sum(axis=-1)
        top = np.percentile(heat, SHOWN, axis=(1, 2), keepdims=True)
    else:
        coarse = grad_cam(model, pixels, targets, layer=layer) if method == GRAD_CAM else _on_patches(attention_rollout(model, pixels))
        heat = _enlarged(coarse, pixels.shape[1:3])
        top = heat.max(axis=(1, 2), keepdims=True)
    if not np.isfinite(heat).all():
        raise WorkError("expected finite gradients, got NaN or infinity; the training diverged, train again with a lower learning rate")
    top = np.where(top > 0, top, heat.max(axis=(1, 2), keepdims=True))
    return np.clip(np.divide(heat, top, out=np.zeros_like(heat), where=top > 0), 0, 1, dtype=np.float32)


def grad_cam(model, pixels: np.ndarray, targets: np.ndarray, *, layer: str | None = None) -> np.ndarray:
    """What the feature maps hold for the logit of a label: ReLU of their sum, each weighted by its mean gradient.

    Args:
        model: of `build_classifier`.
        pixels: (n, height, width, channels), 0-255.
        targets: for each photo the index of a label.
        layer: of the backbone; its last feature maps if None.

    Returns:
        float32 (n, rows, columns), the size of the feature maps, not scaled.

    Source: Selvaraju et al. 2017, "Grad-CAM", section 3, equations 1 and 2.
    """
    pixels = check_pixels(model, pixels)
    targets = check_targets(model, targets, len(pixels))
    model = in_float32(model)
    return weighted_maps(model, maps_of(model, layer), pixels, targets)


def weighted_maps(model, maps, pixels: np.ndarray, targets: np.ndarray, *, folded: bool = False) -> np.ndarray:
    """ReLU of the sum of maps of the backbone, each weighted by the mean gradient of a logit; for inputs of any rank.

    Args:
        model: of `build_classifier`.
        maps: a tensor of the graph of its backbone, (batch, ..., channels).
        pixels: (n, ...), as the model gets them.
        targets: for each the index of a label.
        folded: whether the batch of the backbone holds several parts of each example.

    Returns:
        float32 (n, ...), the size of the maps, not scaled; of what is folded (n, parts, ...).
    """
    import tensorflow as tf

    axes = tuple(range(1, len(maps.shape) - 1))
    inside = inside_backbone(model, [maps, model.get_layer("backbone").outputs[0]])
    head = head_of(model)

    @tf.function
    def weighted_sum(pixels, targets):
        pixels = tf.cast(pixels, tf.float32)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(pixels)  # so that the tape knows of the maps; the graph goes back to them and no further
            maps, x = inside(pixels)                                                   # (batch, rows, columns, channels)
            for part in head:
                x = part(x, training=False)
            logit = tf.gather(x, targets, batch_dims=1)                                # (batch,)
        gradients = tape.gradient(logit, maps, unconnected_gradients="zero")
        weights = tf.reduce_mean(gradients, axis=axes, keepdims=True)                  # (batch, 1, 1, channels)
        heat = tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1))                      # (batch, rows, columns)
        return tf.reshape(heat, (tf.shape(pixels)[0], -1, *heat.shape[1:])) if folded else heat

    return in_batches(weighted_sum, batch_of(model), pixels, targets)


def attention_rollout(model, pixels: np.ndarray) -> np.ndarray:
    """How much of each token of a ViT has come to where its head reads, through the attention of all blocks. It knows of no label.

    The head reads the class token, or with pooling over tokens the mean of their rows. Each block mixes tokens by the mean of its
    heads, half and half with what the shortcut leaves in place.

    Args:
        model: of `build_classifier`, on a ViT.
        pixels: (n, height, width, channels), 0-255.

    Returns:
        float32 (n, tokens), each row with the sum 1; the class token first, then the patches row by row.

    Source: Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers", section 3, "Attention Rollout".
    """
    import tensorflow as tf

    pixels = check_pixels(model, pixels)
    _check_attention(model)
    model = in_float32(model)
    layers, read = _attention_layers(model), tf.constant(_read_rows(model))
    inputs_of = inside_backbone(model, [call_of(model.get_layer("backbone"), layer).input_tensors[0] for layer in layers])

    @tf.function
    def rolled_out(pixels):
        mixed = None
        for layer, tokens in zip(layers, inputs_of(tf.cast(pixels, tf.float32)), strict=True):
            scores = layer(tokens, tokens, return_attention_scores=True, training=False)[1]    # (batch, heads, tokens, tokens)
            block = 0.5 * tf.reduce_mean(scores, axis=1) + 0.5 * tf.eye(len(read))
            mixed = block if mixed is None else block @ mixed                                  # (batch, tokens, tokens), one at a time
        return tf.einsum("t,bts->bs", read, mixed)

    return in_batches(rolled_out, batch_of(model), pixels)


def integrated_gradients(model, pixels: np.ndarray, targets: Sequence[int] | np.ndarray, *, steps: int = STEPS) -> np.ndarray:
    """How much each number of a photo adds to the logit of a label, against a black picture.

    The attributions of a photo add up to its logit less that of the black picture, but for the error of the sum over steps.

    Args:
        model: of `build_classifier`.
        pixels: (n, height, width, channels), 0-255.
        targets: for each photo the index of a label.
        steps: gradients on the straight line from black to the photo, at the midpoints of as many parts; each costs a pass forth and back.

    Returns:
        float32 (n, height, width, channels), signed.

    Source: Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks", section 3 and equation 3, with the midpoint rule.
    """
    import keras
    import tensorflow as tf

    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise InputError(f"expected a whole number of steps above 0, got steps={steps!r}")
    pixels = check_pixels(model, pixels)
    targets = check_targets(model, targets, len(pixels))
    model = in_float32(model)
    network = keras.Model(model.inputs[0], call_of(model, model.get_layer("logits")).outputs[0])
    batch = batch_of(model)
    places, weights = (np.pad(some, (0, -steps % batch)).astype(np.float32).reshape(-1, batch)
                       for some in ((np.arange(steps) + 0.5) / steps, np.full(steps, 1 / steps)))

    @tf.function
    def weighted_sum(photo, target, places, weights):
        points = places[:, None, None, None] * tf.cast(photo, tf.float32)              # (batch, height, width, channels)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(points)
            logit = tf.gather(network(points, training=False), target, axis=1)
        return tf.einsum("b,bhwc->hwc", weights, tape.gradient(logit, points, unconnected_gradients="zero"))

    sums = [sum(weighted_sum(tf.constant(photo), tf.constant(target), *part).numpy() for part in zip(places, weights, strict=True))
            for photo, target in zip(pixels, targets, strict=True)]
    return np.stack(sums) * pixels.astype(np.float32)


def check_method(model, method: str, layer: str | None = None) -> str:
    """The method to explain a model with, what "auto" stands for it; raises InputError for one that cannot be used."""
    check_names(method, layer)
    check_classifier(model)
    if method == "auto":
        ends_in_maps = len(model.get_layer("backbone").outputs[0].shape) == 4
        method = GRAD_CAM if layer is not None or ends_in_maps else ROLLOUT if _attention_layers(model) else INTEGRATED
    if method == GRAD_CAM:
        maps_of(model, layer)
    if method == ROLLOUT:
        _check_attention(model)
    return method


def check_names(method: str, layer: str | None) -> None:
    """Raises InputError for what is wrong whatever the model."""
    if method not in METHODS:
        raise InputError(f"expected a method, got method='{method}'; {closest(method, METHODS)}")
    if layer is not None and method not in ("auto", GRAD_CAM):
        raise InputError(f"expected a layer for method='grad_cam' alone, got layer='{layer}' with method='{method}'; leave one of them out")


def maps_of(model, layer: str | None):
    """The feature maps (batch, rows, columns, channels) that a layer of the backbone gives, a tensor of its graph; its last ones if None."""
    backbone = model.get_layer("backbone")
    found = layers_with_maps(backbone)
    if layer is not None:
        if layer not in found:
            raise InputError(f"expected a layer of the backbone with feature maps, got layer='{layer}'; {offer(layer, found)}")
        return found[layer]
    last = backbone.outputs[0]
    if len(last.shape) != 4:
        raise InputError(f"expected a backbone that ends in feature maps for method='grad_cam', got output_shape={tuple(last.shape)}; "
                         f"give method='{ROLLOUT if _attention_layers(model) else INTEGRATED}', or a layer with maps ({offer('', found)})")
    return last


def _attention_layers(model) -> list:
    """The attention of each block of a ViT, from input to output; none in other networks, or where patches make no square."""
    import keras

    backbone = model.get_layer("backbone")
    shape = backbone.outputs[0].shape                                                  # (batch, tokens, hidden)
    if len(shape) != 3 or math.isqrt(shape[1]) ** 2 not in (shape[1], shape[1] - 1):
        return []
    found = {int(match[1]): layer for layer in backbone.layers
             if (match := re.fullmatch(r"block(\d+)_attention", layer.name)) and isinstance(layer, keras.layers.MultiHeadAttention)}
    return [found[number] for number in sorted(found)]


def _check_attention(model) -> None:
    if not _attention_layers(model):
        raise InputError("expected a ViT on a square of patches for method='attention_rollout', got a backbone without attention layers "
                         f"block1_attention, block2_attention, ...; give method='{GRAD_CAM}' or method='{INTEGRATED}'")


def _read_rows(model) -> np.ndarray:
    """Weights float32 (tokens,) of the tokens in what the head reads."""
    tokens, names = model.get_layer("backbone").outputs[0].shape[1], [layer.name for layer in model.layers]
    rows = np.ones(tokens, np.float32)
    if "class_token" in names:
        rows[1:] = 0
    elif "patch_tokens" in names:
        rows[0] = 0
    return rows / rows.sum()


def _on_patches(weights: np.ndarray) -> np.ndarray:
    """Weights (n, tokens) as maps (n, rows, columns), without the class token where there is one."""
    side = math.isqrt(weights.shape[1])
    return weights[:, -side * side:].reshape(-1, side, side)


def _enlarged(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Maps (n, rows, columns) at another size, bilinear between the centres of cells."""
    import tensorflow as tf

    return tf.image.resize(maps[..., None], size).numpy()[..., 0]
