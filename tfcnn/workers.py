"""What the processes of one training know and tell each other; one that is alone hears itself.

A strategy is a `tf.distribute.Strategy` or None. All workers have to call the functions that tell something, in the same order:
each waits for the others. A worker that is gone is noticed by TensorFlow, which then ends what the others are waiting for.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tfcnn.errors import InputError, WorkError, first_line


def count_of(strategy) -> int:
    """How many processes train together."""
    if strategy is None:
        return 1
    import tensorflow as tf

    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 1
    jobs = strategy.cluster_resolver.cluster_spec().as_dict()
    return max(1, sum(len(jobs.get(job, [])) for job in ("chief", "worker")))


def index_of(strategy) -> int:
    """The number of this process, from 0."""
    if count_of(strategy) == 1:
        return 0
    resolver = strategy.cluster_resolver
    return resolver.task_id + (resolver.task_type == "worker" and "chief" in resolver.cluster_spec().jobs)


def is_chief(strategy) -> bool:
    """True for the one worker that writes."""
    return index_of(strategy) == 0


def sum_of(strategy, values: np.ndarray) -> np.ndarray:
    """The sum over all workers of arrays of the same shape and dtype (int32, int64 or a float)."""
    if count_of(strategy) == 1:
        return values
    import tensorflow as tf

    with together(strategy):
        return strategy.reduce("SUM", tf.constant(values), axis=None).numpy()


def from_all(strategy, value: Any) -> list:
    """What each worker said, in the order of their numbers; anything that JSON knows."""
    if count_of(strategy) == 1:
        return [value]
    parts = [_told_by(strategy, json.dumps(value).encode(), worker) for worker in range(count_of(strategy))]
    return [json.loads(part) for part in parts]


def bytes_from_chief(strategy, content: bytes) -> bytes:
    """The bytes that the chief gave; those of the others are not looked at."""
    return content if count_of(strategy) == 1 else _told_by(strategy, content, 0)


def from_chief(strategy, value: Any) -> Any:
    """What the chief said; anything that JSON knows."""
    return value if count_of(strategy) == 1 else json.loads(bytes_from_chief(strategy, json.dumps(value).encode()))


def on_chief(strategy, work: Callable[[], Any]) -> Any:
    """What a function gives on the chief, on all workers; an error that a user is expected to meet is raised on all of them."""
    if count_of(strategy) == 1:
        return work()
    result, error = None, None
    if is_chief(strategy):
        try:
            result = work()
        except (InputError, WorkError) as raised:
            error = raised
    problem = from_chief(strategy, error and [isinstance(error, InputError), str(error)])
    if problem:
        raise error or (InputError if problem[0] else WorkError)(problem[1])
    return from_chief(strategy, result)


def take_from_chief(strategy, variables: Sequence) -> None:
    """Gives variables the values that the chief has."""
    if count_of(strategy) > 1:
        for variable in variables:
            value = np.asarray(variable)
            variable.assign(np.frombuffer(bytes_from_chief(strategy, value.tobytes()), value.dtype).reshape(value.shape))


def check_same(strategy, what: str, value: str | dict, advice: str) -> None:
    """Raises InputError on all workers where one has another value than the chief.

    Args:
        what: what the value is of, as in "the same photos".
        value: a digest, or values by name, of which those that differ are named.
        advice: what to do.
    """
    values = from_all(strategy, value)
    others = [worker for worker, other in enumerate(values) if other != values[0]]
    if others:
        named = ", ".join(_differing(values[0], values[others[0]])) if isinstance(value, dict) else ""
        raise InputError(f"expected {what} on all {len(values)} workers, but worker {', '.join(map(str, others))} has others than worker 0"
                         f"{f' ({named})' if named else ''}; {advice}")


def _differing(ours: dict, theirs: dict) -> list[str]:
    return [f"{name}: {theirs.get(name)} in place of {ours.get(name)}" for name in {**ours, **theirs} if theirs.get(name) != ours.get(name)]


@contextmanager
def together(strategy) -> Iterator[None]:
    """Around work in which workers wait for each other.

    Raises:
        WorkError: another worker is gone.
    """
    import tensorflow as tf

    lost = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError,
            tf.errors.FailedPreconditionError, tf.errors.InternalError)
    try:
        yield
    except lost as error:
        if count_of(strategy) == 1:
            raise
        said = str(error).lower()
        surely = isinstance(error, (tf.errors.UnavailableError, tf.errors.AbortedError)) or "collective" in said or "coordination" in said
        happened = "another one ended or cannot be reached any more" if surely else "another one ended, or this one failed"
        raise WorkError(f"expected all {count_of(strategy)} workers to go on, but {happened} (this is worker {index_of(strategy)}); the logs of all say "
                        f"why; start all of them again with --resume ({first_line(error)[:200]})") from error


def _told_by(strategy, content: bytes, worker: int) -> bytes:
    """The bytes of one worker, as sums to which the others add 0."""
    own = index_of(strategy) == worker
    size = int(sum_of(strategy, np.array([len(content) if own else 0], np.int64))[0])
    words = np.zeros(-(-size // 4), np.int32)
    if own:
        words[:] = np.frombuffer(content.ljust(4 * len(words), b"\0"), np.int32)
    return sum_of(strategy, words).tobytes()[:size]
