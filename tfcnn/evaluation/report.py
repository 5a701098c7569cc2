"""`write_report`: a run as one self-contained page, `report.html`, and as a model card, `card.md`."""

import base64
import re
import shlex
from collections import Counter
from pathlib import Path

from tfcnn.data.channels import colours_of
from tfcnn.data.dataset import items_of
from tfcnn.data.photo import GEOMETRIES
from tfcnn.data.split import SPLITS
from tfcnn.errors import InputError
from tfcnn.evaluation.display import exports_table, stylesheet, template
from tfcnn.evaluation.evaluate import Report
from tfcnn.evaluation.examples import NOTHING, read_examples
from tfcnn.evaluation.figures import curves_svg, reliability_svg
from tfcnn.evaluation.words import verdict_of
from tfcnn.files import write_text
from tfcnn.kinds import IMAGE, KINDS, in_words, takes_of
from tfcnn.models.backbones import BACKBONES, has_class_token
from tfcnn.record import Run, damaged, load_run, read_history


def write_report(run: Run | str | Path) -> Path:
    """Writes `report.html` and `card.md` into the folder of an evaluated run; returns the path of the page."""
    run = run if isinstance(run, Run) else load_run(run)
    if "test" not in run.record and run.record["status"] != "finished":
        raise InputError(f"expected an evaluated run, but that in '{run.path}' has no test yet; tfcnn.train_and_export and 'tfcnn train' evaluate it")
    page = _rendered(run, "report.html", **_pictures(run))
    card = _rendered(run, "card.md")
    write_text(run.path / "report.html", page)
    write_text(run.path / "card.md", card)
    return run.path / "report.html"


def check_report(run: Run) -> None:
    """Raises InputError for an evaluated run whose record lacks what page or card say of it."""
    without_exports = Run(run.path, {**run.record, "exports": []})
    _rendered(without_exports, "report.html", curves="", augmentation="", examples=NOTHING, counts={})
    _rendered(without_exports, "card.md")


def card_of(run: Run, exports: list[dict]) -> str:
    """The card of an evaluated run with these of its exports alone, for a bundle has no others."""
    return _rendered(Run(run.path, {**run.record, "exports": exports}), "card.md")


def _rendered(run: Run, file: str, **more) -> str:
    """The template `file` with what the record says; the page has pictures besides."""
    import jinja2

    record = {"exports": [], "validation": None, **run.record}
    channels, kind = record["input_shape"][-1], run.kind
    record["kept_because"] = in_words(record.get("kept_because") or "", kind)
    try:
        report, backbone = Report(**record["test"]), BACKBONES.get(record["model"]["backbone"])
        of_photos = {"geometry": GEOMETRIES[record["geometry"]].text, "channels": channels, "colours": colours_of(channels)} if kind == IMAGE else {
            "takes": takes_of(kind, record["data"]["facts"])}
        values = {"run": record, "name": run.path.resolve().name, "backbone": backbone, "report": report,
                  "verdict": [in_words(sentence, kind) for sentence in verdict_of(report, record)], **of_photos}
        if more:
            counts = more["counts"]
            values |= {"css": stylesheet(), "exports": exports_table(record["exports"], kind),
                       "reliability": reliability_svg(report.calibration) if report.calibration else "",
                       "cells": {(cell["target"], cell["answer"]) for cell in more["examples"]["cells"]}, "how_heat": _how_heat(kind, backbone),
                       "most": max([1, *(sum(of.values()) for of in counts.values())]), "quoted": shlex.quote(values["name"])}
        return template(file, kind).render(values | more)
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, jinja2.UndefinedError) as error:
        lacks = re.search(r"has no attribute '(\w+)'", str(error))
        raise InputError(damaged(run.path / "run.json", f"'{lacks[1]}' is missing" if lacks else error)) from error


def _pictures(run: Run) -> dict:
    """What the page shows besides the record, from the other files of the run."""
    head = (run.record.get("validation_of_head") or {}).get("accuracy")
    augmented = run.record["training"].get("augmentation") != "none"
    return {"curves": _curves(run.path / "history.csv", head, augmented), "augmentation": _embedded(run.path / "augmentation.jpg"),
            "examples": read_examples(run), "counts": _counts(run)}


def _curves(file: Path, head: float | None, augmented: bool) -> str:
    try:
        return curves_svg(read_history(file), head, augmented=augmented)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"expected the history of a run in '{file}', but it is damaged ({error!r:.80}); remove it to have the page without curves") from error


def _counts(run: Run) -> dict[str, dict[str, int]]:
    """Photos by label and split; empty for a run without its list of photos."""
    items = items_of(run)
    if not items:
        return {}
    found = Counter((item.label, item.split) for item in items)
    return {label: {split: found[label, split] for split in SPLITS} for label in run.record["data"]["counts"]}


def _how_heat(kind: str, backbone) -> str:
    if kind != IMAGE:
        return KINDS[kind].heat_text
    if backbone is not None and has_class_token(backbone):
        return "On the right what the answer rests on: attention rollout (Abnar and Zuidema 2020), the same for every label."
    return "On the right what the answer rests on: Grad-CAM (Selvaraju et al. 2017), bright where the photo speaks for it."


def _embedded(picture: Path) -> str:
    """A JPEG as text for an img tag; empty where there is none."""
    return base64.b64encode(picture.read_bytes()).decode() if picture.exists() else ""
