"""`inspect_model`: layers, shapes, parameters, multiply-adds and receptive fields of a network, stage by stage."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tfcnn.errors import InputError, closest
from tfcnn.models.backbones import BACKBONES
from tfcnn.models.classifier import ModelConfig, build_classifier
from tfcnn.models.freeze import HEAD, Trainable, layers_by_stage, set_trainable
from tfcnn.models.geometry import LayerGeometry, geometry_of
from tfcnn.models.receptive_field import Field
from tfcnn.record import Run, load_run

INPUT = "input"  # the group of what stands before a backbone: preprocessing


class LayerRow(NamedTuple):
    """One layer; `output` is without the batch, `multiply_adds` None where they are not known."""

    stage: str
    name: str
    kind: str
    output: tuple[int | None, ...]
    parameters: int
    trainable: int
    multiply_adds: int | None
    receptive_field: Field


class StageRow(NamedTuple):
    """One stage: its layers with weights, and the shape and field of what it hands on."""

    stage: str
    layers: int
    output: tuple[int | None, ...]
    parameters: int
    trainable: int
    multiply_adds: int
    receptive_field: Field


@dataclass(frozen=True)
class Inspection:
    """What a network consists of. `print` gives a table of stages, `table(layers=True)` one of layers too.

    Attributes:
        name: of the backbone, the run folder or the model.
        input_shape: of one example.
        layers: a row for each call of a layer, in the order of the stages. A layer that is called again has its parameters
            in its first row.
    """

    name: str
    input_shape: tuple[int, ...]
    layers: tuple[LayerRow, ...]

    @property
    def parameters(self) -> int:
        """Weights of all layers, as `model.count_params()` gives them."""
        return sum(row.parameters for row in self.layers)

    @property
    def trainable(self) -> int:
        """Those that a training changes by gradients."""
        return sum(row.trainable for row in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Of a forward pass of one example, without those of the layers that `uncounted` names."""
        return sum(row.multiply_adds or 0 for row in self.layers)

    @property
    def uncounted(self) -> tuple[str, ...]:
        """Layers whose multiply-adds are not known."""
        return tuple(row.name for row in self.layers if row.multiply_adds is None)

    @property
    def stages(self) -> tuple[StageRow, ...]:
        """A row a stage, from input to output."""
        return tuple(_stage_row(stage, [row for row in self.layers if row.stage == stage]) for stage in dict.fromkeys(row.stage for row in self.layers))

    def to_dict(self) -> dict:
        """All of it in plain values; receptive fields as dictionaries."""
        plain = lambda row: {**row._asdict(), "receptive_field": row.receptive_field._asdict()}
        return {"name": self.name, "input_shape": self.input_shape, "parameters": self.parameters, "trainable": self.trainable,
                "multiply_adds": self.multiply_adds, "uncounted": self.uncounted,
                "stages": [plain(row) for row in self.stages], "layers": [plain(row) for row in self.layers]}

    def table(self, *, layers: bool = False) -> str:
        """The table of stages, under it one of layers, and notes on what stands in them."""
        mark = " " if any(_scaled(row.receptive_field) for row in self.layers) else ""
        rows = [(row.stage, str(row.layers), _shape(row.output), f"{row.parameters:,}" if row.parameters else "", _trainable(row), _costs(row),
                 *_field(row, mark)) for row in self.stages]
        total = ("total", str(sum(row.layers for row in self.stages)), "", f"{self.parameters:,}", f"{self.trainable:,}", _costs(self), "", "")
        parts = [f"{self.name}: {_shape(self.input_shape)} to {_shape(self.layers[-1].output)}", "", *_lines(STAGE_COLUMNS, [*rows, total])]
        if layers:
            parts += ["", *_lines(LAYER_COLUMNS, [cells for stage in self.stages for cells in self._layer_cells(stage.stage, mark)])]
        return "\n".join([*parts, "", *self._notes()])

    def __str__(self) -> str:
        return self.table()

    def _layer_cells(self, stage: str, mark: str) -> list[tuple[str, ...]]:
        """The stage, and its layers below it."""
        rows = [row for row in self.layers if row.stage == stage]
        learns = lambda row: "" if not row.parameters else "yes" if row.trainable else "no"
        return [(stage, "", "", "", "", "", ""), *((f"  {row.name}", row.kind, _shape(row.output), f"{row.parameters:,}" if row.parameters else "",
                                                    learns(row), _costs(row), _field(row, mark)[0]) for row in rows)]

    def _notes(self) -> list[str]:
        fields = [row.receptive_field for row in self.layers]
        notes = ["field: pixels of the input that one output is computed from; stride: pixels between the fields of neighbours",
                 "mult-adds: multiplications, each with its addition, for one example"]
        if any(map(_scaled, fields)):
            notes.append("*: of the local part; gates (squeeze-and-excitation) scale it by what they see of the whole input")
        if any(field.whole is None for field in fields):
            notes.append("?: not known, behind layers that are not of Keras, branches of different strides, or several inputs")
        if self.uncounted:
            notes.append(f"mult-adds without those of {', '.join(self.uncounted)}, which are not known")
        return notes


