"""Which labels may be wrong, ranked from cross-validated scores, and which photos belong to no class; as a CSV and a page of pictures.

The number of wrong labels is estimated by confident learning, the ranking is by the score of the given label: on photos of waste with wrong
labels planted among them, margins and scores adjusted by the thresholds of the classes found fewer (`benchmarks/labels.py` measures the ranking).
"""

import html
import importlib.util
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfcnn.data.dataset import Dataset, Quarantined
from tfcnn.data.photo import jpeg_text
from tfcnn.data.sources import below
from tfcnn.errors import InputError
from tfcnn.evaluation.display import template
from tfcnn.files import write_rows, write_text

INSTALL = "pip install -c constraints.txt '.[labels]' in the folder of tfcnn"
SUSPECTS, OUTLIERS, PAIRS, LISTED = 100, 30, 10, 10  # at most on the page: photos, photos, pairs of labels; and photos in a text
SIDE = 144  # of a picture, in pixels: with noise in all of them the page is below 3 MB
# Of an outlier score. Ten flowers among 600 photos of waste were 68 % among the first 30 outliers with 10 neighbours, and 96 % with 30: outliers that
# look alike are each other's neighbours.
NEIGHBOURS = 30
TIE = 1e-6  # scores this close are equal, and the given label has it; as in cleanlab


class Ranking(NamedTuple):
    """One number a photo, in the order in which the photos were given, and their order.

    Attributes:
        order: int (n,), photos from the most to the least suspicious.
        suggested: int (n,), the likeliest target.
        quality: float (n,), 0-1: the score of the given label.
        is_issue: bool (n,), whether the label may be wrong; true of the first ones in the order.
        outlier: float (n,), 0-1: how far a photo is from those nearest to it, 0.63 in the median; near 1 it is like no other.
    """

    order: np.ndarray
    suggested: np.ndarray
    quality: np.ndarray
    is_issue: np.ndarray
    outlier: np.ndarray


class PhotoRow(NamedTuple):
    """One photo of a check, a row of `labels.csv`.

    Attributes:
        rank: from 1, the most suspicious first.
        path: of its file, or a name that tells the row of its source.
        label: the given one.
        suggested: the likeliest one; where it is the given one there is nothing to object to.
        quality: score of the given label, 0-1, from heads that did not see the photo.
        suggested_score: score of the suggested label.
        is_issue: whether the label may be wrong, see `Ranking`.
        outlier: see `Ranking`.
    """

    rank: int
    path: str
    label: str
    suggested: str
    quality: float
    suggested_score: float
    is_issue: bool
    outlier: float


