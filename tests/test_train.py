"""`train`: what a run folder holds, repeating, interrupting, resuming and replacing a run."""

import csv
import shutil
from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import tfcnn
from tfcnn.errors import InputError
from tfcnn.files import alone_in
from tfcnn.models.cnn import build_features
from tfcnn.models.forward import forward
from tfcnn.record import load_run, write_record
from tfcnn.training import recorder, train as module
from tfcnn.training.config import TrainingConfig
from tfcnn.training.features import feature_network, network_digest

CONFIG = TrainingConfig(trainable=True, epochs=3, batch_size=8, learning_rate=0.01)


@pytest.fixture(scope="module")
def backbone():
    """A backbone with the same weights for every test; `build` copies it."""
    keras.utils.set_random_seed(0)
    return build_features((8, 8, 3), filters=(4, 4))


def build(backbone, seed=0, **arguments):
    """A classifier that has the weights of `backbone`; `seed` draws the rest."""
    own = build_features((8, 8, 3), filters=(4, 4))
    own.set_weights(backbone.get_weights())
    keras.utils.set_random_seed(seed)
    return tfcnn.build_classifier(own, labels=["0", "1", "2"], **{"dropout": 0.5, **arguments})


def assert_equal_weights(model, other, tolerance=0.0):
    for weight, expected in zip(model.weights, other.weights, strict=True):
        if "seed_generator" not in weight.path:
            np.testing.assert_allclose(weight.numpy(), expected.numpy(), atol=tolerance, rtol=0, err_msg=weight.path)


def history_of(run):
    with open(run.path / "history.csv", newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, data, backbone):
    """(run, model) of a training that nothing interrupted."""
    model = build(backbone)
    return tfcnn.train(model, data, CONFIG, output=tmp_path_factory.mktemp("runs") / "undisturbed"), model


def test_the_model_of_a_run_takes_an_array_as_any_model_does(data, undisturbed):
    """A warning would fail the test."""
    run, model = undisturbed
    pixels = np.asarray(data.inputs[np.arange(3)], np.float32)
    np.testing.assert_allclose(keras.models.load_model(run.path / "model.keras")(pixels), model(pixels), atol=1e-6)


