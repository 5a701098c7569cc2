"""Graphs with a label each: what is read, what is left out and why, rows, drawings, and the flow from a file to TFLite."""

import keras
import numpy as np
import pytest

import tfcnn
from tfcnn.cli import main
from tfcnn.data.graph_files import clean_edges, read_graphs
from tfcnn.data.graph_rows import GraphRows, Parts, parts_of_row
from tfcnn.data.graphs import graph_hash, load_graphs, look, statistics_of
from tfcnn.evaluation.draw_graph import draw_graph, layout
from tfcnn.evaluation.graph_heat import without_nodes_and_edges
from tfcnn.export.contract import contract_of
from tfcnn.models.build import build_for_graphs
from tfcnn.models.forward import forward
from tfcnn.models.graph_networks import CONVOLUTIONS


def ring(count: int) -> np.ndarray:
    """Edges of a ring, each once."""
    return np.stack([np.arange(count), (np.arange(count) + 1) % count])


def star(count: int) -> np.ndarray:
    """Edges from the first node to all others."""
    return np.stack([np.zeros(count - 1, int), np.arange(1, count)])


def rings_and_stars(each: int = 20, seed: int = 0):
    """Graphs of 4 to 9 nodes with random features, which say nothing, and what they are."""
    random, graphs, labels = np.random.default_rng(seed), [], []
    for number in range(2 * each):
        count = 4 + number // 2 % 6
        graphs.append((random.normal(size=(count, 2)).astype(np.float32), (star if number % 2 else ring)(count)))
        labels.append("star" if number % 2 else "ring")
    return graphs, labels


def tu_folder(folder, *, edges="1, 2\n2, 1\n2, 3\n3, 2\n4, 5\n5, 4\n", belongs="1\n1\n1\n2\n2\n", labels="1\n-1\n", **more):
    """A folder in the TU format: a path of three nodes and one of two."""
    folder.mkdir()
    for name, text in {"A": edges, "graph_indicator": belongs, "graph_labels": labels, **more}.items():
        (folder / f"SET_{name}.txt").write_text(text)
    return folder


def test_mutag_has_what_its_readme_says(shared):
    data = load_graphs(shared / "graphs" / "MUTAG.txt")
    assert len(data.items) == 188 and data.labels == ("0", "2") and not data.quarantined
    assert data.input_shape == (28, 7 + 1 + 28) and data.facts["tags"] == list("0123456") == data.facts["names"]
    row = data.inputs[0]
    assert row.shape == data.input_shape and (row[:, 8:] == row[:, 8:].T).all() and row[:, :7].sum() == row[:, 7].sum()


def test_a_tu_folder_gives_its_graphs(tmp_path):
    folder = tu_folder(tmp_path / "set", node_labels="5\n6\n5\n6\n6\n", node_attributes="0.5, 1\n1, 1\n2, 1\n3, 1\n4, 1\n")
    name, (first, second) = read_graphs(folder)
    assert name == str(folder) and (first.label, second.label) == ("1", "-1") and (first.node_count, second.node_count) == (3, 2)
    assert first.tags == ("5", "6", "5") and first.values.tolist() == [[0.5, 1], [1, 1], [2, 1]]
    assert second.edges.tolist() == [[0, 1], [1, 0]] and second.values[:, 0].tolist() == [3, 4]


def test_dgcnn_files_may_have_values_behind_the_neighbours(tmp_path):
    (tmp_path / "a.txt").write_text("1\n2 7\n0 1 1 0.5 -1\n3 1 0 2 1e-3\n")
    _, (graph,) = read_graphs(tmp_path / "a.txt")
    assert graph.label == "7" and graph.tags == ("0", "3") and graph.edges.tolist() == [[1, 0], [0, 1]]
    np.testing.assert_allclose(graph.values, [[0.5, -1], [2, 1e-3]])


def test_edges_count_once_in_each_direction_with_their_largest_weight():
    edges, weights = clean_edges(np.array([[0, 1, 0, 2, 2], [1, 0, 1, 2, 1]]), np.array([1.0, 3.0, 2.0, 9.0, 5.0], np.float32))
    assert edges.tolist() == [[1, 0, 2, 1], [0, 1, 1, 2]] and weights.tolist() == [3, 3, 5, 5] and edges.dtype == np.int32


