"""`set_trainable`: which stages of a classifier learn, as a plan that can be read, carried out and checked."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from tfcnn.errors import InputError, closest, first_line
from tfcnn.models.backbones import BACKBONES
from tfcnn.tables import html_table

if TYPE_CHECKING:
    import keras

Trainable = bool | int | str
BATCH_NORMS = ("frozen", "train")
HEAD = "head"  # the group of everything behind the backbone
OWN = "own"  # weights of a backbone that the caller built
TO_RGB = "to_rgb"  # the layer before it, of inputs with four channels


class StagePlan(NamedTuple):
    """One stage: its layers with weights, its parameters, those of them that learn, and the highest rate they learn at."""

    stage: str
    layers: int
    parameters: int
    trainable: int
    rate: float | None


@dataclass(frozen=True)
class FreezePlan:
    """What a training is to change.

    Attributes:
        stages: a row a stage from input to output, then the head.
        planned: the variables that learn, and the statistics of BatchNorm layers that learn.
    """

    stages: tuple[StagePlan, ...]
    planned: tuple = field(repr=False)

    def with_rates(self, rates: Mapping[str, float]) -> "FreezePlan":
        """The same plan with the rates of the stages that learn."""
        return FreezePlan(tuple(row._replace(rate=rates[row.stage] if row.trainable else None) for row in self.stages), self.planned)

    def _repr_html_(self) -> str:
        shown = lambda row: (row.stage, row.layers, f"{row.parameters:,}", f"{row.trainable:,}" if row.trainable else "frozen",
                             None if row.rate is None else f"{row.rate:.1e}")
        total = ("total", sum(row.layers for row in self.stages), f"{sum(row.parameters for row in self.stages):,}",
                 f"{sum(row.trainable for row in self.stages):,}", None)
        return html_table(("stage", "layers", "parameters", "trainable", "rate"), [*map(shown, self.stages), total])

    def __str__(self) -> str:
        width = max(len(row.stage) for row in self.stages)
        lines = [f"{'stage':<{width}} {'layers':>7} {'parameters':>12} {'trainable':>12} {'rate':>9}"]
        for row in self.stages:
            rate = "" if row.rate is None else f"{row.rate:.1e}"
            trainable = f"{row.trainable:,}" if row.trainable else "frozen"
            lines.append(f"{row.stage:<{width}} {row.layers:>7} {row.parameters:>12,} {trainable:>12} {rate:>9}".rstrip())
        total, learning = sum(row.parameters for row in self.stages), sum(row.trainable for row in self.stages)
        return "\n".join([*lines, f"{'total':<{width}} {sum(row.layers for row in self.stages):>7} {total:>12,} {learning:>12,}"])


def set_trainable(model: "keras.Model", trainable: Trainable, *, batch_norm: str = "frozen", optimizer: Any = None) -> FreezePlan:
    """Freezes the backbone up to a stage and opens the rest; the head is always open.

    A model that was compiled is compiled again, since Keras ignores flags that change afterwards. Slots of the optimizer
    (momenta) and its step count go along by the path of their variable.

    BatchNorm layers of the backbone stay frozen, statistics and weights: only `layer.trainable = False` on each of
    them holds them in Keras 3 (keras issue 20285).

    Args:
        model: from `build_classifier`.
        trainable: False (head only), True (all stages), a number (the last n stages), or a stage name (from it on).
        batch_norm: "frozen", or "train" to let BatchNorm layers of the open stages learn, statistics too.
        optimizer: to compile with, not built yet; by default a new one with the old one's configuration, which knows
            nothing of `exclude_from_weight_decay`.

    Returns:
        The plan; `print` it for a table of stages.

    Raises:
        InputError: a stage that the backbone does not have, more stages than it has, an unknown value of `batch_norm`, or a
            compiled model whose loss Keras cannot rebuild.
    """
    stages_of(model)  # of build_classifier
    if not model.compiled:
        return set_flags(model, trainable, batch_norm=batch_norm)
    arguments = _compile_arguments(model, optimizer)  # what cannot be compiled again is refused before a flag changes
    plan, old = set_flags(model, trainable, batch_norm=batch_norm), model.optimizer
    with model.distribute_strategy.scope():
        model.compile(**arguments)
        model.optimizer.build(model.trainable_variables)
    if old.built:
        carry_slots(old, model.optimizer)
    return plan


def set_flags(model, trainable: Trainable, *, batch_norm: str = "frozen") -> FreezePlan:
    """`set_trainable` for a model that is compiled afterwards."""
    stages = stages_of(model)
    check_trainable([name for name, _ in stages], trainable)
    check_batch_norm(batch_norm)
    first_open = _first_open_layer(stages, trainable)
    for index, layer in enumerate(model.get_layer("backbone").layers):
        for part in (layer, *every_layer(layer)):  # each by itself: True set where it is True already does not reach the layers inside
            part.trainable = index >= first_open
        if batch_norm == "frozen" or index < first_open:
            for norm in _batch_norms(layer):
                norm.trainable = False
    if any(layer.name == TO_RGB for layer in model.layers):  # the way in of a fourth channel: of no use unless something behind it learns too
        model.get_layer(TO_RGB).trainable = opens_stages(trainable)
    return freeze_plan(model)


def freeze_plan(model) -> FreezePlan:
    """What a training would change as the flags of the layers stand now."""
    rows, planned = [], []
    for stage, layers in layers_by_stage(model):
        learning = [variable for layer in layers for variable in _learning_variables(layer)]
        rows.append(StagePlan(stage, sum(bool(layer.weights) for layer in layers), _size(w for layer in layers for w in layer.weights),
                              _size(w for layer in layers for w in layer.trainable_weights), None))
        planned += learning
    return FreezePlan(tuple(rows), tuple(planned))


def stages_of(model) -> list[tuple[str, int]]:
    """(stage name, index of its first layer in the backbone) of a classifier, from input to output.

    A backbone of your own has one stage for every layer with weights, named like the layer.

    Raises:
        InputError: a model that `build_classifier` did not make.
    """
    if not hasattr(model, "model_config"):
        raise InputError(f"expected a model from build_classifier, got '{getattr(model, 'name', model)}'; build_classifier takes a network of your own "
                         "from pixels to features as its backbone, and weights=RUN to go on from a run")
    backbone = model.get_layer("backbone")
    position = {layer.name: index for index, layer in enumerate(backbone.layers)}
    if is_named(model):
        return [(stage, position[layer]) for stage, layer in BACKBONES[model.model_config.backbone].stages]
    return [(layer.name, position[layer.name]) for layer in backbone.layers if layer.weights and layer not in _batch_norms(layer)]


def is_named(model) -> bool:
    """True for a classifier on a row of `BACKBONES`; a backbone of one's own may be called like one."""
    row, names = BACKBONES.get(model.model_config.backbone), {layer.name for layer in model.get_layer("backbone").layers}
    return row is not None and model.model_config.weights != OWN and all(layer in names for _, layer in row.stages)


