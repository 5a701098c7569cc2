"""`search`: heads on cached features first, then the best few fine-tuned for real; the best run is tested once, at the end."""

import functools
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tfcnn.data.config import DataConfig
from tfcnn.errors import InputError, WorkError
from tfcnn.files import alone_in, name_aside, prepare_folder, publish
from tfcnn.finish import export_missing
from tfcnn.flow import check_all, open_checked
from tfcnn.kinds import IMAGE
from tfcnn.locks import NAME as LOCK
from tfcnn.models.classifier import BACKBONE, IMAGENET, ModelConfig
from tfcnn.search.config import SearchConfig, check_search
from tfcnn.search.finish import finish_search
from tfcnn.search.heads import build_network, load_data, networks_of, with_features
from tfcnn.search.job import CLUSTER, Job, is_worker, searches_fine
from tfcnn.search.levels import run_levels
from tfcnn.search.limits import Clock, check_bounds, check_time
from tfcnn.search.result import Search
from tfcnn.search.space import head_space, read_space
from tfcnn.search.work import CHIEF_TIMEOUT, PAUSE
from tfcnn.training.config import TrainingConfig
from tfcnn.training.launch import visible_gpus
from tfcnn.training.machine import MachineConfig
from tfcnn.training.strategy import make_strategy

REPLACED_IN = 60  # seconds in which a chief replaces an earlier search

logger = logging.getLogger(__name__)


def search(source: str | Path, *, output: str | Path, backbone: str | Sequence[str] = BACKBONE,
           weights: str | Mapping[str, str] = IMAGENET, image_size: int | Sequence[int] = (), model: ModelConfig | None = None,
           training: TrainingConfig | None = None, data: DataConfig | None = None, config: SearchConfig | None = None, space: Callable | Any = None,
           fixed: Sequence[str] = (), only: Sequence[str] | None = None, formats: Sequence[str] = (), devices: Sequence[int] | None = None,
           overwrite: bool = False) -> Search:
    """Looks for the hyperparameters that fit a source best, by its validation photos.

    Heads are tried on cached features, a few seconds each. Then the defaults are fine-tuned, so that what the search gains is known,
    and after them configurations that go on from the best heads; where heads are all that is searched, the defaults are a head too.
    The test photos choose nothing: the best run is tested once.

    A search that was interrupted goes on when it is called again with the same arguments. With keras-tuner's environment variables
    (KERASTUNER_TUNER_ID, KERASTUNER_ORACLE_IP, KERASTUNER_ORACLE_PORT) a process is the chief of a search, or one of its workers, which share
    the folder `output` and the cache.

    Args:
        source: a folder or file of photos, as `load_images` takes it.
        output: the folder of the search; its run folder `best` holds the result.
        backbone: one, or several to be compared.
        weights: of all backbones, or by backbone; see `ModelConfig`.
        image_size: in pixels; several are compared; none takes each backbone's own.
        model, training, data: with everything that is not searched; the seed of `training` is that of the search too.
        config: how to search; the defaults if None.
        space: narrows or widens it, see `tfcnn.search.space.read_space`; so do `fixed` and `only`.
        formats: names of EXPORTERS, that the best run is exported to.
        devices: numbers of the GPUs; each has one trial at a time. All if None.
        overwrite: replace the search that `output` holds.

    Raises:
        InputError: anything that cannot work, before the slow part begins.
        WorkError: no trial was completed.
    """
    job = _read_job(source, output, backbone, weights, image_size, model or ModelConfig(), training or TrainingConfig(), data or DataConfig(),
                    config or SearchConfig(), space, fixed, only, formats, devices)
    worker = is_worker()
    if worker:
        record = _record_for_worker(job, overwrite)
        if record["status"] == "finished":
            logger.info("the search of '%s' is finished already: there is nothing left for this worker", job.path)
            return Search(job.path, record)
    else:
        existing = _existing(job, overwrite, formats)
        if existing is not None:
            return existing
    try:
        with nullcontext() if worker else alone_in(job.path / "state"):
            return _search(job, formats)
    finally:
        with suppress(OSError):  # what was refused leaves nothing behind
            job.path.rmdir()


