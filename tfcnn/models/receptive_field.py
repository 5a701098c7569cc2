"""What the outputs of a layer see of a network's input: fields, and how each kind of layer changes them."""

import math
from collections.abc import Callable
from typing import NamedTuple

from tfcnn.models.costs import Shape


class Field(NamedTuple):
    """The receptive field of a layer: the pixels of the network's input that one of its outputs is computed from.

    What lies outside of the picture belongs to it too: a field may be larger than the picture.

    Attributes:
        size: pixels along each axis; after upsampling, where outputs differ, of the largest. None where `whole` says all.
        stride: pixels between the fields of two neighbours; below 1 after upsampling. None for tokens, which have no place.
        offset: centre of the first output's field, in pixels from the centre of the first pixel.
        whole: True where each output depends on the whole picture as well. With a size, that comes from gates alone
            (squeeze-and-excitation): numbers for the whole picture that local values are multiplied by. None where it is not
            known what an output sees, of layers that are not of Keras and of branches of different strides.
    """

    size: tuple[int, ...] | None = None
    stride: tuple[float, ...] | None = None
    offset: tuple[float, ...] | None = None
    whole: bool | None = False


class Axis(NamedTuple):
    """What the outputs along an axis see: output i the pixels from ends[i % n][0] to ends[i % n][1], moved by `shift` for
    each n outputs before it. n is 1 until an upsampling gives the same to several neighbours."""

    ends: tuple[tuple[int, int], ...]
    shift: int

    def at(self, output: int) -> tuple[int, int]:
        turns, phase = divmod(output, len(self.ends))
        return self.ends[phase][0] + turns * self.shift, self.ends[phase][1] + turns * self.shift


class Reach(NamedTuple):
    """What a tensor depends on: local fields (on a grid, or of tokens in any order), the whole picture, or both."""

    axes: tuple[Axis, ...] = ()
    grid: bool = True
    whole: bool | None = False


class Value(NamedTuple):
    """A tensor of the graph: its shape, the batch first, and what it depends on; None for a constant."""

    shape: Shape
    reach: Reach | None


class Seen(NamedTuple):
    """A tensor that is no constant."""

    shape: Shape
    reach: Reach


ALL, UNKNOWN = Reach(whole=True), Reach(whole=None)


def field_of(reach: Reach | None) -> Field:
    """The numbers of a reach."""
    if reach is None or not reach.axes:
        return Field(whole=reach.whole if reach else False)
    size = tuple(max(last - first + 1 for first, last in axis.ends) for axis in reach.axes)
    if not reach.grid:
        return Field(size, whole=reach.whole)
    stride = tuple(_plain(axis.shift / len(axis.ends)) for axis in reach.axes)
    return Field(size, stride, tuple(_plain(sum(axis.at(0)) / 2) for axis in reach.axes), reach.whole)


def _plain(number: float) -> float:
    return int(number) if number == int(number) else number


def reach_of(node, inputs: list[Value], shape: Shape) -> Reach | None:
    """What the output of a call depends on.

    Args:
        node: of the graph: a layer or operation and how it was called.
        inputs: its tensors.
        shape: of its first output, the batch first.
    """
    kind = type(node.operation).__name__
    seen = [Seen(value.shape, value.reach) for value in inputs if value.reach is not None]
    if not seen or kind in CONSTANT:
        return None
    if kind not in WHOLE and any(value.reach.whole is None for value in seen):
        return UNKNOWN
    return RULES.get(kind, _unknown)(node, seen, shape)


def _unknown(node, seen: list[Seen], shape: Shape) -> Reach:
    return UNKNOWN


def _whole(node, seen: list[Seen], shape: Shape) -> Reach:
    return ALL


def _at_each_position(node, seen: list[Seen], shape: Shape) -> Reach:
    """Of one input or several, number by number or channel by channel."""
    reaches = [_placed(value, shape) for value in seen]
    local = [reach for reach in reaches if reach.axes]
    everywhere = any(reach.whole and not reach.axes for reach in reaches)
    is_gate = type(node.operation).__name__ == "Multiply" and local and local[0].grid
    if any(reach.whole is None for reach in reaches):
        return UNKNOWN
    if not local or (everywhere and not is_gate):
        return ALL
    axes = [_union(same) for same in zip(*(reach.axes for reach in local), strict=True)]
    known = [axis for axis in axes if axis is not None]
    if len(known) < len(axes) or len({reach.grid for reach in local}) > 1:
        return UNKNOWN
    return Reach(tuple(known), local[0].grid, everywhere or any(reach.whole for reach in local))


