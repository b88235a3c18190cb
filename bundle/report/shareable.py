"""What is taken out of a run before a page of it is passed on, so that no template has to think of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["without_case_names", "without_paths"]

# of a plain value any separator, of an expression one between quotes: elsewhere it is a division
_PATH = re.compile(r"""^(?![$@]).*[/\\]|['"][^'"]*[/\\]""", re.DOTALL)


def without_case_names(results: Mapping[str, Any]) -> dict[str, Any]:
    """
    The contents of results.json with numbers in the place of held-out cases' names, and without the command, whose
    words may name folders. Scores of synthetic data are by site, and sites keep their names.
    """
    kept = {name: block for name, block in results.items() if name not in ("test_patients", "command")}
    if isinstance(kept.get("settings"), Mapping):
        kept["settings"] = {setting: _unnamed_cases(scores) for setting, scores in kept["settings"].items()}
    return kept


def _unnamed_cases(scores: Any) -> Any:
    if not isinstance(scores, Mapping):
        return scores
    unnamed = {}
    for metric, entry in scores.items():
        per_case = entry.get("per_case") if isinstance(entry, Mapping) else None
        if isinstance(per_case, Mapping):
            entry = {**entry, "per_case": {str(number): value for number, value in enumerate(per_case.values())}}
        unnamed[metric] = entry
    return unnamed


def without_paths(config: Any) -> Any:
    """A configuration, as YAML gives it, with ``(path)`` in the place of every value that holds a path."""
    if isinstance(config, Mapping):
        return {key: without_paths(value) for key, value in config.items()}
    if isinstance(config, list):
        return [without_paths(value) for value in config]
    return "(path)" if isinstance(config, str) and _PATH.search(config) else config
