"""Phase 2: phases, running averages, early stopping, plateau, and resuming in the middle of each."""

from dataclasses import replace
from itertools import pairwise

import keras
import numpy as np
import pytest

import tfcnn
from tfcnn.errors import InputError, WorkError
from tfcnn.models.freeze import set_flags
from tfcnn.training import fine_tune as module, recorder
from tfcnn.training.checkpoint import Saving, newest_checkpoint
from tfcnn.training.config import TrainingConfig
from tfcnn.training.course import Course, Phase, phases_of, plateau_factor
from tfcnn.training.fine_tune import fine_tune
from tfcnn.training.learner import make_learner
from tfcnn.training.optimizers import last_rates
from tfcnn.training.train import checked_config

CONFIG = TrainingConfig(trainable=True, epochs=3, batch_size=8, learning_rate=0.01, augmentation="light")
RESTLESS = replace(CONFIG, learning_rate=0.9, head_learning_rate=0.9, schedule="constant", optimizer="sgd", clip_norm=0)  # its losses go up and down
STEPS = 3  # an epoch


def build():
    """A classifier on two stages of a convolution and a BatchNorm, always with the same weights."""
    keras.utils.set_random_seed(0)
    x = image = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(x)
    for name in ("a", "b"):
        x = keras.layers.Conv2D(4, 3, strides=2, padding="same", name=name)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization(name=f"norm_{name}")(x))
    return tfcnn.build_classifier(keras.Model(image, x), labels=["0", "1", "2"], dropout=0.3)


def tune(data, path, config, saving=module.SAVING):
    """(model, history) of a fine-tuning."""
    model = build()
    return model, fine_tune(model, data, checked_config(model, data, config), path, {}, saving=saving)


def weights_of(model):
    return {w.path: w.numpy() for w in model.weights if "seed_generator" not in w.path}


def assert_equal(model, other):
    for path, value in weights_of(model).items():
        np.testing.assert_array_equal(value, weights_of(other)[path], err_msg=path)


def loss_of(model, data):
    """Validation loss as the training sees it, with label smoothing."""
    rows = data.rows("validation")
    scores = model(data.inputs[rows].astype(np.float32), training=False)
    return float(keras.losses.CategoricalCrossentropy(label_smoothing=0.1)(np.eye(3)[data.targets(rows)], scores))


def interrupt_at(monkeypatch, epoch, step=0):
    """From now on the fine-tuning is interrupted before it writes the checkpoint after so many epochs and steps of the next one."""
    original = recorder.save_place

    def interrupted(learner, course, *at):
        if at == (epoch, step):
            raise KeyboardInterrupt
        return original(learner, course, *at)

    monkeypatch.setattr(recorder, "save_place", interrupted)


def test_phases():
    assert phases_of(CONFIG, ["x", "y"]) == [Phase(0, 3, True)]
    assert phases_of(replace(CONFIG, gradual=2, epochs=5), ["x", "y", "z"]) == [Phase(0, 2, 1), Phase(2, 4, 2), Phase(4, 5, 3)]
    assert phases_of(replace(CONFIG, gradual=2, trainable="z"), ["x", "y", "z"]) == [Phase(0, 3, 1)]
    with pytest.raises(InputError, match="expected more than 4 epochs to open 3 stages 2 epochs apart, got epochs=4"):
        phases_of(replace(CONFIG, gradual=2, epochs=4), ["x", "y", "z"])


def test_gradual_unfreezing_opens_one_stage_after_the_other(tmp_path, data, monkeypatch):
    moved, before = [], {}

    def remember(model, course, epoch, step):
        now = weights_of(model)
        moved.append({path.split("/")[0] for path, value in now.items() if not np.array_equal(value, before.get(path, value))})
        before.update(now)

    monkeypatch.setattr(recorder, "save_place", remember)
    before.update(weights_of(build()))
    _, history = tune(data, tmp_path, replace(CONFIG, gradual=1))
    assert moved == [{"b", "logits"}, {"a", "b", "logits"}, {"a", "b", "logits"}]
    assert [bool(row["rate_a"]) for row in history][:2] == [False, True] and all(row["rate_head"] for row in history[:2])


def test_every_phase_is_checked_after_its_first_step(tmp_path, data, monkeypatch):
    checks = []
    original = module.check_freeze

    def spoiled(model, plan, **where):
        checks.append([variable.path for variable in plan.planned])
        if len(checks) == 2:  # a frozen statistic moves in the second phase only
            norm = model.get_layer("backbone").get_layer("norm_a")
            callback = original(model, plan, **where)
            begin = callback.on_train_begin
            callback.on_train_begin = lambda logs=None: (begin(logs), norm.moving_mean.assign_add(np.ones(4)))
            return callback
        return original(model, plan, **where)

    monkeypatch.setattr(module, "check_freeze", spoiled)
    with pytest.raises(WorkError, match="the first step moved norm_a/moving_mean"):
        tune(data, tmp_path, replace(CONFIG, gradual=1))
    assert [len(paths) for paths in checks] == [4, 6]


