"""`load_images`: photos from anything `open_source` takes, decoded once, split, as a `Dataset`."""

import hashlib
import logging
import os
from collections import Counter
from pathlib import Path

import numpy as np

from tfcnn.data.channels import check_channels, check_shape, in_channels
from tfcnn.data.dataset import Dataset, Item, Quarantined, splits_by_content
from tfcnn.data.duplicates import connected, near_duplicates
from tfcnn.data.photo import check_geometry, make_thumbnails
from tfcnn.data.read import Read, content_digest, read_photos
from tfcnn.data.sources import Source, open_source, sort_labels, whole_path
from tfcnn.data.split import SPLITS, check_count, check_folds, check_fractions, complete_splits, fold_examples, split_examples
from tfcnn.errors import InputError
from tfcnn.progress import stage
from tfcnn.record import Run, load_run
from tfcnn.workers import check_same, count_of

FILE_SIZE = 224  # pixels, of files where nothing else is asked for: what most backbones were trained at

logger = logging.getLogger(__name__)


def load_images(source, *, image_size: int | None = None, geometry: str = "stretch", split: tuple[float, float, float] | None = (0.7, 0.1, 0.2),
                seed: int = 0, folds: int | None = None, fold: int = 0, like: Run | str | Path | None = None, group_by: str | None = None,
                data_dir: str | Path | None = None, channels: int = 3, seconds: dict[str, float] | None = None, strategy=None) -> Dataset:
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
    if split is not None:
        check_fractions(split)
    if folds is not None:
        check_folds(folds, fold)
    if folds is not None and split is None:
        raise InputError(f"expected fractions for a cross-validation, got folds={folds} with split=None")
    known = check_like(like, folds)
    data_dir = whole_path(data_dir)
    opened = source if isinstance(source, Source) else open_source(source, group_by=group_by, data_dir=data_dir, channels=channels)
    check_shape(opened, image_size, channels)
    if split is not None:
        check_examples(opened, folds)
    arguments = {"image_size": image_size, "geometry": geometry, "split": split and list(split), "seed": seed, "folds": folds, "fold": fold,
                 "like": str(like.path if isinstance(like, Run) else like) if like is not None else None, "group_by": group_by,
                 "data_dir": data_dir, "channels": channels}
    check_files(opened, strategy)
    inputs, thumbnails, reads = read_all(opened, image_size, geometry, seconds, strategy)
    good, quarantined = sort_out(reads)
    _check_good(opened, reads, good, quarantined, draws=split is not None)
    labels, digests = [r.example.label for r in good], [r.digest for r in good]
    names = sort_labels(labels)
    if len(names) < 2 and split is not None:  # to measure a model, photos of one class will do
        raise InputError(f"expected at least two classes, found {len(names)}: {', '.join(names)}")
    groups = group_reads(good, _near_pairs(good, thumbnails, seconds))
    leaks = _count_leaks(groups, [r.example.split for r in good])
    splits = split_reads(good, groups, split=split, seed=seed, folds=folds, fold=fold, known=known)
    items = tuple(Item(r.example.path, label, part, digest) for r, label, part, digest in zip(good, labels, splits, digests, strict=True))
    pixels = in_channels(inputs(good), channels)
    return Dataset(inputs=pixels, items=items, labels=names, input_shape=tuple(pixels.shape[1:]), geometry=geometry,
                   source=opened.name, quarantined=quarantined, leaks=leaks, arguments=arguments)


def check_examples(source: Source, folds: int | None = None) -> None:
    """Raises InputError for one class alone, or one with too few files to be split, where the files are known before they are read."""
    if source.examples is None:
        return
    labels = {example.label for example in source.examples}
    if len(labels) == 1:
        where = f" in '{source.name}'" if source.name else ""
        raise InputError(f"expected photos of at least two classes{where}, found those of one class ('{labels.pop()}'); add another class")
    if any(example.split for example in source.examples):
        if folds is not None:
            raise InputError(f"expected data without splits of its own for a cross-validation, got folds={folds}; remove its splits")
    else:
        for label, count in Counter(example.label for example in source.examples).items():
            check_count(label, count, max(folds or 0, len(SPLITS)))


def check_like(like: Run | str | Path | None, folds: int | None) -> dict[str, str]:
    """The split of each photo of the run that is to be followed, under its SHA-256; empty if there is none.

    Raises:
        InputError: no such run, one without a split, or one together with folds.
    """
    if like is None:
        return {}
    if folds is not None:
        raise InputError(f"expected either folds or a run whose split is followed, got folds={folds} and like='{like}'")
    run = like if isinstance(like, Run) else load_run(like)
    known = splits_by_content(run)
    if not known:
        raise InputError(f"expected a run with a split, but '{run.path}' has no items.csv; its training was not completed")
    return known


def check_files(source: Source, strategy) -> None:
    """Raises InputError on all workers where one has other files, or in another order."""
    if count_of(strategy) > 1:  # alone it would ask the size of every file for nothing
        listing = _listing_digest(source) if source.examples else f"{source.count} examples"
        check_same(strategy, "the same files in the same order", listing, "give all workers the same data")


