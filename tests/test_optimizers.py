"""Rates and weight decay by group."""

from dataclasses import replace

import keras
import numpy as np
import pytest

import tfcnn
from tfcnn.errors import InputError
from tfcnn.models.cnn import build_features
from tfcnn.models.freeze import layers_by_stage, stages_of
from tfcnn.training.config import OPTIMIZERS, TrainingConfig
from tfcnn.training.optimizers import stage_optimizer, stage_rates
from tfcnn.training.rule import complete

CONFIG = TrainingConfig(learning_rate=2e-4, head_learning_rate=1e-3, weight_decay=0.01)


def built(trainable, steps, config=CONFIG):
    """A small classifier with its optimizer, ready to apply gradients, and the optimizer's members by stage."""
    keras.utils.set_random_seed(0)
    model = tfcnn.build_classifier(build_features((8, 8, 3), filters=(4, 4)), labels=["a", "b"])
    tfcnn.set_trainable(model, trainable)
    optimizer, members = stage_optimizer(model, replace(config, trainable=trainable), steps)
    optimizer.build(model.trainable_variables)
    return model, optimizer, members


def apply(model, optimizer, gradient):
    """What one step with the same gradient everywhere adds to each variable, by path."""
    before = [variable.numpy() for variable in model.trainable_variables]
    optimizer.apply([np.full(variable.shape, gradient, np.float32) for variable in model.trainable_variables], model.trainable_variables)
    return {variable.path: variable.numpy() - old for variable, old in zip(model.trainable_variables, before, strict=True)}


def rates_of(members, step):
    """The rate of each stage at a step."""
    rates = {}
    for stage, member in members.items():
        member.iterations.assign(step)
        rates[stage] = pytest.approx(float(member.learning_rate), abs=1e-9)
    return rates


@pytest.mark.parametrize(("step", "share"), [
    (0, 0.1), (5, 0.6), (9, 1.0), (10, 1.0), (10 + 30, 0.75), (10 + 45, 0.5), (10 + 60, 0.25), (100, 0.0),
])
def test_rates_rise_over_a_tenth_of_the_steps_and_fall_along_a_cosine(step, share):
    _, _, members = built(True, 100)
    assert rates_of(members, step) == {"conv1": 2e-4 * share, "conv2": 2e-4 * share, "head": 1e-3 * share}


def test_a_constant_schedule_stays_after_the_warm_up_and_without_one_from_the_start():
    _, _, members = built(True, 100, replace(CONFIG, schedule="constant"))
    assert [rates_of(members, step)["head"] for step in (0, 10, 60, 200)] == [1e-4, 1e-3, 1e-3, 1e-3]
    _, _, members = built(True, 100, replace(CONFIG, schedule="constant", warm_up=0))
    assert [rates_of(members, step)["head"] for step in (0, 1, 100)] == [1e-3, 1e-3, 1e-3]


