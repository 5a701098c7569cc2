"""`load_nodes`: the labelled nodes of one graph, split, as a `Dataset`: by their numbers in the whole graph, or each with what is around it."""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tfcnn.data.arrange import Found, arrange, check_examples, check_split, like_text
from tfcnn.data.dataset import Dataset
from tfcnn.data.graph_rows import GraphRows, Parts
from tfcnn.data.graphs import statistics_of
from tfcnn.data.network_files import Network, read_network
from tfcnn.data.read import Read, content_digest
from tfcnn.data.sources import Example, Source
from tfcnn.errors import InputError
from tfcnn.kept import keep_graph
from tfcnn.record import Run, load_run

KIND = "node"
MOST_HOPS, MOST_NEIGHBOURS = 4, 1000

logger = logging.getLogger(__name__)


class NodeRows(GraphRows):
    """Like an array float32 (nodes, size, features + 1 + size): the neighbourhood of each node as a row of `tfcnn.data.graph_rows`, the node itself first.

    Of the neighbours of each node so many are drawn, of these again, and so on; edges are all of those among them. A node is always given with the same
    neighbourhood, so that an answer can be had again.

    Source: Zeng et al. 2021, "Decoupling the Depth and Scope of Graph Neural Networks", section 3; the draws are those of Hamilton et al. 2017, "Inductive
        Representation Learning on Large Graphs", section 3.1.
    """

    def __init__(self, network: Network, nodes: np.ndarray, neighbours: Sequence[int], starts: np.ndarray | None = None):
        super().__init__((), size_of(neighbours), network.features.shape[1])
        self.network, self.nodes, self.neighbours = network, np.asarray(nodes), tuple(neighbours)
        self._starts = np.searchsorted(network.edges[1], np.arange(network.node_count + 1)) if starts is None else starts

    def __len__(self) -> int:
        return len(self.nodes)

    def graph(self, number: int) -> Parts:
        return self.around(int(self.nodes[number]))

    def choose(self, rows) -> "NodeRows":
        """The neighbourhoods of these nodes, in this order."""
        return NodeRows(self.network, self.nodes[rows], self.neighbours, self._starts)

    def around(self, node: int) -> Parts:
        """The neighbourhood of a node."""
        draw = np.random.default_rng(node)
        chosen, frontier = [node], [node]
        known = {node}
        for most in self.neighbours:
            found = []
            for one in frontier:
                near = self._near(one)
                near = near if len(near) <= most else draw.choice(near, most, replace=False)
                new = [other for other in dict.fromkeys(near.tolist()) if other not in known]
                known.update(new)
                found += new
            chosen += found
            frontier = found
        return self._induced(np.array(chosen))

    def _near(self, node: int) -> np.ndarray:
        return self.network.edges[0, self._starts[node]:self._starts[node + 1]]

    def _induced(self, nodes: np.ndarray) -> Parts:
        """These nodes with the edges among them."""
        spans = [np.arange(self._starts[node], self._starts[node + 1]) for node in nodes]
        edges = np.concatenate(spans) if spans else np.zeros(0, np.int64)
        targets = np.repeat(np.arange(len(nodes)), [len(span) for span in spans])
        place = dict(zip(nodes.tolist(), range(len(nodes)), strict=True))
        sources = np.array([place.get(source, -1) for source in self.network.edges[0, edges].tolist()], np.int64)
        inside = sources >= 0
        weights = None if self.network.weights is None else self.network.weights[edges[inside]]
        return Parts(self.network.features[nodes], np.stack([sources[inside], targets[inside]]).astype(np.int32), weights)


