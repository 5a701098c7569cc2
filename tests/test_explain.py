"""Heat maps against formulas, against data whose evidence is known, and against networks that have forgotten what they learned."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr

import tfcnn
from tfcnn.data.channels import to_grey
from tfcnn.evaluation.explain import explain
from tfcnn.evaluation.heat import attention_rollout, check_method, grad_cam, heat_maps, integrated_gradients
from tfcnn.evaluation.layer_pictures import draw_feature_maps, draw_filters
from tfcnn.evaluation.overlay import COLOURS, STRENGTH, draw_cells, kernel_cells, map_cells, overlay, side_by_side
from tfcnn.evaluation.predict import predict
from tfcnn.models.cnn import build_features
from tfcnn.models.vit import build_vit
from tfcnn.record import load_run, write_record

LABELS = ["a", "b", "c"]
SIDE, SQUARE = 72, 32  # pixels; the maps of the network have cells of 4 pixels, so that the square is eight of them wide


def some_photos(count, size, channels=3, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (count, size, size, channels)).astype(np.float32)


def network_of(model, layer):
    return keras.Model(model.input, model.get_layer(layer).output)


def logits_of(model, pixels):
    return network_of(model, "logits")(np.asarray(pixels, np.float32), training=False).numpy()


def enlarged(maps, size):
    """Bilinear between centres of cells, in NumPy: pixel p of `size` lies at (p + 0.5) rows / size - 0.5."""
    places = [(np.arange(size) + 0.5) * count / size - 0.5 for count in maps.shape[1:]]
    rows = np.apply_along_axis(lambda line: np.interp(places[0], np.arange(len(line)), line), 1, maps)
    return np.apply_along_axis(lambda line: np.interp(places[1], np.arange(len(line)), line), 2, rows)


def scaled(maps):
    top = maps.max(axis=(1, 2), keepdims=True)
    return maps / np.where(top > 0, top, 1)


def run_of(model, folder, *, labels=LABELS, backbone="small_cnn", **record):
    folder.mkdir(parents=True)
    write_record(folder, {"labels": list(labels), "status": "trained", "geometry": "stretch", "input_shape": list(model.input_shape[1:]),
                          "model": {"backbone": backbone, "weights": "none"}, **record})
    model.save(folder / "model.keras")
    return load_run(folder)


def refusal(*arguments, of=explain, **named):
    with pytest.raises(tfcnn.InputError) as refused:
        of(*arguments, **named)
    message = str(refused.value)
    assert message.startswith("expected ") and "\n" not in message
    return message


# --- photos in which a square alone decides: rows, columns or a checkerboard on faint noise, or noise alone ---

ROWS, COLUMNS = np.indices((SQUARE, SQUARE))
PATTERNS = [np.where(place % 4 < 2, 70, -70) for place in (ROWS, COLUMNS, ROWS // 2 * 2 + COLUMNS // 2 * 2)]


def squares(count, number, seed):
    """(photos, the labels of the squares in them (count, number), where they are (count, number, SIDE, SIDE)): squares beside each other, at any place."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal(127.5, 10, (count, SIDE, SIDE))
    targets = rng.permuted(np.tile(np.arange(3), (count, 1)), axis=1)[:, :number]
    inside = np.zeros((count, number, SIDE, SIDE), bool)
    for photo, square in np.ndindex(count, number):
        wide = SIDE // number
        row, column = rng.integers(0, SIDE - SQUARE + 1), square * wide + rng.integers(0, wide - SQUARE + 1)
        place = np.s_[row:row + SQUARE, column:column + SQUARE]
        inside[photo, square][place] = True
        pixels[photo][place] += PATTERNS[targets[photo, square]]
    return np.repeat(pixels.clip(0, 255)[..., None], 3, axis=-1).round().astype(np.uint8), targets, inside


def build_small(seed):
    keras.utils.set_random_seed(seed)
    return tfcnn.build_classifier(build_features((SIDE, SIDE, 3), filters=(8, 16)), labels=["rows", "columns", "checks", "nothing"], dropout=0.0)


@pytest.fixture(scope="module")
def knowing():
    """A network that tells the squares apart; not to be changed by a test.

    A quarter of its photos have no square and a label of their own. Without them noise may count for every label alike, which changes
    no answer, and the map of a label has it too.
    """
    model = build_small(0)
    tfcnn.set_trainable(model, True)
    pixels = np.concatenate([squares(300, 1, seed=0)[0], squares(100, 0, seed=0)[0]])
    targets = np.concatenate([squares(300, 1, seed=0)[1][:, 0], np.full(100, 3)])
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    model.fit(pixels, targets, batch_size=32, epochs=8, verbose=0)
    return model


@pytest.fixture(scope="module")
def pairs():
    """Photos with two squares each: both stand out from the noise, only one speaks for the label that is asked about."""
    return squares(40, 2, seed=2)


