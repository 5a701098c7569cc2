"""`Audit`: what was found in a data set, and `judge`: what that means for a training, in sentences."""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field

import numpy as np

from tfcnn.data.arrange import group_reads, sort_out, split_reads
from tfcnn.data.dataset import Quarantined
from tfcnn.data.read import Read
from tfcnn.data.sources import below, sort_labels
from tfcnn.data.split import SPLITS
from tfcnn.errors import InputError
from tfcnn.kinds import IMAGE, KINDS, in_words
from tfcnn.tables import html_list, html_table

SMALLEST_CLASS = 3  # different photos: one for each split
IMBALANCE = 5.0  # largest class over smallest, from which the small one is easily overlooked
PLANNED_ACCURACY = 0.8  # at which the interval of the test split is computed; it is widest at 0.5, by a quarter
Z95 = 1.959964  # two-sided 95 % of the normal distribution
WORTH_A_LOOK = {"constant": "that never change", "silent": "in which nothing is to be heard", "isolated_nodes": "with nodes without an edge",
                "disconnected": "that fall into parts without an edge between them", "without_edges": "without an edge in the graph",
                "wrong_extension": "whose name says another format than their content", "extreme_size": "of extreme size", "blank": "of one colour"}


@dataclass(frozen=True)
class Same:
    """Files that belong together.

    Attributes:
        kind: "exact" (equal content), "near" (the same photo in another encoding, size or orientation) or "group" (the same
            value of `group_by`; one file for each split).
        turned: whether one is mirrored or turned against the other.
        paths: the files.
        labels: the label of each.
        splits: the split that the source gave each, or "".
    """

    kind: str
    turned: bool
    paths: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...]


@dataclass(frozen=True)
class Audit:
    """What `audit` found.

    Attributes:
        source: what was looked at; empty for what lay in memory.
        n: number of examples.
        counts: readable photos of each label.
        split_counts: photos of each split that the source came with.
        quarantined: what training will leave out, and why.
        duplicates: the same photo more than once under one label.
        contradictions: the same photo under several labels.
        leaks: the same photo or group in several of the splits that the source came with.
        notes: paths by what is unusual about them: the names of `tfcnn.data.photo.NOTES`, "blank".
        test: n of the test split, `half_width` of the 95 % interval of its accuracy, the `difference` that was asked for, and
            the n that it needs.
        problems: one sentence for each thing that would spoil training.
        warnings: one sentence for each thing to look at.
        files: one dict an example: path, label, split, sha256, bytes, format, width, height, notes, reason.
        kind: of the data, a name of `tfcnn.kinds.KINDS`.
    """

    source: str
    n: int
    counts: dict[str, int]
    split_counts: dict[str, int]
    quarantined: tuple[Quarantined, ...]
    duplicates: tuple[Same, ...]
    contradictions: tuple[Same, ...]
    leaks: tuple[Same, ...]
    notes: dict[str, tuple[str, ...]]
    test: dict[str, float]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    files: tuple[dict, ...] = field(repr=False)
    kind: str = IMAGE

    def to_dict(self) -> dict:
        """Plain dicts, lists and numbers, as stored in audit.json."""
        return json.loads(json.dumps({**asdict(self), "quarantined": [q._asdict() for q in self.quarantined]}))

    def _repr_html_(self) -> str:
        from tfcnn.data.audit_page import pictures_html

        table = html_table(("label", "photos"), self.counts.items(), f"{self.n} files, {sum(self.counts.values())} readable photos")
        found = [f"PROBLEM: {text}" for text in self.problems] + [f"warning: {text}" for text in self.warnings]
        return table + html_list(found or ["nothing to object to"]) + pictures_html([*self.contradictions, *self.leaks, *self.duplicates])

    def __str__(self) -> str:
        usable = sum(self.counts.values())
        what = "files" if self.kind == IMAGE else KINDS[self.kind].many
        good = "readable photos" if self.kind == IMAGE else "usable"
        lines = [f"{self.n} {what}, {usable} {good} in {len(self.counts)} classes: " + ", ".join(f"{k} {v}" for k, v in self.counts.items())]
        lines += [f"PROBLEM  {text}" for text in self.problems] + [f"warning  {text}" for text in self.warnings]
        notes = [f"{len(paths)} {name.replace('_', ' ')}" for name, paths in self.notes.items() if name not in WORTH_A_LOOK]
        lines += [f"fine     {', '.join(notes)}: read as they should be"] if notes else []
        return "\n".join(lines if self.problems or self.warnings else [*lines, "nothing to object to"])


