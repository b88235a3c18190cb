"""FLARE's logging: our lines seen among its own, and its files kept."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path

__all__ = ["keep_logs", "quiet"]

LOGS = ("*log*.txt", "audit*.log")

CONSOLE_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
# by name, for FLARE's processes that wait for jobs need neither torch nor MONAI
ESCAPING = "bundle.text.EscapingFormatter"


def quiet(config: dict) -> dict:
    """
    FLARE's logging, with nothing on the console but what our modules say, who is connected, and errors; its files keep
    it all.
    """
    config["formatters"] = {name: _escaping(formatter) for name, formatter in config["formatters"].items()}
    config["formatters"]["consoleFormatter"] = {"()": ESCAPING, "fmt": CONSOLE_FORMAT, "datefmt": "%H:%M:%S"}
    console = config["handlers"]["consoleHandler"] | {"formatter": "consoleFormatter"}
    kinds = {"ours": ("INFO", ["bundle"]), "errors": ("ERROR", ["nvflare.private"])}
    for name, (level, loggers) in kinds.items():
        config["filters"][name] = {
            "()": "nvflare.fuel.utils.log_utils.LoggerNameFilter",
            "logger_names": loggers,
            "exclude_logger_names": ["AppCommandProcessor"],  # asked before the training has begun
            "allow_all_error_logs": False,
        }
        config["handlers"][name] = console | {"filters": [name], "level": level}
    lines = {"class": "bundle.flare.console.ConnectionLines", "level": "INFO"}
    config["handlers"]["connection"] = {key: console[key] for key in ("formatter", "stream")} | lines
    del config["handlers"]["consoleHandler"]
    for logger_config in config["loggers"].values():
        handlers = [name for name in logger_config.get("handlers", []) if name != "consoleHandler"]
        logger_config["handlers"] = [*handlers, *kinds, "connection"]
    return config


def keep_logs(kits: Mapping[str, Path], folder: Path) -> None:
    """
    Copy FLARE's logs out of startup kits, before these are removed with their keys.

    The server packs the files of a job that has ended into ``jobs/JOB/workspace``. Its logs come to ``JOB/``, where a
    site's are.

    Args:
        kits: startup kits by participant.
        folder: to write to, a folder for each participant.
    """
    for name, kit in kits.items():
        for path in sorted(path for pattern in LOGS for path in kit.rglob(pattern)):
            kept = folder / name / path.relative_to(kit)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, kept)
        for packed in sorted(kit.glob("jobs/*/workspace")):
            with zipfile.ZipFile(packed) as archive:
                for entry in archive.namelist():
                    if any(fnmatch(entry, pattern) for pattern in LOGS):
                        archive.extract(entry, folder / name / packed.parent.name)


def _escaping(formatter: dict) -> dict:
    """A formatter of FLARE's, with texts from other participants on one line."""
    return {**formatter, "()": "bundle.text.escaping", "formatter": formatter["()"]}
