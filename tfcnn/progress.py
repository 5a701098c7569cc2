"""Progress: a bar on a terminal, a line in a notebook, elsewhere a line in the log now and then, and one for every finished stage."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SAY_AFTER = 20  # seconds between two lines of a stage where there is no bar
SHOW_AFTER, SHOW_EVERY = 3, 1  # seconds, in a notebook, where every line stays: short stages say nothing

logger = logging.getLogger(__name__)


@contextmanager
def stage(name: str, total: int | None = None, seconds: dict[str, float] | None = None, *, photos: int = 0, done: int = 0) -> Iterator[Callable]:
    """Times one stage of the work and shows how far it is.

    Args:
        name: what is being done, as the user reads it.
        total: number of steps; None shows a spinner without a percentage.
        seconds: a dict that receives the stage's wall time under its name; a repeated stage adds up.
        photos: in one step, for the rate that the bar shows; 0 shows none.
        done: steps that were done before, by a process that was interrupted.

    Yields:
        `advance(steps=1, note="")`, to be called as the work goes on.
    """
    start = time.perf_counter()
    bar = _Cell(name, total, done) if "ipykernel" in sys.modules else _Bar(name, total, photos, done) if _is_interactive() else _Lines(name, total, done)
    with bar:
        yield bar.advance
    taken = time.perf_counter() - start
    if seconds is not None:
        seconds[name] = round(seconds.get(name, 0.0) + taken, 2)
    logger.info("%-34s %7.1f s", name, taken)


def _is_interactive() -> bool:
    return sys.stderr.isatty()


class _Cell:
    """A line below the cell of a notebook that is rewritten as the work goes on, and ends as the time that it took.

    Not a bar of rich: without ipywidgets that warns, and with them each stage leaves an empty output.
    """

    def __init__(self, name: str, total: int | None, done: int):
        self._name, self._total, self._done, self._handle = name, total, done, None
        self._started = self._shown = time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, failed, *_):
        if self._handle is not None and not failed:
            self._show(f"{time.monotonic() - self._started:.1f} s")

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._done += steps
        now = time.monotonic()
        if self._total and now - self._started > SHOW_AFTER and now - self._shown > SHOW_EVERY:
            self._shown = now
            self._show(" ".join(filter(None, [f"{self._done / self._total:.0%}", note])))

    def _show(self, text: str) -> None:
        from IPython.display import display

        content = {"text/plain": f"{self._name}: {text}"}
        if self._handle is None:
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)


class _Lines:
    """What a log or a pipe gets: how far a long stage is, and how long the rest will take at the speed so far."""

    def __init__(self, name: str, total: int | None, done: int):
        self._name, self._total, self._before, self._done, self._note = name, total, done, done, ""
        self._started = self._said = time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._done += steps
        self._note = note or self._note
        now = time.monotonic()
        if self._total and self._before < self._done < self._total and now - self._said > SAY_AFTER:
            self._said = now
            left = (now - self._started) / (self._done - self._before) * (self._total - self._done)
            logger.info("%s: %d of %d, about %.0f s left%s", self._name, self._done, self._total, left, self._note and f"; {self._note}")


class _Bar:
    """A line of the one live display; a stage within a stage gets a line below it."""

    _display: Any = None

    def __init__(self, name: str, total: int | None, photos: int, done: int):
        self._name, self._total, self._photos, self._done = name, total, photos, done

    def __enter__(self):
        self._owns = _Bar._display is None
        if self._owns:
            _Bar._display = _new_display()
            _Bar._display.start()
        self._task = _Bar._display.add_task(self._name, total=self._total, completed=self._done, note="", photos=self._photos)
        return self

    def __exit__(self, *_):
        _Bar._display.remove_task(self._task)
        if self._owns:
            _Bar._display.stop()
            _Bar._display = None

    def advance(self, steps: int = 1, note: str = "") -> None:
        _Bar._display.update(self._task, advance=steps, **({"note": note} if note else {}))


def _new_display():
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    class Rate(ProgressColumn):
        def render(self, task) -> str:
            return f"{task.speed * task.fields['photos']:.0f} photos/s" if task.speed and task.fields["photos"] else ""

    return Progress(TextColumn("{task.description:<34}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), Rate(),
                    TextColumn("{task.fields[note]}"), console=Console(stderr=True), transient=True)
