"""What is said of a fine-tuning while it runs."""

import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tfcnn.training.watch import bound_text, duration, epoch_text, tensorboard_writer

ROW = {"epoch": 3, "loss": 0.5, "accuracy": 0.8, "val_loss": 0.625, "val_accuracy": 0.75, "seconds": 4.0, "rate_head": 1e-3}


def test_an_epoch_is_one_line_with_its_rate_and_the_time_that_is_left():
    assert epoch_text(ROW, epochs=12, photos=400) == "epoch  3 of 12: loss 0.500, validation loss 0.625, accuracy 0.750; 100 photos/s, 36 s left"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (99.4, "99 s"), (600, "10 min"), (5999, "100 min"), (36_000, "10.0 h")])
def test_times_as_people_say_them(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("waited", "measured", "words"), [(0.1, 1.0, "10% of their time: what holds the training up is computing"),
                                                           (0.6, 1.0, "60% of their time: what holds the training up is reading"), (0.0, 0.0, "")])
def test_what_holds_a_training_up_is_said_in_words(waited, measured, words):
    assert words in bound_text(waited, measured) and (words or not bound_text(waited, measured))


def test_logs_for_tensorboard_have_the_numbers_of_the_history(tmp_path):
    write = tensorboard_writer(tmp_path)
    for epoch in (1, 2):
        write({**ROW, "epoch": epoch, "val_loss": 0.625 / epoch})
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    events.Reload()
    assert set(events.Tags()["tensors"]) == {"training/loss", "training/accuracy", "training/seconds", "validation/loss", "validation/accuracy", "rate/head"}
    losses = events.Tensors("validation/loss")
    assert [event.step for event in losses] == [1, 2]
    assert [float(tf.make_ndarray(event.tensor_proto)) for event in losses] == [0.625, 0.3125]
