"""The learning-rate range test."""

import keras
import numpy as np
import pytest

import tfcnn
from tfcnn.errors import InputError, WorkError
from tfcnn.models.cnn import build_features
from tfcnn.training import find_rate as module
from tfcnn.training.config import TrainingConfig
from tfcnn.training.find_rate import RateRange, find_learning_rate

CONFIG = TrainingConfig(trainable=True, batch_size=8, learning_rate=1e-3, head_learning_rate=4e-3, augmentation="none")


@pytest.fixture(scope="module")
def data():
    """36 random photos of 8x8 pixels in three classes, one of the channels brighter in each."""
    rng = np.random.default_rng(0)
    images, targets = rng.integers(0, 156, (36, 8, 8, 3)), np.arange(36) % 3
    images[np.arange(36), :, :, targets] += 60
    return tfcnn.load_images((images.astype(np.uint8), targets), image_size=8, split=(2 / 3, 1 / 6, 1 / 6))


def build():
    keras.utils.set_random_seed(0)
    return tfcnn.build_classifier(build_features((8, 8, 3), filters=(4, 4)), labels=["0", "1", "2"])


def test_rates_rise_until_the_loss_does_and_the_model_is_left_as_it_was(data, monkeypatch):
    monkeypatch.setattr(module, "HIGHEST", 1e3)  # so small a network bears more than one that is used
    model = build()
    before = model.get_weights()
    found = find_learning_rate(model, data, CONFIG, steps=60)
    for new, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(new, old)
    assert [weight.path for weight in model.trainable_weights] == ["logits/kernel", "logits/bias"]
    expected = np.geomspace(1e-6, 1e3, 60)[:len(found.rates)]
    np.testing.assert_allclose(found.rates, expected, rtol=1e-5)
    assert len(found.rates) == len(found.losses) == len(found.smoothed) < 60  # it broke and ended
    assert found.losses[-1] > 2 * min(found.losses)
    assert found.learning_rate == pytest.approx(found.edge / 2) and found.head_learning_rate == pytest.approx(2 * found.edge)
    assert 1e-4 < found.edge < 10
    before_edge = [s for r, s in zip(found.rates, found.smoothed, strict=True) if r <= found.edge]
    after_edge = [s for r, s in zip(found.rates, found.smoothed, strict=True) if r > found.edge]
    assert before_edge[-1] <= 1.1 * min(found.smoothed) < min(after_edge)


def test_the_losses_are_those_of_each_step_and_not_means(data, monkeypatch):
    """At rates of nearly 0 the same batch has the same loss; four batches of 8, 8 and 8 photos repeat after three steps."""
    monkeypatch.setattr(module, "HIGHEST", 1.1e-6)
    monkeypatch.setattr(module, "training_batches", lambda data, **_: __import__("tensorflow").data.Dataset.from_tensor_slices(
        (data.inputs[data.rows("train")].astype(np.float32), np.eye(3, dtype=np.float32)[data.targets(data.rows("train"))])).batch(8).repeat())
    model = tfcnn.build_classifier(build().get_layer("backbone"), labels=["0", "1", "2"], dropout=0.0)
    losses = np.array(find_learning_rate(model, data, CONFIG, steps=21).losses).reshape(7, 3)
    np.testing.assert_allclose(losses, np.broadcast_to(losses[0], (7, 3)), atol=2e-3)
    assert np.ptp(losses[0]) > 5e-3


def test_the_picture_is_written(tmp_path):
    from PIL import Image

    rates = tuple(np.geomspace(1e-6, 1e-1, 30))
    losses = tuple(np.linspace(1, 0.5, 20)) + tuple(np.linspace(0.5, 3, 10))
    found = RateRange(rates, losses, losses, 1e-3, 5e-4, 2e-3)
    found.plot(tmp_path / "rates.png")
    with Image.open(tmp_path / "rates.png") as picture:
        assert picture.size == (840, 480)
    assert [path.name for path in tmp_path.iterdir()] == ["rates.png"]
    assert "--learning-rate 5.0e-04 --head-learning-rate 2.0e-03" in str(found)
    assert found.to_dict()["edge"] == 1e-3


def test_bad_input_is_refused_before_slow_work(data, monkeypatch):
    monkeypatch.setattr(module, "cached_features", lambda *_, **__: pytest.fail("slow work began"))
    with pytest.raises(InputError, match="expected at least 20 steps for a range test, got steps=5"):
        find_learning_rate(build(), data, CONFIG, steps=5)
    with pytest.raises(InputError, match="expected stages to fine-tune, got trainable=False"):
        find_learning_rate(build(), data, TrainingConfig(trainable=False))


def test_a_loss_that_is_no_number_from_the_start_says_so():
    with pytest.raises(WorkError, match="expected a finite loss at the lowest rates"):
        module._result([1e-6, 2e-6, 3e-6], [1.0, float("nan"), 1.0], CONFIG)
