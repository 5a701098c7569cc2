"""`export`: writes files for servers and phones, and runs each on the whole test split before it is called done."""

import dataclasses
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfcnn.data.calibration import Calibration, choose_calibration, read_calibration
from tfcnn.data.dataset import Dataset
from tfcnn.data.images import load_run_data, splits_by_content
from tfcnn.errors import InputError, WorkError, closest, first_line
from tfcnn.evaluation.evaluate import check_data, evaluate, say_seen
from tfcnn.evaluation.report import write_report
from tfcnn.export.bundle import check_bundle, write_bundle
from tfcnn.export.contract import Contract, check_model, contract_of
from tfcnn.export.encoded import check_encoded
from tfcnn.export.formats import DEFAULT_FORMATS, EXPORTERS, check_extra
from tfcnn.export.ladder import AUTO, Budget, walk
from tfcnn.export.runtimes import run_file, scores_of
from tfcnn.export.tflite import Material
from tfcnn.export.verdict import UNCHECKED, Verdict, compare
from tfcnn.models.forward import forward
from tfcnn.models.recast import in_float32
from tfcnn.models.temperature import divide_logits, fit_temperature
from tfcnn.progress import stage
from tfcnn.record import Run, alone_in, load_run, name_aside, prepare_folder, publish, remove, require, write_record, write_rows

MAX_ACCURACY_DROP = 0.02
SURE_TEMPERATURE = 100  # validation photos; with 12 a temperature made the log loss of the test photos worse
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


class _Photos(NamedTuple):
    """What files are checked on: which photos these are (see `Export`) and how many of them were trained on; pixels, targets (None
    where they test no accuracy), names, and Keras's scores."""

    kind: str
    trained_on: int
    pixels: Any
    targets: np.ndarray | None
    names: list[str]
    scores: np.ndarray


def export(run: Run | str | Path, data: Dataset | None = None, *, formats: Sequence[str] = DEFAULT_FORMATS,
           max_accuracy_drop: float = MAX_ACCURACY_DROP, max_bytes: int | None = None, max_host_latency_ms: float | None = None,
           calibrate_scores: bool = False, score_threshold: float | None = None, encoded: bool = False,
           bundle: str | Path | None = None, data_licence: str | None = None, seconds: dict[str, float] | None = None) -> list[Export]:
    """Writes a run's model in some formats, runs each file on the test split, and rejects what got worse.

    A file is rejected if its accuracy is more than `max_accuracy_drop` below Keras's, or if it is a float file that
    answers otherwise than Keras on more than 1 % of the photos, ties aside, or gives other scores. A rejected file is kept below `exports/rejected/`. Without
    test photos a file's answers are compared with those of Keras on the calibration photos that the run keeps.

    Args:
        run: a run or its folder.
        data: with the test split, which may be of other photos than the run's; those of the run if None. What 8-bit files are
            calibrated on is kept in the run.
        formats: names of `EXPORTERS`; or ["auto"], which tries 8 bits, then less and less of it, and stops at the first file that
            may be shipped and is within `max_bytes` and `max_host_latency_ms`.
        max_accuracy_drop: from 0 to 1.
        max_bytes: the largest file that "auto" may settle on.
        max_host_latency_ms: the longest median time a photo, on one thread of this host, that "auto" may settle on.
        calibrate_scores: divides the logits by the temperature that was fitted on validation, so that a score of 0.8 is right
            about 8 times of 10; no answer changes.
        score_threshold: from 0 to 1; goes into the metadata, and MediaPipe Tasks leaves out labels that score less.
        encoded: the SavedModel gets a signature `serve_encoded` that takes JPEG and PNG files.
        bundle: a zip to write for app developers, see `tfcnn.export.bundle.write_bundle`; none is written if no .tflite file was accepted.
        data_licence: of the photos, in words; kept in run.json and said in the card.
        seconds: receives the time of each stage.

    Returns:
        One `Export` a file that was written, also stored in run.json.

    Raises:
        InputError: an unknown format, one whose extra is not installed, a run that is damaged or has no photos to check with, or
            one that another process exports.
        WorkError: a format that cannot be written or run.
    """
    run = run if isinstance(run, Run) else load_run(run)
    check_formats(formats)
    budget = Budget(max_bytes, max_host_latency_ms)
    _check_numbers(max_accuracy_drop, score_threshold, budget, formats)
    prepare_folder(run.path / "exports", "copy the run to where it can be written")
    if bundle is not None:
        check_bundle(bundle, run, formats)
    contract = contract_of(run, score_threshold=score_threshold)
    if encoded and "saved_model" not in formats:
        raise InputError(f"expected the format saved_model with encoded, got {', '.join(formats)}; only a SavedModel can take encoded photos")
    if encoded:
        check_encoded(contract)
    if data is not None:
        check_data(run, data)
    require(run, "data", "model", "training", "versions", *(["test"] if run.record["status"] == "finished" else []))  # the card says them
    kept = read_calibration(run)
    with alone_in(run.path / "exports"), name_aside(run.path / "exports" / "work") as folder:  # which goes even if this process is killed
        folder.mkdir()
        with stage("load the model", seconds=seconds):
            model = in_float32(run.load_model())
        check_model(model, contract)
        data, calibration = _photos_of(run, data, kept)
        if bundle is not None and (data is None or not len(data.rows("test"))):
            raise InputError(f"expected test photos for the golden photos of '{bundle}', but there are none or they cannot be read; "
                             "put them back, give others as data, or leave the bundle out")
        if calibrate_scores:
            contract = dataclasses.replace(contract, temperature=_calibrate_scores(run, model, data))
        photos = _check_photos(run, model, data, calibration)
        material = Material(model, contract, calibration.photos, calibration.held_out, folder, encoded)
        _prepare_record(run.path, formats, data_licence)

        def one(name: str) -> Export:
            with stage(f"export and check {name}", seconds=seconds):
                result = _export_one(run.path, material, name, photos, max_accuracy_drop)
            return _record(run.path, result)

        exports = walk(one, budget) if AUTO in formats else [one(name) for name in dict.fromkeys(formats)]
        if AUTO in formats:
            for rung in exports:
                _record(run.path, rung)  # again, with what was chosen
            if not exports[-1].chosen:
                logger.warning("auto settled on no file: none may be shipped and is within the budget")
        run = _write_card(run.path, data if bundle is not None and photos.kind == "test" else None)
        if bundle is not None and not shippable(exports):
            logger.warning("no bundle was written: no .tflite file passed its check")
        elif bundle is not None:
            with stage("write the bundle", seconds=seconds):
                write_bundle(run, bundle, exports=shippable(exports), data=data, model=model)
    return exports


