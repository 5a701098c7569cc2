"""Which nodes and edges of a graph decided, by leaving each out."""

from typing import NamedTuple

import numpy as np

from tfcnn.data.graph_rows import parts_of_row
from tfcnn.evaluation.inside import call_of, check_targets

BATCH = 32
DRAWN = 25  # nodes of a whole graph that are drawn around one
MOST = 400  # nodes and edges of a graph that are left out in turn; of a larger graph those nearest to its first node by their number


def without_nodes_and_edges(model, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """How much the logit of a label falls without a node and its edges, and without an edge: positive where it speaks for the label, negative against.

    Args:
        model: of `build_classifier`.
        inputs: (n, size, features + 1 + size), as the model gets them, see `tfcnn.data.graph_rows`.
        targets: for each the index of a label.

    Returns:
        float32 (n, size, 1 + size), of each node first its own, then those of the edges to it; those of nodes and those of edges are each divided by
        their largest absolute value, -1 to 1.

    Source: Li et al. 2016, "Understanding Neural Networks through Representation Erasure", section 3.
    """
    import keras
    import tensorflow as tf

    targets = check_targets(model, targets, len(inputs))
    network = keras.Model(model.inputs[0], call_of(model, model.get_layer("logits")).outputs[0])
    run = tf.function(lambda rows: network(rows, training=False), input_signature=[tf.TensorSpec((None, *inputs.shape[1:]), tf.float32)])
    size = inputs.shape[1]
    features = inputs.shape[2] - 1 - size
    heat = np.zeros((len(inputs), size, 1 + size), np.float32)
    for row, target, written in zip(inputs, targets, heat, strict=True):
        parts = parts_of_row(row, features)
        once = [(int(source), int(to)) for source, to in parts.edges.T if source < to]
        left_out = [*((node,) for node in range(len(parts.nodes))), *once][:MOST]
        variants = [(), *left_out]  # written out a batch at a time: a row may be large
        batches = (variants[start:start + BATCH] for start in range(0, len(variants), BATCH))
        logits = np.concatenate([run(np.stack([_without(row, features, ends) for ends in part])).numpy()[:, target] for part in batches])
        for ends, logit in zip(left_out, logits[1:], strict=True):
            for place in [(ends[0], 0)] if len(ends) == 1 else [(ends[0], 1 + ends[1]), (ends[1], 1 + ends[0])]:
                written[place] = logits[0] - logit
        _scaled(written)
    return heat


def around_nodes(model, inputs: np.ndarray, targets: np.ndarray):
    """What counts around nodes of one graph.

    Of rows that hold neighbourhoods as `without_nodes_and_edges`. Of the graph that is part of a network by gradients, since a pass through all of it for each
    node and edge would take long: an edge counts what the gradient with respect to its weight says of its loss, a node the sum over its features of gradient
    times feature.

    Args:
        model: of `build_classifier`.
        inputs: (n, size, features + 1 + size), or int32 (n, 1).
        targets: for each the index of a label.

    Returns:
        For each what `tfcnn.evaluation.draw_graph.draw_node` draws: float32 (size, 1 + size), or `Around`.

    Source: Simonyan et al. 2014, "Deep Inside Convolutional Networks", section 3.
    """
    if inputs.ndim == 3:
        return without_nodes_and_edges(model, inputs, targets)
    targets = check_targets(model, targets, len(inputs))
    gradients = _gradients_of_graph(model)
    return [_strongest(int(number[0]), *gradients(int(number[0]), int(target))) for number, target in zip(inputs, targets, strict=True)]


class Around(NamedTuple):
    """The nodes of a whole graph that count most for one of them, which is the first: their numbers, edges among them int (2, e) by their places here, and
    float32 (n, 1 + n) as `without_nodes_and_edges` gives it."""

    numbers: np.ndarray
    edges: np.ndarray
    heat: np.ndarray


def _gradients_of_graph(model):
    """A function of (number of a node, target) that gives (edges (2, e), what each node counts (n,), what each edge counts (e,))."""
    import keras
    import tensorflow as tf

    from tfcnn.models.freeze import every_layer
    from tfcnn.models.graph import GraphLayer
    from tfcnn.models.graph_edges import SparseEdges
    from tfcnn.models.graph_networks import WholeGraph

    layers = every_layer(model.get_layer("backbone"))
    graph = next(layer for layer in layers if isinstance(layer, WholeGraph))
    convolutions = [layer for layer in layers if isinstance(layer, GraphLayer)]
    head = keras.Model(model.get_layer("pooling").output, call_of(model, model.get_layer("logits")).outputs[0])
    nodes, edges, *weights = graph(tf.zeros((1, 1), tf.int32))
    weights = tf.convert_to_tensor(weights[0]) if weights else tf.ones(edges.shape[1:])
    values = tf.convert_to_tensor(nodes.values if isinstance(nodes, tf.SparseTensor) else nodes)

    @tf.function
    def run(number, target):
        with tf.GradientTape() as tape:
            tape.watch([values, weights])
            x = tf.SparseTensor(nodes.indices, values, nodes.dense_shape) if isinstance(nodes, tf.SparseTensor) else values
            for place, layer in enumerate(convolutions):
                x = layer.mixed(x, SparseEdges(edges, weights, nodes=graph.features[0]))
                x = x if place == len(convolutions) - 1 else tf.nn.relu(x)
            logit = head(x[number][None], training=False)[0, target]
        of_values, of_weights = tape.gradient(logit, [values, weights])
        of_nodes = of_values * values
        if isinstance(nodes, tf.SparseTensor):
            of_nodes = tf.math.unsorted_segment_sum(of_nodes, nodes.indices[:, 0], graph.features[0])
        else:
            of_nodes = tf.reduce_sum(of_nodes, axis=1)
        return of_nodes, of_weights * weights

    return lambda number, target: (edges.numpy(), *(part.numpy() for part in run(tf.constant(number), tf.constant(target))))


def _strongest(number: int, edges: np.ndarray, of_nodes: np.ndarray, of_edges: np.ndarray) -> Around:
    """The node, and those that count most by themselves or by an edge."""
    counts = np.abs(of_nodes)
    np.maximum.at(counts, edges[0], np.abs(of_edges))
    counts[number] = np.inf
    chosen = [node for node in np.argsort(-counts, kind="stable")[:DRAWN].tolist() if counts[node] > 0]
    place = np.full(len(of_nodes), -1)
    place[chosen] = np.arange(len(chosen))
    sources, targets = place[edges]
    inside = (sources >= 0) & (targets >= 0)
    heat = np.zeros((len(chosen), 1 + len(chosen)), np.float32)
    heat[:, 0] = of_nodes[chosen]
    for source, target, amount in zip(sources[inside], targets[inside], of_edges[inside], strict=True):  # an edge is both of its directions
        heat[target, 1 + source] += amount
        heat[source, 1 + target] += amount
    return Around(np.array(chosen), np.stack([sources[inside], targets[inside]]), _scaled(heat))


def _scaled(heat: np.ndarray) -> np.ndarray:
    """Nodes and edges each divided by their largest absolute value."""
    for part in (heat[:, :1], heat[:, 1:]):
        part /= max(np.abs(part).max(initial=0), np.finfo(np.float32).tiny)
    return heat


def _without(row: np.ndarray, features: int, ends: tuple[int, ...]) -> np.ndarray:
    """A row without a node, or without an edge; () leaves nothing out."""
    changed, edges = row.copy(), features + 1
    if len(ends) == 1:
        changed[ends[0]] = 0
        changed[:, edges + ends[0]] = 0
    elif ends:
        changed[ends[0], edges + ends[1]] = changed[ends[1], edges + ends[0]] = 0
    return changed