@pytest.mark.parametrize(("files", "said"), [
    ({"edges": "1, 2\n9, 1\n"}, r"expected edges of nodes from 1 to 5 in '.*SET_A.txt', got \(9, 1\) in line 2"),
    ({"edges": "1, x\n"}, r"expected numbers in '.*SET_A.txt'"),
    ({"labels": "1\n"}, r"expected a line for each of the 2 graphs in '.*graph_labels.txt', got 1"),
    ({"belongs": "1\n2\n1\n2\n2\n"}, "they are not in order"),
    ({"edges": "1, 2\n3, 4\n"}, r"expected edges within graphs in '.*SET_A.txt', got \(3, 4\) in line 2"),
    ({"edges": "1.7, 2.2\n"}, "expected whole numbers in line 1 of '.*SET_A.txt', got '1.7, 2.2'"),
    ({"edges": "nan, 1\n"}, "expected whole numbers in line 1"),
    ({"node_attributes": "1\n2\n"}, r"expected a line for each of the 5 nodes in '.*node_attributes.txt', got 2"),
])
def test_broken_tu_folders_are_one_line(tmp_path, files, said):
    with pytest.raises(tfcnn.InputError, match=said):
        read_graphs(tu_folder(tmp_path / "set", **files))


@pytest.mark.parametrize(("text", "said"), [
    ("", "expected the number of graphs in line 1"), ("x\n", "expected the number of graphs in line 1"),
    ("1\n2 1\n0 1 1\n", "expected the tag of a node, .* in line 4 of '.*a.txt', got the end of the file"),
    ("1\n2 1\n0 2 1\n0 1 0\n", "expected 2 neighbours in line 3"), ("1\n1 1\n0 0 red\n", "expected numbers in line 3"),
    ("1\n2 1\n0 1 1 5\n0 1 0\n", "expected as many values for each node"), ("1\n-1 0\n", "expected the number of nodes and the label of a graph in line 2"),
    ("1\n1 0\n0 -1\n", "expected the tag of a node"), ("1\n2 0\n0 1 ²\n0 1 0\n", "expected 1 neighbours in line 3"),
    ("1\n1 0\n0 0\n1 0\n0 0\n", "expected 1 graphs in '.*a.txt' as its first line says, got more in line 4"),
])
def test_broken_dgcnn_files_are_one_line(tmp_path, text, said):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(tfcnn.InputError, match=said):
        read_graphs(tmp_path / "a.txt")


@pytest.mark.parametrize(("graph", "reason"), [
    ((np.zeros((0, 2)), np.zeros((2, 0), int)), "no nodes"),
    ((np.full((3, 2), np.nan), ring(3)), "NaN or infinity among the features of node 0"),
    ((np.ones((3, 2)), np.array([[0, 7], [1, 2]])), "an edge names node 7, but there are only nodes 0 to 2"),
    ((np.ones((3, 2)), ring(3), np.array([1, -1, 1.0])), "a weight of an edge that is not above 0"),
    ((np.ones((12, 2)), ring(12)), "larger than the 9 nodes of the largest graph that the network takes: 12"),
])
def test_graphs_that_cannot_be_used_are_left_out_and_named(graph, reason):
    graphs, labels = rings_and_stars()
    data = load_graphs(([*graphs, graph], [*labels, "ring"]), size=(9,))
    assert len(data.items) == 40 and [(found.path, found.reason) for found in data.quarantined] == [("array/40", reason)]


@pytest.mark.parametrize(("source", "said"), [
    (([], []), "expected graphs, found none"),
    (([(np.ones((3, 1)), np.zeros((2, 0), int))], ["a"]), "expected graphs with edges, but none of 1 has one"),
    (([(np.ones((3, 1)), ring(3)), (np.ones((3, 2)), ring(3))], ["a", "b"]), "expected nodes of one number of features, got 1 in array/0 and 2 in array/1"),
    (([(np.ones((3, 1)), ring(3))], ["a", "b"]), "expected a list of graphs and one label for each, got 1 graphs"),
    (([(np.ones((3, 1)), np.ones((2, 2), int))], ["a"]), "expected graphs with edges, but none of 1 has one"),
    (([([[1, 2], [3]], ring(2))], ["a"]), r"expected a graph as features \(n, f\), .*, but in array/0"), ((5, ["a"]), "expected a list of graphs .*, got int"),
    (([(np.ones((3, 1)), ring(3))], [None]), "expected labels of one line with something in them"),
    (([(np.ones(3), ring(3))], ["a"]), r"expected a graph as features \(n, f\), edges int \(2, e\)"),
    (([(np.ones((3, 1)), ring(3))] * 3, ["a"] * 3), "expected graphs of at least two classes, found those of one class"),
    ("missing.txt", "there is no '.*missing.txt'"),
])
def test_sources_that_cannot_be_used_are_one_line(source, said):
    with pytest.raises(tfcnn.InputError, match=said):
        load_graphs(source)


