"""What is taken out of a run before a page of it is passed on, so that no template has to think of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .scores import block, case_sites

__all__ = ["without_case_names", "without_paths"]

# of a plain value any separator, of an expression one between quotes: elsewhere it is a division
_PATH = re.compile(r"""^(?![$@]).*[/\\]|['"][^'"]*[/\\]""", re.DOTALL)


class _Numbers(dict[str, str]):
    """A number for every name, in the order in which they are asked for."""

    def __missing__(self, name: str) -> str:
        return self.setdefault(name, str(len(self)))


def without_case_names(results: Mapping[str, Any]) -> dict[str, Any]:
    """
    The contents of results.json with numbers in the place of held-out cases' and patients' names, the same everywhere,
    and without the command, whose words may name folders. Sites keep their names, also where they are the cases: of
    scores of synthetic data.
    """
    kept = {name: content for name, content in results.items() if name not in ("test_patients", "command")}
    cases, patients = _Numbers(), _Numbers()
    if found := block(results, "test_patients"):
        sites = case_sites(results)
        kept["test_patients"] = {cases[case]: f"{sites[case]}/{patients[str(of)]}" for case, of in found.items()}
    if isinstance(kept.get("settings"), Mapping):
        kept["settings"] = {setting: _unnamed_cases(scores, cases) for setting, scores in kept["settings"].items()}
    return kept


def _unnamed_cases(scores: Any, numbers: _Numbers) -> Any:
    if not isinstance(scores, Mapping):
        return scores
    unnamed = {}
    for metric, entry in scores.items():
        per_case = entry.get("per_case") if isinstance(entry, Mapping) else None
        if isinstance(per_case, Mapping):
            entry = {**entry, "per_case": {numbers[case]: values for case, values in per_case.items()}}
        unnamed[metric] = entry
    return unnamed


def without_paths(config: Any) -> Any:
    """A configuration, as YAML gives it, with ``(path)`` in the place of every value that holds a path."""
    if isinstance(config, Mapping):
        return {key: without_paths(value) for key, value in config.items()}
    if isinstance(config, list):
        return [without_paths(value) for value in config]
    return "(path)" if isinstance(config, str) and _PATH.search(config) else config
