"""Where graphs come from: TU folders, DGCNN text files, CSV with SMILES, and pairs of arrays; each graph is features of nodes and undirected edges.

Files that number the kinds of their nodes (tags, node labels, elements) give one feature for each kind, 1 or 0; which ones there are is a fact of the data.
"""

import csv
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfcnn.data.arrays import parts_of
from tfcnn.data.sources import label_text
from tfcnn.data.split import SPLIT_NAMES
from tfcnn.errors import InputError, first_line, is_plain

NOT_AN_ATOM = ("label", "split", "group", "smiles")  # columns of a CSV of molecules
ATOM = ("charge", "hydrogens", "aromatic", "in a ring")  # features of an atom besides its element


class Graph(NamedTuple):
    """One graph as it was read.

    Attributes:
        name: where it came from.
        tags: what kind each node is, or () where its source does not say.
        values: float32 (n, values), further features of each node.
        edges: int64 (2, e), two nodes each, as they are listed, perhaps in both directions, more than once, or from a node to itself.
        weights: float32 (e,), or None.
        label, split, group: "" for none.
        fault: why it cannot be used, or "".
    """

    name: str
    tags: tuple[str, ...]
    values: np.ndarray
    edges: np.ndarray
    weights: np.ndarray | None = None
    label: str = ""
    split: str = ""
    group: str = ""
    fault: str = ""

    @property
    def node_count(self) -> int:
        """Of its nodes."""
        return len(self.values)


def read_graphs(source: Any, *, labelled: bool = True) -> tuple[str, list[Graph]]:
    """(what opens the source again, its graphs).

    Args:
        source: a folder in the TU format (NAME_A.txt, NAME_graph_indicator.txt, NAME_graph_labels.txt and perhaps NAME_node_labels.txt and
            NAME_node_attributes.txt; Morris et al. 2020, "TUDataset"); a .txt file as Zhang et al. 2018, "An End-to-End Deep Learning Architecture
            for Graph Classification" (DGCNN), have it; a CSV with the columns smiles, label and perhaps split and group; in Python (graphs, labels),
            each graph a pair of features (n, f) and edges (2, e), or a dict of such pairs by split.
        labelled: False takes files without labels too; they are "" then.

    Raises:
        InputError: none of these, or one that cannot be read.
    """
    if isinstance(source, (str, os.PathLike)):
        path = Path(os.path.abspath(source))
        return str(path), list(_read_path(path, labelled))
    parts = parts_of(source)
    for name, part in parts.items():
        if not (isinstance(part, tuple) and len(part) == 2):
            raise InputError(f"expected (graphs, labels){' for each split' if name else ''}, got {type(part).__name__}; give a path, a pair or a dict of pairs")
    return "", [graph for name, part in parts.items() for graph in _of_arrays(part[0], part[1], name)]


