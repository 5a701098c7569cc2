"""Small convolutional networks from scratch."""

from collections.abc import Sequence


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
