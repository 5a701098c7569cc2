"""One video from its file or its folder of frames: how long it is without decoding it, and the frames at given times."""

import functools
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfcnn.data.pictures import PICTURES, in_order, size_of
from tfcnn.errors import InputError
from tfcnn.kinds import KINDS

ENDINGS = (*KINDS["video"].endings, ".gif")
FRAMES = "frames"
EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")  # modes of pictures
EXACT = 1e-3  # seconds by which written times of frames are off, as in Matroska, which counts milliseconds
LATE = 0.01  # seconds before the first wanted frame to which is jumped at least
SHORT_JUMP = 2.0  # seconds up to which decoding goes on in place of jumping
# Containers in which each frame has its time and a jump lands on a whole picture. In others frames are counted: they lack times, or give wrong ones to
# frames that are stored in another order than they are shown in, and what comes first behind a jump is spoilt.
INDEXED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
KNOWN = 10_000  # files whose times are remembered


class Measured(NamedTuple):
    """What a video is before it is decoded.

    Attributes:
        shape: frames, height and width.
        channels: 3, or those of an array.
        rate: frames a second; None where frames have no times.
    """

    shape: tuple[int, int, int]
    channels: int
    rate: float | None


def measure(files: Sequence[str]) -> Measured:
    """What a video is, from the times in its file; one file, or its frames in any order.

    Raises:
        InputError: why it cannot be a video.
    """
    if files[0].lower().endswith(PICTURES):
        width, height = size_of(in_order(files, FRAMES), FRAMES, EIGHT_BITS)
        return Measured((len(files), height, width), 3, None)
    times, height, width = _look(files[0])
    if len(times) < 2:
        raise InputError(f"expected a video of several frames, got {len(times)}")
    if times[-1] <= times[0]:
        raise InputError("expected frames with times, got the same one for all")
    return Measured((len(times), height, width), 3, (len(times) - 1) / (times[-1] - times[0]))


def read_frames(files: Sequence[str], rate: float | None, wanted: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """Frames of a video, each cut and scaled to a size.

    Args:
        rate: steps a second that are counted in; a file may have other ones, or ones that vary: what is shown at that time is taken. None counts frames.
        wanted: which steps, from 0 at the first frame; rising in each clip.
        size: height and width.

    Returns:
        uint8 (len(wanted), height, width, 3).

    Raises:
        InputError: why it cannot be used.
    """
    steps = sorted(set(wanted))
    if files[0].lower().endswith(PICTURES):
        from PIL import Image, ImageOps

        ordered, pictures = in_order(files, FRAMES), {}
        for step in steps:
            with Image.open(ordered[step]) as picture:
                pictures[step] = covering(ImageOps.exif_transpose(picture).convert("RGB"), size)
        return np.stack([pictures[step] for step in wanted])
    times, *_ = _look(files[0])
    # The last frame that is not later than the step.
    places = steps if rate is None else (np.searchsorted(times, np.array(steps) / rate + times[0] + EXACT, side="right") - 1).tolist()
    frames = _decoded(files[0], times, sorted(set(places)), size)
    found = {step: frames[place] for step, place in zip(steps, places, strict=True)}
    return np.stack([found[step] for step in wanted])


def covering(picture, size: tuple[int, int]) -> np.ndarray:
    """uint8 (height, width, 3) of a Pillow picture, scaled until it covers a size, of which the middle is kept."""
    from PIL import Image

    (height, width), (wide, high) = size, picture.size
    scale = min(wide / width, high / height)
    left, upper = (wide - width * scale) / 2, (high - height * scale) / 2
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, box=(left, upper, left + width * scale, upper + height * scale)))


def steps_of(measured: Measured, rate: float | None) -> int:
    """How many steps at a rate a video has, from its first frame to its last one; its frames where no rate is given, or it has no times."""
    frames = measured.shape[0]
    if measured.rate is None or rate is None:
        return frames
    return int((frames - 1) / measured.rate * rate + max(0.01, 2 * EXACT * rate)) + 1


