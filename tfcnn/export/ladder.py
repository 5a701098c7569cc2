"""`walk`: from all in 8 bits up to float32, until a file is good enough and within the budget."""

import dataclasses
import logging
from collections.abc import Callable
from typing import NamedTuple

from tfcnn.errors import WorkError
from tfcnn.export.formats import EXPORTERS, has_extra

AUTO = "auto"
LADDER = ("tflite_int8", "tflite_int8_mixed", "tflite_weight_int8", "tflite_dynamic", "tflite_float16", "tflite_float32")

logger = logging.getLogger(__name__)


class Budget(NamedTuple):
    """What a file may take at most; None sets no limit. The latency is the median of one photo on one thread of this host."""

    max_bytes: int | None = None
    max_host_latency_ms: float | None = None


def walk(one: Callable, budget: Budget) -> list:
    """Exports one format after the other and stops at the first that may be shipped and is within the budget.

    Args:
        one: from the name of a format to its `Export`.

    Returns:
        The rungs that were written, `chosen` True for the one it settled on, if there is one.

    Raises:
        WorkError: none of them could be written.
    """
    rungs, failed = [], None
    for name in LADDER:
        if not has_extra(name):
            logger.info("%s is left out: the extra '%s' is not installed", name, EXPORTERS[name].extra)
            continue
        try:
            rung = one(name)
        except WorkError as error:
            logger.warning("%s is passed over: %s", name, error)
            failed = error
            continue
        over = over_budget(rung, budget)
        chosen = rung.accepted and not over
        if rung.accepted and over:
            logger.info("%s is passed over: %s", name, over)
            rung = dataclasses.replace(rung, details={**rung.details, "over_budget": over})
        rungs.append(dataclasses.replace(rung, chosen=chosen))
        if chosen:
            break
    if failed and not rungs:
        raise failed
    return rungs


def over_budget(rung, budget: Budget) -> str:
    """What is beyond the budget, in words; empty where nothing is."""
    beyond = []
    if budget.max_bytes is not None and rung.bytes > budget.max_bytes:
        beyond.append(f"{rung.bytes:,} bytes are more than the {budget.max_bytes:,} allowed")
    if budget.max_host_latency_ms is not None and rung.milliseconds > budget.max_host_latency_ms:
        beyond.append(f"{rung.milliseconds:g} ms a photo on this host are more than the {budget.max_host_latency_ms:g} allowed")
    return "beyond the budget: " + " and ".join(beyond) if beyond else ""
