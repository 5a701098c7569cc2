"""Backbones of photos on slices and frames: inflation is exact where nothing changes, folds are undone, and heat has the shape of the example."""

import keras
import numpy as np
import pytest

import tfcnn
from tfcnn.cli import main
from tfcnn.evaluation import inside
from tfcnn.evaluation.stretches import telling_voxels
from tfcnn.export.read_tflite import read_tflite
from tfcnn.models.build import build_for_volumes
from tfcnn.models.forward import batch_of
from tfcnn.models.frames import Fold, MeanOfParts, Neighbours, inflate
from tfcnn.models.weights import build_with_weights

FACTS = {"intensity": None, "mean": [100.0], "variance": [400.0]}
FILES = {"mobilenet_v3_small": "mobilenet_v3_small_224_1.0_from_uint8_no_top.h5", "mobilenet_v2": "mobilenet_v2_1.0_224_from_ptq_no_top.h5"}
slow = pytest.mark.slow


@pytest.mark.parametrize("name", ["mobilenet_v3_small", pytest.param("mobilenet_v2", marks=slow)])
def test_an_inflated_backbone_with_weights_gives_for_equal_frames_what_the_backbone_gives_for_one(name, shared):
    """Carreira & Zisserman 2017, section 2.4."""
    network = build_with_weights(name, 96, str(shared / "weights" / FILES[name]))
    inflated, left = inflate(network, 16)
    photos = np.random.default_rng(0).uniform(0, 255, (2, 96, 96, 3)).astype(np.float32)
    expected, found = network(photos).numpy(), inflated(np.repeat(photos, 16, axis=0)).numpy()
    assert left == 4 and found.shape == (8, *expected.shape[1:]) and np.abs(expected).max() > 1
    assert np.abs(found.reshape(2, 4, *expected.shape[1:]) - expected[:, None]).max() < 1e-4
    changing = photos[[0] * 8 + [1] * 8]
    assert np.abs(inflated(changing).numpy()[1] - expected[0]).max() > 0.1  # frames do see those beside them


@pytest.mark.parametrize("name", [pytest.param(name, marks=slow) for name in (
    "resnet50", "resnet50_v2", "efficientnet_b0", "efficientnet_v2_b0", "vgg16", "convnext_tiny", "densenet121", "mobilenet", "mobilenet_v2", "nasnet_mobile")])
def test_inflation_knows_the_convolutions_of_each_family(name):
    network = build_with_weights(name, 64, "none")
    inflated, left = inflate(network, 6)
    photos = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)
    expected, found = network(photos).numpy(), inflated(np.repeat(photos, 6, axis=0)).numpy().reshape(left, -1)
    np.testing.assert_allclose(found, np.repeat(expected.reshape(1, -1), left, axis=0), rtol=1e-3, atol=1e-4 * max(1, np.abs(expected).max()))


def test_a_vit_is_not_inflated():
    image = keras.Input((8, 8, 3))
    with pytest.raises(tfcnn.InputError, match=r"expected a backbone with convolutions to inflate, got 'tokens'; take it slice by slice"):
        inflate(keras.Model(image, keras.layers.Flatten()(image), name="tokens"), 4)


def test_neighbours_stand_by_channel_in_the_order_of_time_and_ends_are_repeated():
    x = np.arange(8, dtype=np.float32).reshape(4, 1, 1, 2)  # 4 frames of 2 channels
    assert Neighbours(4)(x).numpy().reshape(4, 6).tolist() == [[0, 0, 2, 1, 1, 3], [0, 2, 4, 1, 3, 5], [2, 4, 6, 3, 5, 7], [4, 6, 6, 5, 7, 7]]
    assert Neighbours(4, 1, 2)(x).numpy().reshape(2, 2).tolist() == [[0, 1], [4, 5]]


