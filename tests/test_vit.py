"""ViT-B/16: its weights from presets of KerasHub, which the tests save themselves, and the positions of other image sizes."""

import json

import keras
import keras_hub
import numpy as np
import pytest

import tfcnn
from tfcnn.errors import InputError, WorkError
from tfcnn.models import vit
from tfcnn.models.backbones import BACKBONES
from tfcnn.models.vit import build_vit, is_preset, load_preset, resize_positions
from tfcnn.models.weights import build_with_weights


@pytest.fixture
def options(tiny_vit):
    return BACKBONES[tiny_vit].options


def save_preset(folder, options, size=32):
    """(folder, KerasHub's own network): random weights, those that begin as 0 or 1 too."""
    network = keras_hub.models.ViTBackbone(image_shape=(size, size, 3), **options)
    random = np.random.default_rng(0)
    network.set_weights([random.normal(size=weight.shape) * 0.5 for weight in network.get_weights()])
    network.save_to_preset(str(folder))
    return folder, network


def pixels_of(size, count=3):
    return np.random.default_rng(1).uniform(-1, 1, (count, size, size, 3)).astype(np.float32)


def refusal(name, weights, size=32):
    with pytest.raises(InputError) as refused:
        tfcnn.build_classifier(name, labels=["a", "b"], weights=str(weights), image_size=size)
    message = str(refused.value)
    assert message.startswith("expected ") and "\n" not in message
    return message


def test_a_preset_gives_the_tokens_of_the_network_that_saved_it(tiny_vit, options, tmp_path):
    folder, network = save_preset(tmp_path / "preset", options)
    model = tfcnn.build_classifier(tiny_vit, labels=["a", "b"], weights=folder)
    found, expected = model.get_layer("backbone")(pixels_of(32)).numpy(), network(pixels_of(32)).numpy()
    assert found.shape == (3, 5, 8) and expected.std() > 0.3
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert model.get_layer("backbone").count_params() == network.count_params()
    assert "keras_hub" not in model.to_json()


def test_another_image_size_interpolates_the_positions_and_keeps_the_rest(tiny_vit, options, tmp_path):
    folder, network = save_preset(tmp_path / "preset", options)
    same, larger = (build_with_weights(tiny_vit, size, str(folder)) for size in (32, 48))
    for old, new in zip(same.weights, larger.weights, strict=True):
        if "position_embedding" not in old.path:
            np.testing.assert_array_equal(new.numpy(), old.numpy())
    table = network.get_layer("vit_patching_and_embedding").position_embedding.get_weights()[0]
    first, a, b, c, d = table  # the class token, then the four patches
    grid = [a, (a + b) / 2, b, (a + c) / 2, (a + b + c + d) / 4, (b + d) / 2, c, (c + d) / 2, d]
    np.testing.assert_allclose(larger.get_layer("position_embedding").get_weights()[0], [first, *grid], atol=1e-6)
    assert larger(pixels_of(48)).shape == (3, 10, 8)


def test_positions_of_the_same_size_stay_and_a_smooth_table_stays_smooth():
    table = np.random.default_rng(0).normal(size=(197, 4)).astype(np.float32)
    np.testing.assert_array_equal(resize_positions(table, 197), table)
    rows, columns = np.meshgrid(np.arange(14), np.arange(14), indexing="ij")
    table = np.concatenate([[[7, 7]], np.stack([rows.ravel(), columns.ravel()], axis=1)])
    resized = resize_positions(table, 1 + 28 * 28)
    assert resized.dtype == np.float32 and resized[0].tolist() == [7, 7]
    grid = resized[1:].reshape(28, 28, 2)  # half pixels: place p of 28 is (p + 0.5) / 2 - 0.5 of 14
    np.testing.assert_allclose(grid[1:-1, 5, 0], (np.arange(1, 27) + 0.5) / 2 - 0.5, atol=1e-5)
    np.testing.assert_allclose(grid[5, 1:-1, 1], (np.arange(1, 27) + 0.5) / 2 - 0.5, atol=1e-5)


def test_weights_of_a_run_at_another_image_size_have_their_positions_interpolated(tiny_vit, tmp_path):
    from tfcnn.record import write_record

    model = tfcnn.build_classifier(tiny_vit, labels=["a", "b"], weights="none")
    write_record(tmp_path, {"labels": ["a", "b"], "status": "trained", "geometry": "stretch", "input_shape": [32, 32, 3], "model": {"backbone": tiny_vit}})
    model.save(tmp_path / "model.keras")
    table = model.get_layer("backbone").get_layer("position_embedding").get_weights()[0]
    again = build_with_weights(tiny_vit, 64, str(tmp_path)).get_layer("position_embedding").get_weights()[0]
    np.testing.assert_array_equal(again, resize_positions(table, 17))
    assert not np.array_equal(again[1:5], table[1:])


def test_images_that_are_no_photos_of_the_patch_size_are_refused(tiny_vit):
    assert "a multiple of 16 pixels, the side of a patch of tiny_vit, got image_size=40; give 32 or 48" in refusal(tiny_vit, "none", 40)


@pytest.mark.parametrize(("change", "words"), [
    ({"num_layers": 3}, "num_layers=2 in '{folder}', got num_layers=3"), ({"hidden_dim": 16}, "hidden_dim=8 in '{folder}', got hidden_dim=16"),
    ({"patch_size": 8}, "patch_size=16 in '{folder}', got patch_size=8"), ({"use_class_token": False}, "use_class_token=True in '{folder}', got"),
    ({"layer_norm_epsilon": 1e-5}, "layer_norm_epsilon=1e-06 in '{folder}', got")])
