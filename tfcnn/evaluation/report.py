"""`write_report`: a run as one self-contained page, `report.html`, and as a model card, `card.md`."""

import base64
import io
from pathlib import Path

from tfcnn.data.channels import colours_of
from tfcnn.data.photo import GEOMETRIES
from tfcnn.models.backbones import BACKBONES
from tfcnn.record import Run, load_run, read_history, write_text


def write_report(run: Run | str | Path) -> Path:
    """Writes `report.html` and `card.md` into the folder of an evaluated run; returns the path of the page."""
    import jinja2

    run = run if isinstance(run, Run) else load_run(run)
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=jinja2.select_autoescape(),
                                     trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["last_name"] = last_name
    record = {"exports": [], "validation": None, **run.record}
    channels = record["input_shape"][-1]
    values = {"run": record, "name": run.path.name, "backbone": BACKBONES.get(record["model"]["backbone"]),
              "curves": _curves(read_history(run.path / "history.csv")), "augmentation": _embedded(run.path / "augmentation.jpg"),
              "geometry": GEOMETRIES[record["geometry"]].text, "channels": channels,
              "colours": colours_of(channels)}
    for file in ("report.html", "card.md"):
        write_text(run.path / file, environment.get_template(file).render(values))
    return run.path / "report.html"


def last_name(source: str) -> str:
    """The last part of a path: a card goes to others, and where the files lie is not their business. Names of other kinds stay."""
    return source if ":" in source else Path(source).name or source


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
        axes.legend(frameon=False)
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    svg = file.getvalue()
    return svg[svg.index("<svg"):].replace("<svg ", '<svg role="img" aria-label="loss and accuracy by epoch" ', 1)
