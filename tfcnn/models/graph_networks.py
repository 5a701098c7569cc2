"""Networks of graphs: blocks of a graph convolution with BatchNorm and ReLU, what nodes become pooled behind each block."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras

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
    return keras.Model(graph, keras.layers.Concatenate(name="readout")(read), name=name)


def split_row(graph, facts: Mapping[str, Any]):
    """(standardised features (batch, n, features), mask (batch, n), edges (batch, n, n)) of rows of graphs."""
    features = len(facts["mean"])
    nodes = keras.layers.Normalization(mean=facts["mean"], variance=facts["variance"], name="standardise")(graph[..., :features])
    return nodes, graph[..., features], graph[..., features + 1:]


def _block(name: str, row: Convolution, x, edges, there, units: int):
    """A graph convolution, BatchNorm over nodes that are there, ReLU; as one layer, which is a stage of a network."""
    given = [keras.Input(tensor.shape[1:], name=said) for tensor, said in ((x, "nodes"), (edges, "edges"), (there, "there"))]
    y = row.layer(units)(given[:2])
    y = keras.layers.BatchNormalization(momentum=MOMENTUM)(y, mask=keras.ops.greater(given[2], 0.5))
    return keras.Model(given, keras.layers.ReLU()(y), name=name)([x, edges, there])
