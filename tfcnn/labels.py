"""`check_labels`: which labels of a data set may be wrong, and which photos belong to none of its classes."""

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tfcnn.data.arrange import first_rows, group_reads, sort_out
from tfcnn.data.config import DataConfig
from tfcnn.data.dataset import Dataset, Item
from tfcnn.data.duplicates import near_duplicates
from tfcnn.data.read import read_photos
from tfcnn.data.sources import Source, sort_labels
from tfcnn.data.split import check_folds, fold_examples
from tfcnn.errors import InputError, WorkError
from tfcnn.evaluation.labels import LabelCheck, PhotoRow, check_cleanlab, judge_labels, write_labels
from tfcnn.files import prepare_folder
from tfcnn.flow import check_all, open_checked
from tfcnn.models.classifier import Filled, ModelConfig, build_classifier, build_head, with_defaults
from tfcnn.progress import stage
from tfcnn.training.config import TrainingConfig
from tfcnn.training.features import cached_features
from tfcnn.training.head import train_head
from tfcnn.training.machine import MachineConfig
from tfcnn.training.rule import complete

__all__ = ["LabelCheck", "PhotoRow", "check_labels"]

# Inverse strength of the penalty on the heads, below the default of a training, since labels that may be wrong are not to be learned by heart. With 10 %
# planted wrong labels, 3e-3 to 0.03 found the same number among the first sixth on trashnet600 and flowers128, give or take one in 50.
LOGISTIC_C = 0.01
SEEDS = 1000  # seeds of folds that one seed may use, so that the next seed draws others

logger = logging.getLogger(__name__)


def check_labels(source: Any, *, backbone: str = "mobilenet_v3_small", weights: str = "imagenet", image_size: int | None = None, folds: int = 5,
                 repeats: int = 5, seed: int = 0, geometry: str = "stretch", group_by: str | None = None, data_dir: str | Path | None = None,
                 output: str | Path | None = None) -> LabelCheck:
    """Ranks photos whose label may be wrong, and photos that are like no other. Nothing is changed.

    Features of all photos are computed once, and heads are trained on some of them to say what they think of the others. All photos
    are taken together, whatever split they are in. Copies and near copies of a photo are in the same fold, so that none vouches for
    the label of the other.

    Args:
        source: whatever `load_images` takes.
        backbone: a name of `BACKBONES`, whose features tell the classes apart.
        weights: see `build_classifier`; random ones find little.
        image_size: height and width in pixels; the backbone's own if None.
        folds: parts that are left out in turn, 2 or more; every class needs as many different photos, and 4 for two folds.
        repeats: how often the folds are drawn anew; scores are the mean.
        seed: of the folds.
        geometry: how a photo becomes a square: "stretch", "letterbox" or "center_crop".
        group_by: a column of a CSV or frame; photos with the same value (a patient, a camera) are in the same fold.
        data_dir: where tensorflow-datasets keeps its data.
        output: a folder that receives `labels.csv`, all photos in their order, and `labels.html`, a page of pictures; nothing is
            written if None.

    Raises:
        InputError: anything that cannot work, before the slow part begins, where it is known: a source that cannot be used, a class with
            too few photos, an unknown backbone, an output folder among the photos, or cleanlab is not installed.
        WorkError: a download that failed, or features that are no numbers.
    """
    model, training = ModelConfig(backbone, str(weights or "none"), image_size), TrainingConfig(logistic_c=LOGISTIC_C, seed=seed)
    options = DataConfig(geometry=geometry, group_by=group_by, data_dir=str(data_dir) if data_dir else None)
    model = with_defaults(check_all(source, output, model, training, options, (), MachineConfig()))
    _check_numbers(folds, repeats)
    check_cleanlab()
    opened = open_checked(source, model, options)
    _check_counts(((example.label, example.path) for example in opened.examples or ()), folds)
    if output is not None:
        _check_output(Path(output), opened.name)
    arguments = {"backbone": backbone, "weights": model.weights, "image_size": model.image_size, "folds": folds, "repeats": repeats, "seed": seed,
                 "geometry": geometry, "group_by": group_by, "data_dir": options.data_dir}
    # Where the labels are known, before the photos are decoded, since weights may be missing or of another network.
    classifier = _build(model, sort_labels(example.label for example in opened.examples), seed) if opened.examples else None
    data, groups = _load(opened, model, arguments)
    with stage("draw folds"):
        parts = [_folds_of(data, groups, folds, seed * SEEDS + repetition) for repetition in range(repeats)]
    features = cached_features(classifier or _build(model, data.labels, seed), data)[np.arange(len(data.items))]
    if not np.isfinite(features).all():
        raise WorkError(f"expected numbers as features of the photos, but {backbone} with weights='{model.weights}' gives others; give other weights")
    scores = _scores_of_others(features, data, parts, model, training)
    with stage("rank labels"):
        check = judge_labels(data, scores, features)
    if check.doubt:
        logger.warning("%s", check.doubt)
    if output is not None:
        write_labels(Path(output), check)
    return check


