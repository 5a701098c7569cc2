"""A run folder and its record, written safely and read back."""

import csv
import hashlib
import importlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tfcnn.errors import InputError
from tfcnn.files import prepare_folder, write_text
from tfcnn.kinds import IMAGE, KINDS
from tfcnn.locks import NAME as LOCK

if TYPE_CHECKING:
    import keras

VOCABULARY = "vocabulary.txt"  # of a run of texts
FORMAT = 1  # of run.json; raised when a reader of the old one would misread the new one


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes:
        path: the folder.
        record: the content of its `run.json`.
    """

    path: Path
    record: dict = field(repr=False)

    @property
    def labels(self) -> list[str]:
        """Class names; an output of the model belongs to the label at its index."""
        return list(self.record["labels"])

    @property
    def kind(self) -> str:
        """Of its data, a name of `tfcnn.kinds.KINDS`."""
        return kind_in(self.record)

    @property
    def is_of_a_graph(self) -> bool:
        """True where the graph of its data is part of its network."""
        return "graph" in self.record["data"].get("facts", {})

    @property
    def facts(self) -> dict:
        """What its network and an app have to know of its data besides the shape; with the vocabulary where there is one.

        Raises:
            InputError: the vocabulary is gone, or is that of another run.
        """
        facts = dict(self.record["data"].get("facts", {}))
        if (digest := facts.pop("vocabulary_sha256", None)) is not None:
            facts["vocabulary"] = self._vocabulary(digest)
        return facts

    def _vocabulary(self, digest: str) -> list[str]:
        file = self.path / VOCABULARY
        if not file.is_file():
            raise InputError(f"expected the vocabulary of the run in '{file}', but it is gone; put it back or train again with --overwrite")
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise InputError(f"expected the vocabulary that the run was trained with in '{file}', but it is another one; put the right one back: "
                             "words belong to the numbers that the network was trained with")
        return content.decode("utf-8").split("\n")[:-1]

    def load_model(self) -> "keras.Model":
        """The trained `keras.Model`: raw pixels 0-255 in, one score a label out.

        Raises:
            InputError: the run has no model yet, its file is damaged or of another training, or `labels.txt` says other labels than the record.
        """
        path, labels = self.path / "model.keras", self.path / "labels.txt"
        if not path.exists() and self.record["status"] == "started":
            raise InputError(f"expected a finished run in '{self.path}', but its training was not completed; finish it with --resume")
        if not path.exists():
            raise InputError(f"expected the model of the run in '{path}', but it is gone; put it back or train again with --overwrite")
        if labels.exists() and labels.read_text(encoding="utf-8", errors="replace") != labels_text(self.labels):
            raise InputError(f"expected the labels of the run in '{labels}', {', '.join(self.labels)}, one a line, but it says others; "
                             "put them back: labels belong to the outputs that the network was trained with")
        import keras

        if KINDS[self.kind].layers:
            importlib.import_module(KINDS[self.kind].layers)
        try:
            model = keras.models.load_model(path, compile=False)
        except Exception as error:  # Keras names a damaged zip in many ways, "File not found" among them
            raise InputError(f"expected a Keras model in '{path}', but it cannot be read ({type(error).__name__}); "
                             "the file is damaged: train again with --overwrite") from error
        self._check_model(model)
        return model

    def _check_model(self, model) -> None:
        outputs, shape, expected = model.output_shape[-1], tuple(model.input_shape[1:]), tuple(self.record["input_shape"])
        advice = "belong to different trainings: put the right one back, or train again with --overwrite"
        if outputs != len(self.labels):
            raise InputError(f"expected a model with one output for each of the {len(self.labels)} labels of the run, got {outputs} outputs; "
                             f"labels in run.json and model.keras {advice}")
        if shape != expected:
            raise InputError(f"expected a model for inputs of shape {expected} as run.json says, got one for {shape}; they {advice}")


def kind_in(record: dict) -> str:
    """The kind that a record says; those of earlier versions tell it by their shape."""
    return record.get("kind") or (IMAGE if len(record["input_shape"]) == 3 else "signal")


def load_run(path: str | Path) -> Run:
    """The run that a folder holds.

    Raises:
        InputError: no such folder, no run in it, or a damaged record.
    """
    path = Path(path)
    file = path / "run.json"
    if path.is_file():
        raise InputError(f"expected a run folder, but '{path}' is a file; give its folder")
    if not path.is_dir():
        raise InputError(f"expected a run folder, but there is no folder '{path}'; check the path")
    if not file.exists():
        raise InputError(f"expected a run folder, but '{path}' has no run.json; give the folder that 'tfcnn train --output' named")
    try:
        record = json.loads(file.read_text(encoding="utf-8"), object_hook=lambda part: _Part(part, file))
        if not isinstance(record, dict):
            raise ValueError("it is no object of JSON")
        if record["format"] > FORMAT:
            raise InputError(f"expected a run record of format {FORMAT} or below in '{file}', got format={record['format']}; update tfcnn")
        for name, is_right in {**REQUIRED, **{name: OPTIONAL[name] for name in record if name in OPTIONAL}}.items():
            if not is_right(record[name]):
                raise ValueError(f"{name} is {record[name]!r:.60}")
        if len(record["input_shape"]) not in KINDS[kind_in(record)].ranks:
            raise ValueError(f"input_shape is {record['input_shape']}")
        if "exports" in record:  # rows of older versions say too little
            record["exports"] = [row for row in record["exports"] if {"verdict", "chosen"} <= set(row)]
    except InputError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(damaged(file, error)) from error
    return Run(path, record)


def _is_shape(value) -> bool:
    """(depth, height, width, channels), (height, width, channels), (steps, channels) with None for steps of any number, or (samples,)."""
    sizes = value[1:] if isinstance(value, list) and len(value) == 2 and value[0] is None else value
    return isinstance(value, list) and len(value) in (1, 2, 3, 4) and all(type(size) is int and size > 0 for size in sizes)


def _is_part(value) -> bool:
    return isinstance(value, dict)


# What is true of the values of a run.json that a run has from its start, and of those that come later.
REQUIRED = {"labels": lambda value: isinstance(value, list) and all(isinstance(label, str) for label in value),
            "status": lambda value: isinstance(value, str), "geometry": lambda value: isinstance(value, str), "input_shape": _is_shape}
OPTIONAL = {"data": lambda value: _is_part(value) and isinstance(value.get("source", ""), str),
            "kind": lambda value: value in KINDS, **dict.fromkeys(("model", "training", "seconds", "calibration", "test"), _is_part),
            "temperature": lambda value: value is None or (type(value) in (int, float) and value > 0), "exports": lambda value: isinstance(value, list)}


class _Part(dict):
    """An object of a run.json that was read; a value that was removed from it is a damage, wherever it is missed."""

    def __init__(self, part: dict, file: Path):
        super().__init__(part)
        self.file = file

    def __missing__(self, name: str):
        raise _MissingError(damaged(self.file, f"'{name}' is missing"))


class _MissingError(InputError, KeyError):
    """Templates take a value that is missing for an undefined one if it is a `KeyError`."""

    __str__ = Exception.__str__


def damaged(file: Path, reason) -> str:
    """What is said of a run.json that cannot be used."""
    return f"expected a run record in '{file}', but it is damaged ({reason}); train again with --overwrite"


def check_photos(run: Run, work: str) -> None:
    """Raises InputError for a run of another kind, where a work is made for photos."""
    if run.kind != IMAGE:
        raise InputError(f"expected a run of photos to {work}, got one of {KINDS[run.kind].many}, '{run.path}'")


def require(run: Run, *names: str) -> None:
    """Raises InputError for a record that lacks one of these values."""
    missing = [name for name in names if name not in run.record]
    if missing:
        raise InputError(damaged(run.path / "run.json", f"'{missing[0]}' is missing"))


def write_record(path: Path, record: dict) -> Run:
    """Writes `run.json` into the run folder `path`."""
    write_text(path / "run.json", json.dumps({"format": FORMAT, **record}, indent=2, ensure_ascii=False) + "\n")
    return Run(path, json.loads(json.dumps({"format": FORMAT, **record})))


def labels_text(labels: Iterable[str]) -> str:
    """The content of a `labels.txt`: one label a line, in the order of the scores."""
    return "\n".join(labels) + "\n"


def read_history(file: Path) -> list[dict]:
    """The rows of a history.csv; none if there is no file."""
    if not file.exists():
        return []
    with open(file, newline="", encoding="utf-8") as lines:
        return [{"epoch": int(row.pop("epoch")), **{k: float(v) for k, v in row.items()}} for row in csv.DictReader(lines)]


def changed_arguments(record: dict, given: dict) -> dict[str, tuple]:
    """{name: (value of the run, value given)} of the arguments of data, model and training that are not those of a run."""
    before = {**record["data"]["arguments"], **record["model"], **record["training"]}
    given = json.loads(json.dumps(given, default=str))
    return {name: (before[name], value) for name, value in given.items() if name in before and json.dumps(before[name]) != json.dumps(value)}


def differences(old: dict, new: dict) -> list[str]:
    """In words, what two records say differently of versions, code, photos, weights and hardware."""
    of = lambda part: [f"{name} was {old[part][name]} and is {value}" for name, value in new[part].items()
                       if part in old and name in old[part] and old[part][name] != value]
    code = ["the code of tfcnn changed"] if old.get("code") != new["code"] and old["versions"].get("tfcnn") == new["versions"]["tfcnn"] else []
    digests = [f"{what} changed" for what, part in (("photos or their split", "data"), ("the weights of the backbone", "model"))
               if old[part]["digest"] != new[part]["digest"]]
    return [*of("versions"), *code, *digests, *of("hardware")]


def prepare_output(path: str | Path, *, overwrite: bool = False, resume: bool = False) -> Run | None:
    """Makes sure that a run can be written to `path`, before any slow work.

    Returns:
        The run that is there already, when it is to be resumed; else None.

    Raises:
        InputError: the folder holds a run or other files, or cannot be written.
    """
    path = Path(path)
    if overwrite and resume:
        raise InputError("expected --overwrite or --resume, got both; --resume goes on with the run, --overwrite replaces it")
    if os.path.exists(path) and not os.path.isdir(path):
        raise InputError(f"expected a folder for the run, but '{path}' is a file; give another --output")
    existing = os.path.isdir(path) and any(p for p in path.iterdir() if not p.name.startswith((".tmp-", LOCK)))
    if existing and not (path / "run.json").exists():
        raise InputError(f"expected an empty or new folder for the run, but '{path}' holds files that are not a run; give another --output")
    if existing and resume:
        return load_run(path)
    if existing and not overwrite:
        raise InputError(f"expected a new folder for the run, but '{path}' holds a run already; "
                         "give --resume to go on with it, --overwrite to replace it, or another --output")
    prepare_folder(path)
    return None
