"""Convolution and pooling by hand, one position of the window after the other, and the sizes of what comes out."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, overload

import numpy as np

from tfcnn.errors import InputError, closest, first_line

PADDINGS = ("valid", "same")
POOLINGS: dict[str, Callable] = {"max": np.nanmax, "average": np.nanmean}


class Step(NamedTuple):
    """A convolution at one position of its window.

    Attributes:
        row, column: in the output.
        top, left: of the window in the image; below 0 where it begins in the padding.
        patch: the numbers of the image under the window, (height, width) or (height, width, channels) of the kernel; 0 in the padding.
        product: patch x kernel, number by number.
        sum: of the product: the output at (row, column).
    """

    row: int
    column: int
    top: int
    left: int
    patch: np.ndarray
    product: np.ndarray
    sum: float


class PoolingStep(NamedTuple):
    """A pooling at one position of its window, as a `Step`; in the padding the patch is NaN, which does not count.

    Attributes:
        value: the largest number of the patch, or their average: the output at (row, column).
    """

    row: int
    column: int
    top: int
    left: int
    patch: np.ndarray
    value: float


def convolve2d_steps(image: np.ndarray, kernel: np.ndarray, stride: int | Sequence[int] = 1, padding: str = "valid",
                     dilation: int | Sequence[int] = 1) -> Iterator[Step]:
    """A convolution of deep learning, step by step: row by row, each position's patch, product and sum.

    As in all libraries of deep learning the kernel is not turned round: what is computed is a cross-correlation. A convolution of signal processing
    is this one with `kernel[::-1, ::-1]`; of kernels that look the same upside down and mirrored both give the same.

    Args:
        image: numbers (height, width) or (height, width, channels).
        kernel: numbers (height, width), or (height, width, channels) with the channels of the image.
        stride: positions from one window to the next, in both directions or (down, across).
        padding: "valid" keeps the window inside of the image; "same" puts zeros around it, at most one more below and to the right, so that at stride
            1 the output has the size of the image.
        dilation: positions between the numbers of the kernel, in both directions or (down, across); 1 leaves none out.

    Returns:
        An iterator over the steps. `image_of(steps)` puts their sums together.

    Raises:
        InputError: shapes that do not fit, numbers that are none, or a window larger than the image.

    Source: Goodfellow et al. 2016, "Deep Learning", section 9.1, equation 9.6; sizes: Dumoulin & Visin 2016, "A guide to convolution arithmetic for
    deep learning", sections 2 and 5.1.
    """
    image, kernel = _numbers(image, "an image"), _numbers(kernel, "a kernel")
    if image.ndim != kernel.ndim or image.shape[2:] != kernel.shape[2:]:
        raise InputError(f"expected an image and a kernel of two dimensions, or of three with as many channels, got image.shape={image.shape} and "
                         f"kernel.shape={kernel.shape}")
    windows = _windows(image, kernel.shape[:2], pair_of(stride, "stride"), padding, pair_of(dilation, "dilation"), outside=0)
    return (Step(*place, patch, product := patch * kernel, float(product.sum())) for place, patch in windows)


def pool2d_steps(image: np.ndarray, size: int | Sequence[int] = 2, stride: int | Sequence[int] | None = None, padding: str = "valid",
                 mode: str = "max") -> Iterator[PoolingStep]:
    """A pooling, step by step: row by row, each position's patch and its largest number or average.

    Args:
        image: numbers (height, width).
        size: of the window, in both directions or (height, width).
        stride: as in `convolve2d_steps`; the size of the window if None.
        padding: as in `convolve2d_steps`; what lies outside of the image counts neither in the maximum nor in the average.
        mode: "max" or "average".

    Returns:
        An iterator over the steps. `image_of(steps)` puts their values together.

    Raises:
        InputError: as `convolve2d_steps`, or another mode.
    """
    if not isinstance(mode, str) or mode not in POOLINGS:
        raise InputError(f"expected a pooling, got mode={mode!r}; {closest(str(mode), POOLINGS)}")
    image, window = _numbers(image, "an image"), pair_of(size, "size")
    if image.ndim != 2:
        raise InputError(f"expected an image of two dimensions to pool, got image.shape={image.shape}")
    windows = _windows(image, window, window if stride is None else pair_of(stride, "stride"), padding, (1, 1), outside=np.nan)
    return (PoolingStep(*place, patch, float(POOLINGS[mode](patch))) for place, patch in windows)


def image_of(steps: Sequence[Step | PoolingStep] | Iterator[Step | PoolingStep]) -> np.ndarray:
    """The output (rows, columns) that steps make together, in any order; where some are left out it is as large as the others reach, and NaN.

    Raises:
        InputError: no steps.
    """
    steps = list(steps)
    if not steps:
        raise InputError("expected the steps of a convolution or a pooling, got none; an iterator gives them once, make a list of it")
    output = np.full((max(step.row for step in steps) + 1, max(step.column for step in steps) + 1), np.nan)
    for step in steps:
        output[step.row, step.column] = step[-1]
    return output


@overload
def output_size(size: int, kernel: int, stride: int = ..., padding: str = ..., dilation: int = ...) -> int: ...
@overload
def output_size(size: Sequence[int], kernel: int | Sequence[int], stride: int | Sequence[int] = ..., padding: str = ...,
                dilation: int | Sequence[int] = ...) -> tuple[int, ...]: ...
def output_size(size: int | Sequence[int], kernel: int | Sequence[int], stride: int | Sequence[int] = 1, padding: str = "valid",
                dilation: int | Sequence[int] = 1) -> int | tuple[int, ...]:
    """How large the output of a convolution or a pooling is, along one axis or along each of several.

    valid: floor((size - dilation x (kernel - 1) - 1) / stride) + 1; with a kernel of 3 that is size - 2. same: ceil(size / stride).

    Args:
        size: of the input: a number, or one for each axis: (steps,), (height, width) or (depth, height, width), without batch and channels.
        kernel, stride, dilation: a number for all axes, or one for each.
        padding: "valid" or "same".

    Returns:
        A number for a number, a tuple for several.

    Raises:
        InputError: numbers below 1, another count of them than axes, another padding, or a window that is larger than the input.

    Source: Dumoulin & Visin 2016, "A guide to convolution arithmetic for deep learning", relationship 15.
    """
    if not isinstance(padding, str) or padding not in PADDINGS:
        raise InputError(f"expected a padding, got padding={padding!r}; {closest(str(padding), PADDINGS)}")
    given = (size,) if isinstance(size, (int, np.integer)) else size
    if not isinstance(given, (Sequence, np.ndarray)) or np.ndim(given) != 1 or not len(given):
        raise InputError(f"expected a size as a whole number or one for each axis, got size={size!r}")
    sizes, kernels, strides, dilations = (_each(value, len(given), name) for name, value in (
        ("size", size), ("kernel", kernel), ("stride", stride), ("dilation", dilation)))
    found = tuple(_along(*numbers, padding=padding) for numbers in zip(sizes, kernels, strides, dilations, strict=True))
    return found if given is size else found[0]


def _along(size: int, kernel: int, stride: int, dilation: int, *, padding: str) -> int:
    extent = dilation * (kernel - 1) + 1
    if padding == "same":
        return -(-size // stride)
    if extent > size:
        raise InputError(f"expected a window that fits into the input, got one of {extent} on {size} positions; give a smaller kernel or dilation, or "
                         "padding='same'")
    return (size - extent) // stride + 1


def _windows(image: np.ndarray, kernel: tuple[int, int], stride: tuple[int, int], padding: str, dilation: tuple[int, int],
             outside: float) -> Iterator[tuple[tuple[int, int, int, int], np.ndarray]]:
    """((row, column, top, left), patch) for each position; `outside` stands in the padding."""
    rows, columns = output_size(image.shape[:2], kernel, stride, padding, dilation)
    before = [_before(side, count, size, step, spread) if padding == "same" else 0
              for side, count, size, step, spread in zip(image.shape, (rows, columns), kernel, stride, dilation, strict=False)]
    offsets = [np.arange(size) * spread for size, spread in zip(kernel, dilation, strict=True)]

    def at(row: int, column: int) -> tuple[tuple[int, int, int, int], np.ndarray]:
        top, left = row * stride[0] - before[0], column * stride[1] - before[1]
        down, across = top + offsets[0], left + offsets[1]
        patch = np.full((len(down), len(across), *image.shape[2:]), outside, float)
        inside = [(places >= 0) & (places < side) for places, side in zip((down, across), image.shape, strict=False)]
        patch[np.ix_(*inside)] = image[np.ix_(down[inside[0]], across[inside[1]])]
        return (row, column, top, left), patch

    return (at(row, column) for row in range(rows) for column in range(columns))


def _before(side: int, count: int, size: int, stride: int, dilation: int) -> int:
    """Positions of padding above or to the left: half of what is missing, the odd one goes to the other end, as TensorFlow has it."""
    return max((count - 1) * stride + dilation * (size - 1) + 1 - side, 0) // 2


def _numbers(values, what: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError as error:  # rows of different lengths
        raise InputError(f"expected {what} of numbers, in rows of one length, got {type(values).__name__}: {first_line(error)}") from error
    if array.ndim not in (2, 3) or array.dtype.kind not in "uifb" or not array.size:
        raise InputError(f"expected {what} of numbers (height, width) or (height, width, channels), got {array.dtype} of shape={array.shape}")
    if not np.isfinite(array).all():
        raise InputError(f"expected {what} of finite numbers, got NaN or infinity")
    return array.astype(float)


def pair_of(value: int | Sequence[int], name: str) -> tuple[int, int]:
    """(down, across) of a number for both, or one for each; raises InputError for something else, by its name."""
    first, second = _each(value, 2, name)
    return first, second


def _each(value, axes: int, name: str) -> tuple[int, ...]:
    """A number for each axis."""
    numbers = (value,) * axes if isinstance(value, (int, np.integer)) else tuple(value) if isinstance(value, (Sequence, np.ndarray)) else ()
    whole = lambda number: isinstance(number, (int, np.integer)) and not isinstance(number, bool) and number > 0
    if len(numbers) != axes or not all(map(whole, numbers)):
        raise InputError(f"expected whole numbers above 0 for {name}, one for all axes or for each of {axes}, got {name}={value!r}")
    return tuple(int(number) for number in numbers)
