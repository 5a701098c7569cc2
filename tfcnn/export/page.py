"""The web page of a run: its own files, and `model.json`, which tells page and apps what the model files take and give."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tfcnn.errors import InputError
from tfcnn.export.litertjs import WEB
from tfcnn.export.read_tflite import File, read_tflite
from tfcnn.record import Run

PAGE = ("index.html", "style.css", "app.js", "pixels.js")  # of the folder web
OURS, NPMS = '"./litert/', '"./node_modules/@litertjs/'  # where the import map of index.html finds LiteRT.js


class ModelFile(NamedTuple):
    """One TFLite file that may be shipped: its format, and where it lies."""

    format: str
    path: Path

    @property
    def name(self) -> str:
        """What it is called in bundle and page."""
        return self.path.name


def accepted_files(run: Run, exports: Iterable) -> list[ModelFile]:
    """The TFLite files among `exports` that passed their check.

    Args:
        run: whose folder the paths are relative to.
        exports: objects with `format`, `path`, `accepted` and `sha256`.

    Raises:
        InputError: there is none, or one is gone or not what was checked; the model does not take square grey or RGB photos.
    """
    check_shape(run)
    accepted = [e for e in exports if e.accepted and e.path.endswith(".tflite")]
    if not accepted:
        raise InputError(f"expected a TFLite file that passed its check in '{run.path}', found none; "
                         f"write one with 'tfcnn export {run.path} --format tflite_float32'")
    for e in accepted:
        file = run.path / e.path
        if file.parent != run.path / "exports":
            raise InputError(f"expected files in '{run.path / 'exports'}', but run.json lists '{e.path}'; it was changed by hand: export again")
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != e.sha256:
            raise InputError(f"expected the file '{file}' as it was when it was checked, but it {'was changed' if file.is_file() else 'is gone'}; "
                             f"write it again with 'tfcnn export {run.path} --format {e.format}'")
    return [ModelFile(e.format, run.path / e.path) for e in accepted]


def check_shape(run: Run) -> None:
    """Raises InputError for a model of photos that a browser cannot show exactly."""
    height, width, channels = run.record["input_shape"]
    if height != width or channels not in (1, 3):
        raise InputError(f"expected a model of square photos with 1 or 3 channels, got input_shape={height}x{width}x{channels}; "
                         "a browser cannot show others exactly: use the files in exports/ as they are")


def page_files(*, with_litertjs: bool) -> dict[str, bytes]:
    """The files of the page by name; without LiteRT.js its import map points to what 'npm install' will bring."""
    files = {name: (WEB / name).read_bytes() for name in PAGE}
    if not with_litertjs:
        files["index.html"] = files["index.html"].replace(OURS.encode(), NPMS.encode())
    return files


def describe_models(run: Run, files: Sequence[ModelFile], *, golden: bool) -> dict[str, Any]:
    """`model.json`: what apps and page have to know; paths are relative to it.

    Args:
        run: the run of the files.
        files: from `accepted_files`.
        golden: whether there are golden photos beside it.
    """
    contents = [read_tflite(file.path) for file in files]
    return {"name": run.path.resolve().name, "labels": run.labels, "image_size": run.record["input_shape"][0],
            "channels": run.record["input_shape"][2], "geometry": run.record["geometry"],
            "score_threshold": contents[0].contract["output"]["score_threshold"],
            "models": [_describe(file, read) for file, read in zip(files, contents, strict=True)], "expected": "golden/expected.json" if golden else None}


def to_json(value: Any) -> bytes:
    """Readable JSON that ends with a line break."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _describe(file: ModelFile, read: File) -> dict[str, Any]:
    described = {}
    for name, tensor in (("input", read.input), ("output", read.output)):
        scale, zero_point = tensor.quantization if tensor.dtype != "float32" else (1.0, 0)
        described[name] = {"dtype": tensor.dtype, "scale": scale, "zero_point": zero_point}
    return {"file": f"models/{file.name}", "format": file.format, "bytes": file.path.stat().st_size,
            "score_threshold": read.contract["output"]["score_threshold"],
            "minimum_runtime": "" if file.format == "tflite_weight_int8" else _minimum_runtime(file.path), **described}


def _minimum_runtime(path: Path) -> str:
    """The oldest TensorFlow Lite that has all operators of a file, as its converter wrote it down; empty if it did not.

    The quantizer of weight_int8 leaves what was written of the float file, which is not asked.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(path.read_bytes())
    for number in range(model.MetadataLength()):
        entry = model.Metadata(number)
        if entry.Name() == b"min_runtime_version":
            return model.Buffers(entry.Buffer()).DataAsNumpy().tobytes().rstrip(b"\0").decode()
    return ""
