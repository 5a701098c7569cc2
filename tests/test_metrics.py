"""Numbers of an evaluation against scikit-learn on random scores, with classes absent and ties, and against formulas where it has none."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn import metrics

from tfcnn.evaluation.metrics import _Areas, _Counts, areas_of_labels, losses_of, numbers_of, ranks_of, top_k

LABELS = 4


@st.composite
def answers(draw):
    """Scores with ties (multiples of 0.1 before they are divided by their sum) and targets, some labels without photos."""
    n, present = draw(st.integers(2, 40)), draw(st.integers(1, LABELS))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    scores = rng.integers(1, draw(st.sampled_from([2, 4, 1000])), (n, LABELS)) / 10.0
    return scores / scores.sum(axis=1, keepdims=True), rng.integers(0, present, n)


@settings(max_examples=60, deadline=None)
@given(answers())
def test_every_number_is_that_of_scikit_learn(told):
    scores, targets = told
    values, _ = numbers_of(scores, targets)
    picked, there = scores.argmax(axis=1), np.unique(targets)
    assert values["balanced_accuracy"] == pytest.approx(metrics.recall_score(targets, picked, labels=there, average="macro", zero_division=0))
    assert values["macro_f1"] == pytest.approx(metrics.f1_score(targets, picked, labels=there, average="macro", zero_division=0), abs=1e-6)
    assert values["weighted_f1"] == pytest.approx(metrics.f1_score(targets, picked, average="weighted", zero_division=0), abs=1e-6)
    assert values["log_loss"] == pytest.approx(metrics.log_loss(targets, scores, labels=np.arange(LABELS)), rel=1e-5)
    areas = {label: (metrics.roc_auc_score(targets == label, scores[:, label]), metrics.average_precision_score(targets == label, scores[:, label]))
             for label in there if len(there) > 1}
    for label, row in enumerate(areas_of_labels(scores, targets)):
        expected = areas.get(label)
        assert (row["roc_auc"], row["average_precision"]) == (pytest.approx(expected) if expected else (None, None))
    for place, name in enumerate(("roc_auc", "average_precision")):
        assert values[name] == (pytest.approx(np.mean([pair[place] for pair in areas.values()])) if areas else None)


@settings(max_examples=40, deadline=None)
@given(answers(), st.integers(0, 2**16))
def test_a_weight_is_a_photo_that_is_there_so_often(told, seed):
    """What the bootstrap relies on."""
    scores, targets = told
    drawn = np.random.default_rng(seed).integers(0, len(targets), len(targets))
    weights = np.bincount(drawn, minlength=len(targets))[None].astype(float)
    for kind in (_Counts, _Areas):
        weighed, repeated = kind(scores, targets)(weights), kind(scores[drawn], targets[drawn])(np.ones((1, len(drawn))))
        for name, value in repeated.items():
            np.testing.assert_allclose(weighed[name], value, rtol=1e-5, err_msg=name)


def test_the_brier_score_is_its_formula():
    scores, targets = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]), np.array([0, 1])
    assert losses_of(scores, targets)["brier"] == pytest.approx([0.3**2 + 0.2**2 + 0.1**2, 0.1**2 + 0.9**2 + 0.8**2])
    assert losses_of(np.array([[0.0, 1.0]]), np.array([0]))["brier"] == [2.0]  # the worst there is


def test_scores_that_do_not_sum_to_one_and_zeros_give_a_finite_log_loss():
    found = losses_of(np.array([[3.0, 1.0], [0.0, 2.0]]), np.array([0, 0]))["log_loss"]
    assert found[0] == pytest.approx(-np.log(0.75)) and found[1] == pytest.approx(-np.log(np.finfo(float).eps))


def test_of_equal_scores_the_first_label_is_the_answer():
    scores = np.array([[0.4, 0.4, 0.2], [0.4, 0.4, 0.2], [0.2, 0.4, 0.4]])
    assert ranks_of(scores, np.array([0, 1, 2])).tolist() == [0, 1, 1]
    shares, intervals = top_k(scores, np.array([0, 1, 2]))
    assert shares == {"2": 1.0} and intervals["2"][1] == pytest.approx(1) and intervals["2"][0] == pytest.approx(0.4385, abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_top_k_is_that_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    scores, targets = rng.random((50, 7)), rng.integers(0, 7, 50)
    shares, _ = top_k(scores, targets)
    assert shares == {str(k): pytest.approx(metrics.top_k_accuracy_score(targets, scores, k=k, labels=np.arange(7))) for k in (2, 3, 5)}


@pytest.mark.parametrize("n", [1, 30, 49, 103])
def test_where_nothing_differs_there_is_no_interval(n):
    """Of answers that are all right the bootstrap draws nothing else; an interval without width would be a lie."""
    targets = np.arange(n) % 3
    scores = (np.eye(3) * 0.9 + 0.03)[targets]
    values, intervals = numbers_of(scores, targets)
    assert values["balanced_accuracy"] == 1.0 and values["roc_auc"] == (None if n == 1 else 1.0)
    assert set(intervals.values()) == {None}


def test_equal_losses_that_are_large_have_no_interval_either():
    """Sums of float32 differ in their last digits, which are larger for larger numbers."""
    scores = np.eye(3)[np.ones(50, int)]
    values, intervals = numbers_of(scores, np.zeros(50, int))
    assert values["log_loss"] > 36 and intervals["log_loss"] is None and intervals["brier"] is None


def test_one_class_alone_has_no_areas():
    values, intervals = numbers_of(np.full((10, 2), 0.5), np.zeros(10, int))
    assert values["roc_auc"] is values["average_precision"] is None and intervals["roc_auc"] is None and values["balanced_accuracy"] == 1.0


def test_intervals_are_the_same_again_and_hold_the_number():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, 200)
    scores = rng.dirichlet(np.ones(3), 200)
    scores[np.arange(200), targets] += 0.5
    values, intervals = numbers_of(scores / scores.sum(axis=1, keepdims=True), targets)
    assert numbers_of(scores / scores.sum(axis=1, keepdims=True), targets)[1] == intervals
    assert all(low < values[name] < high for name, (low, high) in intervals.items())
