"""`build_classifier` and `set_trainable`: parts, arguments, backbones of one's own."""

import keras
import numpy as np
import pytest
from conftest import moved_by_a_step

import tfcnn
from tfcnn.errors import InputError
from tfcnn.models.backbones import BACKBONES
from tfcnn.models.classifier import ACTIVATIONS, ModelConfig, check_config, with_defaults
from tfcnn.models.cnn import build_features
from tfcnn.models.freeze import is_named, opens_stages, stages_of

LABELS = ["a", "b", "c"]


class Subclassed(keras.Model):
    """A network without a graph."""

    def call(self, x):
        return x


def photos(count, side=16, channels=3):
    return np.random.default_rng(0).uniform(0, 255, (count, side, side, channels)).astype(np.float32)


def output_of(model, layer, pixels):
    return keras.Model(model.input, model.get_layer(layer).output)(pixels, training=False).numpy()


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


def test_a_vit_gives_its_class_token_or_pools_its_patches_without_it(tiny_vit):
    models = {pooling: small_vit(tiny_vit, pooling=pooling) for pooling in (None, "token", "avg", "max")}
    assert [model.model_config.pooling for model in models.values()] == ["token", "token", "avg", "max"]
    features = {pooling: output_of(model, "pooling", photos(3, 32)) for pooling, model in models.items()}
    tokens = models["avg"].get_layer("backbone")(photos(3, 32) / 127.5 - 1).numpy()
    assert tokens.shape == (3, 5, 8)  # the class token, then 2 x 2 patches
    np.testing.assert_array_equal(features["token"], features[None])
    np.testing.assert_allclose(features["token"], tokens[:, 0], atol=1e-6)
    np.testing.assert_allclose(features["avg"], tokens[:, 1:].mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(features["max"], tokens[:, 1:].max(axis=1), atol=1e-6)
    assert np.abs(tokens[:, 0] - tokens[:, 1:].mean(axis=1)).max() > 0.1


def small_vit(name, **arguments):
    keras.utils.set_random_seed(0)
    return tfcnn.build_classifier(name, labels=LABELS, weights="none", **arguments)


def test_a_sequence_without_a_class_token_is_pooled_over_all_of_it():
    image = keras.Input((16, 16, 3))
    backbone = keras.Model(image, keras.layers.Reshape((64, 12))(image))
    for pooling, reduce in (("avg", np.mean), ("max", np.max)):
        model = tfcnn.build_classifier(backbone, labels=LABELS, pooling=pooling)
        np.testing.assert_allclose(output_of(model, "pooling", photos(3)), reduce(photos(3).reshape(3, 64, 12), axis=1), rtol=1e-5)


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


def test_a_network_of_keras_that_was_built_by_hand_is_one_of_ones_own():
    """It has the names of the row, but another preprocessing and weights that nobody knows."""
    backbone = keras.applications.MobileNetV3Small(include_top=False, weights=None, input_shape=(32, 32, 3), name="mobilenet_v3_small")
    model = tfcnn.build_classifier(backbone, labels=LABELS)
    assert model.model_config.weights == "own" and not is_named(model)
    assert len(stages_of(model)) > len(BACKBONES["mobilenet_v3_small"].stages)


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


def test_a_batch_norm_of_the_head_stands_between_a_hidden_layer_and_its_activation(tmp_path):
    model = small(hidden=(6, 5), head_batch_norm=True, activation="tanh")
    assert [layer.name for layer in model.layers][2:] == [
        "pooling", "dropout_1", "hidden_1", "batch_norm_1", "activation_1", "dropout_2", "hidden_2", "batch_norm_2", "activation_2",
        "dropout", "logits", "predictions"]
    norm, random = model.get_layer("batch_norm_1"), np.random.default_rng(1)
    gamma, beta, mean, variance = random.normal(size=6), random.normal(size=6), random.normal(size=6) * 5, random.uniform(1, 9, 6)
    norm.set_weights([gamma, beta, mean, variance])
    kernel, bias = (weight.numpy() for weight in model.get_layer("hidden_1").weights)
    x = output_of(model, "pooling", photos(20)) @ kernel + bias
    expected = np.tanh(gamma * (x - mean) / np.sqrt(variance + norm.epsilon) + beta)
    np.testing.assert_allclose(output_of(model, "activation_1", photos(20)), expected, atol=1e-4)
    assert np.abs(expected).mean() > 0.1
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(photos(20)).numpy(), model(photos(20)).numpy())


