"""The rule: what `TrainingConfig` leaves open, from the size of the data and the kind of backbone.

In the spirit of the hyper-rule of Kolesnikov et al. 2020, "Big Transfer (BiT)", section 3.3: few numbers, each with its reason, in
one place. "Measured" means `benchmarks/ablation.py`, whose table is in docs/training.md.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from tfcnn.kinds import IMAGE, KINDS, Kind
from tfcnn.training.config import Filled, TrainingConfig

# Below this many training photos half of the stages are opened: lower layers are general (Yosinski et al. 2014, section 4), and a step
# is cheaper; measured on 360 photos, all stages gave no clear gain, and the last one alone was worse. From here on everything is
# fine-tuned, as BiT does. A network without pretrained weights has nothing to keep.
PHOTOS_FOR_ALL = 5_000
# BiT mixes photos from 20 000 on; "strong" augmentation mixes, the weaker ones do not.
PHOTOS_FOR_STRONG = 20_000
# Small batches while photos are few: an epoch of 420 has 27 steps of 16.
PHOTOS_FOR_LARGE_BATCH, SMALL_BATCH, LARGE_BATCH = 2_000, 16, 32
# Steps have to grow with the data, but slower: BiT gives 20 000 photos as many steps as 20. The cube root lies between a fixed number of
# epochs and of steps; it is a choice, as is the size of the batch.
EPOCHS, EPOCHS_AT, FEWEST, MOST = 15, 420, 3, 30
# AdamW, highest rates. For pretrained networks without BatchNorm, Liu et al. 2022, "A ConvNet for the 2020s", table 6, fine-tune
# ConvNeXt at 5e-5; not measured here for want of such weights.
RATE, RATE_WITHOUT_BATCH_NORM, HEAD_RATE = 3e-4, 5e-5, 1e-3
# What a rate of AdamW is for another optimizer: Lion takes 3 to 10 times lower ones (Chen et al. 2023, section 5). The factor of SGD is
# that of gradients whose norm is clipped to 1; a rough guide.
FACTORS = {"adamw": 1.0, "adam": 1.0, "sgd": 30.0, "lion": 1 / 3}
# Networks of other kinds of data learn from random weights, by a fixed number of steps: archives have from tens to thousands of series, and Wang et al. 2017,
# section III.B, give all 1500 to 2000 epochs, which for the small ones is as many passes over hardly anything. The rate is theirs, but for sound, where
# the validation accuracy of as many steps rose with it (1e-3, 3e-3, 1e-2). What a network of one's own takes is not known.
# Texts overfit sooner: they have fewer epochs at least (`tfcnn.kinds`).
STEPS_FROM_SCRATCH, RATE_OF_OWN = 1_500, 1e-3
STEPS_OF_A_GRAPH = 200  # each with all training nodes: Kipf & Welling 2017, section 5.2
FIELDS = ("trainable", "epochs", "batch_size", "learning_rate", "head_learning_rate", "augmentation", "head_first", "batch_norm")  # of TrainingConfig


def complete(config: TrainingConfig, *, photos: int, stages: Sequence[str], batch_norm: bool = True, pretrained: bool = True,
             kind: str = IMAGE, scratch: bool = False, own: bool = False, whole: bool = False) -> Filled:
    """The configuration with every value that was left open filled in.

    Args:
        config: values that are set stay.
        photos: number of training photos.
        stages: names of the backbone's stages from input to output.
        batch_norm: whether the backbone has BatchNorm layers.
        pretrained: False for random weights.
        kind: of the data, a name of `tfcnn.kinds.KINDS`.
        scratch: True for a network of another kind than photos that begins with random weights and is trained from its first step.
        own: whether that network is one of the caller.
        whole: whether each step passes through the one graph that all examples are nodes of.
    """
    if scratch:
        return _filled(config, _from_scratch(config, photos, KINDS[kind], RATE_OF_OWN if own else KINDS[kind].rate, whole))
    factor = FACTORS[config.optimizer]
    rate = RATE if batch_norm or not pretrained else RATE_WITHOUT_BATCH_NORM
    values = (
        open_by_rule(config, photos=photos, stages=stages, pretrained=pretrained),
        round(min(MOST, max(FEWEST, EPOCHS * (EPOCHS_AT / max(photos, 1)) ** (1 / 3)))),
        SMALL_BATCH if photos < PHOTOS_FOR_LARGE_BATCH else LARGE_BATCH,
        rate * factor,
        HEAD_RATE * factor,
        "none" if not KINDS[kind].augments else "medium" if photos < PHOTOS_FOR_STRONG else "strong",
        True,
        "frozen" if pretrained else "train",  # random weights come with no statistics that would be worth keeping
    )
    return _filled(config, values)


def _from_scratch(config: TrainingConfig, count: int, kind: Kind, rate: float, whole: bool) -> tuple:
    """By the order of FIELDS."""
    batch = config.batch_size or (count if whole else SMALL_BATCH if count < PHOTOS_FOR_LARGE_BATCH else LARGE_BATCH)
    rate = config.learning_rate or rate * FACTORS[config.optimizer]  # the head has that of the network where it has none of its own
    steps = STEPS_OF_A_GRAPH if whole else STEPS_FROM_SCRATCH
    epochs = max(kind.fewest_epochs, round(steps / max(1, -(-count // batch))))
    return True, epochs, batch, rate, rate, "medium" if kind.augments else "none", False, "train"


def _filled(config: TrainingConfig, values: Sequence) -> Filled:
    return cast(Filled, replace(config, **{name: value for name, value in zip(FIELDS, values, strict=True) if getattr(config, name) is None}))


def open_by_rule(config: TrainingConfig, *, photos: int, stages: Sequence[str], pretrained: bool = True) -> bool | int | str:
    """What is fine-tuned: what was asked for, else all of random weights, else from the first stage on that has a rate of its own, else by the number
    of photos."""
    if config.trainable is not None:
        return config.trainable
    if not stages:  # a backbone without weights
        return False
    if not pretrained:
        return True
    named = [stage for stage in stages if stage in (config.learning_rates or {})]
    if named:
        return named[0]
    return max(1, len(stages) // 2) if photos < PHOTOS_FOR_ALL else True
