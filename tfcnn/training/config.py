"""`TrainingConfig`: everything that `train` can be told; command-line flags and the run record come from its fields."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from tfcnn.data.augment import STRENGTHS
from tfcnn.data.dataset import BALANCES
from tfcnn.errors import InputError, closest
from tfcnn.kinds import IMAGE, KINDS
from tfcnn.models.freeze import BATCH_NORMS

# name: (class of keras.optimizers, its arguments). Weight decay of all is apart from the gradient (Loshchilov & Hutter 2019, algorithm 2).
OPTIMIZERS = {
    "adamw": ("AdamW", {}),
    "adam": ("Adam", {}),
    "sgd": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "lion": ("Lion", {}),
}
SCHEDULES = ("cosine", "constant", "plateau")
CHOSEN_BY_MACHINE = ("mixed_precision", "xla")  # where they are left open


@dataclass(frozen=True)
class TrainingConfig:
    """What `train` takes; None leaves a value to the rule in `tfcnn.training.rule`, which knows the data and the backbone.

    What a search tries of a field stands in its metadata, as in `ModelConfig`; rates are those of adamw there, see `tfcnn.search.space`.

    Attributes:
        trainable: what is fine-tuned after the head: False or "none", True or "all", the last n stages, or a stage name.
        gradual: epochs after which one more stage is opened, the last one first; 0 opens all at once.
        epochs: passes over the training photos in fine-tuning.
        batch_size: photos in one step, over all replicas.
        learning_rate: highest rate of the fine-tuned stages.
        head_learning_rate: highest rate of the head in fine-tuning.
        logistic_c: inverse strength of the L2 penalty on a head without hidden layers when it is found on cached features, as
            scikit-learn's C for standardised features.
        head_epochs: passes over the cached features for a head with hidden layers.
        head_first: whether the head is found on cached features before the stages open; without it the whole network learns from the first
            step, and is kept. Left out, it is for photos and not for series.
        learning_rates: highest rates of single stages and of the head by name, in place of the two above.
        rate_batch: the batch size that the rates are meant for; they are scaled from it to batch_size, in proportion for sgd, with the
            square root of it for the others. 0 leaves them as they are.
        layer_decay: factor of the rate for each stage further from the head, above 0 to 1.
        optimizer: adamw, adam, sgd (with Nesterov momentum 0.9) or lion.
        schedule: of the rates after the warm-up: cosine (down to 0), constant, or plateau (lower when validation stands still).
        warm_up: share of the steps in which the rates rise, from 0 to below 1.
        weight_decay: apart from the gradient, not on biases and BatchNorm; 0 for none.
        clip_norm: largest norm of the gradient of all stages of one rate; 0 for no limit.
        ema: share of the old value in a running average of the weights, taken while all stages are open, which is what is
            validated and kept; 0 for no average.
        patience: epochs without a lower validation loss, once all stages are open, after which the best epoch is kept; 0 trains to the end.
        batch_norm: frozen, or train to let BatchNorm of the open stages learn, weights and statistics; left out, frozen where weights are pretrained.
        label_smoothing: share of each target spread over all classes, from 0 to below 1.
        augmentation: none, light, medium or strong, which also mixes photos; the ranges are in `tfcnn.data.augment`.
        mixing: share of the photos that MixUp or CutMix mixes with another one, 0 to 1; left out, that of the augmentation.
        mirror: whether augmentation mirrors half of the photos; off where left and right differ, as in text and digits.
        balance: none, class_weight (in the loss) or oversample (photos of small classes are repeated).
        mixed_precision: computes in 16 bits and keeps weights in 32; left out, where the hardware has units that make it faster.
        xla: compiles steps by XLA; left out, on one GPU.
        seed: of head, order, augmentation and dropout, and on the command line of the split.
    """

    trainable: bool | int | str | None = field(default=None, metadata={"level": "fine"})
    gradual: int = 0
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = field(default=None, metadata={"low": 3e-5, "high": 3e-3, "scale": "log", "level": "fine"})
    head_learning_rate: float | None = field(default=None, metadata={"low": 3e-4, "high": 1e-2, "scale": "log", "level": "both"})
    # Between 0.01 and 0.1 the cross-validated accuracy on the training photos is flat (trashnet600: 0.736 to 0.748, flowers128: 0.671 to 0.662).
    logistic_c: float = field(default=0.03, metadata={"low": 1e-3, "high": 1.0, "scale": "log", "level": "head"})
    head_epochs: int = 60
    head_first: bool | None = None
    learning_rates: dict[str, float] | None = None
    rate_batch: int = 0
    layer_decay: float = field(default=1.0, metadata={"low": 0.5, "high": 1.0, "scale": "linear", "level": "fine"})
    optimizer: str = field(default="adamw", metadata={"choices": ("adamw", "sgd", "lion"), "level": "both"})
    schedule: str = "cosine"
    warm_up: float = 0.1
    weight_decay: float = field(default=0.0, metadata={"low": 1e-5, "high": 0.1, "scale": "log", "level": "both"})
    clip_norm: float = 1.0
    ema: float = 0.0
    patience: int = 0
    batch_norm: str | None = None
    label_smoothing: float = field(default=0.1, metadata={"low": 0.0, "high": 0.2, "scale": "linear", "level": "both"})
    augmentation: str | None = field(default=None, metadata={"choices": ("light", "medium", "strong"), "level": "fine"})
    mixing: float | None = field(default=None, metadata={"low": 0.0, "high": 0.8, "scale": "linear", "level": "fine"})
    mirror: bool = True
    balance: str = "none"
    mixed_precision: bool | None = None
    xla: bool | None = None
    seed: int = 0


if TYPE_CHECKING:
    @dataclass(frozen=True)
    class Filled(TrainingConfig):
        """A configuration of which the rule has left nothing open; for type checkers alone, since it is a `TrainingConfig` like any other."""

        trainable: bool | int | str = False
        epochs: int = 0
        batch_size: int = 1
        learning_rate: float = 0.0
        head_learning_rate: float = 0.0
        batch_norm: str = ""
        augmentation: str = ""
        head_first: bool = True
else:
    Filled = TrainingConfig


def check_training(config: TrainingConfig) -> None:
    """Raises InputError for a value that `train` could not use."""
    if not isinstance(config, TrainingConfig):
        raise InputError(f"expected a TrainingConfig, got config={config!r}; write TrainingConfig(epochs=10)")
    for row in fields(config):
        value = getattr(config, row.name)
        if row.name in _RANGES and not (value is None and row.default is None):
            expected, fits = _RANGES[row.name]
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not fits(value):
                raise InputError(f"expected {expected}, got {row.name}={value}")
        if row.name in _CHOICES and not (value is None and row.default is None):
            what, choices = _CHOICES[row.name]
            if not isinstance(value, str) or value not in choices:
                raise InputError(f"expected {what}, got {row.name}='{value}'; {closest(str(value), choices)}")
        if (isinstance(row.default, bool) or row.name in (*CHOSEN_BY_MACHINE, "head_first")) and not isinstance(value, bool) and value is not row.default:
            raise InputError(f"expected True or False, got {row.name}={value!r}")
    if config.learning_rates is not None and not isinstance(config.learning_rates, Mapping):
        raise InputError(f"expected rates by stage, as in {{'conv5': 1e-5, 'head': 1e-3}}, got learning_rates={config.learning_rates!r}")
    for stage, rate in (config.learning_rates or {}).items():
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < 1:
            raise InputError(f"expected learning rates between 0 and 1, got {stage}={rate}")


def check_augmentation(config: TrainingConfig, kind: str) -> None:
    """Raises InputError where photos alone are mixed, or augmented, and the data are of another kind."""
    if (not KINDS[kind].augments and config.augmentation not in (None, "none")) or (kind != IMAGE and config.mixing):
        what, given = ("mixing", f"mixing={config.mixing}") if config.mixing else ("augmentation", f"augmentation='{config.augmentation}'")
        raise InputError(f"expected no {what} for {KINDS[kind].many}, got {given}; leave it out")


_whole = lambda least: lambda value: isinstance(value, int) and value >= least
_RATE: tuple[str, Callable[[Any], bool]] = ("a learning rate between 0 and 1", lambda value: 0 < value < 1)
_SHARE: Callable[[Any], bool] = lambda value: 0 <= value < 1

# field: (what is expected, whether a number is that); and field: (what is expected, the choices)
_RANGES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "gradual": ("a whole number of epochs from 0 up", _whole(0)),
    "epochs": ("a whole number from 0 up", _whole(0)),
    "batch_size": ("a whole number from 1 up", _whole(1)),
    "head_epochs": ("a whole number from 1 up", _whole(1)),
    "learning_rate": _RATE,
    "head_learning_rate": _RATE,
    "logistic_c": ("an inverse strength of the penalty above 0", lambda value: 0 < value < float("inf")),
    "rate_batch": ("a batch size as a whole number from 1 up, or 0", _whole(0)),
    "layer_decay": ("a layer decay above 0 to 1", lambda value: 0 < value <= 1),
    "warm_up": ("a warm-up from 0 to below 1", _SHARE),
    "weight_decay": ("a weight decay from 0 to below 1", _SHARE),
    "clip_norm": ("a norm from 0 up", lambda value: 0 <= value < float("inf")),
    "ema": ("a share of the average from 0 to below 1", _SHARE),
    "patience": ("a whole number of epochs from 0 up", _whole(0)),
    "label_smoothing": ("label smoothing from 0 to below 1", _SHARE),
    "mixing": ("a share of mixed photos from 0 to 1", lambda value: 0 <= value <= 1),
    "seed": ("a seed from 0 to 2147483647", lambda value: isinstance(value, int) and 0 <= value < 2**31),
}
_CHOICES = {
    "optimizer": ("an optimizer", OPTIMIZERS),
    "schedule": ("a schedule of the rates", SCHEDULES),
    "batch_norm": ("batch_norm frozen or train", BATCH_NORMS),
    "augmentation": ("a strength of augmentation", STRENGTHS),
    "balance": ("a way to balance classes", BALANCES),
}
