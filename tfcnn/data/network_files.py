"""Where one graph whose nodes have labels comes from: an `.npz` with CSR parts, a folder with edges.csv and nodes.csv, or arrays."""

import csv
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfcnn.data.graph_files import clean_edges, degrees, fault_of
from tfcnn.data.sources import label_text
from tfcnn.data.split import SPLIT_NAMES
from tfcnn.errors import InputError, first_line, is_plain

NOT_VALUES = ("node", "label", "split", "group")  # columns of nodes.csv that hold no features
ARRAYS = ("features", "edges", "labels", "weights", "names", "splits")
MASKS = {"train_mask": "train", "val_mask": "validation", "test_mask": "test"}  # as sets of PyTorch Geometric have them
CSR = tuple(f"{name}_{part}" for name in ("adj", "attr") for part in ("data", "indices", "indptr", "shape"))

logger = logging.getLogger(__name__)


class Network(NamedTuple):
    """One graph.

    Attributes:
        source: what opens it again, "" for what lies in memory.
        names: of its nodes.
        features: float32 (n, f).
        edges: int32 (2, e), each in both directions, in the order of targets.
        weights: float32 (e,), or None.
        labels, splits, groups: of each node, "" for none.
        listed: how often an edge was listed again, and how many led from a node to itself.
    """

    source: str
    names: tuple[str, ...]
    features: np.ndarray
    edges: np.ndarray
    weights: np.ndarray | None
    labels: tuple[str, ...]
    splits: tuple[str, ...]
    groups: tuple[str, ...]
    listed: tuple[int, int] = (0, 0)

    @property
    def node_count(self) -> int:
        """Of its nodes."""
        return len(self.names)


def read_network(source: Any, *, labelled: bool = True) -> Network:
    """One graph.

    Args:
        source: an `.npz` with adj_data, adj_indices, adj_indptr and adj_shape, the same of attr_ (or features), and labels, as Shchur et al. 2018,
            "Pitfalls of Graph Neural Network Evaluation", have them; a folder with edges.csv (source, target and perhaps weight) and nodes.csv (node, perhaps
            label, split and group, and a column for each feature), perhaps labels.csv (node, label and perhaps split); in Python a dict of features (n, f),
            edges (2, e), labels (n,) and perhaps weights (e,), names (n,) and splits (n,). A label of "", None or -1 stands for none.
        labelled: False takes a source without labels too.

    Raises:
        InputError: none of these, or a graph that cannot be used.
    """
    if isinstance(source, Mapping):
        return _of_arrays(source, "", labelled)
    if not isinstance(source, (str, os.PathLike)):
        raise InputError(f"expected a folder with edges.csv and nodes.csv, an .npz, or a dict of features, edges and labels, got {type(source).__name__}")
    path = Path(os.path.abspath(source))
    if not path.exists():
        raise InputError(f"expected a graph, but there is no '{path}'; check the path")
    if path.is_dir():
        return _of_tables(path, labelled)
    if path.suffix.lower() == ".npz":
        return _of_npz(path, labelled)
    raise InputError(f"expected a folder with edges.csv and nodes.csv, or an .npz, got '{path}'; many graphs with a label each are read with --kind graph")


def _of_npz(path: Path, labelled: bool) -> Network:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # zip files break in many ways
        raise InputError(f"expected arrays without pickled objects in '{path}', but it cannot be read ({type(error).__name__}: {error})") from error
    splits = _splits_of(arrays, path)
    known = (*ARRAYS, *CSR, *MASKS, "attr_matrix", "node_names", "attr_names", "class_names")
    if unused := [name for name in arrays if name not in known]:
        logger.warning("not used of '%s': %s; known are %s", path, ", ".join(unused), ", ".join(known))
    if "adj_indptr" not in arrays and {"features", "edges"} <= set(arrays):
        return _of_arrays({**{name: arrays[name] for name in ARRAYS if name in arrays}, **splits}, str(path), labelled)
    adjacency = _csr(arrays, "adj", path).tocoo()
    features = _csr(arrays, "attr", path).toarray() if "attr_indptr" in arrays else arrays.get("features", arrays.get("attr_matrix"))
    if features is None:
        raise InputError(f"expected features of nodes as attr_data, attr_indices, attr_indptr and attr_shape, or as features, in '{path}', found "
                         f"{', '.join(arrays)}")
    ones = bool((adjacency.data == 1).all())
    found = {"features": features, "edges": np.stack(adjacency.coords).astype(np.int64)[::-1], "weights": None if ones else adjacency.data,
             "names": arrays.get("node_names"), **splits}
    if "labels" in arrays:
        labels, classes = arrays["labels"], arrays.get("class_names", ())
        named = "class_names" in arrays and labels.dtype.kind in "iu" and labels.ndim == 1
        if named and labels.max(initial=-1) >= len(classes):
            raise InputError(f"expected a name for each class as class_names in '{path}', got {len(classes)} and a label {int(labels.max())}")
        found["labels"] = np.array([str(classes[label]) if label >= 0 else "" for label in labels]) if named else labels
    return _of_arrays({name: value for name, value in found.items() if value is not None}, str(path), labelled)


