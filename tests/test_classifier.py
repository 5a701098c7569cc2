"""`build_classifier` and `set_trainable`: parts, arguments, backbones of one's own."""

import keras
import numpy as np
import pytest

import tfcnn
from tfcnn.errors import InputError
from tfcnn.models.classifier import ModelConfig, check_config
from tfcnn.models.cnn import build_features
from tfcnn.models.freeze import opens_stages, stages_of

LABELS = ["a", "b", "c"]


def photos(count, side=16):
    return np.random.default_rng(0).uniform(0, 255, (count, side, side, 3)).astype(np.float32)


def small(**arguments):
    keras.utils.set_random_seed(0)
    return tfcnn.build_classifier(build_features((16, 16, 3), filters=(4, 8)), labels=LABELS, **arguments)


def test_the_parts_have_their_names_and_scores_add_up_to_one():
    model = small()
    assert [layer.name for layer in model.layers] == ["image", "backbone", "pooling", "dropout", "logits", "predictions"]
    assert model.input_shape == (None, 16, 16, 3) and model.input.dtype == "float32"
    scores = model(photos(5)).numpy()
    assert scores.shape == (5, 3) and scores.dtype == np.float32
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)
    logits = keras.Model(model.input, model.get_layer("logits").output)(photos(5)).numpy()
    np.testing.assert_allclose(scores, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), atol=1e-6)


def test_hidden_layers_stand_between_pooling_and_logits_with_dropout_before_each():
    model = small(hidden=(6, 5), dropout=0.4)
    names = [layer.name for layer in model.layers]
    assert names[2:] == ["pooling", "dropout_1", "hidden_1", "dropout_2", "hidden_2", "dropout", "logits", "predictions"]
    assert [model.get_layer(name).rate for name in ("dropout_1", "dropout_2", "dropout")] == [0.4, 0.4, 0.4]
    assert model.get_layer("hidden_1").kernel.shape == (8, 6) and model.get_layer("logits").kernel.shape == (5, 3)
    hidden = keras.Model(model.input, model.get_layer("hidden_1").output)(photos(20)).numpy()
    assert hidden.min() == 0 < hidden.max()


def test_pooling_takes_the_mean_or_the_maximum_over_the_map():
    for pooling, reduce in (("avg", np.mean), ("max", np.max)):
        model = small(pooling=pooling)
        features = keras.Model(model.input, model.get_layer("pooling").output)(photos(3)).numpy()
        maps = model.get_layer("backbone")(photos(3)).numpy()
        assert maps.shape == (3, 4, 4, 8)
        np.testing.assert_allclose(features, reduce(maps, axis=(1, 2)), rtol=1e-5, atol=1e-6)


def test_a_backbone_may_give_a_vector():
    image = keras.Input((16, 16, 3))
    vector = keras.layers.Dense(7, name="squeeze")(keras.layers.GlobalMaxPooling2D()(image))
    backbone = keras.Model(image, vector)
    model = tfcnn.build_classifier(backbone, labels=LABELS)
    features = keras.Model(model.input, model.get_layer("pooling").output)(photos(3)).numpy()
    np.testing.assert_allclose(features, backbone(photos(3)).numpy(), rtol=1e-6)
    assert stages_of(model) == [("squeeze", 2)]


def test_a_backbone_of_ones_own_shares_its_weights_and_gets_pixels_as_they_are():
    backbone = build_features((16, 16, 3), filters=(4, 8))
    model = tfcnn.build_classifier(backbone, labels=LABELS)
    np.testing.assert_array_equal(model.get_layer("backbone")(photos(2)).numpy(), backbone(photos(2)).numpy())
    assert model.get_layer("backbone").weights[0] is backbone.weights[0]
    assert model.model_config.backbone == "small_cnn" and model.model_config.image_size == 16
    assert [name for name, _ in stages_of(model)] == ["conv1", "conv2"]
    tfcnn.set_trainable(model, "conv2")
    assert [weight.path for weight in model.trainable_weights] == ["conv2/kernel", "conv2/bias", "logits/kernel", "logits/bias"]


def test_a_backbone_of_ones_own_may_be_named_like_a_row_of_the_table():
    inner = build_features((16, 16, 3), filters=(4,))
    backbone = keras.Model(inner.input, inner.output, name="resnet50")
    model = tfcnn.build_classifier(backbone, labels=LABELS)
    assert [name for name, _ in stages_of(model)] == ["conv1"]


def test_a_sequential_model_is_a_backbone():
    backbone = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(4, 3, name="conv")])
    model = tfcnn.build_classifier(backbone, labels=LABELS)
    np.testing.assert_array_equal(model.get_layer("backbone")(photos(2)).numpy(), backbone(photos(2)).numpy())