def _listing_digest(source: Source) -> str:
    """Of names, labels and sizes of the files of a source in their order, wherever its folder lies."""
    paths = [example.path for example in source.examples]
    folder = os.path.commonpath(paths) if all(os.path.isabs(path) for path in paths) else ""
    size = lambda path: os.path.getsize(path) if os.path.isfile(path) else -1
    lines = [f"{os.path.relpath(e.path, folder) if folder else e.path},{e.label},{e.split},{size(e.path)}" for e in source.examples]
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def read_all(source: Source, image_size: int | None, geometry: str, seconds, strategy=None) -> tuple:
    """(pixels of some of the reads, thumbnails of some of the reads, all reads); arrays of the right size stay in memory."""
    if source.shape is not None and (image_size is None or source.shape[:2] == (image_size, image_size)):
        pairs = list(source.read())
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


def sort_out(reads: list[Read]) -> tuple[list[Read], tuple[Quarantined, ...]]:
    """What can be used, and what cannot: unreadable photos, and photos that stand under two labels."""
    places: dict[str, dict[str, str]] = {}
    for read in reads:
        if read.digest:
            places.setdefault(read.digest, {}).setdefault(read.example.label, read.example.path)
    good, quarantined = [], []
    for read in reads:
        others = {label: path for label, path in places.get(read.digest, {}).items() if label != read.example.label}
        if others:
            label, path = next(iter(others.items()))
            quarantined.append(Quarantined(read.example.path, f"contradiction: the same photo is labelled '{read.example.label}' here and '{label}' in {path}"))
        elif read.reason:
            quarantined.append(Quarantined(read.example.path, read.reason))
        else:
            good.append(read)
    return good, tuple(quarantined)


def _check_good(source: Source, reads: list[Read], good: list[Read], quarantined: tuple[Quarantined, ...], *, draws: bool) -> None:
    if reads and not good:
        raise InputError(f"expected photos in '{source.name}', but none of its {len(reads)} files can be used; "
                         f"the first: {quarantined[0].path}: {quarantined[0].reason}")
    if draws:
        for label in sort_labels({read.example.label for read in reads} - {read.example.label for read in good}):
            check_count(label, 0)


def first_rows(reads: list[Read]) -> dict[str, int]:
    """The first row of each content."""
    first: dict[str, int] = {}
    for row, read in enumerate(reads):
        first.setdefault(read.digest, row)
    return first


def _near_pairs(reads: list[Read], thumbnails, seconds) -> list[tuple[int, int]]:
    rows = list(first_rows(reads).values())
    with stage("find near copies", seconds=seconds):
        pairs = near_duplicates(thumbnails([reads[row] for row in rows]))
    if pairs:
        logger.info("%d photos are near copies of others; they stay together", len({row for pair in pairs for row in pair[:2]}))
    return [(rows[pair.first], rows[pair.second]) for pair in pairs]


def group_reads(reads: list[Read], pairs: list[tuple[int, int]]) -> np.ndarray:
    """A number for each example: copies, the near copies in `pairs`, and examples that the source groups, share one."""
    first, leader = first_rows(reads), {}
    joined = pairs + [(first[read.digest], row) for row, read in enumerate(reads)]
    joined += [(leader.setdefault(read.example.group, row), row) for row, read in enumerate(reads) if read.example.group]
    return connected(len(reads), joined)


def split_reads(reads: list[Read], groups: np.ndarray, *, split, seed: int = 0, folds: int | None = None, fold: int = 0,
                known: dict[str, str] | None = None) -> list[str]:
    """The split of each example; raises InputError where a class cannot be in all of them."""
    digests, labels, given = [r.digest for r in reads], [r.example.label for r in reads], [r.example.split for r in reads]
    if split is None:
        splits = [part or "test" for part in given]
    elif folds is not None:
        splits = fold_examples(digests, labels, folds=folds, fold=fold, fractions=split, seed=seed, groups=groups)
    elif known:
        found = sum(digest in known for digest in digests)
        if not found:
            raise InputError(f"expected photos of the run to be followed among the {len(digests)} photos, found none; give another run, or leave like out")
        logger.info("%d of the %d photos keep the split of the run", found, len(digests))
        stored = [known.get(digest, part) for digest, part in zip(digests, given, strict=True)]
        splits = split_examples(digests, labels, fractions=split, seed=seed, groups=groups, known=stored)
    elif any(given):
        splits = complete_splits(given, digests, labels, fractions=split, seed=seed, groups=groups)
    else:
        splits = split_examples(digests, labels, fractions=split, seed=seed, groups=groups)
    if split is not None:
        for label in sort_labels(set(labels) - {label for label, part in zip(labels, splits, strict=True) if part == "train"}):
            raise InputError(f"expected training photos of every class, found none of '{label}'; add photos or remove the class")
        for part in SPLITS[1:]:
            if part not in splits:
                raise InputError(f"expected photos in the {part} split, found none; add photos or give other fractions")
    return splits


def _count_leaks(groups: np.ndarray, given: list[str]) -> int:
    """How many photos (with their copies) are in more than one of the splits that a source came with; says so."""
    splits: dict[int, set[str]] = {}
    for group, part in zip(groups, given, strict=True):
        splits.setdefault(int(group), set()).add(part)
    leaks = sum(len(parts) > 1 for parts in splits.values())
    if leaks:
        logger.warning("%d photos or their copies are in more than one of the splits that the data came with, so its test is too good; "
                       "'tfcnn audit' names them", leaks)
    return leaks
