"""Edges of graphs in two forms, dense and sparse, with what a graph convolution asks of them: sums, maxima and attention over the edges to each node."""

import keras

BLOCK = 1 << 20  # edges whose messages are in memory together, where they are written down
LOWEST = -1e30  # in place of what is not there, under a maximum


class DenseEdges:
    """Edges (batch, n, n)."""

    def __init__(self, adjacency):
        self.adjacency = adjacency

    def degrees(self, dtype):
        """(batch, n): the sums of the weights of the edges to each node."""
        return keras.ops.sum(keras.ops.cast(self.adjacency, dtype), axis=-1)

    def sum_of(self, x):
        """(batch, n, features): for each node the sum over its neighbours."""
        return keras.ops.matmul(keras.ops.cast(self.adjacency, x.dtype), x)

    def max_of(self, x):
        """(batch, n, features): for each node the largest of its neighbours, 0 without any."""
        there = self.adjacency[..., None] > 0                                          # (batch, n, n, 1)
        largest = keras.ops.max(keras.ops.where(there, x[:, None], LOWEST), axis=2)
        return keras.ops.where(keras.ops.any(there, axis=2), largest, 0.0)

    def of_pairs(self, targets, sources, function):
        """(batch, n, n, heads): a function of each target and each source."""
        return function(targets[:, :, None], sources[:, None])

    def attended(self, scores, x, drop):
        """(batch, n, heads, units): sources by a softmax of scores over the edges to each node and one from the node to itself."""
        count = self.adjacency.shape[1]
        own = keras.ops.eye(count, dtype=x.dtype)
        weights = (keras.ops.cast(self.adjacency, x.dtype) * (1 - own) + own)[..., None]
        scores = keras.ops.where(weights > 0, scores, LOWEST)
        shares = weights * keras.ops.exp(scores - keras.ops.stop_gradient(keras.ops.max(scores, axis=2, keepdims=True)))
        shares = drop(shares / keras.ops.sum(shares, axis=2, keepdims=True))           # (batch, n, n, heads)
        return keras.ops.transpose(keras.ops.matmul(keras.ops.transpose(shares, (0, 3, 1, 2)), keras.ops.transpose(x, (0, 2, 1, 3))), (0, 2, 1, 3))


class SparseEdges:
    """Edges (2, e) with weights (e,) or None."""

    def __init__(self, edges, weights=None, *, nodes):
        self.sources, self.targets, self.weights, self.nodes = edges[0], edges[1], weights, nodes

    def degrees(self, dtype):
        ones = keras.ops.ones_like(self.targets, dtype=dtype) if self.weights is None else keras.ops.cast(self.weights, dtype)
        return segment_sum(ones, self.targets, self.nodes)

    def sum_of(self, x):
        return propagated(x, self.sources, self.targets, self.weights, self.nodes)

    def max_of(self, x):
        messages = keras.ops.take(x, self.sources, axis=0)
        if self.weights is not None:
            messages = keras.ops.where(self.weights[:, None] > 0, messages, LOWEST)
        largest = keras.ops.segment_max(messages, self.targets, num_segments=self.nodes)
        return keras.ops.where(largest > LOWEST / 2, largest, 0.0)

    def of_pairs(self, targets, sources, function):
        """(e + n, heads): of each edge, then of each node with itself."""
        pairs = function(keras.ops.take(targets, self.targets, axis=0), keras.ops.take(sources, self.sources, axis=0))
        return keras.ops.concatenate([pairs, function(targets, sources)], axis=0)

    def attended(self, scores, x, drop):
        own = keras.ops.arange(self.nodes, dtype=self.targets.dtype)
        sources, targets = (keras.ops.concatenate([ends, own]) for ends in (self.sources, self.targets))
        weights = keras.ops.cast(self.sources != self.targets, x.dtype)                 # an edge from a node to itself is counted once
        weights = weights if self.weights is None else weights * keras.ops.cast(self.weights, x.dtype)
        weights = keras.ops.concatenate([weights, keras.ops.ones_like(own, dtype=x.dtype)])[:, None]
        scores = keras.ops.where(weights > 0, scores, LOWEST)
        top = keras.ops.stop_gradient(keras.ops.segment_max(scores, targets, num_segments=self.nodes))
        shares = weights * keras.ops.exp(scores - keras.ops.take(top, targets, axis=0))
        shares = drop(shares / keras.ops.take(segment_sum(shares, targets, self.nodes), targets, axis=0))
        return segment_sum(shares[..., None] * keras.ops.take(x, sources, axis=0), targets, self.nodes)