def test_the_batch_norm_of_the_head_learns_while_that_of_the_backbone_is_frozen():
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3))
    x = keras.layers.BatchNormalization(name="norm")(keras.layers.Conv2D(4, 3, name="conv")(keras.layers.Rescaling(1 / 255)(image)))
    model = tfcnn.build_classifier(keras.Model(image, x), labels=LABELS, hidden=(6,), head_batch_norm=True)
    # What is added before a BatchNorm is taken away by it, so the bias of hidden_1 has no gradient.
    head = {f"{name}/{part}" for name, parts in (("hidden_1", ["kernel"]), ("batch_norm_1", ["gamma", "beta", "moving_mean", "moving_variance"]),
                                                 ("logits", ["kernel", "bias"])) for part in parts}
    assert head <= moved_by_a_step(model, photos(6)) <= head | {"hidden_1/bias"}
    tfcnn.set_trainable(model, True)
    moved = moved_by_a_step(model, photos(6))
    assert head | {"conv/kernel", "conv/bias"} == moved - {"hidden_1/bias"}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_works_number_by_number(name):
    function = lambda values: np.asarray(keras.activations.get(name)(keras.ops.convert_to_tensor(np.float32(values))))
    assert function([[-1, 0.5, 2]])[0, 0] == function([[-1, 3, -7]])[0, 0] and function([[-1, 2]])[0, 0] != function([[-1, 2]])[0, 1]


def test_the_activation_is_that_of_the_hidden_layers():
    relu, elu = small(hidden=(6,)), small(hidden=(6,), activation="elu")
    linear = output_of(small(hidden=(6,), activation="linear"), "hidden_1", photos(20))
    np.testing.assert_allclose(output_of(relu, "hidden_1", photos(20)), np.maximum(linear, 0), atol=1e-5)
    np.testing.assert_allclose(output_of(elu, "hidden_1", photos(20)), np.where(linear > 0, linear, np.expm1(linear)), atol=1e-5)
    assert elu.model_config.activation == "elu" and linear.min() < -0.1


@pytest.mark.parametrize("name", ["tiny_vit", "mobilenet_v3_small", pytest.param("resnet50", marks=pytest.mark.slow)])
def test_one_channel_is_rgb_of_three_equal_channels(tiny_vit, name):
    grey = tfcnn.build_classifier(name, labels=LABELS, weights="none", image_size=32, channels=1)
    rgb = tfcnn.build_classifier(name, labels=LABELS, weights="none", image_size=32)
    rgb.set_weights(grey.get_weights())
    assert grey.input_shape == (None, 32, 32, 1) and grey.model_config.channels == 1 and rgb.model_config.channels == 3
    pixels = photos(3, 32, channels=1)
    of = lambda model, pixels: output_of(model, "pooling", pixels)
    np.testing.assert_array_equal(of(grey, pixels), of(rgb, np.repeat(pixels, 3, axis=-1)))
    assert of(grey, pixels).std() > 0


def test_four_channels_start_as_the_first_three(tiny_vit):
    four, rgb = small_vit(tiny_vit, channels=4), small_vit(tiny_vit)
    rgb.set_weights([weight.numpy() for weight in four.weights if weight.path != "to_rgb/kernel"])
    pixels = photos(3, 32, channels=4)
    np.testing.assert_array_equal(four.get_layer("to_rgb").kernel.numpy()[0, 0], [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]])
    np.testing.assert_allclose(output_of(four, "pooling", pixels), output_of(rgb, "pooling", pixels[..., :3]), atol=1e-5)
    assert four.model_config.channels == 4 and four.input_shape == (None, 32, 32, 4)