def test_slots_and_rates_go_on_when_a_stage_is_opened(tmp_path, data):
    """The momenta of the head and of a stage that was open stay, the new stage begins with none and at the start of its own rise."""
    config = checked_config(build(), data, replace(CONFIG, gradual=1, warm_up=0.5))
    model = make_learner(build())
    course = Course(config, ["a", "b"], tmp_path)
    _, first = module._open(model, course, course.phases[0], STEPS)
    module._fit(model, data, config, [], first=0, end=1, steps=STEPS)
    old = {variable.path: variable.numpy() for variable in model.optimizer.variables}
    head_rate = float(first["head"].learning_rate)
    _, second = module._open(model, course, course.phases[1], STEPS)
    new = {variable.path: variable.numpy() for variable in model.optimizer.variables}
    assert len(old) > 8 and all(np.array_equal(new[path], value) for path, value in old.items())
    assert any(value.any() for path, value in old.items() if "momentum" in path)
    assert not any(value.any() for path, value in new.items() if path not in old)
    assert float(second["head"].learning_rate) == head_rate > 0
    assert int(second["head"].iterations) == STEPS and int(second["a"].iterations) == 0
    assert float(second["a"].learning_rate) == pytest.approx(0.01 / 4)  # warm-up: half of 9 steps


@pytest.mark.parametrize("config", [
    replace(CONFIG, gradual=2, ema=0.5, schedule="plateau"),
    *(pytest.param(config, marks=pytest.mark.slow) for config in (replace(CONFIG, patience=2, ema=0.5, epochs=4), replace(CONFIG, batch_norm="train"))),
], ids=["gradual", "patience", "batch_norm"])
@pytest.mark.parametrize(("epoch", "step"), [(2, 2), *(pytest.param(*at, marks=pytest.mark.slow) for at in ((0, 2), (2, 0), (2, 1), (3, 0)))])
def test_an_interrupted_fine_tuning_ends_like_an_undisturbed_one_to_the_last_bit(tmp_path, data, monkeypatch, config, epoch, step):
    undisturbed, history = tune(data, tmp_path / "undisturbed", config)
    with monkeypatch.context() as patch:
        interrupt_at(patch, epoch, step)
        with pytest.raises(KeyboardInterrupt):
            tune(data, tmp_path / "again", config, Saving(steps=1))
    model, resumed = tune(data, tmp_path / "again", config, Saving(steps=1))
    assert_equal(model, undisturbed)
    without_time = lambda rows: [{name: value for name, value in row.items() if name != "seconds"} for row in rows]
    assert without_time(resumed) == without_time(history)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path, data, monkeypatch, caplog):
    """With the weights of the best epoch too, wherever in the file the damage is."""
    config = replace(CONFIG, patience=3)
    undisturbed, _ = tune(data, tmp_path / "undisturbed", config)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2, 2)
        with pytest.raises(KeyboardInterrupt):
            tune(data, tmp_path / "again", config, Saving(steps=1))
    older, newer = sorted((tmp_path / "again" / "checkpoint").glob("epoch-*.npz"))
    assert older.name == "epoch-0002-step-0000000.npz" and newer.name == "epoch-0002-step-0000001.npz"
    content = bytearray(newer.read_bytes())
    content[len(content) // 2] ^= 1
    newer.write_bytes(content)
    with caplog.at_level("WARNING"):
        model, _ = tune(data, tmp_path / "again", config)
    assert f"'{newer}' is damaged" in caplog.text and "the one before it is used" in caplog.text and str(older) not in caplog.text
    assert_equal(model, undisturbed)


def test_where_every_checkpoint_is_damaged_it_is_said_that_fine_tuning_begins_anew(tmp_path, caplog):
    for name in ("epoch-0001-step-0000000.npz", "epoch-0002-step-0000000.npz"):
        (tmp_path / name).write_bytes(b"PK half a zip")
    with caplog.at_level("WARNING"):
        assert newest_checkpoint(tmp_path) is None
    assert [record.message.rpartition("; ")[2] for record in caplog.records] == [
        "the one before it is used", "there is none before it, so fine-tuning begins anew"]


@pytest.mark.slow
def test_a_fine_tuning_that_is_done_is_not_done_again(tmp_path, data, monkeypatch):
    for config in (replace(CONFIG, ema=0.5), replace(CONFIG, patience=1, epochs=5, learning_rate=0.5), replace(CONFIG, gradual=1)):
        path = tmp_path / str(config.ema + config.patience)
        done, _ = tune(data, path, config)
        monkeypatch.setattr(module, "_fit", lambda *_, **__: pytest.fail("trained again"))
        again, _ = tune(data, path, config)
        assert_equal(again, done)
        monkeypatch.undo()


def test_the_running_average_is_validated_and_kept(tmp_path, data, monkeypatch):
    """Weighed by hand from the weights after each step."""
    seen = []
    monkeypatch.setattr(module, "check_freeze", lambda model, plan, **_: keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda step, logs: seen.append(weights_of(model))))
    start = weights_of(build())
    model, history = tune(data, tmp_path, replace(CONFIG, ema=0.5))
    assert len(seen) == 3 * STEPS
    for path in ("a/kernel", "logits/kernel"):
        average = start[path]
        for number, weights in enumerate(seen):
            average = weights[path] if number == 0 else 0.5 * average + 0.5 * weights[path]
        np.testing.assert_allclose(weights_of(model)[path], average, atol=1e-6)
        assert np.abs(average - seen[-1][path]).max() > 1e-4
    assert history[-1]["val_loss"] == pytest.approx(loss_of(model, data), abs=2e-5)


