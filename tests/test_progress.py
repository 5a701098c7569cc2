"""Stages: what is shown, and how long each took."""

import io
import logging
import sys

import pytest

from tfcnn import progress
from tfcnn.progress import stage


def test_seconds_add_up_under_the_name_of_the_stage(caplog):
    seconds = {}
    with caplog.at_level(logging.INFO, logger="tfcnn.progress"):
        for _ in range(2):
            with stage("work", 3, seconds) as advance:
                advance()
    assert list(seconds) == ["work"] and seconds["work"] >= 0


def test_a_stage_that_fails_is_not_called_done(monkeypatch):
    seconds = {}
    with pytest.raises(ValueError, match="broken"), stage("work", seconds=seconds):
        raise ValueError("broken")
    assert seconds == {}


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
