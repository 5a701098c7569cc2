"""Pictures of what a network computes: heat over a photo, grids of maps and kernels."""

from collections.abc import Sequence

import numpy as np

from tfcnn.data.channels import to_grey
from tfcnn.errors import InputError

COLOURS = "inferno"  # of matplotlib; perceptually uniform: equal steps of heat look equal
STRENGTH = 0.8  # of the colour where the heat is 1; the photo shows through
SMALLEST, LARGEST = 64, 128  # pixels, sides of a cell of a grid
PANEL = 224  # pixels; smaller photos are enlarged
GAP = 4  # pixels


def overlay(pixels: np.ndarray, heat: np.ndarray):
    """A photo under a map of heat: the hotter, the more colour. The photo is made grey, so that all colour is heat.

    Args:
        pixels: (height, width, 1, 3 or 4), 0-255; of four channels the first three are shown.
        heat: (height, width), 0-1.

    Returns:
        `PIL.Image.Image` in RGB, of the size of the photo.

    Raises:
        InputError: a map of another size.
    """
    from matplotlib import colormaps
    from PIL import Image

    pixels, heat = np.asarray(pixels), np.asarray(heat, np.float32)
    if pixels.ndim != 3 or heat.shape != pixels.shape[:2]:
        raise InputError(f"expected pixels (height, width, channels) and heat (height, width), got {pixels.shape} and {heat.shape}")
    colours = colormaps[COLOURS](heat)[..., :3] * 255
    alpha = STRENGTH * heat[..., None]
    return Image.fromarray(np.rint(alpha * colours + (1 - alpha) * to_grey(shown(pixels))).astype(np.uint8))


def side_by_side(pixels: np.ndarray, heat: np.ndarray):
    """The photo and beside it its overlay; `PIL.Image.Image` in RGB, small photos enlarged."""
    from PIL import Image

    factor = max(1, -(-PANEL // max(pixels.shape[:2])))
    panels = [Image.fromarray(shown(pixels)), overlay(pixels, heat)]
    panels = [panel.resize((factor * panel.width, factor * panel.height), Image.Resampling.BICUBIC) for panel in panels]
    picture = Image.new("RGB", (2 * panels[0].width + GAP, panels[0].height), "white")
    for number, panel in enumerate(panels):
        picture.paste(panel, (number * (panel.width + GAP), 0))
    return picture


def shown(pixels: np.ndarray) -> np.ndarray:
    """Pixels as uint8 (height, width, 3): grey three times, of four channels the first three."""
    if pixels.shape[-1] not in (1, 3, 4):
        raise InputError(f"expected pixels of 1, 3 or 4 channels to draw, got {pixels.shape[-1]}")
    whole = pixels if pixels.dtype == np.uint8 else np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return np.repeat(whole, 3, axis=-1) if whole.shape[-1] == 1 else whole[..., :3]


def draw_cells(cells: Sequence[np.ndarray], columns: int):
    """A grid, row by row, of cells of one shape, uint8 (height, width, 3).

    Small ones are enlarged by a whole factor, so that each of their numbers is a square; large ones are reduced.
    """
    from PIL import Image

    height, width = cells[0].shape[:2]
    factor = -(-SMALLEST // max(height, width)) if max(height, width) < SMALLEST else min(1, LARGEST / max(height, width))
    high, wide = max(1, round(height * factor)), max(1, round(width * factor))
    method = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX
    columns = min(columns, len(cells))
    grid = Image.new("RGB", (columns * (wide + GAP) - GAP, -(-len(cells) // columns) * (high + GAP) - GAP), "white")
    for number, cell in enumerate(cells):
        row, column = divmod(number, columns)
        grid.paste(Image.fromarray(cell).resize((wide, high), method), (column * (wide + GAP), row * (high + GAP)))
    return grid


def map_cells(maps: np.ndarray, limit: int) -> list[np.ndarray]:
    """Feature maps (height, width, channels) as pictures, each from dark at its lowest to bright at its highest value.

    Those that vary most come first; one that does not vary is dark.
    """
    from matplotlib import colormaps

    order = np.argsort(-maps.std(axis=(0, 1)), kind="stable")[:limit]
    low, high = maps.min(axis=(0, 1)), maps.max(axis=(0, 1))
    scaled = (maps - low) / np.where(high > low, high - low, 1)
    return [np.rint(colormaps[COLOURS](scaled[..., channel])[..., :3] * 255).astype(np.uint8) for channel in order]


def kernel_cells(kernels: np.ndarray, limit: int) -> list[np.ndarray]:
    """Kernels (height, width, 1 or 3, number) as pictures: 0 is grey, the largest absolute value of each is black or full.

    Those of the largest norm come first.
    """
    order = np.argsort(-np.linalg.norm(kernels.reshape(-1, kernels.shape[-1]), axis=0), kind="stable")[:limit]
    top = np.abs(kernels).max(axis=(0, 1, 2))
    scaled = 127.5 + 127.5 * kernels / np.where(top > 0, top, 1)
    return [shown(scaled[..., number]) for number in order]
