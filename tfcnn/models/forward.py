"""The forward pass over many photos, the same for features, validation, evaluation and exports."""

import math
from collections.abc import Callable

import numpy as np

from tfcnn.workers import count_of, index_of, sum_of

BATCH = 32  # fixed: the result of a convolution may depend on the batch size in its last bits
NODES = 4096  # of a network that passes through its whole graph for each batch
FRAMES = 512  # of a batch at most, where a backbone of photos takes the frames of its examples


def forward(network, inputs, rows: np.ndarray | None = None, *, advance: Callable | None = None, run: Callable | None = None, strategy=None) -> np.ndarray:
    """What a network gives for photos, in inference mode.

    Batches have a fixed size (a short last one is filled up and cut), so that a photo gives the same numbers whatever
    photos it is read with; on some processors but for the last bit, which depends on its place in the batch. Several replicas
    take these batches in turn, so the numbers are the same on any number of them.

    Args:
        network: a `keras.Model` of pixels 0-255, or of whatever its data is.
        inputs: photos (n, height, width, channels), an array or anything that is indexed like one by row numbers, with a shape.
        rows: which of them, in which order; all if None.
        advance: called with the number of photos after each batch.
        run: from `traced`, where the same network is run again and again: it is traced once.
        strategy: a `tf.distribute.Strategy` that the network was made in the scope of, to use all its replicas; its workers have to
            call this together, each reads its share of the photos, and all have the result.

    Returns:
        float32 (len(rows), ...).
    """
    rows, size = np.arange(len(inputs)) if rows is None else rows, batch_of(network)
    outputs = np.zeros((len(rows), *network.output_shape[1:]), np.float32)
    run, shape = run or traced(network, strategy), (size, *inputs.shape[1:])
    own = range(size * index_of(strategy), len(rows), size * count_of(strategy))
    here = _replicas_here(strategy)
    for first in range(0, len(own), here):
        starts, batches = own[first:first + here], []
        for start in starts:
            pixels = np.zeros(shape, network.inputs[0].dtype)
            pixels[:len(rows) - start] = inputs[rows[start:start + size]]
            batches.append(pixels)
        for start, result in zip(starts, run(batches), strict=False):  # a replica without a batch got the first one again
            outputs[start:start + size] = result.numpy()[:len(rows) - start]
            if advance:
                advance(min(size, len(rows) - start))
    return sum_of(strategy, outputs)


def batch_of(network) -> int:
    """Examples in a batch: fewer where a backbone of photos takes each of their frames."""
    from tfcnn.models.frames import folds_of
    from tfcnn.models.graph_networks import is_of_a_graph

    if is_of_a_graph(network):
        return NODES
    return max(1, min(BATCH, FRAMES // math.prod(fold.parts for fold in folds_of(network))))


def traced(network, strategy=None) -> Callable:
    """The network in inference mode as a function of batches, one for each replica here at most, which sees weights that change later."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((batch_of(network), *network.input_shape[1:]), network.inputs[0].dtype)])
    def run_one(pixels):
        return network(pixels, training=False)

    here = _replicas_here(strategy)
    if here == 1:
        traced_once = run_one.get_concrete_function()  # TensorFlow warns of retracing where calls of functions like this one come one after the other
        return lambda batches: [traced_once(tf.constant(batches[0]))]

    run_each = tf.function(lambda pixels: strategy.run(lambda own: network(own, training=False), args=(pixels,)))

    def run_all(batches):
        of_replica = lambda context: tf.constant(batches[context.replica_id_in_sync_group % here % len(batches)])
        return strategy.experimental_local_results(run_each(strategy.experimental_distribute_values_from_function(of_replica)))

    return run_all


def _replicas_here(strategy) -> int:
    return strategy.num_replicas_in_sync // count_of(strategy) if strategy else 1
