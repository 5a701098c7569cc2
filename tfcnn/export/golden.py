"""Golden photos: test photos and the answers to them that every device has to give."""

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfcnn.data.dataset import Dataset, in_turn
from tfcnn.export.page import ModelFile
from tfcnn.export.runtimes import scores_of
from tfcnn.models.forward import forward
from tfcnn.record import Run

PHOTOS = 20
CANDIDATES = 200  # test photos that golden ones are chosen from; each is run in every file
TOP = 3


class Tolerance(NamedTuple):
    """How far the scores of a device may lie from those of this host, and why."""

    scores: float
    reason: str


# By format. Seen between this host and LiteRT.js with two builds of its kernels, MobileNetV2 on 119 photos: 0.000002, 0.000002, 0 and 0.044.
TOLERANCES = {
    "tflite_float32": Tolerance(0.002, "processors add numbers in different orders and round differently"),
    "tflite_float16": Tolerance(0.05, "some processors compute this file in 16 bit, which has three decimal digits"),
    "tflite_weight_int8": Tolerance(0.002, "its weights are brought back to float, and then it computes as a float file does"),
    "tflite_int8": Tolerance(0.03, "eight steps of 1/256, its output quantisation: kernels of processors may differ in the last bit of every layer"),
}
OTHER = Tolerance(0.1, "its inputs of layers are quantised as they come, so a value near the border of two 8-bit steps may fall to either side")


class Golden(NamedTuple):
    """Golden photos and their answers.

    Attributes:
        photos: uint8 (n, side, side, channels).
        expected: the content of expected.json.
    """

    photos: np.ndarray
    expected: dict[str, Any]


def choose_golden(run: Run, data: Dataset, files: Sequence[ModelFile], model) -> Golden:
    """Up to 20 test photos whose answer is beyond doubt: in every file and in Keras the same label, by a margin of twice the tolerance.

    They are spread over the labels that the model answers, whether it is right or not. The same run gives the same photos.
    """
    rows = data.rows("test")
    rows = rows[in_turn(data.targets(rows))][:CANDIDATES]
    photos = np.asarray(data.photos(rows)[:])
    scores = {"keras": forward(model, photos), **{file.name: scores_of("tflite", file.path, photos) for file in files}}
    tolerances = {file.name: TOLERANCES.get(file.format, OTHER) for file in files}
    chosen = choose_photos(scores, {name: tolerance.scores for name, tolerance in tolerances.items()})
    names = [f"{number:02d}.png" for number in range(len(chosen))]
    expected = {
        "files": {name: {"tolerance": t.scores, "reason": t.reason} for name, t in tolerances.items()},
        "photos": [{"photo": name, "label": data.items[rows[row]].label, "keras": _top(scores["keras"][row], run.labels),
                    "expected": {file.name: _top(scores[file.name][row], run.labels) for file in files}}
                   for name, row in zip(names, chosen, strict=True)]}
    return Golden(photos[chosen], expected)


def choose_photos(scores: Mapping[str, np.ndarray], tolerances: Mapping[str, float], count: int = PHOTOS) -> list[int]:
    """Row numbers of photos that every device has to answer alike.

    Args:
        scores: (n, labels) of "keras" and of each file.
        tolerances: of each file.
        count: at most so many, the labels that are answered in turn.
    """
    answers = scores["keras"].argmax(axis=1)
    certain = np.ones(len(answers), bool)
    for name, tolerance in tolerances.items():
        best = np.sort(scores[name], axis=1)[:, ::-1]
        certain &= (scores[name].argmax(axis=1) == answers) & (best[:, 0] - best[:, 1] > 2 * tolerance)
    candidates = np.flatnonzero(certain)
    return sorted(candidates[in_turn(answers[candidates])][:count].tolist())


def to_png(photo: np.ndarray) -> bytes:
    """A photo uint8 (height, width, 1 or 3) as PNG, which keeps every pixel."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(photo[..., 0] if photo.shape[-1] == 1 else photo).save(file, "PNG", optimize=True)
    return file.getvalue()


def _top(scores: np.ndarray, labels: Sequence[str]) -> list[dict[str, Any]]:
    order = np.argsort(-scores, kind="stable")[:TOP]
    return [{"label": labels[index], "score": round(float(scores[index]), 6)} for index in order]
