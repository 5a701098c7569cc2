"""`load_videos`: videos from files, folders of frames and arrays, as clips of a fixed number of frames, kept on disk, as a `Dataset`."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfcnn.data.arrange import Found, check_split
from tfcnn.data.dataset import Dataset
from tfcnn.data.pictures import PICTURES
from tfcnn.data.stack_sources import Form, Stacks, check_module
from tfcnn.data.stacks import dataset_of, facts_of_run, files_reader, look_at
from tfcnn.data.video_files import ENDINGS, Measured, covering, measure, read_frames, steps_of
from tfcnn.errors import InputError
from tfcnn.record import Run

KIND = "video"
LENGTH = 16  # frames of a clip where no size is asked for, as in Tran et al. 2018, section 4
SIDE = 112  # pixels of the shorter side, from there too
GREY = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue: ITU-R BT.601, as Pillow
SMALLEST = 8  # pixels of a side
SLOWEST = 0.2  # seconds from frame to frame of a clip at most, where no stride is asked for
MOST_CLIPS = 3  # where no number is asked for
SAME_RATE = 0.01  # relative difference up to which frame rates are one
CLIP_VERSION = 1  # of how files become rows of the store

logger = logging.getLogger(__name__)


def load_videos(source: Any, *, size: Sequence[int] | None = None, stride: int | None = None, clips: int | None = None,
                split: tuple[float, float, float] | None = (0.7, 0.1, 0.2), seed: int = 0, folds: int | None = None, fold: int = 0,
                like: Run | str | Path | None = None, group_by: str | None = None, facts: Mapping[str, Any] | None = None) -> Dataset:
    """Videos with their labels in three stratified splits, each as one or several clips of a fixed number of frames.

    A clip has a frame each so many steps; steps are counted at the frame rate of most videos, by the times of the frames, so that files of
    other and of varying rates give what was to be seen at that time. Clips stand evenly from the beginning of a video to its end. A training
    learns from one of them at random, and what is said of a video is the mean over them. Each file is decoded once; its clips are kept on disk.
    Files that cannot be read and those that are shorter than a clip are left out and listed in `Dataset.quarantined`; equal files land in one split.

    Args:
        source: a folder of class folders with videos (mp4, mov, avi, mkv, webm and others) or with folders of frames, a CSV with the columns path,
            label and perhaps split (and `group_by`), an `.npz` with images and labels or one pair a split, (videos, labels) or a dict of these by
            split. Arrays are (n, frames, height, width) or with 1 or 3 channels behind, 0-255.
        size: frames of a clip, their height and width; 16 frames (all, of shorter arrays) whose shorter side has at most 112 pixels if None. Frames
            are scaled to cover it, and cut at two sides.
        stride: steps from frame to frame of a clip; if None as many as the shortest video allows, up to a fifth of a second.
        clips: of each video; if None as many as it takes to cover most of a usual one, up to 3.
        split, seed, folds, fold, like, group_by: see `load_images`.
        facts: of a run that the videos are to be like, in place of size, stride and clips.

    Returns:
        A `Dataset` whose `inputs` are uint8 (n, clips x frames, height, width, channels), on disk, the clips one behind the other; its
        `input_shape` is (clips x frames, height, width, channels).

    Raises:
        InputError: a source that cannot be used, numbers out of range, or the extra that is not installed.
    """
    known = check_split(split, folds, fold, like)
    asked: dict[str, Any] = {"size": size, "stride": stride, "clips": clips, "group_by": group_by, "facts": facts, "like": like}
    found = source if isinstance(source, Found) else look(source, **asked, folds=folds, check=split is not None)
    options = {"size": size, "stride": stride, "clips": clips, "group_by": group_by}
    return dataset_of(found, FORM, known, options, split=split, seed=seed, folds=folds, fold=fold, like=like)


def look(source: Any, *, size: Sequence[int] | None = None, stride: int | None = None, clips: int | None = None, group_by: str | None = None,
         like: Run | str | Path | None = None, facts: Mapping[str, Any] | None = None, folds: int | None = None, check: bool = False) -> Found:
    """The videos of a source, before they are split; for the arguments see `load_videos`.

    Args:
        check: whether there have to be enough of each label for a split, which is said before they are read.
    """
    _check_numbers(size, stride, clips)
    facts = facts if facts is not None else facts_of_run(like, KIND, {"size": size, "stride": stride, "clips": clips})
    return look_at(source, FORM, lambda opened: facts or _facts(opened, size, stride, clips), group_by=group_by, folds=folds, check=check)


def read_files(inputs: Sequence[str | Path], shape: tuple[int, ...], facts: Mapping[str, Any]) -> tuple[list[str], Callable]:
    """The videos that are named or lie in folders, and (range of rows) → for each its clips, or None and why it cannot be read."""
    return files_reader(inputs, FORM, facts)


def places_of(steps: int, length: int, stride: int, clips: int) -> list[int]:
    """The steps of a video of so many at which the frames of its clips stand, from its beginning to its end.

    Raises:
        InputError: a video that is shorter than a clip.
    """
    span = (length - 1) * stride + 1
    if steps < span:
        raise InputError(f"too short: {steps} frames, a clip takes {span} ({length} frames with stride {stride})")
    starts = np.linspace(0, steps - span, clips) if clips > 1 else [(steps - span) // 2]
    return [round(float(start)) + frame * stride for start in starts for frame in range(length)]


def _check_numbers(size, stride, clips) -> None:
    if size is not None and not (isinstance(size, Sequence) and not isinstance(size, str) and len(size) == 3 and all(type(side) is int for side in size)
                                 and 2 <= size[0] <= 512 and all(16 <= side <= 512 for side in size[1:])):
        raise InputError(f"expected a size of three whole numbers, 2 to 512 frames and a height and a width from 16 to 512 pixels, got size={size}")
    for name, value, most in (("stride", stride, 1000), ("clips", clips, 20)):
        if value is not None and (type(value) is not int or not 1 <= value <= most):
            raise InputError(f"expected a whole number from 1 to {most}, got {name}={value}")


def _facts(opened: Stacks, size, stride, clips) -> dict[str, Any]:
    """What all videos are brought to."""
    good = opened.usable()
    rate = _common_rate([found.rate for found in good if found.rate])
    steps = sorted(steps_of(found, rate) for found in good)
    length = size[0] if size else LENGTH if opened.arrays is None else min(LENGTH, max(steps))
    if stride is None:
        stride = _stride(opened, rate, length)
    span = (length - 1) * stride + 1
    usual = steps[len(steps) // 2]
    clips = clips or min(MOST_CLIPS, max(1, round(usual / span)))
    height, width = size[1:] if size else _sides(good)
    short = sum(count < span for count in steps)
    if short == len(steps):
        raise InputError(f"expected videos of {span} frames or more for clips of {length} with stride {stride}, got {steps[-1]} at most; "
                         "give a smaller size or stride")
    frame = f", one each {stride / rate:.4g} s" if rate else f", one of {stride}" if stride > 1 else ""
    logger.info("of each video %d clip%s of %d frames%s, %d x %d pixels; a video of usual length is %.2g times as long as a clip", clips,
                "" if clips == 1 else "s", length, frame, height, width, usual / span)
    return {"clips": clips, "length": length, "height": height, "width": width, "channels": opened.channels(), "stride": stride, "rate": rate, "frame": frame}


def _stride(opened: Stacks, rate: float | None, length: int) -> int:
    """As many steps as the shortest video that is long enough at all allows, up to SLOWEST; 1 where frames have no times."""
    if rate is None:
        return 1
    most = max(1, round(SLOWEST * rate))
    long = [(steps, example.path) for example, found in zip(opened.source.examples or (), opened.measured, strict=True)
            if not isinstance(found, str) and (steps := steps_of(found, rate)) >= length]
    if not long:
        return 1
    steps, path = min(long)
    stride = max(1, min(most, (steps - 1) // (length - 1)))
    if stride < most:
        logger.info("stride %d, so that a clip fits into the shortest video, '%s'; --stride chooses another, and leaves out what is shorter", stride, path)
    return stride


def _common_rate(rates: Sequence[float]) -> float | None:
    """Frames a second of most files; None where no frames have times: then frames are counted, of files that come later too."""
    if not rates:
        return None
    rate = float(np.median(rates))
    rate = float(round(rate)) if abs(rate / round(rate) - 1) < 1e-3 else round(rate, 3)
    other = int((np.abs(np.array(rates) / rate - 1) > SAME_RATE).sum())
    if other:
        logger.warning("the videos have several frame rates; the frames of %d of %d are taken by their times, as if they had %g a second", other,
                       len(rates), rate)
    return rate


def _sides(good: Sequence[Measured]) -> tuple[int, int]:
    """Height and width of the usual shape, in even numbers."""
    height, width = (float(np.median([found.shape[axis] for found in good])) for axis in (1, 2))
    scale = min(1.0, SIDE / min(height, width))
    even = lambda side: max(16, 2 * round(side * scale / 2))
    return even(height), even(width)


def _brought(files: tuple[str, ...], array: np.ndarray | None, dtype, facts: Mapping[str, Any]) -> np.ndarray:
    """The clips of a video as the network gets them, one behind the other.

    Raises:
        InputError: why it cannot be used.
    """
    shape, size = (facts["length"], facts["stride"], facts["clips"]), (facts["height"], facts["width"])
    if array is None:
        wanted = places_of(steps_of(measure(files), facts["rate"]), *shape)  # measured before: it is remembered
        frames = read_frames(files, facts["rate"], wanted, size)
        return (frames if facts["channels"] == 3 else np.rint(frames @ GREY)[..., None]).astype(dtype)
    _check_pixels(array)
    frames = (array if array.ndim == 4 else array[..., None])[places_of(len(array), *shape)]
    if frames.shape[-1] != facts["channels"]:
        raise InputError(f"{frames.shape[-1]} channels, not {facts['channels']}")
    if frames.shape[1:3] == size:
        return np.ascontiguousarray(frames, dtype)
    return np.stack([_scaled(frame, size) for frame in frames]).astype(dtype)


def _check_pixels(array: np.ndarray) -> None:
    """Raises InputError for what are no pixels from 0 to 255."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError("NaN or infinite pixels")
    low, high = array.min(), array.max()
    if low < 0 or high > 255:
        raise InputError(f"expected pixels from 0 to 255, got {low:g} to {high:g}")
    if array.dtype.kind in "fb" and 0 < high <= 1:
        raise InputError("expected pixels from 0 to 255, got 0 to 1; multiply them by 255")


