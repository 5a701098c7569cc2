"""Data sets of tensorflow-datasets: `tfds:NAME[/CONFIG][:VERSION]`."""

import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from tfcnn.data.sources import Example, Source
from tfcnn.data.split import SPLIT_NAMES
from tfcnn.errors import InputError, closest, first_line

PATIENCE = 10  # seconds until a server has to answer

_NAME = re.compile(r"tfds:([\w.-]+)(/[\w.-]+)?(:[\w.*]+)?")


def open_tfds(name: str, data_dir: str | Path | None = None) -> Source:
    """A data set of tensorflow-datasets as a source of encoded photos, which we decode ourselves: it ignores EXIF orientation.

    What is prepared in `data_dir` (or in the folder that tensorflow-datasets uses by itself) is read; the rest is downloaded
    and prepared first.

    Args:
        name: "tfds:NAME[/CONFIG][:VERSION]".
        data_dir: the folder of prepared data sets.

    Raises:
        InputError: no such data set, no photos with labels in it, or one that is not prepared and cannot be downloaded.
    """
    match = _NAME.fullmatch(name)
    if not match:
        raise InputError(f"expected tfds:NAME[/CONFIG][:VERSION], got '{name}'")
    wanted, config, version = match[1], match[2] or "", match[3] or ""
    builder = _builder(wanted, config, version, data_dir)
    image, label = _features(name, builder.info)
    splits = {split: SPLIT_NAMES.get(split, "") for split in builder.info.splits}
    if any(splits.values()):  # others, as "unlabelled" or "extra", are no part of the three
        splits = {split: ours for split, ours in splits.items() if ours}
    config = builder.info.config_name or ""  # where none was asked for, the library took its default
    full_name = f"{wanted}{'/' if config else ''}{config}:{builder.info.version}"

    def read() -> Iterator[tuple[Example, bytes]]:
        import tensorflow_datasets as tfds

        names = builder.info.features[label]
        for split, ours in splits.items():
            rows = tfds.load(full_name, split=split, data_dir=data_dir, download=False, shuffle_files=False,
                             decoders={image: tfds.decode.SkipDecoding()})
            for row, example in enumerate(rows.as_numpy_iterator()):
                if example[label] < 0:
                    raise InputError(f"expected a label for every photo of '{name}', found none in row {row} of '{split}'; give a data set with labels")
                yield Example(f"tfds:{full_name}/{split}/{row}", names.int2str(int(example[label])), ours), example[image]

    return Source(f"tfds:{full_name}", read, None, sum(builder.info.splits[split].num_examples for split in splits))


def _builder(name: str, config: str, version: str, data_dir):
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(f"{name}{config}{version}", data_dir=data_dir, try_gcs=False)
    except tfds.core.registered.DatasetNotFoundError:
        known = sorted({*tfds.list_builders(with_community_datasets=False), *_prepared(data_dir)})
        if name in known:
            raise InputError(f"expected a version and configuration of '{name}' that is prepared, got '{name}{config}{version}'; "
                             f"look into '{Path(data_dir) / name if data_dir else name}'") from None
        raise InputError(f"expected a data set of tensorflow-datasets, got '{name}'; {_closest(name, known)}") from None
    except (ValueError, AssertionError, OSError) as error:
        raise InputError(f"expected a configuration and version of '{name}', got '{name}{config}{version}'; {first_line(error)}") from error
    if not builder.info.splits:
        try:
            _reach(builder.url_infos)
            with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
                builder.download_and_prepare()
        except Exception as error:  # whatever a download or somebody's generator raises
            raise InputError(f"expected '{name}' to be prepared in '{builder.data_dir}', but it is not and cannot be downloaded "
                             f"({type(error).__name__}: {first_line(error)}); prepare it where there is a network, then give --data-dir") from error
    return builder


def _reach(urls) -> None:
    """Raises requests.RequestException where the server of the first file does not answer: tensorflow-datasets waits for minutes."""
    import requests

    for url in list(urls or [])[:1]:
        requests.head(url, timeout=PATIENCE)


def _prepared(data_dir) -> list[str]:
    folder = Path(data_dir).expanduser() if data_dir else None
    return [path.name for path in folder.iterdir() if path.is_dir()] if folder and folder.is_dir() else []


def _closest(name: str, known: list[str]) -> str:
    text = closest(name, known)
    return text.split(" (all:")[0] if "did you mean" in text else f"{len(known)} are known, see tfds.list_builders()"


def _features(name: str, info) -> tuple[str, str]:
    """Names of the photo and the label in a data set."""
    import tensorflow_datasets as tfds

    of = lambda kind: [key for key, feature in info.features.items() if isinstance(feature, kind)]
    images, labels = of(tfds.features.Image), of(tfds.features.ClassLabel)
    if info.supervised_keys and info.supervised_keys[0] in images and info.supervised_keys[1] in labels:
        return info.supervised_keys[0], info.supervised_keys[1]
    if len(images) != 1 or len(labels) != 1:
        raise InputError(f"expected one photo and one class label an example in '{name}', found the features {', '.join(info.features)}")
    return images[0], labels[0]
