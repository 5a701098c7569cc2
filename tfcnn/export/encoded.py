"""`decoder`: encoded photos to pixels inside a SavedModel, as near to the training's decoding as TensorFlow's operators come."""

from tfcnn.errors import InputError
from tfcnn.export.contract import Contract

PNG = b"\x89PNG\r\n\x1a\n"  # how such a file begins
GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, section 2.5.1


def decoder(contract: Contract):
    """A function of a vector of JPEG, PNG, GIF or BMP files (strings) that gives float32 pixels (n, height, width, channels), 0-255.

    Geometry as in training, transparent PNG files on white. TensorFlow's operators do not apply the EXIF orientation and resize a
    little differently from Pillow, so scores differ slightly, and a client has to send photos that are upright.

    Raises:
        InputError: for a model of four channels, which files of photos do not have.
    """
    import tensorflow as tf

    check_encoded(contract)
    height, width, channels = (size or 0 for size in contract.input_shape)  # of photos all are known
    place = {"stretch": _stretch, "letterbox": _letterbox, "center_crop": _center_crop}[contract.geometry]

    def decode_one(photo):
        is_png = tf.strings.substr(photo, 0, len(PNG)) == PNG
        image = tf.cond(is_png, lambda: _on_white(tf, tf.io.decode_png(photo, channels=4)),
                        lambda: tf.cast(tf.io.decode_image(photo, channels=3, expand_animations=False), tf.float32))
        image.set_shape((None, None, 3))
        pixels = tf.round(tf.clip_by_value(place(tf, image, height, width), 0.0, 255.0))  # training sees whole numbers
        pixels.set_shape((height, width, 3))
        return pixels if channels == 3 else tf.round(tf.tensordot(pixels, tf.constant(GREY), 1))[..., None]

    return lambda photos: tf.map_fn(decode_one, photos, fn_output_signature=tf.float32)


def check_encoded(contract: Contract) -> None:
    """Raises InputError for a model whose photos do not come as files."""
    if contract.input_shape[-1] not in (1, 3):
        raise InputError("expected a model of RGB or grey photos for a signature that takes encoded photos, "
                         f"got one of {contract.input_shape[-1]} channels; leave encoded out")


def _on_white(tf, image):
    colours, opacity = tf.cast(image[..., :3], tf.float32), tf.cast(image[..., 3:], tf.float32) / 255.0
    return tf.round(colours * opacity + 255.0 * (1.0 - opacity))


def _stretch(tf, image, height: int, width: int):
    return tf.image.resize(image, (height, width), antialias=True)


def _letterbox(tf, image, height: int, width: int):
    size = tf.cast(tf.shape(image)[:2], tf.float64)
    target = tf.maximum(1, tf.cast(tf.round(size * (height / tf.reduce_max(size))), tf.int32))  # of a square; `resize_with_pad` cuts off the fraction
    inner = tf.image.resize(image, target, antialias=True)
    return tf.image.pad_to_bounding_box(inner, (height - target[0]) // 2, (width - target[1]) // 2, height, width)


def _center_crop(tf, image, height: int, width: int):
    side = tf.minimum(tf.shape(image)[0], tf.shape(image)[1])
    return tf.image.resize(tf.image.resize_with_crop_or_pad(image, side, side), (height, width), antialias=True)