@dataclass(frozen=True)
class LabelCheck:
    """What `check_labels` found.

    Attributes:
        source: what was looked at; empty for what lay in memory.
        labels: class names.
        photos: all of them, the most suspicious first.
        agreement: share of the photos that score higher for their own label than for any other.
        quarantined: files that could not be used; a photo under two labels is among them.
        arguments: what the check was called with.
        pictures: JPEGs of the photos that are shown, as data URIs by path.
    """

    source: str
    labels: tuple[str, ...]
    photos: tuple[PhotoRow, ...] = field(repr=False)
    agreement: float
    quarantined: tuple[Quarantined, ...] = ()
    arguments: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def issues(self) -> tuple[PhotoRow, ...]:
        """Photos whose label may be wrong."""
        return tuple(photo for photo in self.photos if photo.is_issue)

    @property
    def suspects(self) -> tuple[PhotoRow, ...]:
        """The first photos that look more like another label than like their own."""
        return tuple(photo for photo in self.photos[:SUSPECTS] if photo.suggested != photo.label)

    @property
    def outliers(self) -> tuple[PhotoRow, ...]:
        """The photos that are least like any other."""
        return tuple(sorted((photo for photo in self.photos if photo.outlier > 0), key=lambda photo: -photo.outlier)[:OUTLIERS])

    @property
    def pairs(self) -> tuple[tuple[str, str, int], ...]:
        """(given label, suggested label, photos) of those that may be wrong, the pairs with most photos first."""
        counts = Counter((photo.label, photo.suggested) for photo in self.issues)
        return tuple((*pair, count) for pair, count in sorted(counts.items(), key=lambda row: (-row[1], row[0])))

    @property
    def doubt(self) -> str:
        """Why the ranking says little; "" where nothing speaks against it."""
        commonest = max(Counter(photo.label for photo in self.photos).values()) / len(self.photos)
        return "" if self.agreement > commonest else (f"the heads are no better than the commonest label, which is right for {100 * commonest:.1f} % of the "
                                                      "photos, so this ranking says little; give another backbone or other weights")

    def to_dict(self) -> dict:
        """Plain dicts, lists and numbers; pictures are left out."""
        pairs = [dict(zip(("label", "suggested", "photos"), pair, strict=True)) for pair in self.pairs]
        return {"source": self.source, "labels": list(self.labels), "n": len(self.photos), "issues": len(self.issues), "agreement": self.agreement,
                "doubt": self.doubt, "pairs": pairs, "arguments": self.arguments, "quarantined": [q._asdict() for q in self.quarantined],
                "photos": [photo._asdict() for photo in self.photos]}

    def __str__(self) -> str:
        shown = self.suspects[:LISTED]
        width = max([len(label) for label in self.labels] + [9])
        lines = [self.verdict, *filter(None, [self.doubt])]
        lines += [f"  {'given':<{width}}  {'score':>5}  {'suggested':<{width}}  {'score':>5}  photo"] if shown else []
        lines += [f"{'!' if photo.is_issue else ' '} {photo.label:<{width}}  {photo.quality:>5.2f}  {photo.suggested:<{width}}  {photo.suggested_score:>5.2f}  "
                  f"{self.place(photo)}" for photo in shown]
        lines += [f"  ... and {len(self.issues) - LISTED} more that may be wrong"] if len(self.issues) > LISTED else []
        pairs = [f"{label} that looks like {suggested} {count}" for label, suggested, count in self.pairs[:3]]
        lines += [f"most often: {', '.join(pairs)}"] if pairs else []
        left_out = len(self.quarantined)
        lines += [f"{left_out} file{'s were' if left_out > 1 else ' was'} left out, see 'tfcnn audit'"] if left_out else []
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        shown = [photo for photo in self.suspects[:LISTED] if photo.path in self.pictures]
        figures = [f'<figure style="margin:0;width:{SIDE}px"><img alt="{html.escape(describe(photo))}" src="{self.pictures[photo.path]}">'
                   f"<figcaption>{html.escape(photo.label)} {photo.quality:.2f} → <b>{html.escape(photo.suggested)}</b> {photo.suggested_score:.2f}"
                   "</figcaption></figure>" for photo in shown]
        return f'<p>{html.escape(self.verdict)}</p><p>{self.doubt}</p><div style="display:flex;flex-wrap:wrap;gap:1em">{"".join(figures)}</div>'

    @property
    def verdict(self) -> str:
        """One sentence."""
        count = len(self.issues)
        return (f"{count or 'no'} label{'s' if count > 1 else ''} may be wrong among {len(self.photos)} photos in {len(self.labels)} classes; "
                f"{100 * self.agreement:.1f} % of the photos get their own label from heads that did not see them")

    def place(self, photo: PhotoRow) -> str:
        """Its path as it stands below the source, which the reader knows."""
        return below(self.source, photo.path)


def check_cleanlab() -> None:
    """Raises InputError unless cleanlab is there."""
    if importlib.util.find_spec("cleanlab") is None:
        raise InputError(f"expected the package cleanlab, which ranks suspicious labels, but it is not installed; install it with {INSTALL}")


