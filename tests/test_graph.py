"""Graph convolutions: each against plain NumPy in both forms, the order of nodes, padding, gradients, saving and TFLite."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st

import tfcnn
from tfcnn.models import graph, graph_edges
from tfcnn.models.graph import GATConv, GATv2Conv, GCNConv, GINConv, GraphPooling, SAGEConv

LAYERS = {
    "gcn": lambda: GCNConv(4),
    "sage_mean": lambda: SAGEConv(4, activation="relu"),
    "sage_max": lambda: SAGEConv(4, aggregator="max"),
    "sage_normalized": lambda: SAGEConv(4, normalize=True),
    "gin": lambda: GINConv(4, hidden=6, epsilon=0.3),
    "gat": lambda: GATConv(4, heads=3),
    "gat_mean": lambda: GATConv(4, heads=2, concat=False),
    "gat_v2": lambda: GATv2Conv(4, heads=3),
}
FEATURES = 5
graphs = st.tuples(st.integers(1, 9), st.floats(0, 1), st.integers(0, 10_000), st.booleans())  # nodes, share of the edges, seed, whether weighted


def made(nodes: int, share: float, seed: int, weighted: bool):
    """Features (n, FEATURES), and adjacency (n, n) with edges from nodes to themselves among them."""
    random = np.random.default_rng(seed)
    adjacency = (random.random((nodes, nodes)) < share).astype(np.float32)
    weights = random.uniform(0.5, 2, adjacency.shape).astype(np.float32) if weighted else 1
    return random.normal(size=(nodes, FEATURES)).astype(np.float32), adjacency * weights


def edges_of(adjacency: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    targets, sources = np.nonzero(adjacency)
    return np.stack([sources, targets]).astype(np.int32), adjacency[targets, sources]


def built(name: str):
    """A layer whose every weight is a random number."""
    layer = LAYERS[name]()
    layer.build([(None, FEATURES), (2, None)])
    random = np.random.default_rng(1)
    for weight in layer.weights:
        weight.assign(random.normal(0, 0.5, weight.shape))
    return layer


def softmax_over_neighbours(scores: np.ndarray, adjacency: np.ndarray) -> np.ndarray:
    """Rows of (n, n) that add up to one over the edges to each node, and one from itself."""
    weights = adjacency * (1 - np.eye(len(adjacency))) + np.eye(len(adjacency))
    shares = weights * np.exp(np.where(weights > 0, scores, -np.inf) - np.where(weights > 0, scores, -np.inf).max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def reference(layer, x: np.ndarray, a: np.ndarray) -> np.ndarray:
    """What the paper's equation gives, node by node, in 64 bits."""
    w = {weight.path.rpartition("/")[2]: weight.numpy().astype(np.float64) for weight in layer.weights}
    x, a, n = x.astype(np.float64), a.astype(np.float64), len(x)
    leaky = lambda values: np.where(values > 0, values, 0.2 * values)
    if isinstance(layer, GCNConv):
        own = a + np.eye(n)
        degree = own.sum(axis=1)
        return np.array([sum(own[i, j] / np.sqrt(degree[i] * degree[j]) * x[j] for j in range(n)) @ w["kernel"] for i in range(n)]) + w["bias"]
    if isinstance(layer, SAGEConv):
        rows = []
        for i in range(n):
            near = np.flatnonzero(a[i])
            if layer.aggregator == "max":
                pooled = [np.maximum(x[j] @ w["pool_kernel"] + w["pool_bias"], 0) for j in near]
                mixed = np.max(pooled, axis=0) if len(near) else np.zeros(FEATURES)
            else:
                mixed = sum(a[i, j] * x[j] for j in near) / a[i].sum() if len(near) else np.zeros(FEATURES)
            rows.append(x[i] @ w["kernel"] + mixed @ w["neighbour_kernel"] + w["bias"])
        rows = np.array(rows) if layer.activation is keras.activations.linear else np.maximum(rows, 0)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True) if layer.normalize else rows
    if isinstance(layer, GINConv):
        mixed = np.array([(1 + w["epsilon"]) * x[i] + sum(a[i, j] * x[j] for j in range(n)) for i in range(n)])
        return np.maximum(mixed @ w["hidden_kernel"] + w["hidden_bias"], 0) @ w["kernel"] + w["bias"]
    heads = []
    for head in range(layer.heads):
        columns = slice(head * layer.units, (head + 1) * layer.units)
        sources = x @ w["kernel"][:, columns]
        if isinstance(layer, GATv2Conv):
            targets = x @ w["target_kernel"][:, columns]
            scores = np.array([[leaky(targets[i] + sources[j]) @ w["attention"][head] for j in range(n)] for i in range(n)])
        else:
            scores = np.array([[leaky(sources[i] @ w["to_target"][head] + sources[j] @ w["to_source"][head]) for j in range(n)] for i in range(n)])
        heads.append(softmax_over_neighbours(scores, a) @ sources)
    return (np.concatenate(heads, axis=1) if layer.concat else np.mean(heads, axis=0)) + w["bias"]


