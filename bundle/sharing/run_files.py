"""What the files of a run say of the weights among them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from bundle.files import digest
from bundle.settings import KINDS
from bundle.sharing.errors import PackError
from bundle.sheet import Sources

__all__ = ["RunFiles"]


@dataclass(frozen=True)
class RunFiles:
    """
    The folder of one setting of a run, ``RUN/seed_0/SETTING``, found by the weights in it.

    Args:
        weights: ``SETTING/segmenter/segmenter.pt`` or ``SETTING/gan/generator.pt``, or a copy anywhere, if the paths
            below are given.
        overrides: paths that are not where a run leaves them: ``config`` (resolved configuration of the training),
            ``record``, ``metrics``, ``evaluation_config``, ``datalist``.

    Raises:
        PackError: from the properties, naming the file that is missing or holds something else.
    """

    weights: Path
    overrides: dict[str, Path | None] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        """Where one of the files is, whether it exists or not."""
        given = self.overrides.get(name)
        if given:
            return Path(given)
        folder = self.weights.parent
        places = {
            "training_config": folder / "config.yaml",
            "record": folder / "record.json",
            "sites": folder.parent / "gan" / "record.json",
            "metrics": folder.parent / "evaluation" / "metrics.json",
            "evaluation_config": folder.parent / "evaluation" / "config.yaml",
        }
        if name == "datalist":
            return Path(self.config["dataset_dir"]) / "datalist.json"
        return places[name]

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration of the training."""
        return self._config("training_config")

    @cached_property
    def evaluation_config(self) -> dict[str, Any]:
        """The resolved configuration of the evaluation; what the training used of it must be the same."""
        config = self._config("evaluation_config")
        for key in ("task", "setting", "seed", "segmenter_def", "image_size", "label_groups", "modalities"):
            if config.get(key) != self.config.get(key):
                raise PackError(
                    f"{self.path('evaluation_config')}: {key} is {config.get(key)!r}, expected "
                    f"{self.config.get(key)!r} as in {self.path('training_config')}"
                )
        return config

    def recorded(self, key: str, name: str = "record") -> Any:
        """An entry of the record of a training."""
        record = self.json(name)
        if key not in record:
            raise PackError(f"{self.path(name)}: expected {key!r}, found {', '.join(record)}")
        return record[key]

    def sites(self, name: str) -> list[str]:
        """Sites of a generator's training, from its record."""
        return sorted(self.recorded("sites", name))

    @property
    def sources(self) -> Sources:
        """The same files for a data sheet, which tells what is missing; those that a pack needs are there by then."""
        own = {name: self.path(name) for name in ("training_config", "record", "metrics")}
        given = {"weights": self.weights, "datalist": self.overrides.get("datalist")}
        return Sources(self.weights.parent.parent, own | given)

    @cached_property
    def datalist(self) -> dict[str, Any]:
        """The data list of the real data, as JSON."""
        return self.json("datalist")

    @cached_property
    def digest(self) -> str:
        return digest(self.weights)

    def json(self, name: str) -> dict[str, Any]:
        path = self._existing(name)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise PackError(f"{path}: cannot be read as JSON: {error}") from error
        if not isinstance(content, dict):
            raise PackError(f"{path}: expected a JSON object, got {type(content).__name__}")
        return content

    def _config(self, name: str) -> dict[str, Any]:
        path = self._existing(name)
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise PackError(f"{path}: cannot be read as YAML: {error}") from error
        if not isinstance(content, dict) or "task" not in content:
            raise PackError(f"{path}: expected the resolved configuration of a run, with the key 'task'")
        if isinstance(content.get("modalities"), list):
            # what the network reads, without the data that an expression would read
            names = self._read(content)
            content |= {"modalities": names, "image_modalities": names}
        return content

    def _read(self, config: dict[str, Any]) -> list[str]:
        """Of the modalities, those that a segmenter reads: of sites that lack some maybe fewer."""
        kind, _, site = str(config.get("setting", "")).partition("/")
        if kind not in KINDS or KINDS[kind].modalities not in ("own", "common"):
            return config["modalities"]
        path = Path(self.overrides.get("datalist") or Path(config["dataset_dir"]) / "datalist.json")
        lists = json.loads(path.read_text(encoding="utf-8")).get("modalities", {}) if path.is_file() else {}
        own = [lists[name] for name in lists if KINDS[kind].modalities == "common" or name == site]
        return [name for name in config["modalities"] if all(name in listed for listed in own)]

    def _existing(self, name: str) -> Path:
        path = self.path(name)
        if not path.is_file():
            option = f"; --{name} FILE names another one" if name in OPTIONS else ""
            raise PackError(f"{path}: no such file, expected {_EXPECTED[name]} of {self.weights}{option}")
        return path


OPTIONS = ("training_config", "record", "metrics", "evaluation_config", "datalist")
"""Files that :class:`RunFiles` takes from elsewhere."""
_EXPECTED = {
    "training_config": "the resolved configuration of the training",
    "record": "the record of the training",
    "sites": "the record of the generator's training",
    "metrics": "the scores on the held-out cases",
    "evaluation_config": "the resolved configuration of the evaluation",
    "datalist": "the data list of the real data",
}