@pytest.mark.parametrize("size", [(1,), (5000,), (9, 9), "9", 9])
def test_a_size_is_one_number_of_nodes(size):
    with pytest.raises(tfcnn.InputError, match="expected a size of one whole number of nodes from 2 to 4096"):
        load_graphs(rings_and_stars(), size=size)


def test_one_graph_is_told_from_many(tmp_path):
    np.savez(tmp_path / "one.npz", x=1)
    with pytest.raises(tfcnn.InputError, match="one graph whose nodes have labels is read with --kind node"):
        load_graphs(tmp_path / "one.npz")


def test_rows_hold_graphs_and_give_them_back():
    weighted = Parts(np.arange(6, dtype=np.float32).reshape(3, 2), clean_edges(ring(3))[0], np.array([1, 2, 1, 3, 2, 3], np.float32))
    plain = Parts(np.ones((2, 2), np.float32), clean_edges(star(2))[0])
    rows = GraphRows([weighted, plain], 4, 2)
    assert rows.shape == (2, 4, 7) and rows[:].shape == rows.shape and len(rows.choose([1])) == 1
    np.testing.assert_array_equal(rows[1], rows[[1, 0]][0])
    for row, graph in zip(rows[:], (weighted, plain), strict=True):
        found = parts_of_row(row, 2)
        np.testing.assert_array_equal(found.nodes, graph.nodes)
        assert sorted(found.edges.T.tolist()) == sorted(graph.edges.T.tolist())
    assert rows[0][1, 3 + 0] == weighted.weights[[edge == [0, 1] for edge in weighted.edges.T.tolist()].index(True)]


def test_the_order_of_nodes_does_not_matter_for_what_is_the_same_and_stays_together():
    random = np.random.default_rng(0)
    nodes = random.integers(0, 2, (7, 3)).astype(np.float32)
    edges = clean_edges(np.stack([random.integers(0, 7, 12), random.integers(0, 7, 12)]))[0]
    order = random.permutation(7)
    turned = Parts(nodes[order], clean_edges(np.argsort(order)[edges])[0])
    assert graph_hash(Parts(nodes, edges)) == graph_hash(turned) != graph_hash(Parts(nodes, edges[:, 2:]))
    graphs, labels = rings_and_stars(30)
    again = [(features[::-1], len(features) - 1 - edges) for features, edges in graphs]
    data = load_graphs((graphs + again, labels * 2), seed=3)
    split = {item.path: item.split for item in data.items}
    assert all(split[f"array/{number}"] == split[f"array/{60 + number}"] for number in range(60))
    assert len(set(split.values())) == 3


def test_what_is_unusual_about_graphs_is_said_by_the_audit(tmp_path, capsys):
    folder = tu_folder(tmp_path / "set", edges="1, 2\n2, 1\n1, 2\n3, 3\n4, 5\n5, 4\n")
    found = look(folder)
    assert set(found.notes) == {"duplicate_edges", "self_loops", "isolated_nodes", "disconnected"}
    assert all(paths == (f"{folder}/1",) for paths in found.notes.values())
    assert main(["audit", str(folder), "--kind", "graph"]) == 1  # two graphs are too few
    out = capsys.readouterr().out
    assert "with nodes without an edge" in out and "1 duplicate edges, 1 self loops: read as they should be" in out


def test_equal_graphs_in_several_splits_are_a_problem_that_the_audit_names():
    graphs, labels = rings_and_stars(3)
    turned = (graphs[0][0][::-1], len(graphs[0][0]) - 1 - graphs[0][1])
    result = tfcnn.audit({"train": (graphs, labels), "test": ([turned, graphs[1]], ["ring", "star"])}, kind="graph")
    assert any("in several splits" in problem for problem in result.problems)
    assert {same.kind for same in result.leaks} == {"exact", "near"}