def share_inside(maps, inside):
    """Mean over photos of the share of a map that lies in a square; a map of zeros has none there."""
    return float(np.mean((maps * inside).sum(axis=(1, 2)) / np.maximum(maps.sum(axis=(1, 2)), 1e-9)))


def test_grad_cam_lies_on_the_square_that_decides(knowing):
    pixels, targets, inside = squares(60, 1, seed=1)
    targets, inside = targets[:, 0], inside[:, 0]
    right = logits_of(knowing, pixels).argmax(axis=1) == targets
    assert right.sum() >= 55 and inside.mean() < 0.2  # what a map that knows nothing has in the square
    assert share_inside(heat_maps(knowing, pixels, targets)[right], inside[right]) >= 0.8


def test_grad_cam_of_a_label_lies_on_its_own_square_and_not_on_the_other(knowing, pairs):
    pixels, targets, inside = pairs
    for own in (0, 1):
        maps = heat_maps(knowing, pixels, targets[:, own])
        assert share_inside(maps, inside[:, own]) >= 0.8 and share_inside(maps, inside[:, 1 - own]) < 0.05


def correlation(first, second, where):
    """Mean rank correlation of two maps of each photo within a region; of one that is the same everywhere it is 0."""
    inside = [(a[region], b[region]) for a, b, region in zip(first, second, where, strict=True)]
    return float(np.mean([spearmanr(a, b).statistic if np.ptp(a) and np.ptp(b) else 0.0 for a, b in inside]))


@pytest.mark.parametrize("forgotten", [("logits",), ("logits", "conv2"), ("logits", "conv2", "conv1")], ids=["logits", "from_conv2", "all"])
def test_random_weights_destroy_the_map(knowing, pairs, forgotten):
    """Layer by layer from the top. Adebayo et al. 2018, "Sanity Checks for Saliency Maps", section 3.

    Compared within the two squares, which stand out from the noise alike: any network, however random, tells squares from noise.
    """
    pixels, targets, inside = pairs
    before = heat_maps(knowing, pixels, targets[:, 0])
    model, found, shares = build_small(0), [], []
    for seed in range(10):
        model.set_weights(knowing.get_weights())
        fresh = build_small(1 + seed)
        for name in forgotten:
            of = lambda network, name=name: network.get_layer(name) if name == "logits" else network.get_layer("backbone").get_layer(name)
            of(model).set_weights(of(fresh).get_weights())
        after = heat_maps(model, pixels, targets[:, 0])
        found.append(correlation(before, after, inside.any(axis=1)))
        shares.append(share_inside(after, inside[:, 0]))
    assert correlation(before, before, inside.any(axis=1)) == pytest.approx(1)
    assert abs(np.mean(found)) < 0.25 and np.mean(shares) < share_inside(before, inside[:, 0]) / 2


# --- Grad-CAM against formulas ---

def tiny_classifier(**arguments):
    """3x3 pixels of two channels, three maps of 2x2, two hidden units."""
    image = keras.Input((3, 3, 2))
    backbone = keras.Model(image, keras.layers.Conv2D(3, 2, activation="relu", name="conv")(image))
    model = tfcnn.build_classifier(backbone, labels=["a", "b"], **arguments)
    rng = np.random.default_rng(3)
    model.set_weights([rng.normal(size=weight.shape).astype(np.float32) for weight in model.get_weights()])
    return model


def test_grad_cam_is_the_formula_worked_by_hand():
    model = tiny_classifier(hidden=(2,))
    pixels = np.random.default_rng(4).normal(size=(5, 3, 3, 2)).astype(np.float32)
    kernel, bias, first, first_bias, second, _ = model.get_weights()
    assert kernel.shape == (2, 2, 2, 3) and first.shape == (3, 2) and second.shape == (2, 2)
    windows = np.stack([np.stack([pixels[:, i:i + 2, j:j + 2].reshape(5, 8) for j in (0, 1)], axis=1) for i in (0, 1)], axis=1)
    maps = np.maximum(windows @ kernel.reshape(8, 3) + bias, 0)                          # (5, 2, 2, 3)
    open_units = maps.mean(axis=(1, 2)) @ first + first_bias > 0                         # (5, 2)
    for target in (0, 1):
        of_pooled = (open_units * second[:, target]) @ first.T                           # (5, 3): the gradient of the logit by pooled features
        weights = of_pooled / 4                                                          # by each of the 4 cells of a map, and so its mean
        expected = np.maximum((weights[:, None, None] * maps).sum(axis=-1), 0)
        np.testing.assert_allclose(grad_cam(model, pixels, np.full(5, target)), expected, atol=1e-6)
        np.testing.assert_allclose(heat_maps(model, pixels, [target] * 5), scaled(enlarged(expected, 3)), atol=1e-5)
    assert 0 < (expected.max(axis=(1, 2)) == 0).sum() < 5  # some of these photos have nothing that speaks for the second label


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "vit_b_16", *(pytest.param(name, marks=pytest.mark.slow) for name in (
    "resnet50", "efficientnet_b0", "mobilenet_v3_large", "vgg16"))])
