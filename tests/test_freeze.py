"""The plan of `set_trainable`: its table, compiling again, slots that go along."""

import keras
import numpy as np
import pytest

import tfcnn
from tfcnn.errors import InputError
from tfcnn.models.cnn import build_features
from tfcnn.models.freeze import carry_slots, freeze_plan, layers_by_stage, open_stages

PIXELS = np.random.default_rng(0).uniform(0, 255, (4, 16, 16, 3)).astype(np.float32)
TARGETS = np.array([0, 1, 2, 0])


def small():
    keras.utils.set_random_seed(0)
    return tfcnn.build_classifier(build_features((16, 16, 3), filters=(4, 8)), labels=["a", "b", "c"])


def step(model):
    """Paths of the weights that one training step changes."""
    weights = [weight for weight in model.weights if "seed_generator" not in weight.path]
    before = [weight.numpy() for weight in weights]
    model.fit(PIXELS, TARGETS, batch_size=4, verbose=0)
    return {weight.path for weight, old in zip(weights, before, strict=True) if not np.array_equal(weight.numpy(), old)}


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
    assert step(model) == {"logits/kernel", "logits/bias"}
    tfcnn.set_trainable(model, "conv2")
    assert step(model) == {"conv2/kernel", "conv2/bias", "logits/kernel", "logits/bias"}
    tfcnn.set_trainable(model, False)
    assert step(model) == {"logits/kernel", "logits/bias"}


def test_slots_and_step_count_go_along_when_a_stage_is_opened():
    model = small()
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    for _ in range(3):
        step(model)
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
    step(model)
    slots = {variable.path: variable.numpy() for variable in model.optimizer.variables if "momentum" in variable.path}
    tfcnn.set_trainable(model, True)  # without compiling again this dies with a bare KeyError
    now = {variable.path: variable.numpy() for variable in model.optimizer.variables if "momentum" in variable.path}
    assert len(slots) == 4 and all(value.any() and np.array_equal(now[path], value) for path, value in slots.items())
    assert step(model) == {"conv1/kernel", "conv1/bias", "conv2/kernel", "conv2/bias", "logits/kernel", "logits/bias"}


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


@pytest.mark.parametrize(("trainable", "expected"), [
    (False, []), ("none", []), (0, []), (1, ["c"]), (2, ["b", "c"]), ("b", ["b", "c"]), (True, ["a", "b", "c"]), ("all", ["a", "b", "c"])])
def test_the_open_stages_by_name(trainable, expected):
    assert open_stages(["a", "b", "c"], trainable) == expected
