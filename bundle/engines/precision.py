"""Whether bfloat16 pays where a network computes."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import Literal

import torch

__all__ = ["takes_bfloat16"]

logger = logging.getLogger(__name__)

_CPU = Path("/proc/cpuinfo")
# Intel's and AMD's names for what multiplies in bfloat16; without, it is put together from float32 and takes longer
_FLAGS = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 bfloat16"}


def takes_bfloat16(amp: bool | Literal["auto"], device: str) -> bool:
    """
    Args:
        amp: whether to compute in bfloat16; "auto": where the device multiplies in it.
        device: type of the device, such as ``"cpu"``.

    The first time that "auto" decides for a type of device, it says so in the log.

    Raises:
        ValueError: when ``amp`` is none of the three.
    """
    if amp == "auto":
        return _pays(device)
    if not isinstance(amp, bool):
        raise ValueError(f"amp: expected true, false or 'auto', got {amp!r}")
    return amp


@cache
def _pays(device: str) -> bool:
    pays, reason = _decided(device)
    logger.info("amp auto: %s on this %s, %s", "bfloat16" if pays else "float32", device, reason)
    return pays


def _decided(device: str) -> tuple[bool, str]:
    if device == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return native, f"which computes {'' if native else 'no '}bfloat16"
    if device != "cpu":
        return False, "of which nothing is known"
    found = [name for flag, name in _FLAGS.items() if flag in _cpu_flags()]
    return bool(found), f"which has {found[0]}" if found else f"which has neither {' nor '.join(_FLAGS.values())}"


def _cpu_flags() -> set[str]:
    """None where the system does not tell: not Linux, or another architecture."""
    try:
        lines = _CPU.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    return next((set(line.split(":", 1)[-1].split()) for line in lines if line.startswith("flags")), set())