def test_molecules_are_read_from_smiles(tmp_path):
    pytest.importorskip("rdkit")
    (tmp_path / "m.csv").write_text("smiles,label,split\nCCO,a,train\nc1ccccc1O,b,test\nnot a molecule,a,train\n[Na+].[Cl-],b,train\n")
    _, (ethanol, phenol, broken, salt) = read_graphs(tmp_path / "m.csv")
    assert ethanol.tags == ("C", "C", "O") and ethanol.edges.tolist() == [[0, 1], [1, 2]] and ethanol.values[:, 1].tolist() == [3, 2, 1]
    assert phenol.node_count == 7 and sorted(phenol.weights.tolist()) == [1.0] + [1.5] * 6 and phenol.values[:6, 2].tolist() == [1] * 6
    assert broken.fault.startswith("no molecule: SMILES 'not a molecule'") and salt.values[:, 0].tolist() == [1, -1] and salt.edges.shape == (2, 0)
    data = load_graphs(tmp_path / "m.csv", split=None)
    assert data.facts["tags"] == ["C", "Cl", "Na", "O"] and data.facts["names"][-1] == "in a ring" and len(data.quarantined) == 1
    (tmp_path / "lines.csv").write_text('smiles,label,note\nCCO,a,"two\nlines"\n\nCCN,b,\n')
    assert [graph.name.rpartition("/")[2] for graph in read_graphs(tmp_path / "lines.csv")[1]] == ["3", "5"]  # the line of the file at which a molecule ends


def test_molecules_without_the_extra_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rdkit", None)
    (tmp_path / "m.csv").write_text("smiles,label\nCCO,a\n")
    with pytest.raises(tfcnn.InputError, match=r"expected rdkit to read molecules, .* install it with pip install 'tfcnn\[molecule\]'"):
        read_graphs(tmp_path / "m.csv")


