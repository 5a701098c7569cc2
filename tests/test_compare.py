"""Two runs on the same photos."""

import csv
import dataclasses
import shutil

import numpy as np
import pytest
from scipy.stats import binomtest

import tfcnn
from tfcnn.data.scores import Scores, read_scores, write_scores
from tfcnn.evaluation.paired import gain_of
from tfcnn.record import load_run, write_record


def run_with(folder, answers, targets, *, labels=("a", "b", "c"), digests=None, confidence=0.8):
    """A run folder that gave these answers to test photos."""
    folder.mkdir()
    write_record(folder, {"labels": list(labels), "status": "finished", "geometry": "stretch", "input_shape": [8, 8, 3], "temperature": None})
    scores = np.full((len(answers), len(labels)), (1 - confidence) / (len(labels) - 1), np.float32)
    scores[np.arange(len(answers)), answers] = confidence
    digests = np.array([f"photo{number}" for number in range(len(answers))] if digests is None else digests)
    write_scores(folder, "test", Scores(scores, np.asarray(targets), np.array([f"{digest}.jpg" for digest in digests]), digests))
    return folder


def test_the_numbers_of_a_comparison_are_those_of_its_formulas(tmp_path):
    targets = np.arange(60) % 3
    first, second = targets.copy(), targets.copy()
    first[:15] = (targets[:15] + 1) % 3     # wrong on 15
    second[10:18] = (targets[10:18] + 1) % 3   # on 8, of which 5 are the same photos
    found = tfcnn.compare(run_with(tmp_path / "one", first, targets), run_with(tmp_path / "two", second, targets))
    assert (found.n, found.only_first, found.only_second, found.left_out) == (60, 3, 10, 0)
    assert found.difference == pytest.approx(7 / 60) and found.interval[0] < 7 / 60 < found.interval[1]
    assert found.p_value == pytest.approx(binomtest(3, 13).pvalue)
    assert found.reports[0].accuracy == pytest.approx(0.75) and found.reports[1].accuracy == pytest.approx(52 / 60)
    assert len(found.photos) == 13 and found.photos[0] == {"path": "photo0.jpg", "label": "a", "first": "b", "first_score": pytest.approx(0.8),
                                                           "second": "a", "second_score": pytest.approx(0.8)}
    assert "no difference can be told from chance: 10 photos that only the second got right, 3 that only the first did" in str(found)
    assert "accuracy" in str(found) and "recall of b" in str(found) and "... and 1 more" in str(found)


def test_a_difference_beyond_chance_is_called_one(tmp_path):
    targets = np.arange(60) % 3
    found = tfcnn.compare(run_with(tmp_path / "one", (targets + 1) % 3, targets), run_with(tmp_path / "two", targets, targets))
    assert found.verdict.startswith("the second is better: 60 photos") and found.interval[0] == pytest.approx((60 - 3.8415) / (60 + 3.8415), abs=1e-3)
    same = tfcnn.compare(tmp_path / "two", tmp_path / "two")
    assert same.p_value == 1 and same.difference == 0 and same.photos == () and same.interval[0] < 0 < same.interval[1]


def test_photos_are_paired_by_content_and_labels_by_name(tmp_path):
    targets, digests = np.array([0, 1, 2, 0]), np.array(["p", "q", "r", "s"])
    one = run_with(tmp_path / "one", targets, targets, digests=digests)
    order = [2, 0, 1]  # of the labels c, a, b of the second run
    two = run_with(tmp_path / "two", np.array([1, 2, 0]), np.array([1, 2, 0]), labels=[("a", "b", "c")[k] for k in order], digests=["p", "q", "r"])
    found = tfcnn.compare(one, two)
    assert (found.n, found.left_out, found.only_first, found.only_second) == (3, 1, 0, 0) and found.reports[1].accuracy == 1
    (two / "items.csv").write_text("path,label,split,sha256\nq.jpg,b,train,q\n")  # the second was trained on one of them
    assert tfcnn.compare(one, two).n == 2


