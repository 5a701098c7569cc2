"""The plan of `set_trainable`: its table, compiling again, slots that go along."""

import keras
import numpy as np
import pytest
from conftest import moved_by_a_step

import tfcnn
from tfcnn.errors import InputError
from tfcnn.models.cnn import build_features
from tfcnn.models.freeze import carry_slots, every_layer, freeze_plan, layers_by_stage, open_stages
from tfcnn.training.head import seed_dropout

PIXELS = np.random.default_rng(0).uniform(0, 255, (4, 16, 16, 3)).astype(np.float32)


def small():
    keras.utils.set_random_seed(0)
    return tfcnn.build_classifier(build_features((16, 16, 3), filters=(4, 8)), labels=["a", "b", "c"])


def test_the_plan_counts_layers_and_parameters_of_each_stage():
    plan = tfcnn.set_trainable(small(), 1)
    first, second, logits = 27 * 4 + 4, 36 * 8 + 8, 8 * 3 + 3
    assert [tuple(row) for row in plan.stages] == [("conv1", 1, first, 0, None), ("conv2", 1, second, second, None), ("head", 1, logits, logits, None)]
    assert [variable.path for variable in plan.planned] == ["conv2/kernel", "conv2/bias", "logits/kernel", "logits/bias"]


def test_the_plan_prints_as_a_table():
    plan = tfcnn.set_trainable(small(), 1).with_rates({"conv1": 1e-5, "conv2": 1e-4, "head": 1e-3})
    assert str(plan).splitlines() == [
        "stage  layers   parameters    trainable      rate",
        "conv1       1          112       frozen",
        "conv2       1          296          296   1.0e-04",
        "head        1           27           27   1.0e-03",
        "total       3          435          323"]


def test_every_variable_of_a_model_belongs_to_one_stage():
    model = tfcnn.build_classifier("mobilenet_v3_small", labels=["a", "b"], weights=None, image_size=32)
    groups = layers_by_stage(model)
    assert [name for name, _ in groups] == ["stem", "stage1", "stage2", "stage3", "stage4", "top", "head"]
    paths = [weight.path for _, layers in groups for layer in layers for weight in layer.weights]
    assert sorted(paths) == sorted(weight.path for weight in model.weights)


def test_a_compiled_model_learns_what_was_opened_afterwards():
    model = small()
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    assert moved_by_a_step(model, PIXELS) == {"logits/kernel", "logits/bias"}
    tfcnn.set_trainable(model, "conv2")
    assert moved_by_a_step(model, PIXELS) == {"conv2/kernel", "conv2/bias", "logits/kernel", "logits/bias"}
    tfcnn.set_trainable(model, False)
    assert moved_by_a_step(model, PIXELS) == {"logits/kernel", "logits/bias"}


@pytest.mark.slow
def test_slots_and_step_count_go_along_when_a_stage_is_opened():
    model = small()
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    for _ in range(3):
        moved_by_a_step(model, PIXELS)
    before = {variable.path: variable.numpy() for variable in model.optimizer.variables}
    assert any(np.abs(value).max() > 0 for path, value in before.items() if "logits" in path)
    tfcnn.set_trainable(model, True)
    after = {variable.path: variable.numpy() for variable in model.optimizer.variables}
    assert int(model.optimizer.iterations) == 3 and len(after) == len(before) + 8  # two momenta of four variables that were opened
    for path, value in before.items():
        np.testing.assert_array_equal(after[path], value)
    assert all(not after[path].any() for path in set(after) - set(before))


def test_members_of_a_multi_optimizer_keep_their_slots():
    model = small()
    tfcnn.set_trainable(model, 1)
    members = keras.optimizers.OptimizerMap(keras.optimizers.Adam(1e-3))
    members["conv.*"] = keras.optimizers.Adam(1e-5)
    model.compile(keras.optimizers.MultiOptimizer(members), "sparse_categorical_crossentropy")
    moved_by_a_step(model, PIXELS)
    slots = {variable.path: variable.numpy() for variable in model.optimizer.variables if "momentum" in variable.path}
    tfcnn.set_trainable(model, True)  # without compiling again this dies with a bare KeyError
    now = {variable.path: variable.numpy() for variable in model.optimizer.variables if "momentum" in variable.path}
    assert len(slots) == 4 and all(value.any() and np.array_equal(now[path], value) for path, value in slots.items())
    assert moved_by_a_step(model, PIXELS) == {"conv1/kernel", "conv1/bias", "conv2/kernel", "conv2/bias", "logits/kernel", "logits/bias"}


def test_slots_of_another_shape_are_left_alone():
    old, new = keras.optimizers.SGD(momentum=0.9), keras.optimizers.SGD(momentum=0.9)
    old.build([keras.Variable(np.zeros(3), name="weight")])
    new.build([keras.Variable(np.zeros(4), name="weight")])
    old.variables[-1].assign(np.ones(3))
    carry_slots(old, new)
    np.testing.assert_array_equal(new.variables[-1].numpy(), np.zeros(4))