def test_every_named_backbone_is_explained(name):
    """With mean pooling and no hidden layer Grad-CAM is the ReLU of the maps times the weights of the label: the share of a cell in the logit."""
    keras.utils.set_random_seed(0)
    model = tfcnn.build_classifier(name, labels=LABELS, weights="none", image_size=96)
    pixels, targets = some_photos(3, 96), np.array([0, 1, 2])
    found = heat_maps(model, pixels, targets)
    assert found.dtype == np.float32 and found.shape == (3, 96, 96)
    if name == "vit_b_16":
        rolled = attention_rollout(model, pixels)
        np.testing.assert_allclose(found, scaled(enlarged(rolled[:, 1:].reshape(3, 6, 6), 96)), atol=1e-5)
        np.testing.assert_allclose(rolled.sum(axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(rolled, 1 / 37, rtol=0.2)  # random weights look everywhere alike, and of 0.5 I to the 12th nothing is left
        return
    maps = keras.Model(model.input, model.get_layer("pooling").input)(pixels, training=False).numpy().astype(np.float64)
    assert maps.shape[1:3] == (3, 3) and maps.std(axis=(1, 2)).max() > 0
    expected = np.maximum(np.einsum("nhwc,cn->nhw", maps, model.get_layer("logits").get_weights()[0]), 0)
    np.testing.assert_allclose(found, scaled(enlarged(expected, 96)), atol=2e-3)


@pytest.mark.parametrize(("channels", "layer", "arguments"), [
    (3, None, {"pooling": "max"}), (3, None, {"hidden": (6, 5), "activation": "gelu"}), (1, None, {}), (4, None, {}),
    (3, "conv_dw_6_relu", {"hidden": (6,), "head_batch_norm": True, "pooling": "max"}), (4, "conv_dw_6_relu", {}),
], ids=["max", "hidden", "grey", "four_channels", "batch_norm_layer", "four_channels_layer"])
def test_grad_cam_of_any_head_and_layer_is_the_gradient_of_the_two_halves(thin_mobilenet, channels, layer, arguments):
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    model = tfcnn.build_classifier(thin_mobilenet, labels=LABELS, weights="none", image_size=64, channels=channels, **arguments)
    pixels, targets = some_photos(4, 64, channels), np.array([0, 1, 2, 0])
    found = grad_cam(model, pixels, targets, layer=layer)
    backbone = model.get_layer("backbone")
    middle = backbone.get_layer(layer).output if layer else backbone.output
    x = pixels if channels == 3 else np.repeat(pixels, 3, axis=-1) if channels == 1 else pixels[..., :3]
    maps = keras.Model(backbone.input, middle)(x / 127.5 - 1)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        x = keras.Model(middle, backbone.output)(maps) if layer else maps
        for part in model.layers[model.layers.index(backbone) + 1:-1]:
            x = part(x, training=False)
        logit = tf.gather(x, targets, axis=1, batch_dims=1)
    weights = tape.gradient(logit, maps).numpy().mean(axis=(1, 2), keepdims=True)
    expected = np.maximum((weights * maps.numpy()).sum(axis=-1), 0)
    assert expected.shape == ((4, 4, 4) if layer else (4, 2, 2)) and expected.any()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * expected.max())


def test_a_map_where_nothing_speaks_for_the_label_is_zero(tmp_path, caplog):
    model = tiny_classifier()
    model.get_layer("logits").set_weights([-np.ones((3, 2)), np.zeros(2)])
    pixels = np.ones((2, 3, 3, 2), np.float32)
    assert not heat_maps(model, pixels, [0, 1]).any()
    image = keras.Input((8, 8, 3))
    model = tfcnn.build_classifier(keras.Model(image, keras.layers.ReLU()(image)), labels=["a", "b"])
    model.get_layer("logits").set_weights([-np.ones((3, 2)), np.array([1, 0])])
    row, = explain(run_of(model, tmp_path / "run", labels=["a", "b"]), some_photos(1, 8))
    assert not row.heat.any() and row.answer == "a" and "nothing in 'array/0' speaks for 'a'" in caplog.text


def test_a_photo_has_the_same_map_in_any_company_and_models_stay_as_they_are(knowing):
    pixels, targets, _ = squares(20, 1, seed=5)
    together = heat_maps(knowing, pixels, targets[:, 0])
    for row in (0, 17):
        np.testing.assert_allclose(heat_maps(knowing, pixels[row:row + 1], targets[row]), together[row:row + 1], atol=1e-6)
    calls = lambda: [len(layer._inbound_nodes) for network in (knowing, knowing.get_layer("backbone")) for layer in network.layers]
    before = calls()
    for method, layer in (("grad_cam", None), ("grad_cam", "conv1"), ("integrated_gradients", None)):
        heat_maps(knowing, pixels[:1], [0], method=method, layer=layer)
    assert calls() == before  # `layer.input` and the like go by these


def test_layers_that_another_model_called_first_are_explained_in_the_model_they_stand_in(knowing):
    """A part of a network as backbone: Keras tells of its layers what they were first called on, which is another graph."""
    keras.utils.set_random_seed(2)  # weights with which something speaks for both labels
    whole = keras.models.clone_model(knowing.get_layer("backbone"))
    image = keras.Input((36, 36, 8))
    anew = keras.Model(image, keras.layers.MaxPooling2D(name="pool")(keras.layers.Conv2D(16, 3, padding="same", activation="relu", name="conv2")(image)))
    model, expected = (tfcnn.build_classifier(backbone, labels=LABELS) for backbone in (keras.Model(whole.get_layer("pool1").output, whole.output), anew))
    model.set_weights(expected.get_weights())
    pixels = some_photos(2, 36, 8)
    for layer in (None, "conv2"):
        found = heat_maps(model, pixels, [0, 1], layer=layer)
        np.testing.assert_array_equal(found, heat_maps(expected, pixels, [0, 1], layer=layer))
        assert found.max(axis=(1, 2)).tolist() == [1, 1]


def test_a_network_that_computes_in_16_bits_is_explained_in_32(knowing):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        half = build_small(0)
    finally:
        keras.config.set_dtype_policy("float32")
    half.set_weights(knowing.get_weights())
    pixels, targets, _ = squares(2, 1, seed=5)
    assert half.get_layer("logits").compute_dtype == "float16"
    for method in ("grad_cam", "integrated_gradients"):
        found, expected = (heat_maps(model, pixels, targets[:, 0], method=method) for model in (half, knowing))
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_run_that_was_saved_gives_the_map_of_the_model_before(trained):
    run, data, model = trained
    pixels = data.inputs[np.arange(4)]
    answers = logits_of(model, pixels).argmax(axis=1)
    rows = explain(run.path, [data.items[row].path for row in range(4)])
    expected = heat_maps(model, pixels, answers)
    for row, item, answer, found in zip(rows, data.items, answers, expected, strict=False):
        np.testing.assert_allclose(row.heat, found, atol=1e-5)
        assert (row.name, row.label, row.answer, row.method, row.path) == (str(item.path), run.labels[answer], run.labels[answer], "grad_cam", None)
    predicted = predict(run, pixels)
    for label in run.labels:
        for row, prediction in zip(explain(run, pixels, label=label), predicted, strict=True):
            assert row.label == label and row.answer == prediction.label and row.score == pytest.approx(prediction.scores[label], abs=1e-6)
    np.testing.assert_allclose(row.heat, heat_maps(model, pixels[-1:], [run.labels.index(label)])[0], atol=1e-5)


# --- attention rollout ---

def rollout_by_hand(model, pixels, read):
    """Softmax of q k / sqrt(size of a head), heads averaged, half of it and half of the identity, multiplied up; in NumPy."""
    backbone, mixed = model.get_layer("backbone"), None
    for number in (1, 2):
        layer = backbone.get_layer(f"block{number}_attention")
        tokens = keras.Model(backbone.input, backbone.get_layer(f"block{number}_norm1").output)(pixels / 127.5 - 1).numpy()
        (query, query_bias), (key, key_bias) = layer.query_dense.get_weights(), layer.key_dense.get_weights()      # (hidden, heads, size)
        q, k = (np.einsum("nth,hes->nets", tokens, kernel) + bias[:, None] for kernel, bias in ((query, query_bias), (key, key_bias)))
        scores = np.exp(q @ k.swapaxes(-1, -2) / np.sqrt(query.shape[-1]))
        scores = (scores / scores.sum(axis=-1, keepdims=True)).mean(axis=1)
        block = 0.5 * scores + 0.5 * np.eye(scores.shape[-1])
        mixed = block if mixed is None else block @ mixed
    return mixed[:, read].mean(axis=1)


def with_strong_weights(model):
    """Weights of a size that makes attention uneven; as they begin, every token looks at all others alike."""
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(scale=0.7, size=weight.shape) for weight in model.get_weights()])
    return model


