"""Networks of graphs: blocks of a graph convolution with BatchNorm and ReLU, what nodes become pooled behind each block."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from tfcnn.models.freeze import every_layer
from tfcnn.models.graph import GATConv, GATv2Conv, GCNConv, GINConv, GraphPooling, SAGEConv, SparseDropout
from tfcnn.models.networks import MOMENTUM

HEADS = 4
OF_FEATURES = ("block1", "scale")  # layers of a network of graphs whose weights belong to the features of nodes


class Convolution(NamedTuple):
    """A graph convolution of a network.

    Attributes:
        layer: (units, and what a layer takes besides) → the layer.
        pooling: of its nodes to a graph, a mode of `GraphPooling`.
    """

    layer: Callable
    pooling: str


# Xu et al. 2019, section 4.2 and 7: sums tell graphs apart that means do not. The others weigh neighbours to a mean, and so do their readouts.
CONVOLUTIONS = {
    "gin": Convolution(lambda units, **more: GINConv(units, **more), "sum"),
    "gcn": Convolution(lambda units, **more: GCNConv(units, use_bias=False, **more), "mean"),
    "sage": Convolution(lambda units, **more: SAGEConv(units, use_bias=False, **more), "mean"),
    "gat": Convolution(lambda units, **more: GATConv(units // HEADS, heads=HEADS, use_bias=False, **more), "mean"),
    "gatv2": Convolution(lambda units, **more: GATv2Conv(units // HEADS, heads=HEADS, use_bias=False, **more), "mean"),
}
# Kipf & Welling 2017, section 5.2, have 16 units and a penalty of 2.5e-4 on the first matrix. Measured on the validation nodes of Cora, 6 splits, GCN, accuracy
# in %: penalties of 0, 2.5e-4, 1e-3 gave 76.0, 79.0, 80.1; 16, 64, 256 units without one 76.5, 76.0, 76.7.
NODE_BLOCKS, NODE_UNITS, NODE_DROPOUT, NODE_PENALTY = 2, 64, 0.5, 1e-3
LEAST_SUM = 1e-6  # of the features of a node that are divided by it
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
    """A network from the neighbourhoods of nodes to features: as `build_network_of_graph`, but what is read is the first node of each.

    Returns:
        A `keras.Model` with random weights: float32 (batch, size, features + 1 + size) in, features (batch, units) out; a block for each step of the
        neighbourhoods.
    """
    around = keras.Input(shape, name="node")
    nodes, _, edges = split_row(around, facts)
    x = _node_blocks(name, keras.layers.Dropout(NODE_DROPOUT)(nodes), [edges], len(facts["neighbours"]), units)
    return keras.Model(around, x[:, 0], name=name)


def build_network_of_graph(name: str, graph, facts: Mapping[str, Any], *, blocks: int = NODE_BLOCKS, units: int = NODE_UNITS):
    """A network from the numbers of nodes of one graph, which is part of it, to features of these nodes; each call passes through the whole graph.

    Args:
        name: a key of `CONVOLUTIONS`.
        graph: `tfcnn.data.graph_rows.Parts` of the graph.
        facts: of its data.
        blocks: graph convolutions one behind the other; each is a stage.
        units: features of a node behind each.

    Returns:
        A `keras.Model` with random weights: int32 (batch, 1) in, features (batch, units) out.

    Source: Kipf & Welling 2017, section 3.1, for the two layers; section 5.2 for the dropout, and for the penalty on matrices.
    """
    number = keras.Input((1,), dtype="int32", name="node")
    layer = WholeGraph(graph.nodes.shape, graph.edges.shape[1], weighted=graph.weights is not None,
                       numbers=int(np.count_nonzero(graph.nodes)) if facts["counts"] else None, name="graph")
    nodes, *edges = layer(number)
    layer.hold(prepared(graph.nodes, facts), graph.edges, graph.weights)
    drop = SparseDropout if facts["counts"] else keras.layers.Dropout
    x = _node_blocks(name, drop(NODE_DROPOUT, name="drop")(nodes), edges, blocks, units)
    return keras.Model(number, NodesOf(name="nodes")([x, number]), name=name)


def is_of_a_graph(network) -> bool:
    """True for a network that passes through its whole graph."""
    return any(isinstance(layer, WholeGraph) for layer in every_layer(network))


@keras.saving.register_keras_serializable("tfcnn")
class WholeGraph(keras.layers.Layer):
    """A graph as constants of a network: gives features (n, f), edges int32 (2, e), and weights (e,) if it has any, whatever it gets.

    Args:
        features: (n, f).
        edges: e.
        weighted: whether edges have weights.
        numbers: of sparse features how many are not 0; they are given as a `tf.SparseTensor` then. None for dense ones.
    """

    def __init__(self, features: Sequence[int], edges: int, *, weighted: bool = False, numbers: int | None = None, **kwargs):
        super().__init__(trainable=False, **{name: value for name, value in kwargs.items() if name != "trainable"})
        self.features, self.edge_count, self.weighted, self.numbers = tuple(features), edges, weighted, numbers

    def build(self, shape):
        of = lambda name, shape, dtype="float32": self.add_weight(shape=shape, dtype=dtype, initializer="zeros", trainable=False, name=name)
        self.places = None if self.numbers is None else of("places", (self.numbers, 2), "int32")
        self.values = of("features", self.features if self.numbers is None else (self.numbers,))
        self.edges = of("edges", (2, self.edge_count), "int32")
        self.edge_weights = of("edge_weights", (self.edge_count,)) if self.weighted else None

    def hold(self, nodes: np.ndarray, edges: np.ndarray, weights: np.ndarray | None) -> None:
        """Takes the graph, with features as networks get them."""
        if self.places is not None:
            places = np.stack(np.nonzero(nodes), axis=1)
            self.places.assign(places.astype(np.int32))
            nodes = nodes[places[:, 0], places[:, 1]]
        self.values.assign(nodes)
        self.edges.assign(edges)
        if self.edge_weights is not None:
            self.edge_weights.assign(weights)

    def call(self, inputs):
        given = [part.value for part in (self.values, self.edges, self.edge_weights) if part is not None]
        if self.places is not None:
            import tensorflow as tf

            given[0] = tf.SparseTensor(tf.cast(self.places.value, tf.int64), given[0], self.features)
        return given

    def compute_output_spec(self, inputs):
        weights = [keras.KerasTensor((self.edge_count,), "float32")] if self.weighted else []
        return [keras.KerasTensor(self.features, "float32", sparse=self.numbers is not None), keras.KerasTensor((2, self.edge_count), "int32"), *weights]

    def get_config(self):
        return {**super().get_config(), "features": self.features, "edges": self.edge_count, "weighted": self.weighted, "numbers": self.numbers}


@keras.saving.register_keras_serializable("tfcnn")
class NodesOf(keras.layers.Layer):
    """Takes [features (n, f), numbers int (batch, 1)], gives the features of these nodes (batch, f)."""

    def call(self, inputs):
        return keras.ops.take(inputs[0], inputs[1][:, 0], axis=0)

    def compute_output_shape(self, shapes):
        return (shapes[1][0], shapes[0][-1])


def prepared(nodes: np.ndarray, facts: Mapping[str, Any]) -> np.ndarray:
    """Features as a network gets them: what `split_row` does in the network."""
    if facts["counts"]:
        return nodes / np.maximum(nodes.sum(axis=-1, keepdims=True), LEAST_SUM)
    return ((nodes - np.array(facts["mean"])) / np.sqrt(facts["variance"])).astype(np.float32)


def _penalty():
    return keras.regularizers.L2(NODE_PENALTY)


def _node_blocks(name: str, x, edges: Sequence, blocks: int, units: int):
    """Blocks of a graph convolution and, but for the last, ReLU and dropout."""
    for number in range(1, blocks + 1):
        names = ("nodes", "edges", "weights")[:1 + len(edges)]
        given = [keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, sparse=getattr(tensor, "sparse", False), name=said)
                 for tensor, said in zip([x, *edges], names, strict=True)]
        y = CONVOLUTIONS[name].layer(units, kernel_regularizer=_penalty())(given)
        if number < blocks:
            y = keras.layers.Dropout(NODE_DROPOUT)(keras.layers.ReLU()(y))
        x = keras.Model(given, y, name=f"block{number}")([x, *edges])
    return x


def split_row(graph, facts: Mapping[str, Any]):
    """(standardised features (batch, n, features), mask (batch, n), edges (batch, n, n)) of rows of graphs."""
    features = facts["features"]
    nodes = graph[..., :features]
    if facts["counts"]:
        nodes = nodes / keras.ops.maximum(keras.ops.sum(nodes, axis=-1, keepdims=True), LEAST_SUM)
    else:
        nodes = keras.layers.Normalization(mean=facts["mean"], variance=facts["variance"], name="standardise")(nodes)
    return nodes, graph[..., features], graph[..., features + 1:]


def _block(name: str, row: Convolution, x, edges, there, units: int):
    """A graph convolution, BatchNorm over nodes that are there, ReLU; as one layer, which is a stage of a network."""
    given = [keras.Input(tensor.shape[1:], name=said) for tensor, said in ((x, "nodes"), (edges, "edges"), (there, "there"))]
    y = row.layer(units)(given[:2])
    y = keras.layers.BatchNormalization(momentum=MOMENTUM)(y, mask=keras.ops.greater(given[2], 0.5))
    return keras.Model(given, keras.layers.ReLU()(y), name=name)([x, edges, there])
