"""MONAI's config workflow with the checks that spare a user hours."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, Self

import torch.distributed as dist
import yaml
from monai.bundle import DEFAULT_EXP_MGMT_SETTINGS, ConfigWorkflow, ReferenceResolver
from monai.bundle.properties import MetaProperties
from monai.bundle.utils import merge_kv
from monai.utils import BundleProperty, BundlePropertyConfig, ensure_tuple

from bundle.composition import BASES, INPUT_DIGESTS, with_bases
from bundle.config_files import ConfigFiles
from bundle.declarations.job import CONDUCT_KEYS
from bundle.declarations.keys import PATH_KEYS, problem
from bundle.files import digest, write_text
from bundle.plain_errors import plain_cause
from bundle.text import escape_logs
from bundle.threads import log_threads
from bundle.workflows.averaging import average_segmenters
from bundle.workflows.config_checks import (
    UNSET,
    ConfigError,
    check_arguments,
    check_numbers,
    check_overrides,
    check_selections,
    check_steps,
    check_top_level_keys,
    check_values,
    is_computed,
    keys_in_use,
)
from bundle.workflows.lock import exclusive
from bundle.workflows.network_checks import check_discriminator, check_generator, check_segmenter

__all__ = ["CheckedWorkflow", "DistributedGANWorkflow", "QualityWorkflow", "SegmentationWorkflow", "config_digest"]

logger = logging.getLogger(__name__)

# where a run lies and what computes it may change between its start and its resumption
MOVABLE_KEYS = {
    *("bundle_root", "dataset_dir", "run_dir", "output_dir", "device", "cache_dir", "cache_rate", "imports"),
    "condition_bank",  # its content is an input
    *CONDUCT_KEYS,
    "max_message_bytes",
}
# whose ids are those of handlers, which MONAI searches
_OF_HANDLERS = ("evaluator", "val_interval")
_YAML_WORDS = {"true": True, "false": False, "null": None}


def _first_part(reference: str | None) -> str:
    return ReferenceResolver.split_id(reference or "")[0]


def config_digest(path: str | os.PathLike) -> str:
    """
    Of the configuration that a run keeps, but for what it may change between its start and its resumption.

    Args:
        path: ``config_path`` of a :class:`CheckedWorkflow`.

    Returns:
        64 hexadecimal digits; empty without the file, as where MONAI's own workflow runs.
    """
    if not Path(path).is_file():
        return ""
    kept = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    content = {key: value for key, value in kept.items() if key not in MOVABLE_KEYS}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


class CheckedWorkflow(ConfigWorkflow):
    """
    A :class:`monai.bundle.ConfigWorkflow` that refuses what MONAI accepts silently, and computes nothing twice.

    When it is made, config files and overrides with keys that nothing uses, values that are none of their key's kind
    (:mod:`bundle.declarations.keys`), steps that do not fill epochs, and components with arguments that they do not
    take, raise :class:`bundle.workflows.ConfigError`; when it is initialized, missing properties do. Places that an
    override names are taken as they are written, and never evaluated. When it runs, three keys of the config count:

    ``config_path``
        where the resolved configuration is kept beside the outputs. A run that would go on with the outputs of another
        configuration is refused.
    ``inputs``
        files whose content belongs to the configuration.
    ``finished``
        the file that the stage writes last. When it is there, nothing is computed.

    Args:
        config_file: the stage's config first, then overlays; later ones win. What a file is based on
            (:mod:`bundle.composition`) is read before it and need not be named.
        workflow_type: as for MONAI; None to tell it by the stage: a config with ``train`` is a training.
        **kwargs: as for :class:`monai.bundle.ConfigWorkflow`; all others are overrides.

    Raises:
        ConfigError: see above; the message names the key.
        FileNotFoundError: when a config file is missing.
    """

    _untracked: dict | None = None

    def __init__(self, config_file: str | Sequence[str], workflow_type: str | None = None, **kwargs: Any) -> None:
        arguments = (config_file, workflow_type, dict(kwargs))
        own = {"meta_file", "logging_file", "init_id", "run_id", "final_id", "tracking", "properties_path"}
        # what YAML calls true is a text to the command line, which wants True
        kwargs = {
            key: _YAML_WORDS.get(value, value) if isinstance(value, str) else value for key, value in kwargs.items()
        }
        overrides = _with_paths({key: value for key, value in kwargs.items() if key not in own})
        kwargs |= overrides
        check_numbers(overrides)
        check_values(overrides)
        files = with_bases(ensure_tuple(config_file))
        check_top_level_keys(files, overrides)
        written = ConfigFiles(config={})
        for file in files:  # files may override below the top level as well
            content = ConfigFiles.load_config_file(file)
            check_overrides(written, content)
            for key, value in content.items():
                merge_kv(written, key, value)
        check_overrides(written, overrides)
        if workflow_type is None:
            workflow_type = "train" if "train" in written else "infer"
        tracking = kwargs.pop("tracking", None)
        super().__init__(files, workflow_type=workflow_type, **kwargs)
        self._arguments = arguments
        self.parser.get().pop(BASES, None)  # they are in
        if kwargs.get("logging_file") is not False:
            escape_logs()
        check_numbers(self._config())
        check_values(self._config())
        check_selections(self._config())
        check_steps(self._config())
        check_arguments(self._config())
        for key in PATH_KEYS & self.parser.get().keys():
            if not is_computed(self.parser[key]):
                self.parser[key] = _as_path(self.parser[key])
        if tracking is not None:
            # whether somebody keeps track of a run is no part of what it computes: it goes on without, and with
            self._untracked = deepcopy(self.parser.get())
            default = DEFAULT_EXP_MGMT_SETTINGS.get(tracking) if isinstance(tracking, str) else None
            self.patch_bundle_tracking(self.parser, deepcopy(default or ConfigFiles.load_config_files(tracking)))

    def check_properties(self) -> list[str]:
        """
        Properties that are required and missing, or optional and declared under another id than MONAI expects.

        MONAI's own raises KeyError at the first that is missing, and makes every component to find out.
        """
        missing, misplaced = [], []
        declared = self.parser.get()
        for name, about in self.properties.items():
            if about.get(BundleProperty.REQUIRED, False):
                if about[BundlePropertyConfig.ID] not in self.parser:
                    missing.append(name)
            # MONAI compares a key that there is not with all that there are, to propose one: that takes a second
            elif name not in _OF_HANDLERS and _first_part(about.get(BundlePropertyConfig.REF_ID)) not in declared:
                continue
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
        unset = [key for key, value in self._config().items() if value == UNSET]
        if unset:
            raise ConfigError(f"these keys need a value, by --key VALUE or in a config file: {', '.join(unset)}")
        return super().initialize()

    def run(self) -> Any:
        with plain_errors():
            self._refuse_another_config()
            if self._is_finished():
                return []
            log_threads()
            # of several processes (torch.distributed) the first one writes
            if self._content("config_path") is None or (dist.is_initialized() and dist.get_rank() > 0):
                return self._compute()
            kept = Path(self._content("config_path"))
            with exclusive(kept):
                # what another process did in the meantime counts
                self._refuse_another_config()
                if self._is_finished():
                    return []
                outcome = self._run_beside(kept)
            self._write_sheet()
            return outcome

    def _write_sheet(self) -> None:
        """Of the setting's synthetic data set, where it has one: every stage knows more of it."""
        setting = self._content("output_dir")
        if setting is not None and Path(setting, "synthetic", "datalist.json").is_file():
            from bundle.sheet import write_data_set_sheet  # late: hospitals do without figures and pages

            write_data_set_sheet(setting)

    def _run_beside(self, kept: Path) -> Any:
        """Run with the configuration kept; not when the run ends before anything else was written beside it."""
        is_new = not kept.exists()
        if is_new:
            # as _refuse_another_config reads it: what YAML would write for tuples and the like is not what it reads
            write_text(kept, yaml.safe_dump(self._plain_config(), sort_keys=False, allow_unicode=True, width=120))
        before = _files_below(kept.parent)
        try:
            return self._compute()
        except BaseException:
            # outputs without their configuration would be gone on with by any other one
            if is_new and _files_below(kept.parent) <= before:
                kept.unlink(missing_ok=True)
            raise

    def _compute(self) -> Any:
        """What the config's ``run`` says."""
        self.check_networks()
        return super().run()

    def check_networks(self) -> None:
        """
        Refuse networks that cannot be trained as they are declared; each is made and called once.

        Raises:
            ConfigError: naming the key, and what was expected of the network.
        """

    def again(self, overrides: Mapping[str, Any]) -> Self:
        """A workflow of the same configs with further overrides, which win; it is not initialized."""
        config_file, workflow_type, given = self._arguments
        return type(self)(config_file, workflow_type, **given | dict(overrides))

    def make(self, key: str) -> Any:
        """What the configuration has under ``key``, made; errors are those of the components."""
        with plain_errors():
            return self.parser.get_parsed_content(key)

    def _is_finished(self) -> bool:
        if self.finished:
            logger.info("finished before: %s", self._content("finished"))
        return self.finished

    @property
    def finished(self) -> bool:
        """Whether the file that the stage writes last is there."""
        path = self._content("finished")
        return path is not None and Path(path).exists()

    def _content(self, key: str) -> Any:
        return self.parser.get_parsed_content(key) if key in self.parser else None

    def _config(self) -> dict:
        config = self.parser.get() if self._untracked is None else self._untracked
        return {key: value for key, value in config.items() if key != "_meta_"}

    def _plain_config(self) -> dict:
        """The configuration and the digests of its inputs, of nothing but what JSON knows."""
        config = json.loads(json.dumps(self._config(), default=str))
        digests: dict[str, str] = {}
        for path in self._content("inputs") or []:
            # a missing one is reported better by the component that reads it
            if Path(path).is_file():
                name = Path(path).name
                digests[name if name not in digests else f"{name} ({len(digests) + 1})"] = digest(path)
        config[INPUT_DIGESTS] = digests
        return config

    def _refuse_another_config(self) -> None:
        if self._content("config_path") is None or not Path(self._content("config_path")).exists():
            return
        kept = Path(self._content("config_path"))
        before, config = _read_kept(kept), self._plain_config()
        # what this stage does not use may change: a segmenter's steps are nothing to a generator
        start = {self.init_id, self.run_id, self.final_id, "inputs", INPUT_DIGESTS}
        used = keys_in_use(config, start) | keys_in_use(before, start)
        changed = sorted(key for key in used - MOVABLE_KEYS if before.get(key) != config.get(key))
        if changed:
            outputs = Path(self._content("finished") or kept).parent
            also = "" if kept.is_relative_to(outputs) else f" and {kept}"
            raise ConfigError(
                f"{kept} keeps another configuration than this one for the outputs in {outputs}; they differ in: "
                f"{', '.join(changed)}. Choose another run_dir (behind FLARE: in server.yaml), or delete {outputs}"
                f"{also} to start over"
            )


