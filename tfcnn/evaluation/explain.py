"""`explain`: what in a photo a run goes by."""

import itertools
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfcnn.errors import InputError, WorkError, closest
from tfcnn.evaluation.heat import check_method, check_names, heat_maps
from tfcnn.evaluation.overlay import overlay, side_by_side
from tfcnn.evaluation.predict import reader_of
from tfcnn.files import prepare_folder, write_aside
from tfcnn.models.forward import BATCH, forward
from tfcnn.progress import stage
from tfcnn.record import Run, check_photos, load_run

__all__ = ["Explanation", "explain", "heat_maps", "overlay"]

LONGEST = 80  # bytes of a part of a file name: three of them and a temporary name stay below the 255 that file systems take

AT_ONCE = 8 * BATCH  # photos that are in memory together; each time the network is traced anew

logger = logging.getLogger(__name__)


class Explanation(NamedTuple):
    """What a method finds in one photo.

    Attributes:
        name: path of the photo, or array/ROW.
        label: the label that is explained.
        score: of this label, 0-1.
        answer: the likeliest label.
        method: what found it, never "auto".
        heat: float32 (height, width) of the pixels that the model gets, 0-1, see `heat_maps`.
        picture: `PIL.Image.Image`, these pixels beside the same under the heat.
        path: the file that the picture was written to; None where no folder was given.
    """

    name: str
    label: str
    score: float
    answer: str
    method: str
    heat: np.ndarray
    picture: Any
    path: Path | None


def explain(run: Run | str | Path, inputs: Sequence[str | Path] | np.ndarray, *, label: str | None = None, method: str = "auto",
            layer: str | None = None, output: str | Path | None = None) -> list[Explanation]:
    """Which parts of each photo the answer of a run rests on, as heat maps and pictures. Files that cannot be decoded are left out with a warning.

    Args:
        run: a run or its folder.
        inputs: as `predict` takes them: paths of photos and of folders, or an array (n, height, width, channels) of pixels 0-255 in the
            model's input shape.
        label: the label to explain; for each photo the likeliest if None.
        method: see `heat_maps`. Attention rollout of a ViT is the same for every label.
        layer: for Grad-CAM, a layer of the backbone with feature maps; the last ones if None. Earlier ones are finer and know less.
        output: folder for the pictures, files PHOTO_METHOD_LABEL.png. One of that name from an earlier call is replaced, a photo never.

    Raises:
        InputError: an unknown label, method or layer, a method that this network cannot be explained with, no photos, none that can
            be decoded, or a folder that cannot be written.
        WorkError: the network gives no finite scores.
    """
    run = run if isinstance(run, Run) else load_run(run)
    check_photos(run, "explain")
    check_names(method, layer)
    if label is not None and label not in run.labels:
        raise InputError(f"expected a label of the run, got label='{label}'; {closest(label, run.labels)}")
    if output is not None:
        prepare_folder(Path(output))
    names, read = reader_of(run, inputs)
    if not names:
        raise InputError(f"expected at least one photo, got {np.asarray(inputs).shape}")
    model = run.load_model()
    method = check_method(model, method, layer)
    from_files = not isinstance(inputs, np.ndarray)
    taken = {_key(name) for name in names} if from_files else set()
    explained: list[Explanation] = []
    with stage("explain", len(names), photos=1) as advance:
        for start in range(0, len(names), AT_ONCE):
            rows = range(start, min(start + AT_ONCE, len(names)))
            found = [(names[row], pixels) for row, (pixels, error) in zip(rows, read(rows), strict=True) if not _is_left_out(error)]
            if found:
                batch = _explained(run, model, *zip(*found, strict=True), label=label, method=method, layer=layer)
                explained += batch if output is None else _written(batch, Path(output), taken, from_files=from_files)
            advance(len(rows))
    if not explained:
        raise InputError(f"expected photos, but none of the {len(names)} files can be decoded; give others")
    return explained


def _is_left_out(error: str | None) -> bool:
    if error:
        logger.warning("%s", error)
    return error is not None


def _explained(run: Run, model, names: Sequence[str], pixels: Sequence[np.ndarray], *, label: str | None, method: str, layer: str | None) -> list[Explanation]:
    """Of one batch."""
    stacked = np.stack(pixels)
    scores = forward(model, stacked)
    if not np.isfinite(scores).all():
        raise WorkError("expected finite scores, got NaN or infinity; the training diverged, train again with a lower learning rate")
    answers = scores.argmax(axis=1)
    targets = answers if label is None else np.full(len(stacked), run.labels.index(label))
    heats = heat_maps(model, stacked, targets, method=method, layer=layer)
    for row in np.flatnonzero(~heats.any(axis=(1, 2))):
        logger.warning("nothing in '%s' speaks for '%s' by %s: its map is zero", names[int(row)], run.labels[targets[row]], method)
    return [Explanation(name, run.labels[target], float(row[target]), run.labels[answer], method, heat, side_by_side(photo, heat), None)
            for name, photo, target, answer, row, heat in zip(names, stacked, targets, answers, scores, heats, strict=True)]


def _key(path: str | Path) -> str:
    """Some file systems take capitals for small letters."""
    return str(Path(path).resolve()).casefold()


def _written(explained: list[Explanation], folder: Path, taken: set[str], *, from_files: bool) -> list[Explanation]:
    """The same with their pictures in files, which become part of what is taken."""
    rows = []
    for row in explained:
        stem = "_".join(_in_a_name(part) for part in (Path(row.name).stem if from_files else row.name, row.method, row.label))
        files = (folder / f"{stem}{end}.png" for end in itertools.chain([""], map("_{}".format, itertools.count(2))))
        file = next(file for file in files if _key(file) not in taken and not file.is_dir())
        taken.add(_key(file))
        with write_aside(file) as aside:
            row.picture.save(aside, format="PNG")
        rows.append(row._replace(path=file))
    return rows


def _in_a_name(text: str) -> str:
    """A text as part of a file name that any system takes."""
    return re.sub(r"[^\w.-]+", "-", text).encode("utf-8", "ignore")[:LONGEST].decode("utf-8", "ignore")
