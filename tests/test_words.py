"""The verdict of a report in words."""

import numpy as np
import pytest

from tfcnn.evaluation.evaluate import make_report
from tfcnn.evaluation.words import last_name, verdict_of

LABELS = ["a", "b"]


def said(scores, targets, record=None, **more) -> str:
    report = make_report(np.asarray(scores, float), np.asarray(targets), LABELS, "test", **more)
    return " ".join(verdict_of(report, {"data": {}, **(record or {})}))


def scores_of(answers, confidence=0.9):
    scores = np.full((len(answers), 2), 1 - confidence)
    scores[np.arange(len(answers)), answers] = confidence
    return scores


@pytest.mark.parametrize(("right", "words"), [(95, "would be right on 60 %."), (60, "which these photos cannot tell from it"), (20, "it is worse than that")])
def test_an_accuracy_is_set_against_always_the_same_answer(right, words):
    targets = np.repeat([0, 1], [60, 40])
    answers = np.where(np.arange(100) < right, targets, 1 - targets)
    assert words in said(scores_of(answers), targets)


def test_the_worst_and_the_best_label_are_named_where_they_differ():
    targets = np.repeat([0, 1], 50)
    assert "finds 'b' worst (20 % of 50 photos) and 'a' best (100 % of 50)" in said(scores_of(np.repeat([0, 0, 1], [50, 40, 10])), targets)
    assert "worst" not in said(scores_of(1 - targets), targets) and "'a' taken for 'b', 50 times" in said(scores_of(1 - targets), targets)


def test_few_photos_and_a_validation_that_is_too_good_are_said():
    targets = np.repeat([0, 1], 50)
    answers = np.where(np.arange(100) % 2, targets, 1 - targets)
    text = said(scores_of(answers), targets, {"validation": {"accuracy": 1.0, "n": 100}})
    assert "100 test photos are few" in text and "is 50 points above the test: more than chance explains" in text
    assert "above the test" not in said(scores_of(answers), targets, {"validation": {"accuracy": 0.55, "n": 100}})


def test_scores_that_say_more_than_they_are_worth_are_named_and_a_temperature_where_it_helps():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, 400)
    answers = np.where(rng.random(400) < 0.7, targets, 1 - targets)
    text = said(scores_of(answers, 0.98), targets, temperature=4.0)
    assert "points more than they are worth on average" in text and "with the temperature 4.00" in text
    assert "with the temperature" not in said(scores_of(answers, 0.98), targets, temperature=0.5)  # which makes it worse
    assert "mean on average what they say" in said(scores_of(answers, 0.7), targets)


@pytest.mark.parametrize(("drop", "photos", "words"), [
    (0.01, "test", "1.0 MB, 1.0 points below Keras on the test photos."), (-0.02, "test", "1.0 MB, 2.0 points above Keras"),
    (0.01, "other", "1.0 MB, 1.0 points below Keras on the photos that it was checked on"), (None, "calibration", "1.0 MB.")])
def test_the_smallest_file_for_phones_is_named_with_what_it_lost(drop, photos, words):
    row = {"accepted": True, "path": "exports/x.tflite", "bytes": 10**6, "accuracy_drop": drop, "photos": photos}
    larger = {**row, "path": "exports/y.tflite", "bytes": 2 * 10**6}
    assert f"exports/x.tflite, {words}" in said(scores_of([0, 1]), [0, 1], {"exports": [larger, row]})
    assert "No file for phones passed" in said(scores_of([0, 1]), [0, 1], {"exports": [{**row, "accepted": False}]})


def test_a_card_tells_no_path_but_the_name_of_a_data_set():
    assert [last_name(source) for source in ("/home/me/photos:2024", "tfds:mnist", "a/b", "kaggle://x/y")] == ["photos:2024", "tfds:mnist", "b", "kaggle://x/y"]
