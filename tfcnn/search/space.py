"""The space of a search: what the metadata of `ModelConfig` and `TrainingConfig` say, fixed, narrowed or widened by who asks.

Rates are those of adamw; for another optimizer they are multiplied by the factor that `tfcnn.training.rule` has for it, since a
rate that suits one is far off for another.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from tfcnn.errors import InputError, closest, first_line
from tfcnn.models.backbones import BACKBONES
from tfcnn.models.classifier import ModelConfig, check_config
from tfcnn.training.config import TrainingConfig, check_training
from tfcnn.training.rule import FACTORS

NO_HIDDEN = "none"  # how a head of one layer is called among the choices, which keras-tuner wants of one type
RATES = ("learning_rate", "head_learning_rate")
HEAD = "head"  # of a fine-tuning: the number of the head trial that it goes on from
EPOCHS, FROM = "tuner/epochs", "tuner/trial_id"  # of a rung: what keras-tuner's own Hyperband calls them
FROM_HEADS = ("backbone", "image_size")  # searched where several are given


def field_levels() -> dict[str, str]:
    """For each field that can be searched, by which trials: "head", "fine", or "both"."""
    found = {row.name: row.metadata["level"] for config in (ModelConfig, TrainingConfig) for row in fields(config) if row.metadata}
    return {**dict.fromkeys(FROM_HEADS, "head"), **found}


def read_space(space: Callable | Any = None, *, fixed: Sequence[str] = (), only: Sequence[str] | None = None, backbones: Sequence[str],
               image_sizes: Sequence[int] = ()) -> dict[str, Any]:
    """What is searched: a hyperparameter of keras-tuner by the name of its field.

    Args:
        space: a function that declares fields on the `keras_tuner.HyperParameters` it is given, as in `hp.Float("dropout", 0, 0.3)`,
            or such an object; they take the place of what the fields say. `hp.Fixed` fixes one.
        fixed: fields that are not searched.
        only: if given, no other fields are searched than these and those of `space`.
        backbones: searched if there are several.
        image_sizes: in pixels; searched if there are several.

    Raises:
        InputError: an unknown field, bounds that keras-tuner or tfcnn do not take, or nothing to search.
    """
    import keras_tuner

    levels = field_levels()
    declared = _declared(space)
    for name in [*fixed, *(only or ()), *declared]:
        if name not in levels:
            raise InputError(f"expected a field that can be searched, got '{name}'; {closest(name, levels)}")
    hp = keras_tuner.HyperParameters()
    listed: dict[str, list] = {"backbone": list(backbones), "image_size": list(image_sizes)}
    for name in levels:
        if name in declared:
            declare(hp, declared[name])
        elif len(listed.get(name, ())) > 1:
            hp.Choice(name, listed[name])
        elif name not in FROM_HEADS and name not in fixed and (only is None or name in only):
            _declare_default(hp, name, backbones)
    found = {row.name: row for row in hp.space}
    if all(isinstance(row, keras_tuner.engine.hyperparameters.Fixed) for row in found.values()):
        raise InputError("expected something to search, but every field is fixed; leave some of them open")
    _check_values(found, backbones)
    return found


def head_space(rows: Mapping[str, Any], base: ModelConfig):
    """The `keras_tuner.HyperParameters` of heads on cached features: what concerns hidden layers only where there are some."""
    import keras_tuner

    hp, levels = keras_tuner.HyperParameters(), field_levels()
    chosen = [row for name, row in rows.items() if levels[name] != "fine"]
    hidden = values_of(rows["hidden"]) if "hidden" in rows else [hidden_text(base.hidden)]
    of_hidden = ("activation", "head_batch_norm", *(name for name, level in levels.items() if level == "both"))
    some = [value for value in hidden if value != NO_HIDDEN]
    conditions = {"logistic_c": [value for value in hidden if value == NO_HIDDEN], **dict.fromkeys(of_hidden, some)}
    for row in chosen:
        values = conditions.get(row.name, hidden)
        if values == hidden:
            declare(hp, row)
        elif values:
            with hp.conditional_scope("hidden", values):
                declare(hp, row)
    return hp


def fine_space(rows: Mapping[str, Any], heads: Mapping[str, Mapping[str, Any]], base: ModelConfig):
    """The `keras_tuner.HyperParameters` of fine-tunings that go on from these heads (values of trials by their number).

    What a head with hidden layers was found with stays as it is.
    """
    import keras_tuner

    hp, levels = keras_tuner.HyperParameters(), field_levels()
    hp.Choice(HEAD, list(heads))
    linear = [number for number, values in heads.items() if values.get("hidden", hidden_text(base.hidden)) == NO_HIDDEN]
    for name, row in rows.items():
        if levels[name] == "fine" or (levels[name] == "both" and len(linear) == len(heads)):
            declare(hp, row)
        elif levels[name] == "both" and linear:
            with hp.conditional_scope(HEAD, linear):
                declare(hp, row)
    return hp


def configs_of(values: Mapping[str, Any], model: ModelConfig, training: TrainingConfig) -> tuple[ModelConfig, TrainingConfig]:
    """The two configs with the values of a trial in place of their own; what is no field is left out."""
    values = dict(values)
    if "hidden" in values:
        values["hidden"] = () if values["hidden"] == NO_HIDDEN else tuple(int(units) for units in str(values["hidden"]).split(","))
    factor = FACTORS.get(values.get("optimizer", training.optimizer), 1.0)
    values.update({name: values[name] * factor for name in RATES if name in values})
    plain = lambda row: bool(values[row.name]) if isinstance(row.default, bool) else values[row.name]  # of keras-tuner's choices 0 and 1 come back

    def of(config: type) -> dict[str, Any]:
        return {row.name: plain(row) for row in fields(config) if row.name in values}

    return replace(model, **of(ModelConfig)), replace(training, **of(TrainingConfig))


def hidden_text(hidden: Sequence[int]) -> str:
    """Hidden layers as a choice: 256,64 or none."""
    return ",".join(map(str, hidden)) or NO_HIDDEN


def declare(hp, row) -> None:
    """Declares a hyperparameter on others, under the conditions that hold there."""
    kind = type(row).__name__
    if kind == "Float":
        hp.Float(row.name, row.min_value, row.max_value, step=row.step, sampling=row.sampling, default=row.default)
    elif kind == "Int":
        hp.Int(row.name, row.min_value, row.max_value, step=row.step, sampling=row.sampling, default=row.default)
    elif kind == "Choice":
        hp.Choice(row.name, row.values, ordered=row.ordered, default=row.default)
    elif kind == "Boolean":
        hp.Boolean(row.name, default=row.default)
    else:
        hp.Fixed(row.name, row.value)


def _declared(space) -> dict[str, Any]:
    """The hyperparameters that the user declared, by name."""
    import keras_tuner

    if space is None:
        return {}
    hp = space if isinstance(space, keras_tuner.HyperParameters) else keras_tuner.HyperParameters()
    if callable(space):
        try:
            space(hp)
        except (ValueError, TypeError) as error:
            raise InputError(f"expected a space as keras-tuner takes it, but: {first_line(error)}") from error
    elif hp is not space:
        raise InputError(f"expected a function of keras_tuner.HyperParameters for the space, got space={space!r}")
    for row in hp.space:
        if row.conditions:
            raise InputError(f"expected fields without conditions of their own in the space, got conditions of '{row.name}'; declare it outside of the scope")
    return {row.name: row for row in hp.space}


def _declare_default(hp, name: str, backbones: Sequence[str]) -> None:
    says = next(row.metadata for config in (ModelConfig, TrainingConfig) for row in fields(config) if row.name == name)
    if name == "trainable":
        hp.Int(name, 1, min(len(BACKBONES[backbone].stages) for backbone in backbones))
    elif says.get("choices") == (False, True):
        hp.Boolean(name)
    elif "choices" in says:
        hp.Choice(name, list(says["choices"]))
    else:
        hp.Float(name, says["low"], says["high"], sampling=says["scale"])


def _check_values(rows: Mapping[str, Any], backbones: Sequence[str]) -> None:
    """Raises InputError for a bound or choice that a config would not take."""
    for name, row in rows.items():
        if name == "backbone":
            unknown = [value for value in values_of(row) if value not in backbones]
            if unknown:
                raise InputError(f"expected backbones of the search, got '{unknown[0]}' in the space; {closest(str(unknown[0]), backbones)}")
            continue
        for value in values_of(row):
            try:
                model, training = configs_of({name: value}, ModelConfig(backbones[0]), TrainingConfig())
            except ValueError as error:
                raise InputError(f"expected hidden layers as 256,64 or none in the space, got '{value}'") from error
            check_config(model)
            check_training(training)
    stages = min(len(BACKBONES[backbone].stages) for backbone in backbones)
    if "trainable" in rows and not all(isinstance(value, int) and 0 <= value <= stages for value in values_of(rows["trainable"])):
        raise InputError(f"expected from 0 to {stages} stages, which the smallest backbone has, got trainable={values_of(rows['trainable'])} in the space")
    for name in set(RATES) & set(rows):  # a rate that is one for adamw may be none for another optimizer
        for optimizer in values_of(rows["optimizer"]) if "optimizer" in rows else [TrainingConfig.optimizer]:
            for value in values_of(rows[name]):
                check_training(configs_of({name: value, "optimizer": optimizer}, ModelConfig(backbones[0]), TrainingConfig())[1])


def values_of(row) -> list:
    """The choices of a hyperparameter, or its bounds."""
    if hasattr(row, "min_value"):
        return [row.min_value, row.max_value]
    return [row.value] if type(row).__name__ == "Fixed" else [False, True] if type(row).__name__ == "Boolean" else list(row.values)
