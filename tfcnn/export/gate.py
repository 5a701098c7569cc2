"""`export`: writes files for servers and phones, and runs each on the whole test split before it is called done."""

import dataclasses
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from tfcnn.data.calibration import Calibration, choose_calibration, read_calibration
from tfcnn.data.dataset import Dataset, splits_by_content
from tfcnn.data.run_data import load_run_data
from tfcnn.errors import InputError, closest
from tfcnn.evaluation.display import exports_html
from tfcnn.evaluation.evaluate import check_data, evaluate, say_seen
from tfcnn.evaluation.report import check_report, write_report
from tfcnn.export.bundle import check_bundle, write_bundle
from tfcnn.export.check import CheckPhotos, Export, write_and_check
from tfcnn.export.contract import contract_of
from tfcnn.export.encoded import check_encoded
from tfcnn.export.formats import EXPORTERS, OF_A_GRAPH, check_extra, default_formats
from tfcnn.export.ladder import AUTO, Budget, walk
from tfcnn.export.tflite import Material
from tfcnn.files import alone_in, name_aside, prepare_folder
from tfcnn.kinds import IMAGE, KINDS
from tfcnn.models.backbones import BACKBONES
from tfcnn.models.classifier import BACKBONE
from tfcnn.models.forward import forward
from tfcnn.models.recast import in_float32
from tfcnn.models.temperature import divide_logits, fit_temperature
from tfcnn.progress import stage
from tfcnn.record import Run, load_run, require, write_record

MAX_ACCURACY_DROP = 0.02
SURE_TEMPERATURE = 100  # validation photos; with 12 a temperature made the log loss of the test photos worse

logger = logging.getLogger(__name__)