@pytest.mark.parametrize("name", LAYERS)
@settings(max_examples=25, deadline=None)
@given(case=graphs)
def test_a_layer_is_its_equation_in_both_forms(name, case):
    x, adjacency = made(*case)
    layer = built(name)
    expected = reference(layer, x, adjacency)
    edges, weights = edges_of(adjacency)
    np.testing.assert_allclose(layer([x[None], adjacency[None]])[0].numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(layer([x, edges, weights]).numpy(), expected, atol=1e-5)
    if not case[3]:
        np.testing.assert_allclose(layer([x, edges]).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
@settings(max_examples=10, deadline=None)
@given(case=graphs, padding=st.integers(1, 5))
def test_neither_the_order_of_nodes_nor_padding_changes_what_a_node_gives(name, case, padding):
    x, adjacency = made(*case)
    layer, order = built(name), np.random.default_rng(case[2]).permutation(len(x))
    plain = layer([x[None], adjacency[None]])[0].numpy()
    np.testing.assert_allclose(layer([x[order][None], adjacency[order][:, order][None]])[0].numpy(), plain[order], atol=1e-5)
    edges, weights = edges_of(adjacency)
    place = np.argsort(order)
    turned = np.random.default_rng(0).permutation(edges.shape[1])  # the edges in another order too
    np.testing.assert_allclose(layer([x[order], place[edges][:, turned].astype(np.int32), weights[turned]]).numpy(), plain[order], atol=1e-5)
    padded_x, padded = np.full((1, len(x) + padding, FEATURES), 7.0, np.float32), np.zeros((1, len(x) + padding, len(x) + padding), np.float32)
    padded_x[0, :len(x)], padded[0, :len(x), :len(x)] = x, adjacency
    np.testing.assert_allclose(layer([padded_x, padded])[0, :len(x)].numpy(), plain, atol=1e-5)


def loss_of(layer, inputs, weighting):
    return tf.reduce_sum(tf.sin(layer(inputs)) * weighting)


@pytest.mark.parametrize("form", ["dense", "sparse"])
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_those_of_finite_differences(name, form):
    x, adjacency = made(6, 0.5, 3, True)
    layer = built(name)
    edges, weights = edges_of(adjacency)
    rest = [adjacency[None]] if form == "dense" else [edges, weights]
    x = tf.constant(x[None] if form == "dense" else x)
    weighting = np.random.default_rng(2).normal(size=layer([x, *rest]).shape).astype(np.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = loss_of(layer, [x, *rest], weighting)
    found = tape.gradient(loss, [x, *layer.trainable_weights])
    random, step = np.random.default_rng(4), 1e-2
    for tensor, gradient in zip([x, *layer.trainable_weights], found, strict=True):
        direction = random.normal(size=tensor.shape).astype(np.float32)
        direction /= np.linalg.norm(direction)
        sides = []
        for sign in (1, -1):
            if tensor is x:
                sides.append(float(loss_of(layer, [x + sign * step * direction, *rest], weighting)))
            else:
                before = tensor.numpy()
                tensor.assign(before + sign * step * direction)
                sides.append(float(loss_of(layer, [x, *rest], weighting)))
                tensor.assign(before)
        assert np.sum(np.asarray(gradient) * direction) == pytest.approx((sides[0] - sides[1]) / (2 * step), abs=1e-2, rel=2e-2)


def step_of(layer, x, edges, weights):
    """What a layer gives, and the gradients of its squares."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer([x, edges, weights])
        loss = tf.reduce_sum(y * y)
    return y, *tape.gradient(loss, [x, layer.kernel])


def test_sums_over_edges_are_the_same_by_rows_and_by_blocks_eagerly_and_traced(monkeypatch):
    x, adjacency = made(40, 0.5, 0, True)
    edges, weights = edges_of(adjacency)
    turned = np.random.default_rng(0).permutation(len(weights))
    layer = built("gcn")
    signature = [tf.TensorSpec((None, FEATURES)), tf.TensorSpec((2, None), tf.int32), tf.TensorSpec((None,))]
    ways = [step_of(layer, tf.constant(x), edges, weights), step_of(layer, tf.constant(x), edges[:, turned], weights[turned]),
            tf.function(lambda *given: step_of(layer, *given), input_signature=signature)(x, edges, weights)]
    monkeypatch.setattr(graph_edges, "_csr_product", graph_edges._in_blocks)
    ways.append(step_of(layer, tf.constant(x), edges, weights))
    monkeypatch.setattr(graph_edges, "BLOCK", 64)
    assert edges.shape[1] > 640
    ways += [step_of(layer, tf.constant(x), edges, weights), tf.function(lambda *given: step_of(layer, *given), input_signature=signature)(x, edges, weights)]
    np.testing.assert_allclose(ways[0][0], reference(layer, x, adjacency), atol=1e-5)
    for way in ways[1:]:
        for one, other in zip(way, ways[0], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", graph.POOLINGS)
def test_pooling_gives_each_graph_its_own_nodes(mode):
    random = np.random.default_rng(0)
    sizes = [3, 1, 5]
    parts = [random.normal(size=(size, FEATURES)).astype(np.float32) for size in sizes]
    layer = GraphPooling(mode)
    sparse = layer([np.concatenate(parts), np.repeat(np.arange(3), sizes).astype(np.int32)]).numpy()
    padded, mask = np.full((3, 6, FEATURES), 9.0, np.float32), np.zeros((3, 6), np.float32)
    for row, part in enumerate(parts):
        padded[row, :len(part)], mask[row, :len(part)] = part, 1
    np.testing.assert_allclose(layer([padded, mask]).numpy(), sparse, atol=1e-5)
    w = {weight.path.rpartition("/")[2]: weight.numpy() for weight in layer.weights}
    gated = lambda x: np.tanh((np.tanh(x @ w["value"] + w["value_bias"]) / (1 + np.exp(-x @ w["gate"] - w["gate_bias"]))).sum(axis=0))
    expected = {"sum": lambda x: x.sum(axis=0), "mean": lambda x: x.mean(axis=0), "max": lambda x: x.max(axis=0), "attention": gated}[mode]
    np.testing.assert_allclose(sparse, [expected(part) for part in parts], atol=1e-5)


@pytest.mark.parametrize("name", [name if name in ("gcn", "sage_max", "gat_v2") else pytest.param(name, marks=pytest.mark.slow) for name in LAYERS])
def test_a_network_of_a_layer_is_saved_loaded_and_written_to_tflite(name, tmp_path):
    nodes, edges, mask = keras.Input((9, FEATURES), name="nodes"), keras.Input((9, 9), name="edges"), keras.Input((9,), name="mask")
    model = keras.Model([nodes, edges, mask], GraphPooling("attention" if name == "gcn" else "max")([LAYERS[name]()([nodes, edges]), mask]))
    model.save(tmp_path / "model.keras")
    inputs = [np.zeros((1, 9, FEATURES), np.float32), np.zeros((1, 9, 9), np.float32), np.zeros((1, 9), np.float32)]
    x, adjacency = made(7, 0.4, 5, False)
    inputs[0][0, :7], inputs[1][0, :7, :7], inputs[2][0, :7] = x, adjacency, 1
    expected = model(inputs).numpy()
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(inputs).numpy(), expected)

    archive = keras.export.ExportArchive()
    shapes = [keras.InputSpec(shape=values.shape, dtype="float32", name=name) for values, name in zip(inputs, ("nodes", "edges", "mask"), strict=True)]
    archive.add_endpoint("serve", lambda *given: model(list(given), training=False), input_signature=shapes)
    archive.write_out(tmp_path / "saved", verbose=False)
    content = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved")).convert()
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    assert not any("Flex" in operator["op_name"] for operator in interpreter._get_ops_details())
    runner = interpreter.get_signature_runner("serving_default")
    (found,) = runner(nodes=inputs[0], edges=inputs[1], mask=inputs[2]).values()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_sparse_network_trains_in_keras_on_nodes():
    x, adjacency = made(30, 0.2, 0, False)
    adjacency = np.maximum(adjacency, adjacency.T)
    edges, _ = edges_of(adjacency)
    keras.utils.set_random_seed(0)
    nodes, ends = keras.Input(batch_shape=(None, FEATURES)), keras.Input(batch_shape=(2, None), dtype="int32")
    model = keras.Model([nodes, ends], GCNConv(2)([GCNConv(8, activation="relu")([nodes, ends]), ends]))
    targets = (x[:, 0] > 0).astype(np.int32)
    model.compile(keras.optimizers.Adam(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(tf.data.Dataset.from_tensors(((x, edges), targets)).repeat(150), epochs=1, verbose=0, shuffle=False)
    assert history.history["loss"][-1] < 0.5
    assert float(np.mean(model([x, edges]).numpy().argmax(axis=1) == targets)) > 0.85


@pytest.mark.parametrize(("make", "message"), [(lambda: SAGEConv(4, aggregator="median"), "expected an aggregator, got 'median'"),
                                               (lambda: GraphPooling("maximum"), "expected a pooling, got 'maximum'; did you mean 'max'")])
def test_what_there_is_not_is_one_line(make, message):
    with pytest.raises(tfcnn.InputError, match=message):
        make()


@pytest.mark.parametrize("name", list(LAYERS))
def test_sparse_features_give_what_dense_ones_give(name):
    nodes, adjacency = made(8, 0.3, 1, False)
    nodes *= np.random.default_rng(2).random(nodes.shape) < 0.3
    edges, _ = edges_of(adjacency)
    layer = LAYERS[name]()
    expected = layer([tf.constant(nodes), tf.constant(edges)])
    np.testing.assert_allclose(layer([tf.sparse.from_dense(nodes), tf.constant(edges)]), expected, atol=1e-6)


def test_dropout_of_sparse_features_keeps_their_sum_and_their_zeros():
    nodes = tf.sparse.from_dense(np.ones((100, 50), np.float32) * (np.arange(50) % 5 == 0))
    layer = graph.SparseDropout(0.5, seed=0)
    kept = tf.sparse.to_dense(layer(nodes, training=True)).numpy()
    assert set(np.unique(kept)) == {0.0, 2.0} and (kept[:, np.arange(50) % 5 > 0] == 0).all() and kept.sum() == pytest.approx(1000, rel=0.1)
    np.testing.assert_array_equal(tf.sparse.to_dense(layer(nodes)), tf.sparse.to_dense(nodes))


def test_weights_of_edges_have_a_gradient():
    nodes, adjacency = made(6, 0.5, 3, True)
    edges, weights = edges_of(adjacency)
    for name in ("gcn", "sage_mean", "gin", "gat"):
        layer = LAYERS[name]()
        loss = lambda weights, layer=layer: tf.reduce_sum(layer([tf.constant(nodes), tf.constant(edges), weights]) ** 2)
        given = tf.constant(weights)
        with tf.GradientTape() as tape:
            tape.watch(given)
            value = loss(given)
        found, step = tape.gradient(value, given).numpy(), 1e-2
        for place in range(0, len(weights), 3):
            moved = [weights + sign * step * (np.arange(len(weights)) == place) for sign in (1, -1)]
            expected = (loss(tf.constant(moved[0], tf.float32)) - loss(tf.constant(moved[1], tf.float32))) / (2 * step)
            assert found[place] == pytest.approx(float(expected), rel=0.03, abs=0.03)
