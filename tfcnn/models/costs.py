"""Multiply-adds of a layer: what a forward pass of one example takes, counted from shapes."""

import math
from collections.abc import Sequence

Shape = tuple[int | None, ...]  # the batch, which is not counted, stands first

# Layers with weights that count nothing: a look-up, or some operations a number, which the convention leaves out.
FREE = {"BatchNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization", "Normalization", "LayerScale", "PReLU", "Embedding",
        "Discretization", "InputLayer"}
# Without weights of their own, but full of products that no row below counts.
UNCOUNTED = {"Dot", "Einsum", "Tensordot", "Conv", "ConvTranspose", "DepthwiseConv", "SeparableConv"}


def multiply_adds(layer, inputs: Sequence[Shape], output: Shape) -> int | None:
    """Multiply-adds of one call of a layer on one example.

    A multiplication with the addition that follows is one, as He et al. 2016 (table 1), Howard et al. 2019 and most papers
    count what they call FLOPs; a processor that counts both has twice as many. Convolutions, Dense layers, recurrent
    layers and attention (projections and both products) count; biases, normalisation, activations, pooling and sums of
    branches count 0. `None` says that the layer has weights
    and is not known here.

    A convolution has kernel places x input channels of a group x filters at each of its output positions, a transposed one
    at each of its input positions, a Dense layer inputs x units at each position (Howard et al. 2017, section 3.1).

    Args:
        layer: a Keras layer that is built, or an operation of `keras.ops`.
        inputs: shapes of its inputs, the batch first.
        output: shape of its first output.
    """
    kind = type(layer).__name__
    if kind in COSTS:
        return COSTS[kind](layer, inputs, output)
    uncounted = kind in UNCOUNTED or (getattr(layer, "weights", None) and kind not in FREE)
    return None if uncounted else 0


def _convolution(layer, inputs, output) -> int:
    return _places(layer, output) * math.prod(layer.kernel.shape)  # the kernel's shape knows of groups


def _transposed(layer, inputs, output) -> int:
    return _places(layer, inputs[0]) * math.prod(layer.kernel.shape)


def _separable(layer, inputs, output) -> int:
    return _places(layer, output) * (math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape))


def _dense(layer, inputs, output) -> int:
    return math.prod(output[1:-1]) * math.prod(layer.kernel.shape)


def _einsum_dense(layer, inputs, output) -> int:
    """Each output is a sum over the axes of the kernel that it does not have."""
    left, kept = layer.equation.split("->")
    summed = math.prod(size for letter, size in zip(left.split(",")[1], layer.kernel.shape, strict=True) if letter not in kept)
    return math.prod(output[1:]) * summed


def _attention(layer, inputs, output) -> int:
    """Scores and weighted sum of a layer without projections (Luong et al. 2015, section 3.1)."""
    query, value = inputs[:2]
    return query[1] * value[1] * (query[-1] + value[-1])


def _multi_head_attention(layer, inputs, output) -> int:
    """Projections of query, key, value and output, the scores and the weighted sum (Vaswani et al. 2017, section 3.2.2)."""
    query, value = inputs[:2]
    of_query, of_value = math.prod(query[1:-1]), math.prod(value[1:-1])
    projections = sum(math.prod(weight.shape) * (of_value if weight.path.split("/")[-2] in ("key", "value") else of_query)
                      for weight in layer.weights if weight.name == "kernel")
    seen = math.prod(value[axis] for axis in layer.attention_axes)  # keys that a query is compared with
    return projections + of_query * seen * layer.num_heads * (layer.key_dim + layer.value_dim)


def _recurrent(layer, inputs, output) -> int:
    """The matrices of all gates, once a time step."""
    return inputs[0][1] * (math.prod(layer.cell.kernel.shape) + math.prod(layer.cell.recurrent_kernel.shape))


def _matmul(layer, inputs, output) -> int:
    return math.prod(output[1:]) * inputs[0][-1]


def _places(layer, shape: Sequence[int]) -> int:
    return math.prod(shape[1:-1] if layer.data_format == "channels_last" else shape[2:])


COSTS = {
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D", "DepthwiseConv1D", "DepthwiseConv2D"), _convolution),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), _transposed),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), _separable),
    **dict.fromkeys(("LSTM", "GRU", "SimpleRNN"), _recurrent),
    "Dense": _dense,
    "EinsumDense": _einsum_dense,
    "Attention": _attention,
    "MultiHeadAttention": _multi_head_attention,
    "Matmul": _matmul,
}
