"""The reference page of the configuration, written from the declaration of the keys and from the configs.

``python -m bundle.declarations.reference FILE`` writes it; ``make reference`` does for the documentation.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from bundle.declarations.keys import COMPONENTS, GROUPS, KEYS, PARTICIPANT_KEYS, Key
from bundle.files import write_text
from bundle.installation import config_dir

__all__ = ["reference_page"]

PROFILES = ("demo", "compact", "small", "paper")
_OTHERS = ("mlflow", "inference")
_HEAD = """<!-- written by `make reference` from bundle/declarations/keys.py and configs/: change those, not this -->
# Configuration reference

For whoever sets a key. A run reads a list of configs: the stage and what it is based on, the task and what it is based
on, a profile with the sizes, overlays. A later one replaces top-level keys of an earlier one; a key with `+` in front
is merged. `--set KEY=VALUE`, or `--KEY VALUE` with MONAI's command, comes last. A key that no stage uses is refused,
with the nearest one that there is, and so is a value that is none of its kind.

*Default* says which config has the key, and its value where that is a plain one; `computed` stands for an expression, a
reference or a component. *Published* is the authors' value; where the defaults differ, and why, is said in
[published settings](../explanation/published_settings.md). A reference to another key (`'@lr'`) or an expression
(`$...`) may stand where a value may.

Paths are taken as they are written: `--run_dir exp#1` and `--dataset_dir @data` work with our workflows, and nothing in
them is evaluated. Only what reads as a number or a list, such as `2018`, needs `./2018`. MONAI's own workflow, which
runs where no `--workflow_name` is given, misreads such names; they are refused.

Steps fill epochs in every stage: `num_steps` is a multiple of `epoch_length`, `segmenter_steps` one of
`segmenter_epoch_length`, `feature_steps` one of `feature_epoch_length`.
"""


def reference_page(folder: Path | None = None) -> str:
    """
    The page in Markdown.

    Args:
        folder: of the configs; None for those of this package.
    """
    configs = _configs(folder or config_dir())
    parts = [_HEAD]
    for title, keys in GROUPS.items():
        parts.append(_table(title, keys, configs))
    own = "In `site.yaml` and `server.yaml` of a startup kit"
    parts.append(_table(own, PARTICIPANT_KEYS, {}))
    parts.append(_profiles(configs))
    parts.append(_components(configs))
    return "\n".join(parts)


def _configs(folder: Path) -> dict[str, dict[str, Any]]:
    """Contents by name: what others are based on first, then stages, tasks and overlays, by name."""
    files = {file.stem: yaml.safe_load(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.yaml"))}
    return {name: content for name, content in files.items() if name not in _OTHERS}


def _table(title: str, keys: Mapping[str, Key], configs: Mapping[str, Mapping]) -> str:
    rows = [
        f"\n## {title}\n",
        "| key | what it may be | default | published | meaning |",
        "| --- | --- | --- | --- | --- |",
    ]
    for key, about in keys.items():
        default = "; ".join(_defaults(key, configs))
        rows.append(
            f"| `{key}` | {_kind(about)} | {default} | {_cell(about.published or '')} | {_cell(about.meaning)} |"
        )
    return "\n".join(rows)


def _defaults(key: str, configs: Mapping[str, Mapping]) -> Iterator[str]:
    if key in (name for profile in PROFILES for name in configs.get(profile, {})):
        yield "[by profile](#sizes-by-profile)"
    for name, config in configs.items():
        if key in config and name not in PROFILES:
            yield f"{name}: {_value(config[key])}"


def _value(value: Any) -> str:
    if value == "???":
        return "to be given"
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()
    is_computed = text.strip("'\"").startswith(("$", "@", "%")) or "_target_" in text or ": '$" in text
    return "computed" if is_computed else f"`{_cell(text)}`"


def _profiles(configs: Mapping[str, Mapping]) -> str:
    keys = list(dict.fromkeys(key for profile in PROFILES for key in configs[profile]))
    rows = ["\n## Sizes by profile\n", f"| key | {' | '.join(PROFILES)} |", "| --- |" + " --- |" * len(PROFILES)]
    for key in keys:
        values = (_value(configs[profile][key]) if key in configs[profile] else "" for profile in PROFILES)
        rows.append(f"| `{key}` | {' | '.join(values)} |")
    return "\n".join(rows)


def _components(configs: Mapping[str, Mapping]) -> str:
    """What an overlay may exchange: keys that hold a component, and where they stand."""
    found: dict[str, list[str]] = {}
    for name, config in configs.items():
        for key, value in config.items():
            if key not in KEYS and isinstance(value, dict) and "_target_" in value:
                found.setdefault(key, []).append(f"{name}: `{value['_target_']}`")
    rows = [
        "\n## Components\n",
        "Parts that a task or an overlay may exchange as a whole. Networks, optimisers and samples are declared with",
        "`_mode_: callable`, for the bundle makes them: from the seed, and one for each site.\n",
        "| key | component |",
        "| --- | --- |",
    ]
    rows += [f"| `{key}` | {'; '.join(found[key])} |" for key in sorted(found)]
    rows += ["\nA network is made and called once before a training begins. What it takes and returns:\n"]
    rows += [f"- `{key}`: {meaning}" for key, meaning in COMPONENTS.items()]
    return "\n".join(rows) + "\n"


def _kind(about: Key) -> str:
    return _cell(str(about.kind).partition(" (")[0] + (", or null" if str(about.kind).endswith("), or null") else ""))


def _cell(text: Any) -> str:
    return str(text).replace("|", "\\|")


if __name__ == "__main__":
    write_text(sys.argv[1], reference_page())