def test_batch_norm_inside_a_nested_model_stays_frozen():
    image = keras.Input((16, 16, 3))
    inner = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3, name="conv"), keras.layers.BatchNormalization(name="norm")], name="inner")
    model = tfcnn.build_classifier(keras.Model(image, inner(keras.layers.Rescaling(1 / 255)(image))), labels=LABELS)
    tfcnn.set_trainable(model, True)
    assert inner.get_layer("conv").trainable and not inner.get_layer("norm").trainable
    assert sorted(tuple(weight.shape) for weight in model.trainable_weights) == [(3,), (3, 3, 3, 4), (4,), (4, 3)]


def test_a_fresh_classifier_trains_its_head_only():
    for model in (small(), tfcnn.build_classifier("mobilenet_v3_small", labels=LABELS, weights=None, image_size=32)):
        assert [weight.path for weight in model.trainable_weights] == ["logits/kernel", "logits/bias"]


def test_trainable_is_read_the_same_way_in_all_its_forms():
    model = small()
    names = {}
    for trainable in (False, "none", 0, 1, "conv2", 2, "conv1", True, "all"):
        tfcnn.set_trainable(model, trainable)
        names[str(trainable)] = [weight.path.split("/")[0] for weight in model.trainable_weights[::2]]
    assert names["False"] == names["none"] == names["0"] == ["logits"]
    assert names["1"] == names["conv2"] == ["conv2", "logits"]
    assert names["2"] == names["conv1"] == names["True"] == names["all"] == ["conv1", "conv2", "logits"]
    assert [opens_stages(trainable) for trainable in (False, "none", 0, 1, "conv2", True, "all")] == [False] * 3 + [True] * 4


def test_an_unknown_stage_lists_the_choices():
    model = small()
    with pytest.raises(InputError, match=r"trainable='x'; choose one of: conv1, conv2"):
        tfcnn.set_trainable(model, "x")
    with pytest.raises(InputError, match=r"did you mean 'conv2'\? \(all: conv1, conv2\)"):
        tfcnn.set_trainable(model, "conv_2")
    for number in (3, -1):
        with pytest.raises(InputError, match=rf"expected 0 to 2 stages to train, got trainable={number}; the stages are conv1, conv2"):
            tfcnn.set_trainable(model, number)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"backbone": "mobilenet_v3_smal"}, r"got 'mobilenet_v3_smal'; did you mean 'mobilenet_v3_small'\?"),
    ({"backbone": "zzz"}, r"got 'zzz'; choose one of: mobilenet_v2, mobilenet_v3_small, resnet50"),
    ({"backbone": 3}, r"backbone or a keras.Model, got backbone=3"),
    ({"image_size": 31}, "from 32 to 2048 pixels, got image_size=31"),
    ({"image_size": 2049}, "from 32 to 2048 pixels, got image_size=2049"),
    ({"pooling": "mean"}, "'avg' or 'max', got pooling='mean'"),
    ({"hidden": (8, 0)}, r"above 0, got hidden=\(8, 0\)"),
    ({"hidden": (2.5,)}, r"above 0, got hidden=\(2.5,\)"),
    ({"dropout": 1.0}, "from 0 to below 1, got dropout=1.0"),
    ({"dropout": -0.1}, "from 0 to below 1, got dropout=-0.1"),
    ({"weights": "nothing.h5"}, "there is no file 'nothing.h5'"),
])
def test_arguments_that_cannot_be_used_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        check_config(ModelConfig(**arguments))
    with pytest.raises(InputError, match=message):
        tfcnn.build_classifier(**arguments, labels=LABELS)


@pytest.mark.parametrize("labels", [[], ["a"], ["a", "a"], ["a", "b", "a"]])
def test_labels_must_be_two_or_more_and_different(labels):
    with pytest.raises(InputError, match="at least two different labels"):
        tfcnn.build_classifier("mobilenet_v3_small", labels=labels, weights=None)


def test_the_defaults_can_be_used():
    check_config(ModelConfig(), LABELS)
    for size in (32, 2048):
        check_config(ModelConfig(image_size=size), LABELS)


@pytest.mark.parametrize("shape", [(None, None, 3), (16,)])
def test_a_backbone_without_a_fixed_image_shape_is_refused(shape):
    image = keras.Input(shape)
    with pytest.raises(InputError, match=r"one input of fixed shape"):
        tfcnn.build_classifier(keras.Model(image, keras.layers.Dense(4)(image)), labels=LABELS)


def test_a_backbone_with_two_inputs_is_refused():
    first, second = keras.Input((16, 16, 3)), keras.Input((16, 16, 3))
    with pytest.raises(InputError, match=r"one input of fixed shape"):
        tfcnn.build_classifier(keras.Model([first, second], keras.layers.Add()([first, second])), labels=LABELS)
