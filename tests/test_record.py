"""Run folders: read back as they were written, and never written over by mistake."""

import json

import pytest
from conftest import names_in

from tfcnn.errors import InputError
from tfcnn.record import Run, load_run, prepare_output, write_record

RECORD = b'{"format": 1, "labels": ["a"], "status": "trained", "geometry": "stretch"'
WHOLE = RECORD + b', "input_shape": [8, 8, 3]'


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
