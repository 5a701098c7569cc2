"""A run folder and its record, written safely and read back."""

import csv
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tfcnn.errors import InputError
from tfcnn.locks import NAME as LOCK
from tfcnn.locks import Lock

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

    def load_model(self):
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
            raise InputError(f"expected a model for pixels of shape {expected} as run.json says, got one for {shape}; they {advice}")


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
        if "exports" in record:  # rows of older versions say too little
            record["exports"] = [row for row in record["exports"] if {"verdict", "chosen"} <= set(row)]
    except InputError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(damaged(file, error)) from error
    return Run(path, record)


def _is_shape(value) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(size) is int and size > 0 for size in value)


def _is_part(value) -> bool:
    return isinstance(value, dict)


# What is true of the values of a run.json that a run has from its start, and of those that come later.
REQUIRED = {"labels": lambda value: isinstance(value, list) and all(isinstance(label, str) for label in value),
            "status": lambda value: isinstance(value, str), "geometry": lambda value: isinstance(value, str), "input_shape": _is_shape}
OPTIONAL = {"data": lambda value: _is_part(value) and isinstance(value.get("source", ""), str),
            **dict.fromkeys(("model", "training", "seconds", "calibration", "test"), _is_part),
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


def require(run: Run, *names: str) -> None:
    """Raises InputError for a record that lacks one of these values."""
    missing = [name for name in names if name not in run.record]
    if missing:
        raise InputError(damaged(run.path / "run.json", f"'{missing[0]}' is missing"))


@contextmanager
def name_aside(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path`, for a file or a folder; what is left under it at the end is deleted."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".tmp-{os.getpid()}-{secrets.token_hex(4)}-{path.name}")  # keeps the suffix, which Keras looks at
    try:
        yield aside
    finally:
        remove(aside)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keeps other processes that ask for it out of a folder; what killed ones left there under temporary names is deleted.

    The system gives the lock back when a process ends, however it does.

    Raises:
        InputError: another process is in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = Lock(folder, alone=True)
    except BlockingIOError as error:
        raise InputError(f"expected to write to '{folder}', but another process does; wait until it is done") from error
    try:
        remove_leftovers(folder)
        yield
    finally:
        lock.release(remove=True)
        with suppress(OSError):  # what was refused leaves nothing behind
            folder.rmdir()


def remove_leftovers(folder: Path) -> None:
    """Deletes what a killed process left below a folder under temporary names."""
    for aside in folder.rglob(".tmp-*"):
        remove(aside)


def check_file(output: str | Path, endings: Sequence[str], content: str) -> None:
    """Raises InputError for a name that a file with this content cannot have: another ending, that of a folder, or where nothing can be written."""
    if Path(output).suffix.lower() not in endings:
        raise InputError(f"expected a file that ends in {' or '.join(endings)} for {content}, got output='{output}'")
    _check_no_folder(output)
    prepare_folder(Path(output).parent)


def _check_no_folder(path: str | Path) -> None:
    """Raises InputError where a file would take the place of a folder and of all that is in it."""
    if os.path.isdir(path):
        raise InputError(f"expected a file to write, but '{path}' is a folder; give another name")


def publish(aside: Path, path: Path) -> None:
    """Renames a complete file or folder to its good name, in place of what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if aside.is_file():
        _check_no_folder(path)
    if path.is_dir():  # a folder cannot be renamed over a full one: the old one goes when the new one is in place
        with name_aside(path.with_name(f"old-{path.name}")) as old:
            os.replace(path, old)
            try:
                os.replace(aside, path)
            except BaseException:
                os.replace(old, path)
                raise
    else:
        os.replace(aside, path)


@contextmanager
def write_aside(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path`; renamed to `path` at the end, deleted on any error."""
    with name_aside(path) as aside:
        yield aside
        publish(aside, Path(path))


def remove(path: Path) -> None:
    """Deletes a file or a folder; nothing happens if there is none."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_record(path: Path, record: dict) -> Run:
    """Writes `run.json` into the run folder `path`."""
    write_text(path / "run.json", json.dumps({"format": FORMAT, **record}, indent=2, ensure_ascii=False) + "\n")
    return Run(path, json.loads(json.dumps({"format": FORMAT, **record})))


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    with write_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def labels_text(labels: Iterable[str]) -> str:
    """The content of a `labels.txt`: one label a line, in the order of the scores."""
    return "\n".join(labels) + "\n"


def write_rows(path: Path, names: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Writes a CSV file whole or not at all."""
    with write_aside(path) as aside, open(aside, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(rows)


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


def prepare_folder(path: Path, advice: str = "give another --output") -> None:
    """Makes sure that a folder can be made and written, raises InputError where it cannot; one that was not there is gone again.

    Who writes makes it, so that what is refused later leaves nothing behind.

    Args:
        advice: what to do where it cannot.
    """
    existed = os.path.exists(path)  # which takes any name
    try:
        path.mkdir(parents=True, exist_ok=True)
        with name_aside(path / "probe") as probe:
            probe.write_bytes(b"")
        if not existed:
            path.rmdir()
    except OSError as error:
        raise InputError(f"expected a folder that can be written, but '{path}' cannot: {error.strerror}; {advice}") from error
