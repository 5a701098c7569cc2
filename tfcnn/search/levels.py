"""The levels of a search: heads on cached features, the defaults, fine-tunings that go on from the best heads.

Where heads are all that is searched, the defaults are a head as well, the first one.
"""

import json
import logging
import math
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from tfcnn.errors import WorkError
from tfcnn.files import write_text
from tfcnn.progress import stage
from tfcnn.search.config import FINE_TUNED
from tfcnn.search.heads import Table, network_of, try_head
from tfcnn.search.job import LEVELS, Job, is_chief, is_worker, searches_fine
from tfcnn.search.limits import Clock, beyond, estimated, whole_epochs
from tfcnn.search.space import EPOCHS, HEAD, fine_space, head_space
from tfcnn.search.trial import fine_tune, measure_file, stop_all
from tfcnn.search.work import Chief, chief_is_gone, client_of, work_on

HEADS, DEFAULTS, FINE = LEVELS
HEADS_TIME = 1 / 4  # of the time limit, that the heads may take
KEPT_HEADS = 4  # that fine-tunings go on from
MANY = 81  # configurations that begin fine-tuning where the time is what ends them

logger = logging.getLogger(__name__)


def run_levels(job: Job, tables: Mapping[tuple, Table], clock: Clock) -> dict[str, Any]:
    """Runs all trials that are left; gives the oracles by level, on a worker none."""
    oracles: dict[str, Any] = {}
    levels = LEVELS if searches_fine(job) else (DEFAULTS, HEADS)  # which take all the time that is left
    for level in levels:
        if is_worker():
            with stage(f"search, {level}"):
                _work_for_chief(job, level, tables)
            continue
        oracle = oracles[level] = _MAKE[level](job, tables, oracles, clock)
        with stage(f"search, {level}", job.config.trials if level == HEADS else None, done=len(oracle.end_order)) as advance:
            say = _sayer(oracle, advance)
            if is_chief():
                Chief(os.environ, levels).serve(level, oracle, _both(say, clock.save_now_and_then))
            else:
                _work_here(job, level, oracle, tables, _both(say, clock.save))
            clock.save()
    return oracles


def _sayer(oracle, advance: Callable) -> Callable:
    """() → says how many trials have ended and what the best is worth; threads end them, and call it."""
    said, lock = len(oracle.end_order), threading.Lock()

    def say() -> None:
        nonlocal said
        with lock:
            best, ended = max((trial.score for trial in list(oracle.trials.values()) if trial.score is not None), default=None), len(oracle.end_order)
            advance(ended - said, "" if best is None else f"best {best:.3f}")
            said = ended

    return say