def clean_edges(edges: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """Each edge once in each direction, in the order of targets, then sources; without those from a node to itself, which layers add where they want them.

    Of several weights of an edge the largest counts.
    """
    several = np.where(edges[0] != edges[1])[0]
    ends = np.concatenate([edges[:, several], edges[::-1, several]], axis=1)
    values = np.ones(ends.shape[1], np.float32) if weights is None else np.tile(weights[several], 2)
    order = np.lexsort((-values, ends[0], ends[1]))
    ends, values = ends[:, order], values[order]
    first = np.ones(ends.shape[1], bool)
    first[1:] = (ends[:, 1:] != ends[:, :-1]).any(axis=0)
    return ends[:, first].astype(np.int32), None if weights is None else values[first]


def degrees(edges: np.ndarray, count: int) -> np.ndarray:
    """float32 (count, 1): how many neighbours each node has, the feature of nodes that have none, as in Xu et al. 2019, section 7."""
    return np.bincount(edges[1], minlength=count).astype(np.float32)[:, None]


def fault_of(values: np.ndarray, edges: np.ndarray, weights: np.ndarray | None = None) -> str:
    """Why a graph cannot be used, or ""."""
    if not len(values):
        return "no nodes"
    if not np.isfinite(values).all():
        return f"NaN or infinity among the features of node {int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])}"
    outside = edges[(edges < 0) | (edges >= len(values))]
    if len(outside):
        return f"an edge names node {int(outside[0])}, but there are only nodes 0 to {len(values) - 1}"
    if weights is not None and not (np.isfinite(weights).all() and (weights > 0).all()):
        return "a weight of an edge that is not above 0"
    return ""


def _read_path(path: Path, labelled: bool) -> Iterator[Graph]:
    if not path.exists():
        raise InputError(f"expected graphs, but there is no '{path}'; check the path")
    if path.is_dir():
        yield from _read_tu(path, labelled)
    elif path.suffix.lower() == ".txt":
        yield from _read_dgcnn(path)
    elif path.suffix.lower() == ".csv":
        yield from _read_smiles(path, labelled)
    else:
        raise InputError(f"expected a folder in the TU format, a .txt file of DGCNN or a CSV with a column smiles, got '{path}'; "
                         "one graph whose nodes have labels is read with --kind node")


def _read_tu(folder: Path, labelled: bool) -> Iterator[Graph]:
    found = sorted(folder.glob("*_A.txt"))
    if len(found) != 1:
        more = "one graph whose nodes have labels is read with --kind node" if (folder / "edges.csv").exists() else "give a folder in the TU format"
        raise InputError(f"expected one file NAME_A.txt in '{folder}', found {len(found)}; {more}")
    part = lambda name: found[0].with_name(f"{found[0].name[:-len('_A.txt')]}_{name}.txt")
    needed = [part("graph_indicator"), *([part("graph_labels")] if labelled else [])]
    if lacks := [path.name for path in needed if not path.exists()]:
        raise InputError(f"expected {lacks[0]} beside {found[0].name} in '{folder}', but it is not there")
    edges = _table(found[0], np.int64, 2) - 1
    belongs = _table(part("graph_indicator"), np.int64, 1)[:, 0] - 1
    nodes, graphs = len(belongs), int(belongs.max(initial=-1)) + 1
    labels = [line.strip() for line in _lines(part("graph_labels"))] if part("graph_labels").exists() else [""] * graphs
    tags = [line.strip() for line in _lines(part("node_labels"))] if part("node_labels").exists() else []
    values = _table(part("node_attributes"), np.float32) if part("node_attributes").exists() else np.zeros((nodes, 0), np.float32)
    for name, count, expected, of in (("graph_labels", len(labels), graphs, "graph"), ("node_labels", len(tags) or nodes, nodes, "node"),
                                      ("node_attributes", len(values), nodes, "node")):
        if count != expected:
            raise InputError(f"expected a line for each of the {expected} {of}s in '{part(name)}', got {count}")
    if (np.diff(belongs) < 0).any() or belongs.min(initial=0) < 0:
        raise InputError(f"expected the nodes of one graph after the other in '{part('graph_indicator')}', numbered from 1, but they are not in order")
    starts = np.searchsorted(belongs, np.arange(graphs + 1))
    inside = (edges >= 0).all(axis=1) & (edges < nodes).all(axis=1)
    if not inside.all():
        raise InputError(f"expected edges of nodes from 1 to {nodes} in '{found[0]}', got {tuple((edges[~inside][0] + 1).tolist())} in line "
                         f"{int(np.flatnonzero(~inside)[0]) + 1}")
    owner = belongs[edges[:, 0]]
    across = np.flatnonzero(owner != belongs[edges[:, 1]])
    if len(across):
        ends = tuple((edges[across[0]] + 1).tolist())
        raise InputError(f"expected edges within graphs in '{found[0]}', got {ends} in line {int(across[0]) + 1}, whose nodes are of two; graph_indicator says "
                         "which graph a node is of")
    order = np.argsort(owner, kind="stable")
    bounds = np.searchsorted(owner[order], np.arange(graphs + 1))
    for number in range(graphs):
        first, last = starts[number], starts[number + 1]
        own = edges[order[bounds[number]:bounds[number + 1]]].T - first
        yield _graph(f"{folder}/{number + 1}", tuple(tags[first:last]), values[first:last], own, label=labels[number])


def _read_dgcnn(path: Path) -> Iterator[Graph]:
    """The number of graphs; then for each a line with its number of nodes and its label, and a line a node: tag, degree, neighbours, perhaps values."""
    lines = _lines(path)

    def numbers(place: int, least: int, what: str, counted: int | None) -> list[str]:
        found = lines[place].split() if place < len(lines) else []
        if len(found) < least or not all(_is_whole(text) for text in found[:least]) or (counted is not None and int(found[counted]) < 0):
            raise InputError(f"expected {what} in line {place + 1} of '{path}', got {repr(lines[place][:40]) if place < len(lines) else 'the end of the file'}")
        return found

    total, place = int(numbers(0, 1, "the number of graphs", 0)[0]), 1
    for number in range(total):
        count, label = numbers(place, 2, "the number of nodes and the label of a graph", 0)[:2]
        tags, edges, values = [], [], []
        for node in range(int(count)):
            at = place + 1 + node
            tag, degree, *rest = numbers(at, 2, "the tag of a node, the number of its neighbours, and these", 1)
            if len(rest) < int(degree) or not all(_is_whole(text) for text in rest[:int(degree)]):
                raise InputError(f"expected {degree} neighbours in line {at + 1} of '{path}', got {len(rest)}")
            tags.append(tag)
            edges += [(int(other), node) for other in rest[:int(degree)]]
            values.append(_values(rest[int(degree):], f"line {at + 1} of '{path}'"))
        if len({len(row) for row in values}) > 1:
            raise InputError(f"expected as many values for each node of the graph in line {place + 1} of '{path}', got different numbers")
        shape = (int(count), len(values[0]) if values else 0)
        yield _graph(f"{path}/{number + 1}", tuple(tags), np.array(values, np.float32).reshape(shape), np.array(edges, np.int64).reshape(-1, 2).T, label=label)
        place += int(count) + 1
    if place < len(lines):
        raise InputError(f"expected {total} graphs in '{path}' as its first line says, got more in line {place + 1}; say how many there are")


def _read_smiles(path: Path, labelled: bool) -> Iterator[Graph]:
    """Molecules from a CSV: a node an atom, without hydrogens, an edge a bond; weights are the orders of bonds, 1.5 of aromatic ones."""
    try:
        from rdkit import Chem, rdBase
    except ImportError as error:
        raise InputError(f"expected rdkit to read molecules, but {error}; install it with pip install 'tfcnn[molecule]'") from error

    rdBase.DisableLog("rdApp.*")  # what it says of a molecule is the reason of its quarantine
    with open(path, newline="", encoding="utf-8-sig", errors="replace") as lines:
        reader = csv.DictReader(lines)
        names = reader.fieldnames or []
        if "smiles" not in names or (labelled and "label" not in names):
            raise InputError(f"expected the columns smiles{' and label' if labelled else ''} in '{path}', found {', '.join(names)[:200] or 'nothing'}")
        for row in reader:
            number = reader.line_num  # a field in quotes may have several lines, and empty lines are skipped
            told = {name: (row.get(name) or "").strip() for name in NOT_AN_ATOM}
            if told["split"] and told["split"].lower() not in SPLIT_NAMES:
                raise InputError(f"expected train, validation or test in the column split of '{path}', got '{told['split']}' in line {number}")
            split = SPLIT_NAMES.get(told["split"].lower(), "")
            molecule = Chem.MolFromSmiles(told["smiles"])
            if molecule is None:
                yield _graph(f"{path}/{number}", (), np.zeros((0, len(ATOM)), np.float32), np.zeros((2, 0), np.int64), label=told["label"], split=split,
                             fault=f"no molecule: SMILES '{told['smiles'][:40]}' cannot be read")
                continue
            atoms, bonds = list(molecule.GetAtoms()), list(molecule.GetBonds())
            values = [(atom.GetFormalCharge(), atom.GetTotalNumHs(), atom.GetIsAromatic(), atom.IsInRing()) for atom in atoms]
            edges = np.array([(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in bonds], np.int64).reshape(-1, 2).T
            yield _graph(f"{path}/{number}", tuple(atom.GetSymbol() for atom in atoms), np.array(values, np.float32).reshape(len(atoms), len(ATOM)), edges,
                         np.array([bond.GetBondTypeAsDouble() for bond in bonds], np.float32), told["label"], split, told["group"])


def _of_arrays(graphs: Any, labels: Any, split: str) -> Iterator[Graph]:
    labels = np.asarray(labels, object)
    if not hasattr(graphs, "__len__") or labels.ndim != 1 or len(labels) != len(graphs):
        count = f"{len(graphs)} graphs" if hasattr(graphs, "__len__") else type(graphs).__name__
        raise InputError(f"expected a list of graphs and one label for each, got {count} and labels of shape={labels.shape}")
    for row, (graph, label) in enumerate(zip(graphs, labels.tolist(), strict=True)):
        yield of_pair(graph, f"array/{split}/{row}" if split else f"array/{row}", "" if label is None else label_text(label), split)


def of_pair(graph: Any, name: str, label: str = "", split: str = "") -> Graph:
    """A graph from features (n, f) and edges (2, e), and perhaps weights (e,).

    Raises:
        InputError: something else.
    """
    try:
        parts = [np.asarray(part) for part in graph] if isinstance(graph, (tuple, list)) and len(graph) in (2, 3) else []
    except ValueError as error:  # lists of different lengths
        raise InputError(f"expected a graph as features (n, f), edges int (2, e) and perhaps weights (e,), but in {name}: {first_line(error)}") from error
    values, edges, *weights = parts or (np.zeros(0), np.zeros(0))
    edges = edges.astype(np.int64) if edges.shape == (2, 0) else edges  # of a graph of one node; an empty list has no type
    if not parts or values.ndim != 2 or values.dtype.kind not in "uifb" or edges.ndim != 2 or len(edges) != 2 or edges.dtype.kind not in "ui" \
            or any(one.shape != (edges.shape[1],) for one in weights):
        got = " and ".join(f"{part.dtype} of shape={part.shape}" for part in parts) or type(graph).__name__
        raise InputError(f"expected a graph as features (n, f), edges int (2, e) and perhaps weights (e,), got {got} in {name}")
    return _graph(name, (), values.astype(np.float32), edges.astype(np.int64), weights[0].astype(np.float32) if weights else None, label, split)


def _graph(name: str, tags: tuple[str, ...], values: np.ndarray, edges: np.ndarray, weights: np.ndarray | None = None, label: str = "", split: str = "",
           group: str = "", fault: str = "") -> Graph:
    return Graph(name, tags, values, edges, weights, label, split, group, fault or fault_of(values, edges, weights))


def check_graphs(found: Sequence[Graph], name: str) -> None:
    """Raises InputError where there are none, none has an edge, features differ in number, or a label cannot be one."""
    good = [graph for graph in found if not graph.fault]
    where = f" in '{name}'" if name else ""
    if not good:
        raise InputError(f"expected graphs{where}, found none" if not found else
                         f"expected graphs{where}, but none of {len(found)} can be used; the first: {found[0].name}: {found[0].fault}")
    if not any((graph.edges[0] != graph.edges[1]).any() for graph in good):
        raise InputError(f"expected graphs with edges{where}, but none of {len(good)} has one; without edges a node is a series of numbers")
    counts = {graph.values.shape[1]: graph.name for graph in good}
    if len(counts) > 1:
        (one, first), (other, second), *_ = counts.items()
        raise InputError(f"expected nodes of one number of features, got {one} in {first} and {other} in {second}")
    unsplit = [graph.name for graph in good if not graph.split]
    if unsplit and len(unsplit) < len(good):
        raise InputError(f"expected a split for all graphs{where} or for none, got none for {len(unsplit)} of {len(good)}, such as {unsplit[0]}; "
                         "fill all or none")
    wrong = next((graph for graph in found if not graph.label.strip() or not is_plain(graph.label)), None)
    if wrong:
        raise InputError(f"expected labels of one line with something in them, got {wrong.label!a} in {wrong.name}")


def _lines(path: Path) -> list[str]:
    """Of a text file, without empty ones at its end."""
    return path.read_text(encoding="utf-8-sig", errors="replace").rstrip().splitlines()


def _table(path: Path, dtype, columns: int | None = None) -> np.ndarray:
    """Numbers between commas, a row a line."""
    lines = _lines(path)
    if not lines:
        return np.zeros((0, columns or 0), dtype)
    try:
        values = np.array([line.replace(",", " ").split() for line in lines], dtype=float).reshape(len(lines), -1)
    except ValueError as error:
        raise InputError(f"expected numbers in '{path}', as many in each line, but: {first_line(error)}") from error
    if columns and len(values) and values.shape[1] != columns:
        raise InputError(f"expected {columns} numbers in each line of '{path}', got {values.shape[1]}")
    if np.issubdtype(dtype, np.integer):
        wrong = np.flatnonzero((values != np.round(values)).any(axis=1))
        if len(wrong):
            raise InputError(f"expected whole numbers in line {int(wrong[0]) + 1} of '{path}', got '{lines[wrong[0]][:40]}'")
    return values.astype(dtype)


def _is_whole(text: str) -> bool:
    return re.fullmatch(r"-?\d+", text, re.ASCII) is not None


def _values(texts: Sequence[str], where: str) -> list[float]:
    try:
        return [float(text) for text in texts]
    except ValueError as error:
        raise InputError(f"expected numbers in {where}, but: {first_line(error)}") from error
