"""Every number of a report against scikit-learn or a formula, on ordinary and on degenerate input; predictions."""

import dataclasses
import json
import re
import shutil

import keras
import numpy as np
import pytest
from conftest import make_photos
from sklearn import metrics

import tfcnn
from tfcnn.data import images
from tfcnn.data.images import load_images
from tfcnn.data.run_data import load_for_run
from tfcnn.evaluation.evaluate import make_report
from tfcnn.evaluation.intervals import wilson_interval
from tfcnn.models.forward import forward
from tfcnn.record import write_record


def random_scores(n, labels, seed):
    rng = np.random.default_rng(seed)
    scores = rng.dirichlet(np.ones(labels), n).astype(np.float32)
    return scores, rng.integers(0, labels, n)


@pytest.mark.parametrize("seed", range(5))
def test_the_numbers_are_those_of_scikit_learn(seed):
    scores, targets = random_scores(40, 4, seed)
    answers = scores.argmax(axis=1)
    report = make_report(scores, targets, list("abcd"), "test")
    assert report.n == 40 and report.accuracy == metrics.accuracy_score(targets, answers)
    assert report.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(targets, answers))
    assert report.log_loss == pytest.approx(-np.mean(np.log(scores[np.arange(40), targets])), rel=1e-5)
    np.testing.assert_array_equal(report.confusion, metrics.confusion_matrix(targets, answers))
    for row, precision, recall in zip(report.per_label, metrics.precision_score(targets, answers, average=None),
                                      metrics.recall_score(targets, answers, average=None), strict=True):
        assert (row["precision"], row["recall"]) == pytest.approx((precision, recall))


def test_a_label_without_photos_counts_in_no_mean():
    scores = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1]])
    report = make_report(scores, np.array([0, 1, 1]), list("abc"), "test")
    assert report.accuracy == pytest.approx(2 / 3) and report.balanced_accuracy == pytest.approx(0.75)
    assert {name: report.per_label[2][name] for name in ("label", "n", "precision", "recall", "f1", "roc_auc")} == {
        "label": "c", "n": 0, "precision": 0.0, "recall": 0.0, "f1": 0.0, "roc_auc": None}


def test_always_the_same_answer():
    scores = np.tile([0.9, 0.1], (10, 1))
    report = make_report(scores, np.arange(10) % 2, ["a", "b"], "test")
    assert report.accuracy == report.balanced_accuracy == 0.5 and report.confusion == ((5, 0), (5, 0))


def test_nan_scores_are_named_and_not_averaged():
    scores = np.full((4, 2), 0.5)
    scores[1] = np.nan
    with pytest.raises(tfcnn.WorkError, match=r"for 1 of 4 photos \(1\)"):
        make_report(scores, np.zeros(4, int), ["a", "b"], "test")


# Values of the interval as printed in Newcombe 1998, Statistics in Medicine 17, table I, method 3.
@pytest.mark.parametrize(("successes", "n", "interval"), [
    (81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)), (1, 29, (0.0061, 0.1718)),
])
def test_wilson_interval_as_published(successes, n, interval):
    assert wilson_interval(successes, n) == pytest.approx(interval, abs=5e-5)


def test_wilson_interval_of_all_and_of_nothing():
    assert wilson_interval(20, 20)[1] == pytest.approx(1.0) and wilson_interval(0, 0) == (0.0, 1.0)


def test_evaluate_measures_the_split_it_is_asked_for(trained):
    run, data, model = trained
    for split, n in (("train", 24), ("validation", 12), ("test", 24)):
        rows = data.rows(split)
        report = tfcnn.evaluate(run, data, split=split)
        assert report.n == n and report.split == split
        assert report.accuracy == np.mean(forward(model, data.inputs, rows).argmax(axis=1) == data.targets(rows))
    assert tfcnn.evaluate(run.path) == tfcnn.evaluate(run, data)  # finds its own photos again
    json.dumps(report.to_dict())
    assert f"accuracy {report.accuracy:.3f}" in str(report) and "recall" in str(report)


def test_what_evaluate_refuses(trained, tmp_path):
    run, data, _ = trained
    with pytest.raises(tfcnn.InputError, match="did you mean 'test'"):
        tfcnn.evaluate(run, data, split="tests")
    other = tfcnn.load_images(make_photos(tmp_path / "p", classes=("x", "y"), count=3), image_size=32, split=None)
    with pytest.raises(tfcnn.InputError, match=r"labels that the run knows \(.*\), got x, y besides"):
        tfcnn.evaluate(run, other)
    everything_is_test = dataclasses.replace(data, items=tuple(item._replace(split="test") for item in data.items))
    with pytest.raises(tfcnn.InputError, match="found none"):
        tfcnn.evaluate(run, everything_is_test, split="train")


