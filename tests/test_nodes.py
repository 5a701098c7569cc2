"""Nodes of one graph: what is read and refused, neighbourhoods, a network of the whole graph and one that answers for graphs it has not seen."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfcnn
from tfcnn.cli import main
from tfcnn.data.network_files import read_network
from tfcnn.data.nodes import NodeRows, load_nodes, size_of
from tfcnn.evaluation.draw_graph import draw_node
from tfcnn.evaluation.graph_heat import around_nodes
from tfcnn.models.build import build_for_nodes
from tfcnn.models.forward import forward
from tfcnn.models.graph_networks import CONVOLUTIONS
from tfcnn.training.twin import make_twin


def communities(count: int = 60, seed: int = 0, counts: bool = False) -> dict:
    """Two groups of nodes with most edges within, and features that say a little; each node is named after its number."""
    random = np.random.default_rng(seed)
    group = np.arange(count) % 2
    chance = np.where(group[:, None] == group, 0.2, 0.01)
    edges = np.stack(np.nonzero(np.triu(random.random((count, count)) < chance, 1)))
    features = (random.random((count, 30)) < 0.05 + 0.15 * (np.arange(30) % 2 == group[:, None])) if counts else \
        random.normal(size=(count, 4)) + group[:, None]
    return {"features": features.astype(np.float32), "edges": edges, "labels": np.array(["even", "odd"])[group]}


def tables(folder, graph: dict, **more):
    """The graph as edges.csv and nodes.csv."""
    folder.mkdir()
    nodes = ["node,label," + ",".join(f"f{number}" for number in range(graph["features"].shape[1]))]
    nodes += [f"n{number},{label}," + ",".join(map(str, row)) for number, (label, row) in enumerate(zip(graph["labels"], graph["features"], strict=True))]
    edges = ["source,target", *(f"n{source},n{target}" for source, target in graph["edges"].T)]
    for name, lines in {"nodes": nodes, "edges": edges, **more}.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_cora_has_what_its_readme_says(shared):
    network = read_network(shared / "graphs" / "cora.npz")
    assert network.node_count == 2708 and network.features.shape == (2708, 1433) and len(set(network.labels)) == 7
    assert network.edges.shape[1] == 2 * 5278  # of 5,429 some lead there and back
    assert set(zip(*network.edges.tolist(), strict=True)) == {(target, source) for source, target in network.edges.T.tolist()}


def test_tables_and_arrays_give_the_same_graph(tmp_path):
    graph = communities()
    here, there = read_network({**graph, "names": [f"n{number}" for number in range(60)]}), read_network(tables(tmp_path / "graph", graph))
    assert here.names == there.names and here.labels == there.labels
    np.testing.assert_array_equal(here.edges, there.edges)
    np.testing.assert_allclose(here.features, there.features, rtol=1e-6)
    np.savez(tmp_path / "graph.npz", **graph)
    np.testing.assert_array_equal(read_network(tmp_path / "graph.npz").edges, here.edges)


def test_labels_may_stand_in_a_file_of_their_own_and_be_few(tmp_path):
    graph = communities()
    labels = ["node,label,split", *(f"n{number},{'ab'[number % 2]},{'train' if number < 10 else 'test'}" for number in range(20))]
    data = load_nodes(tables(tmp_path / "graph", {**graph, "labels": [""] * 60}, labels=labels))
    assert len(data.items) == 20 and data.labels == ("a", "b") and data.facts["nodes"] == 60
    assert len(data.rows("test")) == 10 and data.inputs[:, 0].tolist() == list(range(20))


@pytest.mark.parametrize(("changes", "said"), [
    ({"edges": np.zeros((2, 0), int)}, "expected a graph with edges, got 60 nodes without one"),
    ({"features": np.zeros((0, 4))}, "expected labels for the 0 nodes that have features, got 60"),
    ({"features": np.zeros((0, 4)), "labels": []}, "but: no nodes"),
    ({"edges": np.array([[0, 1], [1, 60]])}, "but: an edge names node 60, but there are only nodes 0 to 59"),
    ({"features": np.zeros((59, 4))}, "expected labels for the 59 nodes that have features, got 60"),
    ({"labels": ["a"] * 61}, "expected labels for the 60 nodes that have features, got 61"),
    ({"features": np.full((60, 4), np.inf)}, "but: NaN or infinity among the features of node 0"),
    ({"weights": np.ones(3)}, "expected a weight for each of the"),
    ({"labels": [""] * 60}, "expected labels of nodes, found none"),
    ({"splits": ["nowhere"] * 60}, "expected train, validation or test as splits of nodes, got 'nowhere'"),
    ({"edges": np.ones((2, 3), int)}, "expected a graph with edges"), ({"labels": np.eye(60)}, "expected one value a node as labels, got shape"),
    ({"names": ["a"] * 60}, "expected a name of its own for each node, but 'a' stands there twice"), ({"weights": ["heavy"]}, "as arrays of numbers, but"),
    ({"features": [[1], [1, 2]]}, "as arrays of numbers, but"), ({"labels": None}, "expected labels of nodes, found none"),
    ({"shape": 1}, "as parts of a graph, got 'shape'"),
    ({"edges": np.ones((3, 4))}, r"expected features \(n, f\) and edges int \(2, e\)"),
])
def test_graphs_that_cannot_be_used_are_one_line(changes, said):
    with pytest.raises(tfcnn.InputError, match=said):
        load_nodes({**communities(), **changes})


@pytest.mark.parametrize(("files", "said"), [
    ({"edges": ["source,target", "n0,n99"]}, "expected nodes of nodes.csv in line 2 of '.*edges.csv', got 'n99'; add it, or remove the edge"),
    ({"edges": ["a,b"]}, "expected the columns source and target, and each once, in '.*edges.csv', found a, b"),
    ({"labels": ["node,label", "n99,a"]}, "expected nodes of nodes.csv in line 2 of '.*labels.csv', got 'n99'; add it, or remove the label"),
    ({"nodes": ["node,label,f", "n0,a,1", "n0,b,1"]}, "but 'n0' stands there twice"),
    ({"nodes": ["node,label,f", "n0,a,red"]}, "expected a number in column f, line 2 of '.*nodes.csv', got 'red'"),
    ({"edges": ["source,target,weight", "n0,n1,0"]}, "expected a weight above 0 in line 2"),
    ({"labels": ["node,label", "n1,a", "n1,b"]}, "expected each node once in '.*labels.csv', but 'n1' stands there again in line 3"),
    ({"nodes": ["node,label,f", "n0,a"]}, "expected 3 cells in line 2"),
    ({"edges": ["source,target,weight", "n0,n1,heavy"]}, "expected a number in column weight, line 2 of '.*edges.csv'"),
])
def test_broken_tables_are_one_line(tmp_path, files, said):
    with pytest.raises(tfcnn.InputError, match=said):
        load_nodes(tables(tmp_path / "graph", communities(), **files))


def test_broken_npz_files_are_one_line(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK broken")
    np.savez(tmp_path / "b.npz", adj_data=np.ones(1), adj_indices=np.array([7]), adj_indptr=np.array([0, 1, 1]), adj_shape=np.array([2, 2]))
    np.savez(tmp_path / "c.npz", adj_data=np.ones(1))
    for name, said in (("a", "cannot be read"), ("b", "an edge names node 7, but there are only nodes 0 to 1"), ("c", "expected the array adj_indices")):
        with pytest.raises(tfcnn.InputError, match=said):
            load_nodes(tmp_path / f"{name}.npz")


def test_splits_and_masks_of_an_npz_are_kept_and_what_is_not_known_is_said(tmp_path, caplog):
    graph = communities()
    masks = {name: np.arange(60) // 10 == place for place, name in enumerate(("train_mask", "val_mask", "test_mask"))}
    np.savez(tmp_path / "a.npz", **graph, **masks, something=1)
    data = load_nodes(tmp_path / "a.npz")
    assert [len(data.rows(split)) for split in ("train", "validation", "test")] == [10, 10, 10] and "something" in caplog.text
    np.savez(tmp_path / "b.npz", **graph, train_mask=np.ones(60), test_mask=np.ones(60))
    with pytest.raises(tfcnn.InputError, match="each node in one of them at most"):
        load_nodes(tmp_path / "b.npz")


def test_nodes_with_a_label_and_no_split_stay_out_where_others_have_one():
    graph = communities()
    data = load_nodes({**graph, "splits": np.repeat(["train", "validation", "test", ""], 15)})
    assert len(data.items) == 45 and {item.split for item in data.items} == {"train", "validation", "test"}


@pytest.mark.parametrize(("labels", "found"), [
    ([-1, 1], ("-1", "1")), ([-1, 0, 1], ("0", "1")), ([None, "a", "b"], ("a", "b")), ([float("nan"), 0, 1], ("0", "1"))])
def test_labels_that_stand_for_none(labels, found):
    data = load_nodes({**communities(), "labels": np.array(labels, object)[np.arange(60) % len(labels)]})
    assert data.labels == found


def test_nodes_without_features_have_their_degrees():
    graph = communities()
    data = load_nodes({**graph, "features": np.zeros((60, 0))}, neighbours=(3,))
    assert data.facts["features"] == 1 and data.inputs[0][0, 0] == (graph["edges"] == 0).sum()


@pytest.mark.parametrize("neighbours", [(), (0,), (10, 10, 10, 10, 10), "10,10", (2.5,), (1000, 1000)])
def test_numbers_of_neighbours_are_checked(neighbours):
    with pytest.raises(tfcnn.InputError, match=r"expected (numbers of neighbours|neighbourhoods of at most 4096)"):
        load_nodes(communities(), neighbours=neighbours)


def test_a_neighbourhood_has_the_node_first_and_all_edges_among_its_nodes():
    network = read_network(communities())
    edges = set(zip(*network.edges.tolist(), strict=True))
    rows = NodeRows(network, np.arange(60), (3, 2))
    assert rows.shape == (60, size_of((3, 2)), 4 + 1 + 10) == (60, 10, 15) and len(rows[:]) == 60
    np.testing.assert_array_equal(rows[7], rows.choose([7])[0])
    for node in (0, 7, 33):
        around = rows.around(node)
        numbers = [next(number for number in range(60) if np.array_equal(network.features[number], row)) for row in around.nodes]
        assert numbers[0] == node and len(set(numbers)) == len(numbers)
        found = {(numbers[source], numbers[target]) for source, target in around.edges.T.tolist()}
        assert found == {(source, target) for source, target in edges if source in numbers and target in numbers}
        assert sum((node, other) in edges for other in numbers[1:4]) == min(3, sum(source == node for source, _ in edges))


@pytest.mark.parametrize("name", list(CONVOLUTIONS))
@pytest.mark.parametrize("counts", [False, True])
def test_a_whole_graph_and_whole_neighbourhoods_give_the_same_answers(name, counts):
    """Of GCN they differ by the degrees of the outermost nodes, whose edges lead out of the neighbourhood; here all nodes are in each."""
    graph = communities(count=14, counts=counts)
    graph["edges"] = np.concatenate([graph["edges"], np.stack([np.zeros(13, int), np.arange(1, 14)])], axis=1)  # no two nodes are more than two edges apart
    whole, around = load_nodes(graph, split=None), load_nodes(graph, split=None, neighbours=(14, 14))
    more = {"counts": counts, "mean": [0.1] * 4, "variance": [1.2] * 4}
    keras.utils.set_random_seed(0)
    first = build_for_nodes(tfcnn.ModelConfig(name, "none"), ("even", "odd"), whole.input_shape, {**whole.facts, **more})
    second = build_for_nodes(tfcnn.ModelConfig(name, "none"), ("even", "odd"), around.input_shape, {**around.facts, **more})
    for part in ("block1", "block2"):
        second.get_layer("backbone").get_layer(part).set_weights(first.get_layer("backbone").get_layer(part).get_weights())
    second.get_layer("logits").set_weights(first.get_layer("logits").get_weights())
    np.testing.assert_allclose(forward(second, around.inputs), forward(first, whole.inputs), atol=1e-5)


@pytest.mark.parametrize("name", list(CONVOLUTIONS))
@pytest.mark.parametrize("counts", [False, True])
def test_a_whole_graph_is_learned_in_16_bits(name, counts):
    data = load_nodes(communities(40, counts=counts), seed=1)
    keras.utils.set_random_seed(0)
    model = build_for_nodes(tfcnn.ModelConfig(name, "none"), data.labels, data.input_shape, data.facts)
    mixed = make_twin(model, mixed=True)
    np.testing.assert_allclose(forward(mixed, data.inputs), forward(model, data.inputs), atol=0.05)
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(tf.math.log(mixed(data.inputs)[:, 0]))
    assert all(np.isfinite(gradient.numpy()).all() and np.abs(gradient).max() > 0 for gradient in tape.gradient(loss, mixed.trainable_variables))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A network of a whole graph."""
    folder = tmp_path_factory.mktemp("nodes")
    assert main(["train", str(tables(folder / "graph", communities(120))), "--kind", "node", "--epochs", "60", "--export", "none", "--output",
                 str(folder / "run")]) == 0
    return tfcnn.load_run(folder / "run")


