"""`Search`: what a search found, as text, JSON and rows of a table."""

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from tfcnn.record import Run, load_run
from tfcnn.search.space import EPOCHS, FROM, HEAD

SHOWN = 10  # trials in the table
WIDTH = 130  # characters of its lines


Missing: TypeAlias = Any  # None where a trial failed, or where the search has no such bound; who reads it has asked for that


class TrialRow(NamedTuple):
    """One trial.

    Attributes:
        level: heads, defaults or fine-tunings.
        id: its number within the level.
        status: COMPLETED, FAILED, or RUNNING where the search was cut off.
        score: by which it was ranked.
        accuracy, balanced_accuracy, log_loss: on the validation photos.
        seconds: it took.
        epochs: of its fine-tuning; None for a head.
        bytes, milliseconds: of its float32 TFLite file, where the search has a bound for it.
        values: of what is searched, those of its head included.
        error: of one that failed.
        run: its folder, for those that trained a network.
    """

    level: str
    id: str
    status: str
    score: float | Missing
    accuracy: float | Missing
    balanced_accuracy: float | Missing
    log_loss: float | Missing
    seconds: float | Missing
    epochs: int | None
    bytes: int | Missing
    milliseconds: float | Missing
    values: dict[str, Any]
    error: str | None
    run: str | None


@dataclass(frozen=True)
class Search:
    """A finished search.

    Attributes:
        path: its folder.
        record: the content of its `search.json`.
    """

    path: Path
    record: dict = field(repr=False)

    @property
    def trials(self) -> list[TrialRow]:
        """All of them, in the order of the search."""
        return [TrialRow(**row) for row in self.record["trials"]]

    @property
    def best(self) -> Run:
        """The best run, an ordinary run folder."""
        return load_run(self.path / "best")

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return {"search": str(self.path), **self.record}

    def __str__(self) -> str:
        lines = [f"{_counts(self.trials)} in {self.record['seconds']:.0f} s", "", *_table(self.trials, self.record["best"]), "", self.record["verdict"]]
        if self.record["pareto"]:
            lines += ["", f"{'accuracy':>8} {'MB':>8} {'ms':>8}   not beaten in all three (milliseconds of this computer, one thread)"]
            numbers = lambda row: f"{row['accuracy']:>8.3f} {row['bytes'] / 1e6:>8.2f} {row['milliseconds']:>8.1f}   "
            lines += [line for row in self.record["pareto"] for line in _wrapped(numbers(row), _said(row["values"]))]
        test = self.record["test"]
        low, high = test["interval"]
        return "\n".join([*lines, "", f"test, measured once: accuracy {test['accuracy']:.3f} [{low:.3f}, {high:.3f}] on {test['n']} photos"])


def rows_of(level: str, oracle, *, heads: dict[str, dict], errors: dict[str, str], folder) -> list[TrialRow]:
    """The trials of an oracle.

    Args:
        heads: values of head trials by number, which those of fine-tunings are joined with.
        errors: by number of the trial, of those that failed on another worker; keras-tuner sends none.
        folder: (number) → run folder, or None for trials without.
    """
    return [_row(level, trial, heads, errors, folder) for trial in sorted(oracle.trials.values(), key=lambda trial: trial.trial_id)]


def front_of(rows: Iterable[TrialRow]) -> list[TrialRow]:
    """Those that no other one beats or equals in accuracy, bytes and milliseconds without being the same in all of them."""
    key = lambda row: (-row.accuracy, row.bytes, row.milliseconds)
    rows = sorted((row for row in rows if row.bytes is not None and row.accuracy is not None), key=key)
    front: list[TrialRow] = []
    for row in rows:
        if not any(all(theirs <= ours for theirs, ours in zip(key(other), key(row), strict=True)) for other in front):
            front.append(row)
    return front


def _row(level, trial, heads, errors, folder) -> TrialRow:
    values = dict(trial.hyperparameters.values)
    for name in (EPOCHS, FROM):
        values.pop(name, None)
    values = {**heads.get(values.pop(HEAD, None), {}), **values}
    last = lambda name: trial.metrics.get_best_value(name) if trial.metrics.exists(name) else None
    number = lambda name, kind=float: None if last(name) is None else kind(last(name))
    run = folder(trial.trial_id)
    return TrialRow(level, trial.trial_id, trial.status, None if trial.score is None else float(trial.score), number("accuracy"), number("balanced_accuracy"),
                    number("log_loss"), number("seconds"), number("epochs", int), number("bytes", int), number("milliseconds"), values,
                    (errors.get(trial.trial_id) or trial.message) if trial.status == "FAILED" else None, run and str(run))


def _counts(rows: list[TrialRow]) -> str:
    parts = []
    for level, (one, several) in {"heads": ("head on cached features", "heads on cached features"), "defaults": ("fine-tuning of the defaults", ""),
                                  "fine-tunings": ("other fine-tuning", "other fine-tunings")}.items():
        one = one if any(row.epochs for row in rows) else one.replace("fine-tuning", "head")
        count = sum(row.level == level for row in rows)
        parts += [f"{count} {one if count == 1 else several}"] if count else []
    failed = sum(row.status == "FAILED" for row in rows)
    return ", ".join(parts) + (f", {failed} of them failed" if failed else "")


def _table(rows: list[TrialRow], best: dict) -> list[str]:
    """The best of each level, as many as have room."""
    lines = [f"{'':<2}{'trial':<18}{'epochs':>7}{'accuracy':>10}{'log loss':>10}{'seconds':>9}  values"]
    done = [row for row in rows if row.status == "COMPLETED"]
    order = {"fine-tunings": 0, "defaults": 0, "heads": 1}
    done.sort(key=lambda row: (order[row.level], -(row.epochs or 0), -row.score, row.log_loss))
    for row in done[:SHOWN]:
        mark = "* " if (row.level, row.id) == (best["level"], best["id"]) else "  "
        numbers = f"{row.epochs or '-':>7}{row.accuracy:>10.3f}{row.log_loss:>10.3f}{row.seconds:>9.1f}"
        lines += _wrapped(f"{mark}{row.level + ' ' + row.id:<18}{numbers}  ", _said(row.values))
    rest = [f"  ... and {len(done) - SHOWN} more in search.json"] if len(done) > SHOWN else []
    failed = [f"  failed: {row.level} {row.id}: {row.error}" for row in rows if row.status == "FAILED"]
    return lines + rest + failed[:3] + ([f"  ... and {len(failed) - 3} more"] if len(failed) > 3 else [])


def _wrapped(start: str, text: str) -> list[str]:
    """Lines of a table whose last column goes on below itself."""
    return textwrap.wrap(text, WIDTH, initial_indent=start, subsequent_indent=" " * len(start))


def _said(values: dict) -> str:
    shown = lambda value: f"{value:.2g}" if isinstance(value, float) else str(value)
    return " ".join(f"{name}={shown(value)}" for name, value in values.items()) or "the defaults"
