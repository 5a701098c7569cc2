"""The forward pass over many photos, the same for features, validation, evaluation and exports."""

from collections.abc import Callable

import numpy as np

BATCH = 32  # fixed: the result of a convolution may depend on the batch size in its last bits


def forward(network, inputs, rows: np.ndarray | None = None, *, advance: Callable | None = None, run: Callable | None = None) -> np.ndarray:
    """What a network gives for photos, in inference mode.

    Batches have a fixed size (a short last one is filled up and cut), so that a photo gives the same numbers whatever
    photos it is read with; on some processors but for the last bit, which depends on its place in the batch.

    Args:
        network: a `keras.Model` of pixels 0-255.
        inputs: photos (n, height, width, channels), an array or anything that is indexed like one by row numbers.
        rows: which of them, in which order; all if None.
        advance: called with the number of photos after each batch.
        run: from `traced`, where the same network is run again and again: it is traced once.

    Returns:
        float32 (len(rows), ...).
    """
    rows = np.arange(len(inputs)) if rows is None else rows
    run, shape, outputs = run or traced(network), (BATCH, *network.input_shape[1:]), []
    for start in range(0, len(rows), BATCH):
        batch = rows[start:start + BATCH]
        pixels = np.zeros(shape, np.float32)
        pixels[:len(batch)] = inputs[batch]
        outputs.append(run(pixels).numpy()[:len(batch)].astype(np.float32))
        if advance:
            advance(len(batch))
    return np.concatenate(outputs)


def traced(network) -> Callable:
    """The network in inference mode as a function of a batch, which sees weights that change later."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((BATCH, *network.input_shape[1:]), tf.float32)])
    def run(pixels):
        return network(pixels, training=False)

    return run
