"""Random changes to training photos that leave their label true, and mixtures of photos with mixed labels."""

from typing import NamedTuple

from tfcnn.data.operations import OPERATIONS, each, operate, recolour
from tfcnn.errors import InputError, closest


class Strength(NamedTuple):
    """Ranges of one augmentation. Every photo draws its own amounts; 0 leaves a change out.

    Attributes:
        shift: farthest move to each side, a share of the side, 0-1.
        zoom: largest growth; the scale lies between 1 / (1 + zoom) and 1 + zoom, as likely in as out.
        rotation: largest turn to each side, degrees, 0-180.
        brightness: factor of the mean between 1 - brightness and 1 + brightness, 0-1.
        contrast: factor of the distance from the mean between 1 - contrast and 1 + contrast, 0-1.
        saturation: factor of the distance from grey between 1 - saturation and 1 + saturation, 0-1.
        hue: largest turn of the colour circle to each side, degrees, 0-180.
        operations: how many rows of `OPERATIONS` are drawn for a photo (N of RandAugment), 0 or more.
        magnitude: the amount of each is drawn between 0 and this (M of RandAugment), 0-10.
        erasing: probability that a box of the photo is erased, 0-1.
        erased_least: smallest share of the photo in that box, 0-1.
        erased_most: largest share of the photo in that box, 0-0.3, so that a box of 1:3 fits into the photo.
        mixing: probability that `mix_photos` mixes a photo with another one, 0-1.
        mixup: parameter of Beta(mixup, mixup), from which MixUp draws shares, 0 or more; 0 for never MixUp.
        cutmix: parameter of Beta(cutmix, cutmix), from which CutMix draws shares, 0 or more; 0 for never CutMix.
    """

    shift: float
    zoom: float
    rotation: float
    brightness: float
    contrast: float
    saturation: float = 0
    hue: float = 0
    operations: int = 0
    magnitude: float = 0
    erasing: float = 0
    erased_least: float = 0
    erased_most: float = 0
    mixing: float = 0
    mixup: float = 0
    cutmix: float = 0


STRENGTHS = {
    "none": None,
    "light": Strength(shift=0.05, zoom=0.1, rotation=0, brightness=0.1, contrast=0.1),
    "medium": Strength(shift=0.1, zoom=0.2, rotation=10, brightness=0.2, contrast=0.2),
    "strong": Strength(shift=0.1, zoom=0.3, rotation=15, brightness=0.25, contrast=0.3, saturation=0.4, hue=10, operations=2, magnitude=9,
                       erasing=0.25, erased_least=0.02, erased_most=0.2, mixing=0.5, mixup=0.2, cutmix=1.0),
}
"""Rows of ranges, from no change to what a small data set bears.

Source of "strong": operations and magnitude are those of ResNet-50 on ImageNet in Cubuk et al., "RandAugment" (2020), section
4, but the magnitude is drawn between 0 and M, one of the schedules of section 3, which is milder than M throughout. Zhong et
al., "Random Erasing Data Augmentation" (2020), erase half of the photos and up to 40 %; the probability of 0.25 is that of
Touvron et al., "Training data-efficient image transformers" (2021), section 6, and boxes end at 20 % because a small object
would vanish. mixup: the middle of 0.1-0.4, above which Zhang et al., "mixup" (2018), section 3.1, see underfitting on ImageNet.
cutmix: Yun et al., "CutMix" (2019), section 3.1. Kolesnikov et al., "Big Transfer" (2020), section 3.3, fine-tune without
MixUp below 20 000 photos, so half of the photos stay unmixed and the weaker rows mix none. The other ranges were set by eye,
on `draw_grid` of photos of waste and of flowers: the label stays readable in every cell.
"""


