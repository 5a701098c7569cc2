"""`inspect_model`: numbers of layers and stages, and the tables they print as."""

import json

import keras
import pytest
from keras import layers

import tfcnn
from tfcnn.errors import InputError
from tfcnn.models.backbones import BACKBONES
from tfcnn.models.freeze import freeze_plan
from tfcnn.models.inspect import _short, inspect_model
from tfcnn.models.receptive_field import Field


def stages(result):
    return {row.stage: row for row in result.stages}


def test_resnet50_by_stage():
    """Parameters and multiply-adds are those of He et al. 2016, table 1; fields end at the 483 pixels of Araujo et al. 2019."""
    result = inspect_model("resnet50")
    assert (result.name, result.input_shape, result.parameters, result.multiply_adds) == ("resnet50", (224, 224, 3), 23_587_712, 3_855_925_248)
    assert list(stages(result)) == [stage for stage, _ in BACKBONES["resnet50"].stages]
    assert [row.output for row in result.stages] == [(56, 56, 64), (56, 56, 256), (28, 28, 512), (14, 14, 1024), (7, 7, 2048)]
    assert [row.receptive_field.size[0] for row in result.stages] == [11, 35, 99, 291, 483]
    assert [row.receptive_field.stride[0] for row in result.stages] == [4, 4, 8, 16, 32]
    assert stages(result)["conv1"].multiply_adds == 112 * 112 * 49 * 3 * 64
    assert sum(row.multiply_adds for row in result.stages) == result.multiply_adds and result.uncounted == ()


def test_resnet50_prints_as_a_table():
    assert str(inspect_model("resnet50", image_size=64, trainable=2)).splitlines() == [
        "resnet50: 64x64x3 to 2x2x2048",
        "",
        "stage  layers     output  parameters   trainable  mult-adds  field  stride",
        "conv1       2   16x16x64       9,728      frozen     9.63 M     11       4",
        "conv2      20  16x16x256     220,032      frozen     54.5 M     35       4",
        "conv3      26    8x8x512   1,230,336      frozen     77.6 M     99       8",
        "conv4      38   4x4x1024   7,129,088   7,088,128      113 M    291      16",
        "conv5      20   2x2x2048  14,998,528  14,953,472     59.8 M    483      32",
        "total     106             23,587,712  22,041,600      315 M",
        "",
        "field: pixels of the input that one output is computed from; stride: pixels between the fields of neighbours",
        "mult-adds: multiplications, each with its addition, for one example"]


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "efficientnet_b0", "convnext_tiny"])
def test_parameters_of_a_backbone_are_those_of_its_row(name):
    result = inspect_model(name, image_size=64)
    assert result.parameters == BACKBONES[name].parameters
    assert list(stages(result)) == [stage for stage, _ in BACKBONES[name].stages]
    assert 0 < result.trainable <= result.parameters and result.uncounted == ()


@pytest.mark.parametrize("trainable", [False, 2, "stage4"])
def test_the_stages_are_those_of_the_plan_of_a_training(trainable):
    model = tfcnn.build_classifier("mobilenet_v3_small", labels=["a", "b"], weights="none", image_size=64)
    tfcnn.set_trainable(model, trainable)
    planned = [(row.stage, row.layers, row.parameters, row.trainable) for row in freeze_plan(model).stages]
    of_model = inspect_model(model)
    assert [(row.stage, row.layers, row.parameters, row.trainable) for row in of_model.stages] == planned
    assert of_model.parameters == model.count_params()
    of_name = inspect_model("mobilenet_v3_small", image_size=64, trainable=trainable)
    assert [row.trainable for row in of_name.stages] == [row.trainable for row in of_model.stages[:-1]]


def test_a_name_has_all_stages_open_and_its_batch_norm_frozen():
    for row in inspect_model("resnet50", image_size=32).layers:
        assert row.trainable == (0 if row.kind == "BatchNormalization" else row.parameters), row.name


def test_a_field_that_gates_scale_has_a_star():
    lines = str(inspect_model("mobilenet_v3_small", image_size=64)).splitlines()
    assert [line.split()[-2] for line in lines[3:6]] == ["3", "7*", "31*"]
    assert len({line.rindex(line.split()[-1][-1]) for line in lines[3:9]}) == 1  # numbers stand under each other
    assert any(line.startswith("*: ") for line in lines)


def test_what_stands_before_the_backbone_is_a_group_of_its_own():
    model = tfcnn.build_classifier("resnet50", labels=["a", "b"], weights="none", image_size=32, hidden=(8,))
    first, *middle, last = inspect_model(model).stages
    assert (first.stage, first.parameters, first.output, first.receptive_field.size) == ("input", 0, (32, 32, 3), (1, 1))
    assert (last.stage, last.parameters, last.output, last.multiply_adds) == ("head", 2048 * 8 + 8 + 8 * 2 + 2, (2,), 2048 * 8 + 16)
    assert last.receptive_field == Field(whole=True) and len(middle) == 5


def test_every_layer_stands_under_its_stage():
    lines = inspect_model("mobilenet", image_size=32).table(layers=True).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("layer "))
    groups = [line for line in lines[start + 1:] if line and not line.startswith("  ")]
    assert groups[:5] == ["stem", "stage1", "stage2", "stage3", "stage4"]
    assert lines[start + 2].split() == ["conv1", "Conv2D", "16x16x32", "864", "yes", "221", "k", "3"]
    assert lines[start + 3].split() == ["conv1_bn", "BatchNormalization", "16x16x32", "128", "no", "3"]
    assert max(map(len, lines)) <= 120


