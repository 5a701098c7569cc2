"""`load_audio`: clips of sound from folders and tables, at one sampling rate and of one length, as a `Dataset`."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tfcnn.data.arrange import Found, arrange, check_examples, check_split, like_text
from tfcnn.data.dataset import Dataset
from tfcnn.data.read import Read, content_digest
from tfcnn.data.sources import Example, open_source
from tfcnn.errors import InputError
from tfcnn.files import found_files
from tfcnn.kinds import KINDS
from tfcnn.record import Run, load_run

KIND = "audio"
ENDINGS = KINDS[KIND].endings
LONGEST = 10.0  # seconds of a window where none is asked for
LEAST_PART = 0.25  # of a window: what is left of a long clip at its end is an example from here on
SILENT = 1e-4  # between the lowest and the highest sample: three steps of 16 bits
RATES = (1_000, 192_000)  # Hz

logger = logging.getLogger(__name__)


def load_audio(source: Any, *, sample_rate: int | None = None, window: float | None = None, split: tuple[float, float, float] | None = (0.7, 0.1, 0.2),
               seed: int = 0, folds: int | None = None, fold: int = 0, like: Run | str | Path | None = None, group_by: str | None = None,
               facts: Mapping[str, Any] | None = None) -> Dataset:
    """Clips of sound with their labels in three stratified splits, all at one sampling rate, one channel, and of one length.

    Files of other rates are resampled, several channels are averaged. A shorter clip is followed by zeros; a longer one becomes several
    examples, which stay in one split. Files that cannot be read, and those without samples or with NaN, are left out and listed in
    `Dataset.quarantined`; equal clips land in one split, but for those in which nothing is to be heard. Of a longer clip what is left at the end is an
    example from a quarter of the window on.

    Args:
        source: a folder of class folders with wav, flac or ogg files, a CSV with the columns path, label and perhaps split (and `group_by`), a
            pandas frame with these columns, or a tuple of paths and labels.
        sample_rate: in Hz; the most frequent one of the files if None.
        window: seconds of an example; those of the longest clip, but at most 10, if None.
        split, seed, folds, fold, like, group_by: see `load_images`.
        facts: of a run that the clips are to be like, in place of `sample_rate` and `window`.

    Returns:
        A `Dataset` whose `inputs` are float32 (n, samples), -1 to 1; its `input_shape` is (samples,).

    Raises:
        InputError: a source that cannot be used, a rate or a window out of range, or the extra that is not installed.
    """
    known = check_split(split, folds, fold, like)
    asked: dict[str, Any] = {"sample_rate": sample_rate, "window": window, "group_by": group_by, "facts": facts, "like": like}
    found = source if isinstance(source, Found) else look(source, **asked, folds=folds, check=split is not None)
    samples, rate = found.facts["samples"], found.facts["sample_rate"]
    arranged = arrange(found.source, found.reads, split=split, seed=seed, folds=folds, fold=fold, known=known)
    inputs = np.zeros((len(arranged.reads), samples), np.float32)
    for row, read in enumerate(arranged.reads):
        part = found.contents[read.example.path]
        inputs[row, :len(part)] = part
    empty = 1 - sum(len(found.contents[read.example.path]) for read in arranged.reads) / max(1, inputs.size)
    logger.info("clips of %.2f s at %d Hz, of which %.0f %% is silence behind the end of shorter ones", samples / rate, rate, 100 * empty)
    arguments = {"split": split and list(split), "seed": seed, "folds": folds, "fold": fold, "like": like_text(like), "kind": KIND,
                 "sample_rate": sample_rate, "window": window, "group_by": group_by}
    return Dataset(inputs=inputs, items=arranged.items, labels=arranged.labels, input_shape=(samples,), geometry=KIND, source=found.source.name,
                   quarantined=arranged.quarantined, leaks=arranged.leaks, arguments=arguments, kind=KIND, facts=found.facts)


def look(source: Any, *, sample_rate: int | None = None, window: float | None = None, group_by: str | None = None,
         like: Run | str | Path | None = None, facts: Mapping[str, Any] | None = None, folds: int | None = None, check: bool = False) -> Found:
    """The clips of a source, before they are split; for the arguments see `load_audio`.

    Args:
        check: whether there have to be enough of each label for a split, which is said before they are read.
    """
    _check_numbers(sample_rate, window)
    _soundfile()
    facts = facts if facts is not None else _facts_of(like, sample_rate, window)
    opened = replace(open_source(source, group_by=group_by), kind=KIND)
    if opened.examples is None:
        raise InputError("expected files of sound, got arrays; give a folder, a CSV, a frame or (paths, labels)")
    if check:
        check_examples(opened, folds)
    paths = [example.path for example in opened.examples]
    rate = facts["sample_rate"] if facts else sample_rate or _common_rate(paths)
    clips = _read_all(paths, rate)
    samples = facts["samples"] if facts else _samples(clips, rate, window)
    folder = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
    reads, parts = [], {}
    for example, clip in zip(opened.examples, clips, strict=True):
        for read, part in _examples(example, clip, rate, samples, folder):
            reads.append(read)
            parts[read.example.path] = part
    silent = tuple(path for path, part in parts.items() if len(part) and np.ptp(part) < SILENT)
    return Found(opened, reads, parts, {"sample_rate": rate, "samples": samples}, {"silent": silent} if silent else {})


def _facts_of(like: Run | str | Path | None, sample_rate: int | None, window: float | None) -> dict[str, Any] | None:
    """Of the run whose splits are followed: parts of clips are known by their samples, which have to be the same there and here."""
    run = like if isinstance(like, Run) or like is None else load_run(like)
    if run is None or run.kind != KIND:
        return None
    rate, samples = run.facts["sample_rate"], run.facts["samples"]
    if sample_rate not in (None, rate) or (window is not None and round(window * rate) != samples):
        raise InputError(f"expected the sampling rate and the window of the run that is followed, {rate} Hz and {samples / rate:g} s, got "
                         f"sample_rate={sample_rate}, window={window}; leave them out")
    return run.facts


def read_files(inputs: Sequence[str | Path], shape: tuple[int, ...], facts: Mapping[str, Any]) -> tuple[list[str], Callable]:
    """The files of sound that are named or lie in folders, and (range of rows) → for each its samples, or None and why it cannot be read.

    Of a clip that is longer than the network takes the first part is given, with a warning.
    """
    _soundfile()
    names = found_files(inputs, ENDINGS, "a file of sound", "files of sound")

    def read(rows):
        found: list[tuple[np.ndarray | None, str | None]] = []
        for name, clip in zip([names[row] for row in rows], _read_all([names[row] for row in rows], facts["sample_rate"]), strict=True):
            if isinstance(clip, str):
                found.append((None, f"{name}: {clip}"))
                continue
            if len(clip) > shape[0]:
                logger.warning("'%s' has %.2f s, the network takes %.2f: the rest is not heard",
                               name, *(n / facts["sample_rate"] for n in (len(clip), shape[0])))
            found.append((np.pad(clip[:shape[0]], (0, max(0, shape[0] - len(clip)))), None))
        return found

    return names, read


def _examples(example: Example, clip: np.ndarray | str, rate: int, samples: int, folder: str) -> Iterator[tuple[Read, np.ndarray]]:
    """The parts of a clip that are examples, or one that says why it cannot be used."""
    nothing = np.zeros(0, np.float32)
    if isinstance(clip, str):
        yield Read(example, "", clip, None, 0), nothing
        return
    starts = [start for start in range(0, len(clip), samples) if start == 0 or len(clip) - start >= LEAST_PART * samples]
    for start in starts:
        part = clip[start:start + samples]
        named = example if len(starts) == 1 else example._replace(path=f"{example.path}#{start / rate:.2f}s", group=example.group or example.path)
        yield Read(named, _digest(part, named.path, folder), "", None, part.nbytes), part


def _digest(part: np.ndarray, path: str, folder: str) -> str:
    """Of the samples; of silence, which is equal in any two recordings and makes none a copy of the other, with the path of its file in the source."""
    digest = content_digest(part)
    return digest if np.ptp(part) >= SILENT else content_digest(f"{digest} {os.path.relpath(path, folder)}".encode())


def _read_all(paths: Sequence[str], rate: int) -> list[np.ndarray | str]:
    """Samples float32 of each file at a rate, or why it cannot be used."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # libsndfile reads without holding Python's lock
        return list(pool.map(lambda path: read_clip(path, rate), paths))


