"""`SearchConfig`: how long and by what a search goes; command-line flags come from its fields."""

import re
from dataclasses import dataclass

from tfcnn.errors import InputError, closest

ALGORITHMS = ("hyperband", "bayesian", "random", "grid")
OBJECTIVES = ("accuracy", "balanced_accuracy")
FINE_TUNED = 9  # configurations that begin fine-tuning, where neither a number nor a time is given
HEADS = 30


@dataclass(frozen=True)
class SearchConfig:
    """How to search.

    Attributes:
        trials: heads on cached features, of which each costs a second, with hidden layers several.
        fine_tune: configurations that begin fine-tuning; 0 searches heads alone; left out, 9, or as many as the time limit lets end.
        time_limit: as 90s, 30m or 2h, after which no trial begins; one that would not end in time does not begin either.
        algorithm: hyperband (fine-tuning by successive halving, after random heads), bayesian, random or grid (whole fine-tunings).
        objective: of the validation photos, accuracy or balanced_accuracy.
        max_bytes: the largest float32 TFLite file that is asked for.
        max_host_latency_ms: the longest median time of that file for a photo, on one thread of this computer, not of a phone.
        refit: trains the best configuration once more, on training and validation photos together.
    """

    trials: int = HEADS
    fine_tune: int | None = None
    time_limit: str | None = None
    algorithm: str = "hyperband"
    objective: str = "accuracy"
    max_bytes: int | None = None
    max_host_latency_ms: float | None = None
    refit: bool = False

    @property
    def seconds(self) -> float:
        """The time limit in seconds; infinite where there is none."""
        return seconds_of(self.time_limit) if self.time_limit is not None else float("inf")

    @property
    def is_bounded(self) -> bool:
        """True where size or latency of the exported file count."""
        return self.max_bytes is not None or self.max_host_latency_ms is not None


def check_search(config: SearchConfig) -> None:
    """Raises InputError for a value that a search could not use."""
    for name, least in (("trials", 1), ("fine_tune", 0), ("max_bytes", 1)):
        value = getattr(config, name)
        if value is not None and (type(value) is not int or value < least):
            raise InputError(f"expected a whole number from {least} up, got {name}={value}")
    for name, choices in (("algorithm", ALGORITHMS), ("objective", OBJECTIVES)):
        if getattr(config, name) not in choices:
            raise InputError(f"expected the {name} of a search, got {name}='{getattr(config, name)}'; {closest(str(getattr(config, name)), choices)}")
    if config.max_host_latency_ms is not None and not config.max_host_latency_ms > 0:
        raise InputError(f"expected milliseconds above 0, got max_host_latency_ms={config.max_host_latency_ms}")
    if config.time_limit is not None and seconds_of(config.time_limit) <= 0:
        raise InputError(f"expected a time above 0, got time_limit={config.time_limit}")


def seconds_of(text: str | float) -> float:
    """Seconds of a time such as 90, 90s, 30m or 2h."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|min|h)?", str(text).strip())
    if not found:
        raise InputError(f"expected a time such as 90s, 30m or 2h, got time_limit={text}")
    return float(found[1]) * {"s": 1, "m": 60, "min": 60, "h": 3600}[found[2] or "s"]
