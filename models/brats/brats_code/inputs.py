"""Files that a config is given: those of a folder, pairs of the same name, and what their outputs would overwrite."""

from __future__ import annotations

import inspect
import os
import re
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

__all__ = ["check_inputs", "check_places", "list_files", "misread", "pair_files", "running_workflow"]

Files = str | os.PathLike | Sequence[Any]


def list_files(folder: str | os.PathLike, suffixes: Sequence[str], made: str = "") -> list[str]:
    """
    The files of a folder, sorted; whatever characters its name holds, and none where it is not there.

    Args:
        folder: is not searched below.
        suffixes: endings of names, such as ``.nii.gz``; capitals or not. Hidden files are left out.
        made: what an earlier start has added to the names of its outputs: ``NAME_{made}`` beside ``NAME`` is one of
            those, and no input.
    """
    endings = tuple(suffix.lower() for suffix in suffixes)
    entries = Path(folder).iterdir() if Path(folder).is_dir() else ()
    found = [p for p in entries if p.name.lower().endswith(endings) and not p.name.startswith(".") and p.is_file()]
    names = {_stem(path) for path in found}
    return sorted(str(p) for p in found if not (made and _without(_stem(p), f"_{made}") in names))


def pair_files(options: Sequence[str], **files: Files) -> list[dict[str, Any]]:
    """
    Items of two files each, which belong together by their names.

    Names are the same but for the suffix, or one side has a last part that all of its files share: ``p1.nii.gz`` and
    ``p1_seg.nii.gz``. Two single files, each given by its path, are a pair whatever their names.

    Args:
        options: what the two are called for whoever gives them, such as ``images`` and ``labels``.
        **files: two keys of items, each with a path or a list of paths.

    Returns:
        one ``{key: path, other key: path}`` for each pair, in the order of the first key's files.

    Raises:
        ValueError: naming the option that nothing was given for, or the files that have no partner.

    >>> pair_files(["images", "labels"], image=["in/p1.nii", "in/p10.nii"], label=["of/p10_seg.nii", "of/p1_seg.nii"])
    [{'image': 'in/p1.nii', 'label': 'of/p1_seg.nii'}, {'image': 'in/p10.nii', 'label': 'of/p10_seg.nii'}]
    """
    first, second = files
    if all(isinstance(given, str | os.PathLike) for given in files.values()):
        return [{key: str(path) for key, path in files.items()}]
    left, right = (_by_stem(option, given) for option, given in zip(options, files.values(), strict=True))
    for option, here, there in zip(options, (left, right), (right, left), strict=True):
        if there and not here:
            raise ValueError(f"{option}: no file was found, expected one for each of {_listed(list(there.values()))}")
    # exact names win; then those of one side without the part that all of that side share
    ways = [(left, right), (left, _without_shared_part(right)), (_without_shared_part(left), right)]
    left, right = max(ways, key=lambda way: len(way[0].keys() & way[1].keys()))
    alone = [path for stem, path in left.items() if stem not in right]
    alone += [path for stem, path in right.items() if stem not in left]
    if alone:
        raise ValueError(f"{' and '.join(options)} belong together by name, without a partner: {_listed(alone)}")
    return [{first: path, second: right[stem]} for stem, path in left.items()]


def check_inputs(
    items: Sequence[Mapping[str, Any]], key: str, output_dir: str, postfix: str, extension: str, empty: str
) -> None:
    """
    Refuse inputs whose outputs would overwrite each other or an input, before anything is computed.

    An output is called ``NAME_POSTFIX`` after its input, in one folder for all.

    Args:
        items: with a path under ``key``, or a list of paths, of which the first counts.
        output_dir: folder of the outputs.
        postfix, extension: of the outputs, such as ``seg`` and ``.nii.gz``.
        empty: what is said where there are no items.

    Raises:
        ValueError: naming the files.
    """
    if not items:
        raise ValueError(empty)
    sources = [_first(item[key]) for item in items]
    by_output: dict[Path, str] = {}
    for source in sources:
        output = Path(output_dir) / f"{_stem(source)}_{postfix}{extension}"
        if output in by_output:
            raise ValueError(
                f"{by_output[output]} and {source} have one name, and both outputs would be {output}; expected "
                "different names in one call"
            )
        by_output[output] = source
    taken = {os.path.realpath(source): source for source in sources}
    for output, source in by_output.items():
        if os.path.realpath(output) in taken:
            raise ValueError(
                f"the output of {source} would overwrite the input {output}; expected another output_dir, or inputs "
                "without it"
            )


