"""Checks of a packed bundle: those that MONAI's model zoo asks of its bundles, and what else has to hold."""

from __future__ import annotations

import ast
import json
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from monai.bundle import ConfigParser, ckpt_export, create_workflow, verify_net_in_out

from bundle.files import digest
from bundle.sharing.generator_pages import WEIGHTS
from bundle.sharing.pack import importable_for_now
from bundle.sheet import NOBODY, SHEET_FILE, check_sheet
from bundle.sheet.attacks import is_attacked
from bundle.sheet.fields import GENERATOR

__all__ = ["check_bundle"]

NECESSARY = ("configs/metadata.json", "LICENSE")
PREFERRED = (
    *("models/model.pt", "models/model.ts", "configs/inference.yaml", "configs/inference.json"),
    *("configs/logging.conf", "docs/README.md", "docs/data_license.txt"),
)
_TEXT, _DICT, _LIST = str, dict, list
FIELDS = {
    **dict.fromkeys(("schema", "version", "monai_version", "pytorch_version", "numpy_version"), _TEXT),
    **dict.fromkeys(("name", "task", "description", "authors", "copyright", "intended_use"), _TEXT),
    **dict.fromkeys(("data_source", "data_type", "image_classes", "label_classes", "pred_classes"), _TEXT),
    **dict.fromkeys(("changelog", "required_packages_version", "eval_metrics", "network_data_format"), _DICT),
    "references": _LIST,
}
"""Fields of the published schema of ``metadata.json``, with their types."""
FORMAT_FIELDS = {
    **dict.fromkeys(("type", "format", "dtype"), _TEXT),
    **dict.fromkeys(("spatial_shape", "value_range"), _LIST),
    "num_channels": int,
    "is_patch_data": bool,
    "channel_def": _DICT,
}
_VERSION = re.compile(r"\d+\.\d+\.\d+")


def check_bundle(folder: str | Path) -> list[str]:
    """
    Everything that is wrong with a bundle, each in one line; empty where nothing is.

    Networks are made and called, and the weights exported to TorchScript: a few seconds. The bundle's code is executed.

    Args:
        folder: the bundle, the folder of ``configs``.
    """
    folder = Path(folder)
    missing = [file for file in NECESSARY if not (folder / file).is_file()]
    if missing:
        return [f"{folder / file}: missing, and necessary" for file in missing]
    problems = [f"{folder / file}: missing" for file in PREFERRED if not (folder / file).is_file()]
    problems += _check_metadata(folder)
    problems += _check_code(folder)
    if problems:
        return problems
    problems += _check_data_sheet(folder)
    with importable_for_now(_package(folder)):
        for check in (_check_properties, _check_network, _check_exports):
            problems += _said(check, folder)
    return problems


def _said(check: Callable[[Path], list[str]], folder: Path) -> list[str]:
    """What a check finds; where it fails itself, that."""
    try:
        return check(folder)
    except Exception as error:  # whatever the bundle's own code and MONAI raise
        return [f"{folder}: {check.__name__.strip('_')}: {type(error).__name__}: {str(error).splitlines()[0]}"]


def _check_metadata(folder: Path) -> list[str]:
    file = folder / "configs" / "metadata.json"
    try:
        metadata = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        return [f"{file}: cannot be read as JSON: {error}"]
    problems = _wrong_fields(metadata, FIELDS, str(file))
    if problems:
        return problems
    if not _VERSION.fullmatch(metadata["version"]):
        problems.append(f"{file}: version is {metadata['version']!r}, expected MAJOR.MINOR.PATCH")
    if metadata["version"] not in metadata["changelog"]:
        problems.append(f"{file}: changelog has no entry for version {metadata['version']}")
    versions = {**metadata["required_packages_version"]}
    versions |= {name: metadata[f"{name}_version"] for name in ("monai", "pytorch", "numpy")}
    problems += [
        f"{file}: version of {name} is {version!r}, expected one such as 1.2.3"
        for name, version in versions.items()
        if not isinstance(version, str) or not re.fullmatch(r"\d+(\.\d+)+", version)
    ]
    if not metadata["references"] or not metadata["eval_metrics"]:
        problems.append(f"{file}: expected references and evaluation figures, found none")
    for side, name in (("inputs", "image"), ("outputs", "pred")):
        data = metadata["network_data_format"].get(side, {}).get(name)
        where = f"{file}: network_data_format#{side}#{name}"
        if data is None:
            problems.append(f"{where}: missing")
            continue
        problems += _wrong_fields(data, FORMAT_FIELDS, where)
        if len(data.get("channel_def", ())) != data.get("num_channels"):
            problems.append(f"{where}: {data.get('num_channels')} channels, and {len(data['channel_def'])} are defined")
    return problems