def test_patience_ends_the_training_and_keeps_the_best_epoch(tmp_path, data):
    config = replace(RESTLESS, patience=2, epochs=40)
    model, history = tune(data, tmp_path, config)
    losses = [row["val_loss"] for row in history]
    best = int(np.argmin(losses))
    assert len(losses) == best + 3 < 40
    assert loss_of(model, data) == pytest.approx(losses[best], abs=2e-5)
    assert loss_of(model, data) < losses[-1] - 1e-3


def test_patience_with_averages_keeps_the_averages_of_the_best_epoch(tmp_path, data):
    model, history = tune(data, tmp_path, replace(CONFIG, patience=2, ema=0.7, epochs=4))
    assert loss_of(model, data) == pytest.approx(min(row["val_loss"] for row in history), abs=2e-5)


@pytest.mark.slow
def test_patience_begins_to_count_when_all_stages_are_open(tmp_path, data, monkeypatch):
    """The losses of the first phase would have used it up."""
    config = replace(CONFIG, gradual=3, patience=1, epochs=5)
    rows = [{"epoch": epoch, "val_loss": loss} for epoch, loss in enumerate((0.1, 0.2, 0.3, 0.9, 0.95), start=1)]
    courses = [Course(config, ["a", "b"], tmp_path, rows[:count]) for count in range(6)]
    assert [course.best for course in courses] == [0, 0, 0, 0, 4, 4]
    assert [course.is_over for course in courses] == [False] * 5 + [True]
    model, history = tune(data, tmp_path, replace(config, learning_rate=1e-4, epochs=4))
    assert len(history) == 4 and loss_of(model, data) == pytest.approx(history[-1]["val_loss"], abs=2e-5)
    assert sorted(path.name for path in (tmp_path / "checkpoint").iterdir()) == [
        "epoch-0003-step-0000000.npz", "epoch-0004-step-0000000.npz"]


def test_a_training_that_diverges_ends_with_its_epoch_and_keeps_what_was_good(tmp_path, data, monkeypatch):
    spoil = lambda model: lambda epoch, logs: epoch == 1 and model.get_layer("logits").bias.assign(np.full(3, np.nan))
    monkeypatch.setattr(module, "check_freeze", lambda model, plan, **_: keras.callbacks.LambdaCallback(on_epoch_begin=spoil(model)))
    with pytest.raises(WorkError, match=r"expected a finite loss, got nan in training and nan in validation in epoch 2: the training diverged; give lower"):
        tune(data, tmp_path, CONFIG)
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["epoch-0001-step-0000000.npz"]


@pytest.mark.parametrize(("losses", "factor"), [
    ([], 1), ([3, 2, 1], 1), ([1, 2, 2], 1), ([1, 2, 2, 2], 1 / 3), ([1, 2, 2, 2, 0.5, 1, 1], 1 / 3), ([1] * 7, 1 / 9), ([1, 2, 2, 0.9, 2, 2, 2], 1 / 3),
])
def test_a_plateau_of_three_epochs_divides_the_rates_by_three(losses, factor):
    assert plateau_factor(losses) == pytest.approx(factor)


