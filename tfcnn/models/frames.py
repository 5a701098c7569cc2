"""Backbones of photos on volumes, or other examples of several frames: each frame by itself, or inflated, so that convolutions see those beside it.

In both an example (batch, frames, height, width, channels) is folded into a batch of frames, on which the backbone works as on photos; behind
its pooling the frames of an example become one again. Nothing but 2-D operators is needed, which every converter knows.

Inflation: Carreira & Zisserman 2017, "Quo Vadis, Action Recognition?", section 2.4: a filter over height and width is repeated over frames and
divided by how many they are, so that frames that are all alike give what the backbone gives for one of them.
"""

from collections.abc import Sequence

import keras
import numpy as np

from tfcnn.errors import InputError
from tfcnn.models.freeze import every_layer
from tfcnn.models.vary import Random

TAPS = 3  # frames that an inflated convolution sees: the one before and the one behind; wider filters of photos do not see more, for the sake of time
LEAST = 4  # frames from which on strides halve their number no further
WIDE = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D")
STRIDED = (*WIDE, "MaxPooling2D", "AveragePooling2D")


@keras.saving.register_keras_serializable("tfcnn")
class Fold(Random):
    """Parts of an example, one after another along its first side, as examples of their own: (batch, parts * n, ...) to (batch * parts, n, ...).

    With `one_in_training` a training sees one of the parts, at random; without augmentation the middle one.
    """

    def __init__(self, parts: int, one_in_training: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.parts, self.one_in_training = parts, one_in_training

    def call(self, inputs, training=False):
        shape = (inputs.shape[1] // self.parts, *inputs.shape[2:])
        if not (training and self.one_in_training):
            return keras.ops.reshape(inputs, (-1, *shape))
        batch = keras.ops.shape(inputs)[0]
        chosen = keras.ops.cast(self.draw((batch,)) * self.parts, "int32") if self.strength else keras.ops.full((batch,), self.parts // 2, "int32")
        whole = keras.ops.reshape(inputs, (-1, *shape))
        return keras.ops.take(whole, keras.ops.arange(batch) * self.parts + keras.ops.minimum(chosen, self.parts - 1), axis=0)

    def compute_output_shape(self, shape):
        return (None, shape[1] // self.parts, *shape[2:])

    def get_config(self):
        return {**super().get_config(), "parts": self.parts, "one_in_training": self.one_in_training}


@keras.saving.register_keras_serializable("tfcnn")
class MeanOfParts(keras.layers.Layer):
    """What `Fold` took apart, as one again: the mean over the parts, (batch * parts, features) to (batch, features)."""

    def __init__(self, parts: int, one_in_training: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.parts, self.one_in_training = parts, one_in_training

    def call(self, inputs, training=False):
        if training and self.one_in_training:
            return inputs
        return keras.ops.mean(keras.ops.reshape(inputs, (-1, self.parts, inputs.shape[-1])), axis=1)

    def compute_output_shape(self, shape):
        return shape

    def get_config(self):
        return {**super().get_config(), "parts": self.parts, "one_in_training": self.one_in_training}


@keras.saving.register_keras_serializable("tfcnn")
class Neighbours(keras.layers.Layer):
    """Each frame with those beside it, as channels: (batch * frames, height, width, c) to (batch * frames / stride, height, width, c * taps).

    A channel's taps stand together, in the order of time. Before the first frame stands that one again, behind the last one that.
    """

    def __init__(self, frames: int, taps: int = TAPS, stride: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.frames, self.taps, self.stride = frames, taps, stride

    def call(self, inputs):
        height, width, channels = inputs.shape[1:]
        x, side = keras.ops.reshape(inputs, (-1, self.frames, height, width, channels)), self.taps // 2
        padded = keras.ops.concatenate([*[x[:, :1]] * side, x, *[x[:, -1:]] * side], axis=1) if side else x
        taps = [padded[:, tap:tap + self.frames:self.stride] for tap in range(self.taps)]
        x = keras.ops.stack(taps, axis=-1) if side else taps[0]
        return keras.ops.reshape(x, (-1, height, width, channels * self.taps))

    def compute_output_shape(self, shape):
        return (None, *shape[1:-1], shape[-1] * self.taps)

    def get_config(self):
        return {**super().get_config(), "frames": self.frames, "taps": self.taps, "stride": self.stride}


@keras.saving.register_keras_serializable("tfcnn")
class SumOfTaps(keras.layers.Layer):
    """What a depthwise convolution made of `Neighbours`, added up by channel: (..., c * taps) to (..., c)."""

    def __init__(self, taps: int = TAPS, **kwargs):
        super().__init__(**kwargs)
        self.taps = taps

    def call(self, inputs):
        return sum(inputs[..., tap::self.taps] for tap in range(self.taps))

    def compute_output_shape(self, shape):
        return (*shape[:-1], shape[-1] // self.taps)

    def get_config(self):
        return {**super().get_config(), "taps": self.taps}


def inflate(network, frames: int):
    """A backbone of photos whose convolutions see the frames beside each one too.

    Convolutions wider than a pixel see three frames, with the weights of the backbone divided among them; strides halve the number of frames
    as they halve height and width, while there are more than four.

    Args:
        network: a functional `keras.Model` of pixels (batch, height, width, 3); it stays as it is.
        frames: of an example.

    Returns:
        (a `keras.Model` whose batch is that of all frames, (batch * frames, height, width, 3), how many frames of an example it gives).

    Raises:
        InputError: a backbone without convolutions over pixels, such as a ViT.
    """
    if not any(_is_wide(layer) for layer in network.layers):
        raise InputError(f"expected a backbone with convolutions to inflate, got '{network.name}'; take it slice by slice")
    counts: dict[int, int] = {}  # frames of the tensors of the new network, by id
    kept = []                    # the tensors, so that ids stay theirs

    def call(layer, *args, **kwargs):
        count = min((counts[id(tensor)] for tensor in keras.tree.flatten(args) if id(tensor) in counts), default=frames)
        stride = 2 if _halves(layer) and count > LEAST else 1
        if stride > 1 or _is_wide(layer):
            taps = TAPS if _is_wide(layer) else 1
            args = (Neighbours(count, taps, stride, name=f"{layer.name}_frames")(args[0]), *args[1:])
            count = -(-count // stride)
        x = layer(*args, **kwargs)
        if _is_wide(layer) and type(layer).__name__ == "DepthwiseConv2D":
            x = SumOfTaps(TAPS, name=f"{layer.name}_sum")(x)
        for tensor in keras.tree.flatten(x):
            counts[id(tensor)] = count
            kept.append(tensor)
        return x

    clone = keras.models.clone_model(network, call_function=call, clone_function=lambda layer: type(layer).from_config(layer.get_config()))
    inflated = keras.Model(clone.inputs[0], clone.outputs[0], name=network.name)
    for layer in network.layers:
        if layer.weights:
            inflated.get_layer(layer.name).set_weights(_spread(layer))
    return inflated, counts[id(clone.outputs[0])]


def as_photos(pixels, image_size: int):
    """The model from examples to pixels (batch, frames, height, width, channels), continued to photos (batch * frames, size, size, channels)."""
    x = Fold(pixels.output_shape[1], name="frames")(pixels.output)                     # (batch * frames, 1, height, width, channels)
    x = keras.layers.Reshape(x.shape[2:], name="photos")(x)
    if x.shape[1:3] != (image_size, image_size):
        x = keras.layers.Resizing(image_size, image_size, name="to_size")(x)
    return keras.Model(pixels.input, x, name="as_photos")


def mean_over(x, parts: Sequence[tuple[int, bool]]):
    """Features of what was folded as those of examples, by a layer `pooling` at the end.

    Args:
        x: (batch * parts, features).
        parts: of each `Fold` how many are left of an example, and its `one_in_training`.
    """
    for number, (count, one) in reversed(list(enumerate(parts))):
        x = MeanOfParts(count, one, name=f"pooling_{number}" if number else "pooling")(x)
    return x


def parts_of(model) -> list[tuple[int, bool]]:
    """How each `Fold` of a model takes examples apart, for `mean_over`."""
    return [(fold.parts, fold.one_in_training) for fold in folds_of(model)]


def folds_of(model) -> list[Fold]:
    """Those of a classifier, from input to output."""
    return [layer for layer in every_layer(model) if isinstance(layer, Fold)]


def _is_wide(layer) -> bool:
    """A convolution over more than a pixel that moves by less than its width; patches of a ConvNeXt stay within a frame."""
    return type(layer).__name__ in WIDE and max(layer.kernel_size) > max(layer.strides)


def _halves(layer) -> bool:
    return type(layer).__name__ in STRIDED and max(layer.strides) > 1


def _spread(layer) -> list[np.ndarray]:
    """The weights of a layer of the backbone, for the inflated one: those of a wide kernel for each tap, divided by how many taps are added up."""
    values = layer.get_weights()
    if _is_wide(layer):
        values[0] = np.repeat(values[0], TAPS, axis=2) / TAPS  # (height, width, channels * taps, filters), the kernel; a bias stays
        if type(layer).__name__ == "SeparableConv2D":
            values[1] = np.repeat(values[1], TAPS, axis=2)     # its second part adds up
    return values