def test_a_damaged_run_is_named(trained, tmp_path):
    shutil.copytree(trained[0].path, tmp_path / "run")
    model = tmp_path / "run" / "model.keras"
    model.write_bytes(model.read_bytes()[:1000])
    with pytest.raises(tfcnn.InputError, match="damaged"):
        tfcnn.evaluate(tmp_path / "run", trained[1])


@pytest.mark.parametrize(("changed", "message"), [
    ({"input_shape": [64, 64, 3]}, r"a model for inputs of shape \(64, 64, 3\) as run.json says, got one for \(32, 32, 3\)"),
    ({"input_shape": [32, 32, 1]}, r"a model for inputs of shape \(32, 32, 1\)"),
    ({"labels": ["a", "b"]}, "one output for each of the 2 labels of the run, got 3"),
    ({"geometry": "round"}, "expected a geometry"),
])
def test_predict_refuses_a_record_of_another_training(trained, tmp_path, changed, message):
    """With another number of channels it gave wrong answers without a word, with another size an error of NumPy's."""
    run, data, _ = trained
    shutil.copytree(run.path, tmp_path / "run")
    (tmp_path / "run" / "labels.txt").unlink()
    other = write_record(tmp_path / "run", {**run.record, **changed})
    with pytest.raises(tfcnn.InputError, match=message):
        tfcnn.predict(other, [data.items[0].path])


def test_predict_gives_the_scores_of_the_model_for_files_and_arrays(trained, photos):
    run, data, model = trained
    rows = np.arange(4)
    expected = forward(model, data.inputs, rows)
    from_files = tfcnn.predict(run, [data.items[row].path for row in rows])
    from_arrays = tfcnn.predict(run.path, data.inputs[rows])
    for row, file, array in zip(expected, from_files, from_arrays, strict=True):
        np.testing.assert_allclose(list(file.scores.values()), row, atol=1e-6)
        assert file.label == array.label == run.labels[row.argmax()] and file.scores == array.scores
    with pytest.raises(tfcnn.InputError, match=r"shape \(n, 32, 32, 3\)"):
        tfcnn.predict(run, np.zeros((1, 8, 8, 3), np.uint8))
    damaged = tfcnn.predict(run, [run.path / "run.json", data.items[0].path])
    assert "cannot be decoded (not an image" in damaged[0].error and damaged[0].label is None and damaged[1].scores == from_files[0].scores


def test_a_source_may_lack_labels_but_not_know_others(trained, tmp_path, monkeypatch):
    run = trained[0]
    whole = make_photos(tmp_path / "some", count=4, seed=5)
    shutil.rmtree(whole / "green")
    report = tfcnn.evaluate(run, load_for_run(run, whole))
    assert report.n == 8 and report.labels == tuple(run.labels) and [row["n"] for row in report.per_label] == [4, 0, 4]
    assert report.per_label[1]["roc_auc"] is None and report.per_label[0]["roc_auc"] is not None
    shutil.rmtree(whole / "red")
    report = tfcnn.evaluate(run, load_for_run(run, whole))  # one class folder is enough to measure on
    assert report.n == 4 and report.roc_auc is None and report.balanced_accuracy == report.accuracy
    make_photos(tmp_path / "more", classes=("blue", "zebra", "yak"), count=3)
    unknown = r"labels that the run knows \(blue, green, red\), got yak, zebra besides; rename or leave out"
    monkeypatch.setattr(images, "read_all", lambda *given: pytest.fail("photos were decoded"))
    with pytest.raises(tfcnn.InputError, match=unknown):
        load_for_run(run, tmp_path / "more")
    monkeypatch.undo()
    with pytest.raises(tfcnn.InputError, match=unknown):
        tfcnn.evaluate(run, load_images(tmp_path / "more", image_size=32, split=None))