@pytest.mark.parametrize(("pooling", "read"), [("token", [0]), ("avg", range(1, 10)), ("max", range(1, 10))])
def test_rollout_is_the_formula_worked_by_hand(tiny_vit, pooling, read):
    model = with_strong_weights(tfcnn.build_classifier(tiny_vit, labels=LABELS, weights="none", image_size=48, pooling=pooling))
    pixels = some_photos(3, 48)
    found, expected = attention_rollout(model, pixels), rollout_by_hand(model, pixels, list(read))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert found[:, 1:].std(axis=1).min() > 0.01
    maps = heat_maps(model, pixels, [0, 1, 2])
    np.testing.assert_allclose(maps, scaled(enlarged(expected[:, 1:].reshape(3, 3, 3), 48)), atol=1e-4)
    np.testing.assert_array_equal(maps, heat_maps(model, pixels, [2, 2, 2], method="attention_rollout"))  # it knows of no label


def test_rollout_of_a_network_of_the_caller_reads_what_its_pooling_reads(tiny_vit):
    network = build_vit(32, patch_size=16, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=12)
    model = with_strong_weights(tfcnn.build_classifier(network, labels=LABELS))
    pixels = some_photos(2, 32)
    np.testing.assert_allclose(attention_rollout(model, pixels), rollout_by_hand(model, (pixels + 1) * 127.5, range(5)), atol=1e-5)
    one_block = build_vit(32, patch_size=16, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=12)
    found = attention_rollout(with_strong_weights(tfcnn.build_classifier(one_block, labels=LABELS)), pixels)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


