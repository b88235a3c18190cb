"""How many threads compute, and how they wait for each other. What reads it does so when torch is imported."""

from __future__ import annotations

import logging
import os
import sys
from functools import cache
from pathlib import Path

__all__ = ["cores", "log_threads", "set_threads", "wait_briefly"]

logger = logging.getLogger(__name__)

_TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
_SPINS = "GOMP_SPINCOUNT"
# of processes that share cores, a thread that spins for long while it waits takes them from the others, and one that
# sleeps at once loses what a second thread gains: https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html
_BRIEFLY = "10000"
_too_late = False


def wait_briefly() -> None:
    """Have threads of OpenMP sleep soon while they wait, here and in what this process starts, unless the user did."""
    global _too_late
    _too_late = _SPINS not in os.environ and "torch" in sys.modules
    os.environ.setdefault(_SPINS, _BRIEFLY)


def cores() -> int:
    """Physical cores that this process may run on; where the system does not tell, its processors."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    processors = os.sched_getaffinity(0)
    try:
        return len({Path(_TOPOLOGY.format(number)).read_text(encoding="ascii") for number in processors})
    except OSError:
        return len(processors)


def set_threads(number: int | None) -> None:
    """
    Say how many threads compute in this process, and in those that it starts.

    Args:
        number: of threads; None for ``OMP_NUM_THREADS`` or else :func:`cores`, before torch is imported. After that
            None leaves it as it is.
    """
    if number is not None:
        os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(number)
    if "torch" not in sys.modules:
        if number is not None or not os.environ.get("OMP_NUM_THREADS"):
            os.environ["OMP_NUM_THREADS"] = str(number or cores())
    elif number is not None:
        import torch

        torch.set_num_threads(number)


@cache
def log_threads() -> None:
    """A line in the log, once in a process: with another number of threads a CPU computes other bits."""
    import torch

    number = torch.get_num_threads()
    logger.info("threads that compute: %d; physical cores for this process: %d", number, cores())
    if _too_late and number > 1:
        logger.info("on a machine that others use too, start with %s=%s: torch came first here", _SPINS, _BRIEFLY)
