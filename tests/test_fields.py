"""Receptive fields over a photo: frames of the right size at the right place."""

import keras
import numpy as np
import pytest
from PIL import Image

import tfcnn
from tfcnn.errors import InputError
from tfcnn.evaluation import fields


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn: [(name, size, centre)], noted in place of the picture."""
    noted = []
    monkeypatch.setattr(fields, "_drawn", lambda pixels, rows: noted.append((pixels, rows)))
    return noted


def test_the_field_nearest_to_the_point_is_framed(drawn):
    image = keras.Input((64, 48, 3))
    x = keras.layers.Conv2D(2, 3, strides=2, name="one")(image)                        # field 3, stride 2, first centre 1
    x = keras.layers.MaxPooling2D(3, name="two")(x)                                    # field 7, stride 6, first centre 3
    tfcnn.draw_receptive_fields(keras.Model(image, x), np.zeros((64, 48, 3), np.uint8), layers=["one", "two"], point=(0.5, 0.0))
    ((pixels, rows),) = drawn
    assert pixels.shape == (64, 48, 3) and rows == [("one", (3, 3), (31, 1)), ("two", (7, 7), (33, 3))]


def test_a_backbone_shows_the_last_layer_of_each_stage(drawn):
    tfcnn.draw_receptive_fields("vgg16", np.zeros((50, 70, 1), np.uint8))
    ((pixels, rows),) = drawn
    assert pixels.shape == (224, 224, 3)
    assert [(name, size[0]) for name, size, _ in rows] == [("block1", 6), ("block2", 16), ("block3", 44), ("block4", 100), ("block5", 212)]


def test_a_model_of_ones_own_shows_what_each_of_its_convolutions_leads_to(drawn):
    image = keras.Input((40, 40, 1))
    x = keras.layers.MaxPooling2D(name="half")(keras.layers.Conv2D(2, 3, name="first")(keras.layers.Rescaling(1 / 255)(image)))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3, name="second")(x))
    tfcnn.draw_receptive_fields(keras.Model(image, x), np.zeros((40, 40), np.uint8)[..., None])
    assert [(name, size) for name, size, _ in drawn[0][1]] == [("half", (4, 4)), ("second", (8, 8))]


def test_a_frame_is_where_the_field_is(tmp_path):
    image = keras.Input((100, 100, 3))
    model = keras.Model(image, keras.layers.Conv2D(1, 41, name="wide")(image))
    Image.new("RGB", (300, 200), "white").save(tmp_path / "white.png")
    picture = np.asarray(tfcnn.draw_receptive_fields(model, tmp_path / "white.png", layers=["wide"]), int)
    coloured = np.abs(picture - picture.mean(axis=-1, keepdims=True)).max(axis=-1) > 60
    rows = np.flatnonzero(coloured[:, :480].sum(axis=1) > 40)                          # two lines of the frame; the sample of the legend lies beyond
    photo = np.flatnonzero((picture[:, 200] == 255).all(axis=-1))                      # the white of the photo, and of the paper around
    assert len(rows) and 0.3 < (rows.max() - rows.min()) / (photo.max() - photo.min()) < 0.45


@pytest.mark.parametrize(("model", "arguments", "message"), [
    ("vgg_16", {}, "did you mean 'vgg16'"),
    ("vgg16", {"layers": ["block9_pool"]}, "expected a layer of the model, got layers='block9_pool'; did you mean 'block"),
    ("mobilenet_v3_small", {"layers": ["expanded_conv_squeeze_excite_avg_pool"]}, "whose outputs see all of the input"),
    ("vgg16", {"point": (0.5, 2)}, "got point=(0.5, 2)"),
    ("vgg16", {"point": 0.5}, "got point=0.5"),
    ("vgg16", {"layers": "block1_pool"}, "expected a list of names of layers, got layers='block1_pool'"),
    ("vgg16", {"photo": [1, 2]}, "got list"),
    ("vgg16", {"photo": np.full((8, 8, 3), np.nan)}, "expected finite pixels"),
    ("vgg16", {"photo": "missing.jpg"}, "there is no file 'missing.jpg'"),
    ("vgg16", {"photo": np.zeros((8, 8))}, "expected finite pixels (height, width, channels), got float64 of shape=(8, 8)"),
])
def test_what_is_refused(model, arguments, message):
    with pytest.raises(InputError) as caught:
        tfcnn.draw_receptive_fields(model, **{"photo": np.zeros((8, 8, 3), np.uint8), **arguments})
    assert message in str(caught.value)


def test_a_model_of_signals_is_refused():
    signal = keras.Input((50, 2))
    with pytest.raises(InputError, match="expected a model of photos, got input_shape=\\(50, 2\\)"):
        tfcnn.draw_receptive_fields(keras.Model(signal, keras.layers.Conv1D(1, 3)(signal)), np.zeros((8, 8, 3), np.uint8))
