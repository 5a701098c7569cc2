"""`cross_validate`: a training for each fold, so that every photo is tested once by a network that did not see it; and that several times."""

import json
import logging
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tfcnn.data.config import DataConfig
from tfcnn.data.split import check_folds
from tfcnn.errors import InputError
from tfcnn.evaluation.intervals import wilson_interval
from tfcnn.files import write_text
from tfcnn.flow import check_all, is_one_of_several, open_checked, train_and_export
from tfcnn.models.classifier import ModelConfig
from tfcnn.record import Run
from tfcnn.training.config import TrainingConfig
from tfcnn.training.machine import MachineConfig

logger = logging.getLogger(__name__)


def cross_validate(source: Any, *, output: str | Path, data: DataConfig, model: ModelConfig | None = None, training: TrainingConfig | None = None,
                   formats: Sequence[str] = (), machine: MachineConfig | None = None, repeats: int = 1, overwrite: bool = False,
                   resume: bool = False) -> dict:
    """Trains once a fold, so that every photo is tested once by a network that did not see it, with stratified folds.

    Args:
        output: folder of the run folders `fold-0`, `fold-1` and so on, with several repeats below `repeat-0`, `repeat-1`; `folds.json` is
            written beside them.
        data: with `folds`.
        formats: of each fold; usually none.
        repeats: how often the folds are drawn anew; each has the next seed.

    For the others see `tfcnn.flow.train_and_export`.

    Returns:
        `accuracies` of all runs, their `mean` and `sd`; `n` photos in all, `accuracy` over all of them and all repeats with its 95 %
        `interval` for photos of one repeat; `repeats`: the seed of each, its accuracy over all photos, and the `sd` of these; `runs`.
        The runs share photos, so `sd` says how much a single run may differ, and sd / sqrt(runs) is no standard error of the mean.

    Raises:
        InputError: anything that cannot work, before the slow part begins.
    """
    folds = check_folds(data.folds)
    if type(repeats) is not int or repeats < 1:
        raise InputError(f"expected a whole number from 1 up, got repeats={repeats}")
    machine, training = machine or MachineConfig(), training or TrainingConfig()
    model = check_all(source, output, model or ModelConfig(), training, data, formats, machine)
    if is_one_of_several(machine):
        raise InputError("expected one process for a cross-validation, got several workers; give each of them another --fold and --strategy one_device")
    open_checked(source, model, data)
    if (Path(output) / "run.json").exists():
        raise InputError(f"expected a folder for the folds, but '{output}' holds a run; give another --output")
    asked: dict[str, Any] = {"model": model, "formats": formats, "machine": machine, "overwrite": overwrite, "resume": resume}
    rounds = []
    for number in range(repeats):
        folder = Path(output) / f"repeat-{number}" if repeats > 1 else Path(output)
        seeded = replace(training, seed=training.seed + number)
        runs = []
        for fold in range(folds):
            logger.info("%sfold %d of %d", f"repeat {number} of {repeats}, " if repeats > 1 else "", fold, folds)
            runs.append(train_and_export(source, output=folder / f"fold-{fold}", training=seeded, data=replace(data, fold=fold), **asked))
        rounds.append({"seed": seeded.seed, "runs": runs})
    result = _summary(folds, rounds)
    write_text(Path(output) / "folds.json", json.dumps(result, indent=2) + "\n")
    return result


def _summary(folds: int, rounds: Sequence[dict]) -> dict:
    runs = [run for of in rounds for run in of["runs"]]
    accuracies = [run.record["test"]["accuracy"] for run in runs]
    shares = [_right(of["runs"]) / _photos(of["runs"]) for of in rounds]
    n = _photos(rounds[0]["runs"])
    accuracy = statistics.mean(shares)
    return {"folds": folds, "accuracies": accuracies, "mean": statistics.mean(accuracies), "sd": statistics.stdev(accuracies), "n": n, "accuracy": accuracy,
            "interval": list(wilson_interval(round(accuracy * n), n)), "runs": [str(run.path) for run in runs],
            "repeats": {"seeds": [of["seed"] for of in rounds], "accuracies": shares, "sd": statistics.stdev(shares) if len(shares) > 1 else None}}


def _right(runs: Sequence[Run]) -> int:
    return sum(round(run.record["test"]["accuracy"] * run.record["test"]["n"]) for run in runs)


def _photos(runs: Sequence[Run]) -> int:
    return sum(run.record["test"]["n"] for run in runs)