def test_rates_fall_on_a_plateau_in_every_group(tmp_path, data, monkeypatch):
    """Keras's own `ReduceLROnPlateau` raises here, since the rates are schedules (test_traps.py)."""
    monkeypatch.setattr("tfcnn.training.course.PLATEAU_EPOCHS", 1)
    config = replace(RESTLESS, schedule="plateau", warm_up=0, learning_rates={"a": 0.5}, epochs=12)
    _, history = tune(data, tmp_path, config)
    losses = [row["val_loss"] for row in history]
    expected = [plateau_factor(losses[:number]) for number in range(len(losses))]  # of the epoch itself
    assert expected[-1] < 1
    np.testing.assert_allclose([row["rate_a"] for row in history], np.multiply(0.5, expected), rtol=1e-5)
    np.testing.assert_allclose([row["rate_b"] for row in history], np.multiply(0.9, expected), rtol=1e-5)


def test_a_plateau_counts_from_when_all_stages_are_open_and_their_rates_have_risen(tmp_path, data, monkeypatch):
    monkeypatch.setattr("tfcnn.training.course.PLATEAU_EPOCHS", 1)
    config = replace(RESTLESS, schedule="plateau", warm_up=0.25, gradual=2, epochs=8)
    _, history = tune(data, tmp_path, config)
    losses = [row["val_loss"] for row in history]
    expected = [plateau_factor(losses[4:number]) for number in range(len(losses))]  # two stages, then a rise of two epochs
    assert plateau_factor(losses[:4]) < 1 and expected[-1] < 1
    np.testing.assert_allclose([row["rate_head"] for row in history[4:]], np.multiply(0.9, expected[4:]), rtol=1e-5)
    np.testing.assert_allclose(history[3]["rate_head"], 0.9, rtol=1e-5)


def test_the_rates_that_are_logged_are_those_that_were_applied(tmp_path, data, monkeypatch):
    """Lion moves each weight that has a gradient by exactly its rate; at every step, and in the history for the last of an epoch."""
    config = replace(CONFIG, learning_rates={"a": 1e-3}, layer_decay=0.5, optimizer="lion", weight_decay=0, epochs=4)
    seen, rates = [], []

    def watch(model, plan, **_):
        def remember(step, logs=None):
            seen.append({v.path: v.numpy() for v in model.trainable_variables})
            rates.append(last_rates(members_of[-1]))

        return keras.callbacks.LambdaCallback(on_train_begin=lambda logs: seen.append({v.path: v.numpy() for v in model.trainable_variables}),
                                              on_train_batch_end=remember)

    members_of, make = [], module.stage_optimizer
    monkeypatch.setattr(module, "stage_optimizer", lambda *a, **k: (made := make(*a, **k), members_of.append(made[1]))[0])
    monkeypatch.setattr(module, "check_freeze", watch)
    _, history = tune(data, tmp_path, config)
    moved = [{path: np.abs(after[path] - before[path]).max() for path in after} for before, after in pairwise(seen)]
    assert len(moved) == len(rates) == 4 * STEPS
    for step, rate in zip(moved, rates, strict=True):
        for path, stage in (("a/kernel", "a"), ("b/kernel", "b"), ("logits/kernel", "head")):
            assert step[path] == pytest.approx(rate[stage], rel=1e-3, abs=1e-7)
    for row, rate in zip(history, rates[STEPS - 1::STEPS], strict=True):
        assert [row["rate_a"], row["rate_b"], row["rate_head"]] == pytest.approx([rate["a"], rate["b"], rate["head"]])
    assert history[0]["rate_a"] == pytest.approx(history[0]["rate_b"] / 10, rel=1e-4)


def test_the_rate_of_a_hidden_head_is_continuous_across_the_switch(data):
    """Phase 1 ends where its cosine is nearly 0, phase 2 begins with one step of its rise."""
    from tfcnn.training.head import _head_optimizer, head_of
    from tfcnn.training.optimizers import stage_optimizer

    model = tfcnn.build_classifier(build().get_layer("backbone"), labels=["0", "1", "2"], hidden=(4,))
    config = checked_config(model, data, replace(CONFIG, epochs=20, warm_up=0.2))
    optimizer = _head_optimizer(head_of(model), 24, config)
    last_step = 60 * STEPS - 1
    ended = float(optimizer._learning_rate(last_step))
    set_flags(model, True)
    _, members = stage_optimizer(model, config, 20 * STEPS)
    begins = float(members["head"]._learning_rate(0))
    assert ended < 0.01 * config.head_learning_rate
    assert begins == pytest.approx(config.head_learning_rate / 12)  # of 12 steps of warm-up


def test_mixed_photos_class_weights_and_lion_can_be_trained_on(tmp_path, data):
    for number, change in enumerate(({"mixing": 1.0}, {"balance": "class_weight"}, {"optimizer": "lion"})):
        _, history = tune(data, tmp_path / str(number), replace(CONFIG, epochs=1, **change))
        assert np.isfinite(history[0]["loss"]) and history[0]["loss"] > 0.3
