"""TFLite metadata: what MediaPipe Tasks must know of an image classifier, and the labels, inside the .tflite file.

The numbers of tables and fields are those of metadata_schema.fbs, version 1, of the TFLite Support library. No package
that installs beside TensorFlow 2.21 can write them, so the tables are built here with the `flatbuffers` library.
"""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import flatbuffers

LABELS_FILE = "labels.txt"
PARSER_VERSION = "1.0.0"  # the oldest reader that knows every field used here

IMAGE_PROPERTIES, FEATURE_PROPERTIES = 2, 1   # union ContentProperties
NORMALIZATION_OPTIONS = 1                     # union ProcessUnitOptions
# enum ColorSpaceType by the number of channels, and the colours in words; there is none for four.
COLOURS, UNKNOWN = {1: (2, "grey"), 3: (1, "RGB")}, 0
TENSOR_AXIS_LABELS = 2                        # enum AssociatedFileType


def add_metadata(tflite: bytes, labels: Sequence[str], *, name: str, description: str) -> bytes:
    """The file with image-classifier metadata and its labels.

    Declares raw pixels: normalised with mean 0 and standard deviation 1, values 0 to 255; RGB, grey, or for other numbers of
    channels an unknown colour space. MediaPipe Tasks takes RGB and says so of the others; LiteRT runs all of them.

    Args:
        tflite: a model with one image input and one score output.
        labels: class names in the order of the outputs; one line each, so none may hold a line break.
        name: of the model.
        description: one sentence about it.

    Returns:
        The new file; `unzip -l` lists its labels.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(tflite, 0)
    image = model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]]
    buffer = schema.BufferT()
    buffer.data = list(_metadata(name, description, channels=int(image.shape[-1])))
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = "TFLITE_METADATA", len(model.buffers) - 1
    model.metadata = [e for e in (model.metadata or []) if e.name != b"TFLITE_METADATA"] + [entry]
    builder = flatbuffers.Builder(len(tflite))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    # MediaPipe finds the labels as a stored (not compressed) member of a zip that is appended to the model.
    file = io.BytesIO(bytes(builder.Output()))
    with zipfile.ZipFile(file, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(LABELS_FILE), "\n".join(labels) + "\n")
    return file.getvalue()


def write_metadata(path: Path, labels: Sequence[str], *, name: str, description: str) -> None:
    """Adds the metadata to the .tflite file at `path`."""
    path.write_bytes(add_metadata(path.read_bytes(), labels, name=name, description=description))


def _metadata(name: str, description: str, channels: int) -> bytes:
    """The buffer ModelMetadata, file identifier M001."""
    b = flatbuffers.Builder(1024)
    space, colours = COLOURS.get(channels, (UNKNOWN, f"{channels}-channel"))
    pixels = _tensor(b, "image", f"A photo as {colours} pixels from 0 to 255", _content(b, IMAGE_PROPERTIES, _table(b, 2, int8={0: space})),
                     _stats(b, 0, 255), units=[_normalization(b)])
    labels = _table(b, 5, offsets={0: b.CreateString(LABELS_FILE), 1: b.CreateString("Class names, one a line")}, int8={2: TENSOR_AXIS_LABELS})
    scores = _tensor(b, "scores", "A score from 0 to 1 for each label", _content(b, FEATURE_PROPERTIES, _table(b, 0)), _stats(b, 0, 1), files=[labels])
    subgraph = _table(b, 10, offsets={2: _vector(b, [pixels]), 3: _vector(b, [scores])})
    model = _table(b, 8, offsets={0: b.CreateString(name), 1: b.CreateString(description), 3: _vector(b, [subgraph]), 7: b.CreateString(PARSER_VERSION)})
    b.Finish(model, file_identifier=b"M001")
    return bytes(b.Output())


def _tensor(b, name, description, content, stats, units=(), files=()):
    offsets = {0: b.CreateString(name), 1: b.CreateString(description), 3: content, 5: stats}
    if units:
        offsets[4] = _vector(b, units)
    if files:
        offsets[6] = _vector(b, files)
    return _table(b, 7, offsets=offsets)


def _content(b, kind: int, properties):
    return _table(b, 3, offsets={1: properties}, int8={0: kind})


def _stats(b, low: float, high: float):
    return _table(b, 2, offsets={0: _floats(b, [high]), 1: _floats(b, [low])})


def _normalization(b):
    options = _table(b, 2, offsets={0: _floats(b, [0.0]), 1: _floats(b, [1.0])})
    return _table(b, 2, offsets={1: options}, int8={0: NORMALIZATION_OPTIONS})


def _table(b, fields: int, offsets: dict[int, int] | None = None, int8: dict[int, int] | None = None):
    b.StartObject(fields)
    for field, offset in (offsets or {}).items():
        b.PrependUOffsetTRelativeSlot(field, offset, 0)
    for field, value in (int8 or {}).items():
        b.PrependUint8Slot(field, value, 0)
    return b.EndObject()


def _vector(b, offsets):
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return b.EndVector()


def _floats(b, values):
    b.StartVector(4, len(values), 4)
    for value in reversed(values):
        b.PrependFloat32(value)
    return b.EndVector()
