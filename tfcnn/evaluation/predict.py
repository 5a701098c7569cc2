"""`predict`: label and scores of photos, as many as there are, in the geometry and orientation of the training."""

import logging
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfcnn.data.channels import in_channels
from tfcnn.data.photo import check_geometry, decode_photo, reason_of
from tfcnn.errors import InputError, WorkError
from tfcnn.files import check_file, found_files, write_aside
from tfcnn.kinds import IMAGE, KINDS, function_of
from tfcnn.models.forward import batch_of, forward, traced
from tfcnn.progress import stage
from tfcnn.record import Run, load_run

ENDINGS = (".csv", ".jsonl")
SAID = 3  # times that one reason is said of single examples; a whole source of another kind has it for each

logger = logging.getLogger(__name__)


class Prediction(NamedTuple):
    """The answer to one photo: its name, the likeliest label, its score, and the score of every label.

    Of a file that cannot be read `error` says why; label and score are None then, and there are no scores.
    """

    name: str
    label: str | None
    score: float | None
    scores: dict[str, float]
    error: str | None = None


def predict(run: Run | str | Path, inputs: Sequence[str | Path] | np.ndarray, *, output: str | Path | None = None) -> list[Prediction]:
    """Label and scores of each photo. A file that cannot be decoded stops nothing: its prediction says why.

    Args:
        run: a run or its folder.
        inputs: paths of photos and of folders, in which every photo is taken, at any depth; or an array (n, height, width, channels) of pixels
            0-255. Of other data paths of its files too, or an array in the model's input shape; of texts each `str` is a text, a `Path` a file.
        output: a .csv or .jsonl to write the predictions to.

    Raises:
        InputError: a path that is not there, a folder without photos, files for a model of four channels, or an array of another shape.
        WorkError: scores that are no numbers.
    """
    run = run if isinstance(run, Run) else load_run(run)
    if output is not None:
        check_file(output, ENDINGS, "the predictions")
    names, read = reader_of(run, inputs)
    predictions = list(_predictions(run, names, read))
    if output is not None:
        write_predictions(Path(output), predictions, run.labels)
    return predictions


def reader_of(run: Run, inputs: Sequence[str | Path] | np.ndarray) -> tuple[list[str], Callable]:
    """The names of photos, and (range of rows) → for each its pixels, or None and why it cannot be decoded; in the geometry of a run."""
    shape = tuple(run.record["input_shape"])
    if run.kind == IMAGE:
        check_geometry(None, run.record["geometry"])
    if isinstance(inputs, np.ndarray):
        if inputs.ndim != len(shape) + 1 or any(size not in (None, got) for size, got in zip(shape, inputs.shape[1:], strict=True)):
            what = "pixels" if run.kind == IMAGE else KINDS[run.kind].many
            raise InputError(f"expected {what} of shape (n, {', '.join(map(str, shape))}), got {inputs.shape}")
        return [f"array/{row}" for row in range(len(inputs))], lambda rows: [(inputs[row], None) for row in rows]
    inputs = inputs if isinstance(inputs, (str, Path)) else list(inputs)
    if run.kind != IMAGE:
        if isinstance(inputs, (str, Path)) or not inputs:
            raise InputError(f"expected a list of {KINDS[run.kind].many}, got inputs={inputs!r}; write [input]")
        return function_of(KINDS[run.kind].read_files)(inputs, shape, run.facts)
    if shape[-1] == 4 and inputs and not isinstance(inputs, (str, Path)):
        raise InputError(f"expected pixels of four channels, which files of photos do not have, got '{inputs[0]}'; "
                         f"in Python, give an array of shape (n, {', '.join(map(str, shape))})")
    names = found_files(inputs, photo_endings(), "a photo", "photos")
    return names, lambda rows: _read_all([names[row] for row in rows], shape, run.record["geometry"])


def photo_endings() -> tuple[str, ...]:
    """Of the files that Pillow reads."""
    from PIL import Image

    return tuple(ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN)  # it only writes others, PDF for instance


