"""Rates and weight decay by group."""

import keras
import numpy as np
import pytest

import tfcnn
from tfcnn.models.cnn import build_features
from tfcnn.training.config import TrainingConfig
from tfcnn.training.optimizers import learning_rates, make_optimizer

CONFIG = TrainingConfig(learning_rate=2e-4, head_learning_rate=1e-3, weight_decay=0.01)


def built(trainable, steps, config=CONFIG):
    """A small classifier with its optimizer, ready to apply gradients."""
    keras.utils.set_random_seed(0)
    model = tfcnn.build_classifier(build_features((8, 8, 3), filters=(4, 4)), labels=["a", "b"])
    tfcnn.set_trainable(model, trainable)
    optimizer = make_optimizer(model, config, steps)
    optimizer.build(model.trainable_variables)
    return model, optimizer


def apply(model, optimizer, gradient):
    """What one step with the same gradient everywhere adds to each variable, by path."""
    before = [variable.numpy() for variable in model.trainable_variables]
    optimizer.apply([np.full(variable.shape, gradient, np.float32) for variable in model.trainable_variables], model.trainable_variables)
    return {variable.path: variable.numpy() - old for variable, old in zip(model.trainable_variables, before, strict=True)}


def at_step(optimizer, step):
    for member in getattr(optimizer, "optimizers", [optimizer]):
        member.iterations.assign(step)
    return learning_rates(optimizer)


@pytest.mark.parametrize(("step", "share"), [
    (0, 0.1), (5, 0.55), (10, 1.0), (10 + 30, 0.75), (10 + 45, 0.5), (10 + 60, 0.25), (100, 0.0),
])
def test_rates_rise_over_a_tenth_of_the_steps_and_fall_along_a_cosine(step, share):
    _, optimizer = built(True, 100)
    rates = at_step(optimizer, step)
    assert rates["learning_rate"] == pytest.approx(2e-4 * share, abs=1e-9)
    assert rates["head_learning_rate"] == pytest.approx(1e-3 * share, abs=1e-9)


def test_a_frozen_backbone_has_no_rate():
    _, optimizer = built(False, 100)
    assert at_step(optimizer, 10) == {"learning_rate": 0.0, "head_learning_rate": pytest.approx(1e-3)}


def test_each_group_moves_by_its_own_rate():
    model, optimizer = built("conv2", 10)
    apply(model, optimizer, 0.5)  # the rate of the very first step is 0: the warm-up begins there
    assert learning_rates(optimizer) == {"learning_rate": pytest.approx(2e-4), "head_learning_rate": pytest.approx(1e-3)}
    moved = apply(model, optimizer, 0.5)  # under a constant gradient Adam moves by the rate
    assert set(moved) == {"conv2/kernel", "conv2/bias", "logits/kernel", "logits/bias"}
    np.testing.assert_allclose(moved["conv2/bias"], -2e-4, rtol=1e-3)
    np.testing.assert_allclose(moved["logits/bias"], -1e-3, rtol=1e-3)
    np.testing.assert_allclose(moved["conv2/kernel"], -2e-4, rtol=0.02)  # weight decay adds at most 1 % of the kernel
    np.testing.assert_allclose(moved["logits/kernel"], -1e-3, rtol=0.02)


def test_kernels_decay_and_biases_do_not():
    model, optimizer = built(True, 10)
    apply(model, optimizer, 0.0)
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    moved = apply(model, optimizer, 0.0)
    assert len(moved) == 6
    for path, change in moved.items():
        expected = 0 if path.endswith("bias") else -0.01 * (1e-3 if path.startswith("logits") else 2e-4)
        np.testing.assert_allclose(change, expected, atol=1.5e-7, err_msg=path)  # float32 around 1


def test_the_gradient_of_a_group_is_clipped_to_norm_one():
    model, optimizer = built("conv2", 10)
    apply(model, optimizer, 100.0)
    for member in optimizer.optimizers:
        momentum = [variable.numpy() for variable in member.variables if variable.path.endswith("momentum")]
        norm = np.sqrt(sum((value**2).sum() for value in momentum))
        assert norm == pytest.approx(0.1, rel=1e-4)  # a tenth of the gradient (beta_1 is 0.9)
