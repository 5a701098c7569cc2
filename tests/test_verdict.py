"""What a file lost, how sure that is, and the verdict."""

import numpy as np
import pytest

from tfcnn.export.verdict import compare, mcnemar, paired_interval
from tfcnn.models.temperature import fit_temperature


def scores_for(answers, classes=2):
    return np.eye(classes)[answers] * 0.8 + 0.1


def verdict(lost, gained, n, *, exact=False, limit=0.02):
    """Keras is right but on the last `gained` photos, the file but on the first `lost`."""
    targets, keras_answers, answers = np.zeros(n, int), np.zeros(n, int), np.zeros(n, int)
    answers[:lost], keras_answers[n - gained:] = 1, 1 if gained else 0
    return compare(scores_for(answers), scores_for(keras_answers), targets, ["a", "b"], exact=exact, max_accuracy_drop=limit)


@pytest.mark.parametrize(("lost", "gained", "n"), [(15, 5, 120), (5, 2, 120), (3, 3, 50), (40, 10, 1000)])
def test_the_ends_of_the_interval_are_where_the_score_test_turns(lost, gained, n):
    """The likelihood given a difference is maximised by a search over its one free parameter, not by the closed form."""
    shares = np.linspace(1e-6, 1, 2_000_001)
    for d, sign in zip(paired_interval(lost, gained, n), (1, -1), strict=True):
        q = shares[(shares + d > 0) & (1 - 2 * shares - d > 0)]
        likelihood = lost * np.log(q + d) + gained * np.log(q) + (n - lost - gained) * np.log(1 - 2 * q - d)
        best = q[likelihood.argmax()]
        assert (lost - gained - n * d) / np.sqrt(n * (2 * best + d - d * d)) == pytest.approx(sign * 1.6449, abs=2e-3)


def test_a_file_without_usable_scores_says_what_is_wrong_with_them():
    keras_scores, targets = scores_for([0, 1, 1]), np.array([0, 1, 1])
    broken = keras_scores.copy()
    broken[1:] = np.nan
    judge = lambda scores: compare(scores, keras_scores, targets, ["a", "b"], exact=True, max_accuracy_drop=0.02)
    assert (judge(broken).reason, judge(broken).accepted) == ("its scores are NaN or infinite for 2 of 3 photos", False)
    assert judge(keras_scores[:, :1]).reason == "its scores have shape (3, 1), those of Keras (3, 2)"


def test_no_difference_on_few_photos_is_not_proof():
    assert paired_interval(0, 0, 120) == pytest.approx((-0.02205, 0.02205), abs=1e-4)  # z^2 / (n + z^2)
    assert verdict(0, 0, 120).verdict == "undecided" and verdict(0, 0, 120).accepted
    assert verdict(0, 0, 150).verdict == "accepted" and verdict(0, 0, 120, exact=True).verdict == "accepted"


def test_the_verdict_follows_the_interval_and_acceptance_what_was_measured():
    assert (verdict(15, 5, 120).verdict, verdict(15, 5, 120).accepted) == ("rejected", False)
    assert (verdict(5, 2, 120).verdict, verdict(5, 2, 120).accepted) == ("undecided", False)
    assert (verdict(3, 3, 120).verdict, verdict(3, 3, 120).accepted) == ("undecided", True)
    assert (verdict(10, 10, 4000).verdict, verdict(10, 10, 4000).accepted) == ("accepted", True)
    assert verdict(2, 0, 100).accepted and not verdict(3, 0, 100).accepted  # exactly the limit is allowed


def test_a_float_file_that_disagrees_is_rejected_even_where_its_accuracy_holds():
    v = verdict(2, 2, 100, exact=True)
    assert v.accuracy_drop == 0 and not v.accepted and "on 0.960 of the photos" in v.reason