def test_a_fold_is_undone_by_its_mean_and_one_part_is_drawn_in_training():
    x = np.arange(2 * 6 * 3, dtype=np.float32).reshape(2, 6, 3)
    parts = Fold(3)(x).numpy()
    np.testing.assert_array_equal(parts, x.reshape(6, 2, 3))
    np.testing.assert_array_equal(MeanOfParts(3)(parts[:, 0]).numpy(), x[:, ::2].mean(axis=1))
    fold, drawn = Fold(3, one_in_training=True), set()
    for _ in range(30):
        chosen = fold(x, training=True).numpy()
        assert chosen.shape == (2, 2, 3)
        for row in range(2):
            drawn.add((row, int((chosen[row, 0, 0] - 18 * row) // 6)))
    assert drawn == {(row, part) for row in range(2) for part in range(3)}
    fold.strength = 0.0
    np.testing.assert_array_equal(fold(x, training=True).numpy(), x[:, 2:4])
    assert MeanOfParts(3, True)(parts[:2, 0], training=True).shape == (2, 3)


@pytest.mark.parametrize("frames", [None, "inflate"])
def test_a_backbone_takes_volumes_and_its_heat_has_their_shape(frames):
    model = build_for_volumes(tfcnn.ModelConfig("mobilenet_v3_small", "none", image_size=32, frames=frames), ["a", "b"], (8, 12, 12, 1), FACTS)
    assert model.input_shape == (None, 8, 12, 12, 1) and model.get_layer("pooling").output.shape[1:] == (576,) and batch_of(model) == 32
    volumes = np.random.default_rng(0).normal(100, 20, (3, 8, 12, 12, 1)).astype(np.float32)
    scores = model(volumes).numpy()
    np.testing.assert_allclose(scores[1:], model(volumes[1:]).numpy(), atol=1e-5)  # an example does not see its neighbours in the batch
    assert telling_voxels(model, volumes, np.array([0, 1, 0])).shape == (3, 8, 12, 12)
    if frames is None:
        np.testing.assert_allclose(scores, model(volumes[:, ::-1]).numpy(), atol=1e-5)  # the order of slices is not seen


def test_fewer_volumes_of_many_slices_are_taken_at_once():
    model = build_for_volumes(tfcnn.ModelConfig("mobilenet_v3_small", "none", image_size=32), ["a", "b"], (64, 8, 8, 1), FACTS)
    assert inside.batch_of(model) == 12  # of 64 slices of 32 x 32 pixels each: as many pixels as 16 photos of 224 x 224 have
    assert batch_of(model) == 8


def test_volumes_of_two_channels_are_refused_by_a_backbone_of_photos():
    with pytest.raises(tfcnn.InputError, match="expected 1 or 3 channels for mobilenet_v3_small, which knows grey and colour, got 2"):
        build_for_volumes(tfcnn.ModelConfig("mobilenet_v3_small", "none"), ["a", "b"], (8, 8, 8, 2), {**FACTS, "mean": [0, 0], "variance": [1, 1]})


def test_frames_are_refused_where_there_are_none(tmp_path, capsys):
    np.savez(tmp_path / "made.npz", images=np.zeros((20, 8, 8, 8), np.uint8), labels=["a", "b"] * 10)
    command = ["train", str(tmp_path / "made.npz"), "--kind", "volume", "--output", str(tmp_path / "run")]
    assert main([*command, "--frames", "inflate"]) == 2
    assert "expected no frames for volumes with cnn_3d, got --frames inflate; they say how a network of two dimensions" in capsys.readouterr().err
    assert main([*command, "--backbone", "mobilenet_v3_small", "--frames", "each"]) == 2
    assert "expected frames pool or inflate, got --frames 'each'" in capsys.readouterr().err
    assert main([*command, "--export", "tflite_int8"]) == 2
    assert "got 'tflite_int8', but TFLite has no 3-D convolutions in 8 bits; a network of two dimensions, such as mobilenet" in capsys.readouterr().err
    assert main([*command, "--export", "tflite_int8_mixed"]) == 2 and "which is made for images alone" in capsys.readouterr().err
    assert main([*command, "--export", "auto"]) == 2 and "got 'auto', which is made for images alone" in capsys.readouterr().err


@slow
@pytest.mark.parametrize("frames", ["pool", "inflate"])
def test_a_run_of_slices_is_exported_and_predicts(tmp_path, frames):
    random = np.random.default_rng(0)
    np.savez(tmp_path / "made.npz", images=random.integers(0, 255, (30, 8, 16, 16), np.uint8), labels=["a", "b"] * 15)
    command = ["train", str(tmp_path / "made.npz"), "--kind", "volume", "--backbone", "mobilenet_v3_small", "--weights", "none", "--image-size", "32",
               "--frames", frames, "--epochs", "1", "--trainable", "1", "--export", "saved_model", "tflite_float32", "tflite_int8",
               "--output", str(tmp_path / "run")]
    assert main(command) in (0, 1)  # whether 8 bits hold on volumes of noise is left to the check
    run = tfcnn.load_run(tmp_path / "run")
    assert run.record["model"]["frames"] == frames
    assert [row["agreement"] for row in run.record["exports"][:2]] == [1.0, 1.0] and run.record["exports"][2]["max_score_difference"] < 0.5
    file = read_tflite(run.path / run.record["exports"][2]["path"])
    assert file.input.dtype == file.output.dtype == "float32" and "CONV_3D" not in file.operators
