"""Files and folders: written whole or not at all, by one process at a time."""

import errno
import fcntl
import subprocess
import sys

import pytest
from conftest import names_in

from tfcnn.errors import InputError
from tfcnn.files import alone_in, name_aside, publish, write_aside, write_rows, write_text
from tfcnn.locks import Lock

HOLDS = "import sys, time; from pathlib import Path; from tfcnn.files import alone_in\nwith alone_in(Path(sys.argv[1])): print(1, flush=True); time.sleep(60)"


def test_a_file_gets_its_name_when_it_is_complete(tmp_path):
    with write_aside(tmp_path / "new" / "model.keras") as aside:
        aside.write_bytes(b"half")
        assert not (tmp_path / "new" / "model.keras").exists()
        assert aside.suffix == ".keras" and aside.parent == tmp_path / "new"
        aside.write_bytes(b"whole")
    assert names_in(tmp_path) == ["new", "new/model.keras"]
    assert (tmp_path / "new" / "model.keras").read_bytes() == b"whole"


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(KeyboardInterrupt), write_aside(tmp_path / "a.txt") as aside:
        aside.write_text("half")
        raise KeyboardInterrupt
    assert names_in(tmp_path) == ["a.txt"] and (tmp_path / "a.txt").read_text() == "old"


def test_an_exception_leaves_the_old_folder_and_nothing_else(tmp_path):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "old").write_text("old")
    with pytest.raises(RuntimeError, match="disk"), write_aside(tmp_path / "saved") as aside:
        (aside / "deep").mkdir(parents=True)
        (aside / "deep" / "new").write_text("half")
        raise RuntimeError("disk")
    assert names_in(tmp_path) == ["saved", "saved/old"]


def test_a_complete_folder_takes_the_place_of_the_old_one(tmp_path):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "old").write_text("old")
    with write_aside(tmp_path / "saved") as aside:
        aside.mkdir()
        (aside / "new").write_text("new")
    assert names_in(tmp_path) == ["saved", "saved/new"]


def test_what_is_not_published_is_deleted(tmp_path):
    with name_aside(tmp_path / "a.tflite") as aside:
        aside.write_bytes(b"rejected")
    with name_aside(tmp_path / "b") as aside:
        (aside / "c").mkdir(parents=True)
    with name_aside(tmp_path / "never written"):
        pass
    assert names_in(tmp_path) == []


def test_what_was_made_aside_can_be_published_elsewhere(tmp_path):
    with name_aside(tmp_path / "exports" / "a.tflite") as aside:
        aside.write_bytes(b"rejected")
        publish(aside, tmp_path / "exports" / "rejected" / "a.tflite")
    assert names_in(tmp_path) == ["exports", "exports/rejected", "exports/rejected/a.tflite"]


def test_a_block_that_writes_nothing_is_an_error_and_keeps_the_old_file(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(FileNotFoundError), write_aside(tmp_path / "a.txt"):
        pass
    assert (tmp_path / "a.txt").read_text() == "old"
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "old").write_text("old")
    with pytest.raises(FileNotFoundError), write_aside(tmp_path / "saved"):
        pass
    assert names_in(tmp_path) == ["a.txt", "saved", "saved/old"]


def test_rows_that_fail_halfway_leave_no_file(tmp_path):
    def rows():
        yield 1, "a"
        raise ValueError("no second row")

    with pytest.raises(ValueError, match="no second row"):
        write_rows(tmp_path / "items.csv", ("n", "x"), rows())
    assert names_in(tmp_path) == []


def test_rows_are_quoted_where_they_must_be(tmp_path):
    write_rows(tmp_path / "items.csv", ("path", "label"), [("a,b.jpg", 'say "é"'), ("c\nd.jpg", "")])
    assert (tmp_path / "items.csv").read_bytes().decode() == 'path,label\r\n"a,b.jpg","say ""é"""\r\n"c\nd.jpg",\r\n'


def test_one_process_at_a_time_and_what_a_killed_one_left_is_deleted(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLDS, tmp_path / "new"], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline()
        (tmp_path / "new" / ".tmp-1-00-model.keras").write_text("half")
        with pytest.raises(InputError, match="another process does"), alone_in(tmp_path / "new"):
            pass
        process.kill()
    with alone_in(tmp_path / "new"):
        assert names_in(tmp_path) == ["new", "new/.lock"]
    with alone_in(tmp_path / "new"):
        pass


def test_a_file_system_without_locks_does_not_end_the_work(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with alone_in(tmp_path / "new"):
        (tmp_path / "new" / "file").write_text("written")
    assert names_in(tmp_path / "new") == ["file"]


def test_a_lock_whose_file_another_process_removed_keeps_nobody_out_of_the_new_one(tmp_path):
    first = Lock(tmp_path, alone=True)
    (tmp_path / ".lock").unlink()
    second = Lock(tmp_path, alone=True)
    with pytest.raises(BlockingIOError):
        Lock(tmp_path, alone=True)
    first.release()
    second.release(remove=True)
    assert names_in(tmp_path) == []


def test_locks_that_are_shared_keep_out_those_that_are_not(tmp_path):
    shared = [Lock(tmp_path, alone=False) for _ in range(2)]
    with pytest.raises(BlockingIOError):
        Lock(tmp_path, alone=True)
    for lock in shared:
        lock.release()
    Lock(tmp_path, alone=True).release()


def test_a_file_never_takes_the_place_of_a_folder(tmp_path):
    """A name such as answers.csv that was a folder was replaced with all that lay in it."""
    (tmp_path / "answers.csv").mkdir()
    (tmp_path / "answers.csv" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"expected a file to write, but '.*answers\.csv' is a folder"):
        write_text(tmp_path / "answers.csv", "x")
    assert (tmp_path / "answers.csv" / "mine.txt").read_text() == "mine" and [path.name for path in tmp_path.iterdir()] == ["answers.csv"]
