"""A graph as a piece of HTML: its nodes where their distances along edges put them, coloured by what speaks for and against the answer."""

import html
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfcnn.data.graph_rows import Parts, parts_of_row
from tfcnn.data.graphs import feature_names

LARGE, SMALL, MARGIN = (320, 220), (110, 76), 14
MOST_NODES = 150  # of a drawing; more cannot be told apart
MOST_WRITTEN = 40  # nodes up to which each says what it is
PALETTE = ("var(--accent)", "var(--second)", "var(--third)")
FOR, AGAINST = "var(--accent)", "var(--second)"


def draw_graph(row: np.ndarray, heat: np.ndarray | None, facts: Mapping[str, Any], text: str, *, large: bool) -> str:
    """A row of `tfcnn.data.graph_rows`; `heat` as `tfcnn.evaluation.graph_heat` gives it."""
    graph = parts_of_row(row, facts["features"])
    count = len(graph.nodes)
    shown = min(count, MOST_NODES)
    graph = _first(graph, shown)
    width, height = LARGE if large else SMALL
    places = _on_canvas(layout(graph), width, height)
    radius = 7.0 if large and shown <= MOST_WRITTEN else 3.0 if shown <= MOST_WRITTEN else 1.8
    marks = [_edge(source, target, places, heat) for source, target in graph.edges.T if source < target]
    names = feature_names(facts)
    tags = len(facts["tags"])
    for node, (x, y) in enumerate(places):
        kind = int(graph.nodes[node, :tags].argmax()) if tags else 0
        marks.append(_node(node, kind, names[kind] if tags else "", x, y, radius, heat, written=large and tags > 0 and shown <= MOST_WRITTEN))
    more = f", the first {shown} of {count}" if shown < count else ""
    said = f"a graph of {count} nodes and {len(parts_of_row(row, facts['features']).edges.T) // 2} edges{more}"
    return (f'<svg class="graph" role="img" aria-label="{said}" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
            f'{"".join(marks)}</svg>')


def layout(graph: Parts) -> np.ndarray:
    """(n, 2): places whose distances are near those along the edges; parts that hang together stand beside each other.

    Source: Kamada & Kawai 1989, "An algorithm for drawing general undirected graphs", by stress majorization (Gansner et al. 2004).
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import shortest_path
    from sklearn.manifold import smacof

    count = len(graph.nodes)
    if count < 2:
        return np.zeros((count, 2))
    steps = shortest_path(coo_array((np.ones(graph.edges.shape[1]), tuple(graph.edges)), (count, count)), directed=False, unweighted=True)
    reach = np.isfinite(steps)
    steps[~reach] = steps[reach].max() + 2
    return smacof(steps, n_components=2, init=_classical(steps), n_init=1, normalized_stress=False, random_state=0)[0]


def _classical(distances: np.ndarray) -> np.ndarray:
    """Places by the two largest eigenvectors of the centred squared distances (Torgerson 1952), a start that is the same each time."""
    squared = distances**2
    centred = -0.5 * (squared - squared.mean(axis=0) - squared.mean(axis=1, keepdims=True) + squared.mean())
    values, vectors = np.linalg.eigh(centred)
    places = vectors[:, -2:] * np.sqrt(np.maximum(values[-2:], 0))
    return places + np.random.default_rng(0).normal(0, 1e-3, places.shape)  # nodes that stand alike would never part


def _on_canvas(places: np.ndarray, width: int, height: int) -> np.ndarray:
    """Turned so that the longest side lies along the width, and scaled to it."""
    centred = places - places.mean(axis=0)
    turned = centred @ np.linalg.svd(centred, full_matrices=False)[2].T if len(places) > 2 else centred
    reach = np.ptp(turned, axis=0)
    scale = min((side - 2 * MARGIN) / reached for side, reached in zip((width, height), np.maximum(reach, 1e-6), strict=True))
    return (turned - (turned.max(axis=0) + turned.min(axis=0)) / 2) * min(scale, height / 5) + np.array([width, height]) / 2


def _edge(source: int, target: int, places: np.ndarray, heat: np.ndarray | None) -> str:
    (x1, y1), (x2, y2) = places[source], places[target]
    amount = 0.0 if heat is None else float(heat[target, 1 + source])
    line = f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    marked = f'{line} stroke="{FOR if amount > 0 else AGAINST}" stroke-opacity="{abs(amount):.2f}" stroke-width="6" stroke-linecap="round"/>' if amount else ""
    return f'{marked}{line} stroke="currentColor" stroke-opacity="0.55" stroke-width="1.2"/>'


def _node(number: int, kind: int, name: str, x: float, y: float, radius: float, heat: np.ndarray | None, *, written: bool) -> str:
    said = f"<title>node {number}{f', {html.escape(name)}' if name else ''}</title>"
    if heat is None:
        fill, opacity = PALETTE[kind % len(PALETTE)], 1.0 if kind < len(PALETTE) else 0.55
    else:
        fill, opacity = (FOR if heat[number, 0] > 0 else AGAINST), abs(float(heat[number, 0]))
    circle = (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="var(--paper, white)"/>'
              f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{fill}" fill-opacity="{opacity:.2f}" stroke="currentColor" stroke-width="0.8"/>')
    label = (f'<text x="{x:.1f}" y="{y + 3.2:.1f}" font-size="9" text-anchor="middle" fill="currentColor">{html.escape(name[:3])}</text>' if written else "")
    return f"<g>{said}{circle}{label}</g>"


def _first(graph: Parts, count: int) -> Parts:
    inside = (graph.edges < count).all(axis=0)
    return Parts(graph.nodes[:count], graph.edges[:, inside], None if graph.weights is None else graph.weights[inside])