def test_a_network_of_a_whole_graph_learns_it_and_is_loaded_again(run):
    assert run.record["test"]["accuracy"] > 0.9 and run.record["training"]["batch_size"] == run.record["data"]["splits"]["train"]
    data = load_nodes(run.record["data"]["source"], split=None, facts=run.facts)
    scores = forward(run.load_model(), data.inputs)
    assert (scores.argmax(axis=1) == data.targets(np.arange(120))).mean() > 0.9
    assert tfcnn.evaluate(run).accuracy == pytest.approx(run.record["test"]["accuracy"])


def test_a_network_of_a_whole_graph_knows_no_other_one_and_no_tflite(run, tmp_path, capsys):
    other = tables(tmp_path / "other", communities(120, seed=1))
    assert main(["predict", str(run.path), str(other), "--output", str(tmp_path / "a.csv")]) == 2
    assert "expected the graph that the run was trained on, got another one" in capsys.readouterr().err
    assert main(["export", str(run.path), "--format", "tflite_float32"]) == 2
    assert "expected saved_model for a network of a whole graph, got 'tflite_float32'; train with --neighbours" in capsys.readouterr().err
    assert main(["predict", str(run.path), run.record["data"]["source"], "--output", str(tmp_path / "a.csv")]) == 0
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 121