@pytest.mark.parametrize("argument", ["resume", "overwrite"])
def test_a_run_that_another_process_trains_is_left_alone(tmp_path, data, backbone, undisturbed, argument):
    output = shutil.copytree(undisturbed[0].path, tmp_path / "run")
    write_record(output, {**load_run(output).record, "status": "started"})
    before = {file: file.read_bytes() for file in output.iterdir()}
    with alone_in(output), pytest.raises(InputError, match="but another process does"):
        tfcnn.train(build(backbone), data, CONFIG, output=output, **{argument: True})
    assert {file: file.read_bytes() for file in output.iterdir()} == before and [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_run_folder_holds_the_model_and_how_it_was_made(trained):
    run, data, model = trained
    assert sorted(path.name for path in run.path.iterdir()) == ["calibration.npz", "history.csv", "items.csv", "labels.txt", "model.keras", "run.json",
                                                              "scores-validation.npz"]
    assert (run.path / "labels.txt").read_text() == "blue\ngreen\nred\n"
    with open(run.path / "items.csv", newline="", encoding="utf-8") as lines:
        assert [tuple(row.values()) for row in csv.DictReader(lines)] == [tuple(item) for item in data.items]
    record = load_run(run.path).record
    assert record["status"] == "trained" and record["labels"] == ["blue", "green", "red"] and record["input_shape"] == [32, 32, 3]
    assert record["data"]["splits"] == {"train": 24, "validation": 12, "test": 24}
    assert record["data"]["counts"] == {"blue": 20, "green": 20, "red": 20} and record["data"]["quarantined"] == []
    assert record["model"]["backbone"] == "small_cnn" and record["model"]["parameters"] == model.count_params()
    assert record["model"]["stages"] == ["conv1", "conv2", "conv3"]
    assert record["training"]["epochs"] == 2 and record["training"]["batch_size"] == 8
    assert set(record["versions"]) == {"python", "tfcnn", "tensorflow", "keras", "numpy", "scikit-learn", "scipy", "pillow"}
    assert record["hardware"]["cores"] >= 1 and record["hardware"]["processor"] and isinstance(record["hardware"]["gpus"], list)
    assert record["kept"] in ("head", "fine-tuned")
    assert set(record["seconds"]) >= {"head on cached features", "fine-tune, 2 epochs"}
    right = forward(model, data.inputs, data.rows("validation")).argmax(axis=1) == data.targets(data.rows("validation"))
    assert record["validation"]["accuracy"] == right.mean() and record["validation"]["n"] == 12


def test_train_returns_the_record_that_is_on_disk(trained):
    run, _, _ = trained
    assert load_run(run.path).record == run.record


def test_plain_keras_opens_the_model_of_a_run(trained):
    run, data, model = trained
    loaded = keras.models.load_model(run.path / "model.keras")
    assert getattr(loaded, "optimizer", None) is None
    rows = data.rows("test")
    np.testing.assert_array_equal(forward(loaded, data.inputs, rows), forward(model, data.inputs, rows))
    np.testing.assert_array_equal(forward(run.load_model(), data.inputs, rows), forward(model, data.inputs, rows))


def test_the_history_has_a_row_an_epoch(undisturbed, data):
    run, _ = undisturbed
    rows = history_of(run)
    for row in rows:  # a share of the photos is a whole number of them, a loss is not
        for name, split in (("accuracy", "train"), ("val_accuracy", "validation")):
            photos = float(row[name]) * len(data.rows(split))
            assert photos == pytest.approx(round(photos), abs=1e-3), name
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert list(rows[0]) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds", "rate_conv1", "rate_conv2", "rate_head"]
    assert all(0 < float(row["loss"]) < 5 and 0 <= float(row["val_accuracy"]) <= 1 for row in rows)
    # 9 steps: one to warm up, then a cosine over 8; the rates are those of the third, sixth and ninth step
    expected = [(1 + np.cos(np.pi * done / 8)) / 2 for done in (1, 4, 7)]
    np.testing.assert_allclose([float(row["rate_conv1"]) for row in rows], np.multiply(0.01, expected), atol=1e-8)
    np.testing.assert_allclose([float(row["rate_head"]) for row in rows], np.multiply(0.001, expected), atol=1e-8)


def test_the_digest_in_the_record_is_that_of_the_model_before_training(undisturbed, backbone):
    run, model = undisturbed
    assert run.record["model"]["digest"] == network_digest(feature_network(build(backbone))) != network_digest(feature_network(model))


@pytest.mark.parametrize("change", [{"epochs": 0}, {"trainable": False}, {"trainable": "none"}, {"trainable": 0}])
def test_without_fine_tuning_the_head_is_kept_and_the_backbone_stays(tmp_path, data, backbone, change):
    model = build(backbone)
    run = tfcnn.train(model, data, replace(CONFIG, **change), output=tmp_path / "run")
    assert run.record["kept"] == "head" and run.record["validation"] == run.record["validation_of_head"]
    assert not (run.path / "history.csv").exists()
    for weight, before in zip(model.get_layer("backbone").weights, backbone.weights, strict=True):
        np.testing.assert_array_equal(weight.numpy(), before.numpy())
    rows = data.rows("train")
    assert (forward(model, data.inputs, rows).argmax(axis=1) == data.targets(rows)).mean() > 0.6  # chance is 0.33


def test_fine_tuning_opens_what_was_asked_for(tmp_path, data, backbone):
    model = build(backbone)
    run = tfcnn.train(model, data, replace(CONFIG, trainable=1, epochs=1), output=tmp_path / "run")
    moved = {w.path for w, before in zip(model.get_layer("backbone").weights, backbone.weights, strict=True) if not np.array_equal(w.numpy(), before.numpy())}
    assert run.record["kept"] == "fine-tuned" and moved == {"conv2/kernel", "conv2/bias"}


def test_the_same_seed_gives_the_same_weights(tmp_path, data, backbone, undisturbed):
    model = build(backbone)
    tfcnn.train(model, data, CONFIG, output=tmp_path / "same")
    assert_equal_weights(model, undisturbed[1])
    other = build(backbone)
    tfcnn.train(other, data, replace(CONFIG, seed=1), output=tmp_path / "other")
    assert not np.array_equal(other.get_layer("logits").kernel.numpy(), model.get_layer("logits").kernel.numpy())


@pytest.mark.parametrize("hidden", [(), pytest.param((5,), marks=pytest.mark.slow)])
def test_the_seed_of_the_training_fixes_head_and_dropout_whatever_was_drawn_before(tmp_path, data, backbone, hidden):
    models = [build(backbone, seed=seed, hidden=hidden) for seed in (1, 2)]
    for number, model in enumerate(models):
        tfcnn.train(model, data, CONFIG, output=tmp_path / str(number))
    assert_equal_weights(*models)


def interrupt(monkeypatch, name, at, module=module):
    """From now on `name` of a module raises KeyboardInterrupt when `at(arguments)` is true."""
    original = getattr(module, name)

    def interrupted(*arguments):
        if at(arguments):
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(module, name, interrupted)


def test_an_interrupted_training_ends_as_if_nothing_had_happened(tmp_path, monkeypatch, data, backbone, undisturbed):
    with monkeypatch.context() as patch:
        interrupt(patch, "save_place", lambda arguments: arguments[2:4] == (2, 0), recorder)
        with pytest.raises(KeyboardInterrupt):
            tfcnn.train(build(backbone), data, CONFIG, output=tmp_path / "run")
    assert load_run(tmp_path / "run").record["status"] == "started" and not (tmp_path / "run" / "model.keras").exists()
    assert [path.name for path in (tmp_path / "run" / "checkpoint").iterdir()] == ["epoch-0001-step-0000000.npz"]

    model = build(backbone)
    run = tfcnn.train(model, data, CONFIG, output=tmp_path / "run", resume=True)
    expected, undisturbed_model = undisturbed
    assert_equal_weights(model, undisturbed_model, tolerance=1e-5)
    assert run.record["status"] == "trained" and run.record["validation"] == expected.record["validation"]
    without_time = lambda rows: [[float(value) for name, value in row.items() if name != "seconds"] for row in rows]
    np.testing.assert_allclose(without_time(history_of(run)), without_time(history_of(expected)), atol=2e-5)
    assert not (run.path / "checkpoint").exists()


def test_what_changed_before_a_training_went_on_is_said_and_recorded(tmp_path, monkeypatch, data, backbone, caplog):
    config, output = replace(CONFIG, epochs=0), tmp_path / "run"
    with monkeypatch.context() as patch:
        interrupt(patch, "_train_head", lambda arguments: True)
        with pytest.raises(KeyboardInterrupt):
            tfcnn.train(build(backbone), data, config, output=output)
    began = load_run(output).record
    write_record(output, {**began, "created": "before", "versions": {**began["versions"], "scipy": "1.0"}, "hardware": {**began["hardware"], "cores": 99}})
    with caplog.at_level("WARNING"):
        run = tfcnn.train(build(backbone), data, config, output=output, resume=True)
    changed = [f"scipy was 1.0 and is {began['versions']['scipy']}", f"cores was 99 and is {began['hardware']['cores']}"]
    assert "; ".join(changed) in caplog.text
    assert run.record["created"] == "before" and run.record["versions"]["scipy"] == "1.0"
    assert [resumed["changed"] for resumed in run.record["resumed"]] == [changed]


def test_a_training_killed_after_its_last_epoch_is_completed(tmp_path, monkeypatch, data, backbone, undisturbed):
    with monkeypatch.context() as patch:
        interrupt(patch, "_write_run", lambda arguments: True)
        with pytest.raises(KeyboardInterrupt):
            tfcnn.train(build(backbone), data, CONFIG, output=tmp_path / "run")
    model = build(backbone)
    run = tfcnn.train(model, data, CONFIG, output=tmp_path / "run", resume=True)
    assert_equal_weights(model, undisturbed[1], tolerance=1e-6)
    assert len(history_of(run)) == 3 and run.record["status"] == "trained"


def test_resuming_with_other_arguments_names_the_argument(tmp_path, monkeypatch, data, backbone):
    with monkeypatch.context() as patch:
        interrupt(patch, "_train_head", lambda arguments: True)
        with pytest.raises(KeyboardInterrupt):
            tfcnn.train(build(backbone), data, CONFIG, output=tmp_path / "run")
    monkeypatch.setattr(module, "cached_features", lambda *_, **__: pytest.fail("slow work began"))
    go_on = lambda model, photos, config: tfcnn.train(model, photos, config, output=tmp_path / "run", resume=True)
    with pytest.raises(InputError, match=r"but epochs was 3 and is 4; give the same, or train again with --overwrite"):
        go_on(build(backbone), data, replace(CONFIG, epochs=4))
    with pytest.raises(InputError, match=r"but trainable was True and is conv2"):
        go_on(build(backbone), data, replace(CONFIG, trainable="conv2"))
    with pytest.raises(InputError, match=r"but trainable was True and is 1"):  # equal in Python
        go_on(build(backbone), data, replace(CONFIG, trainable=1))
    with pytest.raises(InputError, match=r"but dropout was 0\.5 and is 0\.1"):
        go_on(build(backbone, dropout=0.1), data, CONFIG)
    with pytest.raises(InputError, match=r"hidden was \[\] and is \[3\]"):
        go_on(build(backbone, hidden=(3,)), data, CONFIG)
    with pytest.raises(InputError, match="the photos and split that the run began with, but they changed"):
        go_on(build(backbone), replace(data, items=(data.items[0]._replace(split="other"), *data.items[1:])), CONFIG)


def test_resuming_a_finished_run_does_nothing(undisturbed, monkeypatch, data, backbone):
    run, _ = undisturbed
    before = {path.name: path.stat().st_mtime_ns for path in run.path.iterdir()}
    monkeypatch.setattr(module, "cached_features", lambda *_, **__: pytest.fail("trained again"))
    again = tfcnn.train(build(backbone), data, CONFIG, output=run.path, resume=True)
    assert again == load_run(run.path)
    assert {path.name: path.stat().st_mtime_ns for path in run.path.iterdir()} == before


def test_resuming_where_there_is_nothing_starts_from_the_beginning(tmp_path, data, backbone):
    run = tfcnn.train(build(backbone), data, replace(CONFIG, epochs=0), output=tmp_path / "new", resume=True)
    assert run.record["status"] == "trained"


def test_a_taken_folder_is_refused_and_stays_as_it_is(undisturbed, data, backbone):
    run, _ = undisturbed
    before = load_run(run.path).record
    with pytest.raises(InputError, match="holds a run already"):
        tfcnn.train(build(backbone), data, CONFIG, output=run.path)
    assert load_run(run.path).record == before


def test_overwriting_keeps_the_old_run_until_the_new_one_is_complete(tmp_path, monkeypatch, data, backbone):
    config = replace(CONFIG, epochs=0)
    tfcnn.train(build(backbone), data, config, output=tmp_path / "run")
    old = load_run(tmp_path / "run")
    (old.path / "note.txt").write_text("of the old run")
    with monkeypatch.context() as patch:
        interrupt(patch, "_train_head", lambda arguments: True)
        with pytest.raises(KeyboardInterrupt):
            tfcnn.train(build(backbone), data, config, output=tmp_path / "run", overwrite=True)
    [kept] = tmp_path.glob("run.replaced-*")
    assert load_run(kept).record == old.record
    assert (kept / "note.txt").exists() and (kept / "model.keras").exists()
    with monkeypatch.context() as patch:  # what was not completed is replaced as well, and the first run not forgotten
        interrupt(patch, "_tidy", lambda arguments: True)
        with pytest.raises(KeyboardInterrupt):
            tfcnn.train(build(backbone), data, config, output=tmp_path / "run", overwrite=True)
    assert len(list(tmp_path.glob("run.replaced-*"))) == 2 and kept.exists()
    tfcnn.train(build(backbone), data, config, output=tmp_path / "run", resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["run"] and "replaced" not in load_run(tmp_path / "run").record

    new = tfcnn.train(build(backbone), data, replace(config, seed=5), output=tmp_path / "run", overwrite=True)
    assert load_run(tmp_path / "run").record["training"]["seed"] == new.record["training"]["seed"] == 5
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_model_that_does_not_fit_the_data_is_refused_before_slow_work(tmp_path, monkeypatch, data, backbone):
    monkeypatch.setattr("tfcnn.training.provenance.network_digest", lambda *_: pytest.fail("slow work began"))
    monkeypatch.setattr(module, "cached_features", lambda *_, **__: pytest.fail("slow work began"))
    output = tmp_path / "run"
    two = tfcnn.build_classifier(build_features((8, 8, 3)), labels=["0", "1"])
    with pytest.raises(InputError, match=r"a model with 3 outputs for the labels 0, 1, 2, got 2; build it with labels=data\.labels"):
        tfcnn.train(two, data, CONFIG, output=output)
    larger = tfcnn.build_classifier(build_features((16, 16, 3)), labels=data.labels)
    with pytest.raises(InputError, match=r"photos of shape \(16, 16, 3\) as the model's input, got \(8, 8, 3\); load them with image_size=16"):
        tfcnn.train(larger, data, CONFIG, output=output)
    with pytest.raises(InputError, match=r"a model from build_classifier, got 'small_cnn'; build_classifier takes a network of your own"):
        tfcnn.train(build_features((8, 8, 3)), data, CONFIG, output=output)
    reversed_labels = tfcnn.build_classifier(build_features((8, 8, 3)), labels=data.labels[::-1])
    with pytest.raises(InputError, match=r"a model for the labels 0, 1, 2 in this order, got one for 2, 1, 0; build it with labels=data\.labels"):
        tfcnn.train(reversed_labels, data, CONFIG, output=output)
    with pytest.raises(InputError, match=r"expected data from load_images, got data='photos/'; write load_images\('photos/', image_size=\.\.\.\)"):
        tfcnn.train(build(backbone), "photos/", CONFIG, output=output)
    with pytest.raises(InputError, match=r"expected a TrainingConfig, got config=\{'epochs': 1\}"):
        tfcnn.train(build(backbone), data, {"epochs": 1}, output=output)
    for split in ("train", "validation"):
        unsplit = replace(data, items=tuple(item._replace(split="test" if item.split == split else item.split) for item in data.items))
        with pytest.raises(InputError, match=f"expected {split} photos, got none; load the data with a split"):
            tfcnn.train(build(backbone), unsplit, CONFIG, output=output)
    lacking = replace(data, items=tuple(item._replace(split="test" if item.label == "1" and item.split == "train" else item.split) for item in data.items))
    with pytest.raises(InputError, match="expected training photos of every label, got none of 1"):
        tfcnn.train(build(backbone), lacking, CONFIG, output=output)
    with pytest.raises(InputError, match=r"choose one of: conv1, conv2"):
        tfcnn.train(build(backbone), data, replace(CONFIG, trainable="x"), output=output)
    with pytest.raises(InputError, match=r"got batch_size=0"):
        tfcnn.train(build(backbone), data, replace(CONFIG, batch_size=0), output=output)
    assert not output.exists()


def test_weights_may_be_given_as_a_path(tmp_path, v3_small_weights):
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3)).astype(np.uint8)
    data = tfcnn.load_images((images, np.arange(6) % 2), image_size=32, split=(1 / 3, 1 / 3, 1 / 3))
    model = tfcnn.build_classifier("mobilenet_v3_small", labels=data.labels, weights=v3_small_weights, image_size=32)
    run = tfcnn.train(model, data, TrainingConfig(epochs=0), output=tmp_path / "run")
    assert run.record["model"]["weights"] == str(v3_small_weights)