def test_photos_that_chose_a_run_are_said_too_where_they_are_its_test(trained, tmp_path, caplog):
    run, data, _ = trained
    chosen = [item for item in data.items if item.split == "validation"]
    for number, item in enumerate(chosen):
        (tmp_path / "again" / item.label).mkdir(parents=True, exist_ok=True)
        shutil.copy(item.path, tmp_path / "again" / item.label / f"{number}.jpg")
    tfcnn.evaluate(run, load_for_run(run, tmp_path / "again"))
    assert f"12 of the 12 photos are validation photos of '{run.path}'" in caplog.text and "were trained on" not in caplog.text


def test_labels_without_photos_have_no_recall_in_the_text():
    report = make_report(np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]]), np.array([0, 1]), ["a", "b", "c"], "test")
    assert str(report).splitlines()[-1] == "  c  n    0  no photos"


def test_a_damaged_list_of_the_photos_of_a_run_is_one_line(trained, tmp_path):
    shutil.copytree(trained[0].path, tmp_path / "run")
    whole = (tmp_path / "run" / "items.csv").read_text().splitlines(keepends=True)
    for text in ("path,label,split\na.jpg,blue,test\n", "path,label,split,sha256\na.jpg,blue,test,1,more\n", "".join(whole[:40]), ""):
        (tmp_path / "run" / "items.csv").write_text(text)
        with pytest.raises(tfcnn.InputError, match=r"expected the photos of a run in '.*items\.csv', .* but it is damaged"):
            tfcnn.evaluate(tmp_path / "run")


def test_a_split_that_is_missing_is_named_with_those_that_are_there(trained):
    run, data, _ = trained
    without = dataclasses.replace(data, items=tuple(item._replace(split="train" if item.split == "test" else item.split) for item in data.items))
    with pytest.raises(tfcnn.InputError, match=r"expected photos in the split 'test', found none; give another split \(photos: train 48, validation 12\)"):
        tfcnn.evaluate(run, without)


def test_nan_scores_end_an_evaluation_with_the_names_of_the_photos(trained, tmp_path):
    run, data, _ = trained
    shutil.copytree(run.path, tmp_path / "run")
    broken = keras.models.load_model(tmp_path / "run" / "model.keras")
    broken.get_layer("logits").set_weights([np.full_like(weight, np.nan) for weight in broken.get_layer("logits").get_weights()])
    broken.save(tmp_path / "run" / "model.keras")
    first = data.items[data.rows("test")[0]].path
    with pytest.raises(tfcnn.WorkError, match=rf"NaN or infinity for 24 of 24 photos \({re.escape(first)}, "):
        tfcnn.evaluate(tmp_path / "run", data)
    with pytest.raises(tfcnn.WorkError, match="NaN or infinity for '"):
        tfcnn.predict(tmp_path / "run", [first])


def test_thresholds_are_chosen_on_the_validation_photos_that_the_run_keeps(trained, tmp_path):
    run, data, _ = trained
    report = tfcnn.evaluate(run, data)
    assert [row["wished"] for row in report.thresholds] == [0.9, 0.95, 0.99] and "right 90 times of 100" in str(report)
    assert [row["wished"] for row in tfcnn.evaluate(run, data, precisions=[0.5, 1]).thresholds] == [0.5, 1]
    for wrong in (0, 1.2, "0.9"):
        with pytest.raises(tfcnn.InputError, match=f"above 0 to 1, got precision={wrong!r}"):
            tfcnn.evaluate(run, data, precisions=[wrong])
    assert tfcnn.evaluate(run, data, split="validation").thresholds == ()  # chosen on these very photos
    shutil.copytree(run.path, tmp_path / "run")
    (tmp_path / "run" / "scores-validation.npz").unlink()
    assert tfcnn.evaluate(tmp_path / "run", data).thresholds == ()


def test_records_of_earlier_versions_are_still_reports(trained):
    report = tfcnn.evaluate(*trained[:2])
    kept = ("split", "n", "accuracy", "interval", "balanced_accuracy", "log_loss", "labels", "per_label", "confusion")
    rows = [{name: row[name] for name in ("label", "n", "precision", "recall", "f1")} for row in report.per_label]
    old = tfcnn.Report(**{**{name: report.to_dict()[name] for name in kept}, "per_label": rows})
    assert str(old).startswith(f"test: accuracy {report.accuracy:.3f}") and "balanced accuracy" in str(old) and "Brier" not in str(old)
    assert f"{report.accuracy:.3f}" in old._repr_html_()
    assert [row["recall_interval"] for row in old.per_label] == [row["recall_interval"] for row in report.per_label]
    assert "table of labels" in old._repr_html_()
