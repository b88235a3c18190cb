"""Where the files of this package are that are no code."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

__all__ = ["config_dir", "is_checkout", "license_file"]

_ROOT = Path(__file__).resolve().parents[1]
_DISTRIBUTION = "asyndgan-bundle"


def is_checkout() -> bool:
    """Whether the configs lie beside the package, as in a checkout, and not inside it, as where it was installed."""
    return (_ROOT / "configs" / "metadata.json").is_file()


def config_dir() -> Path:
    """The folder of the configs: beside the package in a checkout, inside it where it was installed."""
    return _ROOT / "configs" if is_checkout() else Path(__file__).resolve().parent / "configs"


def license_file() -> Path:
    """
    The licence of this package's code and configs.

    Raises:
        FileNotFoundError: it was installed in a way that left it out.
    """
    if is_checkout():
        return _ROOT / "LICENSE"
    try:
        found = [path for path in files(_DISTRIBUTION) or [] if path.name == "LICENSE"]
    except PackageNotFoundError:
        found = []
    if not found:
        raise FileNotFoundError(f"the licence of {_DISTRIBUTION} is not where it was installed; name a file")
    return Path(str(found[0].locate()))
