"""Which nodes and edges of a graph decided, by leaving each out."""

import numpy as np

from tfcnn.data.graph_rows import parts_of_row
from tfcnn.evaluation.inside import call_of, check_targets

BATCH = 32
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
        variants = [row, *(_without(row, features, ends) for ends in left_out)]
        logits = np.concatenate([run(np.stack(variants[start:start + BATCH])).numpy()[:, target] for start in range(0, len(variants), BATCH)])
        for ends, logit in zip(left_out, logits[1:], strict=True):
            for place in [(ends[0], 0)] if len(ends) == 1 else [(ends[0], 1 + ends[1]), (ends[1], 1 + ends[0])]:
                written[place] = logits[0] - logit
        for part in (written[:, :1], written[:, 1:]):
            part /= max(np.abs(part).max(), np.finfo(np.float32).tiny)
    return heat


def _without(row: np.ndarray, features: int, ends: tuple[int, ...]) -> np.ndarray:
    """A row without a node, or without an edge."""
    changed, edges = row.copy(), features + 1
    if len(ends) == 1:
        changed[ends[0]] = 0
        changed[:, edges + ends[0]] = 0
    else:
        changed[ends[0], edges + ends[1]] = changed[ends[1], edges + ends[0]] = 0
    return changed
