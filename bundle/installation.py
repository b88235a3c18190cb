"""Where this package's configs are."""

from __future__ import annotations

from pathlib import Path

__all__ = ["config_dir"]


def config_dir() -> Path:
    """The folder of the configs: beside the package in a checkout, inside it where it was installed."""
    package = Path(__file__).resolve().parent
    beside = package.parent / "configs"
    return beside if (beside / "metadata.json").is_file() else package / "configs"
