"""`read_tflite`: what a .tflite file says of itself, and `check_tflite`: whether graph, metadata and contract agree."""

import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfcnn.errors import InputError, WorkError
from tfcnn.export.contract import CONTRACT_FILE, LABELS_FILE, Contract
from tfcnn.export.metadata import COLOUR_SPACES, IMAGE_PROPERTIES, NAME, UNKNOWN
from tfcnn.kinds import IMAGE


class Tensor(NamedTuple):
    """An input or output of the graph: its shape, with None for a side of any length, NumPy's name of its type, and (scale, zero point) of its
    bytes, (0, 0) without."""

    shape: tuple[int | None, ...]
    dtype: str
    quantization: tuple[float, int]


class File(NamedTuple):
    """A .tflite file.

    Attributes:
        input, output: of the graph.
        operators: names, one for each node.
        colour_space: of the metadata: 0 unknown, 1 RGB, 2 grey.
        mean, std, low, high: of the metadata: how pixels are normalised by who feeds the graph, and their range.
        labels, contract: the files in it; none and empty where they are missing.
    """

    input: Tensor
    output: Tensor
    operators: tuple[str, ...]
    colour_space: int | None
    mean: float | None
    std: float | None
    low: float | None
    high: float | None
    labels: tuple[str, ...]
    contract: dict[str, Any]

    @property
    def flex(self) -> list[str]:
        """Operators of TensorFlow that phones lack."""
        return sorted({name for name in self.operators if name.startswith("Flex")})


def read_tflite(path: str | Path) -> File:
    """Reads graph, metadata and the files in a .tflite file.

    Raises:
        InputError: no such file, one that LiteRT cannot load, or one whose metadata cannot be read.
    """
    from ai_edge_litert.interpreter import Interpreter

    path = Path(path)
    if not path.is_file():
        raise InputError(f"expected a .tflite file, but there is no file '{path}'; check the path")
    try:
        interpreter = Interpreter(model_path=str(path))
        (entry,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
        operators = tuple(operator["op_name"] for operator in interpreter._get_ops_details())
    except (ValueError, RuntimeError, TypeError) as error:
        raise InputError(f"expected a .tflite file with one input and one output in '{path}', but LiteRT cannot load it "
                         f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); the file is damaged or another format: "
                         "write it again with 'tfcnn export'") from error
    try:
        pixels = _image_metadata(path.read_bytes())
        files = _files_in(path)
        contract = json.loads(files[CONTRACT_FILE]) if CONTRACT_FILE in files else {}
    except (ValueError, TypeError, LookupError, struct.error, zlib.error, zipfile.BadZipFile, RuntimeError) as error:
        raise InputError(f"expected readable metadata in '{path}', but they are damaged ({type(error).__name__}); "
                         "write it again with 'tfcnn export'") from error
    return File(_tensor(entry), _tensor(result), operators, *pixels, tuple(files.get(LABELS_FILE, "").splitlines()), contract)


def check_tflite(path: Path, contract: Contract, *, bytes_in: bool = False, bytes_out: bool = False) -> File:
    """Compares what a file says of itself with what a run says of it.

    Raises:
        WorkError: they disagree, or the file needs operators that phones lack.
    """
    file = read_tflite(path)
    if file.flex:
        raise WorkError(f"expected operators that phones have, but '{path.name}' needs {', '.join(file.flex)}; use another backbone")
    of_photos = contract.kind == IMAGE
    told = {"input shape": (file.input.shape, (1, *contract.input_shape)),
            "number of scores": (file.output.shape, (1, len(contract.labels))),
            "input type": (file.input.dtype, "uint8" if bytes_in else contract.dtype),
            "output type": (file.output.dtype, "uint8" if bytes_out else "float32"),
            "normalisation (mean, std)": ((file.mean, file.std), (0.0, 1.0) if of_photos else (None, None)),
            "range of pixels": ((file.low, file.high), (0.0, 255.0) if of_photos else (None, None)),
            "colour space": (file.colour_space, COLOUR_SPACES.get(contract.input_shape[-1], UNKNOWN) if of_photos else UNKNOWN),
            "labels": (file.labels, contract.labels),
            "contract": (file.contract, json.loads(contract.to_json()))}
    if bytes_in:  # one step of the input is one step of a pixel
        told["scale and zero point of the input"] = ((round(file.input.quantization[0], 3), file.input.quantization[1]), (1.0, 0))
    wrong = [f"{name} is {is_} and should be {should}" for name, (is_, should) in told.items() if is_ != should]
    if wrong:
        raise WorkError(f"expected graph, metadata and run of '{path.name}' to agree, but {'; '.join(wrong)}; use another format")
    return file


def _tensor(details: dict) -> Tensor:
    scale, zero = details["quantization"]
    return Tensor(tuple(int(side) if side > 0 else None for side in details["shape_signature"]), np.dtype(details["dtype"]).name, (float(scale), int(zero)))


def _files_in(path: Path) -> dict[str, str]:
    if not zipfile.is_zipfile(path):
        return {}
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode("utf-8") for name in archive.namelist()}


def _image_metadata(tflite: bytes) -> tuple[int | None, float | None, float | None, float | None, float | None]:
    """Colour space, mean, standard deviation, lowest and highest value of the input tensor; None where nothing is said.

    Field numbers are those of metadata_schema.fbs: ModelMetadata.subgraph_metadata 3, SubGraphMetadata.input_tensor_metadata 2,
    TensorMetadata.content 3, process_units 4, stats 5, Content.content_properties_type 0, content_properties 1,
    ImageProperties.color_space 0,
    ProcessUnit.options 1, NormalizationOptions.mean 0, std 1, Stats.max 0, min 1.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(tflite, 0)
    buffers = [model.Metadata(row).Buffer() for row in range(model.MetadataLength()) if model.Metadata(row).Name() == NAME.encode()]
    if not buffers:
        return None, None, None, None, None
    content = bytes(model.Buffers(buffers[0]).DataAsNumpy())
    root = flatbuffers.table.Table(content, flatbuffers.encode.Get(flatbuffers.packer.uoffset, content, 0))
    pixels = _first(_first(root, 3), 2)
    unit, content, stats = _first(pixels, 4), _table(pixels, 3), _table(pixels, 5)
    kind = content and content.Offset(4)
    is_image = bool(kind) and content.Get(flatbuffers.number_types.Uint8Flags, kind + content.Pos) == IMAGE_PROPERTIES
    image: Any = _table(content, 1) if is_image else None  # other contents have other fields
    options = _table(unit, 1)
    place = image and image.Offset(4)
    space = image.Get(flatbuffers.number_types.Int8Flags, place + image.Pos) if place else 0
    return space, _number(options, 0), _number(options, 1), _number(stats, 1), _number(stats, 0)


def _table(table, field: int):
    """The table that a field points to; None where there is none."""
    import flatbuffers

    place = table and table.Offset(4 + 2 * field)
    return flatbuffers.table.Table(table.Bytes, table.Indirect(table.Pos + place)) if place else None


def _first(table, field: int):
    """The first table of a vector."""
    import flatbuffers

    place = table and table.Offset(4 + 2 * field)
    return flatbuffers.table.Table(table.Bytes, table.Indirect(table.Vector(place))) if place and table.VectorLen(place) else None


def _number(table, field: int) -> float | None:
    """The first number of a vector of floats."""
    import flatbuffers

    place = table and table.Offset(4 + 2 * field)
    return float(table.Get(flatbuffers.number_types.Float32Flags, table.Vector(place))) if place and table.VectorLen(place) else None
