"""The forward pass over many photos."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcnn.models.cnn import build_features
from tfcnn.models.forward import BATCH, forward


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return build_features((8, 8, 3), filters=(4,))


@pytest.fixture(scope="module")
def photos():
    return np.random.default_rng(0).integers(0, 256, (2 * BATCH + 3, 8, 8, 3)).astype(np.uint8)


def test_it_gives_what_the_network_gives_for_every_photo(network, photos):
    outputs = forward(network, photos)
    assert outputs.shape == (67, 4, 4, 4) and outputs.dtype == np.float32
    np.testing.assert_allclose(outputs, network(photos.astype(np.float32)).numpy(), atol=1e-6)


def test_networks_one_after_the_other_warn_of_no_retracing(network, photos, caplog, monkeypatch):
    monkeypatch.setattr(tf.get_logger(), "handlers", [caplog.handler])
    for _ in range(8):
        forward(network, photos[:1])
    assert caplog.messages == []


def test_rows_are_answered_in_the_order_asked_for(network, photos):
    rows = np.array([66, 0, 5, 5, 3])
    np.testing.assert_array_equal(forward(network, photos, rows), forward(network, photos)[rows])


def test_a_photo_gives_the_same_numbers_whatever_it_is_read_with(network, photos):
    whole = forward(network, photos)
    for row in (0, 32):  # at the same place of a batch
        np.testing.assert_array_equal(forward(network, photos, np.array([row]))[0], whole[row])
    for row in (0, 31, 32, 66):
        # Equal but for the last bit: without AVX-512 a convolution also depends on the place of a photo in its batch.
        np.testing.assert_allclose(forward(network, photos, np.array([row]))[0], whole[row], rtol=1e-6)


def test_progress_counts_every_photo_once(network, photos):
    steps = []
    forward(network, photos, advance=steps.append)
    assert steps == [32, 32, 3]


def test_dropout_and_batch_norm_are_in_inference_mode(photos):
    image = keras.Input((8, 8, 3))
    network = keras.Model(image, keras.layers.Dropout(0.5)(keras.layers.BatchNormalization(epsilon=0.0)(image)))
    np.testing.assert_allclose(forward(network, photos[:3]), photos[:3], rtol=1e-6)