def test_a_float_file_may_take_the_other_side_of_a_tie():
    keras_scores, scores = scores_for(np.zeros(100, int)), scores_for(np.zeros(100, int))
    keras_scores[:5], scores[:5] = (0.505, 0.495), (0.498, 0.502)
    targets = np.zeros(100, int)
    judged = lambda: compare(scores, keras_scores, targets, ["a", "b"], exact=True, max_accuracy_drop=0.02)
    assert (judged().verdict, judged().accepted, judged().agreement) == ("accepted", True, 0.95)
    assert judged().accuracy_drop == pytest.approx(0.05)  # it is told, and is that of chance
    keras_scores[:2] = 0.52, 0.48  # two of 100 photos that Keras can tell
    assert not judged().accepted and "on 0.980 of the photos" in judged().reason


def test_a_float_file_with_other_scores_is_rejected_even_where_its_answers_are_those_of_keras():
    keras_scores = scores_for(np.zeros(100, int))
    for scores in (np.log(keras_scores), keras_scores**0.5 / (keras_scores**0.5).sum(axis=1, keepdims=True)):  # without softmax; another temperature
        for targets in (np.zeros(100, int), None):
            v = compare(scores, keras_scores, targets, ["a", "b"], exact=True, max_accuracy_drop=0.02)
            assert v.agreement == 1.0 and v.verdict == "rejected" and "a score differs" in v.reason


def test_scores_that_hardly_differ_are_no_ties_of_each_other():
    """A head of 100 labels that learned little: every score is below 0.02."""
    keras_scores = np.random.default_rng(0).dirichlet(np.full(100, 50), size=200)
    v = compare(np.roll(keras_scores, 1, axis=1), keras_scores, None, [str(label) for label in range(100)], exact=True, max_accuracy_drop=0.02)
    assert keras_scores.max() < 0.02 and v.verdict == "rejected"


def test_the_numbers_are_those_of_the_photos():
    v = verdict(5, 2, 120)
    assert (v.lost, v.gained, v.agreement) == (5, 2, 113 / 120) and v.accuracy_drop == pytest.approx(3 / 120)
    assert v.recall_change == {"a": pytest.approx(-3 / 120)} and v.mean_score_difference == pytest.approx(0.8 * 7 / 120)
    assert mcnemar(5, 2) == pytest.approx(2 * (1 + 7 + 21) / 2**7) and mcnemar(0, 0) == 1.0


def test_without_targets_only_parity_is_said():
    v = compare(scores_for(np.zeros(9, int)), scores_for(np.zeros(9, int)), None, ["a", "b"], exact=True, max_accuracy_drop=0.02)
    assert v.accuracy is None and v.accuracy_drop_interval is None and v.accepted
    changed = lambda count: scores_for((np.arange(100) < count).astype(int))
    few, many = (compare(changed(count), changed(0), None, ["a", "b"], exact=False, max_accuracy_drop=0.02) for count in (2, 3))
    assert (few.verdict, few.accepted, many.verdict, many.accepted) == ("undecided", True, "undecided", False)
    assert "may have lost more than 2 points" in many.reason


def test_a_temperature_undoes_what_logits_were_multiplied_by():
    random = np.random.default_rng(0)
    logits = random.normal(size=(20_000, 4))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    targets = (shares.cumsum(axis=1) < random.random((20_000, 1))).sum(axis=1).clip(max=3)
    sharp = np.exp(3 * logits) / np.exp(3 * logits).sum(axis=1, keepdims=True)
    assert fit_temperature(sharp, targets) == pytest.approx(3, rel=0.05) and fit_temperature(shares, targets) == pytest.approx(1, rel=0.05)


def test_a_temperature_concludes_no_more_than_the_photos_can_show():
    """60 photos, all right at 0.9: another one is right with 61 / 62."""
    scores, targets = np.tile([0.9, 0.1], (60, 1)), np.zeros(60, int)
    certainty = 0.9 ** (1 / fit_temperature(scores, targets))
    assert certainty / (certainty + 0.1 ** (1 / fit_temperature(scores, targets))) == pytest.approx(61 / 62, abs=1e-3)
