"""Weights from files, from other runs and from Keras's download; a server on this machine stands in for the real host."""

import hashlib
import http.server
import shutil
import subprocess
import sys
import threading
import urllib.request

import keras
import numpy as np
import pytest
from keras.src.applications import mobilenet_v3
from keras.src.backend import config as keras_config

import tfcnn
from tfcnn.errors import InputError, WorkError
from tfcnn.models.backbones import BACKBONES
from tfcnn.models.weights import build_with_weights, check_weights
from tfcnn.record import write_record

LABELS = ["a", "b"]
FILE = "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5"


def build(weights, name="mobilenet_v3_small"):
    return tfcnn.build_classifier(name, labels=LABELS, weights=str(weights), image_size=224).get_layer("backbone")


def refusal(weights, name="mobilenet_v3_small"):
    with pytest.raises(InputError) as refused:
        build(weights, name)
    message = str(refused.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "resnet50"])
def test_averages_of_random_networks_follow_their_batches_and_those_of_a_file_stay_slow(name, tmp_path):
    """After 100 steps at Keras's 0.999 nine tenths of the statistics are still those of the start."""
    quick = build_with_weights(name, 32, "none")
    quick.save_weights(tmp_path / "own.weights.h5")
    slow = build_with_weights(name, 32, str(tmp_path / "own.weights.h5"))
    momenta = [{layer.momentum for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)} for network in (quick, slow)]
    assert momenta == [{0.9}, {0.999 if name == "mobilenet_v3_small" else 0.99}]


def test_a_file_of_the_network_is_loaded(v3_small_weights):
    import h5py

    backbone = build(v3_small_weights)
    with h5py.File(v3_small_weights) as file:
        group = file.get("model_weights", file)
        for name in ("conv", "expanded_conv_3_expand", "conv_1"):
            layer = group[name]
            np.testing.assert_array_equal(backbone.get_layer(name).kernel.numpy(), layer[layer.attrs["weight_names"][0]][()])


def test_a_file_of_another_network_names_the_layer_that_differs(v3_small_weights, shared):
    message = refusal(shared / "weights" / "mobilenet_v2_1.0_224_from_ptq_no_top.h5")
    assert "layer 'conv' wants 3x3x3x16 and the file's 'Conv1' has 3x3x3x32" in message
    message = refusal(v3_small_weights, "mobilenet_v2")
    assert "expected weights of mobilenet_v2" in message and "layer 'Conv1' wants 3x3x3x32 and the file's 'conv' has 3x3x3x16" in message


def test_a_file_with_the_top_says_so(shared):
    message = refusal(shared / "weights" / "mobilenet_v3_small_224_1.0_from_uint8.h5")
    assert "the file has 2 layers more than the network, from 'conv_2' on" in message and "no_top" in message


def test_a_file_that_ends_early_is_refused(tmp_path, v3_small_weights):
    half = tmp_path / "half.h5"
    half.write_bytes(v3_small_weights.read_bytes()[:200_000])
    assert f"'{half}' cannot be read as one; is the download complete?" in refusal(half)


@pytest.mark.parametrize("name", ["page.h5", "page.weights.h5"])
def test_a_file_that_is_no_hdf5_is_refused(tmp_path, name):
    page = tmp_path / name
    page.write_text("<html>sign in first</html>")
    assert str(page) in refusal(page)


