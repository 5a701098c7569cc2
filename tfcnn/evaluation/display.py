"""Pieces of HTML that pages and notebooks share."""

from pathlib import Path
from typing import Any

from tfcnn.evaluation.figures import reliability_svg
from tfcnn.evaluation.words import checked_on, last_name, markdown_text, remarks
from tfcnn.kinds import IMAGE, KINDS

HERE = Path(__file__).parent


def template(name: str, kind: str = IMAGE):
    """A template of this folder, which speaks of examples of a kind of data."""
    import jinja2

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), autoescape=jinja2.select_autoescape(), trim_blocks=True, lstrip_blocks=True,
                                     undefined=jinja2.StrictUndefined)
    environment.filters |= {"last_name": last_name, "remarks": remarks, "checked_on": checked_on, "plain": markdown_text}
    environment.globals |= {"kind": kind, "one": KINDS[kind].one, "many": KINDS[kind].many}
    return environment.get_template(name)


def report_html(report) -> str:
    """A `Report` as a notebook shows it: its numbers, labels and confusion matrix, and what its scores mean."""
    figure = reliability_svg(report.calibration) if report.calibration else ""
    return _cell("report_cell.html", report.kind, report=report, reliability=figure)


def exports_table(rows: list[dict[str, Any]], kind: str) -> str:
    """The table of exports, without the style of the page."""
    return str(template("parts.html", kind).module.exports(rows))


def stylesheet() -> str:
    """What the tables look like, on pages and in notebooks."""
    return (HERE / "page.css").read_text(encoding="utf-8")


def exports_html(rows: list[dict[str, Any]]) -> str:
    """Rows of exports as a notebook shows them."""
    return _cell("exports_cell.html", IMAGE, rows=rows)


def _cell(name: str, kind: str, **values) -> str:
    return template(name, kind).render(css=stylesheet(), **values)
