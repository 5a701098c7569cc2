"""`animate_convolution`, `animate_pooling`: the window moving over an image, what it meets, and the output as it fills."""

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from tfcnn.errors import InputError
from tfcnn.files import write_aside
from tfcnn.models.geometry import PoolingStep, Step, convolve2d_steps, image_of, pool2d_steps
from tfcnn.models.steps import pair_of

MOST_STEPS = 400  # pictures of an animation
MOST_NUMBERS = 14  # cells a side that leave room for a number in each
LETTERS = 1.4  # a letter is about 0.6 times as wide as its font is high: so many times a cell's side, divided by the letters, stays inside
INK, EDGE, WINDOW, EMPTY, FULL = "#1f2933", "#ced4da", "#d9480f", "#f1f3f5", "#4c87ad"


@dataclass(frozen=True)
class Animation:
    """A GIF; a notebook shows it as the last line of a cell.

    Attributes:
        gif: the file's bytes.
        frames: how many pictures it has, one for each step.
    """

    gif: bytes = field(repr=False)
    frames: int

    def save(self, path: str | Path) -> Path:
        """Writes the file; gives its path."""
        path = Path(path)
        if path.suffix.lower() != ".gif":
            raise InputError(f"expected a file that ends in .gif, got '{path}'")
        with write_aside(path) as aside:
            aside.write_bytes(self.gif)
        return path

    def _repr_html_(self) -> str:
        return f'<img alt="animation of {self.frames} steps" src="data:image/gif;base64,{base64.b64encode(self.gif).decode()}">'


def animate_convolution(image: np.ndarray, kernel: np.ndarray, stride: int | Sequence[int] = 1, padding: str = "valid",
                        dilation: int | Sequence[int] = 1, *, milliseconds: int = 800) -> Animation:
    """A convolution step by step: the window on the image, its products, the output so far.

    Args:
        image, kernel: numbers (height, width).
        stride, padding, dilation: see `tfcnn.models.geometry.convolve2d_steps`.
        milliseconds: of a step.

    Raises:
        InputError: what `convolve2d_steps` refuses, three dimensions, or more than 400 steps.
    """
    steps = convolve2d_steps(image, kernel, stride, padding, dilation)
    image, kernel = np.asarray(image, float), np.asarray(kernel, float)
    if image.ndim != 2:
        raise InputError(f"expected an image of two dimensions to draw, got image.shape={image.shape}; draw one channel")
    terms = lambda step: [f"{_short(value)}·{_short(weight)}" for value, weight in zip(step.patch.ravel(), kernel.ravel(), strict=True)]
    return _animated(image, steps, pair_of(dilation, "dilation"), milliseconds,
                     lambda step: (step.product, terms(step), "patch · kernel", f"sum {_short(step.sum)}"))


def animate_pooling(image: np.ndarray, size: int | Sequence[int] = 2, stride: int | Sequence[int] | None = None, padding: str = "valid",
                    mode: str = "max", *, milliseconds: int = 800) -> Animation:
    """A pooling step by step: the window on the image, its numbers, the output so far.

    Args:
        image: numbers (height, width).
        size, stride, padding, mode: see `tfcnn.models.geometry.pool2d_steps`.
        milliseconds: of a step.

    Raises:
        InputError: what `pool2d_steps` refuses, or more than 400 steps.
    """
    steps = pool2d_steps(image, size, stride, padding, mode)
    return _animated(np.asarray(image, float), steps, (1, 1), milliseconds, lambda step: (
        step.patch, [_short(value) for value in step.patch.ravel()], "patch", f"{mode} {_short(step.value)}"))


def _animated(image: np.ndarray, walk: Iterator[Step] | Iterator[PoolingStep], spread: tuple[int, int], milliseconds: int, told: Callable) -> Animation:
    """`told`: step → (numbers of the middle panel, their texts, its title, what comes out)."""
    steps: list[Step | PoolingStep] = list(islice(walk, MOST_STEPS + 1))
    if len(steps) > MOST_STEPS:
        raise InputError(f"expected at most {MOST_STEPS} steps to draw, got more; give a smaller image or a larger stride")
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int) or not 20 <= milliseconds <= 60_000:
        raise InputError(f"expected from 20 to 60000 milliseconds a step, got milliseconds={milliseconds!r}")
    frames = _Frames(image, steps, spread)
    pictures = [frames.draw(step, *told(step)) for step in steps]
    file = io.BytesIO()
    pictures[0].save(file, format="GIF", save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0, optimize=True)
    return Animation(file.getvalue(), len(pictures))


