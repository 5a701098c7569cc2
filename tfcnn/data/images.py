"""`load_images`: photos from anything `open_source` takes, decoded once, split, as a `Dataset`."""

import hashlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfcnn.data.arrange import arrange, check_examples, check_split, first_rows, like_text
from tfcnn.data.channels import check_channels, check_shape, in_channels
from tfcnn.data.dataset import Dataset
from tfcnn.data.duplicates import near_duplicates
from tfcnn.data.photo import check_geometry, make_thumbnails
from tfcnn.data.read import Read, content_digest, read_photos
from tfcnn.data.sources import Source, open_source, whole_path
from tfcnn.progress import stage
from tfcnn.record import Run
from tfcnn.workers import check_same, count_of

if TYPE_CHECKING:
    import tensorflow as tf

FILE_SIZE = 224  # pixels, of files where nothing else is asked for: what most backbones were trained at

logger = logging.getLogger(__name__)


def load_images(source: Any, *, image_size: int | None = None, geometry: str = "stretch", split: tuple[float, float, float] | None = (0.7, 0.1, 0.2),
                seed: int = 0, folds: int | None = None, fold: int = 0, like: Run | str | Path | None = None, group_by: str | None = None,
                data_dir: str | Path | None = None, channels: int = 3, seconds: dict[str, float] | None = None,
                strategy: "tf.distribute.Strategy | None" = None) -> Dataset:
    """Photos with their labels in three stratified splits.

    Each photo is decoded once and kept in an on-disk store that later runs read. Photos that cannot be decoded, and those
    that stand under two labels, are left out and listed in `Dataset.quarantined`. Copies and near copies of a photo (other
    encodings, sizes, orientations) always land in one split. A source with splits of its own keeps them.

    Args:
        source: whatever `tfcnn.data.sources.open_source` takes: a folder, a CSV, an `.npz`, "tfds:NAME", a frame, lists, arrays,
            a `tf.data.Dataset`.
        image_size: height and width in pixels, 8 to 2048; None keeps arrays as they are, and takes 224 for files.
        geometry: how a photo becomes a square: "stretch" (as MediaPipe does on a phone), "letterbox" or "center_crop".
        split: fractions of train, validation and test; None draws nothing and puts photos without a split into the test split.
        seed: of the split.
        folds: number of folds of a cross-validation; the test split is then fold number `fold`.
        fold: from 0 to below `folds`.
        like: a run whose photos keep their splits; new ones are drawn around them.
        group_by: a column of a CSV or frame; photos with the same value (a patient, a camera) stay in one split.
        data_dir: where tensorflow-datasets keeps its data.
        channels: 3 for RGB, 1 for grey; 4 for arrays, an `.npz` or `tf.data` with four channels, such as RGB and infrared, which
            must have the image size already and are kept in memory.
        seconds: receives the time of each stage.
        strategy: a `tf.distribute.Strategy` whose workers call this together: each reads its share of the files.

    Raises:
        InputError: a source that cannot be used, fewer than two classes, or a class with too few readable photos.
    """
    check_geometry(FILE_SIZE if image_size is None else image_size, geometry)
    check_channels(channels)
    known = check_split(split, folds, fold, like)
    data_dir = whole_path(data_dir)
    opened = source if isinstance(source, Source) else open_source(source, group_by=group_by, data_dir=data_dir, channels=channels)
    check_shape(opened, image_size, channels)
    if split is not None:
        check_examples(opened, folds)
    arguments = {"image_size": image_size, "geometry": geometry, "split": split and list(split), "seed": seed, "folds": folds, "fold": fold,
                 "like": like_text(like), "group_by": group_by,
                 "data_dir": data_dir, "channels": channels}
    check_files(opened, strategy)
    inputs, thumbnails, reads = read_all(opened, image_size, geometry, seconds, strategy)
    found = arrange(opened, reads, near=lambda good: _near_pairs(good, thumbnails, seconds), split=split, seed=seed, folds=folds, fold=fold, known=known)
    pixels = in_channels(inputs(found.reads), channels)
    return Dataset(inputs=pixels, items=found.items, labels=found.labels, input_shape=tuple(pixels.shape[1:]), geometry=geometry,
                   source=opened.name, quarantined=found.quarantined, leaks=found.leaks, arguments=arguments)


def check_files(source: Source, strategy) -> None:
    """Raises InputError on all workers where one has other files, or in another order."""
    if count_of(strategy) > 1:  # alone it would ask the size of every file for nothing
        listing = _listing_digest(source) if source.examples else f"{source.count} examples"
        check_same(strategy, "the same files in the same order", listing, "give all workers the same data")


def _listing_digest(source: Source) -> str:
    """Of names, labels and sizes of the files of a source in their order, wherever its folder lies."""
    examples = source.examples or ()
    paths = [example.path for example in examples]
    folder = os.path.commonpath(paths) if all(os.path.isabs(path) for path in paths) else ""
    size = lambda path: os.path.getsize(path) if os.path.isfile(path) else -1
    lines = [f"{os.path.relpath(e.path, folder) if folder else e.path},{e.label},{e.split},{size(e.path)}" for e in examples]
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def read_all(source: Source, image_size: int | None, geometry: str, seconds, strategy=None) -> tuple:
    """(pixels of some of the reads, thumbnails of some of the reads, all reads); arrays of the right size stay in memory."""
    if source.shape is not None and (image_size is None or source.shape[:2] == (image_size, image_size)):
        pairs = [(example, np.asarray(pixels)) for example, pixels in source.read()]
        reads = [Read(example, content_digest(pixels), "", None, pixels.nbytes) for example, pixels in pairs]
        pixels = np.stack([pixels for _, pixels in pairs]) if pairs else np.zeros((0, *source.shape), np.uint8)
        row_of = {read.digest: row for row, read in enumerate(reads)}
        chosen = lambda of: [row_of[read.digest] for read in of]
        # Of four channels the first three make the thumbnail, by which near copies are found.
        return (lambda of: pixels[chosen(of)]), (lambda of: make_thumbnails(pixels[chosen(of)][..., :3])), reads
    with stage("decode photos", source.count, seconds) as advance:
        photos = read_photos(source, image_size or FILE_SIZE, geometry, advance=advance, strategy=strategy)
    rows = lambda store: lambda of: store.rows([read.digest for read in of])
    return rows(photos.pixels), rows(photos.thumbnails), photos.reads


def _near_pairs(reads: list[Read], thumbnails, seconds) -> list[tuple[int, int]]:
    rows = list(first_rows(reads).values())
    with stage("find near copies", seconds=seconds):
        pairs = near_duplicates(thumbnails([reads[row] for row in rows]))
    if pairs:
        logger.info("%d photos are near copies of others; they stay together", len({row for pair in pairs for row in pair[:2]}))
    return [(rows[pair.first], rows[pair.second]) for pair in pairs]


