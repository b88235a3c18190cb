"""The files of a run that a data sheet is made from; what is missing or damaged is told, and nothing stops at it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from bundle.composition import INPUT_DIGESTS
from bundle.files import digest
from bundle.settings import generator_setting

__all__ = ["AUDIT_FILE", "Sources"]

AUDIT_FILE = "audit.json"
"""Beside the generator: what attacks on it have found."""
_PLACES = {
    "training_config": "gan/config.yaml",
    "generation_config": "synthetic.yaml",
    "record": "gan/record.json",
    "weights": "gan/generator.pt",
    "audit": f"gan/{AUDIT_FILE}",
    "metrics": "evaluation/metrics.json",
    "quality": "quality/metrics.json",
    "synthetic": "synthetic/datalist.json",
}
_MADE_BY = {
    "record": "the training's record is missing",
    "released": "the training's record is missing",
    "audit": "nobody has attacked this generator: asyndgan audit does",
    "metrics": "no segmenter was trained on its images and scored: the stages segment and evaluate do",
    "quality": "its images were not scored: the stage quality does",
    "datalist": "the data list of the real data is not at hand, as where hospitals keep theirs",
    "results": "the run has no results.json: its stages were run one by one",
}


@dataclass(frozen=True)
class Sources:
    """
    The folder of one setting of a run, ``RUN/seed_S/SETTING``.

    Args:
        folder: of the setting.
        overrides: paths of files that are not where a run leaves them, by name; None is as if not given.
    """

    folder: Path
    overrides: Mapping[str, Path | None] = field(default_factory=dict)
    _read: dict[str, dict[str, Any] | None] = field(default_factory=dict, init=False, repr=False)
    _why: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    def path(self, name: str) -> Path | None:
        """Where a file is, whether it exists or not; None where the run does not say."""
        if given := self.overrides.get(name):
            return Path(given)
        if name == "datalist":
            folder = self.config.get("dataset_dir")
            return Path(folder) / "datalist.json" if isinstance(folder, str) else None
        if name == "results":
            return None if self.run is None else self.run / "results.json"
        if name == "released":
            return self._released
        return self.folder / _PLACES[name]

    @property
    def _released(self) -> Path | None:
        """The record of the training whose sites released what this setting's images are drawn on."""
        setting = str(self.config.get("setting", ""))
        with suppress(ValueError):
            if (source := generator_setting(setting)) != setting:
                return None if self.seed is None else self.seed / source / _PLACES["record"]
        return self.path("record")

    @cached_property
    def run(self) -> Path | None:
        """The folder of the run; None for files that lie elsewhere."""
        return None if self.seed is None else self.seed.parent

    @cached_property
    def seed(self) -> Path | None:
        """The folder of all settings of this seed."""
        return next((folder for folder in self.folder.parents if folder.name.startswith("seed_")), None)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration of the training, or of the generation where nothing was trained."""
        return self.read("training_config") or self.read("generation_config") or {}

    def read(self, name: str) -> dict[str, Any] | None:
        """The content of a file; None where :meth:`why` says so."""
        if name not in self._read:
            self._read[name] = self._content(name)
        return self._read[name]

    def why(self, name: str) -> str:
        """Why a file is not known. No path is in it."""
        return self._why.get(name, "the run does not say")

    def _content(self, name: str) -> dict[str, Any] | None:
        path = self.path(name)
        if path is None or not path.is_file():
            self._why[name] = _MADE_BY.get(name, "the run does not say")
            return None
        try:
            text = path.read_text(encoding="utf-8")
            content = yaml.safe_load(text) if path.suffix in (".yaml", ".yml") else json.loads(text)
        except (OSError, ValueError, yaml.YAMLError):
            content = None
        if not isinstance(content, dict):
            self._why[name] = f"the file with it ({path.name}) is damaged"
            return None
        if name == "datalist" and not self.overrides.get(name) and self._is_another(path):
            self._why[name] = "the data list has changed since the training"
            return None
        return content

    def _is_another(self, datalist: Path) -> bool:
        """Whether a data list is not the one that the configuration was kept with."""
        kept = self.config.get(INPUT_DIGESTS)
        before = kept.get(datalist.name) if isinstance(kept, Mapping) else None
        return before is not None and before != digest(datalist)