def _placed(value: Seen, shape: Shape) -> Reach:
    """The fields of an input at the positions of the output; one position that serves for all of them stands for the whole."""
    rank = len(value.reach.axes)
    if not value.reach.grid or value.shape[1:rank + 1] == shape[1:rank + 1]:
        return value.reach
    return ALL if set(value.shape[1:rank + 1]) == {1} else UNKNOWN


def _over_channels(node, seen: list[Seen], shape: Shape) -> Reach:
    """Mixes the last axis; what mixes an axis of the picture is taken to see all of it."""
    rank = len(seen[0].shape)
    axes = getattr(node.operation, "axis", -1)
    if axes is None:  # of a mean: all of them
        return ALL
    other = {axis % rank for axis in (axes if isinstance(axes, (list, tuple)) else [axes])} - {rank - 1}
    left, _, kept = getattr(node.operation, "equation", "").partition("->")
    summed = set(left.split(",")[0][:-1]) - set(kept)  # of an EinsumDense; the last letter may go
    positions = rank - 2 if not seen[0].reach.grid else rank - 1 - len(seen[0].reach.axes)
    return ALL if other or summed or positions < 1 else _at_each_position(node, seen, shape)


def _joined(node, seen: list[Seen], shape: Shape) -> Reach:
    """Concatenates or stacks channels; tokens in any way."""
    reach = seen[0].reach
    inside = reach.grid and node.operation.axis % len(shape) <= len(reach.axes)
    return UNKNOWN if inside and reach.axes else _at_each_position(node, seen, shape)


def _reshaped(node, seen: list[Seen], shape: Shape) -> Reach:
    """Positions that stay, or become tokens with the same channels; else what follows sees all."""
    (before, reach), = seen
    rank = len(reach.axes)
    if not rank or (reach.grid and len(shape) > rank and before[1:rank + 1] == shape[1:rank + 1]):
        return reach
    return reach._replace(grid=False) if len(shape) > 2 and before[-1] == shape[-1] else ALL


def _sliced(node, seen: list[Seen], shape: Shape) -> Reach:
    """Channels, or some of the tokens."""
    (before, reach), = seen
    key = node.arguments.args[1]
    key = tuple(key) if isinstance(key, (tuple, list)) else (key,)  # a list in a model that was loaded
    if Ellipsis in key:
        key = key[:key.index(Ellipsis)] + (slice(None),) * (len(before) - len(key) + 1) + key[key.index(Ellipsis) + 1:]
    keeps = all(part == slice(None) for part in key[:len(reach.axes) + 1])
    return reach if keeps or not reach.grid else UNKNOWN


def _along_axes(node, seen: list[Seen], shape: Shape) -> Reach:
    """Axis by axis, each as `AXES` says."""
    layer, (before, reach) = node.operation, seen[0]
    if not reach.axes:
        return reach
    if not reach.grid:
        return reach if type(layer).__name__.startswith("Cropping") else UNKNOWN
    if len(before) != len(reach.axes) + 2 or getattr(layer, "data_format", None) == "channels_first":
        return UNKNOWN
    rule = AXES[type(layer).__name__]
    return reach._replace(axes=tuple(rule(layer, number, axis, before[number + 1], shape[number + 1]) for number, axis in enumerate(reach.axes)))


