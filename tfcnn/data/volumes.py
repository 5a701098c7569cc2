"""`load_volumes`: volumes from files and arrays, brought to one frame and size, kept on disk, as a `Dataset`."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfcnn.data.arrange import Found, check_split
from tfcnn.data.dataset import Dataset
from tfcnn.data.stack_sources import Form, Stacks, check_module
from tfcnn.data.stacks import dataset_of, facts_of_run, files_reader, look_at
from tfcnn.data.volume_files import ENDINGS, NIFTI, Measured, fault_of, fit, measure, read_volume, shape_at
from tfcnn.errors import InputError
from tfcnn.record import Run

KIND = "volume"
LARGEST = 128  # voxels of a side where no size is asked for
SMALLEST_SIDE = 8
SAME_SPACING = 1e-3  # relative difference up to which spacings are one
FRAME_VERSION = 1  # of how files become rows of the store

logger = logging.getLogger(__name__)


def load_volumes(source: Any, *, spacing: float | Sequence[float] | None = None, size: Sequence[int] | None = None,
                 intensity: tuple[float, float] | None = None, split: tuple[float, float, float] | None = (0.7, 0.1, 0.2), seed: int = 0,
                 folds: int | None = None, fold: int = 0, like: Run | str | Path | None = None, group_by: str | None = None,
                 facts: Mapping[str, Any] | None = None) -> Dataset:
    """Volumes with their labels in three stratified splits, all in one frame and of one size.

    Volumes of NIfTI files get the axes (depth, height, width): to the head, to the front, to the right; those of other spacings are
    resampled. Each is read once and kept on disk, so data may be larger than memory. What cannot be read, lacks slices or a spacing,
    or has NaN or infinite intensities is left out and listed in `Dataset.quarantined`; equal volumes land in one split.

    Args:
        source: a folder of class folders with `.nii`, `.nii.gz` and `.npy` files or with folders of slices, a CSV with the columns path, label
            and perhaps split (and `group_by`), an `.npz` with images and labels or one pair a split, (volumes, labels) or a dict of these
            by split. Arrays are (n, depth, height, width) or with channels behind.
        spacing: mm from voxel to voxel, one number or (depth, height, width); that of the files, or where they differ their median, if None.
        size: voxels (depth, height, width) of an example: larger volumes are cut around their middle, smaller ones continued by their
            lowest intensity; the largest on each axis, at most 128, if None.
        intensity: lowest and highest intensity that the network sees, such as (-1000, 400) Hounsfield units; all if None.
        split, seed, folds, fold, like, group_by: see `load_images`.
        facts: of a run that the volumes are to be like, in place of spacing, size and intensity.

    Returns:
        A `Dataset` whose `inputs` are (n, depth, height, width, channels), on disk; its `input_shape` is (depth, height, width, channels).

    Raises:
        InputError: a source that cannot be used, numbers out of range, or an extra that is not installed.
    """
    known = check_split(split, folds, fold, like)
    asked: dict[str, Any] = {"spacing": spacing, "size": size, "intensity": intensity, "group_by": group_by, "facts": facts, "like": like}
    found = source if isinstance(source, Found) else look(source, **asked, folds=folds, check=split is not None)
    options = {"spacing": spacing, "size": size, "intensity": intensity, "group_by": group_by}
    return dataset_of(found, FORM, known, options, split=split, seed=seed, folds=folds, fold=fold, like=like, window=found.facts["intensity"] or ())


def look(source: Any, *, spacing: float | Sequence[float] | None = None, size: Sequence[int] | None = None, intensity: tuple[float, float] | None = None,
         group_by: str | None = None, like: Run | str | Path | None = None, facts: Mapping[str, Any] | None = None, folds: int | None = None,
         check: bool = False) -> Found:
    """The volumes of a source, before they are split; for the arguments see `load_volumes`.

    Args:
        check: whether there have to be enough of each label for a split, which is said before they are read.
    """
    _check_numbers(spacing, size, intensity)
    facts = facts if facts is not None else facts_of_run(like, KIND, {"spacing": spacing, "size": size, "intensity": intensity})
    return look_at(source, FORM, lambda opened: facts or _facts(opened, spacing, size, intensity), group_by=group_by, folds=folds, check=check)


def read_files(inputs: Sequence[str | Path], shape: tuple[int, ...], facts: Mapping[str, Any]) -> tuple[list[str], Callable]:
    """The volumes that are named or lie in folders, and (range of rows) → for each its intensities, or None and why it cannot be read."""
    return files_reader(inputs, FORM, facts)


def _check_numbers(spacing, size, intensity) -> None:
    number = lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value)
    several = lambda values, count: isinstance(values, Sequence) and not isinstance(values, str) and len(values) == count
    if spacing is not None and not all(number(mm) and 0 < mm <= 100 for mm in (spacing if several(spacing, 1) or several(spacing, 3) else [spacing])):
        raise InputError(f"expected a spacing above 0 and up to 100 mm, one number or three (depth, height, width), got spacing={spacing}")
    if size is not None and not (several(size, 3) and all(type(side) is int and SMALLEST_SIDE <= side <= 512 for side in size)):
        raise InputError(f"expected a size of three whole numbers (depth, height, width) from {SMALLEST_SIDE} to 512 voxels, got size={size}")
    if intensity is not None and not (several(intensity, 2) and all(map(number, intensity)) and intensity[0] < intensity[1]):
        raise InputError(f"expected two intensities, the lower first, got intensity={intensity}")


def _facts(opened: Stacks, spacing, size, intensity) -> dict[str, Any]:
    """What all volumes are brought to."""
    good, channels = opened.usable(), opened.channels()
    spaced = [found.spacing for found in good if found.spacing]
    if spacing is not None and len(spaced) < len(good):
        raise InputError(f"expected NIfTI files for spacing={spacing}, since other volumes do not say theirs; {len(good) - len(spaced)} of {len(good)} do not")
    spacing = _common_spacing(spaced, spacing) if len(spaced) == len(good) else None
    shapes = np.array([found.shape if spacing is None else shape_at(found.shape, found.spacing, spacing) for found in good])
    sides = [int(side) for side in (size or np.clip(shapes.max(axis=0), SMALLEST_SIDE, LARGEST))]
    other = int((shapes != sides).any(axis=1).sum())
    if other:
        logger.info("%d of %d volumes are cut or continued to %s voxels", other, len(good), " x ".join(map(str, sides)))
    frame = "" if spacing is None else (f", {' x '.join(f'{mm:g}' for mm in spacing)} mm each; the axes run from feet to head, from back to front and "
                                        "from left to right")
    return {**dict(zip(("depth", "height", "width"), sides, strict=True)), "channels": channels, "spacing": spacing, "frame": frame,
            "intensity": None if intensity is None else [float(value) for value in intensity]}


def _common_spacing(spaced: Sequence[tuple[float, ...]], asked: float | Sequence[float] | None) -> list[float]:
    """What was asked for, else the median of the files on each axis, as Isensee et al. 2021, "nnU-Net", do."""
    if asked is not None:
        return [float(mm) for mm in np.broadcast_to(np.asarray(asked, float), 3)]
    common = np.median(spaced, axis=0)
    other = int((np.abs(np.array(spaced) / common - 1) > SAME_SPACING).any(axis=1).sum())
    if other:
        logger.warning("the files have several spacings; %d of %d are resampled to the median, %s mm; --spacing chooses another", other, len(spaced),
                       " x ".join(f"{mm:.3g}" for mm in common))
    return [round(float(mm), 4) for mm in common]


def _name(facts: Mapping[str, Any]) -> str:
    """Of the store: what its rows depend on."""
    spaced = "" if facts["spacing"] is None else "-" + "x".join(f"{mm:g}" for mm in facts["spacing"]) + "mm"
    return f"{FRAME_VERSION}-{'x'.join(map(str, _shape(facts)))}{spaced}"


def _shape(facts: Mapping[str, Any]) -> tuple[int, ...]:
    return facts["depth"], facts["height"], facts["width"], facts["channels"]


def _brought(files: tuple[str, ...], array: np.ndarray | None, dtype, facts: Mapping[str, Any]) -> np.ndarray:
    """A volume as the network gets it.

    Raises:
        InputError: why it cannot be used.
    """
    values = read_volume(files, facts["spacing"]) if array is None else array if array.ndim == 4 else array[..., None]
    if fault := fault_of(values):
        raise InputError(fault)
    if values.shape[-1] != facts["channels"]:
        raise InputError(f"{values.shape[-1]} channels, not {facts['channels']}")
    return np.ascontiguousarray(fit(values, (facts["depth"], facts["height"], facts["width"])), dtype)


def _check_nibabel(contents: Sequence[tuple[str, ...]]) -> None:
    """Raises InputError where files need an extra that is not installed."""
    if any(files[0].lower().endswith(NIFTI) for files in contents):
        check_module("nibabel", "to read NIfTI files", "volume")


FORM = Form(KIND, "slices", "depth", ENDINGS, measure, lambda shape, channels: Measured(shape, channels, None), _check_nibabel, np.float32, _shape, _name,
            _brought)
