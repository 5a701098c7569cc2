"""`repeat`: a run once more from its record, and what came out differently."""

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfcnn.data.config import DataConfig
from tfcnn.data.sources import sort_labels
from tfcnn.errors import InputError, WorkError
from tfcnn.flow import open_checked, train_and_export
from tfcnn.models.classifier import ModelConfig
from tfcnn.record import Run, differences, load_run, read_history
from tfcnn.training.config import TrainingConfig
from tfcnn.training.machine import MachineConfig, check_machine

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Repetition:
    """A run and its repetition, side by side.

    Attributes:
        run, repetition: their folders.
        differences: what was not the same before the training: versions, code, photos, hardware; empty if all was.
        largest_difference: of a weight.
        equal: whether all weights are the same bits.
        losses: (training loss of the run, of the repetition) of each epoch.
        validation, test: (accuracy of the run, of the repetition); None where the run has none.
    """

    run: str
    repetition: str
    differences: tuple[str, ...]
    largest_difference: float
    equal: bool
    losses: tuple[tuple[float, float], ...]
    validation: tuple[float, float] | None
    test: tuple[float, float] | None

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        lines = [f"{self.run} and {self.repetition}"]
        lines += ["before the training: " + ("; ".join(self.differences) or "nothing differs")]
        lines += ["weights: the same bits" if self.equal else f"weights: they differ by up to {self.largest_difference:.1e}"]
        if self.losses:
            lines += [f"training loss by epoch: largest difference {max(abs(one - other) for one, other in self.losses):.1e} in {len(self.losses)} epochs"]
        for name in ("validation", "test"):
            pair = getattr(self, name)
            lines += [f"{name} accuracy: {pair[0]:.3f} and {pair[1]:.3f}"] if pair else []
        return "\n".join(lines)


def repeat(run: Run | str | Path, *, output: str | Path | None = None, machine: MachineConfig | None = None, overwrite: bool = False,
           resume: bool = False) -> Repetition:
    """Trains a run once more, with the arguments, seed and source of its record, and compares.

    Args:
        run: a finished run that was trained on a source which can be opened again.
        output: the run folder of the repetition; beside the run, with "-repeat" in its name, if None.
        machine: on what to train; as the record has it if None.
        overwrite: replace the run that `output` holds.
        resume: go on with a repetition that was interrupted.

    Raises:
        InputError: a run that is not finished, or whose photos, labels or model cannot be had again.
    """
    run = run if isinstance(run, Run) else load_run(run)
    record = run.record
    model, training, data = _configs(run)
    output = Path(output) if output else run.path.with_name(f"{run.path.name}-repeat")
    machine = machine or machine_of(run)
    task = check_machine(machine)
    if task and task.count > 1:
        raise InputError("expected one process for a repetition, got several workers; give --strategy one_device, or leave TF_CONFIG out")
    if output.resolve() == run.path.resolve():
        raise InputError(f"expected another folder for the repetition than that of the run, got output='{output}'")
    source = record["data"]["source"]
    opened = open_checked(source, model, data)
    labels = sort_labels(example.label for example in getattr(opened, "examples", None) or ())
    if labels and list(labels) != run.labels:
        raise InputError(f"expected the labels of the run in '{source}', {', '.join(run.labels)}, got {', '.join(labels)}; train anew")
    again = train_and_export(source, output=output, model=model, training=training, data=data, formats=(), machine=machine, overwrite=overwrite,
                             resume=resume)
    if again.labels != run.labels:  # of data that tells its labels only when it is read
        raise WorkError(f"expected the labels of the run, {', '.join(run.labels)}, but its data has {', '.join(again.labels)} now: no weights to compare")
    pairs = list(zip(run.load_model().get_weights(), again.load_model().get_weights(), strict=True))
    histories = [[row["loss"] for row in read_history(folder / "history.csv")] for folder in (run.path, again.path)]
    accuracy = lambda part: (record[part]["accuracy"], again.record[part]["accuracy"]) if part in record else None
    return Repetition(str(run.path), str(again.path), tuple(differences(record, again.record)),
                      max(float(np.abs(one - other).max()) for one, other in pairs), all(np.array_equal(*pair) for pair in pairs),
                      tuple(zip(*histories, strict=False)), accuracy("validation"), accuracy("test"))


def machine_of(run: Run, **given) -> MachineConfig:
    """On what a run was trained, as far as one process can have it again, with the fields that are given in place of its own."""
    machine = _config(MachineConfig, run.record.get("machine", {}))
    if "strategy" in given:  # its GPUs were those of another one
        machine = dataclasses.replace(machine, devices=None)
    elif machine.strategy == "multi_worker":
        logger.info("the run was trained by several workers; one process repeats it, on what --strategy auto finds")
        machine = dataclasses.replace(machine, strategy="auto", devices=None)
    return dataclasses.replace(machine, **given)


def _configs(run: Run) -> tuple[ModelConfig, TrainingConfig, DataConfig]:
    """What the run was told, as the record holds it."""
    record = run.record
    if record["status"] == "started":
        raise InputError(f"expected a finished run in '{run.path}', but its training was not completed; finish it with --resume")
    if not record["data"]["source"]:
        raise InputError(f"expected a source that can be opened again, but '{run.path}' was trained on arrays in memory; train again in Python")
    if record["model"]["weights"] == "own":
        raise InputError(f"expected a named backbone, but that of '{run.path}' is a network of its own; train again in Python")
    arguments = record["data"]["arguments"]
    if arguments.get("seed") != record["training"]["seed"]:
        raise InputError(f"expected one seed for split and training, but '{run.path}' has {arguments.get('seed')} and {record['training']['seed']}; "
                         "train again in Python")
    fold = arguments.get("fold") if arguments.get("folds") else None
    return _config(ModelConfig, record["model"]), _config(TrainingConfig, record["training"]), _config(DataConfig, {**arguments, "fold": fold})


def _config(kind, values: dict):
    """A config from what a record holds of it, among other things."""
    known = {field.name: values[field.name] for field in dataclasses.fields(kind) if field.name in values}
    plain = lambda value: tuple(value) if isinstance(value, list) else dict(value) if isinstance(value, dict) else value
    return kind(**{name: plain(value) for name, value in known.items()})
