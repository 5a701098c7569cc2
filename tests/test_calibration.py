"""What scores mean: calibration error and thresholds against formulas and scikit-learn."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from tfcnn.evaluation.calibration import BINS, calibration_of, find_threshold, thresholds_of, with_temperature
from tfcnn.models.temperature import fit_temperature


def two_labels(top, right):
    """Scores of two labels, the first of which is the answer with `top`, and targets that make `right` of them right."""
    return np.stack([top, 1 - np.asarray(top)], axis=1), np.where(right, 0, 1)


def test_the_calibration_error_is_its_formula():
    scores, targets = two_labels([0.91, 0.92, 0.61, 0.62, 0.63, 0.64], [True, True, True, False, False, False])
    found = calibration_of(scores, targets)
    assert found["error"] == pytest.approx((2 * abs(1 - 0.915) + 4 * abs(0.25 - 0.625)) / 6)
    assert [(row["n"], row["right"]) for row in found["bins"]] == [(4, 0.25), (2, 1.0)] and found["bins"][0]["score"] == pytest.approx(0.625)


def test_bins_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    top = rng.uniform(0.5, 1, 500)
    scores, targets = two_labels(top, rng.random(500) < top)
    bins = calibration_of(scores, targets)["bins"]
    right, mean = calibration_curve(targets == 0, top, n_bins=BINS)
    assert [row["right"] for row in bins] == pytest.approx(right) and [row["score"] for row in bins] == pytest.approx(mean)


def test_scores_that_mean_what_they_say_have_next_to_no_error_and_sure_ones_have_some():
    rng = np.random.default_rng(1)
    top = rng.uniform(0.5, 1, 20000)
    scores, targets = two_labels(top, rng.random(20000) < top)
    assert calibration_of(scores, targets)["error"] < 0.015
    sure = with_temperature(scores, 0.5)
    assert calibration_of(sure, targets)["error"] > 0.05
    back = with_temperature(sure, fit_temperature(sure, targets))
    assert calibration_of(back, targets)["error"] < 0.015 and calibration_of(back, targets)["log_loss"] < calibration_of(sure, targets)["log_loss"]


def test_all_the_same_answer_and_the_same_score():
    found = calibration_of(np.tile([0.8, 0.2], (10, 1)), np.arange(10) % 2)
    assert found["error"] == pytest.approx(0.3) and len(found["bins"]) == 1 and calibration_of(np.tile([1.0, 0.0], (4, 1)), np.zeros(4, int))["error"] == 0


def test_the_threshold_is_the_lowest_score_that_is_right_often_enough():
    scores, targets = two_labels([0.95, 0.9, 0.85, 0.8, 0.75, 0.7], [True, True, False, True, True, False])
    assert find_threshold(scores, targets, 1.0) == 0.9
    assert find_threshold(scores, targets, 0.8) == 0.75  # 4 of 5, though only 2 of 3 are right from 0.85 up
    assert find_threshold(scores, targets, 0.5) == 0.7
    assert find_threshold(*two_labels([0.9, 0.8], [False, True]), 0.9) is None


def test_photos_with_the_same_score_are_taken_together():
    scores, targets = two_labels([0.9, 0.9, 0.6], [True, False, True])
    assert find_threshold(scores, targets, 1.0) is None and find_threshold(scores, targets, 0.6) == 0.6


def test_a_threshold_is_chosen_on_some_photos_and_measured_on_others():
    chosen = two_labels([0.9, 0.8, 0.7], [True, True, False])
    tried = two_labels([0.95, 0.85, 0.8, 0.75, 0.6], [True, False, True, True, True])
    first, second = thresholds_of(*tried, *chosen, precisions=(0.9, 0.6))
    assert first["threshold"] == 0.8 and first["n"] == 3 and first["right"] == pytest.approx(2 / 3) and first["refused"] == pytest.approx(2 / 5)
    assert second["threshold"] == 0.7 and second["n"] == 4 and first["interval"][0] < 2 / 3 < first["interval"][1]
    (nothing,) = thresholds_of(*tried, *two_labels([0.9], [False]), precisions=(0.9,))
    assert nothing == {"wished": 0.9, "threshold": None, "n": None, "right": None, "interval": None, "refused": None, "refused_interval": None}
    (refused,) = thresholds_of(*two_labels([0.6, 0.7], [True, True]), *two_labels([0.99], [True]), precisions=(0.9,))
    assert refused["n"] == 0 and refused["right"] is None and refused["refused"] == 1.0
