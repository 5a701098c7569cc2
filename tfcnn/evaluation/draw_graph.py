"""A graph as a piece of HTML: its nodes where their distances along edges put them, coloured by what speaks for and against the answer."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfcnn.data.graph_rows import parts_of_row

LARGE, SMALL, MARGIN = (320, 220), (110, 76), 14
MOST_NODES = 150  # of a drawing; more cannot be told apart
MOST_WRITTEN = 40  # nodes up to which each says what it is
LONGEST_WRITTEN, DARK = 4, 0.6  # characters; opacity from which they are white
PALETTE = ("var(--accent)", "var(--second)", "var(--third)")
FOR, AGAINST = "var(--accent)", "var(--second)"


def draw_graph(row: np.ndarray, heat: np.ndarray | None, facts: Mapping[str, Any], text: str, *, large: bool) -> str:
    """A row of `tfcnn.data.graph_rows`; `heat` as `tfcnn.evaluation.graph_heat` gives it."""
    graph = parts_of_row(row, facts["features"])
    names, tags = facts["names"], len(facts["tags"])
    kinds = graph.nodes[:, :tags].argmax(axis=1) if tags else np.zeros(len(graph.nodes), int)
    return _drawn(graph.edges, [names[kind] if tags else "" for kind in kinds], kinds, heat, large=large)


def draw_node(row: np.ndarray, heat: Any, facts: Mapping[str, Any], text: str, *, large: bool) -> str:
    """A node with its neighbourhood, which the row holds, or with what counts most around it, an `Around`; of a whole graph without heat its number."""
    if row.ndim == 2:
        graph = parts_of_row(row, facts["features"])
        return _drawn(graph.edges, [""] * len(graph.nodes), np.zeros(len(graph.nodes), int), heat, large=large, ringed=True)
    if heat is None or not large:
        return f'<p class="node">node {int(row[0])}</p>'
    return _drawn(heat.edges, [f"node {number}" for number in heat.numbers], np.zeros(len(heat.numbers), int), heat.heat, large=True, ringed=True)


def _drawn(edges: np.ndarray, names: Sequence[str], kinds: np.ndarray, heat: np.ndarray | None, *, large: bool, ringed: bool = False) -> str:
    """A graph with a name for each node; of a large one the first nodes."""
    count, shown = len(names), min(len(names), MOST_NODES)
    inside = edges[:, (edges < shown).all(axis=0)]
    width, height = LARGE if large else SMALL
    places = _on_canvas(layout(inside, shown), width, height)
    written = large and any(names) and shown <= MOST_WRITTEN and max(map(len, names)) <= LONGEST_WRITTEN
    radius = 8.0 if written else 5.0 if large and shown <= MOST_WRITTEN else 3.0 if shown <= MOST_WRITTEN else 1.8
    marks = [_edge(source, target, places, heat) for source, target in inside.T if source < target]
    marks += [_node(node, int(kinds[node]), names[node], places[node][0], places[node][1], radius, heat, written=written, ringed=ringed and node == 0)
              for node in range(shown)]
    more = f", the first {shown} of them" if shown < count else ""
    return (f'<svg class="graph" role="img" aria-label="a graph of {count} nodes and {edges.shape[1] // 2} edges{more}" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}">{"".join(marks)}</svg>')


def layout(edges: np.ndarray, count: int) -> np.ndarray:
    """(count, 2): places whose distances are near those along the edges int (2, e); parts that hang together stand beside each other.

    Source: Kamada & Kawai 1989, "An algorithm for drawing general undirected graphs", by stress majorization (Gansner et al. 2004).
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import shortest_path
    from sklearn.manifold import smacof

    if count < 2:
        return np.zeros((count, 2))
    steps = shortest_path(coo_array((np.ones(edges.shape[1]), tuple(edges)), (count, count)).tocsr(), directed=False, unweighted=True)
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


def _node(number: int, kind: int, name: str, x: float, y: float, radius: float, heat: np.ndarray | None, *, written: bool,
          ringed: bool) -> str:
    said = f"<title>{html.escape(name) or ('the node that was asked for' if ringed else f'node {number} of these')}</title>"
    if heat is None:
        fill, opacity = PALETTE[kind % len(PALETTE)], 1.0 if kind < len(PALETTE) else 0.55
    else:
        fill, opacity = (FOR if heat[number, 0] > 0 else AGAINST), abs(float(heat[number, 0]))
    circle = (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="var(--paper, white)"/>'
              f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{fill}" fill-opacity="{opacity:.2f}" stroke="currentColor" stroke-width="0.8"/>')
    ring = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius + 3.5}" fill="none" stroke="currentColor" stroke-width="1.4"/>' if ringed else ""
    label = (f'<text x="{x:.1f}" y="{y + 3.2:.1f}" font-size="{9 if len(name) < 4 else 7}" text-anchor="middle" '
             f'fill="{"white" if heat is not None and opacity > DARK else "currentColor"}">{html.escape(name)}</text>' if written else "")
    return f"<g>{said}{circle}{ring}{label}</g>"