def test_a_network_of_ones_own_has_a_stage_for_each_layer_with_weights():
    result = inspect_model(tfcnn.build_cnn())
    assert [(row.stage, row.output, row.parameters, row.multiply_adds) for row in result.stages] == [
        ("image", (28, 28, 1), 0, 0), ("conv1", (14, 14, 32), 320 + 128, 784 * 9 * 32), ("conv2", (7, 7, 64), 18_496 + 256, 196 * 288 * 64),
        ("hidden", (512,), 3136 * 512 + 512, 3136 * 512), ("predictions", (10,), 5130, 5120)]
    assert result.parameters == tfcnn.build_cnn().count_params() and result.trainable == 1_630_282
    assert [row.receptive_field.size for row in result.stages] == [(1, 1), (4, 4), (10, 10), None, None]


def test_signals_and_volumes_are_told_axis_by_axis():
    signal = keras.Sequential([keras.Input((100, 2)), layers.Conv1D(4, 5, strides=2, name="conv"), layers.MaxPooling1D(3)], name="signal")
    assert str(inspect_model(signal)).splitlines()[3].split() == ["conv", "1", "16x4", "44", "44", "1.92", "k", "9", "6"]
    volume = keras.Sequential([keras.Input((8, 16, 16, 1)), layers.Conv3D(4, (1, 3, 3), strides=(1, 2, 2), name="conv")], name="volume")
    assert str(inspect_model(volume)).splitlines()[3].split()[-2:] == ["1x3x3", "1x2x2"]


def test_weights_that_two_layers_share_count_once():
    conv = layers.Conv2D(3, 3, padding="same", name="conv")
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.Sequential([keras.Input((8, 8, 3)), conv]), keras.Sequential([keras.Input((8, 8, 3)), conv])])
    result = inspect_model(model)
    assert [row.parameters for row in result.layers] == [84, 0] and result.parameters == model.count_params()
    assert result.multiply_adds == 2 * 64 * 27 * 3


def test_layers_that_are_not_known_are_named():
    class Own(layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=(shape[-1],))

        def call(self, x):
            return x * self.scale

    model = keras.Sequential([keras.Input((8, 8, 3)), Own(name="own"), layers.Conv2D(2, 3, name="conv")])
    result = inspect_model(model)
    assert result.uncounted == ("own",) and result.multiply_adds == 36 * 27 * 2
    lines = str(result).splitlines()
    assert lines[3].split()[-1] == lines[4].split()[-1] == "?"
    assert "mult-adds without those of own, which are not known" in lines and any(line.startswith("?: not known") for line in lines)


def test_a_model_of_open_size_is_looked_at_in_a_size():
    model = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(2, 3, strides=2)], name="open")
    assert inspect_model(model, image_size=21).layers[0].output == (10, 10, 2)
    with pytest.raises(InputError, match="expected a model of fixed input size"):
        inspect_model(model)


def test_a_run_has_the_stages_and_flags_that_it_was_saved_with(trained):
    run, _, model = trained
    result = inspect_model(run.path)
    assert result == inspect_model(run) and result.name == str(run.path)
    assert [row.stage for row in result.stages] == ["conv1", "conv2", "conv3", "head"]
    assert result.parameters == model.count_params()
    assert result.trainable == inspect_model(model).trainable
    assert [row.trainable for row in inspect_model(run, trainable="conv2").stages] == [0, 4640, 18_496, 195]


def test_the_values_are_plain():
    values = json.loads(json.dumps(inspect_model("mobilenet_v3_small", image_size=32).to_dict()))
    assert values["parameters"] == 939_120 and values["input_shape"] == [32, 32, 3] and values["uncounted"] == []
    assert sum(row["parameters"] for row in values["layers"]) == sum(row["parameters"] for row in values["stages"]) == 939_120
    assert values["layers"][1] == {"stage": "stem", "name": "conv", "kind": "Conv2D", "output": [16, 16, 16], "parameters": 432, "trainable": 432,
                                   "multiply_adds": 256 * 27 * 16,
                                   "receptive_field": {"size": [3, 3], "stride": [2, 2], "offset": [1, 1], "whole": False}}


@pytest.mark.parametrize(("model", "arguments", "message"), [
    ("resnet5", {}, "expected the name of a backbone or a run folder, got 'resnet5', and there is no such folder; did you mean 'resnet50'"),
    ("runs/none", {}, "got 'runs/none', and there is no such folder; check the path"),
    ("resnet50", {"image_size": 31}, "expected an image size from 32 to 2048 pixels for resnet50, got image_size=31"),
    ("resnet50", {"trainable": "conv6"}, "did you mean 'conv5'"),
    (3, {}, "expected a functional or Sequential keras.Model that is built, got model=int"),
])
def test_what_cannot_be_inspected_is_refused(model, arguments, message):
    with pytest.raises(InputError) as error:
        inspect_model(model, **arguments)
    assert message in str(error.value)


def test_a_folder_without_a_run_and_wrong_sizes_of_models_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"has no run\.json"):
        inspect_model(tmp_path)
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 3)], name="small")
    with pytest.raises(InputError, match="expected the size that the model takes, 8x8 pixels, got image_size=9"):
        inspect_model(model, image_size=9)
    with pytest.raises(InputError, match="got trainable=1 for 'small'; set the flags of its layers yourself"):
        inspect_model(model, trainable=1)


@pytest.mark.parametrize(("count", "text"), [(0, ""), (7, "7"), (999, "999"), (1000, "1.00 k"), (9_996, "10.0 k"), (99_960, "100 k"), (999_600, "1.00 M"),
                                             (56_512_000, "56.5 M"), (3_855_925_248, "3.86 G"), (60_900_000_000, "60.9 G"), (1_234_000_000_000, "1230 G")])
def test_counts_are_shortened_to_three_digits(count, text):
    assert _short(count) == text