def _first(given: Any) -> str:
    """The file of an item, or the first of several."""
    files = [given] if isinstance(given, str | os.PathLike) else given
    if not isinstance(files, list | tuple) or not files or not all(isinstance(f, str | os.PathLike) for f in files):
        raise ValueError(
            f"an input is {reprlib.repr(given)}, expected the path of a file, or a list of those of one image"
        )
    return str(files[0])


def check_places(one: Sequence[str], several: Sequence[str] = ()) -> None:
    """
    For the first lines of a config's ``run``: refuse places that MONAI's own workflow has read as something else, of
    which it says nothing, or something that names no option.

    Args:
        one: keys of the config that hold one path.
        several: keys that hold one, or a list of them.

    Raises:
        ValueError: naming the option, and what to write.
    """
    workflow = running_workflow()
    config = {} if workflow is None else workflow.parser.get()
    for key in (*one, *several):
        if key in config and (wrong := misread(key, config[key], config, key in several)):
            raise ValueError(wrong)


def running_workflow() -> ConfigWorkflow | None:
    """The workflow that evaluates the expression from which this is called."""
    # MONAI hands an expression nothing of the config that it stands in, so it is looked for where it is evaluated from
    callers = (frame.frame.f_locals.get("self") for frame in inspect.stack(context=0))
    return next((caller for caller in callers if isinstance(caller, ConfigWorkflow)), None)


_WORD_AFTER_DOLLAR = re.compile(r"\$[\w./~ -]*")


def misread(key: str, value: Any, config: Mapping[str, Any], several: bool = False) -> str | None:
    """
    Why a place is not what was written on MONAI's command line, in one line; None where it may be.

    Args:
        key: of the config.
        value: what the parser has under it, not resolved.
        config: all of what the parser has.
        several: whether it may be a list of places, or of lists of those of one image.

    >>> misread("output_dir", "run::1", {})
    "output_dir: MONAI's own workflow reads 'run::1' where # stood; rename the folder"
    """
    if isinstance(value, list | tuple) and several:
        return next((wrong for item in value if (wrong := misread(key, item, config, several))), None)
    if value is None or isinstance(value, Mapping):  # nothing, or a component
        return None
    if not isinstance(value, str):
        return f"{key}: expected a path, got {value!r:.60}; write ./ in front of what reads as something else"
    if value.startswith("@") and re.split("::|#", value[1:])[0] not in config:
        return f"{key}: MONAI takes {value!r:.60} for the name of a key, and there is none; write ./ in front of it"
    if _WORD_AFTER_DOLLAR.fullmatch(value):
        return f"{key}: MONAI takes {value!r:.60} for an expression; write ./ in front of it"
    if not value.startswith(("$", "@", "%")) and "::" in value:
        return f"{key}: MONAI's own workflow reads {value!r:.60} where # stood; rename the folder"
    return None


def _stem(path: str | os.PathLike) -> str:
    """The name as MONAI's savers take it: without the suffix, and without ``.gz`` before that."""
    return os.path.splitext(Path(path).name.removesuffix(".gz"))[0]


def _without(stem: str, ending: str) -> str | None:
    return stem.removesuffix(ending) if stem.endswith(ending) else None


def _by_stem(option: str, files: Files) -> dict[str, str]:
    paths = [str(path) for path in ([files] if isinstance(files, str | os.PathLike) else files)]
    found: dict[str, str] = {}
    for path in paths:
        if (other := found.setdefault(_stem(path), path)) is not path:
            raise ValueError(f"{option}: {other} and {path} have one name, expected different ones")
    return found


def _without_shared_part(files: dict[str, str]) -> dict[str, str]:
    """Without the last part of the names, such as ``_seg``, where all have the same one; numbers tell files apart."""
    parts = {stem.rpartition("_")[2] for stem in files}
    if len(parts) != 1 or not (part := parts.pop()).isalpha():
        return files
    return {stem.removesuffix(f"_{part}"): path for stem, path in files.items()}


def _listed(texts: Sequence[str], limit: int = 20) -> str:
    return ", ".join(texts[:limit]) + (f" and {len(texts) - limit} more" if len(texts) > limit else "")
