"""Cached backbone features: equal to the model's own, and found again only for the same network and photo."""

import keras
import numpy as np
import pytest

import tfcnn
from tfcnn.data.store import Store
from tfcnn.training import features as module
from tfcnn.training.features import cached_features, network_digest


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TFCNN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def computed(monkeypatch):
    """The number of photos in each pass through a network, as they happen."""
    counts, forward = [], module.forward

    def counted(network, inputs, rows, **named):
        counts.append(len(rows))
        return forward(network, inputs, rows, **named)

    monkeypatch.setattr(module, "forward", counted)
    return counts


def made(count=9, side=32, seed=0):
    """A dataset of random photos in three classes."""
    images = np.random.default_rng(seed).integers(0, 256, (count, side, side, 3)).astype(np.uint8)
    return tfcnn.load_images((images, np.arange(count) % 3), image_size=side, split=(1 / 3, 1 / 3, 1 / 3))


def classifier(scale=1 / 127.5, offset=-1.0, seed=0, **arguments):
    keras.utils.set_random_seed(seed)
    image = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 3)(keras.layers.Rescaling(scale, offset)(image))
    return tfcnn.build_classifier(keras.Model(image, x), labels=["0", "1", "2"], **arguments)


def test_the_head_on_cached_features_gives_the_logits_of_the_model(v3_small_weights):
    data = made(35, side=64)
    model = tfcnn.build_classifier("mobilenet_v3_small", labels=data.labels, weights=str(v3_small_weights), image_size=64)
    kernel, bias = (np.random.default_rng(0).normal(scale=0.1, size=weight.shape).astype(np.float32) for weight in model.get_layer("logits").weights)
    model.get_layer("logits").set_weights([kernel, bias])
    features = cached_features(model, data)
    assert features.shape == (35, 576) and features.dtype == np.float32
    rows = np.arange(35)
    expected = keras.Model(model.input, model.get_layer("logits").output)(data.inputs[rows].astype(np.float32), training=False).numpy()
    assert expected.std(axis=0).min() > 0.05  # photos differ in their logits, so that an exchanged row would show
    np.testing.assert_allclose(features[rows] @ kernel + bias, expected, atol=1e-4)


def test_the_second_call_computes_nothing(monkeypatch):
    data, model = made(), classifier()
    first = cached_features(model, data)[np.arange(9)]
    monkeypatch.setattr(module, "forward", lambda *arguments, **named: pytest.fail("computed again"))
    np.testing.assert_array_equal(cached_features(model, data)[np.arange(9)], first)


def test_another_head_or_a_rebuilt_network_reads_the_same_features(computed):
    data = made()
    first = cached_features(classifier(), data)[np.arange(9)]
    for other in (classifier(), classifier(hidden=(5,)), classifier(dropout=0.5)):  # Keras counts the names of their layers up
        np.testing.assert_array_equal(cached_features(other, data)[np.arange(9)], first)
    assert computed == [9]
    assert network_digest(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="ones")])) == network_digest(
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="ones")]))


def test_a_rebuilt_network_of_the_table_reads_the_same_features(computed):
    data = made()
    for _ in range(2):
        keras.utils.set_random_seed(0)
        cached_features(tfcnn.build_classifier("mobilenet_v2", labels=data.labels, weights=None, image_size=32), data)
    assert computed == [9]


def test_a_changed_weight_is_another_network(computed):
    data, model = made(), classifier()
    first = cached_features(model, data)[np.arange(9)]
    kernel = model.get_layer("backbone").weights[0]
    changed = kernel.numpy()
    changed[0, 0, 0, 0] += 1e-3
    kernel.assign(changed)
    second = cached_features(model, data)[np.arange(9)]
    assert computed == [9, 9]
    assert np.abs(second - first)[:, 0].max() > 0 and np.array_equal(second[:, 1:], first[:, 1:])


def test_other_preprocessing_or_pooling_is_another_network(computed):
    data = made()
    results = [cached_features(model, data)[np.arange(9)] for model in (classifier(), classifier(scale=1 / 255, offset=0.0), classifier(pooling="max"))]
    assert computed == [9, 9, 9]
    assert len({result.tobytes() for result in results}) == 3


def test_another_activation_under_its_own_name_is_another_network(computed):
    data, results = made(), []
    for activation in ("relu", "tanh"):
        keras.utils.set_random_seed(0)
        image = keras.Input((32, 32, 3))
        x = keras.layers.Activation(activation, name=activation)(keras.layers.Conv2D(4, 3, name="conv")(image))
        model = tfcnn.build_classifier(keras.Model(image, x), labels=data.labels)
        results.append(cached_features(model, data)[np.arange(9)])
    assert computed == [9, 9]
    assert results[1].max() <= 1 < results[0].max()


def test_another_image_size_of_the_same_files_is_computed_anew(computed, photos):
    keras.utils.set_random_seed(0)
    weights = None
    for size in (16, 24):
        image = keras.Input((size, size, 3))
        backbone = keras.Model(image, keras.layers.Conv2D(4, 3)(image))
        weights = weights or backbone.get_weights()
        backbone.set_weights(weights)
        data = tfcnn.load_images(photos, image_size=size)
        cached_features(tfcnn.build_classifier(backbone, labels=data.labels), data)
    assert computed == [60, 60]


def test_only_new_photos_are_computed(computed):
    model, data, more = classifier(), made(9), made(12)  # the first 9 of the 12 are the same
    first = cached_features(model, data)[np.arange(9)]
    second = cached_features(model, more)[np.arange(12)]
    assert computed == [9, 3]
    np.testing.assert_array_equal(second[:9], first)
    assert len(np.unique(second, axis=0)) == 12


def test_photos_that_stand_twice_are_computed_once(computed):
    images = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3)).astype(np.uint8)
    order = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 3, 0, 3])
    data = tfcnn.load_images((images[order], order % 3), image_size=32, split=(1 / 3, 1 / 3, 1 / 3))
    features = cached_features(classifier(), data)[np.arange(12)]
    assert computed == [9]
    np.testing.assert_array_equal(features, features[order])
    assert len(np.unique(features, axis=0)) == 9


def test_seconds_are_recorded_only_when_something_is_computed():
    data, model = made(), classifier()
    seconds = {}
    cached_features(model, data, seconds=seconds)
    assert list(seconds) == ["features of the backbone"]
    seconds.clear()
    cached_features(model, data, seconds=seconds)
    assert seconds == {}


def test_a_worker_whose_own_cache_has_gaps_fills_them(tmp_path, monkeypatch):
    """As one has that trained before on fewer photos."""
    monkeypatch.setattr(module, "is_chief", lambda strategy: False)
    monkeypatch.setattr(module, "count_of", lambda strategy: 2)
    monkeypatch.setattr(module, "from_chief", lambda strategy, value: value)
    rows, keys = np.arange(6, dtype=np.float32).reshape(3, 2), ["a", "b", "c"]
    store = Store(tmp_path / "store")
    store.add(keys[2:], rows[2:])
    filled = module._add(store, tmp_path / "store", keys, rows, None)
    np.testing.assert_array_equal(filled.rows(keys)[np.arange(3)], rows)