def test_a_preset_of_another_architecture_names_what_differs(tiny_vit, options, tmp_path, change, words):
    folder, _ = save_preset(tmp_path / "preset", {**options, **change})
    assert words.format(folder=folder) in refusal(tiny_vit, folder)


def test_a_preset_that_is_no_vit_says_what_it_is(tiny_vit, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"class_name": "ResNetBackbone", "config": {}}))
    assert f"expected a preset of KerasHub's ViTBackbone in '{tmp_path}', got class_name='ResNetBackbone'" in refusal(tiny_vit, tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"class_name": "ViTBackbone"}', b'{"class_name": "ViTBackbone", "config": 3}', b"\xff\xfe"])
def test_a_damaged_config_is_one_line(tiny_vit, tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    assert f"expected a preset of KerasHub in '{tmp_path}', but its config.json is damaged (" in refusal(tiny_vit, tmp_path)


def test_damaged_weights_of_a_preset_are_one_line(tiny_vit, options, tmp_path):
    folder, _ = save_preset(tmp_path / "preset", options)
    file = folder / "model.weights.h5"
    file.write_bytes(file.read_bytes()[:500])
    assert f"in '{folder}', but it cannot be read (" in refusal(tiny_vit, folder)
    file.unlink()
    assert f"in '{folder}', but it cannot be read (" in refusal(tiny_vit, folder)


def test_without_kerashub_the_message_has_the_command_that_installs_it(tiny_vit, monkeypatch, tmp_path):
    monkeypatch.setattr(vit.importlib.util, "find_spec", lambda name: None)
    (tmp_path / "config.json").write_text("{}")
    for weights in ("imagenet", "vit_base_patch16_224_imagenet", tmp_path):
        refused = refusal(tiny_vit, weights)
        assert "but it is not installed; install it with pip install -c constraints.txt '.[vit]' in the folder of tfcnn, or give --weights none" in refused
    tfcnn.build_classifier(tiny_vit, labels=["a", "b"], weights="none")  # needs none


def test_a_name_that_kerashub_does_not_know_is_one_line(tiny_vit):
    assert "expected the name of a ViT preset of KerasHub, got weights='vit_no_such' (ValueError: " in refusal(tiny_vit, "vit_no_such")


def from_preset(monkeypatch, answer):
    """Replaces KerasHub's download; gives the names that it is asked for."""
    asked = []

    def called(name, load_weights=True):
        asked.append((name, load_weights))
        return answer(load_weights)

    monkeypatch.setattr(keras_hub.models.ViTBackbone, "from_preset", called)
    return asked


def test_imagenet_is_the_preset_of_kerashub_whose_dimensions_come_before_its_weights(tiny_vit, options, monkeypatch):
    network = keras_hub.models.ViTBackbone(image_shape=(32, 32, 3), **options)
    asked = from_preset(monkeypatch, lambda load_weights: network)
    backbone = build_with_weights(tiny_vit, 32, "imagenet")
    assert asked == [("vit_base_patch16_224_imagenet", False), ("vit_base_patch16_224_imagenet", True)]
    np.testing.assert_allclose(backbone(pixels_of(32)).numpy(), network(pixels_of(32)).numpy(), atol=1e-5)

    other = keras_hub.models.ViTBackbone(image_shape=(32, 32, 3), **{**options, "mlp_dim": 20})
    asked = from_preset(monkeypatch, lambda load_weights: other)
    assert "mlp_dim=12 in 'vit_large', got mlp_dim=20" in refusal(tiny_vit, "vit_large")
    assert asked == [("vit_large", False)]  # the weights of the wrong one are not downloaded


def test_a_download_that_fails_says_how_to_bring_the_weights_by_hand(tiny_vit, monkeypatch):
    def fail(load_weights):
        raise ConnectionError("no route to the host\nand more")

    from_preset(monkeypatch, fail)
    with pytest.raises(WorkError) as failed:
        build_with_weights(tiny_vit, 32, "imagenet")
    assert str(failed.value) == ("expected the weights 'vit_base_patch16_224_imagenet' of KerasHub, but they cannot be downloaded (ConnectionError: no route "
                                 "to the host); load the preset where there is a connection, save it with save_to_preset, and give --weights FOLDER")


def test_what_counts_as_a_preset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "preset").mkdir()
    (tmp_path / "preset" / "config.json").write_text("{}")
    (tmp_path / "vit_weights.h5").write_bytes(b"")
    assert [is_preset(name) for name in ("preset", "vit_base", "kaggle://a/b", "hf://a/b")] == [True] * 4
    assert [is_preset(name) for name in ("run", "vit_weights.h5", "other.h5", "none")] == [False] * 4


def test_a_saved_file_of_weights_comes_back(tiny_vit, options, tmp_path):
    network = build_vit(32, **options)
    network.save_weights(tmp_path / "own.weights.h5")
    again = build_with_weights(tiny_vit, 32, str(tmp_path / "own.weights.h5"))
    np.testing.assert_array_equal(again(pixels_of(32)).numpy(), network(pixels_of(32)).numpy())


def test_the_network_is_saved_and_opened_by_plain_keras(options, tmp_path):
    network = build_vit(48, **options)
    network.save(tmp_path / "vit.keras")
    again = keras.models.load_model(tmp_path / "vit.keras")
    np.testing.assert_array_equal(again(pixels_of(48)).numpy(), network(pixels_of(48)).numpy())


def test_weights_are_loaded_into_the_network_that_is_given(options, tmp_path):
    folder, own = save_preset(tmp_path / "preset", options)
    network = build_vit(32, **options)
    load_preset(network, str(folder), options)
    np.testing.assert_allclose(network(pixels_of(32)).numpy(), own(pixels_of(32)).numpy(), atol=1e-5)