def _check_data_sheet(folder: Path) -> list[str]:
    """A generator has a data sheet, which says nothing that the bundle contradicts."""
    metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    file, page = folder / "docs" / SHEET_FILE, folder / "docs" / "README.md"
    if not file.is_file():
        draws = metadata["network_data_format"]["outputs"]["pred"]["format"] == "image"
        return [f"{file}: missing, expected one of every generator"] if draws else []
    try:
        sheet = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        return [f"{file}: cannot be read as JSON: {error}"]
    if problems := check_sheet(sheet):
        return [f"{file}: {problem}" for problem in problems]
    said = {
        "/version": (sheet["version"], metadata["version"], "configs/metadata.json"),
        "/made/weights_sha256": (
            sheet["made"]["weights_sha256"],
            metadata.get("weights_source_sha256"),
            "configs/metadata.json",
        ),
        "/network/sha256": ((sheet.get("network") or {}).get("sha256"), digest(folder / WEIGHTS), WEIGHTS),
    }
    said["/kind"] = (sheet["kind"], GENERATOR, "a packed bundle")
    problems = [
        f"{file}: {pointer} is {value!r}, and {expected!r} in {where}"
        for pointer, (value, expected, where) in said.items()
        if value != expected
    ]
    if not is_attacked(sheet) and NOBODY not in page.read_text(encoding="utf-8"):
        problems.append(f"{page}: expected it to say that nobody has attacked this generator, as {file.name} does")
    return problems


def _wrong_fields(content: Any, fields: Mapping[str, type], where: str) -> list[str]:
    if not isinstance(content, dict):
        return [f"{where}: expected an object, got {type(content).__name__}"]
    return [
        f"{where}: {name} is missing"
        if name not in content
        else f"{where}: {name} is of type {type(content[name]).__name__}, expected {kind.__name__}"
        for name, kind in fields.items()
        if not isinstance(content.get(name), kind)
    ]


def _package(folder: Path) -> str:
    packages = [path.parent.name for path in folder.glob("*/__init__.py")]
    return packages[0] if packages else folder.name


def _check_code(folder: Path) -> list[str]:
    """Code and configs must do without this project, and beside other bundles."""
    problems = []
    for path in sorted(folder.rglob("*.py")):
        package = path.relative_to(folder).parts[0]
        if package in ("scripts", "bundle"):
            problems.append(f"{path}: packages called {package} are in other bundles as well")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            if any(name.split(".")[0] == "bundle" for name in names):
                problems.append(f"{path}:{node.lineno}: imports from the project that it was packed from")
    for path in sorted((folder / "configs").glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        if not text.isascii():
            problems.append(f"{path}: expected ASCII only")
        if re.search(r"(?<![\w.])bundle\.\w", text):
            problems.append(f"{path}: names parts of the project that it was packed from")
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError as error:
            problems.append(f"{path}: cannot be read as YAML: {error}")
            continue
        twin = path.with_suffix(".json")
        if twin.is_file() and json.loads(twin.read_text(encoding="utf-8")) != content:
            problems.append(f"{twin}: says another thing than {path.name}")
    return problems


def _check_properties(folder: Path) -> list[str]:
    """MONAI's properties of workflows, as hosts ask for them."""
    problems = []
    for stage in ("inference", "train"):
        file = folder / "configs" / f"{stage}.yaml"
        if file.is_file():
            with tempfile.TemporaryDirectory() as events:  # handlers begin to write when they are made
                workflow = create_workflow(
                    config_file=str(file),
                    workflow_type=stage,
                    bundle_root=str(folder),
                    output_dir=events,
                    logging_file=False,
                )
                problems += [f"{file}: lacks the property {name}" for name in workflow.check_properties()]
    return problems


def _config(folder: Path) -> dict[str, str]:
    return {
        "net_id": "network_def",
        "meta_file": str(folder / "configs" / "metadata.json"),
        "config_file": str(folder / "configs" / "inference.yaml"),
        "bundle_root": str(folder),
    }


def _check_network(folder: Path) -> list[str]:
    verify_net_in_out(**_config(folder), device="cpu")
    return []


def _check_exports(folder: Path) -> list[str]:
    """``model.ts``, and what MONAI exports now, answer as ``model.pt`` does."""
    parser = ConfigParser({**ConfigParser.load_config_file(folder / "configs" / "inference.yaml")})
    parser.read_meta(folder / "configs" / "metadata.json")
    parser["bundle_root"] = str(folder)
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(folder / "models" / "model.pt", map_location="cpu", weights_only=True))
    data = parser.get("_meta_::network_data_format::inputs::image")
    image = torch.rand(1, data["num_channels"], *data["spatial_shape"], generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as temporary:
        again = Path(temporary) / "model.ts"
        ckpt_export(**_config(folder), filepath=str(again), ckpt_file=str(folder / "models" / "model.pt"))
        answers = []
        for answering in (network, torch.jit.load(folder / "models" / "model.ts"), torch.jit.load(again)):
            torch.manual_seed(0)  # of what a generator draws of noise
            with torch.no_grad():
                answers.append(answering.eval()(image))
    names = (folder / "models" / "model.ts", f"{folder}: a new export to TorchScript")
    return [
        f"{name}: differs by {float((answer - answers[0]).abs().max()):g} from model.pt in its output"
        for name, answer in zip(names, answers[1:], strict=True)
        if not torch.allclose(answer, answers[0], atol=1e-4)
    ]
