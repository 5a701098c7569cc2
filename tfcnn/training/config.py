"""`TrainingConfig`: everything that `train` can be told; command-line flags and the run record come from its fields."""

from dataclasses import dataclass, fields

from tfcnn.data.augment import STRENGTHS
from tfcnn.data.dataset import BALANCES
from tfcnn.errors import InputError, closest
from tfcnn.models.freeze import check_batch_norm

# name: (class of keras.optimizers, its arguments). All decay weights apart from the gradient (Loshchilov & Hutter 2019), so Adam is AdamW with
# a weight_decay of 0 and not a row of its own.
OPTIMIZERS = {
    "adamw": ("AdamW", {}),
    "sgd": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "lion": ("Lion", {}),
}
SCHEDULES = ("cosine", "constant")


@dataclass(frozen=True)
class TrainingConfig:
    """What `train` takes.

    Attributes:
        trainable: what is fine-tuned after the head: False or "none", True or "all", the last n stages, or a stage name.
        epochs: passes over the training photos in fine-tuning.
        batch_size: photos in one step, over all replicas.
        learning_rate: highest rate of the fine-tuned stages.
        head_learning_rate: highest rate of the head in fine-tuning.
        learning_rates: highest rates of single stages and of the head by name, in place of the two above.
        layer_decay: factor of the rate for each stage further from the head, above 0 to 1.
        optimizer: adamw, sgd (with Nesterov momentum 0.9; wants rates about 30 times as high) or lion (about a third).
        schedule: of the rates after the warm-up, cosine (down to 0) or constant.
        warm_up: share of the steps in which the rates rise, from 0 to below 1.
        weight_decay: apart from the gradient, not on biases and BatchNorm.
        clip_norm: largest norm of the gradient of all stages of one rate; 0 for no limit.
        batch_norm: frozen, or train to let BatchNorm of the open stages learn, weights and statistics.
        label_smoothing: share of each target spread over all classes, from 0 to below 1.
        augmentation: none, light, medium or strong, which also mixes photos; the ranges are in `tfcnn.data.augment`.
        mirror: whether augmentation mirrors half of the photos; off where left and right differ, as in text and digits.
        balance: none, class_weight (in the loss) or oversample (photos of small classes are repeated).
        seed: of head, order, augmentation and dropout, and on the command line of the split.
    """

    trainable: bool | int | str = 3
    epochs: int = 15
    batch_size: int = 16
    learning_rate: float = 3e-4
    head_learning_rate: float = 1e-3
    learning_rates: dict[str, float] | None = None
    layer_decay: float = 1.0
    optimizer: str = "adamw"
    schedule: str = "cosine"
    warm_up: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    batch_norm: str = "frozen"
    label_smoothing: float = 0.1
    augmentation: str = "medium"
    mirror: bool = True
    balance: str = "none"
    seed: int = 0


def check_training(config: TrainingConfig) -> None:
    """Raises InputError for a value that `train` could not use."""
    positive = {"epochs": 0, "batch_size": 1}
    for field in fields(config):
        value = getattr(config, field.name)
        if field.name in positive and (not isinstance(value, int) or value < positive[field.name]):
            raise InputError(f"expected a whole number from {positive[field.name]} up, got {field.name}={value}")
        if field.name.endswith("learning_rate") and not 0 < value < 1:
            raise InputError(f"expected a learning rate between 0 and 1, got {field.name}={value}")
    for stage, rate in (config.learning_rates or {}).items():
        if not 0 < rate < 1:
            raise InputError(f"expected learning rates between 0 and 1, got {stage}={rate}")
    if not 0 < config.layer_decay <= 1:
        raise InputError(f"expected a layer decay above 0 to 1, got layer_decay={config.layer_decay}")
    if config.optimizer not in OPTIMIZERS:
        raise InputError(f"expected an optimizer, got optimizer='{config.optimizer}'; {closest(config.optimizer, OPTIMIZERS)}")
    if config.schedule not in SCHEDULES:
        raise InputError(f"expected a schedule of the rates, got schedule='{config.schedule}'; {closest(config.schedule, SCHEDULES)}")
    if not 0 <= config.warm_up < 1:
        raise InputError(f"expected a warm-up from 0 to below 1, got warm_up={config.warm_up}")
    if not 0 <= config.clip_norm < float("inf"):
        raise InputError(f"expected a norm from 0 up, got clip_norm={config.clip_norm}")
    check_batch_norm(config.batch_norm)
    if not 0 <= config.weight_decay < 1:
        raise InputError(f"expected a weight decay from 0 to below 1, got weight_decay={config.weight_decay}")
    if not 0 <= config.label_smoothing < 1:
        raise InputError(f"expected label smoothing from 0 to below 1, got label_smoothing={config.label_smoothing}")
    if config.augmentation not in STRENGTHS:
        raise InputError(f"expected a strength of augmentation, got augmentation='{config.augmentation}'; {closest(config.augmentation, STRENGTHS)}")
    if config.balance not in BALANCES:
        raise InputError(f"expected a way to balance classes, got balance='{config.balance}'; {closest(config.balance, BALANCES)}")
    if not isinstance(config.seed, int) or not 0 <= config.seed < 2**31:
        raise InputError(f"expected a seed from 0 to 2147483647, got seed={config.seed}")
