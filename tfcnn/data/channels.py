"""How many channels photos have: RGB as they are read, grey made of it, or four that came with the source."""

import numpy as np

from tfcnn.data.sources import Source
from tfcnn.data.store import StoredRows
from tfcnn.errors import InputError

CHANNELS = (1, 3, 4)
_COLOURS: dict[int | None, str] = {1: "grey (0.299 R + 0.587 G + 0.114 B)", 3: "RGB", 4: "four-channel"}


def colours_of(channels: int | None) -> str:
    """The channels of an image in words, as cards and files say them; other numbers are a caller's own."""
    return _COLOURS.get(channels, f"{channels}-channel")


def check_channels(channels: int) -> None:
    """Raises InputError for a number of channels that photos cannot be read with."""
    if channels not in CHANNELS:
        raise InputError(f"expected 1 channel (grey), 3 (RGB) or 4 (of arrays that have them), got channels={channels}")


def check_shape(source: Source, image_size: int | None, channels: int) -> None:
    """Raises InputError for images of four channels that are not of the size that is asked for: nothing here can resize them.

    Args:
        source: opened with the same `channels`.
        image_size: height and width in pixels; None takes them as they are.
        channels: 1, 3 or 4.
    """
    if channels != 4:
        return
    if source.shape is None or source.shape[-1] != 4:
        raise InputError(f"expected images of one size and four channels with channels=4, got {source.name or 'others'}; "
                         "give arrays of shape (n, height, width, 4), or a tf.data.Dataset whose element_spec has such a shape")
    if image_size is not None and source.shape[:2] != (image_size, image_size):
        raise InputError(f"expected images of four channels at the image size, {image_size}x{image_size}, got {source.shape[0]}x{source.shape[1]}; "
                         "resize them, or give another image_size")


def to_grey(pixels: np.ndarray) -> np.ndarray:
    """Brightness uint8 (..., height, width, 1) of RGB uint8 (..., height, width, 3); grey pixels keep their value.

    Source: ITU-R BT.601, section 2.5.1: 0.299 R + 0.587 G + 0.114 B, rounded as Pillow does for its mode L.
    """
    from PIL import Image

    grey = np.empty((*pixels.shape[:-1], 1), np.uint8)
    for photo in np.ndindex(pixels.shape[:-3]):
        grey[photo][..., 0] = Image.fromarray(pixels[photo]).convert("L")
    return grey


class GreyRows:
    """Photos on disk, made grey when they are read; indexed like an array and like `StoredRows`."""

    def __init__(self, rows: StoredRows):
        self._rows = rows
        self.shape, self.dtype = (*rows.shape[:-1], 1), rows.dtype

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, indices) -> np.ndarray:
        return to_grey(self._rows[indices])

    def choose(self, indices) -> "GreyRows":
        """Some of the rows, in this order, still on disk."""
        return GreyRows(self._rows.choose(indices))


def in_channels(photos: np.ndarray | StoredRows, channels: int) -> np.ndarray | StoredRows | GreyRows:
    """Photos as they were read, (n, height, width, 3 or 4), with the number of channels that was asked for."""
    if channels != 1:
        return photos
    return to_grey(photos) if isinstance(photos, np.ndarray) else GreyRows(photos)
