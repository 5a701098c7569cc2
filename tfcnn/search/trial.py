"""Trials that train a network, each in a process of its own, so that its memory returns: `python -m tfcnn.search.trial ARGUMENTS.json`."""

import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tfcnn.errors import InputError, WorkError, first_line
from tfcnn.files import remove, write_text
from tfcnn.locks import Lock
from tfcnn.record import load_run
from tfcnn.search.job import CLUSTER, Job

NOT_PASSED_ON = ("TF_CONFIG", *CLUSTER)  # a trial is alone
ONLY_OF_A_MODEL = ("model.keras", "calibration.npz")  # large files of a run that was not the best

PYTHON = (sys.executable, "-W", "ignore::RuntimeWarning:runpy")  # which would head each log: the package imports the module before

logger = logging.getLogger(__name__)
_RUNNING: set[subprocess.Popen] = set()


def fine_tune(job: Job, values: Mapping[str, Any], folder: Path, *, epochs: int, gpu: str | None = None, refit: bool = False) -> dict[str, float]:
    """Trains a configuration as an ordinary run in `folder`; goes on where it was if it was interrupted.

    Returns:
        What its validation photos say, its epochs, and `seconds`: of all, and `seconds_of_epochs`: of the epochs alone.

    Raises:
        WorkError: it failed; `folder`.log has all it said.
    """
    model, training = job.configs(values)
    told = {"source": job.source, "output": str(folder), "model": asdict(model), "training": {**asdict(training), "epochs": epochs}, "data": asdict(job.data),
            "refit": refit}
    start = time.perf_counter()
    _run(folder, "train", told, gpu)
    record = load_run(folder).record
    epochs_took = sum(taken for name, taken in record["seconds"].items() if name.startswith("fine-tune"))
    return {**(record["validation"] or {}), "epochs": epochs, "seconds": time.perf_counter() - start, "seconds_of_epochs": epochs_took}


def measure_file(job: Job, values: Mapping[str, Any], labels: tuple[str, ...]) -> dict[str, float]:
    """`bytes`, and `milliseconds` for a photo on one thread of this computer, of the float32 TFLite file of a network.

    They depend on its layers, not on what they learned, so each network is written and timed once for all trials.
    """
    model, _ = job.configs(values)
    head = f"-{'x'.join(map(str, model.hidden))}-{model.activation}{'-bn' * model.head_batch_norm}" if model.hidden else ""
    key = f"{model.backbone}-{model.image_size}-{model.pooling}{head}"
    file, folder = job.sizes / f"{key}.json", job.path / "trials" / f"size-{key}"
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = Lock(file.parent, alone=True, wait=True)  # workers and threads that meet the same network
    try:
        if not file.exists():
            _run(folder, "measure", {"model": asdict(model), "labels": list(labels), "result": str(file)}, None)
    finally:
        lock.release()
    return json.loads(file.read_text(encoding="utf-8"))


def prune(folder: Path) -> None:
    """Removes the large files of a run that will not be the best."""
    for name in ONLY_OF_A_MODEL:
        remove(folder / name)


def stop_all() -> None:
    """Ends the processes of all trials that other threads wait for."""
    for process in list(_RUNNING):
        process.kill()


def _run(folder: Path, kind: str, told: dict, gpu: str | None) -> None:
    arguments, log = folder.with_name(f"{folder.name}.arguments.json"), folder.with_name(f"{folder.name}.log")
    write_text(arguments, json.dumps({"kind": kind, "parent": os.getpid(), **told}, default=str))
    environment = {name: value for name, value in os.environ.items() if name not in NOT_PASSED_ON}
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpu
    before = log.stat().st_size if log.exists() else 0
    with open(log, "a", encoding="utf-8") as lines:
        process = subprocess.Popen([*PYTHON, "-m", "tfcnn.search.trial", str(arguments)], stdout=lines, stderr=subprocess.STDOUT, env=environment)
        _RUNNING.add(process)
        try:
            code = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            _RUNNING.discard(process)
    if code:
        said = log.read_bytes()[before:].decode(errors="replace").strip().splitlines()
        raise WorkError(said[-1] if code == 1 and said else f"the process of the trial was ended by signal {-code}; '{log}' has all it said" if code < 0
                        else f"the process of the trial ended with exit code {code}; '{log}' has all it said")


def main(file: str) -> int:
    """What the process of a trial does."""
    told = json.loads(Path(file).read_text(encoding="utf-8"))
    _end_with(told["parent"])
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name in ("tensorflow", "absl", "jax"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        {"train": _train, "measure": _measure}[told["kind"]](told)
    except (InputError, WorkError) as error:
        print(error, flush=True)
        return 1
    except Exception as error:
        logger.exception("the trial failed")
        print(f"{type(error).__name__}: {first_line(error)}", flush=True)
        return 1
    return 0


def _train(told: dict) -> None:
    from tfcnn.data.config import DataConfig
    from tfcnn.flow import train_source
    from tfcnn.models.classifier import ModelConfig
    from tfcnn.training.config import TrainingConfig
    from tfcnn.training.machine import MachineConfig

    def plain(values: dict[str, Any]) -> dict[str, Any]:
        return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}

    train_source(told["source"], output=told["output"], model=ModelConfig(**plain(told["model"])), training=TrainingConfig(**plain(told["training"])),
                 data=DataConfig(**plain(told["data"])), machine=MachineConfig(), refit=told["refit"])


def _measure(told: dict) -> None:
    import numpy as np

    from tfcnn.export.contract import Contract
    from tfcnn.export.runtimes import TIMED, run_file
    from tfcnn.export.tflite import Material, write_float32
    from tfcnn.models.classifier import build_classifier

    result = Path(told["result"])
    model = build_classifier(labels=told["labels"], **told["model"])
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=result.parent) as folder:  # of its own: writers keep there what several formats share
        file = Path(folder) / "float32.tflite"
        write_float32(Material(model, Contract("measured", tuple(told["labels"]), tuple(model.input_shape[1:]), "stretch"), None, None, Path(folder)), file)
        photos = np.random.default_rng(0).integers(0, 256, (TIMED, *model.input_shape[1:]), np.uint8)
        measured = run_file("tflite", file, photos)
        write_text(result, json.dumps({"bytes": file.stat().st_size, "milliseconds": measured.latency[1][0]}))


def _end_with(parent: int) -> None:
    """Ends this process when that of the search is gone, which could not end it: the trial is taken up again by another one."""
    def watch():
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