def test_a_saved_vit_gives_the_map_of_the_model_before(tiny_vit, tmp_path):
    model = with_strong_weights(tfcnn.build_classifier(tiny_vit, labels=LABELS, weights="none"))
    pixels = some_photos(2, 32)
    rows = explain(run_of(model, tmp_path / "run", backbone=tiny_vit), pixels)
    assert {row.method for row in rows} == {"attention_rollout"}
    np.testing.assert_allclose([row.heat for row in rows], heat_maps(model, pixels, [0, 0]), atol=1e-6)


# --- integrated gradients ---

def test_integrated_gradients_add_up_to_what_the_photo_adds_to_the_logit(knowing):
    pixels, targets, _ = squares(6, 1, seed=7)
    found = integrated_gradients(knowing, pixels, targets[:, 0])
    logits, black = logits_of(knowing, pixels), logits_of(knowing, np.zeros_like(pixels[:1]))
    expected = (logits - black)[np.arange(6), targets[:, 0]]
    assert found.shape == pixels.shape and found.min() < 0 < found.max() and np.abs(expected).min() > 0.5
    np.testing.assert_allclose(found.sum(axis=(1, 2, 3)), expected, rtol=0.01)
    maps, total = heat_maps(knowing, pixels, targets[:, 0], method="integrated_gradients"), np.abs(found).sum(axis=-1)
    top = np.percentile(total, 99, axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(maps, np.minimum(total / top, 1), atol=1e-5)
    assert 0.005 < (maps == 1).mean() < 0.015


def test_integrated_gradients_of_a_linear_network_are_exact_in_any_number_of_steps(tiny_vit):
    image = keras.Input((4, 4, 2))
    model = tfcnn.build_classifier(keras.Model(image, keras.layers.Flatten()(image)), labels=["a", "b"])
    pixels = some_photos(3, 4, 2)
    kernel = model.get_layer("logits").get_weights()[0]
    for steps in (1, 7, 40):  # also where steps are no multiple of a batch
        expected = pixels * kernel[:, [0, 1, 1]].T.reshape(3, 4, 4, 2)
        np.testing.assert_allclose(integrated_gradients(model, pixels, [0, 1, 1], steps=steps), expected, rtol=1e-4, atol=1e-4)
    assert check_method(model, "auto") == "integrated_gradients"  # it ends in no maps
    smooth = with_strong_weights(tfcnn.build_classifier(tiny_vit, labels=LABELS, weights="none"))
    photos = some_photos(3, 32)
    difference = logits_of(smooth, photos) - logits_of(smooth, np.zeros((1, 32, 32, 3)))
    found = integrated_gradients(smooth, photos, [0, 1, 2], steps=300)
    np.testing.assert_allclose(found.sum(axis=(1, 2, 3)), difference[np.arange(3), np.arange(3)], rtol=0.02)


# --- files and pictures ---

def digests(folder):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_pictures_are_written_beside_photos_that_stay_as_they_are(trained, photos, tmp_path):
    run, _, _ = trained
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    paths = [folder / "red" / "00.jpg", folder / "green" / "00.jpg", folder / "red" / "00.jpg"]
    before = digests(folder)
    rows = explain(run, paths, label="green", output=folder / "red")
    assert [row.path.name for row in rows] == ["00_grad_cam_green.png", "00_grad_cam_green_2.png", "00_grad_cam_green_3.png"]
    assert {path: digest for path, digest in digests(folder).items() if path in before} == before
    assert len(digests(folder)) == len(before) + 3  # no temporary files
    for row in rows:
        with Image.open(row.path) as picture:
            assert picture.size == (2 * 224 + 4, 224) and picture.format == "PNG"
            np.testing.assert_array_equal(np.asarray(picture), np.asarray(row.picture))
    again = explain(run, paths[:1], label="green", output=folder / "red")
    assert again[0].path == rows[0].path and len(digests(folder)) == len(before) + 3


def test_a_file_that_cannot_be_decoded_is_left_out(trained, tmp_path, caplog):
    run, data, _ = trained
    photos = [item.path for item in data.items[:40]]  # more than a batch
    rows = explain(run, [*photos[:2], run.path / "run.json", *photos[2:]], output=tmp_path)
    assert [row.name for row in rows] == photos and "run.json', but it cannot be decoded" in caplog.text
    assert len({row.path for row in rows}) == 40
    alone, = explain(run, photos[-1:])
    np.testing.assert_allclose(rows[-1].heat, alone.heat, atol=1e-5)


def test_a_picture_never_takes_the_place_of_a_photo(trained, photos, tmp_path):
    run, _, _ = trained
    source, named_alike = tmp_path / "a.jpg", tmp_path / "a_grad_cam_red.png"
    shutil.copy(photos / "red" / "00.jpg", source)
    shutil.copy(photos / "red" / "00.jpg", named_alike)
    before = digests(tmp_path)
    rows = explain(run, [source, named_alike], label="red", output=tmp_path)
    assert [row.path.name for row in rows] == ["a_grad_cam_red_2.png", "a_grad_cam_red_grad_cam_red.png"]
    assert {path: digest for path, digest in digests(tmp_path).items() if path in before} == before


def test_names_of_files_hold_what_any_system_takes(tmp_path):
    model = tfcnn.build_classifier(build_features((16, 16, 3), filters=(4,)), labels=["a/b: <c>", "ä" * 100])
    run = run_of(model, tmp_path / "run", labels=["a/b: <c>", "ä" * 100])
    for label, expected in (("a/b: <c>", "array-0_grad_cam_a-b-c-.png"), ("ä" * 100, f"array-0_grad_cam_{'ä' * 40}.png")):
        row, = explain(run, some_photos(1, 16), label=label, output=tmp_path / "out" / "deep")
        assert row.path == tmp_path / "out" / "deep" / expected and row.path.is_file()


def test_an_overlay_colours_what_is_hot_and_leaves_the_rest_grey():
    from matplotlib import colormaps

    photo = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    grey, four, cold = to_grey(photo), np.concatenate([photo, photo[..., :1]], axis=-1), np.zeros((6, 8))
    for pixels in (photo, photo.astype(np.float32), grey, four):
        np.testing.assert_array_equal(np.asarray(overlay(pixels, cold)), np.repeat(grey, 3, axis=-1))
        hot = np.asarray(overlay(pixels, cold + 0.5), float)
        np.testing.assert_allclose(hot, STRENGTH / 2 * 255 * np.array(colormaps[COLOURS](0.5)[:3]) + (1 - STRENGTH / 2) * grey, atol=0.51)
    both = np.asarray(side_by_side(np.full((6, 8, 3), (255, 0, 0), np.uint8), cold))
    assert both.shape == (6 * 28, 2 * 224 + 4, 3)
    assert (both[:, :224] == (255, 0, 0)).all() and (both[:, 224:228] == 255).all() and (both[:, 228:] == 76).all()
    assert "(6, 8, 3) and (8, 6)" in refusal(photo, np.zeros((8, 6)), of=overlay)


def test_feature_maps_are_drawn_from_the_most_varied_each_on_its_own_scale(trained):
    from matplotlib import colormaps

    run, data, model = trained
    pixels = data.inputs[np.array([0])]
    maps = keras.Model(model.input, model.get_layer("pooling").input)(pixels.astype(np.float32)).numpy()[0]
    order = np.argsort(-maps.std(axis=(0, 1)))
    for photo in (data.items[0].path, pixels[0]):
        picture = np.asarray(draw_feature_maps(run, photo, layer="pool3", columns=5, limit=12))
        assert picture.shape == (3 * 68 - 4, 5 * 68 - 4, 3)  # cells of 4x4 pixels, each a square of 16, with gaps of 4
        for place in (0, 7):
            values = maps[..., order[place]]
            expected = colormaps[COLOURS]((values - values.min()) / np.ptp(values))[..., :3] * 255
            row, column = divmod(place, 5)
            np.testing.assert_allclose(picture[row * 68 + 8:row * 68 + 64:16, column * 68 + 8:column * 68 + 64:16], expected, atol=1.01)
    cells = map_cells(np.stack([np.full((3, 3), 5.0), np.eye(3)], axis=-1), 2)
    assert (cells[0][0, 0] > 200).any() and (cells[1] == cells[1][0, 0]).all()  # one that does not vary comes last, and dark
    assert draw_cells([np.zeros((300, 200, 3), np.uint8)] * 3, 8).size == (3 * 85 + 8, 128)


def test_filters_are_drawn_in_the_colours_they_look_for(trained, tmp_path, thin_mobilenet):
    run, _, model = trained
    kernels = model.get_layer("backbone").get_layer("conv1").get_weights()[0]
    picture = np.asarray(draw_filters(run, layer="conv1", columns=4, limit=6), float)
    assert picture.shape == (2 * 70 - 4, 4 * 70 - 4, 3)  # 3x3 numbers, each a square of 22 pixels
    best = kernels[..., np.argmax(np.linalg.norm(kernels.reshape(-1, 16), axis=0))]
    np.testing.assert_allclose(picture[11:66:22, 11:66:22], 127.5 + 127.5 * best / np.abs(best).max(), atol=0.51)
    means = model.get_layer("backbone").get_layer("conv2").get_weights()[0].mean(axis=2)
    best = means[..., np.argmax(np.linalg.norm(means.reshape(-1, 32), axis=0))]
    picture = np.asarray(draw_filters(run, layer="conv2", limit=1), float)
    np.testing.assert_allclose(picture[11:66:22, 11:66:22, 1], 127.5 + 127.5 * best / np.abs(best).max(), atol=0.51)
    assert (kernel_cells(np.zeros((3, 3, 1, 2)), 2)[0] == 128).all()
    network = tfcnn.build_classifier(thin_mobilenet, labels=LABELS, weights="none")
    thin = run_of(network, tmp_path / "thin", backbone=thin_mobilenet)
    kernels = network.get_layer("backbone").get_layer("conv_dw_1").get_weights()[0][..., 0]      # (3, 3, 8): one a channel
    best = kernels[..., np.argmax(np.linalg.norm(kernels.reshape(-1, 8), axis=0))]
    picture = np.asarray(draw_filters(thin, layer="conv_dw_1"), float)
    np.testing.assert_allclose(picture[11:66:22, 11:66:22, 0], 127.5 + 127.5 * best / np.abs(best).max(), atol=0.51)


def test_filters_of_a_network_that_takes_blue_first_are_drawn_red_first(tmp_path):
    model = tfcnn.build_classifier(build_features((16, 16, 3), filters=(2,)), labels=LABELS)
    kernel = np.zeros((3, 3, 3, 2), np.float32)
    kernel[:, :, 0] = 1  # looks for what comes first
    model.get_layer("backbone").get_layer("conv1").set_weights([kernel, np.zeros(2)])
    for backbone, weights, expected in (("vgg16", "none", [128, 128, 255]), ("vgg16", "own", [255, 128, 128]), ("small_cnn", "none", [255, 128, 128])):
        run = run_of(model, tmp_path / f"{backbone}-{weights}")
        run = write_record(run.path, {**run.record, "model": {"backbone": backbone, "weights": weights}})
        assert np.asarray(draw_filters(run, layer="conv1"))[0, 0].tolist() == expected


def test_layers_of_a_keras_model_are_drawn_as_those_of_a_run(trained):
    run, data, _ = trained
    model, photo = run.load_model(), np.asarray(data.inputs[0])
    for drawn in (lambda of: draw_filters(of, layer="conv1"), lambda of: draw_feature_maps(of, photo, layer="pool2")):
        np.testing.assert_array_equal(drawn(model), drawn(run))
    vgg = tfcnn.build_classifier("vgg16", labels=LABELS, weights=None, image_size=32)
    kernel = np.zeros((3, 3, 3, 64), np.float32)
    kernel[:, :, 0] = 1  # of a network that takes blue first
    vgg.get_layer("backbone").get_layer("block1_conv1").set_weights([kernel, np.zeros(64)])
    assert np.asarray(draw_filters(vgg, layer="block1_conv1", limit=1))[0, 0].tolist() == [128, 128, 255]

    plain = tfcnn.build_cnn((8, 8, 1), filters=(4,), hidden=4)
    picture = np.asarray(draw_filters(plain, layer="conv1", columns=1, limit=1), float)
    kernels = plain.get_layer("conv1").get_weights()[0][:, :, 0]
    best = kernels[..., np.argmax(np.linalg.norm(kernels.reshape(9, 4), axis=0))]
    np.testing.assert_allclose(picture[11:66:22, 11:66:22, 0], 127.5 + 127.5 * best / np.abs(best).max(), atol=0.51)
    pixels = some_photos(1, 8, channels=1)
    maps = keras.Model(plain.input, plain.get_layer("relu1").output)(pixels, training=False).numpy()[0]
    expected = draw_cells(map_cells(maps, 4), 2)
    np.testing.assert_array_equal(draw_feature_maps(plain, pixels[0], layer="relu1", columns=2), expected)
    assert "pixels of shape (8, 8, 1) for a keras.Model, got (9, 8, 1)" in refusal(plain, np.zeros((9, 8, 1)), of=draw_feature_maps, layer="relu1")
    assert "got layer='relu2'; did you mean 'relu1'" in refusal(plain, pixels[0], of=draw_feature_maps, layer="relu2")


# --- what is refused ---

def test_what_explain_refuses(trained, tmp_path):
    run, data, _ = trained
    photo = data.items[0].path
    assert "got label='gren'; did you mean 'green'?" in refusal(run, [photo], label="gren")
    assert "got method='gradcam'; did you mean 'grad_cam'?" in refusal(run, [photo], method="gradcam")
    assert "got layer='con2'; did you mean 'conv2'?" in refusal(run, [photo], layer="con2")
    assert "layer='conv2' with method='integrated_gradients'" in refusal(run, [photo], method="integrated_gradients", layer="conv2")
    assert "expected a ViT" in refusal(run, [photo], method="attention_rollout")
    assert "inputs=[]" in refusal(run, [])
    assert "at least one photo, got (0, 32, 32, 3)" in refusal(run, np.zeros((0, 32, 32, 3)))
    assert "(n, 32, 32, 3), got (1, 8, 8, 3)" in refusal(run, np.zeros((1, 8, 8, 3)))
    assert "none of the 1 files can be decoded" in refusal(run, [run.path / "run.json"])
    assert "there is no file" in refusal(run, [tmp_path / "missing.jpg"])
    (tmp_path / "file").write_text("")
    assert "a folder that can be written" in refusal(run, [photo], output=tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_drawing_refuses(trained, tmp_path):
    run, data, _ = trained
    photo = data.items[0].path
    assert "got layer='conv9'; did you mean 'conv" in refusal(run, photo, of=draw_feature_maps, layer="conv9")
    assert "got layer='pool1'; choose one of: conv1, conv2, conv3" in refusal(run, of=draw_filters, layer="pool1")
    assert "got columns=0" in refusal(run, photo, of=draw_feature_maps, layer="conv1", columns=0)
    assert "got limit=1.5" in refusal(run, of=draw_filters, layer="conv1", limit=1.5)
    image = keras.Input((8, 8, 3))
    model = tfcnn.build_classifier(keras.Model(image, keras.layers.Flatten()(image)), labels=LABELS)
    flat = run_of(model, tmp_path / "flat")
    assert "the backbone has none" in refusal(flat, some_photos(1, 8)[0], of=draw_feature_maps, layer="conv1")
    assert "the backbone has none" in refusal(flat, of=draw_filters, layer="conv1")
    assert "ends in feature maps for method='grad_cam', got output_shape=(None, 192); give method='integrated_gradients'" in refusal(
        flat, some_photos(1, 8), method="grad_cam")


def test_what_heat_maps_refuses(tiny_vit):
    model = tfcnn.build_classifier(tiny_vit, labels=LABELS, weights="none")
    pixels = some_photos(2, 32)
    for targets in ([0, 3], [-1, 0], [0], [[0, 1]], [0.5, 1.0], []):
        assert "a target from 0 to 2 for each of 2 photos" in refusal(model, pixels, targets, of=heat_maps)
    assert "give method='attention_rollout', or a layer with maps (choose one of: patch_embedding)" in refusal(
        model, pixels, [0, 1], of=heat_maps, method="grad_cam")
    assert heat_maps(model, pixels, [0, 1], layer="patch_embedding").shape == (2, 32, 32)
    assert "without the layer 'backbone'" in refusal(model.get_layer("backbone"), pixels, [0, 1], of=heat_maps)
    assert "steps=0" in refusal(model, pixels, [0, 1], of=integrated_gradients, steps=0)


def test_a_network_that_diverged_is_named(tmp_path):
    model = tfcnn.build_classifier(build_features((16, 16, 3), filters=(4,)), labels=LABELS)
    model.get_layer("logits").set_weights([np.full((4, 3), np.nan), np.zeros(3)])
    with pytest.raises(tfcnn.WorkError, match="diverged"):
        heat_maps(model, some_photos(1, 16), [0])
    with pytest.raises(tfcnn.WorkError, match="diverged"):
        explain(run_of(model, tmp_path / "run"), some_photos(1, 16))


def test_importing_it_loads_no_tensorflow():
    code = "import sys, tfcnn.evaluation.explain; print([m for m in ('tensorflow', 'keras', 'matplotlib') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]).stdout.strip() == "[]"
