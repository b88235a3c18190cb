"""A participant's own file: as one begins with it, with what every key means, and as it is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.declarations.job import SERVER_KEYS, SITE_KEYS, JobError, read_local
from bundle.files import write_text
from bundle.site.release import DEFAULT

__all__ = ["read_server", "read_site", "write_own_file"]

MIN_CASES = 5
"""Held-out cases that a site's sums of scores are over at least, unless the site says otherwise."""


@dataclass(frozen=True)
class _Line:
    """
    Attributes:
        key: of the file.
        meaning: in words, with what holds where the key is absent.
        value: an example, as YAML; None where the key is needed and no example is right.
    """

    key: str
    meaning: str
    value: str | None = None


_DEVICE = _Line("device", "what computes: cpu, cuda or cuda:N. Without it: CUDA where there is, else the CPU", "cpu")
_THREADS = _Line(
    "num_threads", "threads that compute; on a CPU the bits depend on it. Without it: OMP_NUM_THREADS or all cores", "1"
)
_MESSAGES = _Line(
    "max_message_bytes",
    "images and conditions of one message, decoded; what is larger is refused before it is decoded",
    "268435456",
)
SITE_LINES = (
    _Line("dataset_dir", "NEEDED: the folder of this site's datalist.json (asyndgan prepare writes it)"),
    _Line("checkpoint_dir", "NEEDED: a folder for checkpoints, discriminators that have seen this site's images"),
    _DEVICE,
    _THREADS,
    _Line("batch_size", "of this site. Without it: the profile's", "2"),
    _Line(
        "release_policy",
        "what leaves this site: out_of_fold, guarded, private, published, or a policy with fields. Without it: "
        "out_of_fold",
        "out_of_fold",
    ),
    _Line("release_dir", "folder of this site's ledger of releases. Without it: releases/ in checkpoint_dir", "DIR"),
    _Line("allow_averaging", "whether weights trained on this site's images leave it. Without it: no", "false"),
    _Line("min_cases", "test cases that a sum of a segmenter's scores is over at least. Without it: 5", "5"),
    _Line(
        "per_case", "whether scores of single test cases leave as well, without their names. Without it: no", "false"
    ),
    _Line("keep_conditions", "whether the server may keep conditions of this site after the training", "true"),
    _Line(
        "allowed_overrides",
        "keys that a job may override here. Without it: all; under a private policy those that choose nothing among "
        "the data",
        "[num_steps, epoch_length, seed]",
    ),
    _Line("cache_rate", "share of the cases kept in memory; the others lie decoded in cache_dir", "1.0"),
    _Line("cache_dir", "a folder for decoded cases. Without it: the system's for temporary files", "DIR"),
    _MESSAGES,
    _Line("perceptual_weights_path", "torchvision's VGG-16. Without it: the perceptual term is off", "FILE"),
)
SERVER_LINES = (
    _Line("run_dir", "NEEDED: a folder for checkpoints, TensorBoard's events and the generator"),
    _DEVICE,
    _THREADS,
    _Line(
        "segmenters",
        "what sites score, by name: weights, or folders of packed bundles. Without it: those in run_dir",
        "{ours: FILE}",
    ),
    _Line("earlier", "folder of an earlier training (its seed_0/asyndgan), which the next one goes on from", "DIR"),
    _Line("public_conditions", "a bank of conditions (asyndgan bank), for sites that let none of theirs out", "FILE"),
    _MESSAGES,
    _Line("max_kept_bytes", "conditions of one site for generation, a byte a pixel", "2147483648"),
)
_SITE_HEAD = """# This hospital's own business, read when a training begins; the server neither sees nor overrides it.
# `asyndgan site check` says what is wrong with it.
"""
_SERVER_HEAD = """# The server's own business, read when a training begins.
# `asyndgan federate check --startup_kit KIT` says what is wrong with it.
"""


def read_site(folder: Path) -> dict[str, Any]:
    """
    A site's own file in a folder, ``site.yaml``, with the defaults of what a job must not decide.

    Raises:
        JobError: unreadable, or a key is unknown or missing.
    """
    local = _read(folder / "site.yaml", SITE_KEYS, ("dataset_dir", "checkpoint_dir"))
    # a config that the job names may hold another one, and the policy is the site's own
    local.setdefault("release_policy", DEFAULT)
    local.setdefault("min_cases", MIN_CASES)
    local.setdefault("per_case", False)
    local.setdefault("allow_averaging", False)
    # one ledger for all trainings: what the site has let out adds up
    local.setdefault("release_dir", str(Path(local["checkpoint_dir"]) / "releases"))
    return local


def read_server(folder: Path) -> dict[str, Any]:
    """The server's own file in a folder, ``server.yaml``; errors are those of :func:`read_site`."""
    return _read(folder / "server.yaml", SERVER_KEYS, ("run_dir",))


def _read(path: Path, keys: frozenset[str], needed: tuple[str, ...]) -> dict[str, Any]:
    local = read_local(path, keys)
    if missing := [key for key in needed if not local.get(key)]:
        raise JobError(f"{path.name}: expected {' and '.join(missing)}, a folder")
    return local


def write_own_file(kit: Path | str = ".", given: Mapping[str, Any] | None = None) -> Path | None:
    """
    ``local/site.yaml`` of a site's startup kit, ``local/server.yaml`` of the server's, with a comment for every key.

    Args:
        kit: the kit's folder.
        given: values by key; other keys are commented out, or empty where they are needed.

    Returns:
        The path; None where the kit has one, which is kept.

    Raises:
        FileNotFoundError: there is no kit of a server or a site.
    """
    kit = Path(kit)
    is_server, is_site = ((kit / "startup" / f"fed_{kind}.json").is_file() for kind in ("server", "client"))
    if not is_server and not is_site:
        raise FileNotFoundError(f"{kit}: expected the startup kit of a site or the server")
    path = kit / "local" / ("server.yaml" if is_server else "site.yaml")
    if path.exists():
        return None
    head, lines = (_SERVER_HEAD, SERVER_LINES) if is_server else (_SITE_HEAD, SITE_LINES)
    write_text(path, head + "".join(_text(line, given or {}) for line in lines))
    return path


def _text(line: _Line, given: Mapping[str, Any]) -> str:
    if line.key in given:
        # JSON is YAML, and quotes what needs it
        return f"\n# {line.meaning}\n{line.key}: {json.dumps(given[line.key], ensure_ascii=False)}\n"
    return f"\n# {line.meaning}\n" + (f"{line.key}:\n" if line.value is None else f"# {line.key}: {line.value}\n")
