"""Run folders: written whole or not at all, read back, and never written over by mistake."""

import errno
import fcntl
import json
import subprocess
import sys

import pytest

from tfcnn.errors import InputError
from tfcnn.locks import Lock
from tfcnn.record import Run, alone_in, load_run, name_aside, prepare_output, publish, write_aside, write_record, write_rows, write_text


def names_in(folder):
    """Everything below a folder, hidden files too."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


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


def test_a_record_comes_back_as_it_was_written(tmp_path):
    record = {"labels": ["Käse", "日本"], "status": "trained", "geometry": "stretch", "input_shape": [8, 8, 3],
              "validation": {"accuracy": 1 / 3, "n": 9}, "kept": None}
    written = write_record(tmp_path / "run", record)
    read = load_run(str(tmp_path / "run"))
    assert read == written and read.path == tmp_path / "run"
    assert read.record == {"format": 1, **record}
    assert read.labels == ["Käse", "日本"]
    assert "Käse" in (tmp_path / "run" / "run.json").read_text(encoding="utf-8")


def test_a_record_can_be_written_again(tmp_path):
    started = write_record(tmp_path, {"labels": ["a"], "status": "started", "geometry": "stretch", "input_shape": [8, 8, 3]})
    write_record(tmp_path, {**started.record, "status": "trained"})
    assert load_run(tmp_path).record == {"format": 1, "labels": ["a"], "status": "trained", "geometry": "stretch", "input_shape": [8, 8, 3]}


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(InputError, match="there is no folder"):
        load_run(tmp_path / "missing")
    with pytest.raises(InputError, match=r"has no run\.json"):
        load_run(tmp_path)
    (tmp_path / "model.keras").write_bytes(b"x")
    with pytest.raises(InputError, match="is a file; give its folder"):
        load_run(tmp_path / "model.keras")


RECORD = b'{"format": 1, "labels": ["a"], "status": "trained", "geometry": "stretch"'
WHOLE = RECORD + b', "input_shape": [8, 8, 3]'


@pytest.mark.parametrize("content", [
    b"", b'{"labels": ["a"], "status"', b"[]", b"null", b"3", b'{"labels": ["a"]}', b'{"status": "trained"}', b"\xff\xfe\x00", b'"text"',
    RECORD + b"}", RECORD + b', "input_shape": [8]}', RECORD + b', "input_shape": [8, 8, "3"]}', RECORD + b', "input_shape": 8}',
    *(WHOLE + damage for damage in (b', "exports": [3]}', b', "exports": null}', b', "data": null}', b', "data": {"source": 7}}', b', "model": "vgg16"}',
                                    b', "temperature": "x"}',
                                    b', "temperature": 0}', b', "labels": null}', b', "labels": "ab"}', b', "labels": [1]}', b', "geometry": []}'))])
def test_a_damaged_record_is_one_line(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(InputError, match="damaged") as caught:
        load_run(tmp_path)
    assert "\n" not in str(caught.value) and "run.json" in str(caught.value) and "--overwrite" in str(caught.value)


def test_a_value_that_was_removed_from_a_record_is_named_where_it_is_missed(tmp_path):
    (tmp_path / "run.json").write_bytes(WHOLE + b', "data": {"source": "photos"}}')
    record = load_run(tmp_path).record
    assert record.get("training") is None and record["data"]["source"] == "photos"
    for read in (lambda: record["training"], lambda: record["data"]["splits"]):
        with pytest.raises(InputError, match=r"^expected a run record in '.*run\.json', but it is damaged \('(training|splits)' is missing\)"):
            read()


def test_a_record_of_a_later_format_is_not_misread(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"format": 2, "labels": ["a"], "status": "trained"}))
    with pytest.raises(InputError, match="format"):
        load_run(tmp_path)


def test_a_new_folder_is_tried_and_nothing_is_left_in_its_place(tmp_path):
    assert prepare_output(tmp_path / "saved_models" / "flowers") is None
    assert names_in(tmp_path) == ["saved_models"]
    assert prepare_output(tmp_path / "saved_models" / "flowers", resume=True) is None  # nothing to go on with
    assert prepare_output(str(tmp_path / "saved_models" / "flowers"), overwrite=True) is None
    assert names_in(tmp_path) == ["saved_models"]


def test_what_a_killed_process_left_does_not_take_the_folder(tmp_path):
    (tmp_path / ".tmp-123-run.json").write_text("{")
    assert prepare_output(tmp_path) is None


HOLDS = "import sys, time; from pathlib import Path; from tfcnn.record import alone_in\nwith alone_in(Path(sys.argv[1])): print(1, flush=True); time.sleep(60)"


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


def test_an_existing_run_is_kept_unless_asked(tmp_path):
    written = write_record(tmp_path, {"labels": ["a"], "status": "started", "geometry": "stretch", "input_shape": [8, 8, 3]})
    with pytest.raises(InputError, match=r"holds a run already.*--resume.*--overwrite"):
        prepare_output(tmp_path)
    assert prepare_output(tmp_path, resume=True) == written
    assert prepare_output(tmp_path, overwrite=True) is None
    assert load_run(tmp_path) == written  # to prepare is not yet to replace
    assert names_in(tmp_path) == ["run.json"]


def test_a_damaged_run_can_be_overwritten_but_not_resumed(tmp_path):
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        prepare_output(tmp_path, resume=True)
    assert prepare_output(tmp_path, overwrite=True) is None


def test_overwrite_and_resume_exclude_each_other(tmp_path):
    with pytest.raises(InputError, match="got both"):
        prepare_output(tmp_path / "new", overwrite=True, resume=True)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("flags", [{}, {"overwrite": True}, {"resume": True}])
def test_foreign_files_are_never_replaced(tmp_path, flags):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="not a run"):
        prepare_output(tmp_path, **flags)
    assert (tmp_path / "thesis.txt").read_text() == "years of work" and names_in(tmp_path) == ["thesis.txt"]


@pytest.mark.parametrize("below", [".", "run", "deep/run"])
def test_a_file_in_the_way_of_the_folder_is_named(tmp_path, below):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(InputError, match="taken") as caught:
        prepare_output(tmp_path / "taken" / below, overwrite=True)
    assert "another --output" in str(caught.value) and "\n" not in str(caught.value)
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_name_that_the_file_system_does_not_take_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="another --output"):
        prepare_output(tmp_path / ("n" * 300))


def test_a_run_without_a_model_says_that_it_is_unfinished(tmp_path):
    run = write_record(tmp_path, {"labels": ["a", "b"], "status": "started", "geometry": "stretch", "input_shape": [8, 8, 3]})
    with pytest.raises(InputError, match=r"not completed.*--resume"):
        run.load_model()


def test_a_finished_run_whose_model_is_gone_is_not_called_unfinished(tmp_path):
    run = write_record(tmp_path, {"labels": ["a", "b"], "status": "finished", "geometry": "stretch", "input_shape": [8, 8, 3]})
    with pytest.raises(InputError, match=r"is gone; put it back"):
        run.load_model()


def test_a_truncated_model_is_an_input_error_and_a_whole_one_loads(tmp_path):
    import keras
    import numpy as np

    run = Run(tmp_path, {"labels": ["a", "b"], "status": "trained", "input_shape": [3]})
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.save(tmp_path / "model.keras")
    ones = np.ones((1, 3), np.float32)
    np.testing.assert_allclose(run.load_model()(ones), model(ones), rtol=1e-6)
    whole = (tmp_path / "model.keras").read_bytes()
    for size in (0, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "model.keras").write_bytes(whole[:size])
        with pytest.raises(InputError, match="damaged") as caught:
            run.load_model()
        assert "\n" not in str(caught.value) and "model.keras" in str(caught.value)


def test_labels_that_are_not_those_of_the_run_are_refused_before_the_model_is_read(tmp_path):
    run = write_record(tmp_path, {"labels": ["a", "b"], "status": "trained", "geometry": "stretch", "input_shape": [8, 8, 3]})
    (tmp_path / "model.keras").write_bytes(b"")
    (tmp_path / "labels.txt").write_text("b\na\n")
    with pytest.raises(InputError, match=r"expected the labels of the run in '.*labels\.txt', a, b, one a line, but it says others; put them back"):
        run.load_model()


def test_a_file_never_takes_the_place_of_a_folder(tmp_path):
    """A name such as answers.csv that was a folder was replaced with all that lay in it."""
    (tmp_path / "answers.csv").mkdir()
    (tmp_path / "answers.csv" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"expected a file to write, but '.*answers\.csv' is a folder"):
        write_text(tmp_path / "answers.csv", "x")
    assert (tmp_path / "answers.csv" / "mine.txt").read_text() == "mine" and [path.name for path in tmp_path.iterdir()] == ["answers.csv"]
