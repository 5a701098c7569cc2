"""What is said of a fine-tuning while it runs, and of what held it up."""

from collections.abc import Callable, Mapping
from pathlib import Path

INPUT_BOUND = 0.2  # share of a step spent on waiting for photos, from which on reading them is what holds a training up


def epoch_text(row: Mapping[str, float], *, epochs: int, photos: int, share: float = 1.0) -> str:
    """One line of a log for a row of the history, with the rate and the time that is left.

    Args:
        row: of the history.
        epochs: how many there will be at most.
        photos: that its seconds were for.
        share: of an epoch that these are, less than 1 where a training went on in the middle.
    """
    left = (epochs - row["epoch"]) * row["seconds"] / share
    return (f"epoch {row['epoch']:>{len(str(epochs))}} of {epochs}: loss {row['loss']:.3f}, validation loss {row['val_loss']:.3f}, "
            f"accuracy {row['val_accuracy']:.3f}; {photos / max(row['seconds'], 1e-3):.0f} photos/s, {duration(left)} left")


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def bound_text(waited: float, measured: float) -> str:
    """In words what held a training up; times in seconds, of the steps in which it was measured. Empty where none was."""
    if not measured:
        return ""
    share = waited / measured
    if share < INPUT_BOUND:
        return f"steps waited for photos {share:.0%} of their time: what holds the training up is computing"
    return (f"steps waited for photos {share:.0%} of their time: what holds the training up is reading and augmenting them; "
            "more processor cores, a faster disk for the cache (TFCNN_CACHE) or a lighter --augmentation help")


def tensorboard_writer(folder: Path) -> Callable[[Mapping[str, float]], None]:
    """A function that logs a row of the history, by epoch; `tensorboard --logdir` shows the folder.

    Not Keras's callback, which asks the optimizer for one learning rate; here each stage has its own.
    """
    import tensorflow as tf

    writer = tf.summary.create_file_writer(str(folder))

    def write(row: Mapping[str, float]) -> None:
        with writer.as_default():
            for name, value in row.items():
                if name != "epoch":
                    group = "rate/" + name.removeprefix("rate_") if name.startswith("rate_") else "validation/" + name[4:] if name.startswith("val_") \
                        else f"training/{name}"
                    tf.summary.scalar(group, value, step=int(row["epoch"]))
        writer.flush()

    return write