@pytest.mark.parametrize(("lost", "gained", "kept"), [
    (0, 0, "fine-tuned"), (1, 0, "fine-tuned"), (2, 0, "head"), (3, 1, "fine-tuned"), (4, 1, "head"), (0, 4, "fine-tuned"),
])
def test_the_head_is_kept_only_where_fine_tuning_lost_clearly(monkeypatch, data, backbone, lost, gained, kept):
    """One standard error of the difference is sqrt(lost + gained) photos."""
    model = build(backbone)
    targets = data.targets(data.rows("validation"))
    head_targets, fine_targets = targets.copy(), targets.copy()
    fine_targets[:lost] = (targets[:lost] + 1) % 3
    head_targets[lost:lost + gained] = (targets[lost:lost + gained] + 1) % 3
    monkeypatch.setattr(module, "forward", lambda *_, **__: np.eye(3)[fine_targets])
    head_weights = [weight + 1 for weight in model.get_weights()]
    fine_weights = model.get_weights()
    scores, which, reason = module._keep_better(model, data, head_weights, np.eye(3)[head_targets])
    assert which == kept
    assert f"of {len(targets)} validation photos fine-tuning gained {gained} and lost {lost} (one standard error" in reason
    np.testing.assert_array_equal(scores.argmax(axis=1), head_targets if kept == "head" else fine_targets)
    for now, expected in zip(model.get_weights(), head_weights if kept == "head" else fine_weights, strict=True):
        np.testing.assert_array_equal(now, expected)


def test_the_head_is_kept_where_fine_tuning_answers_with_the_largest_class_alone(monkeypatch):
    """40 of class 0, 10 of class 1: all of class 0 is 40 right; the head is right on 34 and on 6, which is as many."""
    targets = np.repeat([0, 1], [40, 10])
    head_right = np.concatenate([np.arange(40) < 34, np.arange(10) < 6])
    scores = np.eye(2)[np.where(head_right, targets, 1 - targets)]
    data = SimpleNamespace(rows=lambda split: np.arange(50), targets=lambda rows: targets, inputs=None)
    monkeypatch.setattr(module, "forward", lambda *_, **__: np.eye(2)[np.zeros(50, int)])
    model = SimpleNamespace(distribute_strategy=None, set_weights=lambda weights: None)
    _, which, reason = module._keep_better(model, data, [], scores)
    assert which == "head" and "classes counted alike" in reason