def shippable(exports: Sequence[Export]) -> list[Export]:
    """The .tflite files that passed their check; of `--format auto` the one that it settled on."""
    return [e for e in exports if e.accepted and e.chosen is not False and e.path.endswith(".tflite")]


def _prepare_record(folder: Path, formats: Sequence[str], data_licence: str | None) -> None:
    """Another `--format auto` makes that of before a thing of the past."""
    record = load_run(folder).record
    rows = [{**row, "chosen": None} if AUTO in formats else row for row in record.get("exports", [])]
    licence = {"licence": data_licence} if data_licence is not None else {}
    write_record(folder, {**record, "data": {**record["data"], **licence}, "exports": rows})


def _write_card(folder: Path, data: Dataset | None) -> Run:
    """Lists the files in page and card: of a finished run, or with the run's own data of any run, for a bundle has a card."""
    run = load_run(folder)
    if data is not None and "test" not in run.record:
        run = write_record(folder, {**run.record, "test": evaluate(run, data).to_dict()})
    if data is not None or run.record["status"] == "finished":
        write_report(run)
    return run


def check_formats(formats: Sequence[str]) -> None:
    """Raises InputError for a format that is not in `EXPORTERS`, or whose extra is not installed."""
    if isinstance(formats, str):
        raise InputError(f"expected a list of formats, got the text '{formats}'; write formats=['{formats}']")
    if AUTO in formats and len(set(formats)) > 1:
        raise InputError(f"expected 'auto' or formats, got {' '.join(formats)}; 'auto' chooses one itself")
    for name in formats:
        if name != AUTO and name not in EXPORTERS:
            raise InputError(f"expected an export format, got '{name}'; {closest(name, [*EXPORTERS, AUTO])}")
        if name != AUTO:
            check_extra(name)