def times(nodes, kernel):
    """The product of features and a matrix; of sparse features as a sum over their numbers, of which each leads from a row of the matrix to a node."""
    if not hasattr(nodes, "indices"):
        return keras.ops.matmul(nodes, kernel)
    return propagated(keras.ops.convert_to_tensor(kernel), nodes.indices[:, 1], nodes.indices[:, 0], nodes.values, nodes.shape[0])


def segment_sum(values, segments, count):
    return keras.ops.segment_sum(values, segments, num_segments=count)


def propagated(x, sources, targets, weights, count):
    """(n, features): for each node the sum over the edges to it. Its gradient is the same with edges turned round; that of weights takes a message for each
    edge, where it is asked for."""
    forward, backward = (_csr_product, _csr_product_back) if keras.backend.backend() == "tensorflow" else (_in_blocks, _in_blocks_back)

    @keras.ops.custom_gradient
    def summed(x, *weights):
        given = weights[0] if weights else None

        def gradient(*upstream, **named):
            upstream = upstream[0] if upstream else named["upstream"]
            of_x = backward(upstream, sources, targets, given, keras.ops.shape(x)[0])
            if given is None:
                return of_x
            return of_x, keras.ops.sum(keras.ops.take(upstream, targets, axis=0) * keras.ops.take(x, sources, axis=0), axis=-1)

        return forward(x, sources, targets, given, count), gradient

    return summed(x) if weights is None else summed(x, keras.ops.cast(weights, x.dtype))


def _csr_product(x, sources, targets, weights, count):
    """By TensorFlow's product of a matrix in compressed rows, for which no message of an edge has to be written down: ten times as fast as segment sums."""
    import tensorflow as tf

    return _of_csr(x, sources, targets, weights, tf.stack([count, tf.shape(x)[0]]), turned=False)


def _csr_product_back(upstream, sources, targets, weights, count):
    """By the transposed product of the same rows: with edges turned round they would have to be sorted anew, which took twice as long as all of this."""
    import tensorflow as tf

    return _of_csr(upstream, sources, targets, weights, tf.stack([tf.shape(upstream)[0], count]), turned=True)


def _of_csr(x, sources, targets, weights, shape, *, turned: bool):
    import tensorflow as tf

    dtype = x.dtype
    x = x if dtype in (tf.float32, tf.float64) else tf.cast(x, tf.float32)  # it knows no 16 bits
    weights = tf.ones_like(targets, x.dtype) if weights is None else tf.cast(weights, x.dtype)
    in_order = tf.reduce_all(targets[1:] >= targets[:-1])

    def ordered():
        order = tf.argsort(targets)
        return tf.gather(sources, order), tf.gather(targets, order), tf.gather(weights, order)

    sources, targets, weights = tf.cond(in_order, lambda: (sources, targets, weights), ordered)
    places = tf.cast(tf.stack([targets, sources], axis=1), tf.int64)
    matrix = tf.raw_ops.SparseTensorToCSRSparseMatrix(indices=places, values=weights, dense_shape=tf.cast(shape, tf.int64))
    product = tf.raw_ops.SparseMatrixMatMul(a=matrix, b=x, transpose_a=turned)
    return tf.cast(tf.ensure_shape(product, (None, x.shape[-1])), dtype)


def _in_blocks_back(upstream, sources, targets, weights, count):
    return _in_blocks(upstream, targets, sources, weights, count)


def _in_blocks(x, sources, targets, weights, count):
    """By segment sums, of blocks of edges, whose messages are in memory together."""
    def sum_of(start, stop):
        messages = keras.ops.take(x, sources[start:stop], axis=0)
        if weights is not None:
            messages = messages * keras.ops.cast(weights[start:stop], x.dtype)[:, None]
        return segment_sum(messages, targets[start:stop], count)

    edges = sources.shape[0]
    if edges is not None and edges <= BLOCK:
        return sum_of(0, edges)
    edges = keras.ops.shape(sources)[0]
    _, total = keras.ops.while_loop(lambda start, total: start < edges, lambda start, total: (start + BLOCK, total + sum_of(start, start + BLOCK)),
                                    (0, keras.ops.zeros((count, x.shape[-1]), x.dtype)))
    return total
