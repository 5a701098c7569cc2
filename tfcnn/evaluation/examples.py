"""Photos that a report shows: the surest mistakes and the least certain answers with what they rest on, and some of each cell of the confusion matrix.

They are chosen once, when the run is evaluated, and kept in `examples.json` as small JPEGs: the page can be written again when the photos are gone.
"""

import json
import logging
from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

import numpy as np

from tfcnn.data.dataset import Dataset
from tfcnn.data.photo import jpeg_text
from tfcnn.data.scores import Scores
from tfcnn.data.sources import below
from tfcnn.errors import WorkError
from tfcnn.evaluation.heat import heat_maps
from tfcnn.evaluation.overlay import overlay, shown
from tfcnn.files import write_text
from tfcnn.kinds import IMAGE, KINDS, function_of
from tfcnn.record import Run

FILE = "examples.json"
NOTHING: dict[str, Any] = {"worst": [], "uncertain": [], "cells": []}
SHOWN = 12  # mistakes, and as many uncertain answers
LARGE, SMALL = 160, 80  # sides in pixels
OF_A_CELL, OF_ALL_CELLS = 24, 480  # photos; about 2 kB each
QUALITY = 72  # of JPEGs
_TOLD = {"path", "label", "answer", "score", "own"}  # of each photo

logger = logging.getLogger(__name__)


def write_examples(run: Run, data: Dataset, scored: Scores, *, model=None) -> None:
    """Writes `examples.json` into a run folder.

    Args:
        data: with the photos of the scores.
        scored: of a split of `data`.
        model: of the run, where it is loaded already.
    """
    rows = {item.sha256: row for row, item in enumerate(data.items)}
    places = np.array([rows[digest] for digest in scored.digests])
    answers = scored.scores.argmax(axis=1)
    worst, uncertain = _worst(scored, answers), _uncertain(scored)
    draw = _pictures if data.kind == IMAGE else _drawings
    pictures = draw(run, data, places, answers, np.unique(np.concatenate([worst, uncertain])), model)

    def told(place: int) -> dict[str, Any]:
        return {"path": below(data.source, scored.paths[place]), "label": run.labels[scored.targets[place]], "answer": run.labels[answers[place]],
                "score": float(scored.scores[place].max()), "own": float(scored.scores[place, scored.targets[place]])}

    def small(place: int) -> dict[str, str]:
        example = np.asarray(data.inputs[places[place:place + 1]])[0]
        return {"photo": _jpeg(_image(example), SMALL)} if data.kind == IMAGE else {"html": _drawn(run, data, places[place], example, None, large=False)}

    cells = [{"target": target, "answer": answer, "photos": [{**told(place), **small(place)} for place in members]}
             for (target, answer), members in _chosen_of_cells(scored.targets, answers).items()]
    large = {name: [{**told(place), **pictures[place]} for place in chosen.tolist()] for name, chosen in (("worst", worst), ("uncertain", uncertain))}
    write_text(run.path / FILE, json.dumps({**large, "cells": cells}, ensure_ascii=False))


def _worst(scored: Scores, answers: np.ndarray) -> np.ndarray:
    wrong = np.flatnonzero(answers != scored.targets)
    return wrong[np.argsort(-scored.scores[wrong].max(axis=1), kind="stable")][:SHOWN]


def _uncertain(scored: Scores) -> np.ndarray:
    second, first = np.sort(scored.scores, axis=1)[:, -2:].T
    return np.argsort(first - second, kind="stable")[:SHOWN]


def _pictures(run: Run, data: Dataset, places: np.ndarray, answers: np.ndarray, chosen: np.ndarray, model) -> dict[int, dict[str, str]]:
    """Photo and heat of the answer by place."""
    pixels = np.asarray(data.inputs[places[chosen]])
    heats: Iterable[np.ndarray | None]
    try:
        heats = heat_maps(model or run.load_model(), pixels, answers[chosen])
    except WorkError as error:  # a training that is done is not lost for a picture
        logger.warning("no heat maps are kept for the report: %s", error)
        heats = [None] * len(pixels)
    return {place: {"photo": _jpeg(_image(photo), LARGE), "heat": "" if heat is None else _jpeg(overlay(photo, heat), LARGE)}
            for place, photo, heat in zip(chosen.tolist(), pixels, heats, strict=True)}


