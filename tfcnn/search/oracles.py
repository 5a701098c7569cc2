"""keras-tuner's oracles, which say what is tried next, with a state that a killed process can neither lose nor damage.

Their own `save` writes several files, none of them whole or not at all; here all there is to know stands in one, which is renamed into place.
"""

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine import trial as kt_trial

from tfcnn.errors import InputError
from tfcnn.files import write_text
from tfcnn.search.job import COMPLETED, IDLE, RUNNING, STOPPED
from tfcnn.search.space import EPOCHS, FROM

HALVING = 3  # one of three goes on, as in Li et al. 2018, "Hyperband", section 3
FEWEST_EPOCHS = 3  # of the first rung
SCORE = "score"

_ARGUMENTS = {"objective": keras_tuner.Objective(SCORE, "max"), "allow_new_entries": False, "tune_new_entries": False,
              "max_consecutive_failed_trials": 10**9}  # a failed trial ends no search


class _Kept(keras_tuner.Oracle):
    """State in one file, and an end that may come from outside.

    Attributes:
        file: of the state.
        keeps_workers: of a chief that was killed alone: its workers may be at work on what they had, and are given up only when they are silent.
        is_over: whether no trial begins any more.
    """

    ongoing_trials: dict[str, Any]
    file: Path
    keeps_workers: bool = False
    is_over: Callable[[], bool] = staticmethod(lambda: False)

    def populate_space(self, trial_id):
        return {"status": STOPPED} if self.is_over() else super().populate_space(trial_id)

    def get_state(self) -> dict:
        return {**super().get_state(), "trials": [trial.get_state() for trial in self.trials.values()]}

    def set_state(self, state: dict) -> None:
        self.trials = {told["trial_id"]: kt_trial.Trial.from_state(told) for told in state["trials"]}
        super().set_state(state)

    def save(self) -> None:
        write_text(self.file, json.dumps(self.get_state(), default=float))

    def _save_trial(self, trial) -> None:
        """In `save`, with all else."""

    def reload(self) -> None:
        """What was there when the process before ended; its unfinished trials are the next ones."""
        try:
            state = json.loads(self.file.read_text(encoding="utf-8"))
            for told in state["trials"]:
                if told["status"] == COMPLETED and told["score"] is None:  # killed between its end and its score
                    told["status"] = RUNNING
            self.set_state(state)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"expected the state of a search in '{self.file}', but it is damaged ({error!r:.80}); search again with --overwrite") from error
        # keras-tuner saves before it takes a trial that ended from those that run, and would run it again.
        running = {worker: trial for worker, trial in self.ongoing_trials.items() if trial.status == RUNNING and trial.trial_id not in self._retry_queue}
        if self.keeps_workers:
            self.ongoing_trials = running
        else:
            self.ongoing_trials = {}
            self._retry_queue += [trial.trial_id for trial in running.values()]


class Random(_Kept, keras_tuner.oracles.RandomSearchOracle):
    """At random, no values twice."""


class Bayesian(_Kept, keras_tuner.oracles.BayesianOptimizationOracle):
    """By a Gaussian process over the trials so far."""


class Grid(_Kept, keras_tuner.oracles.GridSearchOracle):
    """All combinations in turn. keras-tuner saves nothing of where it is: that follows from the trials."""

    def set_state(self, state: dict) -> None:
        super().set_state(state)
        values = lambda number: self.trials[number].hyperparameters.values
        before = None
        for number in sorted(self.trials, key=functools.cmp_to_key(lambda one, other: self._compare(values(one), values(other)))):
            self._ordered_ids.insert(number, before)
            self._populate_next.append(number)
            before = number


