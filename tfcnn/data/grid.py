"""`draw_grid`: a picture of what an augmentation does to some photos."""

from typing import TYPE_CHECKING

from tfcnn.data.augment import augment_photos, check_strength
from tfcnn.data.channels import CHANNELS
from tfcnn.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image


def draw_grid(photos: "np.ndarray", *, strength: str, mirror: bool = True, seed: int = 0, columns: int = 6) -> "Image.Image":
    """A picture that shows what an augmentation does: each photo in a row, first as it is, then augmented again and again.

    Args:
        photos: uint8 (photos, height, width, 1, 3 or 4), 0-255; of four channels the first three are shown.
        strength: a row of `STRENGTHS`. Photos are not mixed with each other.
        mirror: whether half of the augmented photos are mirrored left to right.
        seed: the same seed draws the same picture.
        columns: photos in a row with the original, 1 or more.

    Returns:
        `PIL.Image.Image` in RGB; each photo is scaled to at most 128 pixels a side, with white gaps of 4 pixels between.

    Raises:
        InputError: for photos of another shape or type, an unknown strength, or no columns.
    """
    import numpy as np
    import tensorflow as tf
    from PIL import Image

    check_strength(strength)
    photos = np.asarray(photos)
    if photos.dtype != np.uint8 or photos.ndim != 4 or photos.shape[-1] not in CHANNELS or not photos.size:
        raise InputError(f"expected photos as uint8 (photos, height, width, 1, 3 or 4), got {photos.dtype} {photos.shape}; give load_images(...).inputs[rows]")
    if columns < 1:
        raise InputError(f"expected at least the column of originals, got columns={columns}; give 2 or more to see augmented ones")
    height, width = photos.shape[1:3]
    factor = min(1, 128 / max(height, width))
    high, wide, gap = max(1, round(height * factor)), max(1, round(width * factor)), 4
    grid = Image.new("RGB", (columns * (wide + gap) - gap, len(photos) * (high + gap) - gap), "white")
    for row, photo in enumerate(photos):
        same = tf.constant(np.repeat(photo[None], columns - 1, axis=0), tf.float32)  # a row at a time keeps memory small
        augmented = np.asarray(augment_photos(same, strength=strength, mirror=mirror, seed=(seed, row)))
        for column, cell in enumerate([photo, *np.rint(augmented).astype(np.uint8)]):
            shown = np.repeat(cell, 3, axis=-1) if cell.shape[-1] == 1 else cell[..., :3]
            small = Image.fromarray(shown).resize((wide, high), Image.Resampling.LANCZOS)
            grid.paste(small, (column * (wide + gap), row * (high + gap)))
    return grid
