"""`load_graphs`: graphs from anything `read_graphs` takes, split, as a `Dataset` whose rows are written out when they are read."""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tfcnn.data.arrange import Found, arrange, check_examples, check_split, like_text, near_of
from tfcnn.data.dataset import Dataset
from tfcnn.data.graph_files import ATOM, Graph, check_graphs, clean_edges, degrees, read_graphs
from tfcnn.data.graph_rows import GraphRows, Parts
from tfcnn.data.read import Read, content_digest
from tfcnn.data.sources import Example, Source, sort_labels
from tfcnn.data.stacks import facts_of_run
from tfcnn.errors import InputError
from tfcnn.record import Run

KIND = "graph"
LARGEST = 512  # nodes of a graph where no size is asked for: a row is a matrix of size x size numbers
MOSTLY_ZERO = 0.1  # share of features that are not 0, up to which they are taken for counts of words
LEAST_VARIANCE = 1e-12  # of a feature that never changes: it is not scaled up
ROUNDS = 3  # of Weisfeiler and Leman's refinement, by which graphs are taken for the same

logger = logging.getLogger(__name__)


def load_graphs(source: Any, *, size: Sequence[int] | None = None, split: tuple[float, float, float] | None = (0.7, 0.1, 0.2), seed: int = 0,
                folds: int | None = None, fold: int = 0, like: Run | str | Path | None = None, facts: Mapping[str, Any] | None = None) -> Dataset:
    """Graphs with their labels in three stratified splits.

    Edges have no direction: each counts once in both, edges from a node to itself are left out. Graphs without nodes, with edges of nodes that are not
    there, with NaN, or with more nodes than `size` are left out and listed in `Dataset.quarantined`. Equal graphs, in whatever order their nodes stand,
    land in one split.

    Args:
        source: what `tfcnn.data.graph_files.read_graphs` takes: a folder in the TU format, a .txt file of DGCNN, a CSV with SMILES, or arrays.
        size: (nodes,) of the largest graph that the network takes; that of the source, at most 512, if None.
        split, seed, folds, fold, like: see `load_images`.
        facts: of a run that the graphs are to be like, in place of `size`.

    Returns:
        A `Dataset` whose `inputs` are like float32 (n, size, features + 1 + size), see `tfcnn.data.graph_rows`. Its `facts` have `size`, `features`, the
        kinds of nodes as `tags`, and of each feature `mean` and `variance` over the training graphs.

    Raises:
        InputError: a source that cannot be used, fewer than two labels, or a label with too few graphs.
    """
    known = check_split(split, folds, fold, like)
    found = source if isinstance(source, Found) else look(source, size=size, like=like, facts=facts)
    if split is not None:
        check_examples(found.source, folds)
    arranged = arrange(found.source, found.reads, near=near_of(found), split=split, seed=seed, folds=folds, fold=fold, known=known)
    told = found.facts
    inputs = GraphRows([found.contents[read.example.path] for read in arranged.reads], told["size"], told["features"])
    arguments = {"split": split and list(split), "seed": seed, "folds": folds, "fold": fold, "like": like_text(like), "kind": KIND, "size": size and list(size)}
    data = Dataset(inputs=inputs, items=arranged.items, labels=arranged.labels, input_shape=inputs.shape[1:], geometry=KIND, source=found.source.name,
                   quarantined=arranged.quarantined, leaks=arranged.leaks, arguments=arguments, kind=KIND)
    if facts is not None:
        return replace(data, facts=dict(facts))
    seen = [inputs.graphs[row].nodes for row in data.rows("train")]
    return replace(data, facts={**told, **statistics_of(np.concatenate(seen) if seen else np.zeros((0, told["features"])), kinds=len(told["tags"]))})


