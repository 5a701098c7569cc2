"""The metadata inside a .tflite file, read back without the code that wrote it."""

import struct
import subprocess
import zipfile

import numpy as np
import pytest

from tfcnn.export.formats import write_float32
from tfcnn.export.metadata import add_metadata


@pytest.fixture(scope="module")
def file(trained, tmp_path_factory):
    run, _, model = trained
    path = tmp_path_factory.mktemp("metadata") / "model.tflite"
    write_float32(model, path, run.labels, None)
    return path


def test_labels_are_a_stored_member_of_the_file(file):
    with zipfile.ZipFile(file) as archive:
        member = archive.getinfo("labels.txt")
        assert member.compress_type == zipfile.ZIP_STORED
        assert archive.read("labels.txt").decode() == "blue\ngreen\nred\n"


def test_unzip_lists_the_labels(file):
    listing = subprocess.run(["python3", "-m", "zipfile", "-l", str(file)], capture_output=True, text=True, check=True).stdout
    assert "labels.txt" in listing


def test_the_metadata_buffer_reads_as_the_schema_says(file):
    """Walks the flatbuffer by hand: offsets relative to their place, field numbers of metadata_schema.fbs."""
    from ai_edge_litert import schema_py_generated as schema

    data = file.read_bytes()
    model = schema.Model.GetRootAs(data, 0)
    entries = [model.Metadata(i) for i in range(model.MetadataLength())]
    entry = [e for e in entries if e.Name() == b"TFLITE_METADATA"]
    assert len(entry) == 1
    buffer = bytes(model.Buffers(entry[0].Buffer()).DataAsNumpy())
    assert buffer[4:8] == b"M001"

    def uint(at):
        return struct.unpack_from("<I", buffer, at)[0]

    def field(table, number):
        vtable = table - struct.unpack_from("<i", buffer, table)[0]
        size = struct.unpack_from("<H", buffer, vtable)[0]
        slot = 4 + 2 * number
        offset = struct.unpack_from("<H", buffer, vtable + slot)[0] if slot < size else 0
        return table + offset if offset else None

    def follow(at):
        return at + uint(at)

    def text(at):
        start = follow(at)
        return buffer[start + 4:start + 4 + uint(start)].decode()

    def first(at):
        return follow(follow(at) + 4)

    root = follow(0)
    assert text(field(root, 7)) == "1.0.0"
    subgraph = first(field(root, 3))
    pixels, scores = first(field(subgraph, 2)), first(field(subgraph, 3))
    assert text(field(pixels, 0)) == "image" and text(field(scores, 0)) == "scores"
    content = follow(field(pixels, 3))
    assert buffer[field(content, 0)] == 2  # ImageProperties
    assert buffer[field(follow(field(content, 1)), 0)] == 1  # RGB
    unit = first(field(pixels, 4))
    assert buffer[field(unit, 0)] == 1  # NormalizationOptions
    options = follow(field(unit, 1))
    floats = [struct.unpack_from("<f", buffer, follow(field(options, n)) + 4)[0] for n in (0, 1)]
    assert floats == [0.0, 1.0]  # mean, standard deviation: raw pixels
    stats = follow(field(pixels, 5))
    assert [struct.unpack_from("<f", buffer, follow(field(stats, n)) + 4)[0] for n in (0, 1)] == [255.0, 0.0]  # max, min
    labels = first(field(scores, 6))
    assert text(field(labels, 0)) == "labels.txt" and buffer[field(labels, 2)] == 2  # TENSOR_AXIS_LABELS


def test_adding_metadata_twice_leaves_one_entry_and_the_same_answers(file):
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter

    twice = add_metadata(file.read_bytes(), ["a", "b", "c"], name="n", description="d")
    model = schema.Model.GetRootAs(twice, 0)
    names = [model.Metadata(i).Name() for i in range(model.MetadataLength())]
    assert names.count(b"TFLITE_METADATA") == 1
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.float32)
    answers = []
    for content in (file.read_bytes(), twice):
        interpreter = Interpreter(model_content=content)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels)
        interpreter.invoke()
        answers.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    np.testing.assert_array_equal(*answers)
