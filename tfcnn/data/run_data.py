"""The photos of a run, its own or others, as it takes them."""

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from tfcnn.data.channels import check_shape, in_channels
from tfcnn.data.dataset import Dataset, Item, items_of
from tfcnn.data.images import load_images, read_all
from tfcnn.data.photo import check_geometry
from tfcnn.data.sources import Example, Source, files_source, open_source, sort_labels, whole_path
from tfcnn.errors import InputError
from tfcnn.kinds import IMAGE, KINDS, function_of, in_words
from tfcnn.record import Run


def load_for_run(run: Run, source, *, data_dir: str | Path | None = None) -> Dataset:
    """The photos or series of a source as a run takes them, in size, geometry and channels; all of them in the test split.

    Raises:
        InputError: a source that cannot be used, or labels that the run does not know.
    """
    if run.kind != IMAGE:
        data = function_of(KINDS[run.kind].load)(source, split=None, facts=run.facts)
        check_known(run, data.labels)
        return data
    size, *_, channels = run.record["input_shape"]
    opened = open_source(source, data_dir=whole_path(data_dir), channels=channels)
    check_known(run, sort_labels(example.label for example in opened.examples or ()))
    return load_images(opened, image_size=size, geometry=run.record["geometry"], split=None, channels=channels, data_dir=data_dir)


def load_run_data(run: Run, split: str | None = None) -> Dataset:
    """The photos that a run was trained on, each in the split it was in.

    Args:
        split: only those of this split, so that the others need not be there; all if None, or if it has none.

    Raises:
        InputError: the run was trained on arrays in memory, or its photos are missing or changed.
    """
    if run.kind == IMAGE:
        check_geometry(None, run.record["geometry"])
    items = items_of(run)
    if not items and run.record["status"] == "started":
        raise InputError(f"expected a finished run in '{run.path}', but its training was not completed; finish it with --resume")
    if not items:
        raise InputError(f"expected the list of the run's photos in '{run.path / 'items.csv'}', but it is gone; put it back or train again with --overwrite")
    items = tuple(item for item in items if item.split == split) or items
    if run.kind != IMAGE:
        return _others_of(run, items)
    of = f"{split} photos" if split and items[0].split == split else "photos"
    source = _source_of(run, items, of)
    arguments = run.record["data"]["arguments"]
    shape = tuple(run.record["input_shape"])
    image_size = None if source.shape and source.shape[:2] == shape[:2] else shape[0]
    check_shape(source, image_size, shape[-1])
    pixels, _, reads = read_all(source, image_size, run.record["geometry"], None)
    now = {read.example.path: read for read in reads}
    changed = [item.path for item in items if item.path not in now or now[item.path].digest != item.sha256]
    if changed:
        raise InputError(f"expected the {of} of the run as they were, but {len(changed)} changed since, "
                         f"the first: {changed[0]}; put them back or give a data set")
    inputs = in_channels(pixels([now[item.path] for item in items]), shape[-1])
    return Dataset(inputs=inputs, items=items, labels=tuple(run.labels), input_shape=shape,
                   geometry=run.record["geometry"], source=run.record["data"]["source"], arguments=arguments)


def check_known(run: Run, labels: Iterable[str]) -> None:
    """Raises InputError for labels that a run does not know."""
    unknown = [label for label in labels if label not in run.labels]
    if unknown:
        raise InputError(in_words(f"expected labels that the run knows ({', '.join(run.labels)}), got {', '.join(unknown)} besides; "
                                  "rename or leave out their photos", run.kind))


def _others_of(run: Run, items: tuple[Item, ...]) -> Dataset:
    """These examples of a run of another kind, found by their content."""
    source, many, arguments = run.record["data"]["source"], KINDS[run.kind].many, run.record["data"]["arguments"]
    if not source:
        raise InputError(f"expected data, since '{run.path}' was trained on what lay in memory; give the data set as the second argument")
    data = function_of(KINDS[run.kind].load)(source, split=None, facts=run.facts)
    place = {item.sha256: row for row, item in enumerate(data.items)}
    changed = [item.path for item in items if item.sha256 not in place]
    if changed:
        raise InputError(f"expected the {many} of the run as they were, but {len(changed)} changed or are gone since, the first: {changed[0]}; "
                         "put them back or give a data set")
    rows = np.array([place[item.sha256] for item in items])
    return replace(data, inputs=data.inputs[rows], items=items, labels=tuple(run.labels), arguments=arguments)


def _source_of(run: Run, items: tuple[Item, ...], of: str) -> Source:
    name = run.record["data"]["source"]
    if os.path.isabs(items[0].path) and not name.lower().endswith(".npz"):
        missing = [item.path for item in items if not os.path.exists(item.path)]
        if missing:
            raise InputError(f"expected the {len(items)} {of} of the run where they were, but {len(missing)} cannot be found, "
                             f"the first: {missing[0]}; put them back or give a data set")
        return files_source(name, [Example(item.path, item.label) for item in items])
    if not name:
        raise InputError(f"expected data, since '{run.path}' was trained on arrays in memory; in Python, give the data set as the second argument")
    return open_source(name, data_dir=run.record["data"]["arguments"].get("data_dir"), channels=run.record["input_shape"][-1])
