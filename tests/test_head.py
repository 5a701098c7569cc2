"""The head on cached features."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import tfcnn
from tfcnn.data.dataset import class_weights
from tfcnn.training.config import OPTIMIZERS, TrainingConfig
from tfcnn.training.head import _head_optimizer, _new_head, head_of, seed_dropout, train_head


def classifier(classes, features=6, hidden=(), dropout=0.2):
    keras.utils.set_random_seed(0)
    image = keras.Input((4, 4, 3))
    backbone = keras.Model(image, keras.layers.Dense(features)(keras.layers.GlobalAveragePooling2D()(image)))
    return tfcnn.build_classifier(backbone, labels=[f"label{n}" for n in range(classes)], hidden=hidden, dropout=dropout)


def clouds(classes, count=90, features=6):
    """Overlapping clouds of points on different scales, and their targets."""
    rng = np.random.default_rng(0)
    targets = np.arange(count) % classes
    points = rng.normal(size=(classes, features))[targets] + rng.normal(size=(count, features))
    return (points * np.logspace(-2, 2, features) + 3).astype(np.float32), targets


@pytest.mark.parametrize("classes", [2, 3])
def test_the_linear_head_gives_the_probabilities_of_logistic_regression(classes):
    features, targets = clouds(classes)
    model = classifier(classes)
    train_head(model, features, targets, TrainingConfig())
    regression = LogisticRegression(C=TrainingConfig.logistic_c, max_iter=1000)
    expected = make_pipeline(StandardScaler(), regression).fit(features, targets).predict_proba(features)
    assert 0.7 < (expected.argmax(axis=1) == targets).mean() < 1  # neither trivial nor hopeless
    np.testing.assert_allclose(head_of(model)(features).numpy(), expected, atol=2e-4)


def test_heads_one_after_the_other_warn_of_no_retracing(caplog, monkeypatch):
    monkeypatch.setattr(tf.get_logger(), "handlers", [caplog.handler])
    features, targets = clouds(2)
    config = TrainingConfig(head_epochs=1, batch_size=90, head_learning_rate=1e-3)
    for _ in range(8):
        train_head(classifier(2, hidden=(4,)), features, targets, config)
    assert caplog.messages == []


@pytest.mark.parametrize("value", [0.0, 0.7, 1234.567])
def test_a_feature_that_never_changes_changes_nothing(value):
    features, targets = clouds(3, features=5)
    with_constant = np.concatenate([features, np.full((len(features), 1), value, np.float32)], axis=1)
    plain, model = classifier(3, features=5), classifier(3)
    train_head(plain, features, targets, TrainingConfig())
    train_head(model, with_constant, targets, TrainingConfig())
    np.testing.assert_allclose(head_of(model)(with_constant).numpy(), head_of(plain)(features).numpy(), atol=1e-3)
    assert np.abs(model.get_layer("logits").kernel.numpy()[-1]).max() < 1e-3


def test_a_feature_of_one_photo_gets_no_giant_weight():
    """As a dying ReLU makes them; 8-bit files share their steps among all weights of the head."""
    features, targets = clouds(3, count=300, features=5)
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    rare = np.zeros((300, 1), np.float32)
    rare[7] = 1e-3
    model = classifier(3)
    train_head(model, np.concatenate([features, rare], axis=1), targets, TrainingConfig())
    largest = np.abs(model.get_layer("logits").kernel.numpy()).max(axis=1)
    assert largest[-1] < largest[:-1].min()


def test_the_head_is_the_model_after_pooling():
    model = classifier(3, hidden=(7,))
    pixels = np.random.default_rng(0).uniform(0, 255, (5, 4, 4, 3)).astype(np.float32)
    features = keras.Model(model.input, model.get_layer("pooling").output)(pixels)
    np.testing.assert_allclose(head_of(model)(features).numpy(), model(pixels).numpy(), atol=1e-6)


def test_a_hidden_head_learns_what_a_line_cannot_and_leaves_the_backbone_alone():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 6)).astype(np.float32)
    targets = ((features[:, 0] > 0) ^ (features[:, 1] > 0)).astype(int)  # two diagonal quarters each
    model = classifier(2, hidden=(32,), dropout=0.0)
    backbone = model.get_layer("backbone").get_weights()
    train_head(model, features, targets, TrainingConfig(head_learning_rate=0.01, batch_size=16, weight_decay=0.01))
    assert (head_of(model)(features).numpy().argmax(axis=1) == targets).mean() > 0.93
    for old, new in zip(backbone, model.get_layer("backbone").get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    line = classifier(2)
    train_head(line, features, targets, TrainingConfig())
    assert (head_of(line)(features).numpy().argmax(axis=1) == targets).mean() < 0.7


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_hidden_head_has_the_weights_that_fit_would_give_it(optimizer):
    features, targets = clouds(3)
    config = TrainingConfig(head_epochs=3, batch_size=16, optimizer=optimizer, head_learning_rate=1e-3, weight_decay=0.01, balance="class_weight")
    found = []
    for by_fit in (False, True):
        model = classifier(3, hidden=(8,))
        seed_dropout(model, 0)
        keras.utils.set_random_seed(0)
        if not by_fit:
            train_head(model, features, targets, config)
            found.append(head_of(model).get_weights())
            continue
        head = _new_head(model, config)
        head.compile(_head_optimizer(head, len(features), config), loss=keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing))
        weights = class_weights(targets, 3)[targets].astype(np.float32)
        photos = tf.data.Dataset.from_tensor_slices((features, np.eye(3, dtype=np.float32)[targets], weights))
        head.fit(photos.shuffle(len(features), seed=config.seed).batch(16).repeat(), steps_per_epoch=18, shuffle=False, verbose=0)
        found.append(head.get_weights())
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)  # but for last bits


@pytest.mark.slow
def test_a_head_with_batch_norm_is_trained_anew_each_time():
    features, targets = clouds(3)
    config = TrainingConfig(head_learning_rate=0.01, batch_size=30, weight_decay=0.01)
    model = tfcnn.build_classifier(classifier(3).get_layer("backbone"), labels=["a", "b", "c"], hidden=(5,), head_batch_norm=True, dropout=0.0)
    trained = []
    for _ in range(2):
        keras.utils.set_random_seed(0)
        train_head(model, features, targets, config)
        trained.append(head_of(model).get_weights())
    assert np.abs(model.get_layer("batch_norm_1").moving_mean.numpy()).max() > 0.1  # it learned
    for first, second in zip(*trained, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-6)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_hidden_head_is_trained_by_the_optimizer_and_at_the_rate_of_the_configuration(optimizer):
    model = classifier(2, hidden=(4,))
    config = TrainingConfig(optimizer=optimizer, head_learning_rate=0.02, batch_size=16, weight_decay=0.01)
    for given, rate in ((config, 0.02), (replace(config, learning_rates={"head": 0.003}), 0.003)):
        made = _head_optimizer(head_of(model), 32, given)
        assert type(made).__name__ == OPTIMIZERS[optimizer][0] and made.weight_decay == 0.01
        assert float(made.learning_rate) == pytest.approx(rate)


def test_the_seed_reaches_dropout_inside_the_backbone():
    def drawn(number):
        keras.utils.set_random_seed(number)
        image = keras.Input((8, 8, 3))
        inner = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Dropout(0.5)])
        model = tfcnn.build_classifier(keras.Model(image, keras.layers.Dropout(0.5)(inner(image))), labels=["a", "b"], dropout=0.5)
        seed_dropout(model, 7)
        pixels = np.ones((2, 8, 8, 3), np.float32)
        return model.get_layer("backbone")(pixels, training=True).numpy(), [v.numpy() for v in model.variables if "seed_generator" in v.path]

    (first, states), (second, others) = drawn(1), drawn(2)
    np.testing.assert_array_equal(first, second)
    assert len(states) == 3 and len({tuple(state) for state in states}) == 3
    np.testing.assert_array_equal(states, others)