def load_nodes(source: Any, *, neighbours: Sequence[int] | None = None, split: tuple[float, float, float] | None = (0.7, 0.1, 0.2), seed: int = 0,
               folds: int | None = None, fold: int = 0, like: Run | str | Path | None = None, facts: Mapping[str, Any] | None = None) -> Dataset:
    """The labelled nodes of one graph in three stratified splits.

    Edges have no direction: each counts once in both, edges from a node to itself are left out. Nodes without a label stay in the graph.

    Args:
        source: what `tfcnn.data.network_files.read_network` takes: an `.npz` with CSR parts, a folder with edges.csv and nodes.csv, or a dict of arrays.
        neighbours: None trains on the whole graph, which becomes part of the network: it answers for the nodes of this graph alone, by their numbers. Else
            how many neighbours of a node are drawn, how many of each of these, and so on, such as (10, 10): the network gets the neighbourhood of a node,
            answers for nodes and graphs that it has never seen, and never passes through the whole graph.
        split, seed, folds, fold, like: see `load_images`.
        facts: of a run that the nodes are to be like, in place of `neighbours`.

    Returns:
        A `Dataset` whose `inputs` are int32 (n, 1), the numbers of nodes, or with `neighbours` like float32 (n, size, features + 1 + size).

    Raises:
        InputError: a graph that cannot be used, or of a run on a whole graph another graph than its own.
    """
    known = check_split(split, folds, fold, like)
    found = source if isinstance(source, Found) else look(source, neighbours=neighbours, like=like, facts=facts)
    if split is not None:
        check_examples(found.source, folds)
    arranged = arrange(found.source, found.reads, split=split, seed=seed, folds=folds, fold=fold, known=known)
    network, told = found.contents["graph"], dict(found.facts)
    nodes = np.array([found.contents[read.example.path] for read in arranged.reads])
    inputs = NodeRows(network, nodes, told["neighbours"]) if told["neighbours"] else nodes.astype(np.int32)[:, None]
    arguments = {"split": split and list(split), "seed": seed, "folds": folds, "fold": fold, "like": like_text(like), "kind": KIND,
                 "neighbours": neighbours and list(neighbours)}
    data = Dataset(inputs=inputs, items=arranged.items, labels=arranged.labels, input_shape=inputs.shape[1:], geometry=KIND, source=found.source.name,
                   quarantined=arranged.quarantined, leaks=arranged.leaks, arguments=arguments, kind=KIND)
    if facts is not None:
        return replace(data, facts=dict(facts))
    seen = network.features[nodes[data.rows("train")]] if told["neighbours"] else network.features
    return replace(data, facts={**{name: value for name, value in told.items() if name != "negative"}, **statistics_of(seen)})


def look(source: Any, *, neighbours: Sequence[int] | None = None, like: Run | str | Path | None = None, facts: Mapping[str, Any] | None = None) -> Found:
    """The labelled nodes of a source, before they are split; for the arguments see `load_nodes`."""
    check_neighbours(neighbours)
    if facts is None and like is not None:
        facts = _facts_of(like if isinstance(like, Run) else load_run(like), neighbours)
    network = read_network(source)
    told = _facts(network, facts["neighbours"] if facts is not None else neighbours and [int(count) for count in neighbours])
    if facts is not None:
        _check_like(told, facts)
    labelled = [number for number, label in enumerate(network.labels) if label]
    numbers = [number for number in labelled if network.splits[number]] or labelled
    if len(numbers) < len(labelled):
        logger.info("%d of the %d nodes with labels have no split; they stay in the graph and are not learned, validated or tested",
                    len(labelled) - len(numbers), len(labelled))
    place = {number: f"{network.source or 'array'}/{network.names[number]}" for number in numbers}
    reads = [Read(Example(place[number], network.labels[number], network.splits[number], network.groups[number]), _digest(network, number), "", None,
                  network.features[number].nbytes) for number in numbers]
    opened = Source(network.source, lambda: iter(()), tuple(read.example for read in reads), len(reads), kind=KIND)
    contents = {"graph": network, **{place[number]: number for number in numbers}}
    if not told["neighbours"]:
        keep_graph(told["graph"], Parts(network.features, network.edges, network.weights))
    return Found(opened, reads, contents, told, _notes(network, place))


def read_files(inputs: Sequence[Any], shape: tuple[int, ...], facts: Mapping[str, Any]) -> tuple[list[str], Callable]:
    """All nodes of graphs, with labels or without, and (range of rows) → for each its row, or None and why it cannot be used."""
    networks = [read_network(one, labelled=False) for one in inputs]
    for network in networks:
        _check_like(_facts(network, facts["neighbours"]), facts)
    places = [(network, number) for network in networks for number in range(network.node_count)]
    rows = {id(network): NodeRows(network, np.arange(network.node_count), facts["neighbours"]) for network in networks} if facts["neighbours"] else {}

    def one(row: int):
        network, number = places[row]
        return (rows[id(network)][number] if rows else np.array([number], np.int32)), None

    return [f"{network.source or 'array'}/{network.names[number]}" for network, number in places], lambda asked: [one(row) for row in asked]


