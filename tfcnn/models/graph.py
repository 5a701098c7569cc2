"""Graph convolutions: layers that mix the features of each node with those of the nodes that have an edge to it, in two forms of one interface.

Dense, for many small graphs, exported with the operators that every converter has: nodes (batch, n, features) and edges (batch, n, n), in which
[i, j] is the weight of the edge from node j to node i, 0 where there is none. A padded node has no edges; what it gives is left out by a mask where
graphs are pooled, and reaches no other node.

Sparse, for one large graph: nodes (n, features) and edges int (2, e), the sources above the targets, with weights (e,) or without. Time and
memory grow with nodes and edges.

In both, edges that are there twice count twice, and a weight is what an edge counts; weights are not learned.
"""

from collections.abc import Sequence

import keras

AGGREGATORS = ("mean", "max")
POOLINGS = ("sum", "mean", "max", "attention")
BLOCK = 1 << 20  # edges whose messages are in memory together
SLOPE = 0.2  # of LeakyReLU below zero: Velickovic et al. 2018, section 3.3
LOWEST = -1e30  # in place of what is not there, under a maximum


class GraphLayer(keras.layers.Layer):
    """What graph convolutions have in common: they take [nodes, edges] or [nodes, edges, weights] and give nodes of `units` features.

    Args:
        units: features of a node behind it.
        activation: a name of Keras, or a function; None for none.
        use_bias: whether a number is added to each feature.
    """

    def __init__(self, units: int, activation=None, use_bias: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.units, self.activation, self.use_bias = units, keras.activations.get(activation), use_bias

    def build(self, shapes):
        self._build_weights(shapes[0][-1])
        if self.use_bias:
            self.bias = self.add_weight(shape=(self._width(),), initializer="zeros", name="bias")

    def call(self, inputs):
        nodes, edges, *weights = inputs
        x = self._mixed(nodes, _DenseEdges(edges) if len(edges.shape) == 3 else _SparseEdges(edges, *weights, nodes=keras.ops.shape(nodes)[0]))
        return self.activation(x + self.bias if self.use_bias else x)

    def compute_output_shape(self, shapes):
        return (*shapes[0][:-1], self._width())

    def get_config(self):
        return {**super().get_config(), "units": self.units, "activation": keras.activations.serialize(self.activation), "use_bias": self.use_bias}

    def _width(self) -> int:
        return self.units

    def _kernel(self, name: str, *shape: int):
        return self.add_weight(shape=shape, initializer="glorot_uniform", name=name)

    def _build_weights(self, features: int) -> None:
        raise NotImplementedError

    def _mixed(self, nodes, edges):
        raise NotImplementedError


@keras.saving.register_keras_serializable("tfcnn")
class GCNConv(GraphLayer):
    """The mean-like sum of Kipf & Welling 2017, "Semi-Supervised Classification with Graph Convolutional Networks", equation 2.

    D^-1/2 (A + I) D^-1/2 X W, with D the sums of the rows of A + I. Edges are those of an undirected graph, each in both directions.
    """

    def _build_weights(self, features: int) -> None:
        self.kernel = self._kernel("kernel", features, self.units)

    def _mixed(self, nodes, edges):
        x = keras.ops.matmul(nodes, self.kernel)
        scale = keras.ops.rsqrt(edges.degrees(x.dtype) + 1)[..., None]                 # (..., n, 1)
        x = x * scale
        return (edges.sum_of(x) + x) * scale


@keras.saving.register_keras_serializable("tfcnn")
class SAGEConv(GraphLayer):
    """A node's own features and those of its neighbours, each with weights of their own: Hamilton et al. 2017, "Inductive Representation
    Learning on Large Graphs", algorithm 1 and section 3.3.

    Args:
        aggregator: "mean" of the neighbours, or "max" of relu(W x + b) of them (equation 3).
        normalize: whether nodes are divided by their length, as in line 7 of the algorithm.
    """

    def __init__(self, units: int, activation=None, use_bias: bool = True, aggregator: str = "mean", normalize: bool = False, **kwargs):
        super().__init__(units, activation, use_bias, **kwargs)
        _check(aggregator, AGGREGATORS, "an aggregator")
        self.aggregator, self.normalize = aggregator, normalize

    def _build_weights(self, features: int) -> None:
        self.kernel, self.neighbour_kernel = self._kernel("kernel", features, self.units), self._kernel("neighbour_kernel", features, self.units)
        if self.aggregator == "max":
            self.pool_kernel = self._kernel("pool_kernel", features, features)
            self.pool_bias = self.add_weight(shape=(features,), initializer="zeros", name="pool_bias")

    def _mixed(self, nodes, edges):
        if self.aggregator == "max":
            near = edges.max_of(keras.ops.relu(keras.ops.matmul(nodes, self.pool_kernel) + self.pool_bias))
        else:
            degrees = edges.degrees(nodes.dtype)[..., None]
            near = edges.sum_of(nodes) / keras.ops.where(degrees > 0, degrees, 1)
        return keras.ops.matmul(nodes, self.kernel) + keras.ops.matmul(near, self.neighbour_kernel)

    def call(self, inputs):
        x = super().call(inputs)
        return keras.ops.normalize(x, axis=-1) if self.normalize else x

    def get_config(self):
        return {**super().get_config(), "aggregator": self.aggregator, "normalize": self.normalize}


@keras.saving.register_keras_serializable("tfcnn")
class GINConv(GraphLayer):
    """Two Dense layers on the sum of a node and its neighbours: Xu et al. 2019, "How Powerful are Graph Neural Networks?", equation 4.1.

    Args:
        hidden: units of the first of the two; `units` if None.
        epsilon: how much more the node itself counts, at the start of the training; it is learned.
    """

    def __init__(self, units: int, activation=None, use_bias: bool = True, hidden: int | None = None, epsilon: float = 0.0, **kwargs):
        super().__init__(units, activation, use_bias, **kwargs)
        self.hidden, self.epsilon = hidden or units, epsilon

    def _build_weights(self, features: int) -> None:
        self.own = self.add_weight(shape=(), initializer=keras.initializers.Constant(self.epsilon), name="epsilon")
        self.hidden_kernel, self.kernel = self._kernel("hidden_kernel", features, self.hidden), self._kernel("kernel", self.hidden, self.units)
        self.hidden_bias = self.add_weight(shape=(self.hidden,), initializer="zeros", name="hidden_bias")

    def _mixed(self, nodes, edges):
        x = (1 + self.own) * nodes + edges.sum_of(nodes)
        return keras.ops.matmul(keras.ops.relu(keras.ops.matmul(x, self.hidden_kernel) + self.hidden_bias), self.kernel)

    def get_config(self):
        return {**super().get_config(), "hidden": self.hidden, "epsilon": self.epsilon}


@keras.saving.register_keras_serializable("tfcnn")
class GATConv(GraphLayer):
    """Neighbours, and the node itself, by an attention that features decide: Velickovic et al. 2018, "Graph Attention Networks", equations 1 to 6.

    Args:
        units: features of a head.
        heads: attentions side by side.
        concat: whether their features stand beside each other (equation 5, units x heads) or are averaged (equation 6).
        dropout: share of the attention that is dropped in training.
    """

    def __init__(self, units: int, activation=None, use_bias: bool = True, heads: int = 1, concat: bool = True, dropout: float = 0.0, **kwargs):
        super().__init__(units, activation, use_bias, **kwargs)
        self.heads, self.concat, self.dropout = heads, concat, dropout
        self.drop = keras.layers.Dropout(dropout)

    def _build_weights(self, features: int) -> None:
        self.kernel = self._kernel("kernel", features, self.heads * self.units)
        self.to_target, self.to_source = self._kernel("to_target", self.heads, self.units), self._kernel("to_source", self.heads, self.units)

    def _mixed(self, nodes, edges):
        x = self._in_heads(keras.ops.matmul(nodes, self.kernel))                       # (..., n, heads, units)
        targets, sources = (keras.ops.sum(x * weight, axis=-1) for weight in (self.to_target, self.to_source))   # (..., n, heads)
        scores = edges.of_pairs(targets, sources, lambda target, source: keras.ops.leaky_relu(target + source, SLOPE))
        return self._of_heads(edges.attended(scores, x, self.drop))

    def _in_heads(self, x):
        return keras.ops.reshape(x, (-1, *x.shape[1:-1], self.heads, self.units))

    def _of_heads(self, x):
        """(..., n, heads, units) to the features of nodes."""
        return keras.ops.reshape(x, (-1, *x.shape[1:-2], self.heads * self.units)) if self.concat else keras.ops.mean(x, axis=-2)

    def _width(self) -> int:
        return self.units * self.heads if self.concat else self.units

    def get_config(self):
        return {**super().get_config(), "heads": self.heads, "concat": self.concat, "dropout": self.dropout}


@keras.saving.register_keras_serializable("tfcnn")
class GATv2Conv(GATConv):
    """As `GATConv`, with an attention that ranks neighbours differently for each node: Brody et al. 2022, "How Attentive are Graph Attention
    Networks?", equation 7. In the dense form it takes n x n x heads x units numbers."""

    def _build_weights(self, features: int) -> None:
        self.kernel, self.target_kernel = (self._kernel(name, features, self.heads * self.units) for name in ("kernel", "target_kernel"))
        self.attention = self._kernel("attention", self.heads, self.units)

    def _mixed(self, nodes, edges):
        sources, targets = (self._in_heads(keras.ops.matmul(nodes, kernel)) for kernel in (self.kernel, self.target_kernel))
        score = lambda target, source: keras.ops.sum(keras.ops.leaky_relu(target + source, SLOPE) * self.attention, axis=-1)
        return self._of_heads(edges.attended(edges.of_pairs(targets, sources, score), sources, self.drop))


@keras.saving.register_keras_serializable("tfcnn")
class GraphPooling(keras.layers.Layer):
    """The features of graphs from those of their nodes.

    Takes [nodes (batch, n, features), mask (batch, n)], in which 1 is a node and 0 is padding, or of the sparse form [nodes (n, features), graph
    int (n,)], the number of each node's graph, counted from 0. Gives (graphs, features).

    Args:
        mode: "sum", "mean", "max", or "attention": tanh of the sum of tanh(W x) by sigmoid(V x), Li et al. 2016, "Gated Graph Sequence Neural
            Networks", equation 7.
    """

    def __init__(self, mode: str = "mean", **kwargs):
        super().__init__(**kwargs)
        _check(mode, POOLINGS, "a pooling")
        self.mode = mode

    def build(self, shapes):
        if self.mode == "attention":
            features = shapes[0][-1]
            self.value, self.gate = (self.add_weight(shape=(features, features), initializer="glorot_uniform", name=name) for name in ("value", "gate"))
            self.value_bias, self.gate_bias = (self.add_weight(shape=(features,), initializer="zeros", name=f"{name}_bias") for name in ("value", "gate"))

    def call(self, inputs):
        nodes, where = inputs
        if self.mode == "attention":
            nodes = keras.ops.tanh(keras.ops.matmul(nodes, self.value) + self.value_bias) \
                * keras.ops.sigmoid(keras.ops.matmul(nodes, self.gate) + self.gate_bias)
        x = _pooled_dense(nodes, where, self.mode) if len(nodes.shape) == 3 else _pooled_sparse(nodes, where, self.mode)
        return keras.ops.tanh(x) if self.mode == "attention" else x

    def compute_output_shape(self, shapes):
        return (shapes[0][0] if len(shapes[0]) == 3 else None, shapes[0][-1])

    def get_config(self):
        return {**super().get_config(), "mode": self.mode}


class _DenseEdges:
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


class _SparseEdges:
    """Edges (2, e) with weights (e,) or None."""

    def __init__(self, edges, weights=None, *, nodes):
        self.sources, self.targets, self.weights, self.nodes = edges[0], edges[1], weights, nodes

    def degrees(self, dtype):
        ones = keras.ops.ones_like(self.targets, dtype=dtype) if self.weights is None else keras.ops.cast(self.weights, dtype)
        return _segment_sum(ones, self.targets, self.nodes)

    def sum_of(self, x):
        return _propagated(x, self.sources, self.targets, self.weights, self.nodes)

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
        shares = drop(shares / keras.ops.take(_segment_sum(shares, targets, self.nodes), targets, axis=0))
        return _segment_sum(shares[..., None] * keras.ops.take(x, sources, axis=0), targets, self.nodes)


def _segment_sum(values, segments, count):
    return keras.ops.segment_sum(values, segments, num_segments=count)


def _propagated(x, sources, targets, weights, count):
    """(n, features): for each node the sum over the edges to it. Its gradient is the same with edges turned round."""
    product = _csr_product if keras.backend.backend() == "tensorflow" else _in_blocks

    @keras.ops.custom_gradient
    def forward(x):
        def backward(*upstream, **named):
            return product(upstream[0] if upstream else named["upstream"], targets, sources, weights, keras.ops.shape(x)[0])

        return product(x, sources, targets, weights, count), backward

    return forward(x)


def _csr_product(x, sources, targets, weights, count):
    """By TensorFlow's product of a matrix in compressed rows, for which no message of an edge has to be written down: ten times as fast as segment sums."""
    import tensorflow as tf

    weights = tf.ones_like(targets, x.dtype) if weights is None else tf.cast(weights, x.dtype)
    in_order = tf.reduce_all(targets[1:] >= targets[:-1])

    def ordered():
        order = tf.argsort(targets)
        return tf.gather(sources, order), tf.gather(targets, order), tf.gather(weights, order)

    sources, targets, weights = tf.cond(in_order, lambda: (sources, targets, weights), ordered)
    places = tf.cast(tf.stack([targets, sources], axis=1), tf.int64)
    shape = tf.cast(tf.stack([count, tf.shape(x)[0]]), tf.int64)
    matrix = tf.raw_ops.SparseTensorToCSRSparseMatrix(indices=places, values=weights, dense_shape=shape)
    product = tf.raw_ops.SparseMatrixMatMul(a=matrix, b=x)
    return tf.ensure_shape(product, (None, x.shape[-1]))


def _in_blocks(x, sources, targets, weights, count):
    """By segment sums, of blocks of edges, whose messages are in memory together."""
    def sum_of(start, stop):
        messages = keras.ops.take(x, sources[start:stop], axis=0)
        if weights is not None:
            messages = messages * keras.ops.cast(weights[start:stop], x.dtype)[:, None]
        return _segment_sum(messages, targets[start:stop], count)

    edges = sources.shape[0]
    if edges is not None and edges <= BLOCK:
        return sum_of(0, edges)
    edges = keras.ops.shape(sources)[0]
    _, total = keras.ops.while_loop(lambda start, total: start < edges, lambda start, total: (start + BLOCK, total + sum_of(start, start + BLOCK)),
                                    (0, keras.ops.zeros((count, x.shape[-1]), x.dtype)))
    return total


def _pooled_dense(nodes, mask, mode: str):
    there = keras.ops.cast(mask, nodes.dtype)[..., None]                               # (batch, n, 1)
    if mode == "max":
        largest = keras.ops.max(keras.ops.where(there > 0, nodes, LOWEST), axis=1)
        return keras.ops.where(keras.ops.any(there > 0, axis=1), largest, 0.0)
    total = keras.ops.sum(nodes * there, axis=1)
    return total / keras.ops.maximum(keras.ops.sum(there, axis=1), 1) if mode == "mean" else total


def _pooled_sparse(nodes, graph, mode: str):
    count = keras.ops.max(graph) + 1
    if mode == "max":
        largest = keras.ops.segment_max(nodes, graph, num_segments=count)
        return keras.ops.where(largest > LOWEST / 2, largest, 0.0)
    total = _segment_sum(nodes, graph, count)
    if mode != "mean":
        return total
    return total / keras.ops.maximum(_segment_sum(keras.ops.ones_like(graph, dtype=nodes.dtype), graph, count), 1)[:, None]


def _check(value: str, known: Sequence[str], what: str) -> None:
    from tfcnn.errors import InputError, closest

    if value not in known:
        raise InputError(f"expected {what}, got '{value}'; {closest(value, known)}")
