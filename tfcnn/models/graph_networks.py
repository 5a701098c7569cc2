"""Networks of graphs: blocks of a graph convolution with BatchNorm and ReLU, what nodes become pooled behind each block."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from tfcnn.models.freeze import every_layer
from tfcnn.models.graph import GATConv, GATv2Conv, GCNConv, GINConv, GraphPooling, SAGEConv
from tfcnn.models.networks import MOMENTUM

HEADS = 4


class Convolution(NamedTuple):
    """A graph convolution of a network.

    Attributes:
        layer: (units) → the layer.
        pooling: of its nodes to a graph, a mode of `GraphPooling`.
    """

    layer: Callable
    pooling: str


# Xu et al. 2019, section 4.2 and 7: sums tell graphs apart that means do not. The others weigh neighbours to a mean, and so do their readouts.
CONVOLUTIONS = {
    "gin": Convolution(lambda units: GINConv(units), "sum"),
    "gcn": Convolution(lambda units: GCNConv(units, use_bias=False), "mean"),
    "sage": Convolution(lambda units: SAGEConv(units, use_bias=False), "mean"),
    "gat": Convolution(lambda units: GATConv(units // HEADS, heads=HEADS, use_bias=False), "mean"),
    "gatv2": Convolution(lambda units: GATv2Conv(units // HEADS, heads=HEADS, use_bias=False), "mean"),
}
NODE_BLOCKS, NODE_UNITS, NODE_DROPOUT = 2, 64, 0.5
BLOCKS, UNITS = 4, 32  # Xu et al. 2019, section 7: five layers, the first of them the features as they are; 16 or 32 units


def build_graph_network(name: str, shape: Sequence[int], facts: Mapping[str, Any], *, blocks: int = BLOCKS, units: int = UNITS):
    """A network from rows of graphs to features, to be the backbone of `build_classifier`.

    Args:
        name: a key of `CONVOLUTIONS`.
        shape: (size, features + 1 + size), see `tfcnn.data.graph_rows`.
        facts: `mean` and `variance` of each feature, by which nodes are standardised.
        blocks: graph convolutions one behind the other; each is a stage.
        units: features of a node behind each.

    Returns:
        A `keras.Model` with random weights: float32 (batch, size, features + 1 + size) in, features (batch, features + blocks * units) out.

    Source: Xu et al. 2019, "How Powerful are Graph Neural Networks?", section 4.2 for the readouts of all layers side by side.
    """
    row = CONVOLUTIONS[name]
    graph = keras.Input(shape, name="graph")
    nodes, there, edges = split_row(graph, facts)                                     # (batch, n, features), (batch, n), (batch, n, n)
    pool = lambda x, number: GraphPooling(row.pooling, name=f"readout{number}")([x, there])
    read = [pool(nodes, 0)]
    x = nodes
    for number in range(1, blocks + 1):
        x = _block(f"block{number}", row, x, edges, there, units)                     # (batch, n, units)
        read.append(pool(x, number))
    # Sums grow with the graph: unscaled they are far from what a head begins with.
    x = keras.layers.BatchNormalization(momentum=MOMENTUM, name="scale")(keras.layers.Concatenate(name="readout")(read))
    return keras.Model(graph, x, name=name)


def build_node_network(name: str, shape: Sequence[int], facts: Mapping[str, Any], *, units: int = NODE_UNITS):
    """A network from the neighbourhoods of nodes to features: as `build_graph_network`, but what is read is the first node of each.

    Returns:
        A `keras.Model` with random weights: float32 (batch, size, features + 1 + size) in, features (batch, units) out; a block for each step of the
        neighbourhoods.
    """
    around = keras.Input(shape, name="node")
    nodes, _, edges = split_row(around, facts)
    x = _node_blocks(name, nodes, [edges], len(facts["neighbours"]), units)
    return keras.Model(around, x[:, 0], name=name)


def build_network_of_graph(name: str, graph, facts: Mapping[str, Any], *, blocks: int = NODE_BLOCKS, units: int = NODE_UNITS):
    """A network from the numbers of nodes of one graph, which is part of it, to features of these nodes; each call passes through the whole graph.

    Args:
        name: a key of `CONVOLUTIONS`.
        graph: `tfcnn.data.graph_rows.Parts` of the graph.
        facts: of its data.

    Returns:
        A `keras.Model` with random weights: int32 (batch, 1) in, features (batch, units) out.

    Source: Kipf & Welling 2017, section 3.1, for the two layers; section 5.2 for the dropout and the features of a node that are divided by their sum.
    """
    number = keras.Input((1,), dtype="int32", name="node")
    layer = WholeGraph(graph.nodes.shape, graph.edges.shape[1], graph.weights is not None, name="graph")
    nodes, *edges = layer(number)
    layer.set_weights([prepared(graph.nodes, facts), graph.edges, *([] if graph.weights is None else [graph.weights])])
    x = _node_blocks(name, nodes, edges, blocks, units)
    return keras.Model(number, NodesOf(name="nodes")([x, number]), name=name)


def is_of_a_graph(network) -> bool:
    """True for a network that passes through its whole graph."""
    return any(isinstance(layer, WholeGraph) for layer in every_layer(network))


@keras.saving.register_keras_serializable("tfcnn")
class WholeGraph(keras.layers.Layer):
    """A graph as constants of a network: gives features (n, f), edges (2, e), and weights (e,) if it has any, whatever it gets."""

    def __init__(self, features: Sequence[int], edges: int, weighted: bool, **kwargs):
        super().__init__(trainable=False, **kwargs)
        self.features, self.edge_count, self.weighted = tuple(features), edges, weighted

    def build(self, shape):
        of = lambda name, shape, dtype: self.add_weight(shape=shape, dtype=dtype, initializer="zeros", trainable=False, name=name)
        self.parts = [of("features", self.features, "float32"), of("edges", (2, self.edge_count), "int32"),
                      *([of("weights", (self.edge_count,), "float32")] if self.weighted else [])]

    def call(self, inputs):
        return [keras.ops.convert_to_tensor(part) for part in self.parts]

    def compute_output_spec(self, inputs):
        return [keras.KerasTensor(part.shape, part.dtype) for part in self.parts]

    def get_config(self):
        return {**super().get_config(), "features": self.features, "edges": self.edge_count, "weighted": self.weighted}

    @classmethod
    def from_config(cls, config):
        return cls(**{name: value for name, value in config.items() if name != "trainable"})


@keras.saving.register_keras_serializable("tfcnn")
class NodesOf(keras.layers.Layer):
    """Takes [features (n, f), numbers int (batch, 1)], gives the features of these nodes (batch, f)."""

    def call(self, inputs):
        return keras.ops.take(inputs[0], inputs[1][:, 0], axis=0)

    def compute_output_shape(self, shapes):
        return (shapes[1][0], shapes[0][-1])


def prepared(nodes: np.ndarray, facts: Mapping[str, Any]) -> np.ndarray:
    """Features as a network gets them: what `split_row` does in the network."""
    if facts["binary"]:
        return nodes / np.maximum(nodes.sum(axis=-1, keepdims=True), 1)
    return ((nodes - np.array(facts["mean"])) / np.sqrt(facts["variance"])).astype(np.float32)


def _node_blocks(name: str, x, edges: Sequence, blocks: int, units: int):
    """Blocks of dropout, a graph convolution and, but for the last, ReLU."""
    for number in range(1, blocks + 1):
        given = [keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=said) for tensor, said in zip([x, *edges], ("nodes", "edges", "weights"), strict=False)]
        y = keras.layers.Dropout(NODE_DROPOUT)(given[0])
        y = CONVOLUTIONS[name].layer(units)([y, *given[1:]])
        y = y if number == blocks else keras.layers.ReLU()(y)
        x = keras.Model(given, y, name=f"block{number}")([x, *edges])
    return x


def split_row(graph, facts: Mapping[str, Any]):
    """(standardised features (batch, n, features), mask (batch, n), edges (batch, n, n)) of rows of graphs."""
    features = len(facts["mean"])
    nodes = graph[..., :features]
    if facts["binary"]:
        nodes = nodes / keras.ops.maximum(keras.ops.sum(nodes, axis=-1, keepdims=True), 1)
    else:
        nodes = keras.layers.Normalization(mean=facts["mean"], variance=facts["variance"], name="standardise")(nodes)
    return nodes, graph[..., features], graph[..., features + 1:]


def _block(name: str, row: Convolution, x, edges, there, units: int):
    """A graph convolution, BatchNorm over nodes that are there, ReLU; as one layer, which is a stage of a network."""
    given = [keras.Input(tensor.shape[1:], name=said) for tensor, said in ((x, "nodes"), (edges, "edges"), (there, "there"))]
    y = row.layer(units)(given[:2])
    y = keras.layers.BatchNormalization(momentum=MOMENTUM)(y, mask=keras.ops.greater(given[2], 0.5))
    return keras.Model(given, keras.layers.ReLU()(y), name=name)([x, edges, there])
