"""TFLite metadata: what MediaPipe Tasks must know of an image classifier, and labels and contract, inside the .tflite file.

The numbers of tables and fields are those of metadata_schema.fbs, version 1, of the TFLite Support library. No package
that installs beside TensorFlow 2.21 can write them, so the tables are built here with the `flatbuffers` library.
"""

import io
import zipfile

import flatbuffers
import numpy as np

from tfcnn.export.contract import CONTRACT_FILE, LABELS_FILE, Contract
from tfcnn.kinds import IMAGE

PARSER_VERSION = "1.0.0"  # the oldest reader that knows every field used here
NAME = "TFLITE_METADATA"

IMAGE_PROPERTIES, FEATURE_PROPERTIES, AUDIO_PROPERTIES = 2, 1, 4   # union ContentProperties
NORMALIZATION_OPTIONS, SCORE_THRESHOLDING_OPTIONS = 1, 3  # union ProcessUnitOptions
UNKNOWN = 0
COLOUR_SPACES: dict[int | None, int] = {1: 2, 3: 1}  # enum ColorSpaceType by the number of channels: GRAYSCALE, RGB; there is none for four
DESCRIPTIONS, TENSOR_AXIS_LABELS = 1, 2       # enum AssociatedFileType


def add_metadata(tflite: bytes, contract: Contract) -> bytes:
    """The file with image-classifier metadata, its labels and its contract.

    Declares raw pixels: normalised with mean 0 and standard deviation 1, values 0 to 255; RGB, grey, or for other numbers of
    channels an unknown colour space. MediaPipe Tasks takes RGB and says so of the others; LiteRT runs all of them. Of other
    data the words of the contract are declared, and of sound its rate.

    Args:
        tflite: a model with one image input and one score output.
        contract: whose labels are in the order of the outputs; one line each, so none may hold a line break.

    Returns:
        The new file; `unzip -l` lists its labels and its contract.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(tflite, 0)
    for place in model.buffers:  # ai-edge-quantizer stores weights behind the tables, where packing would lose them
        if place.offset > 1:
            place.data, place.offset, place.size = np.frombuffer(tflite, np.uint8, place.size, place.offset), 0, 0
    model.metadata = [entry for entry in (model.metadata or []) if entry.name != NAME.encode()]
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = list(_metadata(contract))
    model.buffers.append(buffer)
    entry.name, entry.buffer = NAME, len(model.buffers) - 1
    model.metadata.append(entry)
    builder = flatbuffers.Builder(len(tflite))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    # MediaPipe finds the labels as a stored (not compressed) member of a zip that is appended to the model.
    file = io.BytesIO(bytes(builder.Output()))
    with zipfile.ZipFile(file, "a", zipfile.ZIP_STORED) as archive:
        for name, text in contract.files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return file.getvalue()


def _metadata(contract: Contract) -> bytes:
    """The buffer ModelMetadata, file identifier M001."""
    b = flatbuffers.Builder(1024)
    if contract.kind != IMAGE:
        entry = _tensor(b, contract.input_name, contract.takes, _input_content(b, contract), None)
    else:
        space = COLOUR_SPACES.get(contract.input_shape[-1], UNKNOWN)
        entry = _tensor(b, contract.input_name, f"A photo as {contract.colours} pixels from 0 to 255",
                        _content(b, IMAGE_PROPERTIES, _table(b, 2, int8={0: space})), _stats(b, 0, 255), units=[_normalization(b)])
    labels = _file(b, LABELS_FILE, "Class names, one a line", TENSOR_AXIS_LABELS)
    threshold = [] if contract.score_threshold is None else [_threshold(b, contract.score_threshold)]
    scores = _tensor(b, "scores", "A score from 0 to 1 for each label", _content(b, FEATURE_PROPERTIES, _table(b, 0)), _stats(b, 0, 1),
                     units=threshold, files=[labels])
    subgraph = _table(b, 10, offsets={2: _vector(b, [entry]), 3: _vector(b, [scores])})
    described = _vector(b, [_file(b, CONTRACT_FILE, "What an app has to do before it asks the model", DESCRIPTIONS)])
    model = _table(b, 8, offsets={0: b.CreateString(contract.name), 1: b.CreateString(contract.sentence), 3: _vector(b, [subgraph]), 6: described,
                                  7: b.CreateString(PARSER_VERSION)})
    b.Finish(model, file_identifier=b"M001")
    return bytes(b.Output())


def _input_content(b, contract: Contract):
    """Of sound its rate and channels, of other numbers nothing."""
    if "sample_rate" in contract.facts:
        return _content(b, AUDIO_PROPERTIES, _table(b, 2, int32={0: contract.facts["sample_rate"], 1: 1}))
    return _content(b, FEATURE_PROPERTIES, _table(b, 0))


def _tensor(b, name, description, content, stats, units=(), files=()):
    offsets = {0: b.CreateString(name), 1: b.CreateString(description), 3: content, **({} if stats is None else {5: stats})}
    if units:
        offsets[4] = _vector(b, units)
    if files:
        offsets[6] = _vector(b, files)
    return _table(b, 7, offsets=offsets)


def _file(b, name: str, description: str, kind: int):
    return _table(b, 5, offsets={0: b.CreateString(name), 1: b.CreateString(description)}, int8={2: kind})


def _content(b, kind: int, properties):
    return _table(b, 3, offsets={1: properties}, int8={0: kind})


def _stats(b, low: float, high: float):
    return _table(b, 2, offsets={0: _floats(b, [high]), 1: _floats(b, [low])})


def _normalization(b):
    options = _table(b, 2, offsets={0: _floats(b, [0.0]), 1: _floats(b, [1.0])})
    return _table(b, 2, offsets={1: options}, int8={0: NORMALIZATION_OPTIONS})


def _threshold(b, score: float):
    b.StartObject(1)
    b.PrependFloat32Slot(0, score, 0.0)
    return _table(b, 2, offsets={1: b.EndObject()}, int8={0: SCORE_THRESHOLDING_OPTIONS})


def _table(b, fields: int, offsets: dict[int, int] | None = None, int8: dict[int, int] | None = None, int32: dict[int, int] | None = None):
    b.StartObject(fields)
    for field, offset in (offsets or {}).items():
        b.PrependUOffsetTRelativeSlot(field, offset, 0)
    for field, value in (int8 or {}).items():
        b.PrependUint8Slot(field, value, 0)
    for field, value in (int32 or {}).items():
        b.PrependUint32Slot(field, value, 0)
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