def inspect_model(model: Any, *, image_size: int | None = None, trainable: Trainable | None = None) -> Inspection:
    """Layers, output shapes, parameters, multiply-adds and receptive fields of a network.

    Args:
        model: a name of `BACKBONES` (built with random weights, without a head), a run or its folder, or any functional or
            Sequential `keras.Model`.
        image_size: side in pixels for a name, by default the backbone's own, or for a model that leaves its size open.
        trainable: what to open before looking, see `set_trainable`: False, True, the last n stages, or a stage name. By
            default a name has all stages open, with BatchNorm frozen; a run and a model are taken as they are. A model that
            is not of `build_classifier` has no stages to open.

    Returns:
        The rows; `print` it for a table. A network without named stages has one for each layer with weights. In a model of
        the caller the flags stay as `trainable` set them.

    Raises:
        InputError: an unknown name, no run in the folder, a size that the network does not take, or an unknown stage.

    Source: `tfcnn.models.costs` for what counts as a multiply-add, `geometry_of` for the fields.
    """
    if isinstance(model, (str, Path)) and str(model) not in BACKBONES:
        model = _run_of(model)
    if isinstance(model, (str, Path)):
        name = str(model)
        classifier = build_classifier(name, labels=("a", "b"), weights="none", image_size=image_size)
        set_trainable(classifier, True if trainable is None else trainable)
        groups = [group for group in layers_by_stage(classifier) if group[0] != HEAD]
        return _inspect(name, classifier.get_layer("backbone"), groups)
    name = str(model.path) if isinstance(model, Run) else getattr(model, "name", type(model).__name__)
    network = _model_of(model) if isinstance(model, Run) else model
    if trainable is not None:
        if not hasattr(network, "model_config"):
            raise InputError(f"expected a backbone, a run or a model of build_classifier to open stages of, got trainable={trainable} for '{name}'; "
                             "set the flags of its layers yourself")
        set_trainable(network, trainable)
    return _inspect(name, network, _groups_of(network), shape=_shape_of(network, image_size))


def _run_of(path: str | Path) -> Run:
    """The run in a folder, or what else could have been meant."""
    if not Path(path).exists():
        hint = "check the path" if len(Path(path).parts) > 1 else closest(str(path), BACKBONES)
        raise InputError(f"expected the name of a backbone or a run folder, got '{path}', and there is no such folder; {hint}")
    return load_run(path)


def _model_of(run: Run):
    """The model of a run, which knows its stages by the backbone's name in the record."""
    model = run.load_model()
    if isinstance(run.record.get("model"), Mapping):
        model.model_config = ModelConfig(**{key: run.record["model"][key] for key in ("backbone", "weights") if key in run.record["model"]})
    return model


def _shape_of(model, image_size: int | None) -> tuple[int, ...] | None:
    """The input shape to look at where the caller says a size; checked against the model's."""
    if image_size is None or len(getattr(model, "inputs", None) or ()) != 1:
        return None
    *sides, channels = model.inputs[0].shape[1:]
    if any(side not in (None, image_size) for side in sides) or image_size < 1:
        raise InputError(f"expected the size that the model takes, {_shape(sides)} pixels, got image_size={image_size}; leave it out, "
                         "or give the name of a backbone")
    return (*(image_size for _ in sides), channels)


def _groups_of(model) -> list[tuple[str, list]]:
    """(stage, its layers); where there are no named stages, one for each layer with weights, named like it."""
    if hasattr(model, "model_config"):
        *stages, (_, rest) = layers_by_stage(model)
        before = [layer for layer in rest if model.layers.index(layer) < model.layers.index(model.get_layer("backbone"))]
        return [(INPUT, before), *stages, (HEAD, [layer for layer in rest if layer not in before])]
    groups: list[tuple[str, list]] = []
    for layer in getattr(model, "layers", []):
        named = layer.weights and "Normalization" not in type(layer).__name__
        if named or not groups:
            groups.append((layer.name, []))
        groups[-1][1].append(layer)
    return groups