def test_a_run_that_is_followed_says_what_the_network_is_of(run):
    with pytest.raises(tfcnn.InputError, match=r"expected neighbours=None as in the run '.*' that is followed, got neighbours=\[5, 5\]; give no neighbours"):
        load_nodes(run.record["data"]["source"], like=run, neighbours=(5, 5))
    data = load_nodes(run.record["data"]["source"], like=run)
    assert [len(data.rows(split)) for split in ("train", "test")] == [run.record["data"]["splits"][split] for split in ("train", "test")]


def test_what_counts_around_a_node_of_a_whole_graph_is_within_its_reach(run):
    data = load_nodes(run.record["data"]["source"], split=None, facts=run.facts)
    network = read_network(run.record["data"]["source"])
    near = {number: set(network.edges[0, network.edges[1] == number].tolist()) for number in range(120)}
    for number, found in zip((3, 40), around_nodes(run.load_model(), data.inputs[[3, 40]], np.array([1, 0])), strict=True):
        reach = {number} | near[number] | {other for one in near[number] for other in near[one]}
        assert found.numbers[0] == number and set(found.numbers.tolist()) <= reach and np.abs(found.heat[:, 0]).max() == pytest.approx(1)
        assert np.allclose(found.heat[:, 1:], found.heat[:, 1:].T)
        assert draw_node(data.inputs[number], found, data.facts, "", large=True).startswith("<svg")
    assert draw_node(data.inputs[3], None, data.facts, "", large=False) == '<p class="node">node 3</p>'


