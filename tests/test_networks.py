"""Networks of any rank: that padding and missing values change nothing that they should not, in Keras and in TFLite."""

import keras
import numpy as np
import pytest

import tfcnn
from tfcnn.models.networks import NETWORKS, build_network


def lively(name, input_shape, **statistics):
    """A network whose BatchNorm does something: averages of random weights are 0 and 1."""
    keras.utils.set_random_seed(0)
    network, rng = build_network(name, input_shape, **statistics), np.random.default_rng(0)
    for weight in network.weights:
        if weight.path.rpartition("/")[2] in ("gamma", "beta", "moving_mean", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    return network


def series(steps=60, channels=3):
    """Four series: a whole one, one that ends early, one with a gap, one that lacks a single value."""
    values = np.random.default_rng(1).standard_normal((4, steps, channels)).astype(np.float32)
    values[1, 40:], values[2, 10:12], values[3, 5, channels // 2] = np.nan, np.nan, np.nan
    return values


def padded(values, steps):
    return np.pad(values, ((0, 0), (0, steps), (0, 0)), constant_values=np.nan)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("training", [False, True])
def test_what_a_network_gives_does_not_depend_on_the_padding(name, training):
    network = lively(name, (None, 3), mean=[1, 2, 3], variance=[1, 2, 4])
    expected = network(series(), training=training).numpy()
    assert np.isfinite(expected).all() and np.ptp(expected, axis=0).max() > 0.1
    for steps in (1, 37, 400):
        network.set_weights(lively(name, (None, 3), mean=[1, 2, 3], variance=[1, 2, 4]).get_weights())  # averages that training moved
        np.testing.assert_allclose(network(padded(series(), steps), training=training), expected, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_series_alone_gives_what_it_gives_beside_longer_ones(name):
    network = lively(name, (None, 3))
    np.testing.assert_allclose(network(series()[1:2, :40]), network(series())[1:2], atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_missing_value_is_the_mean_of_its_channel(name):
    network, there = lively(name, (60, 3), mean=[1, 2, 3]), series()
    there[3, 5, 1] = 2.0
    np.testing.assert_allclose(network(series())[3], network(there)[3], atol=1e-6)


@pytest.mark.parametrize(("name", "channels"), [("resnet", 3), *(pytest.param(name, channels, marks=pytest.mark.slow) for name, channels in (
    ("resnet", 1), ("fcn", 1), ("fcn", 3), ("inception_time", 1), ("inception_time", 3)))])
def test_tflite_gives_the_same_with_builtin_operators_and_any_padding(name, channels, tmp_path):
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    network = lively(name, (None, channels))
    archive = keras.export.ExportArchive()
    archive.add_endpoint("serve", lambda x: network(x, training=False), input_signature=[keras.InputSpec(shape=(1, None, channels), dtype="float32")])
    archive.write_out(tmp_path / "saved", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved"))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    interpreter = Interpreter(model_content=converter.convert())
    place, out = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    for one in series(channels=channels):
        for steps in (0, 50):
            values = padded(one[None], steps)
            interpreter.resize_tensor_input(place, values.shape)
            interpreter.allocate_tensors()
            interpreter.set_tensor(place, values)
            interpreter.invoke()
            np.testing.assert_allclose(interpreter.get_tensor(out), network(one[None]), atol=1e-5 * max(1, np.abs(network(one[None])).max()))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("input_shape", [(20, 2), (12, 12, 3), pytest.param((6, 6, 6, 1), marks=pytest.mark.slow)])
def test_one_function_builds_networks_of_every_rank(name, input_shape):
    network = build_network(name, input_shape)
    rank = len(input_shape) - 1
    kinds = {type(layer).__name__ for layer in network._flatten_layers() if "Conv" in type(layer).__name__}
    assert kinds == {f"Conv{rank}D"} and network(np.zeros((2, *input_shape), np.float32)).shape == (2, 128)


def size(*convolutions, norms):
    """Weights of convolutions (kernel, channels in, channels out) without bias, and two for each channel of a BatchNorm."""
    return sum(kernel * before * after for kernel, before, after in convolutions) + 2 * sum(norms)


FCN = size((8, 1, 128), (5, 128, 256), (3, 256, 128), norms=(128, 256, 128))
RESNET = size((8, 1, 64), (5, 64, 64), (3, 64, 64), (1, 1, 64), (8, 64, 128), (5, 128, 128), (3, 128, 128), (1, 64, 128),
              (8, 128, 128), (5, 128, 128), (3, 128, 128), norms=[64] * 4 + [128] * 8)
MODULE = [(1, 128, 32), (40, 32, 32), (20, 32, 32), (10, 32, 32), (1, 128, 32)]
INCEPTION = size((40, 1, 32), (20, 1, 32), (10, 1, 32), (1, 1, 32), *MODULE * 5, (1, 1, 128), (1, 128, 128), norms=[128] * 8)


@pytest.mark.parametrize(("name", "parameters"), [("fcn", FCN), ("resnet", RESNET), ("inception_time", INCEPTION)])
def test_sizes_are_those_that_the_papers_draw(name, parameters):
    """Wang et al. 2017, figure 1 b and c; Ismail Fawaz et al. 2020, figures 1 and 2; for one channel."""
    assert sum(int(np.prod(weight.shape)) for weight in build_network(name, (150, 1)).trainable_weights) == parameters


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_a_backbone_whose_blocks_are_stages(name, tmp_path):
    model = tfcnn.build_classifier(build_network(name, (None, 2)), labels=["a", "b"])
    stages = [row.stage for row in tfcnn.set_trainable(model, True, batch_norm="train").stages]
    assert stages[0] == "block1" and stages[-1] == "head" and all(stage.startswith(("block", "shortcut", "head")) for stage in stages)
    assert model.input.name == "signal" and tuple(model.input_shape) == (None, None, 2)
    model.save(tmp_path / "model.keras")
    values = series(channels=2)
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(values), model(values))


@pytest.mark.parametrize(("given", "message"), [
    ({"name": "resnett"}, "did you mean 'resnet'"), ({"input_shape": (3,)}, r"expected input_shape as \(steps, channels\)"),
    ({"input_shape": (None, None)}, "got input_shape"), ({"mean": [1, 2]}, "a finite mean for each of the 3 channels"),
    ({"variance": [1, 0, 1]}, "a finite variance above 0 for each of the 3 channels")])
def test_what_a_network_cannot_be_built_of_is_one_line(given, message):
    with pytest.raises(tfcnn.InputError, match=message):
        build_network(**{"name": "resnet", "input_shape": (None, 3), **given})