def _divided_groups(reads: list[Read]) -> list[Same]:
    """For each group, one file in each split."""
    members: dict[str, dict[str, Read]] = {}
    for read in reads:
        if read.digest and read.example.group:
            members.setdefault(read.example.group, {}).setdefault(read.example.split, read)
    return [same_of("group", False, list(splits.values())) for splits in members.values()]


def judge(source: str, reads: list[Read], same: list[Same], notes: dict[str, tuple[str, ...]], split, difference: float, kind: str = IMAGE) -> Audit:
    """What was found in the examples of a source, and what it means.

    Args:
        source: its name.
        reads: all examples.
        same: those that belong together.
        notes: paths by what is unusual about them.
        split: fractions that will be asked for.
        difference: of accuracies that the test split should show.
        kind: of the data.
    """
    counts = Counter(read.example.label for read in reads if read.digest)
    labels = sort_labels({read.example.label for read in reads})
    given = Counter(read.example.split for read in reads if read.digest and read.example.split)
    duplicates = tuple(s for s in same if len(set(s.labels)) == 1)
    contradictions = tuple(s for s in same if len(set(s.labels)) > 1)
    leaks = tuple(s for s in [*same, *_divided_groups(reads)] if len(set(s.splits)) > 1)
    good, quarantined = sort_out(reads, kind)
    said = lambda sentences: tuple(in_words(sentence, kind) for sentence in sentences)
    test = _test_size(given, counts, split, difference)
    return Audit(
        source=source, n=len(reads), counts={label: counts[label] for label in labels}, split_counts={s: given[s] for s in SPLITS if given[s]},
        quarantined=quarantined, duplicates=duplicates, contradictions=contradictions, leaks=leaks, notes=notes, test=test,
        problems=said(_problems(source, labels, _different(reads, labels), _why_not_split(good, same, split), contradictions, leaks, given)),
        warnings=said(_warnings(source, labels, counts, given, quarantined, duplicates, contradictions, notes, test, kind)),
        files=tuple(_file(read) for read in reads), kind=kind)


def _different(reads: list[Read], labels) -> dict[str, int]:
    """Different photos of each label."""
    digests: dict[str, set[str]] = {label: set() for label in labels}
    for read in reads:
        if read.digest:
            digests[read.example.label].add(read.digest)
    return {label: len(found) for label, found in digests.items()}


def _why_not_split(good: list[Read], same: list[Same], split) -> str:
    """What a training would say to these photos; "" where they can be split."""
    row_of = {read.example.path: row for row, read in enumerate(good)}
    rows = [[row_of[path] for path in s.paths if path in row_of] for s in same]
    try:
        split_reads(good, group_reads(good, [(some[0], other) for some in rows for other in some[1:]]), split=split)
    except InputError as error:
        return str(error)
    return ""


def same_of(kind: str, turned: bool, reads: list[Read]) -> Same:
    """These examples as those that belong together."""
    examples = [read.example for read in reads]
    return Same(kind, turned, tuple(e.path for e in examples), tuple(e.label for e in examples), tuple(e.split for e in examples))


