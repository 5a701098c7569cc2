"""Where a training comes from: what a run is recorded with, so that it can be repeated, resumed, and compared between workers."""

import hashlib
import importlib.metadata
import platform
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from tfcnn.data.dataset import Dataset
from tfcnn.data.text import vocabulary_digest
from tfcnn.errors import InputError
from tfcnn.hardware import cpu_facts, gpu_facts
from tfcnn.models.freeze import stages_of
from tfcnn.record import changed_arguments
from tfcnn.training.config import CHOSEN_BY_MACHINE, TrainingConfig
from tfcnn.training.features import feature_network, network_digest
from tfcnn.workers import check_same, count_of

PACKAGES = ("tfcnn", "tensorflow", "keras", "numpy", "scikit-learn", "scipy", "pillow")


def record_of(model, data: Dataset, config: TrainingConfig, seconds: dict[str, float]) -> dict:
    """The record of a training that begins.

    Args:
        model: from `build_classifier`.
        data: what it is trained on.
        config: with nothing left open.
        seconds: of earlier stages.
    """
    found = Counter(item.label for item in data.items)
    counts = {label: found[label] for label in data.labels}
    return {
        "status": "started",
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": versions(),
        "code": code_digest(),
        "labels": list(data.labels),
        "input_shape": list(data.input_shape),
        "kind": data.kind,
        "geometry": data.geometry,
        "model": {**asdict(model.model_config), "digest": network_digest(feature_network(model)), "parameters": model.count_params(),
                  "stages": [name for name, _ in stages_of(model)]},
        "training": asdict(config),
        "data": {"source": data.source, "facts": _facts(data), "arguments": data.arguments, "digest": digest_of(data), "counts": counts,
                 "splits": {s: len(data.rows(s)) for s in ("train", "validation", "test")},
                 "leaks": data.leaks, "quarantined": [q._asdict() for q in data.quarantined]},
        "hardware": {"replicas": model.distribute_strategy.num_replicas_in_sync, "workers": count_of(model.distribute_strategy),
                     "strategy": type(model.distribute_strategy).__name__, "machine": platform.platform(), **_devices()},
        "seconds": dict(seconds),
    }


def digest_of(data: Dataset) -> str:
    """Of the contents of a data set, their labels and splits."""
    return hashlib.sha256("\n".join(f"{i.sha256},{i.label},{i.split}" for i in data.items).encode()).hexdigest()


def _facts(data: Dataset) -> dict:
    """Those of the data; of a vocabulary, which is a file of the run, its digest."""
    facts = {name: value for name, value in data.facts.items() if name != "vocabulary"}
    return {**facts, "vocabulary_sha256": vocabulary_digest(data.facts["vocabulary"])} if "vocabulary" in data.facts else facts


def versions() -> dict[str, str]:
    """Of Python and of the packages that a training depends on: what computes, solves the head, and decodes."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in PACKAGES}}


def code_digest() -> str:
    """Of the Python files of this package."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(f"{file.relative_to(package)}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def check_arguments(record: dict, given: dict) -> None:
    """Raises InputError if a run would be resumed with other arguments than it began with; names all that changed."""
    changed = changed_arguments(record, given)
    if changed:
        named = ", ".join(f"{name} was {before} and is {now}" for name, (before, now) in changed.items())
        raise InputError(f"expected the arguments that the run began with, but {named}; give the same, or train again with --overwrite")


def check_same_run(old: dict, new: dict) -> None:
    """Raises InputError if a resumed run would go on with other data or arguments than it began with."""
    model = {name: value for name, value in new["model"].items() if name not in ("digest", "weights")}  # the digest tells whether the weights are the same
    check_arguments(old, {**new["data"]["arguments"], **model, **new["training"]})
    if old["data"]["digest"] != new["data"]["digest"]:
        raise InputError("expected the photos and split that the run began with, but they changed; train again with --overwrite")
    if old["model"]["digest"] != new["model"]["digest"]:
        raise InputError("expected the backbone weights that the run began with, but the model has others; build it as it was, or train again with --overwrite")


def check_workers(strategy, record: dict) -> None:
    """Raises InputError where the workers of one training differ in what they train, with what, or how."""
    if count_of(strategy) == 1:
        return
    check_code(strategy)
    chosen = {name: record["training"][name] for name in CHOSEN_BY_MACHINE}
    told = {name: value for name, value in {**record["training"], **record["machine"]}.items() if name not in (*CHOSEN_BY_MACHINE, "devices")}
    check_same(strategy, "the same arguments", told, "start all with the same command")
    check_same(strategy, "machines that choose the same precision and XLA", chosen, "give --mixed-precision and --xla, or --no-...")
    check_same(strategy, "the same backbone and weights", record["model"]["digest"], "give all workers the same file of weights")
    check_same(strategy, "the same photos and split, in the same order", record["data"]["digest"], "give all workers the same data and seed")


def check_code(strategy) -> None:
    """Raises InputError on all workers where one has another tfcnn, Python or libraries."""
    check_same(strategy, "the same tfcnn and libraries", {"code": code_digest(), **versions()}, "install the same everywhere")


def _devices() -> dict:
    """What computes: last bits depend on it."""
    cpu = cpu_facts()
    return {"processor": " ".join([cpu["model"], *cpu["flags"]]), "cores": cpu["cores"], "gpus": [gpu["name"] for gpu in gpu_facts()]}