def write_predictions(path: Path, predictions: Sequence[Prediction], labels: Sequence[str]) -> None:
    """Writes them whole or not at all: as CSV with a column for the score of each label, or as a JSON object a line."""
    import csv
    import json

    path.parent.mkdir(parents=True, exist_ok=True)
    with write_aside(path) as aside, open(aside, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        if path.suffix.lower() == ".jsonl":
            file.writelines(json.dumps(prediction._asdict(), ensure_ascii=False) + "\n" for prediction in predictions)
            return
        table = csv.writer(file)
        table.writerow(["path", "label", "score", *(f"score of {label}" for label in labels), "error"])
        table.writerows([p.name, p.label, p.score, *(p.scores.get(label) for label in labels), p.error] for p in predictions)


def check_photo(photo: str | Path | np.ndarray) -> None:
    """Raises InputError for what is neither a path nor pixels."""
    if not isinstance(photo, (str, Path, np.ndarray)):
        raise InputError(f"expected the path of a photo or pixels (height, width, channels), got {type(photo).__name__}")


def decode_file(path: str | Path, image_size: int, geometry: str = "stretch") -> np.ndarray:
    """Pixels of a photo, see `decode_photo`; raises InputError for a file that is none."""
    try:
        return decode_photo(path, image_size, geometry).pixels
    except IsADirectoryError:
        raise InputError(f"expected a photo, but '{path}' is a folder; give the files in it") from None
    except FileNotFoundError:
        raise InputError(f"expected a photo, but there is no file '{path}'; check the path") from None
    except Exception as error:  # Pillow's decoders raise nearly anything on a broken file
        raise InputError(f"expected a photo in '{path}', but it cannot be decoded ({reason_of(error)}); leave it out") from error


def _predictions(run: Run, names: Sequence[str], read) -> Iterator[Prediction]:
    model = run.load_model()
    run_batch, size = traced(model), batch_of(model)
    reasons: Counter[str] = Counter()  # why examples cannot be used, without their names
    with stage("predict", len(names), photos=1) as advance:
        for start in range(0, len(names), size):
            rows = range(start, min(start + size, len(names)))
            found = read(rows)
            good = [pixels for pixels, error in found if error is None]
            scores = iter(forward(model, np.stack(good), run=run_batch) if good else ())
            for row, (_, error) in zip(rows, found, strict=True):
                if error:
                    reason = error.replace(names[row], "...")
                    reasons[reason] += 1
                    if reasons[reason] <= SAID:
                        logger.warning("%s", error)
                yield _prediction(names[row], None if error else next(scores), error, run.labels)
            advance(len(rows))
    for reason, count in reasons.items():
        if count > SAID:
            logger.warning("%d more: %s", count - SAID, reason)


def _prediction(name: str, scores: np.ndarray | None, error: str | None, labels: Sequence[str]) -> Prediction:
    if error or scores is None:
        return Prediction(name, None, None, {}, error)
    if not np.isfinite(scores).all():
        raise WorkError(f"expected finite scores, got NaN or infinity for '{name}'; the training diverged, give a lower learning rate")
    return Prediction(name, labels[int(scores.argmax())], float(scores.max()), dict(zip(labels, map(float, scores), strict=True)))


def _read_all(paths: Sequence[str], shape: tuple[int, ...], geometry: str) -> list[tuple[np.ndarray | None, str | None]]:
    def one(path):
        try:
            return in_channels(decode_file(path, shape[0], geometry)[None], shape[-1])[0], None
        except InputError as error:
            return None, str(error)

    with ThreadPoolExecutor(os.cpu_count()) as pool, _no_warnings():  # Pillow decodes without holding Python's lock
        return list(pool.map(one, paths))


@contextmanager
def _no_warnings():
    """A damaged EXIF block is worth a warning to Pillow; the pixels are whole. What is caught is caught for all threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
