"""What a run and its files are worth, in words, from the numbers of its record."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

from tfcnn.evaluation.evaluate import Report
from tfcnn.evaluation.intervals import wilson_interval

FEW = 200  # test photos, below which an accuracy of 0.8 is known within more than about 5 points
SHOWN_LAYERS = 5  # of those left in float
UNDECIDED = "undecided"  # verdict of a file that was not rejected on photos too few to tell
SURE = 0.03  # of the mean score from the accuracy, below which scores are said to mean what they say


def verdict_of(report: Report, record: dict) -> list[str]:
    """Sentences, the most important first: how good, against what, where it is weak, what scores mean, which file to ship."""
    return [*_accuracy(report, record["data"].get("leaks", 0)), *_weakest(report), *_validation(report, record), *_scores(report), *_files(record)]


def last_name(source: str) -> str:
    """The last part of a path: a card goes to others, and where the files lie is not their business. Names of other kinds stay."""
    return source if source.startswith("tfds:") or "://" in source else Path(source).name or source


def markdown_text(text: str) -> str:
    """A text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", text)


def checked_on(export: dict) -> str:
    """How many photos a file was run on, and which."""
    return "nothing" if export["verdict"] == "unchecked" else f"{export['n']} {export['photos']}"


def remarks(export: dict) -> str:
    """What is to be said of a file besides its numbers."""
    details = export["details"]
    said = [export["reason"]]
    if export["photos"] == "other":
        said.append(f"not of the test split: Keras has {export['keras_accuracy']:.3f} on these photos")
    if "trained_on" in details:
        said.append(f"{details['trained_on']} of them were trained on, which makes the accuracy too good")
    if "temperature" in details:
        said.append(f"scores calibrated, logits divided by {details['temperature']:.3f}")
    if "score_threshold" in details:
        said.append(f"MediaPipe leaves out labels that score below {details['score_threshold']}")
    if "float_layers" in details:
        said.append(layers_in_float(details))
    return "; ".join(filter(None, said))


def layers_in_float(details: dict) -> str:
    """Which layers of an 8-bit file compute in float, the first few of them."""
    layers = list(dict.fromkeys(details["float_layers"]))
    rest = f" and {len(layers) - SHOWN_LAYERS} more (run.json)" if len(layers) > SHOWN_LAYERS else ""
    return f"{len(details['float_layers'])} of {details['layers']} layers left in float: {', '.join(layers[:SHOWN_LAYERS])}{rest}"


def _accuracy(report: Report, leaks: int) -> list[str]:
    most = max(report.per_label, key=lambda row: row["n"])
    low, high = report.interval
    always = most["n"] / report.n
    photos = "test photos" if leaks else "photos it never saw"
    text = (f"It is right on {100 * report.accuracy:.1f} % of {report.n} {photos}; on others like them between {100 * low:.0f} and "
            f"{100 * high:.0f} % (95 % interval). Always answering '{most['label']}' would be right on {100 * always:.0f} %")
    least, largest = wilson_interval(most["n"], report.n)
    text += "." if low > largest else ": it is worse than that." if high < least else ", which these photos cannot tell from it."
    return [text] + ([f"{report.n} test photos are few: differences below about {100 * (high - low) / 2:.0f} points cannot be seen."] if report.n < FEW else [])


def _weakest(report: Report) -> list[str]:
    there = [row for row in report.per_label if row["n"]]
    sentences = []
    if len({row["recall"] for row in there}) > 1:
        low, high = (chosen(there, key=lambda row: row["recall"]) for chosen in (min, max))
        sentences.append(f"It finds '{low['label']}' worst ({100 * low['recall']:.0f} % of {low['n']} photos) and '{high['label']}' best "
                         f"({100 * high['recall']:.0f} % of {high['n']}).")
    mistakes = report.confusions()
    if mistakes:
        target, answer, count = mistakes[0]
        often = f"{count} {'time' if count == 1 else 'times'}"
        sentences.append(f"Its most frequent mistake: '{report.labels[target]}' taken for '{report.labels[answer]}', {often}.")
    return sentences


def _validation(report: Report, record: dict) -> list[str]:
    validation = record.get("validation")
    if not validation or report.split != "test":
        return []
    error = math.sqrt(sum(share * (1 - share) / n for share, n in ((report.accuracy, report.n), (validation["accuracy"], validation["n"]))))
    gap = validation["accuracy"] - report.accuracy
    if gap <= 2 * error:
        return []
    return [f"Its validation accuracy, {validation['accuracy']:.3f}, is {100 * gap:.0f} points above the test: more than chance explains. "
            "Were many configurations tried on the same validation photos, or do the splits differ?"]


def _scores(report: Report) -> list[str]:
    if not report.calibration:
        return []
    as_is, better = report.calibration["as_is"], report.calibration["calibrated"]
    mean = sum(row["n"] * row["score"] for row in as_is["bins"]) / report.n
    off = mean - report.accuracy
    said = "mean on average what they say, within what these photos can tell" if abs(off) < max(SURE, (report.interval[1] - report.interval[0]) / 2) else (
        f"say {100 * abs(off):.0f} points {'more' if off > 0 else 'less'} than they are worth on average")
    sentence = f"Its scores {said} (calibration error {as_is['error']:.3f}, log loss {as_is['log_loss']:.3f}"
    if better and better["log_loss"] < as_is["log_loss"]:
        sentence += (f"; {better['error']:.3f} and {better['log_loss']:.3f} with the temperature {report.calibration['temperature']:.2f}, which "
                     "'tfcnn export --calibrate-scores' builds in")
    return [f"{sentence})."]


def _files(record: dict) -> list[str]:
    exports: Sequence[dict] = record.get("exports", [])
    good = [row for row in exports if row["accepted"] and row["path"].endswith(".tflite")]
    if not exports:
        return ["No file was exported yet."]
    if not good:
        return ["No file for phones passed its check."]
    small = min(good, key=lambda row: row["bytes"])
    drop, photos = small["accuracy_drop"], "the test photos" if small["photos"] == "test" else "the photos that it was checked on"
    lost = "" if drop is None else f", {abs(100 * drop):.1f} points {'below' if drop >= 0 else 'above'} Keras on {photos}"
    passed = "that passed its check" if small.get("verdict") != UNDECIDED else "that was not rejected, though these photos are too few to be sure,"
    return [f"The smallest file for phones {passed} is {small['path']}, {small['bytes'] / 1e6:.1f} MB{lost}."]
