"""`decoder`: encoded photos to pixels inside a SavedModel, as near to the training's decoding as TensorFlow's operators come."""

from tfcnn.errors import InputError
from tfcnn.export.contract import Contract


def decoder(contract: Contract):
    """A function of a vector of JPEG, PNG, GIF or BMP files (strings) that gives float32 pixels (n, height, width, channels), 0-255.

    Geometry as in training. TensorFlow's operators do not apply the EXIF orientation and resize a little differently from Pillow, so
    scores differ slightly, and a client has to send photos that are upright.

    Raises:
        InputError: for a model of four channels, which files of photos do not have.
    """
    import tensorflow as tf

    height, width, channels = contract.input_shape
    if channels not in (1, 3):
        raise InputError(f"expected a model of RGB or grey photos for a signature that takes encoded photos, got one of {channels} channels")
    place = {"stretch": _stretch, "letterbox": _letterbox, "center_crop": _center_crop}[contract.geometry]

    def decode_one(photo):
        image = tf.io.decode_image(photo, channels=channels, expand_animations=False)
        image.set_shape((None, None, channels))
        pixels = place(tf, tf.cast(image, tf.float32), height, width)
        pixels.set_shape((height, width, channels))
        return tf.round(tf.clip_by_value(pixels, 0.0, 255.0))  # training sees whole numbers

    return lambda photos: tf.map_fn(decode_one, photos, fn_output_signature=tf.float32)


def _stretch(tf, image, height: int, width: int):
    return tf.image.resize(image, (height, width), antialias=True)


def _letterbox(tf, image, height: int, width: int):
    return tf.image.resize_with_pad(image, height, width, antialias=True)


def _center_crop(tf, image, height: int, width: int):
    side = tf.minimum(tf.shape(image)[0], tf.shape(image)[1])
    return tf.image.resize(tf.image.resize_with_crop_or_pad(image, side, side), (height, width), antialias=True)
