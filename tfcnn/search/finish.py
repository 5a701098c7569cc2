"""The end of a search: which trial was the best, its run, its test, and what is written of all of them."""

import logging
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfcnn.errors import WorkError
from tfcnn.flow import finish
from tfcnn.progress import stage
from tfcnn.record import Run, load_run, name_aside, publish, remove
from tfcnn.search.job import Job
from tfcnn.search.levels import DEFAULTS, HEADS, Clock, head_values
from tfcnn.search.result import Search, TrialRow, front_of, rows_of
from tfcnn.search.trial import fine_tune, prune

BEST = "best"  # the run folder with the result

logger = logging.getLogger(__name__)


def finish_search(job: Job, oracles: Mapping[str, Any], clock: Clock, *, photos: int, formats: Sequence[str], load: Callable) -> Search:
    """Makes the best run an ordinary run folder, tests it, and writes search.json and search.png.

    Args:
        oracles: by level.
        photos: how many validated the trials.
        formats: that the best run is exported to.
        load: (image size) → the photos of the search.

    Raises:
        WorkError: no trial was completed.
    """
    rows, of_trials = all_rows(job, oracles), clock.spent
    best = best_of(rows)
    if best is None:
        error = next((row.error for row in rows if row.error), "none was tried")
        raise WorkError(f"expected one trial to be completed, but all {len(rows)} failed; the first: {error}")
    started = time.perf_counter()
    run = _make_run(job, best)
    if run.record["status"] != "finished":
        run = finish(run, load(run.record["input_shape"][0]), formats=formats, started=started)
    for row in rows:
        if row.run:
            prune(job.path / row.run)
    record = job.write_record(status="finished", seconds=round(clock.spent, 1), seconds_of_trials=round(of_trials, 1),
                              trials=[row._asdict() for row in rows], best=best._asdict(),
                              verdict=verdict(best, rows, photos), pareto=[row._asdict() for row in front_of(rows)], test=run.record["test"])
    from tfcnn.search.picture import draw_search

    search = Search(job.path, record)
    with stage("draw the picture"):
        draw_search(search, job.path / "search.png")
    return search


def all_rows(job: Job, oracles: Mapping[str, Any]) -> list[TrialRow]:
    """Every trial of a search, level by level."""
    heads, rows = head_values(job), []
    for level, oracle in oracles.items():
        folder = lambda number, level=level: None if level == HEADS else job.trial_folder(level, number).relative_to(job.path)
        rows += rows_of(level, oracle, heads=heads, errors=_errors(job, level, oracle), folder=folder)
    return rows


def best_of(rows: Sequence[TrialRow]) -> TrialRow | None:
    """The best of those that were trained for longest: whole fine-tunings if there are any, else heads."""
    done = [row for row in rows if row.status == "COMPLETED"]
    longest = max((row.epochs or 0 for row in _with_epochs(done)), default=0)
    finals = [row for row in _with_epochs(done) if (row.epochs or 0) == longest]
    return min(finals, key=lambda row: (-row.score, row.log_loss), default=None)


def verdict(best: TrialRow, rows: Sequence[TrialRow], n: int) -> str:
    """In words, what the search gained over the defaults, and whether chance could have done it."""
    defaults = next((row for row in rows if row.level == DEFAULTS and row.status == "COMPLETED"), None)
    beyond = "" if best.score >= 0 else "; no configuration is within the bounds, this one is nearest to them"
    whole = sum(row.level not in (HEADS, DEFAULTS) and row.status == "COMPLETED" and row.epochs == best.epochs for row in rows)
    if best.level == DEFAULTS:
        others = f"none of the {whole} others that were trained as long beat them" if whole else "no other one was trained as long"
        return f"best: the defaults, validation accuracy {best.accuracy:.3f} on {n} photos; {others}{beyond}"
    text = f"best: {best.level} {best.id}, validation accuracy {best.accuracy:.3f} on {n} photos"
    if defaults is None:
        return text + beyond
    error = math.sqrt((best.accuracy * (1 - best.accuracy) + defaults.accuracy * (1 - defaults.accuracy)) / n)
    gain = best.accuracy - defaults.accuracy
    if gain <= 0:
        better = "with a lower log loss" if gain == 0 and best.score == defaults.score else "which are worse by what was asked for"
        return f"{text}, the defaults {defaults.accuracy:.3f}, {better}{beyond}"
    chance = "which chance alone often makes of the best of many" if gain < 2 * error else "beyond what chance would make of a single comparison"
    return f"{text}, the defaults {defaults.accuracy:.3f}: {100 * gain:+.1f} points with a standard error of {100 * error:.1f}, {chance}{beyond}"


def _with_epochs(rows: Sequence[TrialRow]) -> list[TrialRow]:
    tuned = [row for row in rows if row.level != HEADS]
    return tuned or list(rows)


def _make_run(job: Job, best: TrialRow) -> Run:
    """The best trial as the run folder `best`."""
    folder = job.path / BEST
    if best.level == HEADS or job.config.refit:
        fine_tune(job, best.values, folder, epochs=best.epochs or 0, refit=job.config.refit)
    elif not (folder / "run.json").exists():
        remove(folder)
        with name_aside(folder) as aside:
            shutil.copytree(job.path / best.run, aside)
            publish(aside, folder)
    return load_run(folder)


def _errors(job: Job, level: str, oracle) -> dict[str, str]:
    found = {}
    for number in oracle.trials:
        file = job.trial_folder(level, number)
        file = file.with_name(f"{file.name}.error")
        if file.exists():
            found[number] = file.read_text(encoding="utf-8").strip()
    return found
