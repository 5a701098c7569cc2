"""What `doctor` says of a machine."""

import json
import sys

import pytest
import tensorflow as tf

import tfcnn
from tfcnn import diagnosis as module
from tfcnn.cli import main
from tfcnn.errors import InputError


def test_a_machine_without_a_gpu_is_not_told_to_install_anything(monkeypatch):
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has a GPU")
    monkeypatch.setattr(module, "_driver", lambda: ("", 0))
    found = tfcnn.doctor(measure=False)
    assert found.versions["tensorflow"] == tf.__version__ and found.versions["python"] == sys.version.split()[0]
    assert found.cpu["cores"] >= 1 and found.memory_gb["total"] >= found.memory_gb["available"] > 0
    assert all(free > 0 for free in found.disk_gb.values()) and len(found.disk_gb) == 2
    assert found.gpus == [] == found.missing and found.unused == "" and found.steps == {} == found.speed
    assert "none; training runs on the processor" in str(found) and "pip install" not in str(found)


@pytest.mark.parametrize(("missing", "hidden", "message"), [
    (["libcudnn.so.9", "libnccl.so.2"], None, r"1 in this machine, but libcudnn\.so\.9, libnccl\.so\.2 cannot be loaded; pip install 'tensorflow\[and-cuda\]'"),
    (["libcuda.so.1", "libcudnn.so.9"], None, r"libcuda\.so\.1 of the driver does not load; install the driver"),
    ([], "-1", "CUDA_VISIBLE_DEVICES hides it; unset it"),
    ([], None, "all libraries load, but TensorFlow uses none"),
])
def test_a_gpu_that_is_not_used_is_explained_with_what_to_do(monkeypatch, missing, hidden, message):
    monkeypatch.setattr(module, "_gpus", lambda: [])
    monkeypatch.setattr(module, "_driver", lambda: ("NVRM version: 550.54", 1))
    monkeypatch.setattr(module, "missing_libraries", lambda: missing)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    found = tfcnn.doctor(measure=False)
    assert found.missing == missing and found.driver == "NVRM version: 550.54"
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(str(found))


def test_memory_is_told_by_the_place_on_the_bus_and_left_out_where_the_driver_cannot_tell():
    said = "00000000:03:00.0, 143771\n00000000:04:00.0, [N/A]\nFailed to initialize NVML: Driver/library version mismatch\n"
    assert module.memories_of(said) == {"0000:03:00.0": pytest.approx(150.8, abs=0.1)}
    assert module.memories_of("") == {}


def test_a_card_without_a_driver_is_seen_on_the_bus(tmp_path):
    for number, (vendor, kind) in enumerate((("0x10de", "0x030200"), ("0x10de", "0x040300"), ("0x8086", "0x030000"), ("0x10de", "0x030000"))):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "vendor").write_text(f"{vendor}\n")
        (tmp_path / str(number) / "class").write_text(f"{kind}\n")
    assert module.cards(tmp_path) == 2 and module.cards(tmp_path / "nothing") == 0


def test_a_measurement_that_speaks_against_what_train_does_is_pointed_out():
    assert module._choice(10.0, 5.0, True, "xla") == "on in train"
    assert module._choice(10.0, 5.0, False, "mixed_precision") == "off in train, try --mixed-precision on your network"
    assert module._choice(10.0, 15.0, True, "xla") == "on in train, try --no-xla on your network"


def test_libraries_that_cannot_be_opened_are_named():
    assert module.missing_libraries(["libc.so.6", "libnothing.so.7", "libm.so.6"]) == ["libnothing.so.7"]


def test_an_unknown_backbone_is_refused_before_anything_is_measured(monkeypatch):
    monkeypatch.setattr(module, "_gpus", lambda: pytest.fail("slow work began"))
    with pytest.raises(InputError, match="expected names of backbones, got 'resnet5'; did you mean 'resnet50'"):
        tfcnn.doctor(backbones=["resnet5"])


@pytest.mark.slow
def test_the_command_gives_what_python_gives(monkeypatch, capsys):
    monkeypatch.setattr(module, "SMALL", (16, 16, 3))
    assert main(["doctor", "--backbones", "mobilenet_v3_small", "--json"]) == 0
    *text, line = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert set(found["steps"]) == {"float32", "16 bits", "XLA"} and all(taken > 0 for taken in found["steps"].values())
    assert found["chosen"] == {"mixed_precision": False, "xla": False}
    assert list(found["speed"]) == ["mobilenet_v3_small"]
    assert found["speed"]["mobilenet_v3_small"]["features"] > found["speed"]["mobilenet_v3_small"]["training"] > 0
    assert any(row.startswith("16 bits") and ("times as slow" in row or "times as fast" in row) for row in text)
