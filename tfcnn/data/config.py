"""`DataConfig`: what a source is and how it becomes three splits; command-line flags come from its fields."""

from dataclasses import dataclass
from typing import Any

from tfcnn.kinds import COMMON, IMAGE, kind_of


@dataclass(frozen=True)
class DataConfig:
    """What is said of the data besides the source and the seed.

    Attributes:
        kind: of the data: image, signal (time series), audio, text, volume, video, graph (each has a label) or node (of one graph).
        geometry: how a photo becomes a square: stretch (as MediaPipe does on a phone), letterbox or center_crop.
        split: fractions of training, validation and test; a source with splits of its own keeps them.
        folds: cross-validation: trains once a fold, and tests each photo once.
        fold: of a cross-validation, only this fold, from 0 to below folds.
        like: a run folder; its photos keep their splits, new ones are drawn around them.
        group_by: a column of a CSV; photos with the same value, such as a patient or a camera, stay in one split.
        data_dir: the folder where tensorflow-datasets keeps its data.
        sample_rate: of audio: in Hz, to which all files are brought; left out, that of most of them.
        window: of audio: seconds of an example; left out, those of the longest clip, at most 10.
        tokens: of text: words or characters.
        vocabulary: of text: the most words or characters that are known.
        length: of text: tokens of an example; left out, those of the longest training text, at most 400 words or 1000 characters.
        spacing: of volumes: mm from voxel to voxel, one number or DEPTH,HEIGHT,WIDTH; left out, the median of the files.
        size: of volumes: voxels of an example, DEPTH,HEIGHT,WIDTH; left out, those of the largest on each axis, at most 128. Of videos: FRAMES,HEIGHT,WIDTH
            of a clip; left out, 16 frames whose shorter side has at most 112 pixels. Of graphs: nodes of the largest; left out, those of the largest
            that there is, at most 512.
        intensity: of volumes: LOWEST,HIGHEST intensity that the network sees; left out, all.
        stride: of videos: steps from frame to frame of a clip; left out, as many as the shortest video allows, up to a fifth of a second.
        neighbours: of nodes: how many neighbours of a node are drawn, how many of each of these, and so on, as in 10,10, for networks that answer for nodes
            they have not seen; left out, the network is of the whole graph.
        clips: of videos: how many of each are looked at; left out, as many as cover most of a usual one, up to 3.
    """

    kind: str = IMAGE
    geometry: str = "stretch"
    split: tuple[float, float, float] = (0.7, 0.1, 0.2)
    folds: int | None = None
    fold: int | None = None
    like: str | None = None
    group_by: str | None = None
    data_dir: str | None = None
    sample_rate: int | None = None
    window: float | None = None
    tokens: str = "words"
    vocabulary: int = 20_000
    length: int | None = None
    spacing: tuple[float, ...] | None = None
    size: tuple[int, ...] | None = None
    intensity: tuple[float, ...] | None = None
    stride: int | None = None
    clips: int | None = None
    neighbours: tuple[int, ...] | None = None

    @property
    def is_whole_graph(self) -> bool:
        """True where a network has all nodes of a graph before it, with the edges between them."""
        return self.kind == "node" and self.neighbours is None

    def options(self) -> dict[str, Any]:
        """What the loader of the kind takes of it."""
        options = {name: getattr(self, name) for name in (*COMMON, *kind_of(self.kind).options)}
        return {**options, "fold": self.fold or 0}
