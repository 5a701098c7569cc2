"""The contract that every row of BACKBONES keeps."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import moved_by_a_step

import tfcnn
from tfcnn.models.backbones import BACKBONES, VIT, build_network, preprocess_function
from tfcnn.models.freeze import every_layer, stages_of

LABELS = ["a", "b", "c"]
DEFAULT = ("resnet50", "efficientnet_b0", "mobilenet_v3_small")  # the others are slow
ROWS = [pytest.param(name, marks=[] if name in DEFAULT else [pytest.mark.slow]) for name in BACKBONES]
LARGE = 40_000_000  # parameters from which a row is tested at its smallest size and with one open stage: time and memory


def size_of(name):
    row = BACKBONES[name]  # a deep EfficientNet at 32 pixels has maps of one pixel, whose statistics over eight photos amplify rounding
    return max(row.minimum_size, 64 if row.parameters < LARGE or row.build == VIT or row.build.startswith("EfficientNet") else 32)


def some_photos(count, size):
    return np.random.default_rng(0).uniform(0, 255, (count, size, size, 3)).astype(np.float32)


def batch_norms(model):
    return [layer for layer in model.get_layer("backbone").layers if isinstance(layer, keras.layers.BatchNormalization)]


def build(name):
    """A classifier with random weights whose BatchNorm statistics fit them, else the signal fades in a deep network."""
    keras.utils.set_random_seed(0)
    model = tfcnn.build_classifier(name, labels=LABELS, weights="none", image_size=size_of(name))
    standardise_as_imagenet(model.get_layer("backbone"))
    norms = batch_norms(model)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.trainable, norm.momentum = True, 0.0
    if norms:
        model(some_photos(8, size_of(name)), training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.trainable, norm.momentum = False, momentum
    return model


def standardise_as_imagenet(network):
    """What the files of ImageNet weights put into the Normalization layer of an EfficientNet; other networks have none with weights."""
    for layer in network.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.weights:
            layer.set_weights([np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]), np.array(0)])
            layer.finalize_state()


def own_network(name, weights, folder, monkeypatch):
    """(the network as Keras or KerasHub builds it, its own `preprocess_input`), found here without the table's preprocessing."""
    row, size = BACKBONES[name], size_of(name)
    if row.build == VIT:
        import keras_hub

        return keras_hub.models.ViTBackbone(image_shape=(size, size, 3), **row.options), lambda pixels: pixels / 127.5 - 1
    function = getattr(keras.applications, row.build)
    arguments = {"include_top": False, "input_shape": (size, size, 3), **row.options}
    if row.build.startswith("EfficientNetB"):  # with ImageNet weights Keras builds another graph: give it a file of our own as the download
        file = folder / "efficientnet.weights.h5"
        function(weights=None, **arguments).save_weights(file)
        monkeypatch.setattr("keras.src.applications.efficientnet.file_utils.get_file", lambda *_, **__: str(file))
        network = function(weights="imagenet", **arguments)
    else:
        network = function(weights=None, **arguments)
    network.set_weights(weights)
    standardise_as_imagenet(network)
    return network, sys.modules[function.__module__].preprocess_input


def check_preprocessing(name, model, folder, monkeypatch):
    """Raw pixels in: the graph prepares them like the network's own `preprocess_input`."""
    pixels, backbone = some_photos(4, size_of(name)), model.get_layer("backbone")
    network, own = own_network(name, backbone.get_weights(), folder, monkeypatch)
    if BACKBONES[name].build == VIT:
        from tfcnn.models.vit import _copy

        _copy(network, backbone)
        reduce = lambda tokens: tokens.numpy()[:, 0]
    else:
        reduce = lambda maps: maps.numpy().mean(axis=(1, 2))
        names = [layer.name for layer in network.layers]
        assert [layer for _, layer in BACKBONES[name].stages] == [layer for layer in names if layer in dict(map(reversed, BACKBONES[name].stages))]
    expected = reduce(network(own(pixels.copy()), training=False))
    pooled = keras.Model(model.input, model.get_layer("pooling").output)(pixels, training=False).numpy()
    assert np.abs(pooled - expected).max() < 1e-4 * np.abs(expected).max()
    wrong = reduce(network(own(pixels / 255), training=False))
    assert np.abs(wrong - expected).max() > 1e-2 * np.abs(expected).max()  # a wrong scale shows


def ancestors(network):
    """For every layer and operation of a network the names of the layers with weights that its output is computed from, its own too."""
    found = {}

    def names(tensor):
        operation, node, _ = tensor._keras_history
        if operation.name not in found:
            own = {operation.name} if getattr(operation, "weights", None) else set()
            found[operation.name] = frozenset(own.union(*(names(before) for before in operation._inbound_nodes[node].input_tensors)))
        return found[operation.name]

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        names(network.output)
    finally:
        sys.setrecursionlimit(limit)
    return set(found.values())


def check_stages(name, model):
    """Each stage begins at a layer of its own; what stands before it is all that one tensor is computed from."""
    row, backbone = BACKBONES[name], model.get_layer("backbone")
    position = {layer.name: index for index, layer in enumerate(backbone.layers)}
    assert stages_of(model) == [(stage, position[layer]) for stage, layer in row.stages]
    firsts = [index for _, index in stages_of(model)]
    assert firsts == sorted(set(firsts)) and len(dict(row.stages)) == len(row.stages) >= 5
    assert all(backbone.layers[index].weights for index in firsts)
    before = [layer for layer in backbone.layers[:firsts[0]] if layer.weights]
    assert all(isinstance(layer, keras.layers.Normalization) and not layer._trainable_variables for layer in before)  # nothing that could learn
    cuts = ancestors(backbone)
    for index in firsts[1:]:
        assert frozenset(layer.name for layer in backbone.layers[:index] if layer.weights) in cuts, backbone.layers[index].name


