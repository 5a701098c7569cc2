"""What is searched: the fields of the configs, narrowed and widened by keras-tuner's own hyperparameters."""

import keras_tuner
import pytest

import tfcnn
from tfcnn.search.space import configs_of, field_levels, fine_space, head_space, read_space

ONE = ("mobilenet_v3_small",)


def names(hp) -> set[str]:
    return {row.name for row in hp.space}


def test_the_space_is_what_the_fields_say():
    rows = read_space(backbones=ONE)
    assert set(rows) == set(field_levels()) - {"backbone", "image_size"}
    assert (rows["learning_rate"].min_value, rows["learning_rate"].max_value, rows["learning_rate"].sampling) == (3e-5, 3e-3, "log")
    assert rows["hidden"].values == ["none", "64", "256", "1024"] and (rows["trainable"].min_value, rows["trainable"].max_value) == (1, 6)
    several = read_space(backbones=("vgg16", "mobilenet_v2"), image_sizes=(96, 128))
    assert several["backbone"].values == ["vgg16", "mobilenet_v2"] and several["image_size"].values == [96, 128] and several["trainable"].max_value == 5


def test_it_is_narrowed_widened_and_fixed():
    def space(hp):
        hp.Float("dropout", 0.1, 0.2)
        hp.Choice("hidden", ["32", "512,64"])
        hp.Fixed("optimizer", "sgd")

    rows = read_space(space, fixed=["learning_rate"], backbones=ONE)
    assert rows["dropout"].max_value == 0.2 and rows["hidden"].values == ["32", "512,64"] and rows["optimizer"].value == "sgd" and "learning_rate" not in rows
    assert set(read_space(only=["dropout", "mixing"], backbones=ONE)) == {"dropout", "mixing"}
    hp = keras_tuner.HyperParameters()
    hp.Boolean("head_batch_norm")
    assert set(read_space(hp, only=[], backbones=ONE)) == {"head_batch_norm"}


@pytest.mark.parametrize(("given", "message"), [
    ({"only": []}, "expected something to search"),
    ({"space": lambda hp: hp.Fixed("dropout", 0.1), "only": []}, "every field is fixed"),
    ({"only": ["learning_rat"]}, "got 'learning_rat'; did you mean 'learning_rate'"),
    ({"space": lambda hp: hp.Float("droput", 0, 1)}, "did you mean 'dropout'"),
    ({"space": lambda hp: hp.Float("dropout", 0.5, 0.1)}, r"expected a space as keras-tuner takes it, but: .*min_value 0.5 is greater than"),
    ({"space": lambda hp: hp.Float("dropout", 0.5, 1.5)}, "expected a dropout from 0 to below 1, got dropout=1.5"),
    ({"space": lambda hp: hp.Choice("optimizer", ["adamw", "adagrad"])}, "got optimizer='adagrad'"),
    ({"space": lambda hp: hp.Choice("hidden", ["many"])}, "expected hidden layers as 256,64 or none"),
    ({"space": lambda hp: hp.Choice("backbone", ["vgg16", "vgg19"])}, "expected backbones of the search, got 'vgg16'"),
    ({"space": 7}, "expected a function of keras_tuner.HyperParameters"),
])
def test_what_is_no_space_is_one_line(given, message):
    with pytest.raises(tfcnn.InputError, match=message) as refused:
        read_space(**given, backbones=ONE)
    assert "\n" not in str(refused.value)


def test_conditions_of_the_user_are_refused():
    def space(hp):
        hp.Choice("hidden", ["none", "64"])
        with hp.conditional_scope("hidden", ["64"]):
            hp.Float("dropout", 0, 0.5)

    with pytest.raises(tfcnn.InputError, match="conditions of 'dropout'"):
        read_space(space, backbones=ONE)


def test_heads_search_what_concerns_hidden_layers_only_where_there_are_some():
    rows = read_space(backbones=ONE)
    hp = head_space(rows, tfcnn.ModelConfig())
    hp.values = {"hidden": "none"}
    active = {row.name for row in hp.space if hp.is_active(row)}
    assert {"pooling", "hidden", "logistic_c"} == active
    hp.values = {"hidden": "64"}
    active = {row.name for row in hp.space if hp.is_active(row)}
    assert active == {"pooling", "hidden", "activation", "head_batch_norm", "dropout", "head_learning_rate", "optimizer", "weight_decay", "label_smoothing"}
    fixed = read_space(fixed=["hidden"], backbones=ONE)
    assert names(head_space(fixed, tfcnn.ModelConfig())) == {"pooling", "logistic_c"}
    with_hidden = names(head_space(fixed, tfcnn.ModelConfig(hidden=(8,))))
    assert "dropout" in with_hidden and "logistic_c" not in with_hidden


def test_fine_tunings_leave_what_a_head_with_hidden_layers_was_found_with():
    rows = read_space(backbones=ONE)
    hp = fine_space(rows, {"3": {"hidden": "none"}, "5": {"hidden": "64"}}, tfcnn.ModelConfig())
    active = lambda head: {row.name for row in hp.space if setattr(hp, "values", {"head": head}) or hp.is_active(row)}
    both = {"dropout", "head_learning_rate", "optimizer", "weight_decay", "label_smoothing"}
    assert active("5") == {"head", "trainable", "learning_rate", "layer_decay", "augmentation", "mixing"} and active("3") == active("5") | both


def test_values_become_configs_and_rates_suit_the_optimizer():
    values = {"hidden": "256,64", "head_batch_norm": 1, "optimizer": "sgd", "learning_rate": 1e-3, "trainable": 3, "head": "0007", "tuner/epochs": 5}
    model, training = configs_of(values, tfcnn.ModelConfig(dropout=0.4), tfcnn.TrainingConfig(seed=3))
    assert model == tfcnn.ModelConfig(dropout=0.4, hidden=(256, 64), head_batch_norm=True) and model.head_batch_norm is True
    assert training == tfcnn.TrainingConfig(seed=3, optimizer="sgd", learning_rate=0.03, trainable=3)
    assert configs_of({"hidden": "none"}, tfcnn.ModelConfig(hidden=(5,)), tfcnn.TrainingConfig())[0].hidden == ()
