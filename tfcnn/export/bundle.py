"""`write_bundle`: what an app developer gets of a run, as one zip: models, golden photos, sources for Android and iOS, a web page."""

import logging
import platform
import zipfile
from collections.abc import Iterable
from pathlib import Path

from tfcnn.data.dataset import Dataset
from tfcnn.data.photo import GEOMETRIES
from tfcnn.errors import InputError, WorkError
from tfcnn.evaluation.report import card_of
from tfcnn.evaluation.words import last_name
from tfcnn.export.contract import CONTRACT_FILE, LABELS_FILE
from tfcnn.export.golden import PHOTOS, Golden, choose_golden, to_png
from tfcnn.export.ladder import AUTO
from tfcnn.export.litertjs import LICENSE, WEB, fetch_litertjs
from tfcnn.export.page import ModelFile, accepted_files, check_shape, describe_models, page_files, to_json
from tfcnn.export.read_tflite import read_tflite
from tfcnn.files import prepare_folder, write_aside
from tfcnn.models.backbones import BACKBONES
from tfcnn.record import Run, labels_text

HERE = Path(__file__).parent
PINS = ("package.json", "package-lock.json")  # of LiteRT.js
EXAMPLE = b"float32.tflite"  # in the READMEs for Android and iOS
DATE = (1980, 1, 1, 0, 0, 0)  # of every member, the first that zip knows, so that the same run gives the same bundle

logger = logging.getLogger(__name__)


def check_bundle(path: str | Path, run: Run, formats: Iterable[str]) -> None:
    """Raises InputError for a name that a bundle cannot be written to, a run that no bundle can be made of, or formats without a .tflite file."""
    check_shape(run)
    if not any(name == AUTO or name.startswith("tflite_") for name in formats):
        raise InputError(f"expected a format of TFLite for the bundle, got {', '.join(formats)}; add for example tflite_float16")
    _check_name(path)


def _check_name(path: str | Path) -> None:
    if not str(path).endswith(".zip"):
        raise InputError(f"expected a bundle named *.zip, got '{path}'; write for example '{Path(path).stem or 'bundle'}.zip'")
    if Path(path).is_dir():
        raise InputError(f"expected a name for the bundle, but '{path}' is a folder; give another name")
    prepare_folder(Path(path).parent, "give the bundle another name")


def write_bundle(run: Run, path: str | Path, *, exports: Iterable, data: Dataset, model=None) -> Path:
    """Writes what an app developer needs of a run into one zip.

    Args:
        run: a run with a model.
        path: the zip, replaced if it is there.
        exports: objects with `format`, `path` relative to the run folder, and `accepted`; accepted TFLite files go in.
        data: with the test split; some of its photos go in as golden photos.
        model: the `keras.Model` as it was exported, whose scores stand beside those of the files; that of the run if None.

    Returns:
        `path`.

    Raises:
        InputError: `path` is not a zip, no TFLite file was accepted, no test photos, or a model of other inputs than square
            grey or RGB photos.
    """
    path = Path(path)
    _check_name(path)
    files = accepted_files(run, exports)
    if not len(data.rows("test")):
        raise InputError("expected test photos for the golden photos of the bundle, found none; give data with a test split")
    litertjs = _litertjs_or_none()
    golden = choose_golden(run, data, files, model or run.load_model())
    if len(golden.photos) < PHOTOS:
        logger.warning("the bundle has %d golden photos, not %d: of no other test photo is the answer beyond doubt in every file", len(golden.photos), PHOTOS)
    description = describe_models(run, files, golden=True)
    members = _members(run, files, golden, litertjs) | {CONTRACT_FILE: to_json(read_tflite(files[0].path).contract), "LICENSE": LICENSE}
    members |= {"model.json": to_json(description), "README.md": _readme(run, description, golden, with_litertjs=bool(litertjs))}
    with write_aside(path) as aside, zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(f"{description['name']}/{name}", DATE)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(info, content if isinstance(content, bytes) else content.read_bytes())
    return path


def _members(run: Run, files: list[ModelFile], golden: Golden, litertjs: dict[str, Path]) -> dict[str, bytes | Path]:
    """Every file of the bundle by its name, as bytes or where it lies."""
    members: dict[str, bytes | Path] = {LABELS_FILE: labels_text(run.labels).encode()}
    if "test" in run.record:
        shipped = [file.format for file in files]
        rows = [{**row, "path": f"models/{Path(row['path']).name}"} for row in run.record.get("exports", []) if row["format"] in shipped]
        members["card.md"] = card_of(run, rows).encode()
    members |= {f"models/{file.name}": file.path for file in files}
    members |= {f"golden/{row['photo']}": to_png(photo) for row, photo in zip(golden.expected["photos"], golden.photos, strict=True)}
    members["golden/expected.json"] = to_json(golden.expected)
    sources = [file for folder in ("android", "ios") for file in sorted((HERE / folder).iterdir())]
    if run.record["input_shape"][2] != 3:  # MediaPipe takes RGB only
        sources = [file for file in sources if "MediaPipe" not in file.name]
    members |= {f"{file.parent.name}/{file.name}": file for file in sources}
    for name in ("android/README.md", "ios/README.md"):  # their example takes a file that is there
        members[name] = (HERE / name).read_bytes().replace(EXAMPLE, files[0].name.encode())
    members |= {f"web/{name}": content for name, content in page_files(with_litertjs=bool(litertjs)).items()}
    members |= {f"web/{name}": WEB / name for name in PINS}
    return members | {f"web/litert/{name}": file for name, file in litertjs.items()}


def _litertjs_or_none() -> dict[str, Path]:
    try:
        return fetch_litertjs()
    except (InputError, WorkError) as error:  # the rest of the bundle is worth having
        logger.warning("the page of the bundle comes without LiteRT.js: run 'npm install' in its folder web/ first (%s)", error)
        return {}


def _readme(run: Run, description: dict, golden: Golden, *, with_litertjs: bool) -> bytes:
    import jinja2
    from ai_edge_litert import __version__ as litert

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), autoescape=False, trim_blocks=True, lstrip_blocks=True,
                                     keep_trailing_newline=True, undefined=jinja2.StrictUndefined)
    environment.filters["last_name"] = last_name
    values = {"model": description, "run": run.record, "golden": golden.expected, "wanted": PHOTOS, "with_litertjs": with_litertjs,
              "has_card": "test" in run.record, "host": f"LiteRT {litert} on {platform.system()} {platform.machine()}",
              "geometry": GEOMETRIES[run.record["geometry"]].text, "backbone": BACKBONES.get(run.record["model"]["backbone"])}
    return environment.get_template("bundle.md").render(values).encode()
