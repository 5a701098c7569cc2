"""Stages: what is shown, and how long each took."""

import io
import logging
import sys

import pytest

from tfcnn import progress
from tfcnn.progress import stage


def test_seconds_add_up_under_the_name_of_the_stage(monkeypatch, caplog):
    now = iter([0.0, 2.0, 10.0, 13.0])
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(now))
    seconds = {}
    with caplog.at_level(logging.INFO, logger="tfcnn.progress"):
        for _ in range(2):
            with stage("work", 3, seconds) as advance:
                advance()
    assert seconds == {"work": 5.0}


def test_a_stage_that_fails_is_not_called_done(monkeypatch):
    seconds = {}
    with pytest.raises(ValueError, match="broken"), stage("work", seconds=seconds):
        raise ValueError("broken")
    assert seconds == {}


def test_a_log_hears_now_and_then_how_far_a_long_stage_is(monkeypatch, caplog):
    now = iter([0.0, 10.0, 30.0, 40.0, 60.0, 70.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    with caplog.at_level(logging.INFO, logger="tfcnn.progress"), stage("work", 5) as advance:
        advance(0)
        for number in range(4):
            advance(1, f"best {number}")
    assert [line for line in caplog.messages if "left" in line] == ["work: 1 of 5, about 120 s left; best 0", "work: 3 of 5, about 40 s left; best 2"]


def test_what_was_done_before_an_interruption_does_not_count_for_the_time_that_is_left(monkeypatch, caplog):
    now = iter([0.0, 25.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    with caplog.at_level(logging.INFO, logger="tfcnn.progress"), stage("work", 30, done=20) as advance:
        advance()
    assert "work: 21 of 30, about 225 s left" in caplog.messages


def test_a_stage_within_a_stage_shares_the_display_of_the_terminal(monkeypatch):
    monkeypatch.setattr(progress, "_is_interactive", lambda: True)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with stage("outer"):
        display = progress._Bar._display
        with stage("inner", 2) as advance:
            advance(1, "half")
            assert progress._Bar._display is display
            assert [task.description for task in display.tasks] == ["outer", "inner"]
            assert (display.tasks[1].completed, display.tasks[1].fields["note"]) == (1, "half")
        assert [task.description for task in display.tasks] == ["outer"]
    assert progress._Bar._display is None


def test_a_notebook_gets_one_line_for_a_long_stage_and_none_for_a_short_one(monkeypatch):
    import IPython.display

    class Handle:
        def update(self, content, *, raw):
            said.append(("update", content["text/plain"]))

    def display(content, *, raw, display_id):
        said.append(("display", content["text/plain"]))
        return Handle()

    said, now = [], iter([0.0, 2.0, 4.0, 4.5, 6.0, 8.0, 0.0, 1.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(IPython.display, "display", display)
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    with stage("fine-tune", 4) as advance:
        for number in range(4):
            advance(1, f"epoch {number}")
    assert said == [("display", "fine-tune: 50% epoch 1"), ("update", "fine-tune: 100% epoch 3"), ("update", "fine-tune: 8.0 s")]
    with stage("decode", 1) as advance:
        advance()
    assert len(said) == 3
    monkeypatch.setattr(progress.time, "monotonic", iter([0.0, 9.0, 10.0]).__next__)
    with pytest.raises(ValueError), stage("evaluate", 2) as advance:
        advance()
        raise ValueError
    assert said[3:] == [("display", "evaluate: 50%")]  # and no time that it took