def test_an_hdf5_file_without_layers_is_refused(tmp_path):
    import h5py

    for name in ("other.h5", "other.weights.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["x"] = 1
        assert name in refusal(tmp_path / name)


def test_a_missing_file_and_a_wrong_suffix_are_refused_before_anything_is_built(tmp_path):
    assert f"there is no file '{tmp_path / 'no.h5'}'" in refusal(tmp_path / "no.h5")
    (tmp_path / "model.keras").write_bytes(b"")
    assert "(.h5 or .weights.h5), got 'model.keras'" in refusal(tmp_path / "model.keras")


def test_saved_weights_come_back(tmp_path):
    keras.utils.set_random_seed(1)
    backbone = build("none")
    expected = backbone.get_weights()
    for name in ("own.weights.h5", "own.h5"):
        if name == "own.h5":
            keras.src.legacy.saving.legacy_h5_format.save_model_to_hdf5(backbone, str(tmp_path / name))
        else:
            backbone.save_weights(tmp_path / name)
        again = build(tmp_path / name)
        for old, new in zip(expected, again.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)


def test_saved_weights_of_another_network_are_refused(tmp_path):
    build("none", "mobilenet_v2").save_weights(tmp_path / "v2.weights.h5")
    message = refusal(tmp_path / "v2.weights.h5")
    assert "expected weights of mobilenet_v3_small" in message and "do not fit" in message


def make_run(folder, name, size, **arguments):
    """(folder, backbone): what a training leaves, as far as weights go. Its weights are random, those of BatchNorm and Normalization too."""
    keras.utils.set_random_seed(3)
    model = tfcnn.build_classifier(name, labels=LABELS, weights="none", image_size=size, **arguments)
    backbone = model.get_layer("backbone")
    for layer in backbone.layers:
        if layer.weights:
            layer.set_weights([np.random.default_rng(4).uniform(0.5, 1.5, weight.shape) for weight in layer.weights])
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
    shape = list(model.input_shape[1:])
    write_record(folder, {"labels": LABELS, "status": "trained", "geometry": "stretch", "input_shape": shape, "model": {"backbone": name}})
    model.save(folder / "model.keras")
    return folder, backbone


@pytest.mark.parametrize("name", ["mobilenet_v3_small", pytest.param("efficientnet_b0", marks=pytest.mark.slow), "tiny_vit"])
def test_weights_of_another_run_are_those_of_its_backbone(tiny_vit, tmp_path, name):
    (tmp_path / "run").mkdir()
    folder, backbone = make_run(tmp_path / "run", name, 32)
    check_weights(str(folder), name)
    again = build_with_weights(name, 32, str(folder))
    for expected, found in zip(backbone.weights, again.weights, strict=True):
        np.testing.assert_array_equal(found.numpy(), expected.numpy())
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(again(pixels, training=False).numpy(), backbone(pixels, training=False).numpy())
    larger = build_with_weights(name, 64, str(folder))
    for expected, found in zip(backbone.weights, larger.weights, strict=True):
        if "position_embedding" not in found.path:  # `test_vit.py` looks at what becomes of it
            np.testing.assert_array_equal(found.numpy(), expected.numpy())
    assert larger.input_shape == (None, 64, 64, 3)


def test_weights_of_a_run_on_other_channels_and_with_another_head_serve_too(tiny_vit, tmp_path):
    folder, backbone = make_run(tmp_path, tiny_vit, 32, channels=4, hidden=(5,), pooling="max")
    model = tfcnn.build_classifier(tiny_vit, labels=["x", "y", "z"], weights=folder, channels=1)
    for expected, found in zip(backbone.weights, model.get_layer("backbone").weights, strict=True):
        np.testing.assert_array_equal(found.numpy(), expected.numpy())
    assert model.model_config.weights == str(folder) and model.output_shape == (None, 3)


def test_a_run_on_a_network_of_ones_own_is_no_run_of_the_row_that_it_is_called_like(tmp_path):
    """Its preprocessing may be another one."""
    write_record(tmp_path, {"labels": ["a", "b"], "status": "trained", "geometry": "stretch", "input_shape": [32, 32, 3],
                            "model": {"backbone": "mobilenet_v2", "weights": "own"}})
    assert refusal(tmp_path, "mobilenet_v2") == (f"expected a run with the backbone mobilenet_v2 in '{tmp_path}', got one with a network that tfcnn did not "
                                                 "build; give the run of a mobilenet_v2")


def test_a_run_of_another_backbone_an_unfinished_and_a_damaged_one_are_refused(tiny_vit, tmp_path):
    folder, _ = make_run(tmp_path, tiny_vit, 32)
    message = refusal(folder, "mobilenet_v2")
    assert message == (f"expected a run with the backbone mobilenet_v2 in '{folder}', got backbone=tiny_vit; "
                       "build tiny_vit, or give the run of a mobilenet_v2")
    whole = (folder / "model.keras").read_bytes()
    (folder / "model.keras").write_bytes(whole[:1000])
    assert "the file is damaged" in refusal(folder, tiny_vit)
    (folder / "model.keras").unlink()
    assert refusal(folder, tiny_vit) == f"expected a finished run in '{folder}', but it has no model.keras; finish it with --resume"


def test_a_run_of_a_network_that_is_built_otherwise_now_is_refused(tiny_vit, tmp_path, monkeypatch):
    folder, _ = make_run(tmp_path, tiny_vit, 32)
    row = BACKBONES[tiny_vit]
    monkeypatch.setitem(BACKBONES, tiny_vit, row._replace(options={**row.options, "hidden_dim": 4}))
    assert "layer 'patch_embedding' wants 16x16x3x4 and 4 and the run's 'patch_embedding' has 16x16x3x8 and 8; " in refusal(folder, tiny_vit)
    monkeypatch.setitem(BACKBONES, tiny_vit, row._replace(options={**row.options, "num_layers": 3}))
    message = refusal(folder, tiny_vit)
    assert "expected 19 layers with weights" in message and "got 14; the run was made with another version" in message


def test_a_folder_that_is_no_run_says_what_a_folder_may_be(tiny_vit, tmp_path):
    assert refusal(tmp_path) == (f"expected the folder of a run as --weights of mobilenet_v3_small, but '{tmp_path}' has no run.json; "
                                 "give the folder that 'tfcnn train --output' named, or a file")
    assert (f"expected the folder of a run or a preset of KerasHub as --weights of tiny_vit, but '{tmp_path}' has neither run.json nor config.json; "
            in refusal(tmp_path, tiny_vit))


def test_weights_are_checked_without_tensorflow(tmp_path):
    for name in ("run", "preset"):
        (tmp_path / name).mkdir()
    (tmp_path / "file.h5").write_bytes(b"")
    write_record(tmp_path / "run", {"labels": LABELS, "status": "trained", "geometry": "stretch", "input_shape": [32, 32, 3],
                                       "model": {"backbone": "vit_b_16"}})
    (tmp_path / "run" / "model.keras").write_bytes(b"")
    (tmp_path / "preset" / "config.json").write_text('{"class_name": "ViTBackbone", "config": {"patch_size": [16, 16], "num_layers": 12}}')
    code = f"""
import sys
from tfcnn.models.classifier import ModelConfig, check_config
from tfcnn.models.weights import check_weights
for backbone in ("vit_b_16", "mobilenet_v2"):
    for weights in (None, "none", "imagenet", {str(tmp_path / "file.h5")!r}):
        check_weights(weights, backbone)
for weights in ("vit_base_patch16_224_imagenet", {str(tmp_path / "run")!r}, {str(tmp_path / "preset")!r}):
    check_config(ModelConfig("vit_b_16", weights, activation="gelu", channels=4))
print([m for m in ("tensorflow", "keras", "keras_hub", "h5py") if m in sys.modules])"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.fixture
def host(tmp_path, monkeypatch, v3_small_weights):
    """(server, folder it serves, Keras's cache folder); Keras looks there for weights of MobileNetV3-Small."""
    served, home, asked = tmp_path / "served", tmp_path / "home", []
    served.mkdir()
    home.mkdir()
    shutil.copyfile(v3_small_weights, served / FILE)
    handler = type("Handler", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda self, *words: asked.append(words)})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *arguments: handler(*arguments, directory=str(served)))
    server.asked = asked
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("KERAS_HOME", str(home))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(keras_config, "_KERAS_DIR", str(home))
    monkeypatch.setattr(mobilenet_v3, "BASE_WEIGHT_PATH", f"http://127.0.0.1:{server.server_port}/")
    digest = hashlib.md5(v3_small_weights.read_bytes()).hexdigest()
    monkeypatch.setitem(mobilenet_v3.WEIGHTS_HASHES, "small_224_1.0_float", ("", digest))
    yield server, served, home / "models"
    stop(server)


