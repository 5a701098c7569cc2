"""One video from its file or its folder of frames: how long it is without decoding it, and the frames at given times."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfcnn.data.pictures import PICTURES, in_order, size_of
from tfcnn.errors import InputError

ENDINGS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".3gp")
FRAMES = "frames"
EXACT = 1e-3  # seconds by which written times of frames are off, as in Matroska, which counts milliseconds
LATE = 0.01  # seconds before the first wanted frame to which is jumped at least
SHORT_JUMP = 2.0  # seconds up to which decoding goes on in place of jumping


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
        width, height = size_of(in_order(files, FRAMES), FRAMES)
        return Measured((len(files), height, width), 3, None)
    with _opened(files[0]) as (container, stream):
        times = _times(container, stream)
        rotated = _rotation(files[0]) % 180 == 90
    if len(times) < 2:
        raise InputError(f"expected a video of several frames, got {len(times)}")
    if times[-1] <= times[0]:
        raise InputError("expected frames with times, got the same one for all")
    height, width = stream.height, stream.width
    return Measured((len(times), *((width, height) if rotated else (height, width))), 3, (len(times) - 1) / (times[-1] - times[0]))


def read_frames(files: Sequence[str], rate: float, wanted: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """Frames of a video, each cut and scaled to a size.

    Args:
        rate: steps a second that are counted in; a file may have other ones, or ones that vary: what is shown at that time is taken.
        wanted: which steps, from 0 at the first frame; rising.
        size: height and width.

    Returns:
        uint8 (len(wanted), height, width, 3).

    Raises:
        InputError: why it cannot be used.
    """
    if files[0].lower().endswith(PICTURES):
        from PIL import Image

        ordered = in_order(files, FRAMES)
        pictures = {}
        for step in dict.fromkeys(wanted):
            with Image.open(ordered[step]) as picture:
                pictures[step] = covering(picture.convert("RGB"), size)
    else:
        pictures = _decoded(files[0], rate, list(dict.fromkeys(wanted)), size)
    return np.stack([pictures[step] for step in wanted])


def covering(picture, size: tuple[int, int]) -> np.ndarray:
    """uint8 (height, width, 3) of a Pillow picture, scaled until it covers a size, of which the middle is kept."""
    from PIL import Image

    (height, width), (wide, high) = size, picture.size
    scale = min(wide / width, high / height)
    left, upper = (wide - width * scale) / 2, (high - height * scale) / 2
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, box=(left, upper, left + width * scale, upper + height * scale)))


def steps_of(measured: Measured, rate: float) -> int:
    """How many steps at a rate a video has, from its first frame to its last one."""
    frames = measured.shape[0]
    return frames if measured.rate is None else int((frames - 1) / measured.rate * rate + 0.01) + 1


class _opened:
    """A container and its first stream of pictures; closed at the end."""

    def __init__(self, file: str):
        import av

        self.container = av.open(file, metadata_errors="replace")

    def __enter__(self):
        if not self.container.streams.video:
            self.container.close()
            raise InputError("no stream of pictures")
        return self.container, self.container.streams.video[0]

    def __exit__(self, *_) -> None:
        self.container.close()


def _times(container, stream) -> list[float]:
    """Seconds at which each frame is shown, in order, without decoding."""
    stamps = [packet.pts if packet.pts is not None else packet.dts for packet in container.demux(stream) if packet.size]
    return sorted(float(stamp * stream.time_base) for stamp in stamps if stamp is not None)


def _rotation(file: str) -> int:
    """Degrees by which frames are turned to be shown, as phones write them; known from the first frame."""
    with _opened(file) as (container, stream):
        return next((frame.rotation for frame in container.decode(stream)), 0)


def _decoded(file: str, rate: float, wanted: list[int], size: tuple[int, int]) -> dict[int, np.ndarray]:
    """The frame that is shown at each step."""
    with _opened(file) as (container, stream):
        times = _times(container, stream)
        if not times:
            raise InputError("no frames")
        # The last frame that is not later than the step.
        places = np.searchsorted(times, np.array(wanted) / rate + times[0] + EXACT, side="right") - 1
    needed = sorted({times[place] for place in places})
    with _opened(file) as (container, stream):
        stream.thread_type = "AUTO"
        frames: dict[float, np.ndarray] = {}
        for run in _runs(needed):
            if run[0] > times[0] + SHORT_JUMP:
                container.seek(max(0, int((run[0] - LATE) / stream.time_base)), stream=stream)
            for frame in container.decode(stream):
                if frame.time is not None and frame.time > run[-1] + EXACT:
                    break
                found = next((time for time in run if frame.time is not None and abs(time - frame.time) <= EXACT / 2), None)
                if found is not None:
                    frames[found] = covering(_upright(frame), size)
                if len(frames) == len(needed) or run[-1] in frames:
                    break
    lost = [time for time in needed if time not in frames]
    if lost:
        raise InputError(f"{len(lost)} of {len(needed)} frames cannot be decoded, the first at {lost[0] - times[0]:.2f} s")
    return {step: frames[times[place]] for step, place in zip(wanted, places, strict=True)}


def _runs(times: Sequence[float]) -> list[list[float]]:
    """Times that are decoded in one go: between two of them it is not worth a jump."""
    runs = [[times[0]]]
    for time in times[1:]:
        if time - runs[-1][-1] > SHORT_JUMP:
            runs.append([])
        runs[-1].append(time)
    return runs


def _upright(frame):
    """A Pillow picture."""
    from PIL import Image

    picture = frame.to_image()
    turns = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}
    turned = turns.get(frame.rotation % 360)
    return picture if turned is None else picture.transpose(turned)