def look(source: Any, *, size: Sequence[int] | None = None, like: Run | str | Path | None = None, facts: Mapping[str, Any] | None = None) -> Found:
    """The graphs of a source, before they are split; for the arguments see `load_graphs`."""
    check_size(size)
    facts = facts if facts is not None else facts_of_run(like, KIND, {"size": size})
    name, graphs = read_graphs(source)
    check_graphs(graphs, name)
    told = {name: facts[name] for name in ("size", "features", "tags", "values", "names")} if facts is not None else _facts(graphs, size, name)
    brought = [_brought(graph, told) for graph in graphs]
    reads = [_read(graph, parts) for graph, parts in zip(graphs, brought, strict=True)]
    _say_quarantined(reads, told)
    contents = {read.example.path: parts for read, parts in zip(reads, brought, strict=True) if not isinstance(parts, str)}
    opened = Source(name, lambda: iter(()), tuple(read.example for read in reads), len(reads), kind=KIND)
    return Found(opened, reads, contents, told, _notes(graphs, reads, contents), {path: graph_hash(parts) for path, parts in contents.items()})


def read_files(inputs: Sequence[Any], shape: tuple[int, ...], facts: Mapping[str, Any]) -> tuple[list[str], Callable]:
    """The graphs of files, folders or pairs of arrays, with labels or without, and (range of rows) → for each its row, or None and why it cannot be used."""
    from tfcnn.data.graph_files import of_pair

    found = [graph for number, one in enumerate(inputs)
             for graph in (read_graphs(one, labelled=False)[1] if isinstance(one, (str, Path)) else [of_pair(one, f"input {number}")])]
    if not found:
        raise InputError(f"expected graphs in '{inputs[0]}', found none")

    def one(row: int):
        parts = _brought(found[row], facts)
        return (None, f"{found[row].name}: {parts}") if isinstance(parts, str) else (GraphRows([parts], facts["size"], facts["features"])[0], None)

    return [graph.name for graph in found], lambda rows: [one(row) for row in rows]


def check_size(size: Sequence[int] | None) -> None:
    """Raises InputError for what is no number of nodes."""
    if size is not None and (isinstance(size, str) or not isinstance(size, Sequence) or len(size) != 1
                             or not (isinstance(size[0], (int, np.integer)) and 2 <= size[0] <= 4096)):
        raise InputError(f"expected a size of one whole number of nodes from 2 to 4096 for graphs, got size={size}")


def graph_hash(graph: Parts, rounds: int = ROUNDS) -> str:
    """A digest that does not depend on the order of nodes: what each node sees of others, step by step.

    Source: Weisfeiler & Leman 1968; as a test of graphs Shervashidze et al. 2011, "Weisfeiler-Lehman Graph Kernels", section 3.1.
    """
    short = lambda text: hashlib.sha256(text).digest()[:8]
    colours = [short(row.tobytes()) for row in np.ascontiguousarray(graph.nodes)]
    weights = np.ones(graph.edges.shape[1], np.float32) if graph.weights is None else graph.weights
    for _ in range(rounds):
        near: list[list[bytes]] = [[] for _ in colours]
        for source, target, weight in zip(*graph.edges.tolist(), weights, strict=True):
            near[target].append(colours[source] + weight.tobytes())
        colours = [short(own + b"".join(sorted(others))) for own, others in zip(colours, near, strict=True)]
    return hashlib.sha256(b"".join(sorted(colours))).hexdigest()


def _facts(graphs: Sequence[Graph], size: Sequence[int] | None, source: str) -> dict[str, Any]:
    good = [graph for graph in graphs if not graph.fault]
    tags = list(sort_labels({tag for graph in good for tag in graph.tags}))
    values = good[0].values.shape[1]
    largest = max(graph.node_count for graph in good)
    names = list(ATOM) if source.lower().endswith(".csv") else [f"value {number}" for number in range(1, values + 1)]
    names = [*tags, *names] or ["neighbours"]
    return {"size": int(size[0]) if size else min(largest, LARGEST), "features": len(names), "tags": tags, "values": values, "names": names}


