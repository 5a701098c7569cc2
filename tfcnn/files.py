"""Files and folders that are written whole or not at all, and names that nothing may be written under."""

import csv
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tfcnn.errors import InputError
from tfcnn.locks import Lock


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
def write_aside(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path`; renamed to `path` at the end, deleted on any error."""
    with name_aside(path) as aside:
        yield aside
        publish(aside, Path(path))


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    with write_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_rows(path: Path, names: Sequence[str], rows: Iterable[Iterable]) -> None:
    """Writes a CSV file whole or not at all."""
    with write_aside(path) as aside, open(aside, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(rows)


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


def remove(path: Path) -> None:
    """Deletes a file or a folder; nothing happens if there is none."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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


def found_files(inputs: Iterable[str | Path], endings: tuple[str, ...], one: str, many: str) -> list[str]:
    """The files that are named, and those with these endings in folders that are named, at any depth, sorted by folder.

    Args:
        inputs: paths of files and folders.
        endings: of the files that are taken in folders, in small letters.
        one, many: what they are, for messages: "a photo", "photos".

    Raises:
        InputError: a path that is not there, or a folder without such files.
    """
    inputs = inputs if isinstance(inputs, (str, Path)) else list(inputs)
    if isinstance(inputs, (str, Path)) or not inputs:
        raise InputError(f"expected a list of {many}, got inputs={inputs!r}; write [path]")
    wrong = next((path for path in inputs if not isinstance(path, (str, os.PathLike))), None)
    if wrong is not None:
        raise InputError(f"expected paths of {many}, got a list of {type(wrong).__name__}; give what they hold as one array, a row each")
    found: list[str] = []
    for path in map(str, inputs):
        if os.path.isdir(path):
            inside = sorted(os.path.join(folder, name) for folder, names in _visible(path) for name in names if name.lower().endswith(endings))
            if not inside:
                raise InputError(f"expected {many} in the folder '{path}', found none; give another folder, or the files themselves")
            found += inside
        elif os.path.exists(path):
            found.append(path)
        else:
            raise InputError(f"expected {one}, but there is no file '{path}'; check the path")
    return found


def _visible(path: str) -> Iterator[tuple[str, list[str]]]:
    """(folder, names of its files) of a folder and all in it, without what is hidden."""
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield folder, [name for name in names if not name.startswith(".")]