class Halving(_Kept, keras_tuner.Oracle):
    """Successive halving: many with few epochs, the best third of them with three times as many, and so on (Li et al. 2018, algorithm 1, one bracket).

    Each rung trains anew with a whole schedule: accuracies in the middle of one, at high rates, rank badly.

    Attributes:
        count: configurations that begin; fewer where the time does not last for them and those that go on.
        epochs: of each rung, the last one whole.
        seconds_of: the time that a trial of so many epochs is expected to take.
        time_left: until the end, of all that run at once together; `at_once`: how many do.
    """

    count: int
    epochs: tuple[int, ...]
    seconds_of: Callable[[int], float] = staticmethod(lambda epochs: 0.0)
    time_left: Callable[[], float] = staticmethod(lambda: math.inf)
    at_once: int = 1

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.rungs: list[list[str]] = []

    def populate_space(self, trial_id):
        self.rungs = self.rungs or [[] for _ in self.epochs]
        first, later = self.rungs[0], self.rungs[1:]
        if len(first) < self.count and not any(later) and self._has_time_for(len(first) + 1):
            values = self._random_values()
            if values:
                return self._add(0, trial_id, values)
        for number, rung in enumerate(later, start=1):
            before = [self.trials[trial] for trial in self.rungs[number - 1]]
            if any(trial.status in (RUNNING, "INVALID") for trial in before):
                return {"status": IDLE}
            best = sorted((trial for trial in before if trial.status == COMPLETED), key=rank)[:math.ceil(len(before) / HALVING)]
            gone_on = {self.trials[trial].hyperparameters.values[FROM] for trial in rung}
            waiting = [trial for trial in best if trial.trial_id not in gone_on]
            if waiting:
                if self.seconds_of(self.epochs[number]) > self.time_left() / self.at_once:
                    return {"status": IDLE if self.ongoing_trials else STOPPED}
                return self._add(number, trial_id, {**waiting[0].hyperparameters.values, FROM: waiting[0].trial_id})
        return {"status": IDLE if self.ongoing_trials else STOPPED}

    def _compute_values_hash(self, values: dict) -> str:
        """Of the configuration: with what epochs it is trained makes it no other one."""
        return super()._compute_values_hash({name: value for name, value in values.items() if name not in (EPOCHS, FROM)})

    def _record_values(self, trial) -> None:
        """keras-tuner forgets values that a trial had before; here none change, and those of a rung are of the one below."""
        trial.hyperparameters.ensure_active_values()
        self._tried_so_far.add(self._compute_values_hash(trial.hyperparameters.values))

    def _add(self, rung: int, trial_id: str, values: dict) -> dict:
        self.rungs[rung].append(trial_id)
        return {"status": RUNNING, "values": {**values, EPOCHS: self.epochs[rung]}}

    def _has_time_for(self, count: int) -> bool:
        """Whether one more of the first rung, the rest of those that run, and the rungs above would end in time if `count` began."""
        needed = self.seconds_of(self.epochs[0])
        for epochs in self.epochs[1:]:
            count = math.ceil(count / HALVING)
            needed += count * self.seconds_of(epochs)
        return needed <= self.time_left()

    def get_state(self) -> dict:
        return {**super().get_state(), "rungs": self.rungs}

    def set_state(self, state: dict) -> None:
        super().set_state(state)
        self.rungs = state["rungs"]


def make_oracle(kind: type, file: Path, hyperparameters, *, seed: int, max_trials: int | None = None, **attributes):
    """An oracle that goes on where `file` says it was, if there is one.

    Args:
        kind: one of the classes above.
        file: of its state.
        hyperparameters: the space.
        seed: from 0; the same seed asks for the same trials.
        max_trials: at most so many.
        attributes: `is_over` and those of `Halving`.
    """
    oracle = kind(hyperparameters=hyperparameters, seed=seed + 1, max_trials=max_trials, **_ARGUMENTS)  # keras-tuner takes 0 for no seed
    oracle.verbose = 0
    oracle.file = file
    for name, value in attributes.items():
        setattr(oracle, name, value)
    if file.exists():
        oracle.reload()
    return oracle


def rungs_of(epochs: int) -> tuple[int, ...]:
    """Epochs of each rung of a successive halving, up to `epochs`."""
    rungs = [epochs]
    while rungs[0] / HALVING >= FEWEST_EPOCHS:
        rungs.insert(0, math.ceil(rungs[0] / HALVING))
    return tuple(rungs)


def rank(trial) -> tuple[float, float]:
    """Sorts completed trials, the best first: by score, and where few photos give many the same, by log loss."""
    return -trial.score, trial.metrics.get_best_value("log_loss")


def completed(oracle) -> list:
    """The trials that gave a score, the best first."""
    return sorted((trial for trial in oracle.trials.values() if trial.status == COMPLETED), key=rank)