def test_the_photos_with_different_answers_are_listed_in_a_file(tmp_path):
    targets = np.array([0, 1, 2, 0])
    tfcnn.compare(run_with(tmp_path / "one", targets, targets), run_with(tmp_path / "two", [0, 1, 1, 0], targets), output=tmp_path / "different.csv")
    with open(tmp_path / "different.csv", newline="", encoding="utf-8") as lines:
        (row,) = csv.DictReader(lines)
    assert row["path"] == "photo2.jpg" and (row["label"], row["first"], row["second"]) == ("c", "c", "b")


def test_what_cannot_be_compared_is_one_line(tmp_path):
    targets = np.array([0, 1, 2])
    one = run_with(tmp_path / "one", targets, targets)
    with pytest.raises(tfcnn.InputError, match="only the first has c, only the second d"):
        tfcnn.compare(one, run_with(tmp_path / "two", targets, targets, labels=("a", "b", "d")))
    with pytest.raises(tfcnn.InputError, match="found none that neither was trained on; give a source"):
        tfcnn.compare(one, run_with(tmp_path / "three", targets, targets, digests=["x", "y", "z"]))
    with pytest.raises(tfcnn.InputError, match=r"ends in \.csv"):
        tfcnn.compare(one, one, output="x.txt")


def test_runs_are_compared_on_other_photos_and_without_kept_scores(trained, tmp_path, caplog):
    run = trained[0]
    shutil.copytree(run.path, tmp_path / "copy")
    found = tfcnn.compare(run, tmp_path / "copy")
    assert found.n == 24 and found.p_value == 1
    from conftest import make_photos

    other = tfcnn.compare(run, load_run(tmp_path / "copy"), make_photos(tmp_path / "other", count=5, seed=9))
    assert "trained on" not in caplog.text  # what is left out is not warned of
    assert other.n == 15 and other.reports[0].accuracy == other.reports[1].accuracy


def test_kept_scores_are_read_back_and_damaged_ones_are_not(trained, tmp_path):
    shutil.copytree(trained[0].path, tmp_path / "run")
    run = load_run(tmp_path / "run")
    kept = read_scores(run, "validation")
    assert kept.scores.shape == (12, 3) and kept.scores.dtype == np.float32 and list(kept.digests) == [item.sha256 for item in trained[1].items
                                                                                                      if item.split == "validation"]
    whole = (run.path / "scores-validation.npz").read_bytes()
    for damaged in (b"PK", whole[:len(whole) // 2], whole[:60] + bytes(200) + whole[260:]):
        (run.path / "scores-validation.npz").write_bytes(damaged)
        assert read_scores(run, "validation") is None
    assert read_scores(run, "validation") is None and read_scores(run, "train") is None
    write_scores(run.path, "validation", kept._replace(scores=kept.scores[:, :2]))  # of other labels
    assert read_scores(run, "validation") is None


def test_the_gain_of_balanced_accuracy_counts_each_label_the_same():
    targets = np.array([0] * 8 + [1] * 2)
    right, other = np.ones(10, bool), np.array([True] * 8 + [True, False])
    assert gain_of(right, other, targets) == pytest.approx((0.1, 0.1)) and gain_of(right, other, targets, balanced=True) == pytest.approx((0.25, 0.25))
    assert gain_of(right, right, targets) == (0.0, 0.0) and gain_of(other, right, targets)[0] == pytest.approx(-0.1)


def test_a_comparison_is_plain_values(tmp_path):
    import json

    found = tfcnn.compare(*[run_with(tmp_path / name, np.array([0, 1, 2]), np.array([0, 1, 2])) for name in ("one", "two")])
    assert json.loads(json.dumps(found.to_dict()))["n"] == 3 and dataclasses.is_dataclass(found)


def test_runs_are_compared_on_the_test_split_of_a_dataset(trained):
    run, data, _ = trained
    found = tfcnn.compare(run, run, data)
    assert found.n == len(data.rows("test")) and found.left_out == 0 and found.reports[0].accuracy == pytest.approx(tfcnn.evaluate(run, data).accuracy)