def rank_labels(scores: np.ndarray, targets: np.ndarray, features: np.ndarray) -> Ranking:
    """How suspicious the label of each photo is.

    First come photos that look more like another label than like their own, then the others, both by the score of their label. As many of
    the first may be wrong as photos are confidently of another label than their own, that is, score at least as high for it as the photos
    under it do on average. A network that knows the classes badly makes that too many: of 600 photos of waste with 60 planted wrong
    labels, 106 were, 50 of the planted ones among them (`benchmarks/labels.py`, mean of 5 draws).

    Args:
        scores: (n, classes) from models that did not see the photo, 0-1; a row adds up to 1.
        targets: int (n,), the given labels, 0 to classes - 1; at least two are there.
        features: (n, d) by which photos are compared to find outliers.

    Raises:
        InputError: cleanlab is not installed.

    Source: Northcutt et al. 2021, JAIR 70: section 3.1 (the number), section 3 (the score of the given label, there called self-confidence);
        Kuan & Mueller 2022, "Back to the basics: revisiting out-of-distribution detection baselines" (outliers).
    """
    check_cleanlab()
    from cleanlab.count import num_label_issues
    from cleanlab.rank import get_label_quality_scores
    from threadpoolctl import threadpool_limits

    rows = np.arange(len(targets))
    scores = scores / scores.sum(axis=1, keepdims=True, dtype=np.float64)
    preferred = scores.copy()
    preferred[rows, targets] += TIE
    suggested = preferred.argmax(axis=1)
    quality = get_label_quality_scores(targets, scores, method="self_confidence")
    order = np.lexsort((quality, suggested == targets))
    is_issue = np.zeros(len(targets), bool)
    is_issue[order[:num_label_issues(targets, scores)]] = True
    with threadpool_limits(1):  # see `tfcnn.training.head`: BLAS threads wait for TensorFlow's
        return Ranking(order, suggested, quality, is_issue & (suggested != targets), _outlier_scores(features, targets))


def _outlier_scores(features: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """1 - exp(-(mean cosine distance to the nearest neighbours) / (its median over all photos))."""
    from cleanlab.outlier import OutOfDistribution

    smallest = np.unique(targets, return_counts=True)[1].min()  # more neighbours than that would make a whole small class one of outliers
    neighbours = int(np.clip(smallest - 1, 1, NEIGHBOURS))
    return 1 - OutOfDistribution({"k": neighbours}).fit_score(features=np.asarray(features, np.float64), verbose=False)


def judge_labels(data: Dataset, scores: np.ndarray, features: np.ndarray) -> LabelCheck:
    """The check of all items of `data`, whose scores (n, labels) and features (n, d) are those of `rank_labels`."""
    rows = np.arange(len(data.items))
    targets = data.targets(rows)
    ranking = rank_labels(scores, targets, features)
    score = lambda row, target: round(float(scores[row, target]), 6)
    photos = tuple(PhotoRow(rank, data.items[row].path, data.items[row].label, data.labels[ranking.suggested[row]], round(float(ranking.quality[row]), 6),
                            score(row, ranking.suggested[row]), bool(ranking.is_issue[row]), round(float(ranking.outlier[row]), 6))
                   for rank, row in enumerate(ranking.order, 1))
    others = np.where(np.eye(scores.shape[1], dtype=bool)[targets], 0, scores).max(axis=1)
    check = LabelCheck(data.source, data.labels, photos, float(np.mean(scores[rows, targets] > others + TIE)), data.quarantined, data.arguments)
    row_of = {item.path: row for row, item in enumerate(data.items)}
    shown = list(dict.fromkeys(photo.path for photo in (*check.suspects, *check.outliers)))
    return replace(check, pictures=_pictures(data, [row_of[path] for path in shown]))


def write_labels(folder: Path, check: LabelCheck) -> Path:
    """Writes `labels.csv` with all photos and `labels.html` with pictures of the first; returns the path of the page.

    The CSV is a source that `load_images` takes, so labels can be corrected in it.
    """
    are_files = all(os.path.isabs(photo.path) for photo in check.photos)
    values = {"check": check, "describe": describe, "name": lambda photo: Path(photo.path).name, "pairs": check.pairs[:PAIRS], "are_files": are_files}
    page = template("labels.html").render(values)
    write_rows(folder / "labels.csv", PhotoRow._fields, check.photos)
    write_text(folder / "labels.html", page)
    return folder / "labels.html"


def describe(photo: PhotoRow) -> str:
    """A photo in words, for those who do not see it."""
    looks = f", looks like {photo.suggested}" if photo.suggested != photo.label else ""
    return f"{Path(photo.path).name}: labelled {photo.label}{looks}"


def _pictures(data: Dataset, rows: Iterable[int]) -> dict[str, str]:
    """Data URIs of some items by path."""
    from PIL import Image

    small = lambda row: Image.fromarray(data.inputs[np.array([row])][0]).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return {data.items[row].path: f"data:image/jpeg;base64,{jpeg_text(small(row), 75)}" for row in rows}
