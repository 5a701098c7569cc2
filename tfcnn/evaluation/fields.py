"""`draw_receptive_fields`: over a photo, the pixels that one output of a layer is computed from."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfcnn.errors import InputError, closest
from tfcnn.evaluation.overlay import shown
from tfcnn.evaluation.predict import check_photo, decode_file
from tfcnn.models.inspect import Inspection, LayerRow, inspect_model

if TYPE_CHECKING:
    from PIL import Image

LARGEST = 3  # sides of the photo up to which what lies outside of it is drawn too
COLOURS = "plasma"  # of matplotlib, from the first layer to the last


def draw_receptive_fields(model: Any, photo: str | Path | np.ndarray, *, layers: Sequence[str] | None = None,
                          point: tuple[float, float] = (0.5, 0.5)) -> "Image.Image":
    """A photo with a frame around what one output of each layer sees, the output whose field is centred nearest to a point.

    A field can reach beyond the photo, where padding is; it is drawn to its end, up to three sides of the photo. Of gates that scale by the whole
    picture (squeeze-and-excitation) the local part is drawn.

    Args:
        model: what `inspect_model` takes: the name of a backbone, a run or its folder, or a `keras.Model`.
        photo: path of a photo, or pixels (height, width, 1, 3 or 4), 0-255. It is brought to the input size of the model.
        layers: names of layers; the last one of each stage if None.
        point: where in the photo, (down, across) as shares of its sides from 0 to 1.

    Returns:
        `PIL.Image.Image` in RGB.

    Raises:
        InputError: what `inspect_model` refuses, an unknown layer, one without a local field, or a photo that cannot be read.
    """
    inspection = inspect_model(model)
    if len(inspection.input_shape) != 3:
        raise InputError(f"expected a model of photos, got input_shape={inspection.input_shape}")
    if not isinstance(point, Sequence) or len(point) != 2 or not all(isinstance(share, (int, float)) and 0 <= share <= 1 for share in point):
        raise InputError(f"expected a point as two shares of the sides from 0 to 1, got point={point!r}")
    known = {row.name: row for row in inspection.layers}
    if isinstance(layers, str) or (layers is not None and not layers):
        raise InputError(f"expected a list of names of layers, got layers={layers!r}; leave it out for the last of each stage")
    if layers is None:
        rows = _last_of_stages(inspection)
    else:
        unknown = [name for name in layers if name not in known]
        if unknown:
            raise InputError(f"expected a layer of the model, got layers={unknown[0]!r}; {closest(str(unknown[0]), known)}")
        rows = [(name, known[name]) for name in layers]
        blind = [name for name, row in rows if not row.receptive_field.stride or len(row.output) != 3]
        if blind:
            raise InputError(f"expected layers with a field around each output, got '{blind[0]}', whose outputs see "
                             f"{'all of the input' if known[blind[0]].receptive_field.whole else 'what is not known'}")
    if not rows:
        raise InputError("expected a model of layers with receptive fields, got one whose layers see all of the input or what is not known")
    shape = inspection.input_shape
    return _drawn(_pixels(photo, shape[:2]), [(name, row.receptive_field.size or (), _centre(row, point, shape)) for name, row in rows])


def _last_of_stages(inspection: Inspection) -> list[tuple[str, LayerRow]]:
    """(name, the last layer of each stage with a field of more than a pixel); a stage without a name of its own goes by that of the layer."""
    rows = {}
    for row in inspection.layers:
        if row.receptive_field.stride and len(row.output) == 3 and max(row.receptive_field.size or ()) > 1:
            rows[row.stage] = row
    names = {row.name for row in inspection.layers}
    return [(row.name if stage in names else stage, row) for stage, row in rows.items()]


def _pixels(photo: str | Path | np.ndarray, sides: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    check_photo(photo)
    if isinstance(photo, np.ndarray):
        if photo.ndim != 3 or photo.dtype.kind not in "uifb" or not np.isfinite(photo).all():
            raise InputError(f"expected finite pixels (height, width, channels), got {photo.dtype} of shape={photo.shape}")
        pixels = shown(photo)
    else:
        pixels = decode_file(photo, max(sides))
    return np.asarray(Image.fromarray(pixels).resize(sides[::-1], Image.Resampling.BICUBIC))


def _centre(row: LayerRow, point: tuple[float, float], shape: Sequence[int]) -> tuple[float, float]:
    """Of the field nearest to the point, in pixels."""
    field, found = row.receptive_field, []
    assert field.offset and field.stride  # of rows that were chosen for them
    for axis in (0, 1):
        wanted = point[axis] * (shape[axis] - 1)
        place = min(max(round((wanted - field.offset[axis]) / field.stride[axis]), 0), (row.output[axis] or 1) - 1)
        found.append(field.offset[axis] + place * field.stride[axis])
    return found[0], found[1]


def _drawn(pixels: np.ndarray, fields: Sequence[tuple[str, tuple[int, ...], tuple[float, float]]]):
    """`fields`: (name, size, centre)."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
    from PIL import Image

    height, width = pixels.shape[:2]
    limit = LARGEST * max(height, width)
    reach = [(centre[axis] - size[axis] / 2, centre[axis] + size[axis] / 2) for _, size, centre in fields for axis in (0, 1) if max(size) <= limit]
    low, high = min([-0.5, *(first for first, _ in reach)]), max([height - 0.5, width - 0.5, *(last for _, last in reach)])
    figure = Figure(figsize=(7.4, 5), dpi=96, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_facecolor("#e9ecef")
    axes.imshow(pixels)
    colours = colormaps[COLOURS](np.linspace(0, 0.85, len(fields)))
    for (_, size, (down, across)), colour in sorted(zip(fields, colours, strict=True), key=lambda one: -max(one[0][1])):
        corner = (across - size[1] / 2, down - size[0] / 2)
        axes.add_patch(Rectangle(corner, size[1], size[0], fill=False, edgecolor=colour, linewidth=2.5))
    sides = lambda size: f"{size[0]}" if size[0] == size[1] else f"{size[0]} x {size[1]}"
    lines = [Rectangle((0, 0), 1, 1, fill=False, edgecolor=colour, linewidth=2.5) for colour in colours]
    axes.legend(lines, [f"{name}: {sides(size)} pixels" for name, size, _ in fields], loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False)
    pad = 0.01 * (high - low)
    axes.set_xlim(low - pad, high + pad)
    axes.set_ylim(high + pad, low - pad)
    axes.set_title(f"what one output sees of {width} x {height} pixels", loc="left", fontsize=11)
    axes.tick_params(labelsize=8)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