def test_a_frozen_stage_has_no_rate():
    assert list(built(False, 100)[2]) == ["head"]
    assert list(built(1, 100)[2]) == ["conv2", "head"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_group_moves_by_its_own_rate(optimizer):
    config = replace(CONFIG, learning_rates={"conv1": 1e-5, "conv2": 1e-4, "head": 1e-3}, optimizer=optimizer, schedule="constant", warm_up=0,
                     weight_decay=0, clip_norm=0)
    model, built_optimizer, _ = built(True, 10, config)
    for variable in model.trainable_variables:
        variable.assign(np.zeros(variable.shape))  # where float32 shows the smallest steps
    moved = apply(model, built_optimizer, 0.5)
    first = {"adamw": 1, "adam": 1, "lion": 1, "sgd": 0.5 * 1.9}[optimizer]  # Adam and Lion begin with the rate itself; Nesterov adds 0.9 of the gradient to it
    assert len(moved) == 6
    for path, change in moved.items():
        rate = {"conv1": 1e-5, "conv2": 1e-4, "logits": 1e-3}[path.split("/")[0]]
        np.testing.assert_allclose(change, -first * rate, rtol=1e-3, err_msg=path)


def test_rates_by_stage_fall_with_the_distance_from_the_head():
    config = TrainingConfig(trainable=2, learning_rate=1e-3, head_learning_rate=2e-3, layer_decay=0.5)
    assert stage_rates(["a", "b", "c"], config) == pytest.approx({"to_rgb": 0.5e-3, "a": 0.25e-3, "b": 0.5e-3, "c": 1e-3, "head": 2e-3})
    assert stage_rates(["a", "b", "c"], replace(config, learning_rates={"b": 1e-5})) == pytest.approx({
        "to_rgb": 1e-5, "a": 0.25e-3, "b": 1e-5, "c": 1e-3, "head": 2e-3})


def test_a_rate_for_what_is_not_there_or_stays_frozen_is_refused():
    with pytest.raises(InputError, match=r"got one for 'conv5'; choose one of: a, b, head"):
        stage_rates(["a", "b"], TrainingConfig(trainable=1, learning_rates={"conv5": 1e-5}))
    with pytest.raises(InputError, match=r"got one for 'a', which stays frozen with trainable=1; leave it out, or give --trainable a"):
        stage_rates(["a", "b"], TrainingConfig(trainable=1, learning_rates={"a": 1e-5, "head": 1e-3}))


def test_kernels_decay_and_biases_do_not():
    model, optimizer, _ = built(True, 10)
    apply(model, optimizer, 0.0)
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    moved = apply(model, optimizer, 0.0)
    assert len(moved) == 6
    for path, change in moved.items():
        expected = 0 if path.endswith("bias") else -0.01 * (1e-3 if path.startswith("logits") else 2e-4)
        np.testing.assert_allclose(change, expected, atol=1.5e-7, err_msg=path)  # float32 around 1


def test_no_bias_of_a_transformer_decays_whatever_its_shape(tiny_vit):
    """Those of attention are matrices: one row a head."""
    model = tfcnn.build_classifier(tiny_vit, labels=["a", "b"], weights=None)
    tfcnn.set_trainable(model, True)
    config = complete(CONFIG, photos=10, stages=[name for name, _ in stages_of(model)])
    optimizer, _ = stage_optimizer(model, replace(config, trainable=True, weight_decay=0.5), 10)
    optimizer.build(model.trainable_variables)
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    moved = apply(model, optimizer, 0.0)
    still = {path.rsplit("/", 1)[-1] for path, change in moved.items() if not change.any()}
    assert still == {"bias", "beta", "gamma"} and {path.rsplit("/", 1)[-1] for path, change in moved.items() if change.any()} == {"kernel", "embeddings"}
    assert any(len(v.shape) == 2 and v.path.endswith("/bias") for v in model.trainable_variables)


def test_the_way_in_of_a_fourth_channel_learns_at_the_rate_of_the_lowest_open_stage():
    model = tfcnn.build_classifier("mobilenet_v3_small", labels=["a", "b"], weights=None, image_size=32, channels=4)
    config = complete(TrainingConfig(trainable=2, layer_decay=0.1), photos=10, stages=[name for name, _ in stages_of(model)])
    plan = tfcnn.set_trainable(model, 2)
    assert plan.stages[0][:4] == ("to_rgb", 1, 12, 12) and [row.stage for row in plan.stages][-1] == "head"
    rates = stage_rates([name for name, _ in stages_of(model)], config)
    assert rates["to_rgb"] == rates["stage4"] == pytest.approx(3e-5) and rates["top"] == pytest.approx(3e-4)
    assert "to_rgb" in str(plan.with_rates(rates)).splitlines()[1]
    _, members = stage_optimizer(model, config, 10)
    assert members["to_rgb"] is members["stage4"] is not members["top"] is not members["head"]


def test_the_gradient_of_a_group_is_clipped_to_norm_one():
    model, optimizer, _ = built("conv2", 10)
    apply(model, optimizer, 100.0)
    for member in optimizer.optimizers:
        momentum = [variable.numpy() for variable in member.variables if variable.path.endswith("momentum")]
        norm = np.sqrt(sum((value**2).sum() for value in momentum))
        assert norm == pytest.approx(0.1, rel=1e-4)  # a tenth of the gradient (beta_1 is 0.9)


def test_the_classical_rates_for_resnet50_move_its_last_two_stages_and_nothing_else():
    """{"conv4": 1e-5, "conv5": 1e-5, "head": 1e-3}: the first step of Adam is the rate wherever there is a gradient."""
    keras.utils.set_random_seed(0)
    model = tfcnn.build_classifier("resnet50", labels=["a", "b", "c"], weights=None, image_size=32)
    config = TrainingConfig(learning_rates={"conv4": 1e-5, "conv5": 1e-5, "head": 1e-3}, schedule="constant", warm_up=0, weight_decay=0)
    config = complete(config, photos=4, stages=[name for name, _ in stages_of(model)], batch_norm=True)
    assert config.trainable == "conv4"
    plan = tfcnn.set_trainable(model, config.trainable)
    model.compile(stage_optimizer(model, config, 10)[0], "sparse_categorical_crossentropy", run_eagerly=True)
    stage = {weight.path: name for name, layers in layers_by_stage(model) for layer in layers for weight in layer.weights}
    weights = [weight for weight in model.weights if "seed_generator" not in weight.path]
    before = {weight.path: weight.numpy().copy() for weight in weights}
    pixels = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)
    model.fit(pixels, np.array([0, 1, 2, 0]), batch_size=4, verbose=0)
    largest = {"conv4": 0.0, "conv5": 0.0, "head": 0.0}
    for weight in weights:
        change = np.abs(weight.numpy() - before[weight.path])
        if weight.path in {variable.path for variable in plan.planned}:
            rate = config.learning_rates[stage[weight.path]]
            assert 0 < change.max() <= rate * 1.01 + np.spacing(np.abs(before[weight.path]).max()), weight.path
            largest[stage[weight.path]] = max(largest[stage[weight.path]], change.max() / rate)
        else:
            assert not change.any(), weight.path
    assert largest == pytest.approx({"conv4": 1, "conv5": 1, "head": 1}, rel=0.01)


@pytest.mark.parametrize(("optimizer", "factor"), [("sgd", 4.0), ("adamw", 2.0), ("adam", 2.0), ("lion", 2.0)])
def test_rates_that_are_meant_for_another_batch_are_scaled(optimizer, factor):
    config = TrainingConfig(trainable=True, learning_rate=1e-3, head_learning_rate=1e-2, learning_rates={"b": 2e-3}, batch_size=64, optimizer=optimizer)
    assert stage_rates(["a", "b"], config) == {"to_rgb": 1e-3, "a": 1e-3, "b": 2e-3, "head": 1e-2}
    scaled = stage_rates(["a", "b"], replace(config, rate_batch=16))
    assert scaled == pytest.approx({"to_rgb": 1e-3 * factor, "a": 1e-3 * factor, "b": 2e-3 * factor, "head": 1e-2 * factor})