def stop(server):
    server.shutdown()
    server.server_close()


def failure():
    with pytest.raises(WorkError) as failed:
        build("imagenet")
    message = str(failed.value)
    assert "\n" not in message and "mobilenet_v3_small" in message and "--weights FILE" in message
    return message


def test_imagenet_weights_are_downloaded_once(host, v3_small_weights):
    server, _, cache = host
    expected = build(v3_small_weights).get_weights()
    for _ in range(2):
        for old, new in zip(expected, build("imagenet").get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)
    assert len(server.asked) == 1
    assert (cache / FILE).read_bytes() == v3_small_weights.read_bytes()
    stop(server)
    np.testing.assert_array_equal(build("imagenet").get_weights()[0], expected[0])


def test_without_the_host_the_message_names_the_file_and_where_to_put_it(host, v3_small_weights):
    server, _, cache = host
    stop(server)
    message = failure()
    assert f"put '{FILE}' into '{cache}'" in message
    shutil.copyfile(v3_small_weights, cache / FILE)  # what the message says helps
    build("imagenet")


def test_a_file_that_the_host_does_not_have_is_named(host):
    _, served, cache = host
    (served / FILE).unlink()
    assert f"put '{FILE}' into '{cache}'" in failure()


def test_the_answer_of_a_host_without_the_file_is_closed(host, monkeypatch):
    """It was left to the collector of garbage, which at times warned of an open socket in whatever test ran then."""
    _, served, _ = host
    (served / FILE).unlink()
    answers, original = [], urllib.request.HTTPDefaultErrorHandler.http_error_default
    monkeypatch.setattr(urllib.request.HTTPDefaultErrorHandler, "http_error_default",
                        lambda self, request, answer, *rest: answers.append(answer) or original(self, request, answer, *rest))
    failure()
    assert [answer.closed for answer in answers] == [True]


def test_a_file_with_another_hash_is_refused_and_not_loaded(host, monkeypatch):
    _, served, cache = host
    loaded = []
    monkeypatch.setattr(keras.Model, "load_weights", lambda *arguments, **named: loaded.append(arguments))
    (served / FILE).write_bytes(b"not these")
    message = failure()
    assert "another hash" in message and str(cache) in message
    assert loaded == []


def test_a_damaged_file_in_the_cache_is_downloaded_again(host, v3_small_weights):
    _, _, cache = host
    cache.mkdir()
    (cache / FILE).write_bytes(b"half a file")
    build("imagenet")
    assert (cache / FILE).read_bytes() == v3_small_weights.read_bytes()


def test_a_host_that_hangs_up_is_a_failed_download(host):
    server, _, cache = host
    server.RequestHandlerClass = lambda connection, *_: connection.close()
    assert str(cache) in failure()
