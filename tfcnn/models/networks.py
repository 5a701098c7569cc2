"""Convolutional networks from scratch for data of any rank: series (1), pictures and spectrograms (2), volumes (3).

Series may be of unequal length and lack values: both are NaN. What is missing counts as the mean of its channel; steps without any value,
such as those behind the end of a shorter series, are masked after every layer and in the pooling, so that what a network gives for a series
does not depend on how far it is padded.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfcnn.errors import InputError, closest

if TYPE_CHECKING:
    import keras

LOWEST = -3.0e38  # what no number is below; NaN fails every comparison, and `x == x` may be simplified by a converter
RANKS = {1: "(steps, channels)", 2: "(height, width, channels)", 3: "(depth, height, width, channels)"}
MOMENTUM = 0.9  # of the averages of BatchNorm
KERNELS = (8, 5, 3)  # of FCN and ResNet: Wang et al. 2017, section II
FCN_FILTERS, RESNET_FILTERS = (128, 256, 128), (64, 128, 128)
# Ismail Fawaz et al. 2020, "InceptionTime", section 3: 6 modules of 32 filters a kernel, a bottleneck of 32, kernels 40, 20 and 10, a shortcut every third.
MODULES, FILTERS, BOTTLENECK, LONG_KERNELS, EACH = 6, 32, 32, (40, 20, 10), 3


def build_network(name: str, input_shape: Sequence[int | None], *, mean: Sequence[float] | None = None,
                  variance: Sequence[float] | None = None) -> "keras.Model":
    """A network from raw numbers to features, to be the backbone of `build_classifier`.

    Args:
        name: "fcn", "resnet" or "inception_time".
        input_shape: (steps, channels), (height, width, channels) or (depth, height, width, channels); a length that varies is None.
        mean, variance: of each channel over the training data, by which the network standardises what it gets; 0 and 1 if None.

    Returns:
        A `keras.Model` with random weights: float32 (batch, *input_shape) in, features (batch, n) out. Its stages are its blocks.

    Raises:
        InputError: an unknown name, another rank, or means and variances that do not fit.

    Source: Wang et al. 2017, "Time series classification from scratch with deep neural networks", section II, for FCN and ResNet; Ismail Fawaz et
        al. 2020, "InceptionTime", section 3, for the network of which that paper takes five together.
    """
    if name not in NETWORKS:
        raise InputError(f"expected a network for series, got '{name}'; {closest(name, NETWORKS)}")
    shape, statistics = _checked(input_shape, mean, variance)
    import keras

    signal = keras.Input(shape, name="signal")
    x, mask = _standardised(signal, statistics)                       # (batch, ..., channels), (batch, ..., 1)
    x = NETWORKS[name](x, mask)                                       # (batch, ..., filters)
    return keras.Model(signal, _mean_of(x, mask), name=name)          # (batch, filters)


def conv_block(name: str, x, filters: int, kernel: int, *, stride: int = 1, pool: int = 1, pooling: str = "max", repeats: int = 1):
    """Convolution, BatchNorm and ReLU of any rank, then pooling, as one layer, which is a stage of a network.

    Args:
        x: (batch, ..., channels) without anything missing.
        stride: of the first convolution. For volumes it takes the place of pooling, which TFLite has not got in three dimensions, and on a CPU
            a step is several times faster for it.
        pool: steps or pixels that become one on each axis.
        pooling: "max" or "mean".
        repeats: how often there is a convolution.
    """
    import keras
    from keras import layers

    inside = y = keras.Input(x.shape[1:], name="x")
    for number in range(repeats):
        y = _of_rank("Conv", y)(filters, kernel, strides=1 if number else stride, padding="same", use_bias=False, kernel_initializer="he_normal")(y)
        y = layers.ReLU()(layers.BatchNormalization(momentum=MOMENTUM)(y))
    if pool > 1:
        sides = tuple(min(pool, side) for side in y.shape[1:-1])
        y = _of_rank("MaxPooling" if pooling == "max" else "AveragePooling", y)(sides if len(sides) > 1 else sides[0], padding="same")(y)
    return keras.Model(inside, y, name=name)(x)


def _fcn(x, mask):
    for number, (filters, kernel) in enumerate(zip(FCN_FILTERS, KERNELS, strict=True), start=1):
        x = _block(f"block{number}", x, mask, lambda x, mask, filters=filters, kernel=kernel: _conv_norm(x, mask, filters, kernel))
    return x


def _resnet(x, mask):
    for number, filters in enumerate(RESNET_FILTERS, start=1):
        x = _block(f"block{number}", x, mask, lambda x, mask, filters=filters: _residual(x, mask, filters))
    return x


def _inception_time(x, mask):
    before = x
    for number in range(1, MODULES + 1):
        x = _block(f"block{number}", x, mask, _inception)
        if number % EACH == 0:
            x = _shortcut(f"shortcut{number // EACH}", before, x, mask)
            before = x
    return x


NETWORKS: dict[str, Callable] = {"fcn": _fcn, "resnet": _resnet, "inception_time": _inception_time}


def _block(name: str, x, mask, body: Callable):
    """A part of a network as one layer, which is a stage of it."""
    import keras

    inside, inside_mask = keras.Input(x.shape[1:], name="x"), keras.Input(mask.shape[1:], name="mask")
    return keras.Model([inside, inside_mask], body(inside, inside_mask), name=name)([x, mask])


def _conv_norm(x, mask, filters: int, kernel: int, *, activate: bool = True):
    """Convolution, BatchNorm over the steps that are there, ReLU."""
    from keras import layers

    x = _of_rank("Conv", x)(filters, kernel, padding="same", use_bias=False, kernel_initializer="he_uniform")(x)
    x = _norm(x, mask)
    return layers.Multiply()([layers.ReLU()(x) if activate else x, mask])


def _norm(x, mask):
    import keras

    # Archives have tens of series, an epoch a few steps: at Keras's own momentum the averages would still be those of random weights.
    return keras.layers.BatchNormalization(momentum=MOMENTUM)(x, mask=keras.ops.greater(mask[..., 0], 0.5))


def _residual(x, mask, filters: int):
    """Three convolutions and a shortcut around them."""
    from keras import layers

    y = x
    for number, kernel in enumerate(KERNELS):
        y = _conv_norm(y, mask, filters, kernel, activate=number < len(KERNELS) - 1)
    way = _conv_norm(x, mask, filters, 1, activate=False) if x.shape[-1] != filters else layers.Multiply()([_norm(x, mask), mask])
    return layers.ReLU()(layers.Add()([y, way]))


def _inception(x, mask):
    """Convolutions of three lengths and a pooling beside each other."""
    import keras
    from keras import layers

    conv = lambda filters, kernel: _of_rank("Conv", x)(filters, kernel, padding="same", use_bias=False, kernel_initializer="glorot_uniform")
    narrow = conv(BOTTLENECK, 1)(x) if x.shape[-1] > 1 else x
    lowest = keras.ops.where(keras.ops.greater(mask, 0.5), x, LOWEST)  # a step that is not there is never the largest
    pooled = layers.Multiply()([keras.ops.maximum(_of_rank("MaxPooling", x)(3, strides=1, padding="same")(lowest), LOWEST / 2), mask])
    parts = [*(conv(FILTERS, kernel)(narrow) for kernel in LONG_KERNELS), conv(FILTERS, 1)(pooled)]
    x = _norm(layers.Concatenate()(parts), mask)
    return layers.Multiply()([layers.ReLU()(x), mask])


def _shortcut(name: str, before, x, mask):
    """What three modules made, and what they made it of."""
    import keras
    from keras import layers

    old, new, inside_mask = keras.Input(before.shape[1:], name="before"), keras.Input(x.shape[1:], name="x"), keras.Input(mask.shape[1:], name="mask")
    way = _norm(_of_rank("Conv", old)(x.shape[-1], 1, padding="same", use_bias=False)(old), inside_mask)
    y = layers.Multiply()([layers.ReLU()(layers.Add()([way, new])), inside_mask])
    return keras.Model([old, new, inside_mask], y, name=name)([before, x, mask])


def _of_rank(kind: str, x):
    """The class of layers of this kind for the rank of x."""
    from keras import layers

    return getattr(layers, f"{kind}{len(x.shape) - 2}D")


def _standardised(signal, statistics: tuple[np.ndarray, np.ndarray]):
    """Numbers of mean 0 and variance 1 without NaN, and 1 where there is a number in a step, 0 where not."""
    import keras

    there = keras.ops.greater_equal(signal, LOWEST)
    mask = keras.ops.max(keras.ops.cast(there, "float32"), axis=-1, keepdims=True)
    mean, variance = statistics
    x = keras.layers.Normalization(mean=mean, variance=variance, name="standardise")(signal)
    return keras.ops.where(there, x, 0.0), mask


def _mean_of(x, mask):
    """The mean over the steps that are there; 0 where there are none."""
    import keras

    axes = tuple(range(1, len(x.shape) - 1))
    return keras.ops.sum(x, axis=axes) / keras.ops.maximum(keras.ops.sum(mask, axis=axes), 1.0)


def _checked(input_shape, mean, variance) -> tuple[tuple, tuple[np.ndarray, np.ndarray]]:
    shape = tuple(input_shape)
    whole = lambda size: isinstance(size, (int, np.integer)) and size > 0
    if len(shape) - 1 not in RANKS or not all(size is None or whole(size) for size in shape[:-1]) or not whole(shape[-1]):
        raise InputError(f"expected input_shape as {', '.join(RANKS.values())}, got input_shape={shape}")
    statistics = []
    for name, values, default in (("mean", mean, 0.0), ("variance", variance, 1.0)):
        values = np.full(shape[-1], default) if values is None else np.asarray(values, np.float64)
        if values.shape != (shape[-1],) or not np.isfinite(values).all() or (name == "variance" and (values <= 0).any()):
            raise InputError(f"expected a finite {name}{' above 0' if name == 'variance' else ''} for each of the {shape[-1]} channels, got {name}={values}")
        statistics.append(values.astype(np.float32))
    return shape, (statistics[0], statistics[1])
