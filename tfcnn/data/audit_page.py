"""The files of an audit: `audit.json`, and `audit.html`, a page that shows what was found."""

import html
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tfcnn.data.findings import Audit, Same
from tfcnn.data.photo import NOTES, jpeg_text
from tfcnn.data.read import Photos
from tfcnn.files import write_text
from tfcnn.kinds import KINDS

SIDE = 112  # of a picture on the page, in pixels
SHOWN = 24  # findings of one kind; the rest is counted, and named in audit.json
IN_A_NOTEBOOK = 4  # findings
OTHER_NOTES = {"blank": "nearly one colour", "constant": "never changes", "with_missing_values": "lacks values", "silent": "nothing to hear",
               "duplicate_edges": "an edge is listed more than once, and counts once", "self_loops": "an edge from a node to itself, which is left out",
               "isolated_nodes": "nodes without an edge", "disconnected": "falls into parts", "without_edges": "no edge in the graph"}
FROM_EACH_CLASS = 8  # pictures of the contact sheet


def write_audit(folder: Path, result: Audit, photos: Photos | None) -> Path:
    """Writes both files; returns the path of the page, which has no pictures without photos."""
    import jinja2

    reads = photos.reads if photos else []
    digest_of = {read.example.path: read.digest for read in reads if read.digest}
    one = KINDS[result.kind].one

    paths_of: dict[str, list[str]] = {label: [] for label in result.counts if photos}
    for read in reads:
        if read.digest:
            paths_of[read.example.label].append(read.example.path)

    def pictures(paths: Iterable[str]) -> list[dict]:
        if photos is None:
            return [{"path": path, "name": Path(path).name} for path in paths]
        paths = [path for path in paths if path in digest_of]
        rows: Iterable[np.ndarray] = photos.pixels.rows([digest_of[path] for path in paths])[:] if paths else []
        return [{"path": path, "name": Path(path).name, "data": _jpeg(row)} for path, row in zip(paths, rows, strict=True)]

    def findings(found: Iterable[Same]) -> list[dict]:
        return [{"same": same, "pictures": [{**picture, "label": label, "split": split} for picture, label, split in
                                            zip(pictures(same.paths[:6]), same.labels, same.splits, strict=False)]} for same in list(found)[:SHOWN]]

    values = {
        "audit": result, "largest": max(result.counts.values(), default=1) or 1, "shown": SHOWN,
        "kind": result.kind, "many": KINDS[result.kind].many, "groups": [
            ("contradictions", f"The same {one} under several labels", result.contradictions, findings(result.contradictions)),
            ("leaks", f"The same {one} or group in several splits", result.leaks, findings(result.leaks)),
            ("duplicates", f"The same {one} more than once under one label", result.duplicates, findings(result.duplicates))],
        "notes": [(name, {**NOTES, **OTHER_NOTES}[name], len(paths), pictures(paths[:SHOWN])) for name, paths in result.notes.items()],
        "sheet": [(label, pictures(_spread(paths))) for label, paths in paths_of.items()],
    }
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True,
                                     undefined=jinja2.StrictUndefined)
    write_text(folder / "audit.json", json.dumps(result.to_dict(), indent=1, ensure_ascii=False) + "\n")
    write_text(folder / "audit.html", environment.get_template("audit.html").render(values))
    return folder / "audit.html"


def pictures_html(found: Iterable[Same]) -> str:
    """The first few findings as rows of pictures, for a notebook; files that are gone are left out."""
    rows = []
    for same in list(found)[:IN_A_NOTEBOOK]:
        pictures = [_figure(path, f"{label} {split}".strip()) for path, label, split in zip(same.paths[:6], same.labels, same.splits, strict=False)]
        rows.append(f'<div style="display:flex;gap:8px;margin:6px 0">{"".join(pictures)}</div>')
    return "".join(rows)


def _figure(path: str, text: str) -> str:
    from PIL import Image

    try:
        with Image.open(path) as image:
            data = _jpeg(np.asarray(image.convert("RGB")))
    except (OSError, ValueError):
        return ""
    name, words = html.escape(Path(path).name), html.escape(text)
    return f'<figure style="margin:0"><img src="data:image/jpeg;base64,{data}" alt="{name}"><figcaption>{words}<br><small>{name}</small></figcaption></figure>'


def _spread(paths: list[str]) -> list[str]:
    """Some of the paths, evenly from the first to the last."""
    return [paths[place] for place in np.unique(np.linspace(0, len(paths) - 1, FROM_EACH_CLASS).astype(int))] if paths else []


def _jpeg(pixels: np.ndarray) -> str:
    from PIL import Image

    return jpeg_text(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BILINEAR), 80)