def _window(layer, number: int, axis: Axis, before: int, after: int) -> Axis:
    """A convolution or a pooling."""
    places = layer.kernel_size if hasattr(layer, "kernel_size") else layer.pool_size
    extent, step = (places[number] - 1) * getattr(layer, "dilation_rate", (1, 1, 1))[number] + 1, layer.strides[number]
    start = {"valid": 0, "causal": extent - 1}.get(layer.padding, max((after - 1) * step + extent - before, 0) // 2)
    return _looking(axis, step, 1, lambda i: i * step - start, lambda i: i * step - start + extent - 1)


def _transposed(layer, number: int, axis: Axis, before: int, after: int) -> Axis:
    """Input j reaches the outputs from j x stride - start on; its own padding is that of the convolution it reverses."""
    extent, step = (layer.kernel_size[number] - 1) * layer.dilation_rate[number] + 1, layer.strides[number]
    start = 0 if layer.padding == "valid" else max((before - 1) * step + extent - after, 0) // 2
    last = lambda i: (i + start) // step
    return _looking(axis, 1, step, lambda i: min(-((extent - 1 - i - start) // step), last(i)), last)


def _upsampled(layer, number: int, axis: Axis, before: int, after: int) -> Axis:
    """Output i lies at (i + 1/2) / factor - 1/2; its neighbours within the reach of the interpolation are read."""
    factor, reach = after // before, INTERPOLATIONS[getattr(layer, "interpolation", "nearest")]
    if not reach or factor == 1:
        return _looking(axis, 1, factor, lambda i: i // factor, lambda i: i // factor)
    place = lambda i: 2 * i + 1 - factor  # in 1 / (2 factor)
    return _looking(axis, 1, factor, lambda i: place(i) // (2 * factor) + 1 - reach, lambda i: -(-place(i) // (2 * factor)) - 1 + reach)


def _padded(layer, number: int, axis: Axis, before: int, after: int) -> Axis:
    start = _first_of(layer.padding, number)
    return _looking(axis, 1, 1, lambda i: i - start, lambda i: i - start)


def _cropped(layer, number: int, axis: Axis, before: int, after: int) -> Axis:
    start = _first_of(layer.cropping, number)
    return _looking(axis, 1, 1, lambda i: i + start, lambda i: i + start)


def _first_of(sides, number: int) -> int:
    """What is added or cut before the first position of an axis: (before, after) in one dimension, else one such pair an axis."""
    return sides[number][0] if isinstance(sides[0], (tuple, list)) else sides[0]


def _looking(axis: Axis, step: int, outputs: int, first: Callable[[int], int], last: Callable[[int], int]) -> Axis:
    """Where output i sees what the inputs from first(i) to last(i) see; both move by `step` for each `outputs`."""
    turns = len(axis.ends) // math.gcd(len(axis.ends), step)  # until the same phase of the input comes again
    ends = tuple((axis.at(first(i))[0], axis.at(last(i))[1]) for i in range(turns * outputs))
    return Axis(ends, turns * step * axis.shift // len(axis.ends))


def _union(axes: tuple[Axis, ...]) -> Axis | None:
    """What any of them sees; None where they move at different strides."""
    period = math.lcm(*(len(axis.ends) for axis in axes))
    shifts = {period // len(axis.ends) * axis.shift for axis in axes}
    if len(shifts) > 1:
        return None
    ends = [[axis.at(i) for axis in axes] for i in range(period)]
    return Axis(tuple((min(first for first, _ in some), max(last for _, last in some)) for some in ends), shifts.pop())


# By the names of classes, those of Keras layers and of the operations that plain arithmetic on their outputs makes.
CONSTANT = {"OnesLike", "ZerosLike", "FullLike", "EmptyLike"}
WHOLE = {"Flatten", "MultiHeadAttention", "GroupedQueryAttention", "Attention", "AdditiveAttention", "LSTM", "GRU", "SimpleRNN", "Bidirectional",
         "GroupNormalization", *(f"Global{kind}Pooling{rank}D" for kind in ("Average", "Max") for rank in (1, 2, 3))}
AT_EACH_POSITION = {
    "Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "BatchNormalization", "Normalization", "Rescaling", "LayerScale", "Embedding", "Identity", "Masking",
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianDropout", "GaussianNoise", "AlphaDropout", "ActivityRegularization",
    "Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum",
    "Divide", "TrueDivide", "FloorDivide", "Power", "Negative", "Absolute", "Square", "Sqrt", "Rsqrt", "Reciprocal", "Exp", "Log", "Log1p", "Clip", "Cast",
    "Relu", "Relu6", "Sigmoid", "Tanh", "Silu", "Gelu", "Elu", "Selu", "LeakyRelu", "HardSigmoid", "HardSilu", "Softplus", "StopGradient"}
OVER_CHANNELS = {"Dense", "EinsumDense", "LayerNormalization", "RMSNormalization", "UnitNormalization", "Softmax", "LogSoftmax", "Mean", "Sum", "Max", "Min"}
INTERPOLATIONS = {"nearest": 0, "bilinear": 1, "bicubic": 2, "lanczos3": 3, "lanczos5": 5}  # positions read on either side
AXES: dict[str, Callable[..., Axis]] = {
    **{f"{kind}{rank}D": _window for rank in (1, 2, 3) for kind in ("Conv", "DepthwiseConv", "SeparableConv", "MaxPooling", "AveragePooling")},
    **{f"Conv{rank}DTranspose": _transposed for rank in (1, 2, 3)},
    **{f"UpSampling{rank}D": _upsampled for rank in (1, 2, 3)},
    **{f"ZeroPadding{rank}D": _padded for rank in (1, 2, 3)},
    **{f"Cropping{rank}D": _cropped for rank in (1, 2, 3)},
}
RULES = {
    **dict.fromkeys(WHOLE, _whole),
    **dict.fromkeys(AT_EACH_POSITION, _at_each_position),
    **dict.fromkeys(OVER_CHANNELS, _over_channels),
    **dict.fromkeys(AXES, _along_axes),
    "Concatenate": _joined,
    "Stack": _joined,
    "Reshape": _reshaped,
    "GetItem": _sliced,
}
