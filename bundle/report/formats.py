"""Numbers and lists as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

DASH = "–"


def as_number(value: Any) -> float:
    """``value`` as a float; NaN for None and for what is not a number."""
    if isinstance(value, bool) or value is None:
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def human_bytes(count: Any) -> str:
    """A number of bytes in decimal units, three digits: ``"1.57 MB"``; a dash for what is not a number."""
    value = as_number(count)
    if not math.isfinite(value):
        return DASH
    if abs(value) < 1000:
        return f"{value:.0f} B"
    # The limit is where three digits would round up to 1000 of the smaller unit.
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if abs(value) < 999.5 or unit == "TB":
            break
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f} {unit}"


def human_seconds(seconds: Any) -> str:
    """A duration in the two units that matter: ``"1 h 05 min"``, ``"14 min 02 s"``, ``"0.62 s"``; or a dash."""
    value = as_number(seconds)
    if not math.isfinite(value):
        return DASH
    if value < 10:
        return f"{value:.2g} s" if value < 0.1 else f"{value:.2f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(value / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def count(number: int, singular: str, plural: str | None = None) -> str:
    """``"1 site"``, ``"1,422 images"``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def listed(parts: Sequence[str]) -> str:
    """``"A, B and C"``."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def format_interval(value: Any, interval: Any, spec: str) -> str:
    """``"−0.161 (−0.247 to −0.082)"``: a value with its interval, as far as they are known."""
    number = as_number(value)
    if not math.isfinite(number):
        return DASH
    text = format(number, spec)
    if interval:
        text += f" ({format(as_number(interval[0]), spec)} to {format(as_number(interval[1]), spec)})"
    return text.replace("-", "−")


def format_p(p: Any) -> str:
    """Three digits, ``"<0.001"`` below; a dash for what is not known."""
    number = as_number(p)
    return DASH if math.isnan(number) else f"{number:.3f}" if number >= 0.001 else "<0.001"


def format_count(value: Any) -> str:
    """``"1,422"``; a dash for what is not a number."""
    number = as_number(value)
    return f"{int(number):,}" if math.isfinite(number) else DASH
