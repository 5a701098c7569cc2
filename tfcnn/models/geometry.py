"""Shapes, multiply-adds and receptive fields of the layers of a network, found by walking its graph; with them the steps of one convolution."""

from typing import Any, NamedTuple

from tfcnn.errors import InputError
from tfcnn.models.costs import Shape, multiply_adds
from tfcnn.models.receptive_field import UNKNOWN, Axis, Field, Reach, Value, field_of, reach_of
from tfcnn.models.steps import PoolingStep, Step, convolve2d_steps, image_of, output_size, pool2d_steps

__all__ = ["LayerGeometry", "PoolingStep", "Step", "convolve2d_steps", "geometry_of", "image_of", "network_of", "output_size", "pool2d_steps"]


class LayerGeometry(NamedTuple):
    """One call of a layer, or of an operation of `keras.ops`.

    Attributes:
        layer: the layer.
        parents: the nested models that it stands in, the outermost first.
        output: shape of its (first) output without the batch.
        multiply_adds: for one example; None where they cannot be told, see `tfcnn.models.costs`.
        field: its receptive field with respect to the input of the whole network.
    """

    layer: Any
    parents: tuple
    output: tuple[int | None, ...]
    multiply_adds: int | None
    field: Field


def geometry_of(model, *, input_shape: tuple[int, ...] | None = None) -> list[LayerGeometry]:
    """What each layer of a network gives, costs and sees, from input to output.

    A field grows by (kernel - 1) x dilation x stride so far with each convolution or pooling; branches that meet see what any
    of them sees. Global pooling, flattening, attention, recurrent layers, and normalisation over the picture see all of it;
    BatchNorm is taken as it is after training. A squeeze-and-excitation, which multiplies maps by what global pooling found,
    leaves their local field and sets `whole`. Maps that become tokens keep the size of their fields.

    Args:
        model: functional or Sequential, of any rank, channels last; nested models are walked through. With several inputs
            the fields are not told.
        input_shape: of one example, where the model leaves its size open.

    Raises:
        InputError: a model without a graph, a size that is open, or another one than the model's.

    Source: Araujo et al. 2019, "Computing Receptive Fields of Convolutional Neural Networks", Distill, sections "Single-path
    networks" and "Arbitrary computation graphs".
    """
    network = network_of(model)
    if network is None:
        raise InputError(f"expected a functional or Sequential keras.Model that is built, got model={type(model).__name__}; "
                         "only their layers are known before they run")
    rows: list[LayerGeometry] = []
    _walk(network, [Value(shape, _input_reach(network, shape)) for shape in _input_shapes(network, input_shape)], rows, ())
    return rows


def _walk(network, values: list[Value], rows: list[LayerGeometry], parents: tuple) -> list[Value]:
    """Adds a row for each layer; gives the values of the outputs from those of the inputs."""
    known = dict(zip(map(id, network.inputs), values, strict=True))
    order = {id(operation): index for index, operation in enumerate(network.operations)}
    for _, nodes in sorted(network._nodes_by_depth.items(), reverse=True):  # Keras's own way through a graph, there is no public one
        for node in sorted(nodes, key=lambda node: order[id(node.operation)]):
            if not node.is_input:
                given = [known[id(tensor)] for tensor in node.input_tensors]
                known.update(zip(map(id, node.outputs), _call(node, given, rows, parents), strict=True))
    return [known[id(tensor)] for tensor in network.outputs]


def _call(node, inputs: list[Value], rows: list[LayerGeometry], parents: tuple) -> list[Value]:
    layer, inner = node.operation, network_of(node.operation)
    if inner is not None:
        return _walk(inner, inputs, rows, (*parents, layer))
    shapes = _output_shapes(node, inputs)
    given = [value.shape for value in inputs]
    fixed = not any(None in shape[1:] for shape in [*given, *shapes])  # what depends on the values of pixels has no size
    reach = reach_of(node, inputs, shapes[0]) if fixed else UNKNOWN
    rows.append(LayerGeometry(layer, parents, shapes[0][1:], multiply_adds(layer, given, shapes[0]) if fixed else None, field_of(reach)))
    return [Value(shape, reach) for shape in shapes]


def network_of(model):
    """The graph of a model, None where there is none."""
    network = getattr(model, "_functional", model)  # a Sequential keeps one
    return network if hasattr(network, "_nodes_by_depth") else None


def _input_shapes(network, wanted: tuple[int, ...] | None) -> list[Shape]:
    shapes = [tuple(tensor.shape) for tensor in network.inputs]
    if wanted is not None:
        fits = len(shapes) == 1 and len(wanted) == len(shapes[0]) - 1 and all(a in (None, b) for a, b in zip(shapes[0][1:], wanted, strict=True))
        if not fits:
            raise InputError(f"expected an input_shape that the model takes, which is {shapes[0][1:]}, got input_shape={tuple(wanted)}")
        return [(None, *wanted)]
    if any(None in shape[1:] for shape in shapes):
        raise InputError(f"expected a model of fixed input size, got input_shape={shapes[0][1:]}; say which size to look at")
    return shapes


def _output_shapes(node, inputs: list[Value]) -> list[Shape]:
    """As Keras found them when the model was built; found anew where that left a size open."""
    import keras

    shapes = [tuple(tensor.shape) for tensor in node.outputs]
    tensors = {id(tensor): keras.KerasTensor(value.shape, dtype=tensor.dtype) for tensor, value in zip(node.input_tensors, inputs, strict=True)}
    for find in (type(node.operation).compute_output_spec, keras.Operation.compute_output_spec):  # what the layer says; what its call gives
        if any(None in shape[1:] for shape in shapes):
            arguments, named = node.arguments.fill_in(tensors)
            shapes = [tuple(spec.shape) for spec in keras.tree.flatten(find(node.operation, *arguments, **named))]
    return shapes


def _input_reach(network, shape: Shape) -> Reach:
    """Each pixel sees itself. The axes between batch and channels are those of the picture."""
    return Reach((Axis(((0, 0),), 1),) * max(1, len(shape) - 2)) if len(network.inputs) == 1 else UNKNOWN
