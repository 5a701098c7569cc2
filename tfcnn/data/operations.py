"""The operations that RandAugment draws from, each on many photos at once."""


def each(amounts):
    """Amounts (batch,) as (batch, 1, 1, 1), one for all pixels of a photo."""
    return amounts[:, None, None, None]


def recolour(pixels, saturation, hue):
    """Photos with their colours stretched away from grey and turned around it; grey stays and so does the mean of R, G and B.

    Args:
        pixels: float32 (batch, height, width, 3), or 1 channel, which is grey.
        saturation: (batch,), factor; 0 gives grey.
        hue: (batch,), degrees.

    Source: Rodrigues' rotation formula about the axis of greys, (1, 1, 1).
    """
    import tensorflow as tf

    if pixels.shape[-1] != 3:
        return pixels
    angle = hue * (3.14159265 / 180)
    third = tf.ones((3, 3)) / 3
    cross = tf.constant([[0.0, 1, -1], [-1, 0, 1], [1, -1, 0]]) / 3**0.5
    per_photo = lambda amounts: amounts[:, None, None]
    turned = per_photo(tf.cos(angle)) * (tf.eye(3) - third) + per_photo(tf.sin(angle)) * cross
    matrix = third + per_photo(saturation) * turned
    height, width = pixels.shape[1], pixels.shape[2]
    return tf.reshape(tf.matmul(tf.reshape(pixels, (-1, height * width, 3)), matrix), (-1, height, width, 3))


def operate(pixels, chosen, levels):
    """Photos after one operation each: row `chosen` (batch,) of `OPERATIONS`, at level (batch,), -1 to 1."""
    import tensorflow as tf

    # Photos are sorted by operation, so that each is computed only for those that drew it.
    split = lambda values: tf.dynamic_partition(values, chosen, len(OPERATIONS))
    places = split(tf.range(tf.shape(pixels)[0]))
    results = [operation(part, level) for operation, part, level in zip(OPERATIONS.values(), split(pixels), split(levels), strict=True)]
    return tf.ensure_shape(tf.dynamic_stitch(places, results), pixels.shape)


def _unchanged(pixels, level):
    return pixels


def _autocontrast(pixels, level):
    """Stretches each colour of a photo to 0-255; one that spans less than a grey level is left, so noise is not blown up."""
    import tensorflow as tf

    low, high = (reduce(pixels, axis=(1, 2), keepdims=True) for reduce in (tf.reduce_min, tf.reduce_max))
    flat = high - low < 1
    return tf.clip_by_value((pixels - tf.where(flat, 0.0, low)) * tf.where(flat, 1.0, 255 / tf.maximum(high - low, 1.0)), 0.0, 255.0)


def _equalize(pixels, level):
    """Spreads the values of each colour of a photo evenly over 0-255, in part: not at level 0, fully at 1 or -1.

    A colour of one value is left. In full it turns the plain background of many photos into coloured noise.

    Source: Gonzalez and Woods, "Digital Image Processing", section "Histogram Equalization", with the least value mapped to 0.
    """
    import tensorflow as tf

    colours = pixels.shape[-1]
    tables = tf.shape(pixels)[0] * colours
    table = tf.reshape(tf.range(tables), (-1, 1, 1, colours))
    values = tf.cast(pixels + 0.5, tf.int32) + 256 * table  # 256 values a colour
    counts = tf.reshape(tf.math.bincount(values, minlength=256 * tables, maxlength=256 * tables), (-1, 256))
    below = tf.cast(tf.cumsum(counts, axis=1), tf.float32)
    total = pixels.shape[1] * pixels.shape[2]
    least = tf.reduce_min(tf.where(counts > 0, below, float(total)), axis=1, keepdims=True)
    spread = 255 * (below - least) / tf.maximum(total - least, 1.0)
    spread = tf.where(least < total, spread, tf.range(256.0))
    return pixels + each(tf.abs(level)) * (tf.gather(tf.reshape(spread, (-1,)), values) - pixels)


def _posterize(pixels, level):
    """Keeps the top bits of each value: 8 at level 0, 4 at 1 or -1."""
    import tensorflow as tf

    step = each(2.0 ** tf.round(4 * tf.abs(level)))
    return tf.floor((pixels + 0.5) / step) * step


def _solarize(pixels, level):
    """Inverts the tones above a threshold, by mirroring them at it: 256 at level 0, 192 at 1 or -1.

    Taking 255 - value instead, as is usual, makes a white background black from the lowest level on.
    """
    import tensorflow as tf

    threshold = each(256 - 64 * tf.abs(level))
    return tf.minimum(pixels, 2 * threshold - pixels)


def _saturate(pixels, level):
    """Changes the distance of colours from grey by a factor: 0.1 at level -1, 1.9 at 1."""
    import tensorflow as tf

    return tf.clip_by_value(recolour(pixels, 1 + 0.9 * level, tf.zeros_like(level)), 0.0, 255.0)


def _sharpen(pixels, level):
    """Changes the distance from a smoothed photo by a factor: 0.1 at level -1, which blurs, 1.9 at 1.

    Source: the smoothing filter of Pillow, which the paper used: 5 for a pixel, 1 for each of its 8 neighbours; the outermost
        pixels stay as they are.
    """
    import tensorflow as tf

    height, width, colours = pixels.shape[1:]
    kernel = tf.repeat(tf.constant([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]])[:, :, None, None] / 13, colours, axis=2)
    # "SAME", as TensorFlow 2.21 gives an empty batch (no photo drew this) the wrong shape with "VALID".
    smooth = tf.nn.depthwise_conv2d(pixels, kernel, strides=[1, 1, 1, 1], padding="SAME")
    inside = tf.pad(tf.ones((1, max(0, height - 2), max(0, width - 2), 1)), [[0, 0], [1, 1], [1, 1], [0, 0]])[:, :height, :width]
    return tf.clip_by_value(pixels + inside * each(0.9 * level) * (pixels - smooth), 0.0, 255.0)


OPERATIONS = {
    "identity": _unchanged,
    "shear_x": _unchanged,  # shears are part of `_moved`, so that photos are resampled once
    "shear_y": _unchanged,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "posterize": _posterize,
    "solarize": _solarize,
    "saturation": _saturate,
    "sharpness": _sharpen,
}
"""What RandAugment draws from: operation(pixels (batch, height, width, 1 or 3) 0-255, level (batch,) -1 to 1) gives such pixels.

Left out of the paper's list is what `Strength` has ranges for: rotation, translation, brightness and contrast.
Source: Cubuk et al., "RandAugment" (2020), section 3, for the list; Cubuk et al., "AutoAugment" (2019), appendix, for the
ranges at the highest magnitude, level 1; `_equalize` and `_solarize` are milder and say why.
"""
