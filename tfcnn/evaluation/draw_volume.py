"""A volume as a piece of HTML for the report: three planes through its middle, and through what its answer rests on."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfcnn.data.photo import jpeg_text

SIDE, SMALL = 104, 64  # pixels of the longest side of a plane
DARKEST = 0.65  # alpha of the colour where the heat is largest
CLIPPED = 0.5  # percent of the voxels at either end that have no grey of their own
QUALITY = 80  # of JPEGs
NAMES = ("axial", "coronal", "sagittal")  # the planes across depth, height and width


def draw_volume(values: np.ndarray, heat: np.ndarray | None, facts: Mapping[str, Any], text: str, *, large: bool) -> str:
    """The middle slice (depth, height, width, channels), and if large all three middle planes above those through the strongest voxel."""
    grey = _grey(values[..., 0], facts.get("intensity"))
    middle = tuple(side // 2 for side in grey.shape)
    if not large:
        return picture_html(_plane(grey, 0, middle), "middle slice", SMALL)
    rows = [_row(grey, None, middle)]
    if heat is not None and heat.max() > 0:
        rows.append(_row(grey, heat, tuple(int(place) for place in np.unravel_index(heat.argmax(), heat.shape))))
    return f'<div class="volume">{"".join(rows)}</div>'


def _row(grey: np.ndarray, heat: np.ndarray | None, place: tuple[int, ...]) -> str:
    planes = []
    for axis, name in enumerate(NAMES):
        picture = np.repeat(_plane(grey, axis, place)[..., None], 3, axis=2)
        picture = picture if heat is None else heated(picture, _plane(heat, axis, place))
        planes.append(picture_html(picture, f"{name} plane {place[axis] + 1} of {grey.shape[axis]}{'' if heat is None else ', coloured'}", SIDE))
    return f'<div class="planes">{"".join(planes)}</div>'


def _plane(values: np.ndarray, axis: int, place: tuple[int, ...]) -> np.ndarray:
    """One slice, head or front above."""
    return np.take(values, place[axis], axis=axis)[::-1]


def heated(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    from matplotlib import colormaps

    colour, alpha = colormaps["inferno"](heat)[..., :3] * 255, DARKEST * heat[..., None]
    return (1 - alpha) * picture + alpha * colour


def _grey(values: np.ndarray, intensity) -> np.ndarray:
    """0-255, from the window of intensities or else what all but the outermost voxels have."""
    values = values.astype(np.float32)
    low, high = intensity or np.percentile(values, (CLIPPED, 100 - CLIPPED))
    low, high = (low, high) if high > low else (values.min(), max(values.max(), values.min() + 1))
    return np.clip((values - low) / (high - low), 0, 1) * 255


def picture_html(pixels: np.ndarray, said: str, side: int) -> str:
    from PIL import Image

    picture = Image.fromarray(np.rint(pixels).astype(np.uint8))
    scale = side / max(picture.size)
    width, height = (max(1, round(length * scale)) for length in picture.size)
    shown = picture.resize((width, height), Image.Resampling.BILINEAR)
    return f'<img src="data:image/jpeg;base64,{jpeg_text(shown, QUALITY)}" alt="{said}" width="{width}" height="{height}">'
