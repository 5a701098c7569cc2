"""Maps and kernels of a model of one's own; those of runs are tested with explain."""

import keras
import numpy as np
import pytest
from matplotlib import colormaps

import tfcnn
from tfcnn.errors import InputError
from tfcnn.evaluation.overlay import COLOURS


@pytest.fixture(scope="module")
def cnn():
    keras.utils.set_random_seed(0)
    return tfcnn.build_cnn((16, 20, 1), filters=(4, 8), hidden=6)


def test_maps_of_a_model_are_those_that_its_layer_gives(cnn):
    pixels = np.random.default_rng(0).uniform(0, 255, (16, 20, 1))
    maps = keras.Model(cnn.input, cnn.get_layer("conv1").output)(pixels[None].astype(np.float32)).numpy()[0]
    picture = np.asarray(tfcnn.draw_feature_maps(cnn, pixels, layer="conv1", limit=1))
    values = maps[..., np.argmax(maps.std(axis=(0, 1)))]
    expected = colormaps[COLOURS]((values - values.min()) / np.ptp(values))[..., :3] * 255
    assert picture.shape == (64, 80, 3)  # each number a square of four pixels
    np.testing.assert_allclose(picture[2::4, 2::4], expected, atol=1.01)


def test_kernels_of_a_model_and_of_a_sequential_one_are_drawn(cnn):
    kernels = cnn.get_layer("conv1").get_weights()[0][:, :, 0]                         # (3, 3, 4)
    best = kernels[..., np.argmax(np.linalg.norm(kernels.reshape(-1, 4), axis=0))]
    picture = np.asarray(tfcnn.draw_filters(cnn, layer="conv1", limit=1), float)
    np.testing.assert_allclose(picture[11:66:22, 11:66:22, 0], 127.5 + 127.5 * best / np.abs(best).max(), atol=0.51)
    chain = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(5, 3, name="first")])
    assert tfcnn.draw_filters(chain, layer="first", columns=5).size == (5 * 70 - 4, 66)


@pytest.mark.parametrize(("call", "message"), [
    (lambda cnn: tfcnn.draw_filters(cnn, layer="conv3"), "convolution of the model with kernels of more than one pixel, got layer='conv3'; did you mean 'conv"),
    (lambda cnn: tfcnn.draw_filters(keras.Sequential([keras.layers.Conv2D(1, 3)]), layer="x"), "that is built, got Sequential"),
    (lambda cnn: tfcnn.draw_filters(7, layer="x"), "expected a run, its folder, or a functional or Sequential keras.Model that is built, got int"),
    (lambda cnn: tfcnn.draw_feature_maps(cnn, np.zeros((16, 16, 1)), layer="conv1"), "pixels of shape (16, 20, 1) for a keras.Model, got (16, 16, 1)"),
    (lambda cnn: tfcnn.draw_feature_maps(cnn, "a.jpg", layer="conv1"), "got str; a run takes files too"),
    (lambda cnn: tfcnn.draw_feature_maps(cnn, np.zeros((16, 20, 1)), layer="hidden"), "a layer of the model with feature maps, got layer='hidden'"),
])
def test_what_is_refused(cnn, call, message):
    with pytest.raises(InputError) as caught:
        call(cnn)
    assert message in str(caught.value)
