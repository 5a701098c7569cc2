"""Small convolutional networks from scratch."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfcnn.errors import InputError

if TYPE_CHECKING:
    import keras


def build_cnn(input_shape: tuple[int, int, int] = (28, 28, 1), num_classes: int = 10, *, filters: Sequence[int] = (32, 64), hidden: int = 512,
              dropout: float = 0.5) -> "keras.Model":
    """The textbook network for small pictures: blocks of convolution, BatchNorm, ReLU and max-pooling, then two Dense layers.

    Args:
        input_shape: (height, width, channels); each block halves height and width, which must leave a pixel.
        num_classes: number of outputs, from 2 up.
        filters: channels of each block.
        hidden: units of the Dense layer before the output.
        dropout: share of them dropped in training, from 0 to below 1.

    Returns:
        A `keras.Model` with random weights: pixels 0-255 (batch, height, width, channels) in, softmax scores (batch, num_classes) out.
        With the defaults it has 1,630,282 trainable parameters.

    Raises:
        InputError: another rank, a picture that is too small for the blocks, or a number that is out of range.
    """
    _check_cnn(input_shape, num_classes, filters, hidden, dropout)
    import keras

    x = image = keras.Input(input_shape, name="image")
    x = keras.layers.Rescaling(1 / 255, name="rescale")(x)
    for number, channels in enumerate(filters, start=1):
        x = keras.layers.Conv2D(channels, 3, padding="same", name=f"conv{number}")(x)
        x = keras.layers.BatchNormalization(name=f"norm{number}")(x)
        x = keras.layers.ReLU(name=f"relu{number}")(x)
        x = keras.layers.MaxPooling2D(name=f"pool{number}")(x)       # (batch, height / 2^number, width / 2^number, channels)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(hidden, activation="relu", name="hidden")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    x = keras.layers.Dense(num_classes, activation="softmax", name="predictions")(x)
    return keras.Model(image, x, name="cnn")


def build_features(input_shape: tuple[int, int, int] = (32, 32, 3), *, filters: Sequence[int] = (16, 32, 64)):
    """A small backbone: blocks of a 3x3 convolution, ReLU and 2x2 max-pooling on pixels 0-255.

    Args:
        input_shape: (height, width, channels).
        filters: channels of each block; each block halves height and width.

    Returns:
        A `keras.Model` with random weights, pixels (batch, height, width, channels) to feature maps
        (batch, height / 2^n, width / 2^n, filters[-1]); give it to `build_classifier` as backbone.
    """
    import keras

    x = image = keras.Input(input_shape, name="image")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(x)
    for number, channels in enumerate(filters, start=1):
        x = keras.layers.Conv2D(channels, 3, padding="same", activation="relu", kernel_initializer="he_normal", name=f"conv{number}")(x)
        x = keras.layers.MaxPooling2D(name=f"pool{number}")(x)
    return keras.Model(image, x, name="small_cnn")


def _check_cnn(input_shape, num_classes, filters, hidden, dropout) -> None:
    whole = lambda value, least: isinstance(value, int) and not isinstance(value, bool) and value >= least
    if len(input_shape) != 3 or not all(whole(side, 1) for side in input_shape):
        raise InputError(f"expected input_shape=(height, width, channels), got input_shape={input_shape}")
    if not filters or not all(whole(channels, 1) for channels in filters):
        raise InputError(f"expected the channels of each block as whole numbers above 0, got filters={filters}")
    if min(input_shape[:2]) < 2 ** len(filters):
        raise InputError(f"expected pictures of at least {2 ** len(filters)} pixels a side for {len(filters)} blocks, "
                         f"got input_shape={input_shape}; give fewer filters")
    if not whole(num_classes, 2) or not whole(hidden, 1):
        raise InputError(f"expected at least 2 classes and 1 hidden unit, got num_classes={num_classes}, hidden={hidden}")
    if not 0 <= dropout < 1:
        raise InputError(f"expected a dropout from 0 to below 1, got dropout={dropout}")