class _Frames:
    """One figure, on which the steps are drawn one after the other; the output fills with them."""

    def __init__(self, image: np.ndarray, steps: Sequence[Step | PoolingStep], spread: tuple[int, int]):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.image, self.spread, self.output = image, spread, image_of(steps)
        self.texts, self.seen = [_short(value) for value in image.ravel()], np.full(self.output.shape, np.nan)
        extent = [(size - 1) * step + 1 for size, step in zip(steps[0].patch.shape, spread, strict=True)]
        self.low = [min(0, *(step.top for step in steps)), min(0, *(step.left for step in steps))]
        self.high = [max(image.shape[0], *(step.top + extent[0] for step in steps)), max(image.shape[1], *(step.left + extent[1] for step in steps))]
        widths = [self.high[1] - self.low[1], steps[0].patch.shape[1], self.output.shape[1]]
        highest = max(self.high[0] - self.low[0], steps[0].patch.shape[0], self.output.shape[0])
        height = min(6.4, max(3.0, 9 * highest / (sum(widths) + 2) + 1.0))
        self.figure = Figure(figsize=(9, height), dpi=72)
        self.figure.subplots_adjust(left=0.02, right=0.98, bottom=0.1 / height, top=1 - 0.7 / height, wspace=0.12)  # 0.7 inches for two lines of a title
        self.canvas = FigureCanvasAgg(self.figure)
        self.cell = min(9 * 0.9 / (sum(widths) + 1), (height - 0.9) / highest) * 72  # points
        self.axes = self.figure.subplots(1, 3, width_ratios=widths)

    def draw(self, step: Step | PoolingStep, middle: np.ndarray, texts: Sequence[str], title: str, result: str):
        from PIL import Image

        self.seen[step.row, step.column] = step[-1]
        for axes in self.axes:
            axes.clear()
            axes.set_axis_off()
        on_image, on_patch, on_output = self.axes
        _cells(on_image, self.image, self.texts, self.low, self.high, scale=self.image, cell=self.cell)
        high, wide = step.patch.shape
        if self.spread == (1, 1):
            _frame(on_image, step.top, step.left, high, wide)
        else:
            for down, across in np.ndindex(high, wide):
                _frame(on_image, step.top + down * self.spread[0], step.left + across * self.spread[1])
        on_image.set_title("image" if self.low == [0, 0] else "image with its padding", color=INK)
        _cells(on_patch, middle, texts, (0, 0), middle.shape, scale=self.image if isinstance(step, PoolingStep) else middle, cell=self.cell)
        on_patch.set_title(f"{title}\n{result}", color=INK)
        texts = ["" if np.isnan(value) else _short(value) for value in self.seen.ravel()]
        _cells(on_output, self.seen, texts, (0, 0), self.seen.shape, scale=self.output, cell=self.cell)
        _frame(on_output, step.row, step.column)
        on_output.set_title(f"output {self.output.shape[0]} x {self.output.shape[1]}", color=INK)
        self.canvas.draw()
        return Image.fromarray(np.asarray(self.canvas.buffer_rgba())[..., :3])


def _cells(axes, numbers: np.ndarray, texts: Sequence[str], low: Sequence[int], high: Sequence[int], *, scale: np.ndarray, cell: float) -> None:
    """Squares, the darker the nearer to the highest number of `scale`, with the numbers where there is room; `cell`: its side in points."""
    from matplotlib.colors import LinearSegmentedColormap

    least, most = float(np.nanmin(scale)), float(np.nanmax(scale))
    shares = np.clip((numbers - least) / (most - least), 0, 1) if most > least else np.where(np.isnan(numbers), np.nan, 0.0)
    with_text = max(numbers.shape) <= MOST_NUMBERS
    colours = LinearSegmentedColormap.from_list("cells", ["white", FULL]).with_extremes(bad=EMPTY)
    axes.pcolormesh(np.ma.masked_invalid(shares), cmap=colours, vmin=0, vmax=1, edgecolors=EDGE, linewidth=1 if with_text else 0)
    if with_text:
        for (row, column), share, text in zip(np.ndindex(*numbers.shape), shares.ravel(), texts, strict=True):
            colour = "white" if share > 0.6 else INK
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=colour, fontsize=min(11, LETTERS * cell / max(1, len(text))))
    axes.set_xlim(low[1] - 0.1, high[1] + 0.1)
    axes.set_ylim(high[0] + 0.1, low[0] - 0.1)
    axes.set_aspect("equal")


def _frame(axes, row: int, column: int, high: int = 1, wide: int = 1) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((column, row), wide, high, fill=False, edgecolor=WINDOW, linewidth=2.5, clip_on=False))


def _short(number: float) -> str:
    if np.isnan(number):
        return "-"
    return f"{number:.0f}" if number == round(number) and abs(number) < 1e6 else f"{number:.3g}"
