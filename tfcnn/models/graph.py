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

from tfcnn.errors import InputError, closest
from tfcnn.models.graph_edges import LOWEST, DenseEdges, SparseEdges, segment_sum, times

AGGREGATORS = ("mean", "max")
POOLINGS = ("sum", "mean", "max", "attention")
SLOPE = 0.2  # of LeakyReLU below zero: Velickovic et al. 2018, section 3.3


class GraphLayer(keras.layers.Layer):
    """What graph convolutions have in common: they take [nodes, edges] or [nodes, edges, weights] and give nodes of `units` features.

    On TensorFlow the nodes of the sparse form may be a `tf.SparseTensor`.

    A layer makes its weights in `_build_weights(features)` and gives what nodes become, before bias and activation, by `_mixed(nodes, edges)`.

    Args:
        units: features of a node behind it.
        activation: a name of Keras, or a function; None for none.
        use_bias: whether a number is added to each feature.
        kernel_regularizer: of all matrices, as in layers of Keras; None for none.
    """

    def __init__(self, units: int, activation=None, use_bias: bool = True, kernel_regularizer=None, **kwargs):
        super().__init__(**kwargs)
        self.units, self.activation, self.use_bias = units, keras.activations.get(activation), use_bias
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.supports_masking = True  # that of BatchNorm before it ends here: what is padding has no edges

    def build(self, shapes):
        self._build_weights(shapes[0][-1])
        if self.use_bias:
            self.bias = self.add_weight(shape=(self._width(),), initializer="zeros", name="bias")

    def call(self, inputs):
        nodes, edges, *weights = inputs
        return self.mixed(nodes, DenseEdges(edges) if len(edges.shape) == 3 else SparseEdges(edges, *weights, nodes=keras.ops.shape(nodes)[0]))

    def mixed(self, nodes, edges):
        """What nodes become by edges, a `DenseEdges` or `SparseEdges`."""
        x = self._mixed(nodes, edges)
        return self.activation(x + self.bias if self.use_bias else x)

    def compute_mask(self, inputs, previous_mask=None):
        return None

    def compute_output_shape(self, shapes):
        return (*shapes[0][:-1], self._width())

    def get_config(self):
        return {**super().get_config(), "units": self.units, "activation": keras.activations.serialize(self.activation), "use_bias": self.use_bias,
                "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer)}

    def _width(self) -> int:
        return self.units

    def _kernel(self, name: str, *shape: int):
        return self.add_weight(shape=shape, initializer="glorot_uniform", regularizer=self.kernel_regularizer, name=name)


@keras.saving.register_keras_serializable("tfcnn")
class GCNConv(GraphLayer):
    """The mean-like sum of Kipf & Welling 2017, "Semi-Supervised Classification with Graph Convolutional Networks", equation 2.

    D^-1/2 (A + I) D^-1/2 X W, with D the sums of the rows of A + I. Edges are those of an undirected graph, each in both directions.
    """

    def _build_weights(self, features: int) -> None:
        self.kernel = self._kernel("kernel", features, self.units)

    def _mixed(self, nodes, edges):
        x = times(nodes, self.kernel)
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
        own = times(nodes, self.kernel)
        if self.aggregator == "max":
            near = edges.max_of(keras.ops.relu(times(nodes, self.pool_kernel) + self.pool_bias))
            return own + keras.ops.matmul(near, self.neighbour_kernel)
        degrees = edges.degrees(own.dtype)[..., None]
        total = edges.sum_of(times(nodes, self.neighbour_kernel))  # a mean is linear: products before it are mostly the shorter ones
        return own + total / keras.ops.where(degrees > 0, degrees, 1)

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
        x = times(nodes, self.hidden_kernel)  # before the sum, which is linear: then nodes may be sparse
        x = (1 + self.own) * x + edges.sum_of(x)
        return keras.ops.matmul(keras.ops.relu(x + self.hidden_bias), self.kernel)

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
        self.drop = keras.layers.Dropout(dropout, dtype=self.dtype_policy)

    def _build_weights(self, features: int) -> None:
        self.kernel = self._kernel("kernel", features, self.heads * self.units)
        self.to_target, self.to_source = self._kernel("to_target", self.heads, self.units), self._kernel("to_source", self.heads, self.units)

    def _mixed(self, nodes, edges):
        x = self._in_heads(times(nodes, self.kernel))                       # (..., n, heads, units)
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
        sources, targets = (self._in_heads(times(nodes, kernel)) for kernel in (self.kernel, self.target_kernel))
        score = lambda target, source: keras.ops.sum(keras.ops.leaky_relu(target + source, SLOPE) * self.attention, axis=-1)
        return self._of_heads(edges.attended(edges.of_pairs(targets, sources, score), sources, self.drop))


@keras.saving.register_keras_serializable("tfcnn")
class SparseDropout(keras.layers.Dropout):
    """Dropout of sparse features: of the numbers that are not 0."""

    def call(self, inputs, training=False):
        import tensorflow as tf

        return tf.SparseTensor(inputs.indices, super().call(inputs.values, training=training), inputs.dense_shape)

    def compute_output_spec(self, inputs, training=False):
        return keras.KerasTensor(inputs.shape, inputs.dtype, sparse=True)


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
        self.mode, self.supports_masking = mode, True

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

    def compute_mask(self, inputs, previous_mask=None):
        return None

    def compute_output_shape(self, shapes):
        return (shapes[0][0] if len(shapes[0]) == 3 else None, shapes[0][-1])

    def get_config(self):
        return {**super().get_config(), "mode": self.mode}


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
    total = segment_sum(nodes, graph, count)
    if mode != "mean":
        return total
    return total / keras.ops.maximum(segment_sum(keras.ops.ones_like(graph, dtype=nodes.dtype), graph, count), 1)[:, None]


def _check(value: str, known: Sequence[str], what: str) -> None:
    if value not in known:
        raise InputError(f"expected {what}, got '{value}'; {closest(value, known)}")
