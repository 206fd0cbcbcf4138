"""Device, number format, threads and random streams."""

from __future__ import annotations

import hashlib
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = [
    "autocast",
    "best",
    "choose_threads",
    "cores",
    "environment",
    "generator",
    "has_fast_bf16",
    "numpy_generator",
    "seed_of",
    "seeded",
    "threads",
]


def best() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bf16 convolutions are faster than float32 there: on a CPU only with its own instructions."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    capability = torch.backends.cpu.get_cpu_capability()
    if not capability.startswith("AVX512"):
        return False
    try:
        with open("/proc/cpuinfo") as file:
            return "avx512_bf16" in file.read()
    except OSError:
        return False


def autocast(device: torch.device, enabled: bool = True) -> torch.autocast:
    """bf16 autocast where the device is fast at it, otherwise a context that does nothing."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled and has_fast_bf16(device))


def seed_of(*path: int | str) -> int:
    """A 63-bit seed that is a function of its path alone, for example seed_of(seed, "noise", step).

    Independent of PYTHONHASHSEED, machine and version. Source: the first 8 bytes of sha256.
    """
    text = "/".join(str(part) for part in path)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(*path: int | str) -> torch.Generator:
    """The torch random stream of a path; always on the CPU, so that devices agree."""
    return torch.Generator().manual_seed(seed_of(*path))


def numpy_generator(*path: int | str) -> np.random.Generator:
    """The numpy random stream of a path."""
    return np.random.default_rng(seed_of(*path))


_GLOBAL_STREAM = threading.Lock()


@contextmanager
def seeded(*path: int | str) -> Iterator[None]:
    """Inside the block torch's global stream is that of a path; afterwards it is as before.

    Only for building layers, which take no generator. One thread at a time: the stream is global.
    """
    with _GLOBAL_STREAM, torch.random.fork_rng():
        torch.manual_seed(seed_of(*path))
        yield


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Use this many torch threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_threads(seconds: float = 0.5) -> int:
    """The thread count with the fastest convolutions right now, by a short measurement.

    Two threads on cores that another process also uses ran 3-8 times slower than one: measured, not
    assumed. OMP_NUM_THREADS, when set, is taken as it is.
    """
    if os.environ.get("OMP_NUM_THREADS", "").isdigit():
        return int(os.environ["OMP_NUM_THREADS"])
    x = torch.randn(32, 64, 16, 16).to(memory_format=torch.channels_last)
    convolution = torch.nn.Conv2d(64, 64, 3, padding=1)
    convolution.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    speed: dict[int, float] = {}
    candidates = sorted({1, max(1, cores() // 2), cores()})
    for count in candidates:
        with threads(count), torch.no_grad():
            convolution(x)
            done, start = 0, time.perf_counter()
            while time.perf_counter() - start < seconds / len(candidates):
                convolution(x)
                done += 1
            speed[count] = done / (time.perf_counter() - start)
    # A second thread has to earn its place: on a shared machine a small lead is gone a minute later.
    chosen = candidates[0]
    for count in candidates[1:]:
        if speed[count] > 1.15 * speed[chosen]:
            chosen = count
    return chosen


def environment() -> dict[str, Any]:
    """What the numbers of a run depend on besides its arguments."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "device": str(best()),
        "threads": torch.get_num_threads(),
        "bf16": has_fast_bf16(best()),
    }