def augment_photos(pixels, *, strength: str, mirror: bool = True, seed, places=None, total=None):
    """Moves, zooms, turns and recolours each photo by its own random amounts; "strong" adds RandAugment and erasing.

    All draws are functions of the seed, the size of the batch and the photo's place in it, never of the photo's size. Grey
    photos change like RGB photos of three equal channels. A fourth channel moves and is erased with the photo but keeps its
    values otherwise, since they may be no brightness: a distance, a mask.

    Args:
        pixels: float32 (batch, height, width, 1, 3 or 4), 0-255; the batch may be unknown, the other sides may not.
        strength: a row of `STRENGTHS`; "none" gives the pixels back.
        mirror: whether half of the photos are mirrored left to right.
        seed: two integers; the same seed gives the same changes.
        places: int32 (batch,), where in a larger batch these photos are; they change as they would there.
        total: the size of that batch.

    Returns:
        float32 of the same shape, 0-255.

    Raises:
        InputError: for an unknown strength.
    """
    import tensorflow as tf

    ranges = check_strength(strength)
    if ranges is None:
        return pixels
    count = tf.shape(pixels)[0] if total is None else total
    draws = tf.unstack(_at(places, tf.random.stateless_uniform((7, count), seed=seed, minval=-1.0, maxval=1.0), axis=1))
    # The rest is drawn apart, so that ranges which leave it out change no photo of those that do not know it.
    more = tf.unstack(_at(places, tf.random.stateless_uniform((count, 7 + 2 * ranges.operations), seed=_own_seed(seed, 1))), axis=1)
    chosen = [tf.cast(draw * len(OPERATIONS), tf.int32) for draw in more[7::2]]
    levels = [(2 * draw - 1) * (ranges.magnitude / 10) for draw in more[8::2]]

    side = tf.where(draws[0] < 0, -1.0, 1.0) if mirror else tf.ones_like(draws[0])
    angle = draws[1] * ranges.rotation * (3.14159265 / 180)
    scale = tf.exp(draws[2] * tf.math.log1p(float(ranges.zoom)))  # as likely in as out
    shears = [_shears(name, chosen, levels) for name in ("shear_x", "shear_y")]
    pixels = _moved(pixels, side, angle, scale, (draws[3] * ranges.shift, draws[4] * ranges.shift), shears)
    colours, fourth = pixels[..., :3], pixels[..., 3:]
    per_photo = lambda draw, width_of_range: each(1 + draw * width_of_range)
    mean = tf.reduce_mean(colours, axis=(1, 2, 3), keepdims=True)
    colours = colours - mean
    if ranges.saturation or ranges.hue:
        colours = recolour(colours, 1 + (2 * more[0] - 1) * ranges.saturation, (2 * more[1] - 1) * ranges.hue)
    colours = colours * per_photo(draws[5], ranges.contrast) + mean * per_photo(draws[6], ranges.brightness)
    colours = tf.clip_by_value(colours, 0.0, 255.0)
    for operation, level in zip(chosen, levels, strict=True):
        colours = operate(colours, operation, level)
    pixels = tf.concat([colours, fourth], axis=-1) if pixels.shape[-1] > 3 else colours
    if ranges.erasing:
        pixels = _erased(pixels, ranges, more[2:7])
    return pixels


def mix_photos(pixels, targets, weights, *, strength: str, mixing: float | None = None, seed, places=None, total=None):
    """Mixes photos with the one before them in the batch, the first with the last, and their targets and weights alike.

    Each photo draws for itself whether it is mixed, and then MixUp (all pixels are averaged) or CutMix (a box comes from the
    other photo) with equal chance where the strength has both. Of the two shares a photo keeps the larger, so that its own
    label stays the largest target and accuracy keeps its meaning; each photo is in two pairs, so none is favoured. The
    draws are others than those of `augment_photos` for the same seed.

    Args:
        pixels: float32 (batch, height, width, channels), 0-255.
        targets: float32 (batch, classes), rows that sum to 1.
        weights: float32 (batch,), weights of the photos in the loss.
        strength: a row of `STRENGTHS`; one without `mixing` gives everything back unchanged.
        mixing: in place of that of the strength, which then mixes like "strong" where it knows no way of its own.
        seed: two integers; the same seed gives the same mixtures.
        places: int32 (batch,), where in a larger batch these photos are; they are mixed as they would be there, but for the first,
            for which the one before it is missing.
        total: the size of that batch.

    Returns:
        (pixels, targets, weights) of the same shapes and ranges. A target is own share x own target + (1 - own share) x the
        other's, a weight likewise; the own share is 1 for a photo that is not mixed, and in CutMix the exact share of pixels
        outside the box.

    Raises:
        InputError: for an unknown strength.

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization" (2018), section 2; Yun et al., "CutMix: Regularization
        Strategy to Train Strong Classifiers with Localizable Features" (2019), section 3.1.
    """
    import tensorflow as tf

    ranges = check_strength(strength)
    if mixing is not None:
        ways = ranges if ranges and (ranges.mixup or ranges.cutmix) else STRENGTHS["strong"]
        ranges = ways._replace(mixing=mixing) if ways else None
    if ranges is None or not ranges.mixing or not (ranges.mixup or ranges.cutmix):
        return pixels, targets, weights
    count, height, width = tf.shape(pixels)[0] if total is None else total, pixels.shape[1], pixels.shape[2]
    draws = tf.unstack(_at(places, tf.random.stateless_uniform((count, 4), seed=_own_seed(seed, 2))), axis=1)
    mixed = draws[0] < ranges.mixing
    cut = draws[1] < (0.5 if ranges.mixup and ranges.cutmix else float(ranges.cutmix > 0))
    shares = [_at(places, _shares(alpha, count, _own_seed(seed, use))) for use, alpha in ((3, ranges.cutmix), (4, ranges.mixup))]
    share = tf.where(cut, *shares)
    edge = tf.sqrt(1 - share)  # of the box, as a share of the photo's side; its centre may lie anywhere
    box, boxed = _boxes(draws[2] - edge / 2, draws[3] - edge / 2, edge, edge, height, width)
    share = tf.where(mixed, tf.where(cut, 1 - boxed, share), 1.0)
    kept = tf.where(each(mixed & cut), 1 - tf.cast(box, tf.float32), each(share))
    mixture = lambda values, own: values * own + tf.roll(values, 1, axis=0) * (1 - own)
    return tf.minimum(mixture(pixels, kept), 255.0), mixture(targets, share[:, None]), mixture(weights, share)