def _both(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def call() -> None:
        first()
        second()

    return call


def _heads(job: Job, tables, oracles, clock: Clock):
    from tfcnn.search import oracles as kinds

    kind = {"bayesian": kinds.Bayesian, "grid": kinds.Grid}.get(job.config.algorithm, kinds.Random)
    limit = (HEADS_TIME if searches_fine(job) else 1) * job.config.seconds
    return kinds.make_oracle(kind, job.state_file(HEADS), head_space(job.rows, job.model), seed=job.training.seed, max_trials=job.config.trials,
                             keeps_workers=is_chief(), is_over=lambda: clock.spent > limit and bool(_ended(job, HEADS)))


def _ended(job: Job, level: str) -> int:
    """How many trials of a level were begun; one is, whatever the time."""
    return len(_trials_of(job, level)) if job.state_file(level).exists() else 0


def _defaults(job: Job, tables, oracles, clock: Clock):
    import keras_tuner

    from tfcnn.search.oracles import Random, make_oracle

    return make_oracle(Random, job.state_file(DEFAULTS), keras_tuner.HyperParameters(), seed=job.training.seed, max_trials=1, keeps_workers=is_chief())


def _fine_tunings(job: Job, tables, oracles, clock: Clock):
    from tfcnn.search import oracles as kinds

    table = next(iter(tables.values()))
    whole, count = whole_epochs(job, table), job.config.fine_tune or (FINE_TUNED if math.isinf(job.config.seconds) else MANY)
    measured = next((trial.metrics for trial in kinds.completed(oracles[DEFAULTS])), None)
    at_once = max(1, len(job.gpus))

    def seconds_of(epochs: int) -> float:
        if measured is None:
            return estimated(job, table, epochs)
        seconds, of_epochs = measured.get_best_value("seconds"), measured.get_best_value("seconds_of_epochs")
        return max(seconds - of_epochs, 0) + of_epochs * epochs / whole  # after a resume `seconds` may be of its end alone

    space = fine_space(job.rows, kept_heads(job), job.model)
    common = {"hyperparameters": space, "seed": job.training.seed, "keeps_workers": is_chief()}
    if job.config.algorithm == "hyperband":
        return kinds.make_oracle(kinds.Halving, job.state_file(FINE), **common, count=count, epochs=kinds.rungs_of(whole), seconds_of=seconds_of,
                                 time_left=lambda: clock.left * at_once, at_once=at_once)
    kind = {"bayesian": kinds.Bayesian, "grid": kinds.Grid, "random": kinds.Random}[job.config.algorithm]
    return kinds.make_oracle(kind, job.state_file(FINE), **common, max_trials=count, is_over=lambda: seconds_of(whole) > clock.left)


_MAKE = {HEADS: _heads, DEFAULTS: _defaults, FINE: _fine_tunings}


def head_values(job: Job) -> dict[str, dict]:
    """The values of completed head trials by their number, the best first; from their file, which workers share."""
    from tfcnn.search.oracles import rank

    trials = [trial for trial in _trials_of(job, HEADS) if trial.status == "COMPLETED" and trial.score is not None]
    return {trial.trial_id: dict(trial.hyperparameters.values) for trial in sorted(trials, key=rank)}


def _trials_of(job: Job, level: str) -> list:
    """As the file of its state has them."""
    from keras_tuner.engine.trial import Trial

    return [Trial.from_state(told) for told in json.loads(job.state_file(level).read_text(encoding="utf-8"))["trials"]]


def kept_heads(job: Job) -> dict[str, dict]:
    """The heads that fine-tunings go on from: the best of each backbone, and the best of all."""
    heads = head_values(job)
    first: dict[str, str] = {}
    for number, values in heads.items():
        first.setdefault(values.get("backbone", ""), number)
    chosen = list(dict.fromkeys([*first.values(), *heads]))[:max(KEPT_HEADS, len(first))]
    return {number: heads[number] for number in heads if number in chosen} or {"": {}}  # where all heads failed, the default one


def _work_for_chief(job: Job, level: str, tables) -> None:
    import grpc

    name = os.environ["KERASTUNER_TUNER_ID"]
    try:
        work_on(client_of(None), _runner(job, level, tables, None), worker=f"{level}:{name}", on_end=_reporter(job, level))
    except grpc.RpcError as error:
        raise chief_is_gone(error) from error


def _work_here(job: Job, level: str, oracle, tables, after_each: Callable) -> None:
    """One trial at a time, or one on each GPU."""
    report, stopped = _reporter(job, level), threading.Event()

    def on_end(trial):
        report(trial)
        after_each()

    gpus = job.gpus if level != HEADS and job.gpus else (None,)
    work = lambda gpu: work_on(oracle, _runner(job, level, tables, gpu), worker=f"gpu{gpu}", on_end=on_end, stopped=stopped)
    if len(gpus) == 1:
        work(gpus[0])
        return
    with ThreadPoolExecutor(len(gpus)) as pool:
        try:
            for done in as_completed([pool.submit(work, gpu) for gpu in gpus]):
                done.result()
        except BaseException:
            stopped.set()
            stop_all()
            raise


def _runner(job: Job, level: str, tables: Mapping[tuple, Table], gpu: str | None) -> Callable:
    """(trial) → its metrics."""
    table = next(iter(tables.values()))

    def head(trial) -> dict:
        values = trial.hyperparameters.values
        return _scored(job, values, try_head(tables[network_of(values, job)], *job.configs(values)), table.labels)

    def network(trial) -> dict:
        values = dict(trial.hyperparameters.values)
        values = {**head_values(job).get(values.get(HEAD, ""), {}), **values}
        epochs = int(values.get(EPOCHS, whole_epochs(job, table)))
        return _scored(job, values, fine_tune(job, values, job.trial_folder(level, trial.trial_id), epochs=epochs, gpu=gpu), table.labels)

    return head if level == HEADS or not searches_fine(job) else network


def _scored(job: Job, values: Mapping[str, Any], found: dict, labels) -> dict:
    """The metrics with the score: the objective, or below 0 by as much as a file is beyond its bounds."""
    metrics = {name: float(value) for name, value in found.items() if name != "n"}
    if not all(map(math.isfinite, metrics.values())):
        raise WorkError(f"expected finite numbers of the validation photos, got {metrics}; the training diverged")
    score, config = metrics[job.config.objective], job.config
    if config.is_bounded:
        metrics |= measure_file(job, values, labels)
        excess = beyond(job, metrics)
        score = score if excess <= 0 else -excess
    return {**metrics, "score": score}


def _reporter(job: Job, level: str) -> Callable:
    """Says how a trial ended, and keeps the error of one that failed."""
    def report(trial) -> None:
        name = f"{level} {trial.trial_id}"
        if trial.status == "FAILED":
            write_text(job.error_file(level, trial.trial_id), f"{trial.message}\n")
            logger.warning("%s failed: %s", name, trial.message)
        elif level != HEADS:
            logger.info("%s is done", name)

    return report
