"""`GraphRows`: graphs as one array, each with its features, a mask and the matrix of its edges side by side, written out when it is read.

A row is float32 (size, features + 1 + size): of each node its features, 1 (0 where a smaller graph is padded), and the weights of the edges from all others
to it. One array is what batches, exports and an app handle alike; what stays in memory is the lists of edges.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Parts(NamedTuple):
    """A graph ready to be written out: float32 (n, features), int32 (2, e) with each edge in both directions, and float32 (e,) or None."""

    nodes: np.ndarray
    edges: np.ndarray
    weights: np.ndarray | None = None


class GraphRows:
    """Like an array float32 (graphs, size, features + 1 + size)."""

    dtype = np.dtype(np.float32)

    def __init__(self, graphs: Sequence[Parts], size: int, features: int):
        self.graphs, self.size, self.features = tuple(graphs), size, features

    @property
    def shape(self) -> tuple[int, int, int]:
        return (len(self), *row_shape(self.size, self.features))

    def __len__(self) -> int:
        return len(self.graphs)

    def __getitem__(self, rows) -> np.ndarray:
        if isinstance(rows, (int, np.integer)):
            return row_of(self.graph(int(rows)), self.size)
        places = np.arange(len(self))[rows]
        written = np.zeros((len(places), *self.shape[1:]), np.float32)
        for place, number in enumerate(places):
            row_of(self.graph(number), self.size, written[place])
        return written

    def graph(self, number: int) -> Parts:
        """The graph of a row."""
        return self.graphs[number]

    def choose(self, rows) -> "GraphRows":
        """These graphs, in this order."""
        return GraphRows([self.graphs[number] for number in np.arange(len(self.graphs))[rows]], self.size, self.features)


def row_shape(size: int, features: int) -> tuple[int, int]:
    return size, features + 1 + size


def row_of(graph: Parts, size: int, written: np.ndarray | None = None) -> np.ndarray:
    """A graph of at most `size` nodes as a row; into zeros that are given, or new ones."""
    count, features = graph.nodes.shape
    written = np.zeros(row_shape(size, features), np.float32) if written is None else written
    written[:count, :features] = graph.nodes
    written[:count, features] = 1
    sources, targets = graph.edges
    written[targets, features + 1 + sources] = 1 if graph.weights is None else graph.weights
    return written


def parts_of_row(row: np.ndarray, features: int) -> Parts:
    """The graph that a row holds, without padding."""
    count = int(row[:, features].sum())
    matrix = row[:count, features + 1:features + 1 + count]
    targets, sources = np.nonzero(matrix)
    return Parts(row[:count, :features], np.stack([sources, targets]).astype(np.int32), matrix[targets, sources])
