"""What is said when a bundle cannot be packed."""

from __future__ import annotations

__all__ = ["PackError"]


class PackError(ValueError):
    """Something to pack that is missing or cannot be meant; the message names the file and what was expected."""
