"""Figures of the report as SVG texts, in colours that follow the light or dark theme of the page."""

import io
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# Stand-ins that matplotlib writes, and the CSS variable of the page that takes their place.
INK, SOFT, ACCENT, SECOND, THIRD = "#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f"
VARIABLES = {INK: "var(--ink)", SOFT: "var(--soft)", ACCENT: "var(--accent)", SECOND: "var(--second)", THIRD: "var(--third)"}
HEAD = "head"
STYLE: Any = {"text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": SOFT, "xtick.color": SOFT, "ytick.color": SOFT, "axes.titlesize": 10,
         "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False, "font.size": 9,
         "legend.frameon": False, "legend.fontsize": 8, "legend.labelcolor": INK,
         "svg.fonttype": "none", "svg.hashsalt": "tfcnn", "font.family": "sans-serif"}


def curves_svg(history: Sequence[Mapping[str, float]], head_accuracy: float | None, *, augmented: bool = True) -> str:
    """Loss, accuracy and the learning rates of each epoch of a fine-tuning, with a line where more stages open; empty without one.

    Args:
        history: rows of history.csv.
        head_accuracy: on the validation photos before the fine-tuning, phase 1; None without one.
        augmented: whether training photos were.
    """
    if not history:
        return ""
    label = "loss, accuracy and learning rates by epoch of the fine-tuning"
    return _drawn((9.6, 2.8), 3, lambda axes: _draw_curves(axes, history, head_accuracy, augmented), label)


def reliability_svg(calibration: Mapping[str, Any]) -> str:
    """Of photos whose answers score alike, how many are right: for scores as they are and, where there are, calibrated ones.

    Args:
        calibration: of a `Report`.
    """
    kinds = {"as_is": "scores as they are", "calibrated": f"with temperature {calibration['temperature'] or 1:.2f}"}
    told = [(text, calibration[name]) for name, text in kinds.items() if calibration[name]]
    label = "share of right answers against their score, with 95 % intervals"
    return _drawn((3.5 * len(told), 3.2), len(told), lambda axes: _draw_reliability(axes, told), label)


def _draw_curves(axes, history: Sequence[Mapping[str, float]], head_accuracy: float | None, augmented: bool) -> None:
    loss, accuracy, rates = axes
    epochs = [row["epoch"] for row in history]
    for axis, name in ((loss, "loss"), (accuracy, "accuracy")):
        axis.plot(epochs, [row[name] for row in history], marker=".", label="training, augmented" if augmented else "training", color=SOFT)
        axis.plot(epochs, [row[f"val_{name}"] for row in history], marker=".", label="validation", color=ACCENT)
        axis.set_title(name)
    if head_accuracy is not None:
        accuracy.axhline(head_accuracy, linestyle=":", color=SECOND, label="validation, head alone")
    stages = [name.removeprefix("rate_") for name in history[0] if name.startswith("rate_")]
    for number, stage in enumerate(stages):
        colour, depth = (THIRD, 1) if stage == HEAD else (ACCENT, (number + 1) / len(stages))
        rates.plot(epochs, [row[f"rate_{stage}"] or None for row in history], marker=".", label=stage, color=colour, alpha=depth)
    rates.set_title("learning rates by stage")
    if any(row[f"rate_{stage}"] for row in history for stage in stages):
        rates.set_yscale("log")
    opened = [row["epoch"] for before, row in itertools.pairwise(history) if any(row[f"rate_{stage}"] and not before[f"rate_{stage}"] for stage in stages)]
    for axis in axes:
        axis.set_xlabel("epoch" if head_accuracy is None else "epoch of phase 2")
        axis.xaxis.get_major_locator().set_params(integer=True)
        for epoch in opened:
            axis.axvline(epoch - 0.5, color=SOFT, linewidth=0.8, linestyle="--")
        axis.legend()


def _draw_reliability(axes, told: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    for axis, (text, calibration) in zip(axes, told, strict=True):
        bins = calibration["bins"]
        axis.plot([0, 1], [0, 1], color=SOFT, linestyle=":", linewidth=1)
        scores, right = [row["score"] for row in bins], [row["right"] for row in bins]
        lengths = [[max(0, row["right"] - row["interval"][0]) for row in bins], [max(0, row["interval"][1] - row["right"]) for row in bins]]  # rounding
        axis.errorbar(scores, right, yerr=lengths, fmt="none", ecolor=ACCENT, alpha=0.45)
        most = max(row["n"] for row in bins)
        axis.scatter(scores, right, s=[12 + 90 * row["n"] / most for row in bins], color=ACCENT, zorder=3, clip_on=False)
        axis.set(xlim=(0, 1.03), ylim=(-0.03, 1.03), xlabel="score of the answer", title=f"{text}: error {calibration['error']:.3f}", aspect="equal")
    axes[0].set_ylabel("share that is right")


def _drawn(size: tuple[float, float], columns: int, draw: Callable, label: str) -> str:
    """An SVG of panels in a row."""
    import matplotlib
    from matplotlib.figure import Figure

    file = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        axes = list(figure.subplots(1, columns, squeeze=False)[0])
        draw(axes)
        for part in (figure, *axes):
            part.patch.set_alpha(0)
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg"):].replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, variable)
    return text