def check_neighbours(neighbours: Sequence[int] | None) -> None:
    """Raises InputError for what says nothing about how many neighbours are drawn."""
    right = lambda count: isinstance(count, (int, np.integer)) and not isinstance(count, bool) and 1 <= count <= MOST_NEIGHBOURS
    if neighbours is None:
        return
    if isinstance(neighbours, str) or not isinstance(neighbours, Sequence) or not 1 <= len(neighbours) <= MOST_HOPS or not all(map(right, neighbours)):
        raise InputError(f"expected numbers of neighbours from 1 to {MOST_NEIGHBOURS}, one for each of at most {MOST_HOPS} steps, such as 10,10, "
                         f"got neighbours={neighbours}")
    if size_of(neighbours) > 4096:
        raise InputError(f"expected neighbourhoods of at most 4096 nodes, got neighbours={list(neighbours)}, which makes {size_of(neighbours)}; draw fewer")


def size_of(neighbours: Sequence[int]) -> int:
    """Nodes of a neighbourhood at most, with the node itself."""
    return 1 + sum(int(np.prod(neighbours[:steps])) for steps in range(1, len(neighbours) + 1))


def _facts_of(run: Run, neighbours: Sequence[int] | None) -> dict[str, Any] | None:
    """Of a run whose splits are followed; None of one of another kind."""
    if run.kind != KIND:
        return None
    before = run.facts["neighbours"]
    if (neighbours and list(neighbours)) != before:
        given = f"--neighbours {','.join(map(str, before))}" if before else "no neighbours"
        raise InputError(f"expected neighbours={before} as in the run '{run.path}' that is followed, got neighbours={neighbours and list(neighbours)}; "
                         f"give {given}")
    return run.facts


def _facts(network: Network, neighbours: Sequence[int] | None) -> dict[str, Any]:
    told = {"neighbours": neighbours and list(neighbours), "features": network.features.shape[1], "negative": bool((network.features < 0).any())}
    if neighbours:
        size = size_of(neighbours)
        return {**told, "size": size, "dtype": "float32", "what": f"the neighbourhood of a node as one matrix of {size} lines, the node itself in the "
                f"first: of each node its {told['features']} features, then 1, then the weights of the edges from every node of it, 0 where there is none; "
                "lines behind the last node are 0"}
    return {**told, "nodes": network.node_count, "graph": graph_digest(network),
            "what": f"the number of a node of the graph that the network was trained on, from 0 to {network.node_count - 1}"}


def graph_digest(network: Network) -> str:
    """Of the features and edges of a graph."""
    digest = hashlib.sha256(str((network.features.shape, network.edges.shape)).encode())
    for array in (network.features, network.edges, network.weights):
        digest.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _check_like(told: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Raises InputError for a graph that a run cannot answer for."""
    if told["features"] != facts["features"]:
        raise InputError(f"expected nodes of {facts['features']} features as the run was trained on, got {told['features']}")
    if facts.get("counts") and told["negative"]:
        raise InputError("expected features from 0 up, counts as the run was trained on, got some below 0")
    if not facts["neighbours"] and told["graph"] != facts["graph"]:
        raise InputError("expected the graph that the run was trained on, got another one: its network knows no other; train with --neighbours to answer for "
                         "nodes and graphs that it has not seen")


def _digest(network: Network, number: int) -> str:
    """Of a node: its name and its features; two nodes are never the same."""
    return content_digest(network.names[number].encode() + network.features[number].tobytes())


def _notes(network: Network, place: Mapping[int, str]) -> dict[str, tuple[str, ...]]:
    """What is unusual about labelled nodes, for the audit; says what is unusual about the graph."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    degrees = np.bincount(network.edges[1], minlength=network.node_count)
    pieces, piece = connected_components(coo_array((np.ones(network.edges.shape[1]), tuple(network.edges)), (network.node_count,) * 2), directed=False)
    again, loops = network.listed
    logger.info("%d nodes, %d of them with labels, %d edges in %d connected parts, %.0f %% of the nodes in the largest; left out were %d edges that are listed "
                "again and %d from a node to itself", network.node_count, len(place), network.edges.shape[1] // 2, pieces,
                100 * np.bincount(piece).max() / network.node_count, again, loops)
    alone = tuple(path for number, path in place.items() if not degrees[number])
    return {"without_edges": alone} if alone else {}
