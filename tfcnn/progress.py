"""Progress on standard error: a bar on a terminal or in a notebook, one log line for every finished stage."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)


@contextmanager
def stage(name: str, total: int | None = None, seconds: dict[str, float] | None = None) -> Iterator[Callable]:
    """Times one stage of the work and shows how far it is.

    Args:
        name: what is being done, as the user reads it.
        total: number of steps; None shows a spinner without a percentage.
        seconds: a dict that receives the stage's wall time under its name; a repeated stage adds up.

    Yields:
        `advance(steps=1, note="")`, to be called as the work goes on.
    """
    start = time.perf_counter()
    bar = _bar(name, total)
    with bar:
        yield bar.advance
    taken = time.perf_counter() - start
    if seconds is not None:
        seconds[name] = round(seconds.get(name, 0.0) + taken, 2)
    logger.info("%-34s %7.1f s", name, taken)


def _bar(name: str, total: int | None):
    return _Bar(name, total) if _is_interactive() else _NoBar()


def _is_interactive() -> bool:
    return sys.stderr.isatty() or "ipykernel" in sys.modules


class _NoBar:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def advance(self, steps: int = 1, note: str = "") -> None:
        pass


class _Bar:
    def __init__(self, name: str, total: int | None):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description:<34}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"), console=Console(stderr=True), transient=True,
        )
        self._task = self._progress.add_task(name, total=total, note="")

    def __enter__(self):
        self._progress.__enter__()
        return self

    def __exit__(self, *error):
        return self._progress.__exit__(*error)

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._progress.update(self._task, advance=steps, **({"note": note} if note else {}))