@pytest.mark.parametrize("name", list(CONVOLUTIONS))
def test_padding_and_the_order_of_nodes_change_no_answer_of_a_network(name):
    graphs, labels = rings_and_stars(6)
    data, wider = load_graphs((graphs, labels), split=None), load_graphs((graphs, labels), split=None, size=(14,))
    facts = {**data.facts, "counts": False, "mean": [0.1, -0.2], "variance": [0.9, 1.1]}
    keras.utils.set_random_seed(0)
    model = build_for_graphs(tfcnn.ModelConfig(name, "none"), ("ring", "star"), data.input_shape, facts)
    wide = build_for_graphs(tfcnn.ModelConfig(name, "none"), ("ring", "star"), wider.input_shape, {**facts, "size": 14})
    wide.set_weights(model.get_weights())
    turned = load_graphs(([(features[::-1], len(features) - 1 - edges) for features, edges in graphs], labels), split=None)
    expected = forward(model, data.inputs)
    np.testing.assert_allclose(forward(wide, wider.inputs), expected, atol=1e-5)
    np.testing.assert_allclose(forward(model, turned.inputs), expected, atol=1e-5)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A network that tells rings from stars."""
    folder = tmp_path_factory.mktemp("graphs")
    graphs, labels = rings_and_stars(30)
    lines = ["60"]
    for (features, edges), label in zip(graphs, labels, strict=True):
        lines.append(f"{len(features)} {label == 'star':d}")
        for node, values in enumerate(features):
            near = [*edges[1][edges[0] == node], *edges[0][edges[1] == node]]
            lines.append(" ".join(map(str, [0, len(near), *near, *values])))
    (folder / "made.txt").write_text("\n".join(lines))
    assert main(["train", str(folder / "made.txt"), "--kind", "graph", "--epochs", "40", "--export", "tflite_float32", "--output", str(folder / "run")]) == 0
    return tfcnn.load_run(folder / "run")


def test_a_network_tells_rings_from_stars_and_is_exported(run):
    assert run.record["test"]["accuracy"] == 1
    assert {row["format"]: row["agreement"] for row in run.record["exports"]} == {"tflite_float32": 1}
    assert "a graph of up to 9 nodes as one matrix" in contract_of(run).takes
    assert "<svg" in (run.path / "report.html").read_text()


def test_a_run_answers_for_other_graphs_and_refuses_what_it_does_not_know(run, tmp_path, capsys):
    (tmp_path / "other.txt").write_text("3\n3 0\n0 2 1 2 0 0\n0 2 0 2 0 0\n0 2 0 1 0 0\n1 0\n5 0 0 0\n12 1\n" + "\n".join("0 0 0 0" for _ in range(12)))
    assert main(["predict", str(run.path), str(tmp_path / "other.txt"), "--output", str(tmp_path / "a.csv")]) == 0
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert len(lines) == 4 and ",0," in lines[1]
    assert "nodes of the kind 5, which the network does not know" in lines[2] and "larger than the 9 nodes of the largest graph" in lines[3]


def test_what_decided_is_found_by_leaving_out(run):
    data = load_graphs(run.record["data"]["source"], split=None, facts=run.facts)
    heat = without_nodes_and_edges(run.load_model(), data.inputs[:4], np.array([0, 1, 0, 1]))
    size = data.input_shape[0]
    assert heat.shape == (4, size, 1 + size) and np.abs(heat).max() == pytest.approx(1)
    for row, found in zip(data.inputs[:4], heat, strict=True):
        there = row[:, data.facts["features"] + 1:] > 0
        assert (found[:, 1:][~there] == 0).all() and np.allclose(found[:, 1:], found[:, 1:].T)
        assert (found[int(row[:, data.facts["features"]].sum()):] == 0).all()
    drawn = draw_graph(data.inputs[0], heat[0], data.facts, "", large=True)
    assert drawn.count("<circle") >= 2 * 4 and "a graph of 4 nodes and 4 edges" in drawn


def test_nodes_are_drawn_where_their_edges_put_them():
    places = layout(clean_edges(ring(8))[0], 8)
    near = np.linalg.norm(places - np.roll(places, 1, axis=0), axis=1)
    far = np.linalg.norm(places - np.roll(places, 4, axis=0), axis=1)
    assert near.max() < 0.5 * far.min() and layout(np.zeros((2, 0), int), 1).shape == (1, 2)
    assert np.isfinite(layout(np.zeros((2, 0), int), 3)).all()


def test_a_network_learned_on_one_set_begins_on_another_with_frozen_stages(run, tmp_path):
    data = load_graphs(run.record["data"]["source"], seed=1)
    model = build_for_graphs(tfcnn.ModelConfig("gin", str(run.path)), data.labels, data.input_shape, data.facts)
    assert model.model_config.weights == str(run.path)
    for old, new in zip(run.load_model().get_layer("backbone").weights, model.get_layer("backbone").weights, strict=True):
        np.testing.assert_array_equal(old.numpy(), new.numpy())
    other = tfcnn.train(model, data, tfcnn.TrainingConfig(epochs=1, trainable="block4"), output=tmp_path / "run")
    first, second = run.load_model().get_layer("backbone"), other.load_model().get_layer("backbone")
    moved = {name for name in ("block1", "block2", "block3", "block4")
             for old, new in zip(first.get_layer(name).weights, second.get_layer(name).weights, strict=True) if not np.array_equal(old.numpy(), new.numpy())}
    assert moved == {"block4"}


def test_a_network_begins_on_molecules_of_other_elements_with_new_first_weights(run, caplog):
    graphs, labels = rings_and_stars(10)
    data = load_graphs((graphs, labels))
    model = build_for_graphs(tfcnn.ModelConfig("gin", str(run.path)), data.labels, data.input_shape, data.facts)
    first, second = run.load_model().get_layer("backbone"), model.get_layer("backbone")
    assert run.facts["tags"] == ["0"] and data.facts["tags"] == []
    for name in ("block2", "block3", "block4"):
        for old, new in zip(first.get_layer(name).weights, second.get_layer(name).weights, strict=True):
            np.testing.assert_array_equal(old.numpy(), new.numpy())


def test_kinds_and_values_of_nodes_stay_as_far_apart_as_they_were():
    """One of many kinds, and a value: mostly 0, but no counts of words."""
    random = np.random.default_rng(0)
    nodes = np.concatenate([np.eye(30)[random.integers(0, 30, 200)], random.uniform(50, 1000, (200, 1))], axis=1)
    assert statistics_of(nodes, kinds=30)["counts"] is False and statistics_of(nodes[:, 30:] * np.eye(20)[random.integers(0, 20, 200)])["counts"] is False
    words = (random.random((200, 50)) < 0.05) * random.integers(1, 4, (200, 50))
    assert statistics_of(words) == {"counts": True} and statistics_of(np.eye(5)) == {"counts": True} and statistics_of(-words)["counts"] is False


def test_nodes_without_features_have_the_number_of_their_neighbours(tmp_path):
    data = load_graphs(tu_folder(tmp_path / "set"), split=None)
    assert data.facts["names"] == ["neighbours"] and data.inputs[0][:, 0].tolist() == [1, 2, 1]


def test_splits_of_some_graphs_alone_are_refused(tmp_path):
    pytest.importorskip("rdkit")
    (tmp_path / "m.csv").write_text("smiles,label,split\nCCO,a,train\nCCC,b,\n")
    with pytest.raises(tfcnn.InputError, match=r"expected a split for all graphs in '.*m.csv' or for none, got none for 1 of 2, such as .*m.csv/3"):
        load_graphs(tmp_path / "m.csv")


def test_what_else_is_asked_for_beside_a_run_that_is_followed_is_refused(run):
    with pytest.raises(tfcnn.InputError, match=r"expected no size beside a run that is followed, got size=\(7,\)"):
        load_graphs(run.record["data"]["source"], like=run, size=(7,))
    assert load_graphs(run.record["data"]["source"], like=run).facts["size"] == run.facts["size"]
