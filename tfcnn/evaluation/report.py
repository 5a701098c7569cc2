"""`write_report`: a run as one self-contained page, `report.html`, and as a model card, `card.md`."""

import base64
import io
import re
from pathlib import Path

from tfcnn.data.channels import colours_of
from tfcnn.data.photo import GEOMETRIES
from tfcnn.errors import InputError
from tfcnn.models.backbones import BACKBONES
from tfcnn.record import Run, damaged, load_run, read_history, write_text

SHOWN_LAYERS = 5  # of those left in float


def write_report(run: Run | str | Path) -> Path:
    """Writes `report.html` and `card.md` into the folder of an evaluated run; returns the path of the page."""
    run = run if isinstance(run, Run) else load_run(run)
    page = _rendered(run, "report.html", curves=_curves(read_history(run.path / "history.csv")), augmentation=_embedded(run.path / "augmentation.jpg"))
    card = _rendered(run, "card.md")
    write_text(run.path / "report.html", page)
    write_text(run.path / "card.md", card)
    return run.path / "report.html"


def check_report(run: Run) -> None:
    """Raises InputError for an evaluated run whose record lacks what page or card say of it."""
    without_exports = Run(run.path, {**run.record, "exports": []})
    _rendered(without_exports, "report.html", curves="", augmentation="")
    _rendered(without_exports, "card.md")


def card_of(run: Run, exports: list[dict]) -> str:
    """The card of an evaluated run with these of its exports alone, for a bundle has no others."""
    return _rendered(Run(run.path, {**run.record, "exports": exports}), "card.md")


def _rendered(run: Run, file: str, **pictures: str) -> str:
    """The template `file` with what the record says; the page has pictures besides."""
    import jinja2

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=jinja2.select_autoescape(),
                                     trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"last_name": last_name, "remarks": remarks, "checked_on": checked_on}
    record = {"exports": [], "validation": None, **run.record}
    channels = record["input_shape"][-1]
    try:
        values = {"run": record, "name": run.path.resolve().name, "backbone": BACKBONES.get(record["model"]["backbone"]),
                  "geometry": GEOMETRIES[record["geometry"]].text, "channels": channels, "colours": colours_of(channels)}
        return environment.get_template(file).render(values | pictures)
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, jinja2.UndefinedError) as error:
        lacks = re.search(r"has no attribute '(\w+)'", str(error))
        raise InputError(damaged(run.path / "run.json", f"'{lacks[1]}' is missing" if lacks else error)) from error


def last_name(source: str) -> str:
    """The last part of a path: a card goes to others, and where the files lie is not their business. Names of other kinds stay."""
    return source if ":" in source else Path(source).name or source


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


def _embedded(picture: Path) -> str:
    """A JPEG as text for an img tag; empty where there is none."""
    return base64.b64encode(picture.read_bytes()).decode() if picture.exists() else ""


def _curves(history: list[dict]) -> str:
    """Loss and accuracy by epoch as an SVG; empty without fine-tuning."""
    if not history:
        return ""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.8), layout="constrained")
    epochs = [row["epoch"] for row in history]
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        axes.plot(epochs, [row[name] for row in history], marker=".", label="training (augmented)", color="#888888")
        axes.plot(epochs, [row[f"val_{name}"] for row in history], marker=".", label="validation", color="#0b66c3")
        axes.set(xlabel="epoch", title=name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="best" if name == "accuracy" else "upper right")
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    svg = file.getvalue()
    return svg[svg.index("<svg"):].replace("<svg ", '<svg role="img" aria-label="loss and accuracy by epoch" ', 1)
