"""A picture of a search: the score against each hyperparameter, all of them at once, and how the fine-tunings learned."""

from collections.abc import Container, Sequence
from pathlib import Path

import numpy as np

from tfcnn.files import write_aside
from tfcnn.record import read_history
from tfcnn.search.result import Search, TrialRow

COLUMNS = 4  # panels in a row
COLOURS = {"heads": "#9aa0a6", "defaults": "#d1495b", "fine-tunings": "#0b66c3"}
NAMES = {"heads": "heads on cached features", "defaults": "the defaults", "fine-tunings": "fine-tunings"}
DPI = 110


def draw_search(search: Search, path: Path) -> None:
    """Writes a PNG: a panel for each hyperparameter, parallel coordinates, learning curves, and with bounds accuracy against size and time."""
    from matplotlib.figure import Figure

    rows = [row for row in search.trials if row.status == "COMPLETED"]
    names = _differing(rows)
    tuned = any(row.run for row in rows)
    below = tuned + bool(names)  # rows of wide panels under the small ones
    lines = max(1, -(-len(names) // COLUMNS))
    figure = Figure(figsize=(13, 2.5 * lines + 3.8 * below + 0.6), layout="constrained")
    top, *lower = figure.subfigures(1 + below, 1, height_ratios=[2.5 * lines, *[3.8] * below], squeeze=False).ravel()
    logs = {name for name, told in search.record["arguments"]["space"].items() if told.get("sampling") == "log"}
    best = (search.record["best"]["level"], search.record["best"]["id"])
    _panels(top, rows, names, logs, best)
    if tuned:
        axes = lower[0].subplots(1, 2 if search.record["pareto"] else 1, squeeze=False)[0]
        _curves(axes[0], search, rows, best)
        if search.record["pareto"]:
            _front(axes[1], rows, search.record["pareto"])
    if names:
        _coordinates(lower[-1].subplots(), rows, names, logs)
    with write_aside(path) as aside:
        figure.savefig(aside, dpi=DPI)


def _differing(rows: Sequence[TrialRow]) -> list[str]:
    """The hyperparameters that have more than one value among these trials."""
    values: dict[str, set] = {}
    for row in rows:
        for name, value in row.values.items():
            values.setdefault(name, set()).add(str(value))
    return [name for name, found in values.items() if len(found) > 1]


def _panels(figure, rows: Sequence[TrialRow], names: Sequence[str], logs: Container[str], best: tuple[str, str]) -> None:
    lines = max(1, -(-len(names) // COLUMNS))
    axes = figure.subplots(lines, COLUMNS, squeeze=False, sharey=True).ravel()
    longest = max((row.epochs or 0 for row in rows), default=0)
    defaults = [row.accuracy for row in rows if row.level == "defaults"]
    for axis, name in zip(axes, names, strict=False):
        for accuracy in defaults:  # at no place of the axis, since they have no values of the space
            axis.axhline(accuracy, color=COLOURS["defaults"], linewidth=1.2, linestyle="--", zorder=1)
        places, ticks = _places([row.values.get(name) for row in rows if name in row.values])
        for level, colour in COLOURS.items():
            chosen = [row for row in rows if row.level == level and name in row.values]
            if chosen:
                x = [places(row.values[name]) for row in chosen]
                spread = 0.12 * (np.random.default_rng(0).random(len(x)) - 0.5) if ticks else 0
                sizes = [26 if row.epochs in (None, longest) else 9 for row in chosen]
                moved = np.array(x, float) + spread
                axis.scatter(moved, [row.accuracy for row in chosen], s=sizes, color=colour, alpha=0.7, linewidths=0)
                ringed = [(place, row.accuracy) for place, row in zip(moved, chosen, strict=True) if (row.level, row.id) == best]
                axis.scatter(*zip(*ringed, strict=True), s=110, facecolors="none", edgecolors="#d1495b", linewidths=1.5) if ringed else None
        _label_x(axis, name, ticks, [row.values[name] for row in rows if name in row.values], is_log=name in logs)
        axis.grid(alpha=0.25)
    for axis in axes[len(names):]:
        axis.axis("off")
    for axis in axes[::COLUMNS]:
        axis.set_ylabel("validation accuracy", fontsize=8)
    if not names:
        axes[0].text(0, 0.5, "nothing differs between the trials", transform=axes[0].transAxes)
    marks = {"defaults": {"marker": "_", "s": 120}}
    handles = [axes[0].scatter([], [], color=COLOURS[level], label=NAMES[level], **marks.get(level, {"s": 26}))
               for level in COLOURS if any(row.level == level for row in rows)]
    figure.legend(handles=handles, loc="outside upper left", ncols=3, fontsize=9, frameon=False)


def _curves(axis, search: Search, rows: Sequence[TrialRow], best: tuple[str, str]) -> None:
    for row in rows:
        history = read_history(search.path / row.run / "history.csv") if row.run else []
        if history:
            is_best = (row.level, row.id) == best
            style = {"linewidth": 2.6, "markersize": 5, "label": "the best"} if is_best else {"linewidth": 1.1, "markersize": 3}
            axis.plot([epoch["epoch"] for epoch in history], [epoch["val_accuracy"] for epoch in history], color=COLOURS[row.level], marker="o",
                      alpha=1 if is_best or row.level == "defaults" else 0.45, **style)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set_xlabel("epoch")
    axis.set_ylabel("validation accuracy", fontsize=8)
    axis.set_title("fine-tunings as they learned", fontsize=10, loc="left")
    axis.grid(alpha=0.25)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8, loc="lower right")


def _front(axis, rows: Sequence[TrialRow], front: Sequence[dict]) -> None:
    measured = [row for row in rows if row.bytes is not None]
    points = axis.scatter([row.bytes / 1e6 for row in measured], [row.accuracy for row in measured], c=[row.milliseconds for row in measured],
                          cmap="viridis", s=26, alpha=0.8, linewidths=0)
    axis.scatter([row["bytes"] / 1e6 for row in front], [row["accuracy"] for row in front], s=90, facecolors="none", edgecolors="#d1495b",
                 label="not beaten in all three")
    axis.get_figure().colorbar(points, ax=axis, label="ms a photo, one thread of this computer")
    axis.set_xlabel("MB of the float32 TFLite file")
    axis.set_title("accuracy, size and time", fontsize=10, loc="left")
    axis.legend(fontsize=8, loc="lower right")
    axis.grid(alpha=0.25)


def _coordinates(axis, rows: Sequence[TrialRow], names: Sequence[str], logs: Container[str]) -> None:
    """One line a trial over all hyperparameters, those of the last level that has enough of them; the colour is its accuracy."""
    from matplotlib import colormaps

    tuned = [row for row in rows if row.level == "fine-tunings"]
    shown = tuned if len(tuned) > 2 else rows
    shown = sorted(shown, key=lambda row: row.accuracy)
    names = _differing(shown)
    low, high = (shown[0].accuracy, shown[-1].accuracy) if shown else (0, 1)
    scales = {name: _Scale([row.values[name] for row in shown if name in row.values], is_log=name in logs) for name in names}
    for place, scale in enumerate(scales.values()):
        for label, height in scale.marks:
            axis.annotate(label, (place, height), fontsize=7, color="#333333", xytext=(5, 0), textcoords="offset points", va="center", zorder=3,
                          bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.85, "linewidth": 0})
    for row in shown:
        heights = [scales[name].height(row.values[name]) if name in row.values else np.nan for name in names]
        share = (row.accuracy - low) / (high - low or 1)
        axis.plot(range(len(names)), heights, color=colormaps["viridis"](share), alpha=0.35 + 0.6 * share, linewidth=1 + 1.6 * share, marker="o", markersize=3)
    axis.set_xticks(range(len(names)), names, rotation=18, ha="right", fontsize=8)
    axis.set_yticks([])
    axis.set_title(f"{'fine-tunings' if shown is not rows and len(tuned) > 2 else 'all trials'}: the brighter, the more accurate ({low:.3f} to {high:.3f})",
                   fontsize=10, loc="left")
    axis.grid(axis="x", alpha=0.4)


class _Scale:
    """Values of one hyperparameter as heights from 0 to 1, and what is written beside them."""

    def __init__(self, values: Sequence, *, is_log: bool):
        self._places, ticks = _places(values)
        at = np.array([self._places(value) for value in values], float)
        self._transform = np.log if is_log and not ticks else float
        at = np.array([self._transform(place) for place in at])
        self._least, self._span = at.min(), at.max() - at.min() or 1
        self.marks = [(tick, self.height(tick)) for tick in ticks] or [(_short(value), self.height(value)) for value in (min(values), max(values))]

    def height(self, value) -> float:
        return (self._transform(self._places(value)) - self._least) / self._span


def _places(values: Sequence) -> tuple:
    """(value → place on an axis, names of the places if they are no numbers)."""
    if values and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return float, []
    units = lambda text: [int(part) for part in text.split(",")] if text[0].isdigit() else []
    ticks = sorted({str(value) for value in values}, key=lambda text: (text != "none", units(text), text))
    return lambda value: ticks.index(str(value)), ticks


def _label_x(axis, name: str, ticks: Sequence[str], values: Sequence, *, is_log: bool) -> None:
    axis.set_title(name, fontsize=9, loc="left")
    axis.tick_params(labelsize=7)
    if ticks:
        axis.set_xticks(range(len(ticks)), ticks)
        axis.set_xlim(-0.5, len(ticks) - 0.5)
    elif all(isinstance(value, int) for value in values):
        axis.xaxis.get_major_locator().set_params(integer=True)
    elif not is_log:
        axis.locator_params(axis="x", nbins=5)
    else:
        from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

        axis.set_xscale("log")
        axis.xaxis.set_major_locator(FixedLocator(np.geomspace(min(values), max(values), 4).tolist()))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
        axis.xaxis.set_minor_locator(NullLocator())


def _short(value) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)