def _check_numbers(folds: int, repeats: int) -> None:
    check_folds(folds)
    if not isinstance(repeats, int) or isinstance(repeats, bool) or repeats < 1:
        raise InputError(f"expected how often the folds are drawn as a whole number from 1 up, got repeats={repeats!r}")


def _check_counts(examples: Iterable[tuple[str, str]], folds: int, labels: Iterable[str] = ()) -> None:
    """Raises InputError for a label with too few different photos.

    Args:
        examples: (label, photo) of each.
        labels: that must be there too, where all photos of one may be unreadable.
    """
    needed = max(folds, 4 if folds == 2 else 3)  # each label is trained on in two photos at least, as in other cross-validations here
    counts = Counter(label for label, _ in set(examples))
    for label in sort_labels({*counts, *labels}):
        if counts[label] < needed:
            raise InputError(f"expected at least {needed} different readable photos in every class with folds={folds}, found {counts[label]} in '{label}'; "
                             f"add photos, {'give fewer folds, ' if folds > 3 else ''}or remove the class")


def _check_output(output: Path, source: str) -> None:
    if source and (output / "labels.csv").resolve() == Path(source).resolve():
        raise InputError(f"expected an output folder whose labels.csv is not the source, got output='{output}' with '{source}'; give another --output")
    if (output / "labels.csv").exists():  # whose labels may have been corrected by hand since
        raise InputError(f"expected a folder without a labels.csv, which may hold corrected labels, got output='{output}'; "
                         "rename that file or give another --output")
    prepare_folder(output)


def _build(model: ModelConfig, labels: tuple[str, ...], seed: int):
    import keras

    with stage("build the classifier"):
        keras.utils.set_random_seed(seed)
        return build_classifier(labels=labels, **asdict(model))


def _load(opened: Source, model: Filled, arguments: dict) -> tuple[Dataset, np.ndarray]:
    """The photos of a source in one split, and a number for each: those that must not be separated share it."""
    with stage("decode photos", opened.count) as advance:
        photos = read_photos(opened, model.image_size, arguments["geometry"], advance=advance)
    good, quarantined = sort_out(photos.reads)
    _check_counts(((read.example.label, read.digest) for read in good), arguments["folds"], {read.example.label for read in photos.reads})
    labels = sort_labels(read.example.label for read in good)
    if len(labels) < 2:
        raise InputError(f"expected at least two classes, found {len(labels)}: {', '.join(labels)}")
    items = tuple(Item(read.example.path, read.example.label, "train", read.digest) for read in good)
    inputs = photos.pixels.rows([item.sha256 for item in items])
    data = Dataset(inputs=inputs, items=items, labels=labels, input_shape=inputs.shape[1:], geometry=arguments["geometry"], source=opened.name,
                   quarantined=quarantined, arguments=arguments)
    rows = list(first_rows(good).values())
    with stage("find near copies"):
        pairs = near_duplicates(photos.thumbnails.rows([items[row].sha256 for row in rows]))
    return data, group_reads(good, [(rows[pair.first], rows[pair.second]) for pair in pairs])


def _folds_of(data: Dataset, groups: np.ndarray, folds: int, seed: int) -> list[np.ndarray]:
    """The rows of each fold; every label is in all others too."""
    digests, labels = [item.sha256 for item in data.items], [item.label for item in data.items]
    splits = (fold_examples(digests, labels, folds=folds, fold=fold, seed=seed, groups=groups) for fold in range(folds))
    return [np.flatnonzero(np.array(split) == "test") for split in splits]


def _scores_of_others(features: np.ndarray, data: Dataset, parts: list[list[np.ndarray]], model: ModelConfig, training: TrainingConfig) -> np.ndarray:
    """Scores (n, labels) of each photo by heads that were trained on the other folds, the mean over the repetitions."""
    rows = np.arange(len(features))
    targets = data.targets(rows)
    head = build_head(features.shape[1], model, data.labels)
    filled = complete(training, photos=len(rows), stages=())
    scores = np.zeros((len(features), len(data.labels)))
    with stage("heads on cached features", sum(map(len, parts))) as advance:
        for tested in (fold for folds in parts for fold in folds):
            trained = np.setdiff1d(rows, tested)
            train_head(head, features[trained], targets[trained], filled)
            scores[tested] += np.asarray(head(features[tested], training=False))
            advance()
    return scores / len(parts)
