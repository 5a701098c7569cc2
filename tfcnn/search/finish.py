"""The end of a search: which trial was the best, its run, its test, and what is written of all of them."""

import logging
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfcnn.data.scores import read_scores
from tfcnn.errors import WorkError
from tfcnn.evaluation.paired import gain_of
from tfcnn.files import name_aside, publish, remove
from tfcnn.finish import finish
from tfcnn.progress import stage
from tfcnn.record import Run, load_run
from tfcnn.search.heads import Table, network_of, scores_of_head
from tfcnn.search.job import Job, searches_fine
from tfcnn.search.levels import DEFAULTS, HEADS, head_values
from tfcnn.search.limits import Clock
from tfcnn.search.result import Search, TrialRow, front_of, rows_of
from tfcnn.search.trial import fine_tune, prune

BEST = "best"  # the run folder with the result

logger = logging.getLogger(__name__)


def finish_search(job: Job, oracles: Mapping[str, Any], clock: Clock, *, tables: Mapping[tuple, Table], formats: Sequence[str], load: Callable) -> Search:
    """Makes the best run an ordinary run folder, tests it, and writes search.json and search.png.

    Args:
        oracles: by level.
        tables: features by network, whose validation photos chose.
        formats: that the best run is exported to.
        load: (image size) → the photos of the search.

    Raises:
        WorkError: no trial was completed.
    """
    rows, of_trials = all_rows(job, oracles), clock.spent
    best, why = choose(job, rows, tables)
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
                              verdict=why, pareto=[row._asdict() for row in front_of(rows)], test=run.record["test"])
    from tfcnn.search.picture import draw_search

    search = Search(job.path, record)
    with stage("draw the picture"):
        draw_search(search, job.path / "search.png")
    return search


def all_rows(job: Job, oracles: Mapping[str, Any]) -> list[TrialRow]:
    """Every trial of a search, level by level."""
    heads, rows = head_values(job), []
    for level, oracle in oracles.items():
        folder = lambda number, level=level: job.trial_folder(level, number).relative_to(job.path) if level != HEADS and searches_fine(job) else None
        rows += rows_of(level, oracle, heads=heads, errors=_errors(job, level, oracle), folder=folder)
    return rows


def best_of(rows: Sequence[TrialRow]) -> TrialRow | None:
    """The best of the heads and of the fine-tunings that were trained for longest."""
    return min(_finals(rows), key=lambda row: (-row.score, row.log_loss), default=None)


def _finals(rows: Sequence[TrialRow]) -> list[TrialRow]:
    """What was completed, without fine-tunings that were cut short."""
    done = [row for row in rows if row.status == "COMPLETED"]
    longest = max((row.epochs or 0 for row in done), default=0)
    return [row for row in done if row.epochs in (None, longest)]


def choose(job: Job, rows: Sequence[TrialRow], tables: Mapping[tuple, Table]) -> tuple[TrialRow | None, str]:
    """The trial that the search ends with, and why in words.

    The best of many trials is partly the luckiest. It is taken for better than the defaults where it is so by more than one standard
    error of the difference on the validation photos, as `train` does with its head; else the defaults are it.

    Source: the rule of one standard error, Breiman et al. 1984, "Classification and regression trees", section 3.4.3.
    """
    best, defaults = best_of(rows), next((row for row in rows if row.level == DEFAULTS and row.status == "COMPLETED"), None)
    n = len(next(iter(tables.values())).validation_targets)
    if best is None:
        return None, ""
    beyond = "" if best.score >= 0 else "; no configuration is within the bounds, this one is nearest to them"
    told = f"{best.level} {best.id}, validation {_words(job)} {_value(job, best):.3f} on {n} photos"
    others = sum(row is not defaults for row in _finals(rows))
    if best is defaults:
        tried = {0: "nothing else was tried", 1: "the one other did not beat them"}.get(others, f"none of {others} others beat them")
        return best, f"best: the defaults, validation {_words(job)} {_value(job, best):.3f} on {n} photos; {tried}{beyond}"
    if defaults is None:
        return best, f"best: {told}{beyond}"
    if defaults.score < 0:
        return best, f"best: {told}; the defaults, {_value(job, defaults):.3f}, are not within the bounds{beyond}"
    gain, error = _gain(job, best, defaults, tables)
    compared = f"the defaults {_value(job, defaults):.3f}: {100 * gain:+.1f} points with a standard error of {100 * error:.1f}"
    if gain > error:
        return best, f"best: {told}, {compared}"
    return defaults, f"best: the defaults; {told}, {compared}, which is what chance makes of the best of many, so the defaults are kept"


def _gain(job: Job, best: TrialRow, defaults: TrialRow, tables: Mapping[tuple, Table]) -> tuple[float, float]:
    """Of the objective, photo by photo where the scores of both trials can be had, and its standard error."""
    found, others = _answers(job, best, tables), _answers(job, defaults, tables)
    if found is not None and others is not None and found[2] == others[2]:
        (right, targets, _), other_right = found, others[0]
        return gain_of(right, other_right, targets, balanced=job.config.objective == "balanced_accuracy")
    shares = [_value(job, row) for row in (best, defaults)]
    n = len(next(iter(tables.values())).validation_targets)
    return shares[0] - shares[1], math.sqrt(sum(share * (1 - share) for share in shares) / n)


def _answers(job: Job, row: TrialRow, tables: Mapping[tuple, Table]) -> tuple | None:
    """(which validation photos a trial answered right, their targets, their digests); a head is found once more, which gives the same one."""
    if row.run is None:
        table = tables[network_of(row.values, job)]
        right = scores_of_head(table, *job.configs(row.values)).argmax(axis=1) == table.validation_targets
        return right, table.validation_targets, ()
    kept = read_scores(load_run(job.path / row.run), "validation")
    return None if kept is None else (kept.scores.argmax(axis=1) == kept.targets, kept.targets, tuple(kept.digests))


def _value(job: Job, row: TrialRow) -> float:
    return getattr(row, job.config.objective)


def _words(job: Job) -> str:
    return job.config.objective.replace("_", " ")


def _make_run(job: Job, best: TrialRow) -> Run:
    """The best trial as the run folder `best`."""
    folder = job.path / BEST
    if best.run is None or job.config.refit:
        fine_tune(job, best.values, folder, epochs=best.epochs or 0, refit=job.config.refit)
    elif not (folder / "run.json").exists():
        for unfinished in (folder, *job.path.glob(f".tmp-*-{BEST}")):  # of a process that was killed
            remove(unfinished)
        with name_aside(folder) as aside:
            shutil.copytree(job.path / best.run, aside)
            publish(aside, folder)
    return load_run(folder)


def _errors(job: Job, level: str, oracle) -> dict[str, str]:
    files = {number: job.error_file(level, number) for number in oracle.trials}
    return {number: file.read_text(encoding="utf-8").strip() for number, file in files.items() if file.exists()}