def _drawings(run: Run, data: Dataset, places: np.ndarray, answers: np.ndarray, chosen: np.ndarray, model) -> dict[int, dict[str, str]]:
    """The same of another kind of data: pieces of HTML."""
    inputs = np.asarray(data.inputs[places[chosen]])
    try:
        heats = function_of(KINDS[data.kind].heat)(model or run.load_model(), inputs, answers[chosen])
    except WorkError as error:
        logger.warning("what the answers rest on is not kept for the report: %s", error)
        heats = [None] * len(inputs)
    return {place: {"html": _drawn(run, data, places[place], example, heat, large=True)}
            for place, example, heat in zip(chosen.tolist(), inputs, heats, strict=True)}


def _drawn(run: Run, data: Dataset, row: int, example: np.ndarray, heat: np.ndarray | None, *, large: bool) -> str:
    return function_of(KINDS[data.kind].draw)(example, heat, data.facts or run.facts, data.texts.get(data.items[row].sha256, ""), large=large)


def read_examples(run: Run) -> dict[str, Any]:
    """What a run keeps; nothing of each kind for one that keeps none that can be read."""
    try:
        found = json.loads((run.path / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return NOTHING
    except (OSError, ValueError):
        found = None
    try:
        large, small = ({"photo", "heat"}, {"photo"}) if run.kind == IMAGE else ({"html"}, {"html"})
        whole = set(found) == set(NOTHING) and all(set(row) >= _TOLD | large for name in ("worst", "uncertain") for row in found[name])
        whole &= all({"target", "answer"} <= set(cell) and all(set(row) >= _TOLD | small for row in cell["photos"]) for cell in found["cells"])
        whole &= all(type(cell[name]) is int and 0 <= cell[name] < len(run.labels) for cell in found["cells"] for name in ("target", "answer"))
    except (TypeError, KeyError):
        whole = False
    if not whole:
        logger.warning("'%s' is damaged: the page shows no photos; 'tfcnn report --again' chooses them anew", run.path / FILE)
    return found if whole else NOTHING


def _chosen_of_cells(targets: np.ndarray, answers: np.ndarray) -> dict[tuple[int, int], list[int]]:
    """Photos of each cell of the confusion matrix by (target, answer), as many as a page has room for: mistakes first, the cells in turn."""
    members: dict[tuple[int, int], list[int]] = {}
    for place, cell in enumerate(zip(targets.tolist(), answers.tolist(), strict=True)):
        members.setdefault(cell, []).append(place)
    left = OF_ALL_CELLS
    chosen: dict[tuple[int, int], list[int]] = {cell: [] for cell in sorted(members)}
    for cells in ([cell for cell in chosen if cell[0] != cell[1]], [cell for cell in chosen if cell[0] == cell[1]]):
        for turn in zip_longest(*(members[cell][:OF_A_CELL] for cell in cells)):
            for cell, place in zip(cells, turn, strict=True):
                if place is not None and left:
                    chosen[cell].append(place)
                    left -= 1
    return {cell: places for cell, places in chosen.items() if places}


def _image(pixels: np.ndarray):
    from PIL import Image

    return Image.fromarray(shown(pixels))


def _jpeg(image, side: int) -> str:
    """As base64 text, at most `side` pixels a side."""
    from PIL import Image

    factor = min(1, side / max(image.size))
    size = [max(1, round(length * factor)) for length in image.size]
    small = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=1.01) if factor < 1 else image  # whole pixels are averaged first, which is fast
    return jpeg_text(small, QUALITY)


