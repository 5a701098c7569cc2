"""The metadata inside a .tflite file, read back without the code that wrote it."""

import shutil
import struct
import subprocess
import zipfile

import numpy as np
import pytest
from conftest import material_of, missing

import tfcnn
from tfcnn.export.contract import Contract
from tfcnn.export.metadata import add_metadata
from tfcnn.export.read_tflite import read_tflite
from tfcnn.export.tflite import write_float32
from tfcnn.models.cnn import build_features


@pytest.fixture(scope="module")
def file(trained, tmp_path_factory):
    run, _, model = trained
    path = tmp_path_factory.mktemp("metadata") / "model.tflite"
    write_float32(material_of(model, run.labels, path.parent / "kept"), path)
    return path


def test_labels_are_a_stored_member_of_the_file(file):
    with zipfile.ZipFile(file) as archive:
        member = archive.getinfo("labels.txt")
        assert member.compress_type == zipfile.ZIP_STORED
        assert archive.read("labels.txt").decode() == "blue\ngreen\nred\n"


def test_a_file_whose_archive_calls_itself_encrypted_is_one_line(file, tmp_path):
    content = bytearray(file.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "m.tflite").write_bytes(content)
    with pytest.raises(tfcnn.InputError, match="damaged"):
        read_tflite(tmp_path / "m.tflite")


@pytest.mark.parametrize("mark", [b"blue\ngreen", b'"geometry"', b"TFLITE_METADATA", b"PK\x01\x02"])
def test_damaged_metadata_are_one_line_or_found_by_the_check(file, tmp_path, mark):
    """Some bytes in the middle of labels, contract, name of the metadata or directory of the archive are turned around."""
    content = bytearray(file.read_bytes())
    place = content.rindex(mark) + len(mark) // 2
    content[place] ^= 0xFF
    (tmp_path / "m.tflite").write_bytes(content)
    try:
        found = read_tflite(tmp_path / "m.tflite")
    except tfcnn.InputError as error:
        assert "damaged" in str(error) and "\n" not in str(error)
    else:
        assert found != read_tflite(file)


def test_unzip_lists_the_labels(file):
    if shutil.which("unzip") is None:
        missing("unzip is not tried: install the Debian package unzip")
    done = subprocess.run(["unzip", "-l", str(file)], capture_output=True, text=True)
    assert done.returncode <= 1, done.stderr  # 1: it says that a model stands before the archive
    assert [line.split()[-1] for line in done.stdout.splitlines() if "-" in line[:20] and ":" in line] == ["labels.txt", "contract.json"]


class Walk:
    """Walks a flatbuffer by hand: offsets relative to their place, field numbers of metadata_schema.fbs."""

    def __init__(self, buffer: bytes):
        self.buffer = buffer

    def uint(self, at):
        return struct.unpack_from("<I", self.buffer, at)[0]

    def field(self, table, number):
        vtable = table - struct.unpack_from("<i", self.buffer, table)[0]
        size = struct.unpack_from("<H", self.buffer, vtable)[0]
        slot = 4 + 2 * number
        offset = struct.unpack_from("<H", self.buffer, vtable + slot)[0] if slot < size else 0
        return table + offset if offset else None

    def follow(self, at):
        return at + self.uint(at)

    def text(self, at):
        start = self.follow(at)
        return self.buffer[start + 4:start + 4 + self.uint(start)].decode()

    def first(self, at):
        return self.follow(self.follow(at) + 4)


def metadata_of(path) -> bytes:
    """The one buffer of metadata in a file."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    entries = [model.Metadata(i) for i in range(model.MetadataLength())]
    (entry,) = [e for e in entries if e.Name() == b"TFLITE_METADATA"]
    return bytes(model.Buffers(entry.Buffer()).DataAsNumpy())


@pytest.mark.parametrize(("channels", "space", "words"), [(1, 2, b"A photo as grey (0.299 R + 0.587 G + 0.114 B) pixels from 0 to 255"),
                                                          (2, 0, b"A photo as 2-channel pixels"),
                                                          (3, 1, b"A photo as RGB pixels from 0 to 255"),
                                                          (4, 0, b"A photo as four-channel pixels")])
def test_the_colour_space_is_said_where_there_is_one(tmp_path, channels, space, words):
    """UNKNOWN 0, RGB 1, GRAYSCALE 2 in metadata_schema.fbs; the field of a table that has its default is left out."""
    labels = ["cat", "dog"]
    model = tfcnn.build_classifier(build_features((8, 8, channels), filters=(2,)), labels=labels)
    write_float32(material_of(model, labels, tmp_path / "kept"), tmp_path / "m.tflite")
    buffer = metadata_of(tmp_path / "m.tflite")
    assert words in buffer and [value for value in (b"RGB", b"grey") if value in buffer] == {1: [b"grey"], 3: [b"RGB"]}.get(channels, [])
    walk = Walk(buffer)
    pixels = walk.first(walk.field(walk.first(walk.field(walk.follow(0), 3)), 2))
    colours = walk.field(walk.follow(walk.field(walk.follow(walk.field(pixels, 3)), 1)), 0)
    assert (buffer[colours] if colours else 0) == space
    with zipfile.ZipFile(tmp_path / "m.tflite") as archive:
        assert archive.read("labels.txt").decode() == "cat\ndog\n"


def test_the_metadata_buffer_reads_as_the_schema_says(file):
    buffer = metadata_of(file)
    assert buffer[4:8] == b"M001"
    walk = Walk(buffer)
    follow, field, first, text = walk.follow, walk.field, walk.first, walk.text

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

    twice = add_metadata(file.read_bytes(), Contract("n", ("a", "b", "c"), (32, 32, 3), "stretch"))
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
