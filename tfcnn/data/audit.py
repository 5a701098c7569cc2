"""`audit`: what is wrong with the data, before training. Decodes every file, changes none."""

from pathlib import Path
from typing import Any

import numpy as np

from tfcnn.data.arrange import Found
from tfcnn.data.duplicates import near_duplicates
from tfcnn.data.findings import Audit, Same, judge, same_of
from tfcnn.data.images import FILE_SIZE
from tfcnn.data.photo import NOTES, check_geometry, extension_is_wrong
from tfcnn.data.read import Photos, Read, read_photos
from tfcnn.data.sources import check_outside, open_source
from tfcnn.data.split import check_fractions
from tfcnn.errors import InputError
from tfcnn.files import prepare_folder
from tfcnn.kinds import IMAGE, Kind, function_of, kind_of
from tfcnn.progress import stage

BLANK_LEVELS = 8  # between the darkest and the brightest pixel of a thumbnail


def audit(source: Any, *, output: str | Path | None = None, image_size: int = FILE_SIZE, geometry: str = "stretch",
          split: tuple[float, float, float] = (0.7, 0.1, 0.2), difference: float = 0.05, group_by: str | None = None,
          data_dir: str | Path | None = None, kind: str = IMAGE, **options: Any) -> Audit:
    """Decodes every photo and says what would spoil training and what to look at. Nothing is changed or deleted.

    What it decodes is kept in the store, so that a training at the same size and geometry finds it.

    Args:
        source: whatever `load_images` takes.
        output: a folder that receives `audit.json` and `audit.html`, a page of pictures; nothing is written if None.
        image_size: side of the squares in the store, in pixels.
        geometry: how a photo becomes a square.
        split: fractions that will be asked for, by which the test split is judged where the source has none.
        difference: the difference of accuracy that one wants to see on the test split, above 0 to 0.5.
        group_by: a column of a CSV or frame; a value that is in several of the splits that the source came with is a leak.
        data_dir: where tensorflow-datasets keeps its data.
        kind: of the data, a name of `tfcnn.kinds.KINDS`; image size, geometry and `data_dir` are of photos alone.
        options: what the loader of another kind takes to read its source, such as `sample_rate` and `window` of `load_audio`.

    Raises:
        InputError: a source that cannot be opened, or an option of another kind.
    """
    row = kind_of(kind)
    check_geometry(image_size, geometry)
    check_fractions(split)
    if not 0 < difference <= 0.5:
        raise InputError(f"expected a difference of accuracies above 0 and up to 0.5, got difference={difference}")
    given = {"group_by": group_by, "data_dir": data_dir, **options}
    given |= {"geometry": None if geometry == "stretch" else geometry, "image_size": None if image_size == FILE_SIZE else image_size}
    given = {name: value for name, value in given.items() if value is not None}
    taken = ("image_size", *row.options) if kind == IMAGE else row.reading
    if wrong := next((name for name in given if name not in taken), None):
        raise InputError(f"expected no {wrong} for {row.many}, got {wrong}={given[wrong]}; leave it out")
    if kind != IMAGE:
        return _audit_others(source, kind, row, output, split, difference, given)
    opened = open_source(source, group_by=group_by, data_dir=data_dir)
    if output is not None:
        check_outside(output, opened.name)
        prepare_folder(Path(output))
    with stage("decode photos", opened.count) as advance:
        photos = read_photos(opened, image_size, geometry, advance=advance, always_decode=True)
    with stage("compare photos"):
        same = _same_photos(photos)
    result = judge(opened.name, photos.reads, same, _notes(photos), split, difference)
    if output is not None:
        from tfcnn.data.audit_page import write_audit

        with stage("write the page"):
            write_audit(Path(output), result, photos)
    return result


def _audit_others(source: Any, kind: str, row: Kind, output, split, difference: float, given: dict[str, Any]) -> Audit:
    """Of another kind than photos; its page has no pictures."""
    if output is not None:
        check_outside(output, source)
        prepare_folder(Path(output))
    with stage(f"read {row.many}"):
        found = function_of(row.look)(source, **given)
    members = _members(found.reads)
    same = [same_of("exact", False, reads) for reads in members.values() if len(reads) > 1] + _near_copies(found)
    result = judge(found.source.name, found.reads, same, dict(found.notes), split, difference, kind)
    if output is not None:
        from tfcnn.data.audit_page import write_audit

        write_audit(Path(output), result, None)
    return result


def _near_copies(found: Found) -> list[Same]:
    """Groups of near copies among different contents."""
    groups: dict[str, dict[str, Read]] = {}
    for read in found.reads:
        if read.digest and read.example.path in found.alike:
            groups.setdefault(found.alike[read.example.path], {}).setdefault(read.digest, read)
    return [same_of("near", False, list(reads.values())) for reads in groups.values() if len(reads) > 1]


def _members(reads: list[Read]) -> dict[str, list[Read]]:
    """Those of equal content, by their digest."""
    members: dict[str, list[Read]] = {}
    for read in reads:
        if read.digest:
            members.setdefault(read.digest, []).append(read)
    return members


def _same_photos(photos: Photos) -> list[Same]:
    """Groups of equal content, then pairs of near copies."""
    members = _members(photos.reads)
    found = [same_of("exact", False, reads) for reads in members.values() if len(reads) > 1]
    digests = list(members)
    pairs = near_duplicates(photos.thumbnails.rows(digests)) if digests else []
    return found + [same_of("near", pair.turned, members[digests[pair.first]] + members[digests[pair.second]]) for pair in pairs]


def _notes(photos: Photos) -> dict[str, tuple[str, ...]]:
    """Paths by what is unusual about them."""
    found: dict[str, list[str]] = {name: [] for name in (*NOTES, "blank")}
    good = [read for read in photos.reads if read.digest]
    for read in good:
        for name in read.facts.notes if read.facts else ():
            found[name].append(read.example.path)
        if read.facts and extension_is_wrong(read.example.path, read.facts.format):
            found["wrong_extension"].append(read.example.path)
    for start in range(0, len(good), 4096):
        part = good[start:start + 4096]
        thumbnails = photos.thumbnails.rows([read.digest for read in part])[:]
        levels = np.ptp(thumbnails.reshape(len(part), -1, 3), axis=1).max(axis=1)
        found["blank"] += [read.example.path for read, level in zip(part, levels, strict=True) if level <= BLANK_LEVELS]
    return {name: tuple(paths) for name, paths in found.items() if paths}