def _scaled(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    pixels = np.rint(frame).astype(np.uint8)
    return covering(Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels), size).reshape(*size, -1)


def _shape(facts: Mapping[str, Any]) -> tuple[int, ...]:
    return facts["clips"] * facts["length"], facts["height"], facts["width"], facts["channels"]


def _name(facts: Mapping[str, Any]) -> str:
    """Of the store: what its rows depend on."""
    return f"{CLIP_VERSION}-{facts['clips']}x{'x'.join(map(str, _shape(facts)))}-{facts['stride']}by{facts['rate'] or 'frame'}"


def _measured(shape: tuple[int, int, int], channels: int) -> Measured:
    if channels not in (1, 3):
        raise InputError(f"expected frames of 1 or 3 channels, got {channels}")
    if shape[0] < 2:
        raise InputError(f"expected a video of several frames, got {shape[0]}")
    if min(shape[1:]) < SMALLEST:
        raise InputError(f"expected frames of {SMALLEST} pixels or more, got {shape[1]} x {shape[2]}")
    return Measured(shape, channels, None)


def _check_av(contents: Sequence[tuple[str, ...]]) -> None:
    """Raises InputError where files need an extra that is not installed."""
    if any(not files[0].lower().endswith(PICTURES) for files in contents):
        check_module("av", "to read videos", "video")


FORM = Form(KIND, "frames", "frames", ENDINGS, measure, _measured, _check_av, np.uint8, _shape, _name, _brought)
