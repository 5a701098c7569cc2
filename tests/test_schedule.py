"""The rate of a group at every step."""

from itertools import pairwise

import keras
import numpy as np
import pytest

from tfcnn.training.schedule import StageRate


def rates(schedule, steps):
    return [float(schedule(step)) for step in steps]


def test_a_rate_rises_to_its_peak_and_falls_to_nothing():
    schedule = StageRate(2.0, steps=100, warm_up=10)
    np.testing.assert_allclose(rates(schedule, [0, 4, 9, 10, 55, 100, 150]), [0.2, 1.0, 2.0, 2.0, 1.0, 0, 0], atol=1e-6)
    falling = rates(schedule, range(10, 101))
    assert all(before > after for before, after in pairwise(falling))


def test_without_a_warm_up_the_first_step_has_the_peak():
    assert rates(StageRate(2.0, steps=100, warm_up=0), [0]) == [2.0]
    assert rates(StageRate(2.0, steps=100, warm_up=0, cosine=False), [0, 50, 500]) == [2.0, 2.0, 2.0]


def test_a_stage_that_is_opened_later_rises_then_and_falls_with_the_others():
    first, later = StageRate(2.0, steps=100, warm_up=10), StageRate(2.0, steps=100, warm_up=10, opened=40)
    np.testing.assert_allclose(rates(later, range(9, 60)), rates(first, range(49, 100)), rtol=1e-5)
    np.testing.assert_allclose(rates(later, [0, 4]), [0.1 * float(first(40)), 0.5 * float(first(44))], rtol=1e-5)


def test_the_factor_changes_the_rate_within_a_traced_step():
    import tensorflow as tf

    schedule = StageRate(2.0, steps=100, warm_up=0, cosine=False)
    traced = tf.function(schedule)
    before = float(traced(tf.constant(3)))
    schedule.factor.assign(0.25)
    assert (before, float(traced(tf.constant(3)))) == (2.0, 0.5)


def test_it_comes_back_from_its_configuration():
    schedule = StageRate(2.0, steps=100, warm_up=10, opened=3, factor=0.5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert rates(again, range(0, 110, 7)) == rates(schedule, range(0, 110, 7))
    assert rates(again, [6]) == [pytest.approx(0.7)]