def _brought(graph: Graph, facts: Mapping[str, Any]) -> Parts | str:
    """A graph as a network gets it, or why it cannot."""
    if graph.fault:
        return graph.fault
    if graph.node_count > facts["size"]:
        return f"larger than the {facts['size']} nodes of the largest graph that the network takes: {graph.node_count}"
    edges, weights = clean_edges(graph.edges, graph.weights)
    if facts.get("counts") and (graph.values < 0).any():
        return "features below 0, and the network takes counts"
    if not graph.tags and facts["tags"] and graph.values.shape[1] == facts["features"]:  # arrays, whose first features say the kind
        return Parts(graph.values, edges, weights)
    if graph.values.shape[1] != facts["values"] or bool(graph.tags) != bool(facts["tags"]):
        kind = lambda there: " and a kind" if there else ""
        return f"{graph.values.shape[1]} values a node{kind(graph.tags)}, not {facts['values']}{kind(facts['tags'])}: {', '.join(facts['names'])[:60]}"
    unknown = sorted(set(graph.tags) - set(facts["tags"]))
    if unknown:
        return f"nodes of the kind {', '.join(unknown)[:40]}, which the network does not know"
    place = {tag: number for number, tag in enumerate(facts["tags"])}
    kinds = np.zeros((graph.node_count, len(place)), np.float32)
    kinds[np.arange(len(graph.tags)), [place[tag] for tag in graph.tags]] = 1
    nodes = np.concatenate([kinds, graph.values], axis=1)
    return Parts(nodes if nodes.shape[1] else degrees(edges, graph.node_count), edges, weights)


def _read(graph: Graph, parts: Parts | str) -> Read:
    example = Example(graph.name, graph.label, graph.split, graph.group)
    if isinstance(parts, str):
        return Read(example, "", parts, None, graph.values.nbytes)
    content = b"".join(array.tobytes() for array in parts if array is not None)
    return Read(example, content_digest(content), "", None, len(content))


def statistics_of(nodes: np.ndarray, kinds: int = 0) -> dict[str, Any]:
    """What a network does to features (n, f) first, of which the first `kinds` say the kind of a node.

    Where there are no kinds, and all are `counts`, whole numbers from 0 up that are 0 and 1 alone or mostly 0, those of a node are divided by their sum
    (Kipf & Welling 2017, section 5.2). Others are standardised by `mean` and `variance`; these are 0 and 1 of features that are 0 and 1 alone, and of those
    that never change.
    """
    if not len(nodes):
        return {}
    whole = not kinds and (nodes >= 0).all() and (nodes == np.round(nodes)).all()
    if whole and (nodes.max() <= 1 or np.count_nonzero(nodes) < MOSTLY_ZERO * nodes.size):
        return {"counts": True}
    nodes = nodes.astype(np.float64)
    plain = np.isin(nodes, (0, 1)).all(axis=0) | (nodes.var(axis=0) < LEAST_VARIANCE)
    return {"counts": False, "mean": np.where(plain, 0, nodes.mean(axis=0)).tolist(), "variance": np.where(plain, 1, nodes.var(axis=0)).tolist()}


def _say_quarantined(reads: Sequence[Read], facts: Mapping[str, Any]) -> None:
    larger = sum(read.reason.startswith("larger than") for read in reads)
    if larger:
        logger.warning("%d of %d graphs have more than %d nodes and are left out; --size takes larger ones", larger, len(reads), facts["size"])


def _notes(graphs: Sequence[Graph], reads: Sequence[Read], contents: Mapping[str, Parts]) -> dict[str, tuple[str, ...]]:
    """What is unusual about graphs, for the audit."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    found: dict[str, list[str]] = {}
    for graph, read in zip(graphs, reads, strict=True):
        parts = contents.get(read.example.path)
        if parts is None:
            continue
        ends, count = graph.edges, len(parts.nodes)
        listed = Counter(zip(*ends.tolist(), strict=True))
        pieces = connected_components(coo_array((np.ones(parts.edges.shape[1]), tuple(parts.edges)), (count, count)), directed=False)[0]
        for name, there in (("duplicate_edges", max(listed.values(), default=0) > 1), ("self_loops", bool((ends[0] == ends[1]).any())),
                            ("isolated_nodes", len(np.unique(parts.edges)) < count), ("disconnected", pieces > 1)):
            if there:
                found.setdefault(name, []).append(read.example.path)
    return {name: tuple(paths) for name, paths in found.items()}