def test_what_an_edge_counts_is_what_is_lost_without_it_in_the_limit(run):
    """The gradient of the logit with respect to the weight of an edge, by finite differences."""
    from tfcnn.evaluation.graph_heat import _gradients_of_graph

    edges, _, of_edges = _gradients_of_graph(run.load_model())(3, 1)
    place = int(np.abs(of_edges).argmax())
    logits, step = [], 1e-2
    for sign in (1, -1):
        weights = np.ones(edges.shape[1], np.float32)
        weights[place] += sign * step
        model = run.load_model()
        x, last = None, None
        graph = model.get_layer("backbone").get_layer("graph")
        nodes, ends = graph(np.zeros((1, 1), np.int32))
        for name in ("block1", "block2"):
            layer = next(layer for layer in model.get_layer("backbone").get_layer(name).layers if hasattr(layer, "mixed"))
            x = layer([nodes if x is None else keras.ops.relu(x), ends, weights])
        last = model.get_layer("logits")(x[3:4])
        logits.append(float(last[0, 1]))
    assert (logits[0] - logits[1]) / (2 * step) == pytest.approx(of_edges[place], rel=0.05)


def test_neighbourhoods_answer_for_a_graph_that_was_not_seen_and_become_tflite(tmp_path):
    source, other = tables(tmp_path / "graph", communities(120)), tables(tmp_path / "other", communities(80, seed=3))
    assert main(["train", str(source), "--kind", "node", "--neighbours", "6,3", "--epochs", "15", "--export", "tflite_float32", "--output",
                 str(tmp_path / "run")]) == 0
    run = tfcnn.load_run(tmp_path / "run")
    (export,) = run.record["exports"]
    assert export["agreement"] == 1 and run.record["input_shape"] == [size_of((6, 3)), 4 + 1 + size_of((6, 3))]
    assert tfcnn.evaluate(run, load_nodes(other, split=None, facts=run.facts)).accuracy > 0.8
    assert "<svg" in (run.path / "report.html").read_text()
