"""What a site says when it does not release what it was asked for."""

from __future__ import annotations

__all__ = ["ReleaseRefused"]


class ReleaseRefused(RuntimeError):
    """
    A site's release policy forbids what was asked for. The text names nothing of the site's data and may be sent.

    Args:
        reason: in words for the log of the one who asked.
        final: whether the site will release nothing more in this training: its budget is spent.
    """

    def __init__(self, reason: str, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final