def read_clip(path: str | Path, rate: int) -> np.ndarray | str:
    """The samples of a file, float32 (n,), one channel at this rate in Hz; or in words why it cannot be used."""
    import soundfile
    import soxr

    try:
        samples, own = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, ValueError, TypeError) as error:
        return f"not readable as sound: {str(error).split(': ')[-1]}"
    if not len(samples):
        return "no samples"
    if not np.isfinite(samples).all():
        return "NaN or infinite samples"
    mono = samples.mean(axis=1)
    mono = mono if own == rate else soxr.resample(mono, own, rate).astype(np.float32)
    return mono if len(mono) else "no samples"


def _common_rate(paths: Sequence[str]) -> int:
    """The sampling rate of most files; says so where there are others."""
    import soundfile

    def rate_of(path):
        try:
            return soundfile.info(path).samplerate
        except (soundfile.LibsndfileError, OSError, ValueError, TypeError):
            return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = Counter(rate for rate in pool.map(rate_of, paths) if rate)
    if not found:
        raise InputError(f"expected files of sound (wav, flac, ogg), but none of the {len(paths)} files can be read, the first: '{paths[0]}'")
    rate = max(found, key=lambda one: (found[one], one))
    if len(found) > 1:
        logger.warning("the clips have several sampling rates (%s): all are brought to %d Hz; give --sample-rate for another",
                       ", ".join(f"{one} Hz: {count}" for one, count in found.most_common()), rate)
    return rate


def _samples(clips: Sequence[np.ndarray | str], rate: int, window: float | None) -> int:
    lengths = [len(clip) for clip in clips if not isinstance(clip, str)]
    if not lengths:
        raise InputError(f"expected clips of sound, but none of the {len(clips)} files can be used; the first: {clips[0]}")
    return max(1, round(window * rate)) if window else min(max(lengths), round(LONGEST * rate))


def _check_numbers(sample_rate: int | None, window: float | None) -> None:
    if sample_rate is not None and (type(sample_rate) is not int or not RATES[0] <= sample_rate <= RATES[1]):
        raise InputError(f"expected a sampling rate from {RATES[0]} to {RATES[1]} Hz, got sample_rate={sample_rate}")
    if window is not None and (isinstance(window, bool) or not isinstance(window, (int, float)) or not 0 < window <= 600):
        raise InputError(f"expected a window above 0 and up to 600 seconds, got window={window}")


def _soundfile() -> None:
    try:
        import soundfile  # noqa: F401
        import soxr  # noqa: F401
    except (ImportError, OSError) as error:
        raise InputError(f"expected soundfile and soxr to read sound, but {error}; install them with pip install 'tfcnn[audio]'") from error