def _check_numbers(max_accuracy_drop: float, score_threshold: float | None, budget: Budget, formats: Sequence[str]) -> None:
    if not 0 <= max_accuracy_drop <= 1:
        raise InputError(f"expected the accuracy drop that is allowed from 0 to 1, got max_accuracy_drop={max_accuracy_drop}")
    if score_threshold is not None and not 0 <= score_threshold <= 1:
        raise InputError(f"expected a score from 0 to 1, got score_threshold={score_threshold}")
    for name, value in budget._asdict().items():
        if value is not None and not value > 0:
            raise InputError(f"expected a number above 0, got {name}={value}")
        if value is not None and AUTO not in formats:
            raise InputError(f"expected the format 'auto' with a budget, got {name}={value} with {', '.join(formats)}; only 'auto' chooses by it")


def _photos_of(run: Run, data: Dataset | None, kept: Calibration | None) -> tuple[Dataset | None, Calibration]:
    """The data, where it can be had, and the calibration photos, those that the run keeps if it keeps some."""
    if data is None:
        try:
            data = load_run_data(run, "test" if kept else None)
        except InputError as error:
            if kept is None:
                raise
            logger.warning("the photos of the run cannot be read (%s): files are compared with Keras on the %d calibration photos, "
                           "which says nothing of accuracy", error, len(kept.photos) + len(kept.held_out))
    return data, kept or choose_calibration(data)


def _temperature(run: Run, model, data: Dataset | None) -> float:
    if run.record.get("temperature"):
        return run.record["temperature"]
    rows = data.rows("validation") if data is not None else ()
    if not len(rows):
        raise InputError(f"expected validation photos to calibrate the scores of '{run.path}' with, found none; leave calibrate_scores out")
    return fit_temperature(forward(model, data.inputs, rows), data.targets(rows))


def _calibrate_scores(run: Run, model, data: Dataset | None) -> float:
    """Divides the logits of the model by the temperature of the run, which it returns."""
    temperature, fitted_on = _temperature(run, model, data), run.record["data"]["splits"]["validation"]
    logger.info("logits are divided by the temperature %.3f, which was fitted on the validation photos; predict and evaluate do without it", temperature)
    if fitted_on < SURE_TEMPERATURE:
        logger.warning("these are few (%d): calibrated scores of other photos may mean less than they say", fitted_on)
    divide_logits(model, temperature)
    return temperature


def _check_photos(run: Run, model, data: Dataset | None, calibration: Calibration) -> _Photos:
    """The test split; without one, what the run keeps."""
    rows = data.rows("test") if data is not None else ()
    if len(rows):
        trained_on = say_seen(run, data, rows)
        pixels = data.photos(rows)
        own = {sha256 for sha256, split in splits_by_content(run).items() if split == "test"}
        kind = "test" if {data.items[row].sha256 for row in rows} == own else "other"
        return _Photos(kind, trained_on, pixels, data.targets(rows), [data.items[row].path for row in rows], forward(model, pixels))
    if data is not None:
        logger.warning("there are no test photos: files are compared with Keras on the calibration photos, which says nothing of accuracy")
    pixels = np.concatenate([calibration.held_out, calibration.photos])
    if not len(pixels):
        raise InputError("expected test photos to check the files with, found none, and no training or validation photos either")
    return _Photos("calibration", 0, pixels, None, [f"calibration/{row}" for row in range(len(pixels))], forward(model, pixels))


def _export_one(folder: Path, material: Material, name: str, photos: _Photos, max_accuracy_drop: float) -> Export:
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


def _try_plain_kernels(path: Path, photos: _Photos, details: dict, verdict: Verdict) -> tuple[dict, Verdict]:
    """Tells whether an 8-bit file that answers otherwise does so by itself or by the kernels that were chosen for this processor.

    LiteRT computes 8 bits by kernels of XNNPACK that differ between processors. Where answers changed, the file is run once more
    by LiteRT's own kernels, which are slow and the same everywhere.
    """
    allowed = 1 - max(KERNELS_DIFFER, SEVERAL / len(photos.scores))
    if verdict.agreement >= allowed:
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


def _write_changes(file: Path, photos: _Photos, measured, labels) -> int | None:
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


def _record(folder: Path, result: Export) -> Export:
    """Stores the result in run.json at once, so that a failing format does not hide those before it."""
    record = load_run(folder).record
    rows = {row["format"]: row for row in record["exports"]}
    write_record(folder, {**record, "exports": list({**rows, result.format: asdict(result)}.values())})
    return result
