"""What a site says when it does not release what it was asked for."""

from __future__ import annotations

__all__ = ["ReleaseRefused"]


class ReleaseRefused(RuntimeError):
    """
    A site's release policy forbids what was asked for.

    Args:
        reason: in words for the log of the one who asked; without ``sent`` they name nothing of the site's data.
        final: whether the site will release nothing more in this training: its budget is spent.
        sent: what leaves the site in the place of ``reason``, where that is for its owner; None for ``reason``.
    """

    def __init__(self, reason: str, final: bool = False, sent: str | None = None) -> None:
        super().__init__(reason)
        self.final = final
        self.sent = reason if sent is None else sent