def _search(job: Job, formats: Sequence[str]) -> Search:
    clock = Clock(job)
    opened = open_checked(job.source, job.configs({})[0], job.data)
    _leave_memory_of_gpus()
    load = functools.cache(lambda image_size: load_data(job, opened, image_size))
    networks = {key: build_network(job, load(key[1]), key) for key in networks_of(job)}
    check_time(job, [table for _, table in networks.values()], clock)
    if is_worker():
        _check_same(job)  # of the chief, if it has begun
    elif not job.record_file.exists():
        _begin(job, networks)
    tables = {key: with_features(job, load(key[1]), *networks.pop(key)) for key in list(networks)}
    oracles = run_levels(job, tables, clock)
    if is_worker():
        logger.info("this worker is done; the chief tests the best run and writes the result")
        return Search(job.path, job.read_record())
    return finish_search(job, oracles, clock, tables=tables, formats=formats, load=load)


def _begin(job: Job, networks: Mapping[tuple, tuple]) -> None:
    """Writes the record of a search, when it is known to be one that can be done; one that is refused leaves nothing behind."""
    with name_aside(job.path / "state" / "bounds") as aside:
        trying = replace(job, path=aside)
        check_bounds(trying, networks, next(iter(networks.values()))[1].labels)
        job.write_record()
        if trying.sizes.exists():
            publish(trying.sizes, job.sizes)


def _read_job(source, output, backbone, weights, image_size, model, training, data, config, space, fixed, only, formats, devices) -> Job:
    """The arguments, checked as far as they can be without reading a photo."""
    if not isinstance(source, (str, Path)):
        raise InputError("expected the path of the photos, since each fine-tuning is a process of its own, got data in memory; "
                         "save it as an .npz or in folders")
    if data.kind != IMAGE:
        raise InputError(f"expected photos to search on, got kind='{data.kind}': heads are searched on the features of backbones of photos")
    check_search(config)
    _check_cluster(os.environ)
    if data.folds is not None:
        raise InputError(f"expected one split for a search, got folds={data.folds}; search with one, then 'tfcnn train' the best with --folds")
    backbones = (backbone,) if isinstance(backbone, str) else tuple(backbone)
    sizes = (image_size,) if isinstance(image_size, int) else tuple(image_size)
    if training.head_first is False:
        raise InputError("expected heads that are found first in a search, which begins with them, got head_first=False; leave it out")
    if training.gradual:
        raise InputError(f"expected all stages to open at once in a search, whose first trainings are short, got gradual={training.gradual}; leave it out")
    if not backbones:
        raise InputError("expected a backbone or several, got none")
    if isinstance(weights, Mapping) and set(weights) != set(backbones):
        raise InputError(f"expected weights for each of {', '.join(backbones)}, got them for {', '.join(weights)}")
    by_backbone = dict(weights) if isinstance(weights, Mapping) else dict.fromkeys(backbones, weights)
    for name in backbones:
        for size in sizes or (None,):
            check_all(source, output, replace(model, backbone=name, weights=by_backbone[name], image_size=size), training, data, formats, MachineConfig())
    rows = read_space(space, fixed=fixed, only=only, backbones=backbones, image_sizes=sizes)
    source = str(source) if str(source).startswith("tfds:") else os.path.abspath(source)
    job = Job(Path(output), source, by_backbone, sizes, model, training, data, config, rows, _gpus(devices))
    if not searches_fine(job) and not head_space(rows, model).space:
        raise InputError(f"expected fields that heads can be searched by, since nothing is fine-tuned, got {', '.join(rows)}; "
                         "give others, hidden layers, or leave out --fine-tune 0")
    return job