def layers_by_stage(model) -> list[tuple[str, list]]:
    """(stage name, its layers) from input to output, the head last; layers before the first stage belong to it.

    Where the input has four channels, the layer that maps them to three stands first, as a group of its own.
    """
    stages, layers = stages_of(model), model.get_layer("backbone").layers
    bounds = [0, *(index for _, index in stages[1:]), len(layers)]
    groups = [(name, layers[bounds[n]:bounds[n + 1]]) for n, (name, _) in enumerate(stages)]
    way_in = [(TO_RGB, [layer]) for layer in model.layers if layer.name == TO_RGB]
    return [*way_in, *groups, (HEAD, [layer for layer in model.layers if layer.name not in ("backbone", TO_RGB)])]


def has_batch_norm(model) -> bool:
    """True where the backbone of a classifier has BatchNorm layers."""
    return bool(_batch_norms(model.get_layer("backbone")))


def every_layer(model) -> list:
    """All layers of a model or a layer, those inside of others too; Keras has no public way to layers that a layer holds."""
    return list(model._flatten_layers(include_self=False))


def opens_stages(trainable: Trainable) -> bool:
    """False where only the head is trained."""
    return trainable not in (False, "none")  # 0 == False


def open_stages(stages: Sequence[str], trainable: Trainable) -> list[str]:
    """The names of the stages that `trainable` opens, from input to output."""
    check_trainable(stages, trainable)
    if not opens_stages(trainable):
        return []
    if trainable is True or trainable == "all":
        return list(stages)
    return list(stages[-trainable:] if isinstance(trainable, int) else stages[list(stages).index(trainable):])


