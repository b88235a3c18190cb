"""What a job of a federation says, and what its participants say for themselves.

A job names configs that every participant has, and overrides keys with plain values: it carries no code, no expression
and no path. The configs are those of this package, and such as each participant has approved, which the job names by
their digest (:mod:`bundle.declarations.own_configs`). Everything that is a participant's own business stands in a file
at its place: ``site.yaml`` at a site, ``server.yaml`` at the server.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from bundle.composition import with_bases
from bundle.declarations.keys import KEYS, PARTICIPANT_KEYS, PATH_KEYS, problem
from bundle.declarations.kinds import Fields, ListOf, Matching, in_brief
from bundle.declarations.own_configs import check_own_config, digests

__all__ = [
    "AVERAGE",
    "CONDUCT_KEYS",
    "RESERVED",
    "SCORE",
    "SERVER_KEYS",
    "SITE_KEYS",
    "TRAIN",
    "Job",
    "JobError",
    "NotApproved",
    "of_stage",
    "read_local",
]

TRAIN = "train"
"""Stage of a job that trains the generator."""
SCORE = "score"
"""Stage of a job that scores segmenters at the sites."""
AVERAGE = "average"
"""Stage of a job that averages the segmenters of sites."""

SITE_KEYS = frozenset(
    {
        "allow_averaging",
        "allowed_overrides",
        "batch_size",
        "cache_dir",
        "cache_rate",
        "checkpoint_dir",
        "dataset_dir",
        "device",
        "keep_conditions",
        "max_message_bytes",
        "min_cases",
        "num_threads",
        "per_case",
        "perceptual_weights_path",
        "release_dir",
        "release_policy",
    }
)
"""Keys that a site, and nobody else, sets."""
SERVER_KEYS = frozenset(
    {
        *("device", "earlier", "max_kept_bytes", "max_message_bytes", "num_threads", "public_conditions"),
        *("run_dir", "segmenters"),
    }
)
"""Keys that the server sets for itself; runs of the same job may differ in them."""
_OF_STAGES = {
    SCORE: frozenset({"min_cases", "per_case", "segmenters"}),
    AVERAGE: frozenset({"allow_averaging", "cache_dir", "cache_rate"}),
}
_OF_NO_TRAINING = _OF_STAGES[SCORE] | {"allow_averaging"}
_OF_ALL = frozenset(
    {"dataset_dir", "device", "max_message_bytes", "num_threads", "release_dir", "release_policy", "run_dir"}
)
CONDUCT_KEYS = frozenset(
    {
        "max_gradient_norm",
        "max_strikes",
        "min_sites",
        "open_timeout",
        "rejoin_interval",
        "round_timeout",
        "score_timeout",
        "step_timeout",
    }
)
"""How a run deals with sites that fail. With others it is the same training, and goes on from its checkpoints."""
PRIVATE_OVERRIDES = CONDUCT_KEYS | {
    "checkpoint_epochs",
    "compression",
    "earlier_training",
    "epoch_length",
    "forget",
    "mixture",
    "num_steps",
    "precision_from_sites",
    "precision_to_sites",
    "replay_batch_size",
    "replay_weight",
    "seed",
    "sites_per_step",
}
"""
What a job may override at a site whose answers are to be private, unless its ``allowed_overrides`` say otherwise:
nothing that chooses among the site's data, for whether a site can take part would be an answer about them.
"""
# where things lie is each participant's own, and a site's name what it was certified by
_GIVEN_KEYS = frozenset({"bundle_root", "site_name"})
RESERVED = SITE_KEYS | SERVER_KEYS | _GIVEN_KEYS
"""What no job and no config that one names may say: it is each participant's own."""
# what ConfigParser would evaluate, look up or replace
_MARKS = ("$", "@", "%")
# comes last in every training: it puts the sites behind the wall
_LAST = "flare.yaml"
_MAX_OVERRIDES = len(KEYS)
_NONE: Mapping[str, Path] = MappingProxyType({})
_SHA256 = Matching(r"[0-9a-f]{64}", "64 hexadecimal digits")
_FORM = Fields(
    config_files=ListOf(Matching(r"[A-Za-z0-9_-]+\.yaml", "the name of a config"), 1, 16),
    version=Matching(r"[A-Za-z0-9.+_-]+", "a version"),
    digest=_SHA256,
)


class JobError(ValueError):
    """A job or a local file that cannot be used; the message names the key and what was expected."""


class NotApproved(JobError):
    """A config that a job needs, and that this participant lacks or has in another version."""


