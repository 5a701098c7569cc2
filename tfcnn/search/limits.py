"""The limits of a search: how long it may go, and how large and slow the file of its network may be."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tfcnn.errors import InputError
from tfcnn.progress import stage
from tfcnn.search.heads import Table, head_of_units, seconds_of_a_head
from tfcnn.search.job import Job, is_worker, searches_fine
from tfcnn.search.trial import measure_file
from tfcnn.training.rule import complete

START = 15.0  # seconds of a process that trains, besides its epochs, until they were measured
SAVE_AFTER = 10  # seconds
BACKWARD = 3  # a step costs three forward passes


@dataclass(frozen=True)
class Clock:
    """How long a search has been going, with the time before it was interrupted."""

    job: Job
    _started: float = field(default_factory=time.monotonic)
    _before: float = field(init=False)
    _saved: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_before", 0.0 if is_worker() else self.job.read_record()["seconds"])

    @property
    def spent(self) -> float:
        """Seconds."""
        return self._before + time.monotonic() - self._started

    @property
    def left(self) -> float:
        """Seconds until the time limit."""
        return self.job.config.seconds - self.spent

    def save(self) -> None:
        """Into search.json."""
        self.job.write_record(seconds=round(self.spent, 1))
        self._saved[:] = [time.monotonic()]

    def save_now_and_then(self) -> None:
        """The same, if it was not done for a while."""
        if not self._saved or time.monotonic() - self._saved[0] > SAVE_AFTER:
            self.save()


def check_time(job: Job, tables: Sequence[Table], clock: Clock) -> None:
    """Raises InputError where the time limit is too short for the features of all networks and one trial, before any are computed."""
    if math.isinf(job.config.seconds) or job.record_file.exists():  # which goes on
        return
    needed = clock.spent + sum((table.photos + len(table.validation_targets)) * table.seconds for table in tables)
    needed += seconds_of_a_head(job, max(tables, key=lambda table: table.features.shape[1]))
    if searches_fine(job):
        needed += max(estimated(job, table, whole_epochs(job, table)) for table in tables)
    if needed > job.config.seconds:
        shorter = "fewer --epochs, or --fine-tune 0 to search heads alone" if searches_fine(job) else "or fewer photos"
        raise InputError(f"expected time for one trial, about {math.ceil(needed)} s for these photos on this computer, "
                         f"got time_limit={job.config.time_limit}; give more time, {shorter}")


def check_bounds(job: Job, networks: Iterable[tuple[str, int, str]], labels: tuple[str, ...]) -> None:
    """Raises InputError where the file of no network is within the bounds, even with the smallest head, before any trial.

    Args:
        job: in whose folder the files are measured.
        networks: of `networks_of`.
        labels: of the photos.
    """
    if not job.config.is_bounded:
        return
    smallest, measured = head_of_units(job, min), {}
    for backbone, size, pooling in networks:
        if (backbone, size) in measured:  # what pooling adds is nothing beside it
            continue
        with stage(f"measure the file of {backbone} at {size}"):
            measured[backbone, size] = measure_file(job, {"backbone": backbone, "image_size": size, "pooling": pooling, **smallest}, labels)
    if all(beyond(job, found) > 0 for found in measured.values()):
        (backbone, size), found = min(measured.items(), key=lambda row: beyond(job, row[1]))
        bounds = [(f"max_bytes={job.config.max_bytes}", f"has {found['bytes']} bytes", job.config.max_bytes),
                  (f"max_host_latency_ms={job.config.max_host_latency_ms}", f"takes {found['milliseconds']:.1f} ms a photo", job.config.max_host_latency_ms)]
        asked, has = zip(*(told[:2] for told in bounds if told[2] is not None), strict=True)
        raise InputError(f"expected bounds that a network can meet, got {' and '.join(asked)}, but the nearest one, {backbone} at {size} pixels, "
                         f"{' and '.join(has)}; give more, or smaller backbones or sizes")


def beyond(job: Job, measured: Mapping[str, float]) -> float:
    """By how much of its bound a file is beyond it; below 0 within both."""
    bounds = ((measured["bytes"], job.config.max_bytes), (measured["milliseconds"], job.config.max_host_latency_ms))
    return max(value / bound - 1 for value, bound in bounds if bound is not None)


def whole_epochs(job: Job, table: Table) -> int:
    """Of a fine-tuning that is not cut short."""
    return complete(job.training, photos=table.photos, stages=table.stages).epochs


def estimated(job: Job, table: Table, epochs: int) -> float:
    """Seconds of a fine-tuning, by the speed of a forward pass."""
    return START + epochs * table.photos * BACKWARD * table.seconds
