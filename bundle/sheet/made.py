"""Part of a data sheet: by what it was made."""

from __future__ import annotations

import re
import shlex
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import bundle
from bundle.declarations.keys import PATH_KEYS
from bundle.files import digest
from bundle.sheet.notes import Notes
from bundle.sheet.sources import Sources

__all__ = ["made", "without_places"]

_TOLD = ("--task", "--profile", "--seed", "--seeds", "--setting", "--settings", "--set")
_MAY_HAVE_SLASHES = ("--setting", "--settings")
_PLACE = re.compile(r"[/\\]")
_HARDWARE = ("cpu", "cores", "memory_gib", "device")
WITHHELD = "..."


def made(sources: Sources, notes: Notes, made_on: Path | None = None) -> dict[str, Any]:
    """
    The block ``made``.

    Args:
        sources, notes: the files of the run, and what takes the reasons of what is not known.
        made_on: the file whose time says when it was made.
    """
    config, results = sources.config, sources.read("results") or {}
    record = sources.read("record") or {}

    def known(field: str, value: Any, reason: str) -> Any:
        return value if value not in (None, "", {}) else notes.missing(reason, "made", field)

    of_record, of_results = sources.why("record"), sources.why("results")
    hardware = {key: value for key, value in (results.get("hardware") or {}).items() if key in _HARDWARE}
    seed = record.get("seed", config.get("seed"))
    return {
        "setting": known("setting", record.get("setting", config.get("setting")), of_record),
        "seed": known("seed", seed, of_record),
        "seeds": known("seeds", results.get("seeds") or ([seed] if isinstance(seed, int) else None), of_results),
        "steps": known("steps", record.get("steps"), of_record),
        "seconds": known("seconds", record.get("seconds"), of_record),
        "losses": known("losses", record.get("losses"), of_record),
        "date": known("date", _date(made_on), of_record),
        "command": known("command", without_places(str(results.get("command") or "")), of_results),
        "hardware": known("hardware", hardware, of_results),
        "software": _software(),
        "config_sha256": known("config_sha256", _digest(sources.path("training_config")), "there is none"),
        "weights_sha256": known("weights_sha256", _digest(sources.path("weights")), "there are none"),
    }


def without_places(command: str) -> str:
    """
    A command line with dots in the place of every word that may name a folder, a file or a machine.

    Words are kept of options that name none of them: what is not known is left out.

    >>> without_places("asyndgan run --task brats --dataset_dir data --set lr=0.1 run_dir=out --quiet")
    'asyndgan run --task brats --dataset_dir ... --set lr=0.1 ... --quiet'
    """
    try:
        words = shlex.split(command)
    except ValueError:
        return WITHHELD if command else ""
    option, told = "", []
    for number, word in enumerate(words):
        if word.startswith("--"):
            option, _, value = word.partition("=")
            told.append(option if not value else f"{option}={_told(option, value)}")
        elif option:
            told.append(_told(option, word))
        else:
            # the program, its parts, and what `python` runs
            told.append(Path(word).name if number < 3 and re.fullmatch(r"[\w./\\-]+", word) else WITHHELD)
    return shlex.join(told)


def _told(option: str, word: str) -> str:
    hidden = option not in _TOLD or (_PLACE.search(word) and option not in _MAY_HAVE_SLASHES)
    names_place = re.split("[=#:]", word)[0] in PATH_KEYS or word.startswith(("/", "~", "\\", "."))
    return WITHHELD if hidden or names_place else word


def _software() -> dict[str, str]:
    found = {"asyndgan-bundle": bundle.__version__}
    for name in ("monai", "torch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _digest(path: Path | None) -> str | None:
    return digest(path) if path is not None and path.is_file() else None


def _date(path: Path | None) -> str | None:
    return date.fromtimestamp(path.stat().st_mtime).isoformat() if path is not None and path.is_file() else None