def _read_kept(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{path}: unreadable, expected the configuration of the outputs beside it ({error})"
        ) from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path}: holds a {type(content).__name__}, expected the configuration of the outputs beside it"
        )
    return content


# what MONAI takes for parts of an id, evaluates, looks up or replaces
_MARKS = "#$@%"


def _as_path(value: Any) -> Any:
    """A place as MONAI leaves it alone: a text with one of its marks becomes an expression that is this text alone."""
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str) or not set(_MARKS) & set(text):
        return text
    literal = repr(text)
    for mark in _MARKS:
        literal = literal.replace(mark, f"\\x{ord(mark):02x}")
    return f"${literal}"


def _with_paths(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """
    Overrides whose places are taken as they are; a place that was read as a number, a list and so on is refused.

    Raises:
        ConfigError: naming the key.
    """
    taken = dict(overrides)
    for key in PATH_KEYS & overrides.keys():
        if wrong := problem(key, overrides[key]):
            raise ConfigError(wrong)
        taken[key] = _as_path(overrides[key])
    return taken


@contextmanager
def plain_errors() -> Iterator[None]:
    """Raise what a component raised: the config parser wraps it in layers that name expressions."""
    try:
        yield
    except Exception as error:
        cause = plain_cause(error)
        if cause is error:
            raise
        raise cause from None


_PASSING = (".tfevents.", ".partial.")


def _files_below(folder: Path) -> set[Path]:
    """Files that a later run would go on with: not TensorBoard's, nor what was not completed."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path for path in paths if not any(mark in str(path.relative_to(folder)) for mark in _PASSING)}


class DistributedGANWorkflow(CheckedWorkflow):
    """Training a generator against the sites (``train.yaml``), and generating with it (``generate.yaml``)."""

    def check_networks(self) -> None:
        """See :mod:`bundle.workflows.network_checks`; with weights there is nothing left to check."""
        if "train" in self.parser:
            shapes = self.make("condition_shape"), self.make("image_shape")
            guide = shapes[1][0] if self.make("generator_guide") else 0
            check_generator(self.make("generator_def"), (shapes[0][0] + guide, *shapes[0][1:]), shapes[1])
            check_discriminator(self.make("discriminator_def"), *shapes)


class SegmentationWorkflow(CheckedWorkflow):
    """
    Training a segmenter in one of the settings (``segment.yaml``), and scoring it (``evaluate.yaml``). Where the
    segmenters of several sites are averaged, :func:`bundle.workflows.averaging.average_segmenters` trains them.
    """

    def check_networks(self) -> None:
        """See :mod:`bundle.workflows.network_checks`; with weights there is nothing left to check."""
        if "fit" in self.parser:
            size = self.make("image_size")
            shape = len(self.make("image_modalities")), size, size
            key = str(self.parser["fit::network"]).lstrip("@")
            check_segmenter(self.make("fit::network"), key, shape, self.make("num_classes") + 1)

    def _compute(self) -> Any:
        if not self._content("averaged_over"):
            return super()._compute()
        self.check_networks()
        return average_segmenters(self)


class QualityWorkflow(CheckedWorkflow):
    """Scoring a synthetic data set itself, against the real one (``quality.yaml``)."""

    properties: dict[str, dict]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # of MONAI's properties of an inference those of a network are left out: nothing is inferred here
        own = {"bundle_root", "device", "dataset_dir", *MetaProperties}
        self.properties = {name: about for name, about in self.properties.items() if name in own}
