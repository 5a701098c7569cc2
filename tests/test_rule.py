"""What the rule fills in."""

from dataclasses import fields
from itertools import pairwise

import pytest

from tfcnn.training.config import CHOSEN_BY_MACHINE, OPTIMIZERS, TrainingConfig, check_training
from tfcnn.training.rule import FACTORS, FIELDS, complete, open_by_rule

STAGES = ["stem", "stage1", "stage2", "stage3", "stage4", "top"]


def filled(photos=420, stages=STAGES, batch_norm=True, pretrained=True, **given):
    return complete(TrainingConfig(**given), photos=photos, stages=stages, batch_norm=batch_norm, pretrained=pretrained)


def test_the_defaults_for_420_photos_are_those_that_were_measured():
    config = filled()
    assert (config.trainable, config.epochs, config.batch_size, config.augmentation) == (3, 15, 16, "medium")
    assert (config.learning_rate, config.head_learning_rate, config.weight_decay) == pytest.approx((3e-4, 1e-3, 0.0))


@pytest.mark.parametrize(("photos", "trainable", "epochs", "batch_size", "augmentation"), [
    (1, 3, 30, 16, "medium"), (60, 3, 29, 16, "medium"), (100, 3, 24, 16, "medium"), (1_999, 3, 9, 16, "medium"), (2_000, 3, 9, 32, "medium"),
    (5_000, True, 7, 32, "medium"), (20_000, True, 4, 32, "strong"), (1_000_000, True, 3, 32, "strong"),
])
def test_more_photos_mean_fewer_epochs_and_more_that_learns(photos, trainable, epochs, batch_size, augmentation):
    config = filled(photos)
    assert (config.trainable, config.epochs, config.batch_size, config.augmentation) == (trainable, epochs, batch_size, augmentation)


def test_steps_grow_with_the_photos_but_slower_than_they_do():
    steps = [filled(photos).epochs * photos / filled(photos).batch_size for photos in (50, 200, 800, 3_000, 12_000, 50_000)]
    assert all(before < after for before, after in pairwise(steps))
    assert steps[-1] / steps[0] < 1_000 / 5


def test_half_of_the_stages_of_a_network_is_opened_and_at_least_one():
    assert [open_by_rule(TrainingConfig(), photos=100, stages=STAGES[:count]) for count in (1, 2, 5)] == [1, 1, 2]


def test_a_network_without_batch_norm_learns_at_a_lower_rate():
    assert filled(batch_norm=False).learning_rate == pytest.approx(5e-5) and filled(batch_norm=False).head_learning_rate == pytest.approx(1e-3)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_rates_suit_the_optimizer(optimizer):
    config = filled(optimizer=optimizer)
    factor = FACTORS[optimizer]
    assert (config.learning_rate, config.head_learning_rate) == pytest.approx((3e-4 * factor, 1e-3 * factor))
    check_training(config)


def test_stages_that_have_a_rate_are_opened():
    assert filled(learning_rates={"stage4": 1e-5, "stage2": 1e-6, "head": 1e-3}).trainable == "stage2"
    assert filled(learning_rates={"head": 1e-3}).trainable == 3
    assert filled(learning_rates={"stage4": 1e-5}, trainable=True).trainable is True


def test_a_network_without_pretrained_weights_learns_as_a_whole():
    config = filled(batch_norm=False, pretrained=False)
    assert config.trainable is True and config.learning_rate == pytest.approx(3e-4)
    assert config.batch_norm == "train" and filled().batch_norm == "frozen"
    assert filled(pretrained=False, learning_rates={"stage4": 1e-5}).trainable is True


def test_a_backbone_without_weights_leaves_the_head():
    assert filled(stages=[]).trainable is False


def test_what_is_given_stays():
    given = {"trainable": False, "epochs": 0, "batch_size": 3, "learning_rate": 0.1, "head_learning_rate": 0.2, "weight_decay": 0.1, "augmentation": "none"}
    config = filled(100_000, **given)
    assert {name: getattr(config, name) for name in given} == given


def test_the_rule_fills_in_every_field_it_names_and_leaves_nothing_else_open():
    open_fields = {field.name for field in fields(TrainingConfig) if field.default is None}
    assert set(FIELDS) == open_fields - {"learning_rates", "mixing", *CHOSEN_BY_MACHINE}
    assert all(getattr(filled(), name) is not None for name in FIELDS)


def test_networks_of_a_kind_have_its_rate_and_those_of_a_caller_a_usual_one():
    rates = {(kind, own): complete(TrainingConfig(), photos=100, stages=["block1"], kind=kind, scratch=True, own=own).learning_rate
             for kind in ("signal", "audio", "text") for own in (False, True)}
    assert rates == {**dict.fromkeys(rates, 1e-3), ("audio", False): 1e-2}


def test_the_head_of_a_network_from_scratch_has_the_rate_of_the_network():
    config = complete(TrainingConfig(learning_rate=1e-3), photos=100, stages=["block1"], kind="audio", scratch=True)
    assert (config.learning_rate, config.head_learning_rate) == (1e-3, 1e-3)
    config = complete(TrainingConfig(head_learning_rate=1e-3), photos=100, stages=["block1"], kind="audio", scratch=True)
    assert (config.learning_rate, config.head_learning_rate) == (1e-2, 1e-3)
