"""FLARE's logging, so that our lines can be seen among its own."""

from __future__ import annotations

__all__ = ["quiet"]

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


def _escaping(formatter: dict) -> dict:
    """A formatter of FLARE's, with texts from other participants on one line."""
    return {**formatter, "()": "bundle.text.escaping", "formatter": formatter["()"]}
