"""Random changes to training photos that leave their label true."""

from typing import NamedTuple


class Strength(NamedTuple):
    """Ranges of one augmentation; shifts are fractions of the side, rotation is in degrees, the rest are factors around 1."""

    shift: float
    zoom: float
    rotation: float
    brightness: float
    contrast: float


STRENGTHS = {
    "none": None,
    "light": Strength(shift=0.05, zoom=0.1, rotation=0, brightness=0.1, contrast=0.1),
    "medium": Strength(shift=0.1, zoom=0.2, rotation=10, brightness=0.2, contrast=0.2),
}


def augment_photos(pixels, *, strength: str, mirror: bool = True, seed):
    """Mirrors, moves, zooms, turns, brightens and changes the contrast of each photo by its own random amounts.

    Args:
        pixels: float32 (batch, height, width, 3), 0-255.
        strength: a row of `STRENGTHS`; "none" gives the pixels back.
        mirror: whether half of the photos are mirrored left to right.
        seed: two integers; the same seed gives the same changes.

    Returns:
        float32 of the same shape, 0-255.
    """
    import tensorflow as tf

    ranges = STRENGTHS[strength]
    if ranges is None:
        return pixels
    count = tf.shape(pixels)[0]
    height, width = pixels.shape[1], pixels.shape[2]
    draws = tf.random.stateless_uniform((7, count), seed=seed, minval=-1.0, maxval=1.0)
    side = tf.where(draws[0] < 0, -1.0, 1.0) if mirror else tf.ones_like(draws[0])
    angle = draws[1] * ranges.rotation * (3.14159265 / 180)
    scale = tf.exp(draws[2] * tf.math.log1p(ranges.zoom))  # as likely in as out
    cos, sin = scale * tf.cos(angle), scale * tf.sin(angle)
    # An output pixel (x, y), counted from the centre, is read at this place of the input.
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    a, b, d, e = cos * side, -sin, sin * side, cos
    shift_x = draws[3] * ranges.shift * width + centre_x - a * centre_x - b * centre_y
    shift_y = draws[4] * ranges.shift * height + centre_y - d * centre_x - e * centre_y
    zero = tf.zeros_like(a)
    pixels = tf.raw_ops.ImageProjectiveTransformV3(
        images=pixels, transforms=tf.stack([a, b, shift_x, d, e, shift_y, zero, zero], axis=1),
        output_shape=[height, width], interpolation="BILINEAR", fill_mode="REFLECT", fill_value=0.0)
    per_photo = lambda draw, width_of_range: (1 + draw * width_of_range)[:, None, None, None]
    mean = tf.reduce_mean(pixels, axis=(1, 2, 3), keepdims=True)
    pixels = (pixels - mean) * per_photo(draws[5], ranges.contrast) + mean * per_photo(draws[6], ranges.brightness)
    return tf.clip_by_value(pixels, 0.0, 255.0)
