"""Values that `train` could not use."""

from dataclasses import replace

import pytest

from tfcnn.errors import InputError
from tfcnn.training.config import TrainingConfig, check_training


@pytest.mark.parametrize(("field", "value", "expected"), [
    ("epochs", -1, "a whole number from 0 up"),
    ("epochs", 1.5, "a whole number from 0 up"),
    ("batch_size", 0, "a whole number from 1 up"),
    ("batch_size", "8", "a whole number from 1 up"),
    ("learning_rate", 0, "a learning rate between 0 and 1"),
    ("learning_rate", 1, "a learning rate between 0 and 1"),
    ("learning_rate", float("nan"), "a learning rate between 0 and 1"),
    ("head_learning_rate", -1e-3, "a learning rate between 0 and 1"),
    ("layer_decay", 0, "a layer decay above 0 to 1"),
    ("layer_decay", 1.5, "a layer decay above 0 to 1"),
    ("warm_up", -0.1, "a warm-up from 0 to below 1"),
    ("warm_up", 1, "a warm-up from 0 to below 1"),
    ("clip_norm", -1, "a norm from 0 up"),
    ("clip_norm", float("nan"), "a norm from 0 up"),
    ("weight_decay", -0.1, "a weight decay from 0 to below 1"),
    ("weight_decay", 1, "a weight decay from 0 to below 1"),
    ("label_smoothing", -0.1, "label smoothing from 0 to below 1"),
    ("label_smoothing", 1, "label smoothing from 0 to below 1"),
    ("gradual", -1, "a whole number of epochs from 0 up"),
    ("gradual", True, "a whole number of epochs from 0 up"),
    ("ema", 1, "a share of the average from 0 to below 1"),
    ("ema", None, "a share of the average from 0 to below 1"),
    ("patience", 0.5, "a whole number of epochs from 0 up"),
    ("mixing", 1.1, "a share of mixed photos from 0 to 1"),
    ("seed", -1, "a seed from 0 to 2147483647"),
    ("seed", 2**31, "a seed from 0 to 2147483647"),
    ("seed", 0.5, "a seed from 0 to 2147483647"),
])
def test_a_bad_value_is_refused_by_its_name(field, value, expected):
    with pytest.raises(InputError) as refused:
        check_training(replace(TrainingConfig(), **{field: value}))
    assert str(refused.value) == f"expected {expected}, got {field}={value}"


def test_an_unknown_augmentation_offers_the_closest():
    with pytest.raises(InputError, match=r"got augmentation='meduim'; did you mean 'medium'\? \(all: none, light, medium, strong\)"):
        check_training(TrainingConfig(augmentation="meduim"))


@pytest.mark.parametrize(("field", "value", "message"), [
    ("learning_rates", {"conv5": "1e-3"}, r"expected learning rates between 0 and 1, got conv5=1e-3"),
    ("learning_rates", [1e-3], r"expected rates by stage, as in \{'conv5': 1e-5, 'head': 1e-3\}, got learning_rates=\[0\.001\]"),
    ("learning_rate", [1e-3], r"expected a learning rate between 0 and 1, got learning_rate=\[0\.001\]"),
    ("optimizer", ["adam"], r"expected an optimizer, got optimizer='\['adam'\]'"),
    ("learning_rates", {"conv5": None}, r"expected learning rates between 0 and 1, got conv5=None"),
    ("mixed_precision", "no", r"expected True or False, got mixed_precision='no'"),
    ("mirror", 1, r"expected True or False, got mirror=1"),
    ("learning_rates", {"conv5": 2.0}, r"expected learning rates between 0 and 1, got conv5=2\.0"),
    ("optimizer", "adamv", r"got optimizer='adamv'; did you mean 'adam'\? \(all: adamw, adam, sgd, lion\)"),
    ("schedule", "cosin", r"got schedule='cosin'; did you mean 'cosine'\? \(all: cosine, constant, plateau\)"),
    ("batch_norm", "open", r"expected batch_norm frozen or train, got batch_norm='open'"),
])
def test_an_unknown_way_to_train_offers_what_there_is(field, value, message):
    with pytest.raises(InputError, match=message):
        check_training(replace(TrainingConfig(), **{field: value}))


@pytest.mark.parametrize("config", [
    TrainingConfig(),
    TrainingConfig(layer_decay=1, warm_up=0, clip_norm=0, optimizer="lion", schedule="constant", batch_norm="train", learning_rates={"head": 1e-3}),
    TrainingConfig(epochs=0, batch_size=1, weight_decay=0, label_smoothing=0, augmentation="none", seed=2**31 - 1),
])
def test_the_defaults_and_the_ends_of_the_ranges_can_be_used(config):
    check_training(config)