def check_opening(name, model):
    """A number opens the last stages, a name opens from that stage on, each stage more than the one after it, BatchNorm never."""
    row, backbone = BACKBONES[name], model.get_layer("backbone")
    opened = [0]
    for count, (stage, _) in enumerate(reversed(row.stages), start=1):
        tfcnn.set_trainable(model, count)
        by_number = [weight.path for weight in backbone.trainable_weights]
        tfcnn.set_trainable(model, stage)
        assert by_number == [weight.path for weight in backbone.trainable_weights]
        assert len(by_number) == len(set(by_number)) > opened[-1], stage
        assert not any(layer.trainable for layer in batch_norms(model))
        opened.append(len(by_number))
    tfcnn.set_trainable(model, True)
    assert len(backbone.trainable_weights) == opened[-1]
    assert opened[-1] == sum(len(layer.trainable_variables) for layer in backbone.layers if not isinstance(layer, keras.layers.BatchNormalization))


def check_training(name, model):
    """Training moves the open stages and nothing else, no statistic of a BatchNorm either."""
    row, backbone, pixels, head = BACKBONES[name], model.get_layer("backbone"), some_photos(4, size_of(name)), {"logits/kernel", "logits/bias"}
    for layer in every_layer(model):
        if isinstance(layer, keras.layers.Dropout):  # EfficientNet drops whole branches, which for few photos may be all of a step
            layer.rate = 0.0
    tfcnn.set_trainable(model, False)
    assert moved_by_a_step(model, pixels) == head

    count = 1 if row.parameters > LARGE and row.build != VIT else 2
    first = [layer.name for layer in backbone.layers].index(row.stages[-count][1])
    planned = {weight.path for layer in backbone.layers[first:] if not isinstance(layer, keras.layers.BatchNormalization)
               for weight in layer.weights if "seed_generator" not in weight.path}
    tfcnn.set_trainable(model, count)
    moved = moved_by_a_step(model, pixels)
    assert moved <= planned | head
    assert not [path for path in (planned | head) - moved if not path.endswith("key/bias")]  # softmax ignores what is added to every key alike


def parameters_at(name, size):
    """Those of the row; a ViT has one position for each patch."""
    row = BACKBONES[name]
    if row.build != VIT:
        return row.parameters
    patches = [(side // row.options["patch_size"]) ** 2 for side in (row.image_size, size)]
    return row.parameters + (patches[1] - patches[0]) * row.options["hidden_dim"]


@pytest.mark.parametrize("name", ROWS)
def test_a_row_of_backbones_keeps_the_contract(name, tmp_path, monkeypatch):
    model = build(name)
    assert model.get_layer("backbone").count_params() == parameters_at(name, size_of(name))
    check_stages(name, model)
    check_preprocessing(name, model, tmp_path, monkeypatch)

    # Plain Keras opens the file.
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert "tfcnn" not in loaded.to_json() and "keras_hub" not in loaded.to_json()
    pixels = some_photos(4, size_of(name))
    np.testing.assert_allclose(loaded(pixels).numpy(), model(pixels).numpy(), atol=1e-6)
    del loaded
    (tmp_path / "model.keras").unlink()  # up to 1.4 GB

    check_opening(name, model)
    check_training(name, model)


def test_the_table_names_every_network_that_keras_builds_alike_each_time():
    """Left out: Inception and Xception, whose layer names change from build to build, and NASNetLarge, which takes 331 pixels or more time than a day."""
    functions = {name for name in dir(keras.applications) if name[0].isupper()}
    assert functions - {row.build for row in BACKBONES.values()} == {"InceptionV3", "InceptionResNetV2", "Xception", "NASNetLarge"}
    assert list(BACKBONES)[:6] == ["resnet50", "efficientnet_b0", "mobilenet_v3_small", "mobilenet_v3_large", "vgg16", "vit_b_16"]


def test_the_largest_published_count_is_that_of_the_row():
    """KerasHub publishes 85,798,656 parameters for its preset of ViT-B/16 at 224 pixels."""
    assert BACKBONES["vit_b_16"].parameters == parameters_at("vit_b_16", 224) == 85_798_656


@pytest.mark.parametrize("name", ["vgg16", "mobilenet_v3_small", "efficientnet_b0"])
def test_the_smallest_image_is_what_keras_takes(name):
    row = BACKBONES[name]
    assert build_network(row, row.minimum_size).output_shape[1:3] == (1, 1)
    with pytest.raises(ValueError, match=f"at least {row.minimum_size}x{row.minimum_size}"):
        build_network(row, row.minimum_size - 1)


def test_names_are_listed_in_order():
    assert tfcnn.list_backbones() == sorted(BACKBONES)
    assert "mobilenet_v3_small" in tfcnn.list_backbones()


def test_the_table_needs_no_tensorflow():
    code = "import sys, tfcnn.models.backbones; print([m for m in ('tensorflow', 'keras', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_preprocessing_of_a_row_is_that_of_its_network():
    pixels = np.full((1, 2, 2, 3), [255.0, 127.5, 0.0], np.float32)
    of = lambda name: preprocess_function(BACKBONES[name])(pixels.copy())[0, 0, 0]
    np.testing.assert_array_equal(of("mobilenet_v3_small"), pixels[0, 0, 0])
    np.testing.assert_allclose(of("mobilenet_v2"), [1, 0, -1])
    np.testing.assert_allclose(of("vit_b_16"), [1, 0, -1])
    np.testing.assert_allclose(of("resnet50"), [-103.939, 127.5 - 116.779, 255 - 123.68], rtol=1e-5)
    np.testing.assert_allclose(of("densenet121"), [(1 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, -0.406 / 0.225], rtol=1e-5)
