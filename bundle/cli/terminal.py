"""What a command shows of what the libraries below it say."""

from __future__ import annotations

import logging
import warnings

__all__ = ["show_lines", "show_lines_with_time"]


def show_lines() -> None:
    """Log messages on stderr, as they are."""
    _show("%(message)s", None)


def show_lines_with_time() -> None:
    """Log messages on stderr with time, level and origin: of what takes hours."""
    _show("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S")


def _show(form: str, date: str | None) -> None:
    from bundle.text import console

    # MONAI warns at every config that configs are code, and at its own deprecations
    warnings.filterwarnings("ignore")
    logging.basicConfig(level=logging.INFO, handlers=[console(form, date)])
    # every stage reads the same logging.conf, and MONAI says so each time
    logging.getLogger("monai.bundle.workflows").setLevel(logging.WARNING)
