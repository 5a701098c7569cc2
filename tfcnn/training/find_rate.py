"""`find_learning_rate`: a learning-rate range test."""

import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfcnn.data.dataset import Dataset, examples_per_epoch
from tfcnn.errors import InputError, WorkError
from tfcnn.files import write_aside
from tfcnn.models.freeze import open_stages, opens_stages, set_flags, stages_of
from tfcnn.progress import stage
from tfcnn.training.config import Filled, TrainingConfig
from tfcnn.training.features import cached_features
from tfcnn.training.fine_tune import photos_of
from tfcnn.training.head import seed_dropout, train_head
from tfcnn.training.optimizers import scale_rates, stage_optimizer, stage_rates
from tfcnn.training.train import checked_config
from tfcnn.training.twin import make_twin

if TYPE_CHECKING:
    import keras

LOWEST, HIGHEST = 1e-6, 1.0  # rates of the backbone between which the test rises
FEWEST_STEPS = 20
SMOOTHING = 0.9  # share of the old value in the running mean that ends the test: about ten steps
WINDOW = 5  # steps before and after one that its smoothed loss is the median of
PICTURES = (".png", ".svg", ".pdf", ".jpg")
DIVERGED = 2.0  # times the lowest smoothed loss, beyond which the test ends
BROKEN = 1.5  # times the lowest smoothed loss, which is more than batches of 16 differ by; the highest rate that stays below is the edge
SAFETY = 4  # the suggestion is the edge divided by this, since a training stays at its rate and the test only passes by

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RateRange:
    """What a range test saw.

    Attributes:
        rates: the highest rate among the fine-tuned stages at each step, rising.
        losses: training loss of each step.
        smoothed: median of the losses of the steps around each step.
        edge: the highest rate at which the smoothed loss was below 1.5 times its lowest.
        suggestion: of that rate: a quarter of the edge.
        learning_rate, head_learning_rate, learning_rates: the fields of `TrainingConfig` in the proportion that was tested, so
            that the highest rate of a stage is the suggestion; none above 0.25.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    edge: float
    suggestion: float
    learning_rate: float
    head_learning_rate: float
    learning_rates: dict[str, float] | None = None

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        rise = f"it rises beyond a rate of {self.edge:.1e}" if self.edge < self.rates[-1] else f"it does not rise up to a rate of {self.edge:.1e}"
        of_stages = f" --learning-rates {' '.join(f'{stage}={rate:.1e}' for stage, rate in self.learning_rates.items())}" if self.learning_rates else ""
        return (f"smoothed loss {self.smoothed[0]:.3f} at first, {min(self.smoothed):.3f} at the lowest; {rise}\n"
                f"suggested: --learning-rate {self.learning_rate:.1e} --head-learning-rate {self.head_learning_rate:.1e}{of_stages}")

    def plot(self, path: str | Path) -> None:
        """Writes a picture: loss against rate, with the suggestion; the ending of `path` says which of `PICTURES` it is."""
        check_picture(path)
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        axes.plot(self.rates, self.losses, color="0.8", linewidth=1, label="loss of a step")
        axes.plot(self.rates, self.smoothed, color="C0", linewidth=2, label="smoothed")
        axes.axvline(self.suggestion, color="C3", linestyle="--", label=f"suggestion {self.suggestion:.1e}")
        highest = min(4 * min(self.smoothed), 1.1 * max(self.losses))  # where it breaks the loss may be a thousand
        axes.set(xscale="log", xlabel="highest learning rate of the fine-tuned stages", ylabel="training loss", ylim=(0, highest))
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        with write_aside(Path(path)) as aside:
            figure.savefig(aside, dpi=120, format=Path(path).suffix.lstrip(".").lower())


def find_learning_rate(model: "keras.Model", data: Dataset, config: TrainingConfig | None = None, *, steps: int = 100) -> RateRange:
    """Trains a twin of the model for some steps at rates that rise from 1e-6 to 1, and suggests highest rates.

    The head is found on cached features first, as `train` does. Then all groups rise together, in the proportion of their rates in
    the configuration, until the loss is twice the lowest. The head is solved already, so the loss hardly falls and what the test
    shows is the edge beyond which training breaks; the suggestion is a quarter of it. It is a bound, not a measurement of accuracy.

    Args:
        model: from `build_classifier`; it stays as it is.
        data: as for `train`.
        config: as for `train`; the defaults if None.
        steps: batches at most, from 20 up.

    Raises:
        InputError: as for `train`; nothing to fine-tune; fewer than 20 steps.
        WorkError: the loss is not a number from the first steps on.

    Source: Smith 2017, "Cyclical Learning Rates for Training Neural Networks", section 3.3, with the upper bound where the loss
        begins to rise.
    """
    check_steps(steps)
    filled = checked_config(model, data, config or TrainingConfig())
    from tfcnn.models.vary import set_strength
    from tfcnn.training.learner import make_learner

    if not opens_stages(filled.trainable):
        raise InputError(f"expected stages to fine-tune, got trainable={filled.trainable}; the head alone is solved and needs no rate")
    rows = data.rows("train")
    twin = make_twin(model)
    seed_dropout(twin, filled.seed)
    train_head(twin, cached_features(model, data, rows)[:], data.targets(rows), filled)
    learner = make_learner(twin, mixed=bool(filled.mixed_precision))
    set_strength(learner, filled.augmentation)
    stages = [name for name, _ in stages_of(learner)]
    rates = stage_rates(stages, filled)
    highest = max(rates[stage] for stage in open_stages(stages, filled.trainable))
    return _result(*_sweep(learner, data, filled, model.distribute_strategy, steps, highest), filled, highest)


def check_steps(steps: int) -> None:
    """Raises InputError for a number of steps that shows nothing."""
    if not isinstance(steps, int) or steps < FEWEST_STEPS:
        raise InputError(f"expected at least {FEWEST_STEPS} steps for a range test, got steps={steps}")


def check_picture(path: str | Path) -> None:
    """Raises InputError for a picture that `RateRange.plot` cannot write."""
    if Path(path).suffix.lower() not in PICTURES:
        raise InputError(f"expected a picture that ends in {', '.join(PICTURES)}, got '{path}'")


def _sweep(learner, data: Dataset, config: Filled, strategy, steps: int, highest: float) -> tuple[list[float], list[float]]:
    """(rates, losses) of the steps that were done; the stage whose rate is `highest` in the configuration has these rates."""
    import keras

    rates = np.geomspace(LOWEST, HIGHEST, steps)
    losses: list[float] = []

    def begin(step, logs=None):
        learner.reset_metrics()  # Keras gives the mean over the steps since
        scale_rates(members, rates[len(losses)] / highest)

    def end(step, logs):
        losses.append(float(np.mean(logs["loss"])))
        advance()
        smoothed = _smooth(losses)
        learner.stop_training = not np.isfinite(losses[-1]) or smoothed[-1] > DIVERGED * min(smoothed)

    epochs = -(-steps * config.batch_size // examples_per_epoch(data, config.balance)) + 1
    with strategy.scope(), stage("learning-rate range test", steps) as advance:
        set_flags(learner, config.trainable, batch_norm=config.batch_norm)
        optimizer, members = stage_optimizer(learner, replace(config, schedule="constant", warm_up=0.0), steps)
        learner.compile_for(optimizer, label_smoothing=config.label_smoothing, xla=config.xla)
        learner.fit(photos_of(data, config, strategy, end=epochs), steps_per_epoch=steps, epochs=1, shuffle=False, verbose=0,
                    callbacks=[keras.callbacks.LambdaCallback(on_train_batch_begin=begin, on_train_batch_end=end)])
    return rates[:len(losses)].tolist(), losses


def _smooth(losses: list[float]) -> list[float]:
    """Running means of past losses, divided by the sum of their weights so that the first ones are not drawn to 0."""
    mean, smoothed = 0.0, []
    for number, loss in enumerate(losses, start=1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        smoothed.append(mean / (1 - SMOOTHING**number))
    return smoothed


def _centred(losses: list[float]) -> list[float]:
    """Medians over the steps before and after: they do not lag behind the rate, and one bad batch does not move them."""
    return [float(np.median(losses[max(0, step - WINDOW):step + WINDOW + 1])) for step in range(len(losses))]


def _result(rates: list[float], losses: list[float], config: Filled, highest: float) -> RateRange:
    finite = len(losses) if np.isfinite(losses).all() else int(np.argmin(np.isfinite(losses)))
    if finite < 2:
        raise WorkError("expected a finite loss at the lowest rates, got NaN or infinity in the first steps; are the pixels 0-255 and the weights finite?")
    rates, losses = rates[:finite], losses[:finite]
    smoothed = _centred(losses)
    edge = rates[int(np.flatnonzero(np.array(smoothed) <= BROKEN * min(smoothed))[-1])]
    suggestion = edge / SAFETY
    scaled = lambda rate: min(rate * suggestion / highest, HIGHEST / SAFETY)
    of_stages = {stage: scaled(rate) for stage, rate in config.learning_rates.items()} if config.learning_rates else None
    return RateRange(tuple(rates), tuple(losses), tuple(smoothed), edge, suggestion, scaled(config.learning_rate), scaled(config.head_learning_rate), of_stages)