def _inspect(name: str, network, groups: Sequence[tuple[str, list]], *, shape: tuple[int, ...] | None = None) -> Inspection:
    rows: list[LayerRow] = []
    counted: set[int] = set()
    stage_of = {id(layer): stage for stage, layers in groups for layer in layers}
    stage = groups[0][0] if groups else ""
    for row in geometry_of(network, input_shape=shape):
        stage = next((stage_of[id(layer)] for layer in (*row.parents, row.layer) if id(layer) in stage_of), stage)  # an operation goes with what stood before
        rows.append(_layer_row(stage, row, counted))
    order = {stage: index for index, (stage, _) in enumerate(groups)}
    return Inspection(name, tuple(shape or network.inputs[0].shape[1:]), tuple(sorted(rows, key=lambda row: order.get(row.stage, 0))))


def _layer_row(stage: str, row: LayerGeometry, counted: set[int]) -> LayerRow:
    """Weights that stand in `counted` already are those of another row too."""
    weights = [weight for weight in getattr(row.layer, "weights", []) if id(weight) not in counted]
    counted.update(map(id, weights))
    learning = {id(weight) for weight in getattr(row.layer, "trainable_weights", [])}
    size = lambda some: sum(math.prod(weight.shape) for weight in some)
    return LayerRow(stage, row.layer.name, type(row.layer).__name__, row.output, size(weights), size(w for w in weights if id(w) in learning),
                    row.multiply_adds, row.field)


def _stage_row(stage: str, rows: list[LayerRow]) -> StageRow:
    """What only prepares the maps for the next stage, zeros around them or their flattening, is not its output."""
    last = next((row for row in reversed(rows) if not row.kind.startswith(("ZeroPadding", "Flatten"))), rows[-1])
    return StageRow(stage, sum(row.parameters > 0 for row in rows), last.output, sum(row.parameters for row in rows), sum(row.trainable for row in rows),
                    sum(row.multiply_adds or 0 for row in rows), last.receptive_field)


# --- how the tables look ---

STAGE_COLUMNS = ("stage", "layers", "output", "parameters", "trainable", "mult-adds", "field", "stride")
LAYER_COLUMNS = ("layer", "kind", "output", "parameters", "learns", "mult-adds", "field")  # with the names that Keras gives, 120 columns hold it


def _trainable(row: StageRow) -> str:
    if not row.parameters:
        return ""
    return f"{row.trainable:,}" if row.trainable else "frozen"


def _costs(row) -> str:
    return "?" if row.multiply_adds is None else _short(row.multiply_adds)


def _field(row: LayerRow | StageRow, mark: str) -> tuple[str, str]:
    """Size and stride; `mark` stands where others have a star, so that numbers stand under each other."""
    field = row.receptive_field
    if not field.size:
        return {True: "all", None: "?", False: "none"}[field.whole] + mark, ""
    return _sides(field.size) + ("*" if field.whole else mark), _sides(field.stride) if field.stride else ""


def _scaled(field: Field) -> bool:
    return bool(field.size and field.whole)


def _shape(shape: Sequence[int | None]) -> str:
    return "x".join("?" if side is None else str(side) for side in shape)


def _sides(numbers: Sequence[float]) -> str:
    """One number where all axes have the same."""
    return "x".join(f"{number:g}" for number in (numbers[:1] if len(set(numbers)) == 1 else numbers))


def _short(count: int) -> str:
    """Three digits and the unit; nothing for none."""
    if not count:
        return ""
    rounded = float(f"{count:.2e}")
    power = min(3, int(math.log10(rounded)) // 3)
    value = rounded / 1000**power
    return f"{value:.{max(0, 2 - int(math.log10(value))) if power else 0}f} {' kMG'[power]}".rstrip()


def _lines(columns: Sequence[str], rows: list[tuple[str, ...]]) -> list[str]:
    """Names to the left, numbers to the right, each column as wide as it must be."""
    left = [column in ("stage", "layer", "kind") for column in columns]
    widths = [max(len(row[number]) for row in [columns, *rows]) for number in range(len(columns))]
    return ["  ".join(f"{text:{'<' if to_left else '>'}{width}}" for text, width, to_left in zip(row, widths, left, strict=True)).rstrip()
            for row in [tuple(columns), *rows]]