def _check_cluster(environment: Mapping[str, str]) -> None:
    given = [name for name in CLUSTER if environment.get(name)]
    if given and len(given) < len(CLUSTER):
        missing = next(name for name in CLUSTER if name not in given)
        raise InputError(f"expected all of {', '.join(CLUSTER)} for a search by several processes, got no {missing}; set it, or none of them")
    port = environment.get("KERASTUNER_ORACLE_PORT", "1")
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise InputError(f"expected a port from 1 to 65535, got KERASTUNER_ORACLE_PORT={port}")


def _gpus(devices: Sequence[int] | None) -> tuple[str, ...]:
    """The GPUs of this process as CUDA_VISIBLE_DEVICES names them; those of a worker are chosen by who started it."""
    found = [] if is_worker() else visible_gpus(os.environ)
    wrong = [device for device in devices or () if not 0 <= device < len(found)]
    if wrong:
        raise InputError(f"expected numbers of the {len(found)} GPUs that this process may use, got devices={tuple(devices or ())}")
    return tuple(found) if devices is None else tuple(found[device] for device in devices)


def _leave_memory_of_gpus() -> None:
    """Trials train on the cards that this process computes features on: it takes of their memory what it needs, not all."""
    make_strategy("one_device")


def _record_for_worker(job: Job, overwrite: bool) -> dict:
    """What the folder says of the search; where an earlier one is to be replaced, when the chief has begun to.

    A finished one with the same arguments may be the earlier one, or that of a chief which needs this worker no more: for a while it is waited
    for the chief.
    """
    began, told = time.monotonic(), job.told()
    while overwrite:
        record, waited = _record_or_none(job), time.monotonic() - began
        if record is not None and record["arguments"] == told and (record["status"] != "finished" or waited > REPLACED_IN):
            return record
        if waited > CHIEF_TIMEOUT:
            raise WorkError(f"expected the chief to replace the search of '{job.path}', but it did not in {CHIEF_TIMEOUT} s; "
                            "start it with --overwrite, or leave that out here")
        time.sleep(PAUSE)
    _check_same(job)
    return job.read_record()


def _record_or_none(job: Job) -> dict | None:
    """None for a damaged record, which a chief replaces."""
    try:
        return job.read_record()
    except InputError:
        return None


def _existing(job: Job, overwrite: bool, formats: Sequence[str]) -> Search | None:
    """The search that the folder holds, if it is finished; raises InputError where it is another one."""
    if overwrite and job.record_file.exists():
        with alone_in(job.path / "state"):  # not under the hands of a process that searches
            pass
        with name_aside(job.path) as aside:  # which is no search any more, whenever it is killed
            job.path.rename(aside)
    if not job.record_file.exists():
        if job.path.is_dir() and _holds_other_files(job.path):
            raise InputError(f"expected an empty or new folder for the search, but '{job.path}' holds other files; give another --output")
        prepare_folder(job.path)
        return None
    _check_same(job)
    record = job.read_record()
    if record["status"] == "finished":
        logger.warning("the search of '%s' is finished already: nothing is tried; give --overwrite to search anew", job.path)
        export_missing(Search(job.path, record).best, formats)
        return Search(job.path, record)
    logger.info("the search of '%s' goes on", job.path)
    return None


def _holds_other_files(folder: Path) -> bool:
    """Whether a folder without a record of a search has more in it than its locks."""
    return any(path.name not in (LOCK, "state") for path in folder.iterdir()) or any((folder / "state").glob("[!.]*"))


def _check_same(job: Job) -> None:
    """Raises InputError where the folder holds another search."""
    record = job.read_record()
    changed = [_change(name, record["arguments"].get(name), value) for name, value in job.told().items() if record["arguments"].get(name) != value]
    if changed:
        raise InputError(f"expected the search that '{job.path}' holds, but it has other arguments ({', '.join(changed[:5])}); "
                         "give those to go on with it, --overwrite to replace it, or another --output")


def _change(name: str, there: Any, given: Any) -> str:
    if isinstance(there, Mapping) and isinstance(given, Mapping):
        return f"{name}: {', '.join(field for field in {**there, **given} if there.get(field) != given.get(field))}"
    return f"{name}: {there} there, {given} here"
