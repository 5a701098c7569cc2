"""What the processor and the GPUs of this machine are; what a training gives to the last bit depends on them."""

import os
import platform
from pathlib import Path
from typing import Any

CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # what TensorFlow's kernels look for


def cpu_facts() -> dict[str, Any]:
    """`model`, `cores` that this process may use, and `flags`: those of CPU_FLAGS that it has."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    of = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = of.get("flags", of.get("Features", "")).split()
    return {"model": of.get("model name", platform.machine()), "cores": len(os.sched_getaffinity(0)), "flags": [flag for flag in CPU_FLAGS if flag in flags]}


def gpu_facts() -> list[dict[str, str]]:
    """`name` and `compute_capability` of the GPUs that TensorFlow uses."""
    import tensorflow as tf

    details = [(gpu.name, tf.config.experimental.get_device_details(gpu)) for gpu in tf.config.get_visible_devices("GPU")]
    return [{"name": of.get("device_name", name), "compute_capability": ".".join(map(str, of.get("compute_capability", ())))} for name, of in details]
