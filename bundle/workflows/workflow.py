"""MONAI's config workflow with the checks that spare a user hours."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle.reference_resolver import ReferenceResolver
from monai.utils import BundleProperty, BundlePropertyConfig, ensure_tuple

from bundle.files import digest, write_text
from bundle.workflows.checks import ConfigError, check_arguments, check_overrides, check_top_level_keys

__all__ = ["CheckedWorkflow", "DistributedGANWorkflow", "SegmentationWorkflow"]

logger = logging.getLogger(__name__)

# where a run lies and what computes it may change between its start and its resumption
MOVABLE_KEYS = {"bundle_root", "dataset_dir", "run_dir", "output_dir", "device", "cache_dir", "cache_rate", "imports"}
INPUT_DIGESTS = "sha256 of inputs"


class CheckedWorkflow(ConfigWorkflow):
    """
    A :class:`monai.bundle.ConfigWorkflow` that refuses what MONAI accepts silently, and computes nothing twice.

    When it is made, config files and overrides with keys that nothing uses, and components with arguments that they do
    not take, raise :class:`bundle.workflows.ConfigError`; when it is initialized, missing properties do. When it runs,
    three keys of the config count:

    ``config_path``
        where the resolved configuration is kept beside the outputs. A run that would go on with the outputs of another
        configuration is refused.
    ``inputs``
        files whose content belongs to the configuration.
    ``finished``
        the file that the stage writes last. When it is there, nothing is computed.

    Args:
        config_file: the stage's config first, then overlays; later ones win.
        workflow_type: as for MONAI; None to tell it by the stage: a config with ``train`` is a training.
        **kwargs: as for :class:`monai.bundle.ConfigWorkflow`; all others are overrides.

    Raises:
        ConfigError: see above; the message names the key.
        FileNotFoundError: when a config file is missing.
    """

    def __init__(self, config_file: str | Sequence[str], workflow_type: str | None = None, **kwargs: Any) -> None:
        own = {"meta_file", "logging_file", "init_id", "run_id", "final_id", "tracking", "properties_path"}
        overrides = {key: value for key, value in kwargs.items() if key not in own}
        files = [str(file) for file in ensure_tuple(config_file)]
        for file in files:
            if not Path(file).is_file():
                raise FileNotFoundError(f"cannot find the config file {file}")
        check_top_level_keys(files, [ReferenceResolver.split_id(key)[0] for key in overrides])
        written = ConfigParser()
        written.read_config(files)
        check_overrides(written, overrides)
        if workflow_type is None:
            workflow_type = "train" if "train" in written else "infer"
        super().__init__(config_file, workflow_type=workflow_type, **kwargs)
        check_arguments(self._config())

    def check_properties(self) -> list[str]:
        """
        Properties that are required and missing, or optional and declared under another id than MONAI expects.

        MONAI's own raises KeyError at the first that is missing, and makes every component to find out.
        """
        missing, misplaced = [], []
        for name, about in self.properties.items():
            if about.get(BundleProperty.REQUIRED, False):
                if about[BundlePropertyConfig.ID] not in self.parser:
                    missing.append(name)
            elif not self._check_optional_id(name=name, property=about):
                misplaced.append(name)
        return missing + misplaced

    def initialize(self) -> Any:
        problems = self.check_properties()
        if problems:
            ids = ", ".join(
                f"{name} (config key {self.properties[name][BundlePropertyConfig.ID]})" for name in problems
            )
            raise ConfigError(f"the configuration lacks required properties: {ids}")
        unset = [key for key, value in self._config().items() if value == "???"]
        if unset:
            raise ConfigError(f"these keys need a value, by --key VALUE or in a config file: {', '.join(unset)}")
        return super().initialize()

    def run(self) -> Any:
        new_config = None
        try:
            new_config = self._keep_config()
            if self.finished:
                logger.info("finished before: %s", self._content("finished"))
                return []
            return super().run()
        except Exception as error:
            # the config parser wraps what a component raises in layers that name expressions
            cause = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            if isinstance(cause, ValueError | OSError):
                if new_config is not None:  # refused before anything was made
                    new_config.unlink(missing_ok=True)
                raise cause from None
            raise

    @property
    def finished(self) -> bool:
        """Whether the file that the stage writes last is there."""
        path = self._content("finished")
        return path is not None and Path(path).exists()

    def _content(self, key: str) -> Any:
        return self.parser.get_parsed_content(key) if key in self.parser else None

    def _config(self) -> dict:
        return {key: value for key, value in self.parser.get().items() if key != "_meta_"}

    def _keep_config(self) -> Path | None:
        """Write the configuration beside the outputs, or refuse when another one is there; the path if it is new."""
        if self._content("config_path") is None:
            return None
        kept = Path(self._content("config_path"))
        # through JSON: what YAML would write for tuples and the like is not what it reads
        config = json.loads(json.dumps(self._config(), default=str))
        config[INPUT_DIGESTS] = {
            # a missing one is reported better by the component that reads it
            Path(path).name: digest(path)
            for path in self._content("inputs") or []
            if Path(path).is_file()
        }
        if kept.exists():
            before = yaml.safe_load(kept.read_text(encoding="utf-8")) or {}
            keys = (set(before) | set(config)) - MOVABLE_KEYS
            changed = sorted(key for key in keys if before.get(key) != config.get(key))
            if changed:
                raise ConfigError(
                    f"{kept} keeps another configuration than this one for what lies beside it; they differ in: "
                    f"{', '.join(changed)}. Choose another output_dir, or delete it to start over"
                )
            return None
        write_text(kept, yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=120))
        return kept


class DistributedGANWorkflow(CheckedWorkflow):
    """Training a generator against the sites (``train.yaml``), and generating with it (``generate.yaml``)."""


class SegmentationWorkflow(CheckedWorkflow):
    """Training a segmenter in one of the settings (``segment.yaml``), and scoring it (``evaluate.yaml``)."""
