"""`Contract`: what an app has to do before it asks a model, and what it gets; the same in every file, in the card and in the check."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tfcnn.data.channels import colours_of
from tfcnn.data.photo import GEOMETRIES, check_geometry
from tfcnn.data.text import vocabulary_text
from tfcnn.kinds import IMAGE, KINDS, takes_of
from tfcnn.record import VOCABULARY, Run, labels_text

CONTRACT_FILE = "contract.json"
LABELS_FILE = "labels.txt"
ORIENTATION = "upright: the EXIF orientation of a photo is applied before anything else"


@dataclass(frozen=True)
class Contract:
    """What a model takes and gives.

    Attributes:
        name: of the run.
        labels: class names, in the order of the scores.
        input_shape: of photos (height, width, channels), of series (steps, channels), with None for steps of any number, of sound (samples,), of
            texts (length,).
        geometry: how a photo becomes this shape, a name of `tfcnn.data.photo.GEOMETRIES`.
        temperature: what the logits were divided by; 1 leaves the scores as training made them.
        score_threshold: below it an app should take no answer; None says nothing.
        kind: of the data, a name of `tfcnn.kinds.KINDS`; `facts`: what else an app has to know of it.
    """

    name: str
    labels: tuple[str, ...]
    input_shape: tuple[int | None, ...]
    geometry: str
    temperature: float = 1.0
    score_threshold: float | None = None
    kind: str = IMAGE
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def input_name(self) -> str:
        """What the input is called in files that have names: the kind of data."""
        return self.kind

    @property
    def dtype(self) -> str:
        """Of the input of a float file."""
        return self.facts.get("dtype", KINDS[self.kind].dtype)

    @property
    def files(self) -> dict[str, str]:
        """What an app needs besides the network, by the names that it has in every format."""
        vocabulary = {VOCABULARY: vocabulary_text(self.facts["vocabulary"])} if "vocabulary" in self.facts else {}
        return {LABELS_FILE: labels_text(self.labels), CONTRACT_FILE: self.to_json(), **vocabulary}

    @property
    def colours(self) -> str:
        """The channels in words."""
        return colours_of(self.input_shape[-1])

    @property
    def sentence(self) -> str:
        """The whole in one sentence, for the description in a file."""
        if self.kind != IMAGE:
            return f"Tells {len(self.labels)} classes apart. Takes {self.takes}. Made with tfcnn."
        height, width, _ = self.input_shape
        return (f"Tells {len(self.labels)} classes apart. Takes {self.colours} pixels from 0 to 255, {height} x {width}, {ORIENTATION}; "
                f"geometry {self.geometry}: {GEOMETRIES[self.geometry].text}. Made with tfcnn.")

    @property
    def takes(self) -> str:
        """In words what the input is, for other data than photos."""
        return takes_of(self.kind, self.facts)

    def _told(self) -> dict[str, Any]:
        facts = {name: value for name, value in self.facts.items() if name in ("sample_rate", "tokens", "length")}
        return {"kind": self.kind, "type": self.dtype, "text": self.takes, **facts}

    def to_json(self) -> str:
        """The text of `contract.json`."""
        photo = lambda: {"colours": self.colours, "range": [0, 255], "orientation": ORIENTATION, "geometry": self.geometry,
                         "geometry_text": GEOMETRIES[self.geometry].text}
        return json.dumps({
            "name": self.name,
            "input": {"shape": list(self.input_shape), **(photo() if self.kind == IMAGE else self._told())},
            "output": {"labels": list(self.labels), "range": [0, 1], "temperature": self.temperature, "score_threshold": self.score_threshold},
        }, indent=2, ensure_ascii=False) + "\n"


def contract_of(run: Run, *, temperature: float = 1.0, score_threshold: float | None = None) -> Contract:
    """The contract of a run."""
    if run.kind == IMAGE:
        check_geometry(None, run.record["geometry"])
    return Contract(run.path.resolve().name, tuple(run.labels), tuple(run.record["input_shape"]), run.record["geometry"], temperature, score_threshold,
                    run.kind, run.facts)