def check_strength(strength: str) -> Strength | None:
    """The row of `STRENGTHS` that has this name; raises InputError if there is none."""
    if strength not in STRENGTHS:
        raise InputError(f"expected a strength of augmentation, got strength='{strength}'; {closest(strength, STRENGTHS)}")
    return STRENGTHS[strength]


def _at(places, draws, axis: int = 0):
    """The draws of the photos at these places of a batch; all where none are named."""
    import tensorflow as tf

    return draws if places is None else tf.gather(draws, places, axis=axis)


def _own_seed(seed, use: int):
    """A seed for one more use of the same two integers, whose draws have nothing to do with theirs."""
    import tensorflow as tf

    return tf.random.fold_in(tf.cast(seed, tf.int64), use)


def _moved(pixels, side, angle, scale, shifts, shears):
    """Photos mirrored, turned, zoomed, shifted and sheared about their centre; beyond the edge they are reflected.

    Args:
        pixels: float32 (batch, height, width, channels).
        side: (batch,), -1 mirrors, 1 does not.
        angle: (batch,), radians.
        scale: (batch,), the size of the world in the photo: above 1 shows more of it, smaller.
        shifts: two of (batch,), shares of width and height.
        shears: two of (batch,) or 0: pixels to the side per pixel down, and pixels down per pixel to the side.
    """
    import tensorflow as tf

    height, width = pixels.shape[1], pixels.shape[2]
    cos, sin = scale * tf.cos(angle), scale * tf.sin(angle)
    # An output pixel (x, y), counted from the centre, is read at this place of the input.
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    a, b, d, e = cos * side, -sin, sin * side, cos
    a, b, d, e = a + b * shears[1], b + a * shears[0], d + e * shears[1], e + d * shears[0]
    shift_x = shifts[0] * width + centre_x - a * centre_x - b * centre_y
    shift_y = shifts[1] * height + centre_y - d * centre_x - e * centre_y
    zero = tf.zeros_like(a)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=pixels, transforms=tf.stack([a, b, shift_x, d, e, shift_y, zero, zero], axis=1),
        output_shape=[height, width], interpolation="BILINEAR", fill_mode="REFLECT", fill_value=0.0)


def _shears(name: str, chosen, levels):
    """Shear (batch,) of the photos that drew the operation `name`: up to 0.3, as in `OPERATIONS`; 0 without operations."""
    import tensorflow as tf

    number = list(OPERATIONS).index(name)
    return sum((tf.where(drawn == number, 0.3 * level, 0.0) for drawn, level in zip(chosen, levels, strict=True)), 0.0)


def _boxes(top, left, high, wide, height: int, width: int):
    """Boxes of pixels whose centre lies inside: mask (batch, height, width, 1), and their exact share of the photo (batch,).

    Corner and sides are (batch,), shares of the photo's sides; what lies beyond the photo is cut off.
    """
    import tensorflow as tf

    inside = lambda start, size, pixels: (lambda at: (at >= start[:, None]) & (at < (start + size)[:, None]))((tf.range(float(pixels)) + 0.5) / pixels)
    rows, columns = inside(top, high, height), inside(left, wide, width)
    share = lambda chosen: tf.reduce_sum(tf.cast(chosen, tf.float32), axis=1)
    return rows[:, :, None, None] & columns[:, None, :, None], share(rows) * share(columns) / (height * width)


def _erased(pixels, ranges: Strength, draws):
    """Photos of which some have a box filled with their mean colour; draws are five of (batch,), 0-1.

    Source: Zhong et al., "Random Erasing Data Augmentation" (2020), for area and shape of the box, 1:3 to 3:1.
    """
    import tensorflow as tf

    area = ranges.erased_least + draws[1] * (ranges.erased_most - ranges.erased_least)
    ratio = 3 ** (2 * draws[2] - 1)
    high, wide = tf.sqrt(area * ratio), tf.sqrt(area / ratio)
    box, _ = _boxes(draws[3] * (1 - high), draws[4] * (1 - wide), high, wide, pixels.shape[1], pixels.shape[2])
    box = box & each(draws[0] < ranges.erasing)
    return tf.where(box, tf.reduce_mean(pixels, axis=(1, 2), keepdims=True), pixels)


def _shares(alpha: float, count, seed):
    """The larger of two shares (batch,) from Beta(alpha, alpha), 0.5-1; 1 for alpha 0.

    Source: a Beta variable is the share of one of two Gamma variables in their sum.
    """
    import tensorflow as tf

    if not alpha:
        return tf.ones((count,))
    first, second = tf.unstack(tf.random.stateless_gamma((count, 2), seed=seed, alpha=float(alpha)), axis=1)
    share = tf.math.divide_no_nan(first, first + second)  # both can underflow to 0 for a small alpha
    return tf.maximum(share, 1 - share)
