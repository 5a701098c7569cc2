"""Networks of volumes, and what stands before them inside the model: a window of intensities, standardised, changed at random in training."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tfcnn.models.networks import MOMENTUM, conv_block
from tfcnn.models.vary import Random

FILTERS, REPEATS = (16, 32, 64, 128), 2  # of the blocks of `cnn_3d`, and convolutions in each
R3D_FILTERS, R3D_BLOCKS = (64, 128, 256, 512), 2  # Tran et al. 2018, table 1, 18 layers
PHOTO_MEAN, PHOTO_SPREAD = 116.0, 58.0  # of the pixels of ImageNet, 0-255, over its three channels
# Ranges of Isensee et al. 2021, "nnU-Net", supplementary note 4, halved: its networks learn for a thousand epochs. As there, most volumes are not turned,
# and most have no noise: where all were, networks were biased on volumes as they are, since their BatchNorm knew of smoothed and noisy ones alone.
ANGLE, SCALE, SHIFT, NOISE = math.radians(15), 0.15, 0.1, 0.1  # to each side; shares of the side; of the standard deviation
MOVED, NOISY = 0.2, 0.1  # shares of the volumes


def volume_input(shape: Sequence[int], facts: Mapping[str, Any]):
    """What stands before a network of volumes: intensities (batch, depth, height, width, channels) in, standardised ones out, changed in training."""
    x = volume = keras.Input(shape, name="volume")
    if facts["intensity"] is not None:
        x = keras.ops.clip(x, *facts["intensity"])
    x = keras.layers.Normalization(mean=facts["mean"], variance=facts["variance"], name="standardise")(x)
    return keras.Model(volume, VaryVolumes(name="vary")(x), name="volume_input")


def as_pixels(standardised):
    """A model to standardised intensities, continued to pixels 0-255 of the mean and spread of photos, for a backbone of photos.

    What lies outside is cut: masks, which are mostly 0, would give pixels of 370, which no photo has. On the validation volumes of AdrenalMNIST3D the head on
    frozen features had a log loss of 0.43 in place of 0.51 for it.
    """
    return keras.Model(standardised.input, keras.ops.clip(standardised.output * PHOTO_SPREAD + PHOTO_MEAN, 0, 255), name="pixels")


def build_cnn_3d(shape: Sequence[int]):
    """A small network of volumes: blocks of 3x3x3 convolutions with BatchNorm and ReLU, of which the first halves each side.

    Returns:
        A `keras.Model` with random weights: float32 (batch, depth, height, width, channels) in, features (batch, 128) out; 880,000 parameters.
    """
    x = volume = keras.Input(shape, name="volume")
    for number, filters in enumerate(FILTERS, start=1):
        x = conv_block(f"block{number}", x, filters, 3, stride=2, repeats=REPEATS)    # (batch, depth / 2^n, height / 2^n, width / 2^n, filters)
    return keras.Model(volume, keras.ops.mean(x, axis=(1, 2, 3)), name="cnn_3d")


def build_r3d_18(shape: Sequence[int]):
    """R3D-18: the residual network of 18 layers with all convolutions in three dimensions; features (batch, 512), 33 million parameters.

    Source: Tran et al. 2018, "A Closer Look at Spatiotemporal Convolutions for Action Recognition", section 3.2 and table 1.
    """
    return _residual_network("r3d_18", shape, _convolution)


def build_r2plus1d_18(shape: Sequence[int]):
    """R(2+1)D-18: each convolution is one over height and width and one over depth or time, with as many parameters together.

    Source: Tran et al. 2018, section 3.5 and table 1.
    """
    return _residual_network("r2plus1d_18", shape, _factored)


NETWORKS = {"cnn_3d": build_cnn_3d, "r3d_18": build_r3d_18, "r2plus1d_18": build_r2plus1d_18}


def _residual_network(name: str, shape: Sequence[int], convolution):
    volume = keras.Input(shape, name="volume")
    x = _stem("stem", volume, convolution)                                             # (batch, depth, height / 2, width / 2, 64)
    for number, filters in enumerate(R3D_FILTERS, start=1):
        x = _stage(f"stage{number}", x, filters, 1 if number == 1 else 2, convolution)
    return keras.Model(volume, keras.ops.mean(x, axis=(1, 2, 3)), name=name)           # (batch, 512)


def _stem(name: str, x, convolution):
    inside = keras.Input(x.shape[1:], name="x")
    return keras.Model(inside, keras.layers.ReLU()(_norm(convolution(inside, R3D_FILTERS[0], (3, 7, 7), (1, 2, 2), middle=45))), name=name)(x)


def _stage(name: str, x, filters: int, stride: int, convolution):
    inside = y = keras.Input(x.shape[1:], name="x")
    for block in range(R3D_BLOCKS):
        strides = (stride if block == 0 else 1,) * 3
        way = y
        if way.shape[-1] != filters:
            way = _norm(keras.layers.Conv3D(filters, 1, strides=strides, padding="same", use_bias=False)(way))
        y = keras.layers.ReLU()(_norm(convolution(y, filters, (3, 3, 3), strides)))
        y = _norm(convolution(y, filters, (3, 3, 3), (1, 1, 1)))
        y = keras.layers.ReLU()(keras.layers.Add()([way, y]))
    return keras.Model(inside, y, name=name)(x)


def _convolution(x, filters: int, kernel: tuple, strides: tuple, middle: int | None = None):
    return keras.layers.Conv3D(filters, kernel, strides=strides, padding="same", use_bias=False, kernel_initializer="he_normal")(x)


def _factored(x, filters: int, kernel: tuple, strides: tuple, middle: int | None = None):
    """Over height and width, then over depth, with so many maps between that the parameters are those of one convolution."""
    depth, height, width = kernel
    inputs = x.shape[-1]
    middle = middle or depth * height * width * inputs * filters // (height * width * inputs + depth * filters)
    x = _convolution(x, middle, (1, height, width), (1, *strides[1:]))
    return _convolution(keras.layers.ReLU()(_norm(x)), filters, (depth, 1, 1), (strides[0], 1, 1))


def _norm(x):
    return keras.layers.BatchNormalization(momentum=MOMENTUM)(x)


class VaryPlanes(Random):
    """What changes of volumes and of frames have in common: planes that are turned, scaled and shifted, and noise."""

    def _in_planes(self, x):
        """(batch, depth, height, width, channels), all planes of height and width of an example moved alike."""
        _, depth, height, width, channels = x.shape
        x = self._moved(keras.ops.reshape(keras.ops.transpose(x, (0, 2, 3, 1, 4)), (-1, height, width, depth * channels)))
        return keras.ops.transpose(keras.ops.reshape(x, (-1, height, width, depth, channels)), (0, 3, 1, 2, 4))

    def _noisy(self, x):
        noise = self.strength * NOISE * keras.random.normal(keras.ops.shape(x), seed=self.seed_generator)
        return x + keras.ops.reshape(self._some(x, NOISY), (-1, 1, 1, 1, 1)) * noise

    def _some(self, x, share: float):
        """(batch,), 1 for so many of the examples at medium strength, else 0."""
        return keras.ops.cast(self.draw((keras.ops.shape(x)[0],)) < min(0.5, self.strength * share), "float32")

    def _moved(self, planes, *, columns_too: bool = True):
        """(batch, rows, columns, channels), each turned, scaled and shifted by its own numbers around its middle; columns are not scaled twice."""
        batch, (rows, columns) = keras.ops.shape(planes)[0], planes.shape[1:3]
        most = (ANGLE, SCALE, SHIFT * rows, SHIFT * columns * columns_too)
        moved = self._some(planes, MOVED)
        angle, scale, down, right = (moved * (2 * self.draw((batch,)) - 1) * self.strength * each for each in most)
        cos, sin, x, y = keras.ops.cos(angle), keras.ops.sin(angle), (columns - 1) / 2, (rows - 1) / 2
        across = 1 + scale * columns_too
        a, b, c, d = across * cos, -across * sin, (1 + scale) * sin, (1 + scale) * cos   # (batch,); column and row of the input, from those of the output
        zeros = keras.ops.zeros_like(angle)
        transforms = keras.ops.stack([a, b, x - a * x - b * y + right, c, d, y - c * x - d * y + down, zeros, zeros], axis=1)
        return keras.ops.image.affine_transform(planes, transforms, interpolation="bilinear", fill_mode="nearest")


@keras.saving.register_keras_serializable("tfcnn")
class VaryVolumes(VaryPlanes):
    """Flips standardised volumes in training; some it turns, scales and shifts, to some it adds noise.

    Turned and scaled are the planes of height and width, then those of depth and height, each as a picture whose channels are the third axis.
    """

    def changed(self, x):
        """(batch, depth, height, width, channels)."""
        dtype, x = x.dtype, keras.ops.cast(x, "float32")  # planes are not moved in 16 bits
        for axis in (1, 2, 3):
            flip = self.draw((keras.ops.shape(x)[0], 1, 1, 1, 1)) < min(0.5, self.strength)
            x = keras.ops.where(flip, keras.ops.flip(x, axis=axis), x)
        _, depth, height, width, channels = x.shape
        x = self._moved(keras.ops.reshape(self._in_planes(x), (-1, depth, height, width * channels)), columns_too=False)
        return keras.ops.cast(self._noisy(keras.ops.reshape(x, (-1, depth, height, width, channels))), dtype)
