"""The contract that every row of BACKBONES keeps."""

import importlib

import keras
import numpy as np
import pytest

import tfcnn
from tfcnn.models.backbones import BACKBONES, preprocess_function
from tfcnn.models.freeze import stages_of

SIZE = 64
LABELS = ["a", "b", "c"]


def some_photos(count):
    return np.random.default_rng(0).uniform(0, 255, (count, SIZE, SIZE, 3)).astype(np.float32)


def build(name):
    """A classifier with random weights whose BatchNorm statistics fit them, else the signal fades in a deep network."""
    keras.utils.set_random_seed(0)
    model = tfcnn.build_classifier(name, labels=LABELS, weights="none", image_size=SIZE)
    norms = [layer for layer in model.get_layer("backbone").layers if isinstance(layer, keras.layers.BatchNormalization)]
    momentum = norms[0].momentum
    for norm in norms:
        norm.trainable, norm.momentum = True, 0.0
    model(some_photos(8), training=True)
    for norm in norms:
        norm.trainable, norm.momentum = False, momentum
    return model


def moved_after_a_step(model):
    """Paths of the weights that one training step changes, without those of the random generators."""
    weights = [weight for weight in model.weights if "seed_generator" not in weight.path]
    before = [weight.numpy() for weight in weights]
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", run_eagerly=True)  # no graph to trace for one step
    model.fit(some_photos(4), np.array([0, 1, 2, 0]), batch_size=4, verbose=0)
    return {weight.path for weight, old in zip(weights, before, strict=True) if not np.array_equal(weight.numpy(), old)}


def pooled(model, pixels):
    return keras.Model(model.input, model.get_layer("pooling").output)(pixels, training=False).numpy()


@pytest.mark.parametrize("name", BACKBONES)
def test_a_row_of_backbones_keeps_the_contract(name, tmp_path):
    row = BACKBONES[name]
    model, again = build(name), build(name)
    backbone = model.get_layer("backbone")

    # Stages: each begins at a layer of its own, in the order of the network, under the same names in a second build.
    position = {layer.name: index for index, layer in enumerate(backbone.layers)}
    assert stages_of(model) == stages_of(again) == [(stage, position[layer]) for stage, layer in row.stages]
    firsts = [index for _, index in stages_of(model)]
    assert firsts == sorted(set(firsts)) and len(dict(row.stages)) == len(row.stages) >= 4
    assert all(backbone.layers[index].weights for index in firsts)
    assert not any(layer.weights for layer in backbone.layers[:firsts[0]])  # the first stage leaves nothing out

    # Raw pixels in: the graph prepares them like the network's own `preprocess_input`, found here without the table.
    function = getattr(keras.applications, row.build)
    own = importlib.import_module(function.__module__).preprocess_input
    plain = function(weights=None, include_top=False, pooling="avg", input_shape=(SIZE, SIZE, 3))
    plain.set_weights(backbone.get_weights())
    pixels = some_photos(4)
    expected = plain(own(pixels.copy()), training=False).numpy()
    assert np.abs(pooled(model, pixels) - expected).max() < 1e-4 * np.abs(expected).max()
    assert np.abs(plain(pixels / 255, training=False).numpy() - expected).max() > 1e-2 * np.abs(expected).max()  # a wrong scale shows

    # Plain Keras opens the file.
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert "tfcnn" not in loaded.to_json()
    np.testing.assert_allclose(loaded(pixels).numpy(), model(pixels).numpy(), atol=1e-6)

    # A number opens the last stages, a name opens from that stage on, each stage more than the one before, BatchNorm never.
    norms = [layer for layer in backbone.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(norms) > 10
    opened = [0]
    for count, (stage, _) in enumerate(reversed(row.stages), start=1):
        tfcnn.set_trainable(model, count)
        by_number = [weight.path for weight in backbone.trainable_weights]
        tfcnn.set_trainable(again, stage)
        assert by_number == [weight.path for weight in again.get_layer("backbone").trainable_weights]
        assert len(by_number) > opened[-1], stage
        assert not any(layer.trainable for layer in norms)
        opened.append(len(by_number))
    tfcnn.set_trainable(model, True)
    assert len(backbone.trainable_weights) == opened[-1] == sum(len(layer.trainable_weights) for layer in backbone.layers)
    assert opened[-1] == sum(not isinstance(layer, keras.layers.BatchNormalization) and len(layer.trainable_variables) for layer in backbone.layers)


@pytest.mark.parametrize("name", BACKBONES)
def test_training_moves_the_open_stages_and_nothing_else(name):
    model = build(name)
    assert moved_after_a_step(model) == {"logits/kernel", "logits/bias"}

    backbone = model.get_layer("backbone")
    first = [layer.name for layer in backbone.layers].index(BACKBONES[name].stages[-2][1])
    planned = {weight.path for layer in backbone.layers[first:] if not isinstance(layer, keras.layers.BatchNormalization) for weight in layer.weights}
    tfcnn.set_trainable(model, 2)
    assert moved_after_a_step(model) == planned | {"logits/kernel", "logits/bias"}


def test_names_are_listed_in_order():
    assert tfcnn.list_backbones() == sorted(BACKBONES)
    assert "mobilenet_v3_small" in tfcnn.list_backbones()


def test_preprocessing_of_a_row_is_that_of_its_network():
    pixels = np.full((1, 2, 2, 3), [255.0, 127.5, 0.0], np.float32)
    np.testing.assert_array_equal(preprocess_function(BACKBONES["mobilenet_v3_small"])(pixels.copy()), pixels)
    np.testing.assert_allclose(preprocess_function(BACKBONES["mobilenet_v2"])(pixels.copy())[0, 0, 0], [1, 0, -1])
    np.testing.assert_allclose(preprocess_function(BACKBONES["resnet50"])(pixels.copy())[0, 0, 0], [-103.939, 127.5 - 116.779, 255 - 123.68], rtol=1e-5)