def _splits_of(arrays: Mapping[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """The split of each node by masks, where there are some."""
    found = [name for name in MASKS if name in arrays]
    if not found or "splits" in arrays:
        return {"splits": arrays["splits"]} if "splits" in arrays else {}
    masks = [arrays[name].astype(bool) for name in found]
    if any(mask.ndim != 1 or len(mask) != len(masks[0]) for mask in masks) or np.sum(masks, axis=0).max(initial=0) > 1:
        raise InputError(f"expected {', '.join(found)} in '{path}' with a value for each node, and each node in one of them at most, got others")
    splits = np.full(len(masks[0]), "", object)
    for name, mask in zip(found, masks, strict=True):
        splits[mask] = MASKS[name]
    return {"splits": splits}


def _csr(arrays: Mapping[str, np.ndarray], name: str, path: Path):
    from scipy.sparse import csr_array

    parts = [f"{name}_{part}" for part in ("data", "indices", "indptr", "shape")]
    if lacks := [part for part in parts if part not in arrays]:
        raise InputError(f"expected the array {lacks[0]} in '{path}', found {', '.join(arrays) or 'none'}")
    data, indices, indptr, shape = (arrays[part] for part in parts)
    if shape.shape != (2,) or indices.dtype.kind not in "iu" or indptr.dtype.kind not in "iu":
        raise InputError(f"expected whole numbers as {name}_indices and {name}_indptr, and two as {name}_shape in '{path}', got {indices.dtype}, "
                         f"{indptr.dtype} and shape={shape.shape}")
    if len(indices) and (indices.max() >= shape[1] or indices.min() < 0):
        what = f"an edge names node {int(indices.max())}, but there are only nodes 0 to {int(shape[1]) - 1}" if name == "adj" else "a column that is not there"
        raise InputError(f"expected indices from 0 to {int(shape[1]) - 1} in {name}_indices of '{path}', but {what}")
    try:
        return csr_array((data, indices, indptr), shape=tuple(int(side) for side in shape))
    except ValueError as error:
        raise InputError(f"expected the parts of a CSR matrix as {', '.join(parts)} in '{path}', but: {first_line(error)}") from error


def _of_tables(folder: Path, labelled: bool) -> Network:
    for name in ("edges.csv", "nodes.csv"):
        if not (folder / name).exists():
            raise InputError(f"expected edges.csv and nodes.csv in '{folder}', but {name} is not there")
    header, nodes = _table(folder / "nodes.csv", ("node",))
    values = [place for place, name in enumerate(header) if name not in NOT_VALUES]
    names = [row[header.index("node")] for _, row in nodes]
    place = {name: number for number, name in enumerate(names)}
    if len(place) < len(names):
        again = next(name for number, name in enumerate(names) if place[name] != number)
        raise InputError(f"expected each node once in '{folder / 'nodes.csv'}', but '{again}' stands there twice")
    features = np.array([[_number(row[at], f"column {header[at]}, line {line} of '{folder / 'nodes.csv'}'") for at in values] for line, row in nodes],
                        np.float32).reshape(len(nodes), len(values))
    told = {name: [row[header.index(name)].strip() if name in header else "" for _, row in nodes] for name in ("label", "split", "group")}
    if (folder / "labels.csv").exists():
        _read_labels(folder / "labels.csv", place, told)
    ends, weights = [], []
    columns, rows = _table(folder / "edges.csv", ("source", "target"))
    for line, row in rows:
        pair = [row[columns.index(name)] for name in ("source", "target")]
        if missing := next((name for name in pair if name not in place), None):
            raise InputError(f"expected nodes of nodes.csv in line {line} of '{folder / 'edges.csv'}', got '{missing}'; add it, or remove the edge")
        ends.append([place[name] for name in pair])
        if "weight" in columns:
            where = f"line {line} of '{folder / 'edges.csv'}'"
            weights.append(_number(row[columns.index("weight")], f"column weight, {where}"))
            if weights[-1] <= 0:
                raise InputError(f"expected a weight above 0 in {where}, got {weights[-1]:g}; remove the edge")
    arrays = {"features": features, "edges": np.array(ends, np.int64).reshape(-1, 2).T, "names": names,
              **({"weights": np.array(weights, np.float32)} if "weight" in columns else {}), "labels": told["label"], "splits": told["split"]}
    return _of_arrays(arrays, str(folder), labelled)._replace(groups=tuple(told["group"]))


def _number(cell: str, where: str) -> float:
    try:
        return float(cell)
    except ValueError as error:
        raise InputError(f"expected a number in {where}, got '{cell[:40]}'") from error


def _table(path: Path, needed: Sequence[str]) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """(names of the columns, (number, cells) of each line)."""
    with open(path, newline="", encoding="utf-8-sig", errors="replace") as lines:
        reader = csv.reader(lines)
        header = [name.strip() for name in next(reader, [])]
        if not set(needed) <= set(header) or len(set(header)) < len(header):
            raise InputError(f"expected the columns {' and '.join(needed)}, and each once, in '{path}', found {', '.join(header)[:200] or 'nothing'}")
        rows = [(number, [cell.strip() for cell in row]) for number, row in enumerate(reader, start=2) if row]
    wrong = next((number for number, row in rows if len(row) != len(header)), None)
    if wrong:
        raise InputError(f"expected {len(header)} cells in line {wrong} of '{path}', got another number")
    return header, rows


def _read_labels(path: Path, place: Mapping[str, int], told: dict[str, list[str]]) -> None:
    """Labels and splits of a file of their own into those of the nodes."""
    header, rows = _table(path, ("node", "label"))
    seen: set[str] = set()
    for line, row in rows:
        name = row[header.index("node")]
        if name not in place:
            raise InputError(f"expected nodes of nodes.csv in line {line} of '{path}', got '{name}'; add it, or remove the label")
        if name in seen:
            raise InputError(f"expected each node once in '{path}', but '{name}' stands there again in line {line}")
        seen.add(name)
        for column in ("label", "split"):
            if column in header:
                told[column][place[name]] = row[header.index(column)]


def _of_arrays(arrays: Mapping[str, Any], source: str, labelled: bool) -> Network:
    where = f" in '{source}'" if source else ""
    if unknown := next((name for name in arrays if name not in ARRAYS), None):
        raise InputError(f"expected {', '.join(ARRAYS)} as parts of a graph, got '{unknown}'")
    if not {"features", "edges"} <= set(arrays):
        raise InputError(f"expected features (n, f) and edges (2, e) of a graph, got {', '.join(map(str, arrays)) or 'nothing'}")
    arrays = {name: value for name, value in arrays.items() if value is not None}
    try:
        features, edges = np.asarray(arrays["features"]), np.asarray(arrays["edges"])
        weights = np.asarray(arrays["weights"], np.float32) if "weights" in arrays else None
    except (ValueError, TypeError, KeyError) as error:
        wanted = "features (n, f), edges int (2, e) and perhaps weights (e,) as arrays of numbers"
        raise InputError(f"expected {wanted}{where}, but: {first_line(error)}") from error
    if features.ndim != 2 or features.dtype.kind not in "uifb" or edges.ndim != 2 or len(edges) != 2 or edges.dtype.kind not in "ui":
        raise InputError(f"expected features (n, f) and edges int (2, e){where}, got {features.dtype} of shape={features.shape} and {edges.dtype} of "
                         f"shape={edges.shape}")
    if weights is not None and weights.shape != (edges.shape[1],):
        raise InputError(f"expected a weight for each of the {edges.shape[1]} edges{where}, got shape={weights.shape}")
    if not (edges[0] != edges[1]).any():
        raise InputError(f"expected a graph with edges{where}, got {len(features)} nodes without one; without edges a node is a series of numbers")
    names = [str(name) for name in arrays.get("names", range(len(features)))]
    if len(set(names)) < len(names):
        again = next(name for number, name in enumerate(names) if name in names[:number])
        raise InputError(f"expected a name of its own for each node{where}, but '{again}' stands there twice")
    texts = _texts(arrays, len(features), where)
    for name, count in (("labels", len(texts["labels"])), ("names", len(names)), ("splits", len(texts["splits"]))):
        if count != len(features):
            raise InputError(f"expected {name} for the {len(features)} nodes that have features{where}, got {count}")
    features = features.astype(np.float32)
    if fault := fault_of(features, edges, weights):
        raise InputError(f"expected a graph that can be used{where}, but: {fault}")
    if labelled and not any(texts["labels"]):
        raise InputError(f"expected labels of nodes{where}, found none")
    if wrong := next((label for label in texts["labels"] if label and not is_plain(label)), None):
        raise InputError(f"expected labels of one line, got {wrong!a}")
    if wrong := next((split for split in texts["splits"] if split and split.lower() not in SPLIT_NAMES), None):
        raise InputError(f"expected train, validation or test as splits of nodes{where}, got '{wrong}'")
    clean, weighed = clean_edges(edges.astype(np.int64), weights)
    features = features if features.shape[1] else degrees(clean, len(features))
    loops, pairs = int((edges[0] == edges[1]).sum()), np.unique(edges, axis=1).shape[1]
    splits = tuple(SPLIT_NAMES.get(split.lower(), "") for split in texts["splits"])
    return Network(source, tuple(names), features, clean, weighed, tuple(texts["labels"]), splits, ("",) * len(names), (edges.shape[1] - pairs, loops))


def _texts(arrays: Mapping[str, Any], count: int, where: str) -> dict[str, list[str]]:
    """Labels and splits as texts, "" for none; -1 is none too, but beside one other label alone."""
    found = {}
    for name in ("labels", "splits"):
        values = np.asarray(arrays.get(name, [""] * count), object)
        if values.ndim != 1:
            raise InputError(f"expected one value a node as {name}{where}, got shape={values.shape}; of one-hot labels take argmax(axis=1)")
        found[name] = ["" if value is None or value != value else label_text(value).strip() for value in values.tolist()]
    if len(set(found["labels"]) - {"-1", ""}) > 1:
        found["labels"] = ["" if label == "-1" else label for label in found["labels"]]
    return found
