"""`DataConfig`: how a source becomes three splits of squares; command-line flags come from its fields."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DataConfig:
    """What `load_images` takes beside the source, the image size and the seed.

    Attributes:
        geometry: how a photo becomes a square: stretch (as MediaPipe does on a phone), letterbox or center_crop.
        split: fractions of training, validation and test; a source with splits of its own keeps them.
        folds: cross-validation: trains once a fold, and tests each photo once.
        fold: of a cross-validation, only this fold, from 0 to below folds.
        like: a run folder; its photos keep their splits, new ones are drawn around them.
        group_by: a column of a CSV; photos with the same value, such as a patient or a camera, stay in one split.
        data_dir: the folder where tensorflow-datasets keeps its data.
    """

    geometry: str = "stretch"
    split: tuple[float, float, float] = (0.7, 0.1, 0.2)
    folds: int | None = None
    fold: int | None = None
    like: str | None = None
    group_by: str | None = None
    data_dir: str | None = None