@dataclass(frozen=True)
class Job:
    """
    A training, an evaluation or a federated averaging, as its participants are asked for it.

    Attributes:
        config_files: names of configs, in their order, of the folder that every participant has, or approved ones;
            what they are based on goes without saying.
        overrides: plain values by top-level key of the configs, of keys that hold such; nothing that is evaluated,
            nothing that is a participant's own.
        version: of this package.
        digest: of the contents of the configs and of what they are based on.
        approved: SHA-256, 64 hexadecimal digits, by the name of those that are no configs of this package.
    """

    config_files: tuple[str, ...]
    overrides: dict[str, Any] = field(default_factory=dict)
    version: str = ""
    digest: str = ""
    approved: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(
        cls,
        config_files: Sequence[str],
        overrides: Mapping[str, Any],
        folder: Path,
        version: str,
        own: Mapping[str, Path] = _NONE,
    ) -> Job:
        """
        Args:
            config_files: names of configs in ``folder``, or in ``own``.
            overrides: see :class:`Job`.
            folder: the configs of this package.
            version: of this package.
            own: paths of configs that participants are to approve, by name.

        Raises:
            JobError: a config that is not in the folder, an override that is no plain value or not the job's to make.
        """
        approved = digests(own)
        digest = _digest(config_files, folder, own)
        job = cls.from_dict(asdict(cls(tuple(config_files), dict(overrides), version, digest, approved)))
        job.check(folder, version, own)
        return job

    @classmethod
    def from_dict(cls, content: Any) -> Job:
        """
        The inverse of :meth:`to_dict`, for content from anywhere.

        Raises:
            JobError: it has not the form of a job. The message repeats nothing of it.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(content, Mapping) or not names - {"approved"} <= content.keys() <= names:
            raise JobError("not a job: expected config_files, overrides, version and digest, and approved if any")
        overrides = content["overrides"]
        if not isinstance(overrides, Mapping) or len(overrides) > _MAX_OVERRIDES:
            raise JobError(f"not a job, overrides: expected a mapping of at most {_MAX_OVERRIDES} keys")
        for name, kind in _FORM.kinds.items():
            if not kind.accepts(content[name]):
                raise JobError(f"not a job, {name}: expected {kind}")
        approved = content.get("approved", {})
        if not isinstance(approved, Mapping) or not approved.keys() <= set(content["config_files"]):
            raise JobError("not a job, approved: expected a mapping of names among config_files")
        if not all(map(_SHA256.accepts, approved.values())):
            raise JobError(f"not a job, approved: expected {_SHA256} for each name")
        return cls(
            tuple(content["config_files"]), dict(overrides), content["version"], content["digest"], dict(approved)
        )

    def to_dict(self) -> dict[str, Any]:
        """Nothing but what JSON knows."""
        content = asdict(self) | {"config_files": list(self.config_files)}
        return {key: value for key, value in content.items() if key != "approved" or value}

    @property
    def stage(self) -> str:
        """:data:`TRAIN`, :data:`SCORE` or :data:`AVERAGE`: what the first of its configs is."""
        return Path(self.config_files[0]).stem

    @property
    def identity(self) -> str:
        """
        Names this training among others, at a site that keeps checkpoints of several: the same for jobs that differ in
        :data:`CONDUCT_KEYS` only.
        """
        overrides = {key: value for key, value in self.overrides.items() if key not in CONDUCT_KEYS}
        content = self.to_dict() | {"overrides": overrides}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def check(self, folder: Path, version: str, own: Mapping[str, Path] = _NONE) -> None:
        """
        Args:
            folder: the configs of this participant's package.
            version: of this participant's package.
            own: paths of the configs that it has approved, by name; the job may need others of them, or none.

        Raises:
            NotApproved: a config that is to be approved is not there, or is another.
            JobError: another version, other configs or in another order, or overrides that a job must not make.
        """
        if self.version != version:
            raise JobError(f"the job is for version {in_brief(self.version)} of this package, here is {version!r}")
        self._check_approved(folder, own)
        if _digest(self.config_files, folder, self._needed(own)) != self.digest:
            raise JobError(f"the configs {', '.join(self.config_files)} are not those that the job was made with")
        _check_order(self.config_files, folder, self._needed(own))
        declared = self._plain(folder, own).keys() & KEYS.keys() - _GIVEN_KEYS - PATH_KEYS
        for key, value in self.overrides.items():
            if key in SITE_KEYS | SERVER_KEYS:
                raise JobError(f"override {key}: each participant sets it in its own file, a job cannot")
            # parts of components are none: sites::batch_size and samples_def::cache_dir are a site's own as well
            if key not in declared:
                raise JobError(f"override {in_brief(key)}: expected a key of the configs that holds a plain value")
            if wrong := problem(key, value):
                raise JobError(f"override {wrong}")

    def files(self, folder: Path, own: Mapping[str, Path] = _NONE) -> list[str]:
        """Paths of the configs and of what they are based on."""
        return _paths(self.config_files, folder, self._needed(own))

    def value(self, key: str, folder: Path, own: Mapping[str, Path] = _NONE) -> Any:
        """What the training has under a key that holds a plain value: the job's override, or that of the configs."""
        return (self._plain(folder, own) | self.overrides)[key]

    def _plain(self, folder: Path, own: Mapping[str, Path] = _NONE) -> dict[str, Any]:
        """What the configs hold as plain values by top-level key: no component, and nothing that is evaluated."""
        return {key: value for key, value in _merged(self.files(folder, own)).items() if _is_plain(value)}

    def _needed(self, own: Mapping[str, Path]) -> dict[str, Path]:
        return {name: path for name, path in own.items() if name in self.approved}

    def _check_approved(self, folder: Path, own: Mapping[str, Path]) -> None:
        needed = self._needed(own)
        found = digests(needed)
        for name, digest in self.approved.items():
            place = f"local/configs/{name} in this participant's startup kit"
            if name not in found:
                raise NotApproved(
                    f"the job needs {name} of sha256 {digest}, which is not approved here: to approve it, get the file "
                    f"from the coordinator, read it, and put it to {place}"
                )
            if found[name] != digest:
                raise NotApproved(
                    f"the job needs {name} of sha256 {digest}, and the one approved here has {found[name]}: to approve "
                    f"the other, get it from the coordinator, read it, and put it to {place}"
                )
            try:
                check_own_config(needed[name], folder, RESERVED)
            except ValueError as error:
                raise JobError(str(error)) from error