def export(run: Run | str | Path, data: Dataset | None = None, *, formats: Sequence[str] | None = None,
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
    formats = default_formats(run.is_of_a_graph) if formats is None else formats
    check_formats(formats, run.kind, run.record["model"]["backbone"], whole=run.is_of_a_graph)
    if run.kind != IMAGE and (encoded or bundle is not None):
        what = "encoded" if encoded else f"bundle={bundle}"
        raise InputError(f"expected neither encoded photos nor a bundle for a run of {KINDS[run.kind].many}, got {what}; leave it out")
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
    require(run, "data", "model", "training", "versions", *(["test"] if run.record["status"] == "finished" else []))
    if run.record["status"] == "finished":
        check_report(run)  # which is written again when the files are there: what it lacks is said before they are made
    kept = read_calibration(run)
    with alone_in(run.path / "exports"), name_aside(run.path / "exports" / "work") as folder:  # which goes even if this process is killed
        folder.mkdir()
        with stage("load the model", seconds=seconds):
            model = in_float32(run.load_model())
        data, calibration = _photos_of(run, data, kept)
        if bundle is not None and (data is None or not len(data.rows("test"))):
            raise InputError(f"expected test photos for the golden photos of '{bundle}', but there are none or they cannot be read; "
                             "put them back, give others as data, or leave the bundle out")
        if calibrate_scores:
            contract = dataclasses.replace(contract, temperature=_calibrate_scores(run, model, data))
        photos = _check_photos(run, model, data, calibration)
        material = Material(model, contract, calibration.photos, calibration.held_out, folder, encoded)
        _prepare_record(run.path, formats, data_licence)

        path = run.path

        def one(name: str) -> Export:
            with stage(f"export and check {name}", seconds=seconds):
                result = write_and_check(path, material, name, photos, max_accuracy_drop)
            return _record(path, result)

        exports = walk(one, budget) if AUTO in formats else [one(name) for name in dict.fromkeys(formats)]
        if AUTO in formats:
            for rung in exports:
                _record(run.path, rung)  # again, with what was chosen
            if not exports[-1].chosen:
                fastest = min((rung.milliseconds for rung in exports if rung.milliseconds is not None), default=math.inf)
                logger.warning("auto settled on no file: none may be shipped and is within the budget; the smallest has %s bytes, the fastest takes %g ms",
                               f"{min(rung.bytes for rung in exports):,}", fastest)
        run = _write_card(run.path, data if bundle is not None and photos.kind == "test" else None)
        if bundle is not None and not shippable(exports):
            logger.warning("no bundle was written: no .tflite file passed its check")
        elif bundle is not None:
            assert data is not None  # or the work would have ended above
            with stage("write the bundle", seconds=seconds):
                write_bundle(run, bundle, exports=shippable(exports), data=data, model=model)
    return Exports(exports)


class Exports(list):
    """A list of `Export` that notebooks show as a table."""

    def _repr_html_(self) -> str:
        return exports_html([asdict(export) for export in self])


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


def check_formats(formats: Sequence[str], kind: str = IMAGE, backbone: str | None = None, *, whole: bool = False) -> None:
    """Raises InputError for a format that is not in `EXPORTERS`, that a network of a kind of data cannot be written in, or whose extra is not installed.

    Args:
        whole: for a network whose graph is part of it.
    """
    if isinstance(formats, str):
        raise InputError(f"expected a list of formats, got the text '{formats}'; write formats=['{formats}']")
    if AUTO in formats and len(set(formats)) > 1:
        raise InputError(f"expected 'auto' or formats, got {' '.join(formats)}; 'auto' chooses one itself")
    for name in formats:
        if name != AUTO and name not in EXPORTERS:
            raise InputError(f"expected an export format, got '{name}'; {closest(name, [*EXPORTERS, AUTO])}")
        if whole and name not in OF_A_GRAPH:
            raise InputError(f"expected {' or '.join(OF_A_GRAPH)} for a network of a whole graph, got '{name}'; train with --neighbours for the others")
        if kind != IMAGE:
            _check_of_kind(name, kind, backbone)
        if name != AUTO:
            check_extra(name)


def _check_of_kind(name: str, kind: str, backbone: str | None) -> None:
    row = KINDS[kind]
    of_frames = row.takes_frames and backbone in BACKBONES
    can = [known for known, exporter in EXPORTERS.items() if exporter.any_kind or (of_frames and exporter.of_frames)]
    if name not in can:
        in_3d = row.takes_frames and name != AUTO and EXPORTERS[name].of_frames
        why = "which is made for images alone"
        if in_3d:
            why = f"but TFLite has no 3-D convolutions in 8 bits; a network of two dimensions, such as {BACKBONE}, can be written so"
        raise InputError(f"expected a format for {row.many}, {', '.join(can)}, got '{name}', {why}")


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
    if kept is None:
        data = load_run_data(run) if data is None else data
        return data, choose_calibration(data)
    if data is None:
        try:
            data = load_run_data(run, "test")
        except InputError as error:
            logger.warning("the photos of the run cannot be read (%s): files are compared with Keras on the photos that the run keeps, %d of training and %d "
                           "of validation, which says nothing of accuracy", error, len(kept.photos), len(kept.held_out))
    return data, kept


def _temperature(run: Run, model, data: Dataset | None) -> float:
    if run.record.get("temperature"):
        return run.record["temperature"]
    if data is None or not len(data.rows("validation")):
        raise InputError(f"expected validation photos to calibrate the scores of '{run.path}' with, found none; leave calibrate_scores out")
    rows = data.rows("validation")
    return fit_temperature(forward(model, data.inputs, rows), data.targets(rows))


def _calibrate_scores(run: Run, model, data: Dataset | None) -> float:
    """Divides the logits of the model by the temperature of the run, which it returns."""
    temperature, fitted_on = _temperature(run, model, data), run.record["data"]["splits"]["validation"]
    logger.info("logits are divided by the temperature %.3f, which was fitted on the validation photos; predict and evaluate do without it", temperature)
    if fitted_on < SURE_TEMPERATURE:
        logger.warning("these are few (%d): calibrated scores of other photos may mean less than they say", fitted_on)
    divide_logits(model, temperature)
    return temperature


def _check_photos(run: Run, model, data: Dataset | None, calibration: Calibration) -> CheckPhotos:
    """The test split; without one, what the run keeps."""
    if data is not None and len(rows := data.rows("test")):
        trained_on = say_seen(run, data, rows)
        pixels = data.photos(rows)
        own = {sha256 for sha256, split in splits_by_content(run).items() if split == "test"}
        kind = "test" if {data.items[row].sha256 for row in rows} == own else "other"
        return CheckPhotos(kind, trained_on, pixels, data.targets(rows), [data.items[row].path for row in rows], forward(model, pixels))
    if data is not None:
        logger.warning("there are no test photos: files are compared with Keras on the calibration photos, which says nothing of accuracy")
    pixels = np.concatenate([calibration.held_out, calibration.photos])
    if not len(pixels):
        raise InputError("expected test photos to check the files with, found none, and no training or validation photos either")
    return CheckPhotos("calibration", 0, pixels, None, [f"calibration/{row}" for row in range(len(pixels))], forward(model, pixels))


def _record(folder: Path, result: Export) -> Export:
    """Stores the result in run.json at once, so that a failing format does not hide those before it."""
    record = load_run(folder).record
    rows = {row["format"]: row for row in record["exports"]}
    write_record(folder, {**record, "exports": list({**rows, result.format: asdict(result)}.values())})
    return result