def test_the_way_in_of_four_channels_learns_when_a_stage_does(tiny_vit):
    model, pixels = small_vit(tiny_vit, channels=4), photos(6, 32, channels=4)
    assert "to_rgb/kernel" not in moved_by_a_step(model, pixels)
    for trainable, opened in ((1, True), (0, False), ("block2", True), ("none", False), ("all", True), (False, False), (True, True)):
        tfcnn.set_trainable(model, trainable)
        assert model.get_layer("to_rgb").trainable is opened
    tfcnn.set_trainable(model, 1)
    moved = moved_by_a_step(model, pixels)
    assert "to_rgb/kernel" in moved and not [path for path in moved if path.startswith(("patch_embedding", "block1", "class_token"))]
    assert np.abs(model.get_layer("to_rgb").kernel.numpy()[0, 0, 3]).min() > 0  # what the fourth channel adds


def test_a_backbone_of_ones_own_has_its_own_number_of_channels():
    for channels, given in ((1, 1), (1, 3), (4, 4), (2, 3)):  # 3 is the default
        model = tfcnn.build_classifier(build_features((16, 16, channels), filters=(4,)), labels=LABELS, channels=given)
        assert model.input_shape == (None, 16, 16, channels) and model.model_config.channels == channels
        assert [layer.name for layer in model.layers][:2] == ["image", "backbone"]
    with pytest.raises(InputError, match=r"expected channels=1, the number that the backbone 'small_cnn' takes, got channels=4"):
        tfcnn.build_classifier(build_features((16, 16, 1), filters=(4,)), labels=LABELS, channels=4)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"image_size": 64}, r"expected image_size=16, the number that the backbone 'small_cnn' takes, got image_size=64"),
    ({"weights": "mine.h5"}, r"for the backbone 'small_cnn', which keeps its own, got weights='mine\.h5'; load them with load_weights before")])
def test_what_a_backbone_of_ones_own_decides_is_not_ignored_silently(arguments, message):
    with pytest.raises(InputError, match=message):
        tfcnn.build_classifier(build_features((16, 16, 3)), labels=LABELS, **arguments)


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
    ({"backbone": "zzz"}, r"got 'zzz'; choose one of: resnet50, efficientnet_b0, mobilenet_v3_small, "),
    ({"backbone": 3}, r"backbone or a keras.Model, functional or Sequential with an Input, got backbone=3"),
    ({"image_size": 31}, "from 32 to 2048 pixels for mobilenet_v3_small, got image_size=31"),
    ({"image_size": 2049}, "from 32 to 2048 pixels for mobilenet_v3_small, got image_size=2049"),
    ({"image_size": 64.0}, "from 32 to 2048 pixels for mobilenet_v3_small, got image_size=64.0"),
    ({"backbone": "resnet50", "image_size": 31}, "from 32 to 2048 pixels for resnet50, got image_size=31"),
    ({"backbone": "nasnet_mobile", "image_size": 31}, "from 32 to 2048 pixels for nasnet_mobile, got image_size=31"),
    ({"backbone": "vit_b_16", "weights": "none", "image_size": 15}, "from 16 to 2048 pixels for vit_b_16, got image_size=15"),
    ({"backbone": "vit_b_16", "weights": "none", "image_size": 225},
     "a multiple of 16 pixels, the side of a patch of vit_b_16, got image_size=225; give 224 or 240"),
    ({"pooling": "mean"}, "'avg' or 'max', or 'token' for a ViT, got pooling='mean'"),
    ({"pooling": "token"}, "'avg' or 'max' for mobilenet_v3_small, which has no class token, got pooling='token'"),
    ({"backbone": build_features((16, 16, 3)), "pooling": "token"}, "'avg' or 'max' for small_cnn, which has no class token, got pooling='token'"),
    ({"activation": "reluu"}, r"by Keras's name, got activation='reluu'; did you mean 'relu'\?"),
    ({"activation": "softmax"}, r"by Keras's name, got activation='softmax'; "),
    ({"head_batch_norm": "yes"}, "head_batch_norm True or False, got head_batch_norm='yes'"),
    ({"channels": 2}, r"1 channel \(grey\), 3 \(RGB\) or 4 \(RGB and one more\), got channels=2"),
    ({"hidden": (8, 0)}, r"above 0, got hidden=\(8, 0\)"),
    ({"hidden": (2.5,)}, r"above 0, got hidden=\(2.5,\)"),
    ({"hidden": 64}, r"above 0, got hidden=64; write hidden=\(256,\) for one layer"),
    ({"hidden": (True,)}, r"above 0, got hidden=\(True,\)"),
    ({"dropout": None}, "from 0 to below 1, got dropout=None"),
    ({"dropout": "0.1"}, "from 0 to below 1, got dropout='0.1'"),
    ({"backbone": Subclassed()}, "functional or Sequential with an Input, got backbone=<Subclassed"),
    ({"dropout": 1.0}, "from 0 to below 1, got dropout=1.0"),
    ({"dropout": -0.1}, "from 0 to below 1, got dropout=-0.1"),
    ({"weights": "nothing.h5"}, "there is no file 'nothing.h5'"),
])
def test_arguments_that_cannot_be_used_are_refused(arguments, message):
    with pytest.raises(InputError, match=message) as refused:
        check_config(ModelConfig(**arguments))
    assert str(refused.value).startswith("expected ") and "\n" not in str(refused.value)
    with pytest.raises(InputError, match=message):
        tfcnn.build_classifier(**arguments, labels=LABELS)