class _opened:
    """A container and its stream of pictures; closed at the end."""

    def __init__(self, file: str):
        import av

        if not os.path.getsize(file):
            raise InputError("no bytes")
        try:
            self.container = av.open(file, metadata_errors="replace")
        except av.error.FFmpegError as error:
            raise InputError(f"not readable as a video: {error.strerror}") from error

    def __enter__(self):
        stream = self.container.streams.best("video")
        if stream is None:
            self.container.close()
            raise InputError("no stream of pictures")
        stream.codec_context.thread_count = 1  # files are decoded side by side
        return self.container, stream

    def __exit__(self, *_) -> None:
        self.container.close()


def _look(file: str) -> tuple[np.ndarray, int, int]:
    """(seconds at which each frame is shown, height, width) of a file, whose pictures are not decoded but for the first."""
    found = os.stat(file)
    return _looked(file, found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=KNOWN)
def _looked(file: str, size: int, changed: int) -> tuple[np.ndarray, int, int]:
    with _opened(file) as (container, stream):
        # What an edit list cuts off is not shown.
        stamps = [packet.dts if packet.pts is None else packet.pts for packet in container.demux(stream) if packet.size and not packet.is_discard]
        times = np.sort(np.array([float(stamp * stream.time_base) for stamp in stamps if stamp is not None]))
        if len(np.unique(times)) < len(times) and stream.average_rate:  # as in MPEG program streams: they are guessed
            times = times[0] + np.arange(len(times)) / float(stream.average_rate)
    with _opened(file) as (container, stream):
        first = next(container.decode(stream), None)
        if first is None:
            raise InputError("no frame that can be decoded")
        if first.time is not None and container.format.name in INDEXED:
            times = times[times >= first.time - EXACT]  # what stands before the first whole picture cannot be decoded
        width, height = _upright(first, stream).size
    return times, height, width


def _decoded(file: str, times: np.ndarray, places: Sequence[int], size: tuple[int, int]) -> dict[int, np.ndarray]:
    """The frames at these places in the order of their times."""
    with _opened(file) as (container, stream):
        indexed = container.format.name in INDEXED
        frames = _timed(container, stream, times, places, size, jumps=True) if indexed else _counted(container, stream, places, size)
    if len(frames) < len(places):  # a jump too far
        with _opened(file) as (container, stream):
            frames = _timed(container, stream, times, places, size, jumps=False) | frames
    lost = [place for place in places if place not in frames]
    if lost:
        raise InputError(f"{len(lost)} of {len(places)} frames cannot be decoded, the first at {times[lost[0]] - times[0]:.2f} s")
    return frames


def _counted(container, stream, places: Sequence[int], size: tuple[int, int]) -> dict[int, np.ndarray]:
    wanted, frames = set(places), {}
    for place, frame in enumerate(container.decode(stream)):
        if place in wanted:
            frames[place] = covering(_upright(frame, stream), size)
        if len(frames) == len(wanted):
            break
    return frames


def _timed(container, stream, times: np.ndarray, places: Sequence[int], size: tuple[int, int], *, jumps: bool) -> dict[int, np.ndarray]:
    frames: dict[int, np.ndarray] = {}
    for run in _runs(times, places) if jumps else [list(places)]:
        if jumps and times[run[0]] > times[0] + SHORT_JUMP:
            container.seek(max(0, int((times[run[0]] - LATE) / stream.time_base)), stream=stream)
        left = set(run)
        for frame in container.decode(stream):
            if frame.time is None:
                continue
            place = int(np.abs(times - frame.time).argmin())
            if place in left and abs(times[place] - frame.time) <= EXACT / 2:
                frames[place] = covering(_upright(frame, stream), size)
                left.discard(place)
            if not left or frame.time > times[run[-1]] + SHORT_JUMP:
                break
    return frames


def _runs(times: np.ndarray, places: Sequence[int]) -> list[list[int]]:
    """Places that are decoded in one go: between two of them it is not worth a jump."""
    runs = [[places[0]]]
    for place in places[1:]:
        if times[place] - times[runs[-1][-1]] > SHORT_JUMP:
            runs.append([])
        runs[-1].append(place)
    return runs


def _upright(frame, stream):
    """A Pillow picture, turned as the file says and with square pixels."""
    from PIL import Image

    picture, aspect = frame.to_image(), stream.sample_aspect_ratio
    if aspect and aspect != 1:
        picture = picture.resize((max(1, round(picture.width * float(aspect))), picture.height), Image.Resampling.BILINEAR)
    turns = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}
    turned = turns.get(frame.rotation % 360)
    return picture if turned is None else picture.transpose(turned)