def _test_size(given: Counter, counts: Counter, split, difference: float) -> dict[str, float]:
    """Whether the test split can show a difference of accuracies: the normal interval of a binomial proportion."""
    n = given["test"] or round(split[2] * sum(counts.values()))
    variance = PLANNED_ACCURACY * (1 - PLANNED_ACCURACY)
    return {"n": n, "half_width": round(Z95 * (variance / max(n, 1)) ** 0.5, 4), "difference": difference,
            "n_needed": int(np.ceil(Z95**2 * variance / difference**2))}


def _problems(source: str, labels, different: dict[str, int], unsplit: str, contradictions, leaks, given: Counter):
    if len(labels) < 2:
        yield f"only {len(labels)} class; at least two are needed"
    too_small = {label: count for label, count in different.items() if count < SMALLEST_CLASS and not given}
    if too_small:
        yield f"classes too small to split ({SMALLEST_CLASS} different photos are needed): " + ", ".join(f"{k} {v}" for k, v in too_small.items())
    elif unsplit and len(labels) > 1:
        yield f"the data cannot be split: {unsplit}"
    straight = [s for s in contradictions if not s.turned]
    if straight:
        yield f"{_number(straight, 'photo')} under several labels, for instance {_example(source, straight[0])}"
    photos, groups = [s for s in leaks if s.kind != "group"], [s for s in leaks if s.kind == "group"]
    for what, found in (("photo", photos), ("group", groups)):
        if found:
            yield f"{_number(found, what)} in several splits, so that the test is too good, for instance {_example(source, found[0])}"


def _number(found, what: str) -> str:
    return f"{len(found)} {what}{'' if len(found) == 1 else 's'}"


def _example(source: str, same: Same) -> str:
    rows = zip(same.paths, same.labels, same.splits, strict=True)
    places = [f"{below(source, path)} ({label}{', ' + split if split else ''})" for path, label, split in rows]
    return " and ".join(dict.fromkeys(places[:1] + places[-1:]))


def _warnings(source: str, labels, counts, given: Counter, quarantined, duplicates, contradictions, notes, test, kind: str):
    if quarantined:
        kinds = Counter(q.reason.split(":")[0] for q in quarantined)
        yield f"{_number(quarantined, 'file' if kind == IMAGE else 'photo')} will be left out: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    turned = [s for s in contradictions if s.turned]
    if turned:
        yield (f"{_number(turned, 'photo')} turned or mirrored under another label, for instance {_example(source, turned[0])}; "
               "right only where the label means the direction")
    for kind, group, of in (("exact", "group", "equal files"), ("near", "pair", "near copies")):
        found = [s for s in duplicates if s.kind == kind]
        if found:
            yield (f"{_number(found, group)} of {of} under the same label, for instance {_example(source, found[0])}; "
                   "they count more than once" + ("" if given else ", and are kept in one split"))
    for name in (name for name in WORTH_A_LOOK if name in notes):
        yield f"{_number(notes[name], 'photo')} {WORTH_A_LOOK[name]}, for instance {below(source, notes[name][0])}"
    alike = Counter(label.casefold().strip() for label in labels)
    if max(alike.values(), default=0) > 1:
        yield "labels that differ in upper and lower case only: " + ", ".join(label for label in labels if alike[label.casefold().strip()] > 1)
    present = [counts[label] for label in labels if counts[label]]
    if present and max(present) >= IMBALANCE * min(present):
        yield f"the largest class has {max(present) / min(present):.1f} times as many photos as the smallest; see --balance"
    if test["half_width"] > test["difference"]:
        yield (f"{test['n']} test photos tell an accuracy of {PLANNED_ACCURACY:g} within ±{100 * test['half_width']:.1f} points; "
               f"to see {100 * test['difference']:g} points, {test['n_needed']} are needed")


def _file(read: Read) -> dict:
    facts = read.facts
    return {"path": read.example.path, "label": read.example.label, "split": read.example.split, "sha256": read.digest, "bytes": read.bytes,
            "format": facts.format if facts else "", "width": facts.width if facts else 0, "height": facts.height if facts else 0,
            "notes": list(facts.notes) if facts else [], "reason": read.reason}
