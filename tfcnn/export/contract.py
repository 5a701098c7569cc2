"""`Contract`: what an app has to do before it asks a model, and what it gets; the same in every file, in the card and in the check."""

import json
from dataclasses import dataclass

from tfcnn.data.channels import colours_of
from tfcnn.data.photo import GEOMETRIES, check_geometry
from tfcnn.models.classifier import INPUTS
from tfcnn.record import Run, is_series

CONTRACT_FILE = "contract.json"
LABELS_FILE = "labels.txt"
PADDING = "NaN stands for a value that is missing and for the steps behind the end of a shorter series, which change nothing"
ORIENTATION = "upright: the EXIF orientation of a photo is applied before anything else"


@dataclass(frozen=True)
class Contract:
    """What a model takes and gives.

    Attributes:
        name: of the run.
        labels: class names, in the order of the scores.
        input_shape: (height, width, channels), or of series (steps, channels), with None for steps of any number.
        geometry: how a photo becomes this shape, a name of `tfcnn.data.photo.GEOMETRIES`; "series" for series.
        temperature: what the logits were divided by; 1 leaves the scores as training made them.
        score_threshold: below it an app should take no answer; None says nothing.
    """

    name: str
    labels: tuple[str, ...]
    input_shape: tuple[int | None, ...]
    geometry: str
    temperature: float = 1.0
    score_threshold: float | None = None

    @property
    def is_of_series(self) -> bool:
        """True for a network of series."""
        return is_series(self.input_shape)

    @property
    def input_name(self) -> str:
        """What the input is called in files that have names."""
        return INPUTS[len(self.input_shape)]

    @property
    def colours(self) -> str:
        """The channels in words."""
        return colours_of(self.input_shape[-1])

    @property
    def sentence(self) -> str:
        """The whole in one sentence, for the description in a file."""
        if self.is_of_series:
            return f"Tells {len(self.labels)} classes apart. Takes {self._series}; {PADDING}. Made with tfcnn."
        height, width, _ = self.input_shape
        return (f"Tells {len(self.labels)} classes apart. Takes {self.colours} pixels from 0 to 255, {height} x {width}, {ORIENTATION}; "
                f"geometry {self.geometry}: {GEOMETRIES[self.geometry].text}. Made with tfcnn.")

    @property
    def _series(self) -> str:
        steps, channels = self.input_shape
        return f"a series of {'any number of' if steps is None else steps} steps and {channels} channels, as it was measured"

    def to_json(self) -> str:
        """The text of `contract.json`."""
        photo = lambda: {"colours": self.colours, "range": [0, 255], "orientation": ORIENTATION, "geometry": self.geometry,
                         "geometry_text": GEOMETRIES[self.geometry].text}
        return json.dumps({
            "name": self.name,
            "input": {"shape": list(self.input_shape), **({"text": self._series, "padding": PADDING} if self.is_of_series else photo())},
            "output": {"labels": list(self.labels), "range": [0, 1], "temperature": self.temperature, "score_threshold": self.score_threshold},
        }, indent=2, ensure_ascii=False) + "\n"


def contract_of(run: Run, *, temperature: float = 1.0, score_threshold: float | None = None) -> Contract:
    """The contract of a run."""
    if not run.is_of_series:
        check_geometry(None, run.record["geometry"])
    return Contract(run.path.resolve().name, tuple(run.labels), tuple(run.record["input_shape"]), run.record["geometry"], temperature, score_threshold)
