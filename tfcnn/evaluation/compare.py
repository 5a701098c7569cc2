"""`compare`: two runs on the same photos, where they differ, and whether that is more than chance."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tfcnn.data.dataset import Dataset, splits_by_content
from tfcnn.data.run_data import load_for_run, load_run_data
from tfcnn.data.scores import Scores, read_scores
from tfcnn.errors import InputError
from tfcnn.evaluation.evaluate import Report, make_report, score
from tfcnn.evaluation.intervals import Z95, Interval
from tfcnn.evaluation.paired import mcnemar, paired_interval
from tfcnn.files import check_file, write_rows
from tfcnn.record import Run, load_run

LEVEL = 0.05  # of the test, the usual one
LISTED = 12  # photos in the text


@dataclass(frozen=True)
class Comparison:
    """Two runs, photo by photo.

    Attributes:
        runs: their folders.
        n: photos that both were tested on and neither was trained on.
        left_out: other photos of the comparison: that one of them has not in its test split, or was trained on, or has under another label.
        reports: of each on these photos.
        difference: accuracy of the second minus that of the first; `interval`: within which the true one lies, 95 % (Tango 1998).
        only_first, only_second: photos that one alone got right.
        p_value: of McNemar's exact test that both are equally accurate.
        photos: those with different answers, a dict each: path, label, the answer and score of each.
    """

    runs: tuple[str, str]
    n: int
    left_out: int
    reports: tuple[Report, Report] = field(repr=False)
    difference: float
    interval: Interval
    only_first: int
    only_second: int
    p_value: float
    photos: tuple[dict[str, Any], ...] = field(repr=False)

    @property
    def verdict(self) -> str:
        """In words."""
        low, high = (f"{100 * end:+.1f}" for end in self.interval)
        counts = f"{self.only_second} {self.reports[0].many} that only the second got right, {self.only_first} that only the first did"
        told = f"{counts} (McNemar's exact test, p = {self.p_value:.2g}); the second is {low} to {high} points better (95 % interval)"
        if self.p_value < LEVEL:
            better = "second" if self.difference > 0 else "first"
            return f"the {better} is better: {told}"
        return f"no difference can be told from chance: {told}"

    def to_dict(self) -> dict:
        """Plain dicts, lists and numbers."""
        return {**asdict(self), "verdict": self.verdict}

    def __str__(self) -> str:
        many = self.reports[0].many
        left_out = f"; {self.left_out} others were left out: not test {many} of both, trained on by one, or under another label" if self.left_out else ""
        lines = [f"first:  {self.runs[0]}", f"second: {self.runs[1]}", f"{self.n} {many} that neither was trained on{left_out}", ""]
        lines.append(f"{'':<30}{'first':>9}{'second':>9}{'':>4}{'difference':>10}")
        second = {text: value for text, value, _ in self.reports[1].numbers()}
        lines += [f"{text:<30}{value:>9.3f}{second[text]:>9.3f}{'':>4}{second[text] - value:>+10.3f}"
                  for text, value, _ in self.reports[0].numbers() if text in second]
        rows = zip(self.reports[0].per_label, self.reports[1].per_label, strict=True)
        lines += [f"{'recall of ' + one['label']:<30}{one['recall']:>9.3f}{other['recall']:>9.3f}{'':>4}{other['recall'] - one['recall']:>+10.3f}"
                  for one, other in rows if one["n"]]
        lines += ["", self.verdict, "", f"{len(self.photos)} {many} have different answers:"]
        lines += [f"  {row['path']}: {row['label']}; {_answer(row, 'first')} and {_answer(row, 'second')}" for row in self.photos[:LISTED]]
        return "\n".join([*lines, *([f"  ... and {len(self.photos) - LISTED} more; --output FILE.csv lists all"] if len(self.photos) > LISTED else [])])


def _answer(row: dict, which: str) -> str:
    return f"{row[which]} ({row[f'{which}_score']:.2f}{', right' if row[which] == row['label'] else ''})"


def compare(first: Run | str | Path, second: Run | str | Path, source: Any = None, *, data_dir: str | Path | None = None,
            output: str | Path | None = None) -> Comparison:
    """Two runs on the same photos: numbers side by side, McNemar's test, and the photos that they answer differently.

    Args:
        first, second: runs or their folders, with the same labels.
        source: photos to compare them on, all of them, or a `Dataset`, of which the test split is taken; those that are test photos of both if None.
        data_dir: where tensorflow-datasets keeps its data.
        output: a .csv that lists the photos with different answers.

    Raises:
        InputError: runs with other labels, no photos that both can be tested on, or a run that is damaged.
        WorkError: scores that are no numbers.

    Source: McNemar 1947, Psychometrika 12, p. 153; Tango 1998, Statistics in Medicine 17, p. 891.
    """
    runs = [run if isinstance(run, Run) else load_run(run) for run in (first, second)]
    if set(runs[0].labels) != set(runs[1].labels):
        only = [sorted(set(one.labels) - set(other.labels)) for one, other in (runs, runs[::-1])]
        raise InputError(f"expected two runs with the same labels, but only the first has {', '.join(only[0]) or 'none more'}, "
                         f"only the second {', '.join(only[1]) or 'none more'}")
    if output is not None:
        check_file(output, (".csv",), "the photos with different answers")
    scored = [_scored(run, source, data_dir) for run in runs]
    places = _same_photos(runs, scored)
    found = _compared(runs, [_chosen(one, some) for one, some in zip(scored, places, strict=True)], len({*scored[0].digests, *scored[1].digests}))
    if output is not None:
        write_rows(Path(output), ("path", "label", "first", "first_score", "second", "second_score"), (tuple(row.values()) for row in found.photos))
    return found


def _scored(run: Run, source: Any, data_dir) -> Scores:
    if isinstance(source, Dataset):
        return score(run, source, "test")
    if source is not None:
        return score(run, load_for_run(run, source, data_dir=data_dir), "test")
    return read_scores(run, "test") or score(run, load_run_data(run, "test"), "test")


def _same_photos(runs: Sequence[Run], scored: Sequence[Scores]) -> list[np.ndarray]:
    """The places of the photos that both have, in one order, without those that one of them was trained on."""
    seen = {digest for run in runs for digest, split in splits_by_content(run).items() if split != "test"}
    places = [{digest: place for place, digest in enumerate(one.digests.tolist())} for one in scored]
    label_of = lambda which, digest: runs[which].labels[scored[which].targets[places[which][digest]]]
    common = [digest for digest in places[0] if digest in places[1] and digest not in seen and label_of(0, digest) == label_of(1, digest)]
    if not common:
        raise InputError(f"expected test photos of both '{runs[0].path}' and '{runs[1].path}', found none that neither was trained on; "
                         "give a source of other photos, or train one with --like the other")
    return [np.array([of[digest] for digest in common]) for of in places]


def _chosen(scored: Scores, places: np.ndarray) -> Scores:
    return Scores(*(values[places] for values in scored))


def _compared(runs: Sequence[Run], scored: Sequence[Scores], photos: int) -> Comparison:
    labels = runs[0].labels
    order = [runs[1].labels.index(label) for label in labels]
    scores, targets = [scored[0].scores, scored[1].scores[:, order]], scored[0].targets
    answers = [one.argmax(axis=1) for one in scores]
    right = [one == targets for one in answers]
    only_first, only_second, n = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum()), len(targets)
    low, high = paired_interval(only_second, only_first, n, Z95)
    rows = tuple({"path": str(scored[0].paths[place]), "label": labels[targets[place]], "first": labels[answers[0][place]],
                  "first_score": float(scores[0][place].max()), "second": labels[answers[1][place]], "second_score": float(scores[1][place].max())}
                 for place in np.flatnonzero(answers[0] != answers[1]))
    report = lambda one, run: make_report(one, targets, labels, "test", temperature=run.record.get("temperature"), kind=run.kind)
    reports = report(scores[0], runs[0]), report(scores[1], runs[1])
    return Comparison((str(runs[0].path), str(runs[1].path)), n, photos - n, reports, (only_second - only_first) / n, (low, high), only_first, only_second,
                      mcnemar(only_first, only_second), rows)