def check_trainable(stages: Sequence[str], trainable: Trainable) -> None:
    """Raises InputError unless `trainable` is something that a backbone with these stages can open."""
    if isinstance(trainable, bool) or trainable in ("all", "none"):
        return
    if isinstance(trainable, int):
        if not 0 <= trainable <= len(stages):
            raise InputError(f"expected 0 to {len(stages)} stages to train, got trainable={trainable}; the stages are {', '.join(stages)}")
    elif not isinstance(trainable, str):
        raise InputError(f"expected none, all, a number or one stage to train from, got trainable={trainable!r}")
    elif trainable not in stages:
        raise InputError(f"expected none, all, a number or a stage to train from, got trainable='{trainable}'; {closest(trainable, stages)}")


def check_batch_norm(batch_norm: str) -> None:
    """Raises InputError for a value that `set_trainable` does not take."""
    if batch_norm not in BATCH_NORMS:
        raise InputError(f"expected batch_norm frozen or train, got batch_norm='{batch_norm}'")


def optimizer_of(model):
    """The optimizer of a compiled model, without the one around it that scales losses."""
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


def carry_slots(old, new) -> None:
    """Copies the state of one built optimizer into another where both have a slot for the same variable."""
    state: dict[str, list] = {}
    for variable in old.variables:
        state.setdefault(variable.path, []).append(variable)
    for variable in new.variables:  # members of a MultiOptimizer may share a path: the first of one belongs to the first of the other
        found = state.get(variable.path)
        if found and tuple(found[0].shape) == tuple(variable.shape):
            variable.assign(found.pop(0))


def _compile_arguments(model, optimizer) -> dict:
    """What to compile a compiled model with again: all of it new, as Keras reads it from its configuration."""
    import keras

    try:
        with model.distribute_strategy.scope():
            arguments = keras.saving.deserialize_keras_object(model.get_compile_config())
    except (TypeError, ValueError) as error:
        raise InputError("expected a compiled model whose loss and metrics Keras can rebuild, got "
                         f"{type(error).__name__}: {first_line(error)}; register them, or set what is trainable before compile") from error
    return arguments if optimizer is None else {**arguments, "optimizer": optimizer}


def _first_open_layer(stages: list[tuple[str, int]], trainable: Trainable) -> int:
    opened = open_stages([name for name, _ in stages], trainable)
    if not opened:
        return 10**9
    return 0 if len(opened) == len(stages) else dict(stages)[opened[0]]


def _learning_variables(layer) -> list:
    """What a training step changes in a layer: its trainable weights, and the statistics of BatchNorm layers that learn."""
    statistics = [v for norm in _batch_norms(layer) if norm.trainable for v in norm.non_trainable_variables]
    return [*layer.trainable_variables, *statistics]


def _size(variables) -> int:
    return sum(math.prod(variable.shape) for variable in variables)


def _batch_norms(layer) -> list:
    """The layer itself if it is a BatchNorm, and those in it, however deep."""
    import keras

    return [found for found in (layer, *every_layer(layer)) if isinstance(found, keras.layers.BatchNormalization)]