def read_local(path: Path, keys: frozenset[str]) -> dict[str, Any]:
    """
    A participant's own file.

    Args:
        path: YAML.
        keys: that it may hold: :data:`SITE_KEYS` or :data:`SERVER_KEYS`.

    Raises:
        JobError: no such file, no mapping, other keys, or values that are none of their key's kind.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise JobError(f"{path}: unreadable, expected YAML with some of {', '.join(sorted(keys))} ({error})") from error
    if not isinstance(content, dict):
        raise JobError(f"{path}: holds a {type(content).__name__}, expected keys and values")
    unknown = sorted(str(key) for key in content.keys() - keys)
    if unknown:
        raise JobError(f"{path}: unknown key {', '.join(unknown)}, expected some of {', '.join(sorted(keys))}")
    for key, value in content.items():
        if wrong := problem(key, value, KEYS | PARTICIPANT_KEYS):
            raise JobError(f"{path}: {wrong}")
    return content


def of_stage(stage: str, local: Mapping[str, Any]) -> dict[str, Any]:
    """What a participant's own file says that counts in jobs of a stage, and that their configs have a key for."""
    own = _OF_ALL | _OF_STAGES.get(stage, local.keys() - _OF_NO_TRAINING)
    return {key: value for key, value in local.items() if key in own}


def _check_order(names: Sequence[str], folder: Path, own: Mapping[str, Path]) -> None:
    """A stage, its task, then what overrides them, and at last what puts up the wall if the stage is a training."""
    right = (
        f"expected {TRAIN}.yaml, a task, further configs if any, and {_LAST}, each once; or {SCORE}.yaml or "
        f"{AVERAGE}.yaml, a task, and further configs if any"
    )
    configs = [_read_config(own.get(name, folder / name)) for name in names]
    last = {f"{TRAIN}.yaml": True, f"{SCORE}.yaml": False, f"{AVERAGE}.yaml": False}
    if names[0] not in last or (_LAST in names) != last[names[0]] or len(set(names)) != len(names):
        raise JobError(f"configs: {right}, got {', '.join(names)}")
    if _LAST in names[:-1] or [place for place, config in enumerate(configs) if "run" in config] != [0]:
        raise JobError(f"configs: {right}, got {', '.join(names)}")
    if [place for place, config in enumerate(configs) if "task" in config] != [1]:
        raise JobError(f"configs: {right}, got {', '.join(names)}")


# ConfigParser merges in the same way; it brings torch, for which a site's waiting process has no use
def _merged(files: Sequence[str]) -> dict[str, Any]:
    """The configs as one, later ones win; a key with ``+`` adds to the one before."""
    merged: dict[str, Any] = {}
    for file in files:
        for key, value in _read_config(Path(file)).items():
            before = merged.get(key[1:]) if key.startswith("+") else None
            if isinstance(before, dict):
                value = before | value
            elif isinstance(before, list):
                value = before + value
            merged[key.removeprefix("+")] = value
    return merged


def _read_config(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _digest(names: Sequence[str], folder: Path, own: Mapping[str, Path] = _NONE) -> str:
    digest = hashlib.sha256()
    for path in map(Path, _paths(names, folder, own)):
        content = path.read_bytes()
        digest.update(f"{path.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _paths(names: Sequence[str], folder: Path, own: Mapping[str, Path]) -> list[str]:
    for name in names:
        if Path(name).name != name or not own.get(name, folder / name).is_file():
            raise JobError(f"config {name!r}: expected the name of a file in {folder}")
    try:
        return with_bases([own.get(name, folder / name) for name in names], folder)
    except ValueError as error:
        raise JobError(f"configs: {error}") from error


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(k, str) and k != "_target_" and _is_plain(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    if isinstance(value, str):
        return not value.startswith(_MARKS)
    return value is None or isinstance(value, bool | int | float)
