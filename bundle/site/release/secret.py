"""What a site alone knows, kept beside its ledger."""

from __future__ import annotations

import os
import re
import secrets
from hashlib import sha256, shake_256
from pathlib import Path

from bundle.files import atomic_path
from bundle.site.release.chain import LedgerError, canonical
from bundle.site.release.torn_lines import sync_folder

__all__ = ["SecretStream", "commitment", "seeded_secret", "site_secret"]


def seeded_secret(seed: int, site: str) -> int:
    """
    128 bits that follow from the seed of a run and the name of a site: of no use between hospitals, for the server
    knows both. A run in one process, where nothing is hidden from anybody, can be repeated with it.
    """
    return int(sha256(f"secret of {site}, seed {seed}".encode()).hexdigest()[:32], 16)


def site_secret(path: str | os.PathLike | None, first: int | None = None) -> int:
    """
    The secret of a site, drawn when it is asked for the first time.

    Args:
        path: the file that keeps it, readable and writable by its owner alone; None to draw one that nobody keeps.
        first: what to keep where there is none yet (:func:`seeded_secret`); None to draw it.

    Returns:
        128 random bits.

    Raises:
        LedgerError: when the file is there and holds something else.
        OSError: when it can neither be read nor written.
    """
    drawn = secrets.token_hex(16) if first is None else f"{first:032x}"
    if path is None:
        return int(drawn, 16)
    path = Path(path)
    if not path.exists():
        with atomic_path(path) as temporary:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(drawn + "\n")
                file.flush()
                os.fsync(handle)
        sync_folder(path.parent)
    kept = path.read_text(encoding="ascii", errors="replace").strip()
    if not re.fullmatch("[0-9a-f]{32}", kept):
        raise LedgerError(
            f"{path}: expected 32 hexadecimal digits, the secret of the site: restore the file, or begin a new ledger"
        )
    return int(kept, 16)


def commitment(secret: int) -> str:
    """16 hexadecimal digits that tell one secret from another and nothing of either."""
    return sha256(secret.to_bytes(16, "big")).hexdigest()[:16]


class SecretStream:
    """
    Random bytes that are a function of a site's secret and of what they are for, by SHAKE-256: who does not know the
    secret cannot tell them from those of the operating system.

    Whatever they hide has to be named in what they are for, as in signatures whose random part is derived (RFC 6979).
    Then bytes that come again hide the very same, which tells nothing new; those that hide anything else are others.

    Args:
        secret: of the site, 128 bits.
        purpose: plain texts and numbers, in their order.
    """

    def __init__(self, secret: int, *purpose: str | int) -> None:
        self._key = sha256(canonical([f"{secret:032x}", *purpose])).digest()
        self._calls = 0

    def __call__(self, size: int) -> bytes:
        """So many bytes, others at every call."""
        self._calls += 1
        return shake_256(self._key + self._calls.to_bytes(8, "big")).digest(size)
