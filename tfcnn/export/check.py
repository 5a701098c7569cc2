"""`write_and_check`: one file, run again on photos in its own runtime, and put where its verdict belongs."""

import dataclasses
import hashlib
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfcnn.errors import InputError, WorkError, first_line
from tfcnn.export.contract import Contract
from tfcnn.export.formats import EXPORTERS
from tfcnn.export.runtimes import run_file, scores_of
from tfcnn.export.tflite import Material
from tfcnn.export.verdict import UNCHECKED, Verdict, compare
from tfcnn.files import name_aside, publish, remove, write_rows
from tfcnn.kinds import in_words

KERNELS_DIFFER = 0.02  # share of photos: an 8-bit file that changes more answers is run by other kernels too
SEVERAL = 3  # answers: fewer that change on few photos say nothing of kernels

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Export(Verdict):
    """One exported file and its `Verdict`, with what it is and takes.

    Attributes:
        format: a name of `EXPORTERS`.
        path: the file, relative to the run folder; below `exports/rejected/` if it was not accepted.
        bytes: its size, of all files for a folder; `sha256`: of a file.
        photos: which photos it was checked on: "test" is the test split of the run, "other" are others that were given, "calibration"
            are those that the run keeps, which test no accuracy; `n`: how many.
        keras_accuracy: of the model in Keras on these photos.
        changed: number of photos whose answer changed; exports/changes/FORMAT.csv lists them.
        milliseconds: median time a photo, one photo at a time on one thread of this host, not of a phone.
        latency: [median, 95th percentile] of the same by number of threads.
        memory: the most memory in bytes of a process with the runtime, the model and one photo.
        details: what else there is to say of the file, such as the layers left in float.
        chosen: of `--format auto`: whether this is the file it settled on; None otherwise.
    """

    format: str
    path: str
    bytes: int
    sha256: str | None
    photos: str
    n: int
    keras_accuracy: float | None
    changed: int | None
    milliseconds: float | None
    latency: dict[str, tuple[float, float]]
    memory: int | None
    details: dict[str, Any]
    chosen: bool | None = None


class CheckPhotos(NamedTuple):
    """What files are checked on: which photos these are (see `Export`) and how many of them were trained on; pixels, targets (None
    where they test no accuracy), names, and Keras's scores."""

    kind: str
    trained_on: int
    pixels: Any
    targets: np.ndarray | None
    names: list[str]
    scores: np.ndarray


def write_and_check(folder: Path, material: Material, name: str, photos: CheckPhotos, max_accuracy_drop: float) -> Export:
    """Writes the format `name` below `folder`/exports, runs it on the photos, and judges it; see `tfcnn.export.gate.export`.

    Raises:
        WorkError: it cannot be written or run.
    """
    exporter = EXPORTERS[name]
    places = {state: folder / "exports" / state / exporter.file for state in ("", "rejected", "unchecked")}
    with name_aside(places[""]) as aside:  # the file gets its name after the check: whatever lies in exports/ was verified
        try:
            details = {"trained_on": photos.trained_on} if photos.kind == "other" and photos.trained_on else {}
            details |= _scores_in(material.contract) | (exporter.write(material, aside) or {})
            measured = run_file(exporter.runtime, aside, photos.pixels) if exporter.runtime else None
        except (InputError, WorkError, OSError):
            raise
        except Exception as error:  # converters and runtimes raise errors of their own, many of them bare
            raise WorkError(f"expected to write and run {name}, but it failed ({type(error).__name__}): {first_line(error)}") from error
        verdict = Verdict.unchecked(exporter.text) if measured is None else compare(
            measured.scores, photos.scores, photos.targets, material.contract.labels, exact=exporter.exact, max_accuracy_drop=max_accuracy_drop)
        if exporter.integer:
            details, verdict = _try_plain_kernels(aside, photos, details, verdict)
        verdict = dataclasses.replace(verdict, reason=in_words(verdict.reason, material.contract.kind))
        state = "unchecked" if verdict.verdict == UNCHECKED else "" if verdict.accepted else "rejected"
        changed = _write_changes(folder / "exports" / "changes" / f"{name}.csv", photos, measured, material.contract.labels)
        publish(aside, places[state])
        if state and places[""].exists():
            logger.warning("%s did not pass: the earlier '%s' is removed", name, places[""].relative_to(folder))
        for other in places:
            if other != state:
                remove(places[other])  # of an earlier export, whose verdict no longer holds
    if verdict.reason:
        logger.warning("%s is %s: %s", name, verdict.verdict, verdict.reason)
    path = places[state]
    files = [f for f in path.rglob("*") if f.is_file()] if path.is_dir() else [path]
    keras_accuracy = None if photos.targets is None else float(np.mean(photos.scores.argmax(axis=1) == photos.targets))
    return Export(format=name, path=str(path.relative_to(folder)), bytes=sum(f.stat().st_size for f in files),
                  sha256=None if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest(), photos=photos.kind, n=len(photos.scores),
                  keras_accuracy=keras_accuracy, changed=changed, milliseconds=measured and measured.latency[1][0],
                  latency={str(threads): times for threads, times in measured.latency.items()} if measured else {},
                  memory=measured and measured.memory, details=details, **asdict(verdict))


def _scores_in(contract: Contract) -> dict:
    """What was done to the scores of a file, where anything was."""
    calibrated = {"temperature": contract.temperature} if contract.temperature != 1 else {}
    return calibrated | ({"score_threshold": contract.score_threshold} if contract.score_threshold is not None else {})


def _try_plain_kernels(path: Path, photos: CheckPhotos, details: dict, verdict: Verdict) -> tuple[dict, Verdict]:
    """Tells whether an 8-bit file that answers otherwise does so by itself or by the kernels that were chosen for this processor.

    LiteRT computes 8 bits by kernels of XNNPACK that differ between processors. Where answers changed, the file is run once more
    by LiteRT's own kernels, which are slow and the same everywhere.
    """
    allowed = 1 - max(KERNELS_DIFFER, SEVERAL / len(photos.scores))
    if verdict.agreement is None or verdict.agreement >= allowed:
        return details, verdict
    try:
        agreement = float(np.mean(scores_of("tflite_plain", path, photos.pixels).argmax(axis=1) == photos.scores.argmax(axis=1)))
    except WorkError as error:  # the file itself was measured
        logger.info("%s", error)
        return details, verdict
    if agreement >= 1 - KERNELS_DIFFER:
        said = f"LiteRT's own kernels agree with Keras on {agreement:.3f}: the 8-bit kernels of this processor are to blame, run the file on the phone"
        verdict = dataclasses.replace(verdict, reason="; ".join(filter(None, [verdict.reason, said])))
    return {**details, "agreement_plain_kernels": agreement}, verdict


def _write_changes(file: Path, photos: CheckPhotos, measured, labels) -> int | None:
    """Lists the photos whose answer is another one than Keras's; returns their number."""
    if measured is None or measured.scores.shape != photos.scores.shape:
        remove(file)
        return None
    before, after = photos.scores.argmax(axis=1), measured.scores.argmax(axis=1)
    rows = np.flatnonzero(before != after)
    truth = lambda row: "" if photos.targets is None else labels[photos.targets[row]]
    write_rows(file, ("path", "label", "keras", "keras_score", "file", "file_score"), (
        (photos.names[row], truth(row), labels[before[row]], f"{photos.scores[row, before[row]]:.4f}", labels[after[row]],
         f"{measured.scores[row, after[row]]:.4f}") for row in rows))
    return len(rows)