@pytest.mark.parametrize("labels", [[], ["a"], ["a", "a"], ["a", "b", "a"]])
def test_labels_must_be_two_or_more_and_different(labels):
    with pytest.raises(InputError, match="at least two different labels"):
        tfcnn.build_classifier("mobilenet_v3_small", labels=labels, weights=None)


@pytest.mark.parametrize("labels", ["cat", [0, 1], np.array(["a", "b"]), {"a": 0}])
def test_labels_are_a_list_of_texts(labels):
    with pytest.raises(InputError, match="expected labels as a list of texts, got labels="):
        tfcnn.build_classifier("mobilenet_v3_small", labels=labels, weights=None)


def test_the_defaults_can_be_used():
    check_config(ModelConfig(), LABELS)
    for size in (32, 2048):
        check_config(ModelConfig(image_size=size), LABELS)
        check_config(ModelConfig("vit_b_16", "none", image_size=size, pooling="token"), LABELS)


def test_what_is_left_open_is_what_the_backbone_decides():
    assert with_defaults(ModelConfig("efficientnet_b3", "none")) == ModelConfig("efficientnet_b3", "none", image_size=300, pooling="avg")
    assert with_defaults(ModelConfig("vit_b_16", "none")) == ModelConfig("vit_b_16", "none", image_size=224, pooling="token")
    given = ModelConfig("vit_b_16", "none", image_size=32, pooling="max", channels=1)
    assert with_defaults(given) == given


@pytest.mark.parametrize("shape", [(None, None, 3), (None, 4, 4, 3), (4, 4, 4, 4, 3)])
def test_a_backbone_without_a_fixed_image_shape_is_refused(shape):
    image = keras.Input(shape)
    with pytest.raises(InputError, match=r"one input of fixed shape"):
        tfcnn.build_classifier(keras.Model(image, keras.layers.Dense(4)(image)), labels=LABELS)


def test_a_backbone_with_two_inputs_is_refused():
    first, second = keras.Input((16, 16, 3)), keras.Input((16, 16, 3))
    with pytest.raises(InputError, match=r"one input of fixed shape"):
        tfcnn.build_classifier(keras.Model([first, second], keras.layers.Add()([first, second])), labels=LABELS)


@pytest.mark.parametrize("name", ["head", "logits", "hidden_1", "batch_norm_2", "to_rgb"])
def test_a_backbone_whose_layers_are_called_like_those_of_a_classifier_is_refused(name):
    """Rates and slots go by the path of a variable."""
    image = keras.Input((8, 8, 3))
    backbone = keras.Model(image, keras.layers.Conv2D(2, 3, name=name)(image))
    with pytest.raises(InputError, match=f"got '{name}/kernel'; give its layers other names"):
        tfcnn.build_classifier(backbone, labels=LABELS)


def test_a_backbone_with_two_weights_of_one_path_is_refused():
    def inner():
        image = keras.Input((8, 8, 3))
        return keras.Model(image, keras.layers.Conv2D(3, 3, padding="same", name="conv")(image))

    image = keras.Input((8, 8, 3))
    with pytest.raises(InputError, match="got 'conv/kernel'; give its layers other names"):
        tfcnn.build_classifier(keras.Model(image, inner()(inner()(image))), labels=LABELS)
