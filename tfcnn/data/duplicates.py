"""Which photos show the same picture, whatever their encoding, size or orientation.

The idea is that of the DCT hash (Zauner 2010, "Implementation and benchmarking of perceptual image hash functions",
section 3.2.1): the lowest frequencies of a small grey picture survive re-encoding. They are compared as numbers and not
as signs, since a distance in pixel levels separates better than a Hamming distance, and a k-d tree finds all near pairs
without comparing each photo with each.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601
FREQUENCIES = tuple((u, v) for u in range(5) for v in range(5) if 0 < u + v <= 4)  # rows, columns; 14 of them
# In pixel levels. Copies of photos of trashnet600 and flowers128 at 0.4 to 1.6 times the size, as JPEG of quality 30 to 95,
# WebP or PNG, lie within 2.2 of the original in squares of 64 pixels or more; the nearest two different photos are 3.9 apart.
RADIUS = 3.0
SAME_CORRELATION, SAME_LEVELS = 0.95, 4.0  # of the whole thumbnails; the second is for pictures of one colour
NEIGHBOURS = 4
CHUNK = 4096
TURNS = tuple((transpose, flip_rows, flip_columns) for transpose in (False, True) for flip_rows in (False, True) for flip_columns in (False, True))


class Pair(NamedTuple):
    """Two rows that show the same picture, `first` < `second`; `turned` where one is mirrored or turned against the other."""

    first: int
    second: int
    turned: bool


def near_duplicates(thumbnails) -> list[Pair]:
    """The pairs of rows that show the same picture, re-encoded, resized, mirrored or turned by a multiple of 90 degrees.

    In a set of many equal pictures not every pair is named, but all of them hang together.

    Args:
        thumbnails: uint8 (n, 32, 32, 3), an array or anything that is indexed like one by row numbers.

    Returns:
        Pairs in ascending order.
    """
    from scipy.spatial import cKDTree

    if len(thumbnails) < 2:
        return []
    vectors = np.concatenate([_vectors(thumbnails[np.arange(start, min(start + CHUNK, len(thumbnails)))])
                              for start in range(0, len(thumbnails), CHUNK)])
    tree = cKDTree(vectors)
    found: dict[tuple[int, int], Pair] = {}
    absorbed = np.zeros(len(vectors), bool)  # as good as equal to a photo whose neighbours are all known
    for turn in TURNS:  # not turned comes first: it says what is absorbed, and its pairs stay
        candidates = _near(tree, _turned(vectors, turn), absorbed, absorb=not any(turn))
        for start in range(0, len(candidates), CHUNK):
            for pair in _verified(thumbnails, candidates[start:start + CHUNK], turn):
                found.setdefault(pair[:2], pair)
    return sorted(found.values())


def connected(count: int, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """A group number for each of `count` rows: rows that hang together through pairs have the same one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def _vectors(thumbnails: np.ndarray) -> np.ndarray:
    """float32 (n, 17) in pixel levels: low frequencies of the luminance, then mean red, blue and luminance."""
    from scipy.fft import dctn

    pixels = thumbnails.astype(np.float32)
    grey = pixels @ np.array(LUMINANCE, np.float32)
    waves = dctn(grey, axes=(1, 2), norm="ortho") / grey.shape[1]  # orthonormal: divided by the side, a root mean square
    waves = np.stack([waves[:, u, v] for u, v in FREQUENCIES], axis=1)
    level = grey.mean(axis=(1, 2))
    colour = np.stack([pixels[..., 0].mean(axis=(1, 2)) - level, pixels[..., 2].mean(axis=(1, 2)) - level, level], axis=1)
    return np.concatenate([waves, colour], axis=1)


def _turned(vectors: np.ndarray, turn: tuple[bool, bool, bool]) -> np.ndarray:
    """The vectors of the turned photos: a flip changes the sign of odd frequencies, a transposition swaps the two."""
    transpose, flip_rows, flip_columns = turn
    result = vectors.copy()
    for place, (u, v) in enumerate(FREQUENCIES):
        sign = (-1) ** (u * flip_rows + v * flip_columns)
        result[:, place] = sign * vectors[:, FREQUENCIES.index((v, u) if transpose else (u, v))]
    return result


def _turn(pixels: np.ndarray, turn: tuple[bool, bool, bool]) -> np.ndarray:
    """Thumbnails (n, side, side, 3), first transposed, then flipped."""
    transpose, flip_rows, flip_columns = turn
    if transpose:
        pixels = pixels.transpose(0, 2, 1, 3)
    return pixels[:, ::-1 if flip_rows else 1, ::-1 if flip_columns else 1]


def _near(tree, queries: np.ndarray, absorbed: np.ndarray, *, absorb: bool) -> np.ndarray:
    """(pairs, 2): row of the query, row of the tree within RADIUS of it, not the same row."""
    distances, rows = tree.query(queries, k=NEIGHBOURS, distance_upper_bound=RADIUS, workers=-1)
    query, place = np.nonzero(np.isfinite(distances))
    pairs = [np.stack([query, rows[query, place]], axis=1)]
    for row in np.flatnonzero(np.isfinite(distances).all(axis=1)):  # perhaps there are more than NEIGHBOURS
        if not absorbed[row]:
            others = np.array(tree.query_ball_point(queries[row], RADIUS))
            if absorb:
                absorbed[others[np.linalg.norm(tree.data[others] - queries[row], axis=1) < RADIUS / 2]] = True
            pairs.append(np.stack([np.full(len(others), row), others], axis=1))
    found = np.concatenate(pairs)
    return np.unique(found[found[:, 0] != found[:, 1]], axis=0)


def _verified(thumbnails, pairs: np.ndarray, turn: tuple[bool, bool, bool]) -> list[Pair]:
    """Those candidates whose whole thumbnails are alike, when the first is turned."""
    if not len(pairs):
        return []
    first = _turn(thumbnails[pairs[:, 0]].astype(np.float32), turn)
    second = thumbnails[pairs[:, 1]].astype(np.float32)
    levels = np.sqrt(np.mean((first - second) ** 2, axis=(1, 2, 3)))
    first, second = first - first.mean(axis=(1, 2), keepdims=True), second - second.mean(axis=(1, 2), keepdims=True)
    power = np.sqrt((first**2).sum(axis=(1, 2, 3)) * (second**2).sum(axis=(1, 2, 3)))
    correlation = (first * second).sum(axis=(1, 2, 3)) / np.maximum(power, 1e-6)
    same = (correlation >= SAME_CORRELATION) | (levels <= SAME_LEVELS)
    return [Pair(int(min(a, b)), int(max(a, b)), any(turn)) for a, b in pairs[same]]
