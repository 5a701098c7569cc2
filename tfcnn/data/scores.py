"""Scores that a run gave to the photos of a split, kept so that no forward pass is needed to look at them again."""

import logging
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfcnn.data.dataset import Dataset
from tfcnn.files import remove, write_aside
from tfcnn.record import Run

logger = logging.getLogger(__name__)


class Scores(NamedTuple):
    """Scores float32 (n, labels) and, for each photo, its path, its target and the SHA-256 by which `items.csv` knows it."""

    scores: np.ndarray
    targets: np.ndarray
    paths: np.ndarray
    digests: np.ndarray


def scores_of(data: Dataset, rows: np.ndarray, scores: np.ndarray) -> Scores:
    """Scores (len(rows), labels) with the photos that they belong to."""
    paths, digests = ([getattr(data.items[row], name) for row in rows] for name in ("path", "sha256"))
    return Scores(np.asarray(scores, np.float32), data.targets(rows), np.array(paths, str), np.array(digests, str))


def write_scores(run_folder: Path, split: str, told: Scores) -> None:
    """Keeps them in a run folder, as `scores-SPLIT.npz`."""
    with write_aside(_file(run_folder, split)) as aside, open(aside, "wb") as file:
        np.savez_compressed(file, **told._asdict())


def read_scores(run: Run, split: str) -> Scores | None:
    """What a run keeps of a split; None where it keeps nothing, or nothing that can be read: it can be computed again."""
    file = _file(run.path, split)
    if not file.exists():
        return None
    try:
        with open(file, "rb") as opened, np.load(opened) as arrays:
            found = Scores(*(arrays[name] for name in Scores._fields))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        found = None
    if found is None or found.scores.shape != (len(found.targets), len(run.labels)) or not np.isfinite(found.scores).all():
        logger.warning("'%s' is damaged: the scores that it kept are not used; 'tfcnn report --again' computes them anew", file)
        return None
    return found


def remove_scores(run_folder: Path, split: str) -> None:
    """Forgets them, where they are those of other splits than before."""
    remove(_file(run_folder, split))


def _file(run_folder: Path, split: str) -> Path:
    return run_folder / f"scores-{split}.npz"
