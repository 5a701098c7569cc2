"""The learning-rate range test."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfcnn
from tfcnn.errors import InputError, WorkError
from tfcnn.models.cnn import build_features
from tfcnn.training import find_rate as module
from tfcnn.training.config import TrainingConfig
from tfcnn.training.find_rate import RateRange, find_learning_rate

CONFIG = TrainingConfig(trainable=True, batch_size=8, learning_rate=1e-3, head_learning_rate=4e-3, augmentation="none")


def build():
    keras.utils.set_random_seed(0)
    return tfcnn.build_classifier(build_features((8, 8, 3), filters=(4, 4)), labels=["0", "1", "2"])


def test_rates_rise_until_the_loss_does_and_the_model_is_left_as_it_was(data, monkeypatch):
    monkeypatch.setattr(module, "HIGHEST", 1e3)  # so small a network bears more than one that is used
    model = build()
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    optimizer, before = model.optimizer, [variable.numpy() for variable in model.variables]
    found = find_learning_rate(model, data, CONFIG, steps=60)
    for new, old in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(new.numpy(), old)
    assert model.optimizer is optimizer and [weight.path for weight in model.trainable_weights] == ["logits/kernel", "logits/bias"]
    expected = np.geomspace(1e-6, 1e3, 60)[:len(found.rates)]
    np.testing.assert_allclose(found.rates, expected, rtol=1e-5)
    assert len(found.rates) == len(found.losses) == len(found.smoothed) < 60  # it broke and ended
    assert found.losses[-1] > 2 * min(found.losses)
    assert found.learning_rate == pytest.approx(found.edge / 4) and found.head_learning_rate == pytest.approx(found.edge)
    assert 1e-4 < found.edge < 10
    before_edge = [s for r, s in zip(found.rates, found.smoothed, strict=True) if r <= found.edge]
    after_edge = [s for r, s in zip(found.rates, found.smoothed, strict=True) if r > found.edge]
    assert before_edge[-1] <= 1.5 * min(found.smoothed) < min(after_edge)


def test_the_losses_are_those_of_each_step_and_not_means(data, monkeypatch):
    """At rates of nearly 0 the same batch has the same loss. Keras weighs means by the size of a batch, and these are of 11, 11 and 2 photos."""
    monkeypatch.setattr(module, "HIGHEST", 1.1e-6)
    rows = data.rows("train")
    pixels, targets = data.inputs[rows].astype(np.float32), np.eye(3, dtype=np.float32)[data.targets(rows)]
    repeated = tf.data.Dataset.from_tensor_slices((pixels, targets, np.ones(len(pixels), np.float32))).batch(11).repeat()
    monkeypatch.setattr(module, "photos_of", lambda *_, **__: repeated)
    model = tfcnn.build_classifier(build().get_layer("backbone"), labels=["0", "1", "2"], dropout=0.0)
    losses = np.array(find_learning_rate(model, data, CONFIG, steps=21).losses).reshape(7, 3)
    np.testing.assert_allclose(losses, np.broadcast_to(losses[0], (7, 3)), atol=2e-3)
    assert np.ptp(losses[0]) > 5e-3


def test_the_suggestion_for_the_head_is_in_the_proportion_that_was_tested():
    config = CONFIG
    rates, losses = np.geomspace(1e-6, 1, 61).tolist(), [1.0] * 41 + [9.0] * 20
    found = module._result(rates, losses, config, 1e-3)
    assert found.edge == pytest.approx(1e-2)  # the last step before the loss leaps: a median does not lag
    assert found.suggestion == found.learning_rate == pytest.approx(2.5e-3) and found.head_learning_rate == pytest.approx(4 * found.learning_rate)
    assert "it rises beyond a rate of 1.0e-02" in str(found)
    flat = module._result(rates, [1.0] * 61, config, 1e-3)
    assert flat.edge == 1 and "it does not rise up to a rate of 1.0e+00" in str(flat)
    assert flat.learning_rate == flat.head_learning_rate == 0.25  # four times that is no rate


def test_rates_of_stages_are_tested_and_suggested_in_their_proportion(data, monkeypatch):
    config = replace(CONFIG, learning_rates={"conv1": 1e-6, "conv2": 4e-6}, head_learning_rate=8e-6)
    seen, scale = [], module.scale_rates
    monkeypatch.setattr(module, "scale_rates", lambda members, factor: (scale(members, factor), seen.append(members)))
    found = find_learning_rate(build(), data, config, steps=20)
    assert float(seen[-1]["conv2"].learning_rate) == pytest.approx(found.rates[-1], rel=1e-5)  # the highest of the open stages
    assert float(seen[-1]["head"].learning_rate) == pytest.approx(2 * found.rates[-1], rel=1e-5)
    assert found.learning_rates == {"conv1": pytest.approx(found.suggestion / 4), "conv2": pytest.approx(found.suggestion)}
    assert f"--learning-rates conv1={found.suggestion / 4:.1e} conv2={found.suggestion:.1e}" in str(found)


def test_mixed_precision_is_tested_in_mixed_precision(data, monkeypatch):
    seen = []
    sweep = module._sweep
    monkeypatch.setattr(module, "_sweep", lambda twin, *arguments: (seen.append(twin.get_layer("logits").compute_dtype), sweep(twin, *arguments))[1])
    found = find_learning_rate(build(), data, replace(CONFIG, mixed_precision=True), steps=20)
    assert seen == ["bfloat16"] and np.isfinite(found.losses[0])


def test_the_picture_is_written(tmp_path):
    from PIL import Image

    rates = tuple(np.geomspace(1e-6, 1e-1, 30))
    losses = tuple(np.linspace(1, 0.5, 20)) + tuple(np.linspace(0.5, 3, 10))
    found = RateRange(rates, losses, losses, 1e-3, 5e-4, 5e-4, 2e-3)
    found.plot(tmp_path / "rates.png")
    with Image.open(tmp_path / "rates.png") as picture:
        assert picture.size == (840, 480)
    assert [path.name for path in tmp_path.iterdir()] == ["rates.png"]
    assert "--learning-rate 5.0e-04 --head-learning-rate 2.0e-03" in str(found)
    assert found.to_dict()["edge"] == 1e-3


def test_a_picture_of_another_kind_is_refused():
    with pytest.raises(InputError, match=r"expected a picture that ends in \.png, \.svg, \.pdf, \.jpg, got 'rates\.xyz'"):
        module.check_picture("rates.xyz")


def test_bad_input_is_refused_before_slow_work(data, monkeypatch):
    monkeypatch.setattr(module, "cached_features", lambda *_, **__: pytest.fail("slow work began"))
    with pytest.raises(InputError, match="expected at least 20 steps for a range test, got steps=5"):
        find_learning_rate(build(), data, CONFIG, steps=5)
    with pytest.raises(InputError, match="expected stages to fine-tune, got trainable=False"):
        find_learning_rate(build(), data, TrainingConfig(trainable=False))


def test_a_loss_that_is_no_number_from_the_start_says_so():
    with pytest.raises(WorkError, match="expected a finite loss at the lowest rates"):
        module._result([1e-6, 2e-6, 3e-6], [1.0, float("nan"), 1.0], CONFIG, 1e-3)
