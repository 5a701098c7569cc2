"""`set_trainable`: which stages of a backbone learn and which stay as they are."""

from collections.abc import Sequence

from tfcnn.errors import InputError, closest
from tfcnn.models.backbones import BACKBONES

Trainable = bool | int | str


def stages_of(model) -> list[tuple[str, int]]:
    """(stage name, index of its first layer in the backbone) of a classifier, from input to output.

    A backbone of your own has one stage for every layer with weights, named like the layer.
    """
    backbone = model.get_layer("backbone")
    position = {layer.name: index for index, layer in enumerate(backbone.layers)}
    row = BACKBONES.get(model.model_config.backbone)
    if row is not None and all(layer in position for _, layer in row.stages):
        return [(stage, position[layer]) for stage, layer in row.stages]
    return [(layer.name, position[layer.name]) for layer in backbone.layers if layer.weights and not _is_batch_norm(layer)]


def set_trainable(model, trainable: Trainable) -> None:
    """Freezes the backbone up to a stage and opens the rest; the head is always open.

    BatchNorm layers of the backbone stay frozen, statistics and weights: only `layer.trainable = False` on each of
    them holds them in Keras 3 (keras issue 20285). Compile the model afterwards.

    Args:
        model: from `build_classifier`.
        trainable: False (head only), True (all stages), a number (the last n stages), or a stage name (from it on).

    Raises:
        InputError: a stage that the backbone does not have, or more stages than it has.
    """
    stages = stages_of(model)
    check_trainable([name for name, _ in stages], trainable)
    first_open = _first_open_layer(stages, trainable)
    for index, layer in enumerate(model.get_layer("backbone").layers):
        layer.trainable = index >= first_open
        for batch_norm in _batch_norms(layer):
            batch_norm.trainable = False


def opens_stages(trainable: Trainable) -> bool:
    """False where only the head is trained."""
    return trainable not in (False, "none")  # 0 == False


def check_trainable(stages: Sequence[str], trainable: Trainable) -> None:
    """Raises InputError unless `trainable` is something that a backbone with these stages can open."""
    if isinstance(trainable, bool) or trainable in ("all", "none"):
        return
    if isinstance(trainable, int):
        if not 0 <= trainable <= len(stages):
            raise InputError(f"expected 0 to {len(stages)} stages to train, got trainable={trainable}; the stages are {', '.join(stages)}")
    elif trainable not in stages:
        raise InputError(f"expected none, all, a number or a stage to train from, got trainable='{trainable}'; {closest(trainable, stages)}")


def _first_open_layer(stages: list[tuple[str, int]], trainable: Trainable) -> int:
    if not opens_stages(trainable):
        return 10**9
    if trainable is True or trainable == "all":
        return 0
    return stages[-trainable][1] if isinstance(trainable, int) else dict(stages)[trainable]


def _batch_norms(layer) -> list:
    """The layer itself if it is a BatchNorm, and those in it, however deep."""
    inner = [found for child in getattr(layer, "layers", []) for found in _batch_norms(child)]
    return [layer, *inner] if _is_batch_norm(layer) else inner


def _is_batch_norm(layer) -> bool:
    import keras

    return isinstance(layer, keras.layers.BatchNormalization)
