"""The small network from scratch."""

import gzip

import keras
import numpy as np
import pytest

from tfcnn.errors import InputError
from tfcnn.models.cnn import build_cnn, build_features


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


def test_the_textbook_network_has_the_parameters_of_the_textbook():
    model = build_cnn()
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == 1_630_282
    assert [layer.name for layer in model.layers] == ["image", "rescale", "conv1", "norm1", "relu1", "pool1", "conv2", "norm2", "relu2", "pool2",
                                                      "flatten", "hidden", "dropout", "predictions"]
    scores = model(np.random.default_rng(0).uniform(0, 255, (3, 28, 28, 1))).numpy()
    assert scores.shape == (3, 10)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)


def test_the_textbook_network_brings_pixels_to_zero_to_one():
    model = build_cnn((4, 4, 1), 2)
    rescaled = keras.Model(model.input, model.get_layer("rescale").output)(np.full((1, 4, 4, 1), 255.0))
    np.testing.assert_allclose(rescaled.numpy(), 1, atol=1e-6)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"input_shape": (28, 28)}, r"expected input_shape=\(height, width, channels\), got input_shape=\(28, 28\)"),
    ({"input_shape": (3, 28, 1)}, r"at least 4 pixels a side for 2 blocks, got input_shape=\(3, 28, 1\)"),
    ({"num_classes": 1}, r"got num_classes=1, hidden=512"),
    ({"filters": ()}, r"got filters=\(\)"),
    ({"hidden": 0}, r"got num_classes=10, hidden=0"),
    ({"dropout": 1.0}, r"got dropout=1\.0"),
])
def test_a_network_that_cannot_be_built_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        build_cnn(**arguments)


@pytest.mark.slow
def test_the_textbook_network_learns_real_digits(shared):
    folder = shared / "mnist_t10k"
    pixels, labels = (np.frombuffer(gzip.decompress(next(folder.glob(f"*{kind}*.gz")).read_bytes()), np.uint8, offset=offset)
                      for kind, offset in (("images", 16), ("labels", 8)))
    pixels = pixels.reshape(-1, 28, 28, 1).astype(np.float32)
    keras.utils.set_random_seed(0)
    model = build_cnn()
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    model.fit(pixels[:5000], labels[:5000], batch_size=32, epochs=4, verbose=0)  # BatchNorm has a momentum of 0.99: its statistics need hundreds of steps
    assert (model.predict(pixels[5000:7000], verbose=0).argmax(axis=1) == labels[5000:7000]).mean() > 0.95