def test_batch_norm_learns_only_where_it_is_asked_to_and_its_stage_is_open():
    model = tfcnn.build_classifier("mobilenet_v3_small", labels=["a", "b"], weights=None, image_size=32)
    frozen = tfcnn.set_trainable(model, 1)
    assert not any("bn" in variable.path for variable in frozen.planned)
    plan = tfcnn.set_trainable(model, 1, batch_norm="train")
    norms = sorted(variable.path for variable in plan.planned if "bn" in variable.path)
    assert norms == [f"conv_1_bn/{name}" for name in ("beta", "gamma", "moving_mean", "moving_variance")]
    assert [path for path in norms if "moving" not in path] == sorted(w.path for w in model.trainable_weights if "bn" in w.path)
    assert [variable.path for variable in freeze_plan(model).planned] == [variable.path for variable in plan.planned]


def test_bad_values_are_refused_before_anything_is_changed():
    model = small()
    tfcnn.set_trainable(model, 1)
    with pytest.raises(InputError, match="expected batch_norm frozen or train, got batch_norm='open'"):
        tfcnn.set_trainable(model, True, batch_norm="open")
    assert [layer.trainable for layer in model.get_layer("backbone").layers if layer.weights] == [False, True]


def test_a_loss_that_keras_cannot_rebuild_is_named():
    model = small()

    def own_loss(target, scores):
        return keras.ops.mean(scores)

    model.compile("adam", own_loss)
    with pytest.raises(InputError, match=r"whose loss and metrics Keras can rebuild, got .*register them, or set what is trainable before compile"):
        tfcnn.set_trainable(model, True)
    assert not model.get_layer("backbone").get_layer("conv1").trainable


@pytest.mark.parametrize("trainable", [["conv2"], 1.5, None])
def test_what_is_no_stage_is_refused(trainable):
    with pytest.raises(InputError) as refused:
        tfcnn.set_trainable(small(), trainable)
    assert str(refused.value) == f"expected none, all, a number or one stage to train from, got trainable={trainable!r}"


@pytest.mark.parametrize(("trainable", "expected"), [
    (False, []), ("none", []), (0, []), (1, ["c"]), (2, ["b", "c"]), ("b", ["b", "c"]), (True, ["a", "b", "c"]), ("all", ["a", "b", "c"])])
def test_the_open_stages_by_name(trainable, expected):
    assert open_stages(["a", "b", "c"], trainable) == expected


class Block(keras.layers.Layer):
    """Holds its layers as attributes, as blocks of KerasHub do."""

    def __init__(self, filters, **options):
        super().__init__(**options)
        self.conv, self.bn = keras.layers.Conv2D(filters, 3, strides=4, name="conv"), keras.layers.BatchNormalization(name="bn")
        self.dropout = keras.layers.Dropout(0.5, name="inner_dropout")

    def build(self, shape):
        self.conv.build(shape)
        self.bn.build(self.conv.compute_output_shape(shape))

    def call(self, x, training=False):
        return self.dropout(self.bn(self.conv(x), training=training), training=training)


def test_batch_norm_and_dropout_inside_of_composite_layers_are_found():
    image = keras.Input((16, 16, 3))
    model = tfcnn.build_classifier(keras.Model(image, Block(4, name="block2")(Block(3, name="block1")(image))), labels=["a", "b", "c"])
    tfcnn.set_trainable(model, 1)
    assert {variable.path.split("/", 1)[1] for variable in freeze_plan(model).planned} == {"conv/kernel", "conv/bias", "kernel", "bias"}
    model.compile(keras.optimizers.SGD(1.0), "sparse_categorical_crossentropy")
    assert moved_by_a_step(model, PIXELS) == {"block2/conv/kernel", "block2/conv/bias", "logits/kernel", "logits/bias"}
    tfcnn.set_trainable(model, 1, batch_norm="train")
    norms = {path for path in moved_by_a_step(model, PIXELS) if "bn" in path}
    assert norms == {f"block2/bn/{name}" for name in ("beta", "gamma", "moving_mean", "moving_variance")}
    seed_dropout(model, 3)
    assert sorted(layer.seed_generator.state.numpy()[0] for layer in every_layer(model) if hasattr(layer, "seed_generator")) == [3, 3, 3]


def test_a_model_that_was_trained_is_compiled_like_any_other(data, tmp_path):
    model = tfcnn.build_classifier(build_features((8, 8, 3), filters=(4, 4)), labels=data.labels)
    tfcnn.train(model, data, tfcnn.TrainingConfig(epochs=1, trainable=1), output=tmp_path / "run")
    assert not model.compiled and not model.get_layer("backbone").get_layer("conv1").trainable
    tfcnn.set_trainable(model, True)
    model.compile(keras.optimizers.SGD(1e-5), "sparse_categorical_crossentropy")
    assert {"conv1/kernel", "conv2/kernel", "logits/kernel"} <= moved_by_a_step(model, PIXELS[:, :8, :8])


def test_a_model_of_another_maker_is_named(tmp_path, trained):
    run, _, _ = trained
    for model in (run.load_model(), keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="mine")):
        with pytest.raises(InputError, match=f"expected a model from build_classifier, got '{model.name}'; .*weights=RUN"):
            tfcnn.set_trainable(model, True)
    with pytest.raises(InputError, match="expected a model from build_classifier, got '3'"):
        tfcnn.set_trainable(3, True)
