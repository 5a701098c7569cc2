"""The small network from scratch."""

import keras
import numpy as np

from tfcnn.models.cnn import build_features


def test_every_block_halves_the_map_and_has_its_channels():
    model = build_features((32, 24, 3), filters=(5, 6, 7))
    assert [layer.name for layer in model.layers[2:]] == ["conv1", "pool1", "conv2", "pool2", "conv3", "pool3"]
    assert [model.get_layer(f"pool{n}").output.shape[1:] for n in (1, 2, 3)] == [(16, 12, 5), (8, 6, 6), (4, 3, 7)]
    assert model.count_params() == (27 * 5 + 5) + (45 * 6 + 6) + (54 * 7 + 7)


def test_pixels_are_brought_to_minus_one_to_one_inside():
    model = build_features((8, 8, 3), filters=(2,))
    kernel = np.zeros((3, 3, 3, 2), np.float32)
    kernel[1, 1, 0] = 1, -1  # the first channel of the pixel itself, and its negative
    model.get_layer("conv1").set_weights([kernel, np.zeros(2, np.float32)])
    for pixel, expected in ((0, [0, 1]), (127.5, [0, 0]), (255, [1, 0])):
        np.testing.assert_allclose(model(np.full((1, 8, 8, 3), pixel, np.float32)).numpy()[0, 0, 0], expected, atol=1e-6)


def test_random_weights_keep_the_scale_of_the_signal():
    keras.utils.set_random_seed(0)
    pixels = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)
    features = build_features()(pixels).numpy()
    assert features.shape == (4, 4, 4, 64)
    assert 0.1 < features.mean() < 10
