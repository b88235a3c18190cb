"""From the files of a run to a bundle that works without this project."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ckpt_export

from bundle.files import atomic_folder, atomic_path, save_torch, write_json, write_text
from bundle.installation import config_dir
from bundle.networks.weights import read_weights
from bundle.sharing.code import Code, names_in
from bundle.sharing.configs import TEMPLATES, generator_configs, segmenter_configs
from bundle.sharing.drawing_files import check_shapes, keep_drawing_files, write_drawing_files
from bundle.sharing.errors import PackError
from bundle.sharing.facts import SCHEMA, about, describe, generator_figures, package_versions, performance
from bundle.sharing.generator_pages import generator_sheet, write_generator_pages
from bundle.sharing.run_files import RunFiles
from bundle.sheet.training_data import known_of

__all__ = ["KINDS", "PackOptions", "importable_for_now", "pack_bundle"]

KINDS = ("brats", "multi_organ", "generator")
LOADED = ("inference.yaml", "train.yaml")
"""Configs that are packed as JSON, too: MONAI's ``load`` and the model zoo's checks look for no other."""


@dataclass(frozen=True)
class PackOptions:
    """
    What to pack.

    Args:
        kind: ``brats`` or ``multi_organ`` for a segmenter of that task, ``generator`` for one of either.
        weights: ``RUN/seed_0/SETTING/segmenter/segmenter.pt`` or ``.../gan/generator.pt``.
        output: folder to write ``NAME/`` and ``NAME.zip`` into.
        license: text of the licence of code and configs.
        name: of the bundle; None for that of the kind.
        version: of the bundle, MAJOR.MINOR.PATCH.
        changes: what is new in it.
        authors: who made it.
        overwrite: whether a bundle of that name in ``output`` is replaced. Its changelog goes on.
        files: see :class:`RunFiles`.
        shapes: statistics of shapes of label maps (``asyndgan shapes measure``), so that a generator draws label
            maps of its own; None: whoever has it brings label maps.
        drawing_only: whether a generator is packed with no more than ``asyndgan generate --model`` takes: no code, and
            no configs for MONAI's commands. For those who have this project.
        data_name, data_license: what the real data are called, and a file with their licence, in the place of what
            their data list says.
    """

    kind: str
    weights: Path
    output: Path
    license: Path
    name: str | None = None
    version: str = "0.1.0"
    changes: str = "First version"
    authors: str = "The AsynDGAN bundle's authors"
    overwrite: bool = False
    files: dict[str, Path | None] = field(default_factory=dict)
    data_name: str | None = None
    data_license: Path | None = None
    shapes: Path | None = None
    drawing_only: bool = False


def pack_bundle(options: PackOptions) -> Path:
    """
    Write a bundle and its zip file, whole or not at all.

    Returns:
        the folder of the bundle.

    Raises:
        PackError: naming the file or option, and what was expected.
    """
    if options.kind not in KINDS:
        raise PackError(f"kind: expected one of {', '.join(KINDS)}, got {options.kind!r}")
    run = RunFiles(Path(options.weights), options.files)
    state = read_weights(run.weights, "expected the weights that a run has written")
    kind = _kind(options.kind, run)
    check_shapes(options.shapes, kind, options.drawing_only)
    name = options.name or about(kind)["name"]
    if not name.isidentifier() or not name.isascii() or name == "scripts":
        raise PackError(f"--name {name}: expected letters, digits and underscores, for code is packed under that name")
    target = Path(options.output) / name
    if target.exists() and not options.overwrite:
        raise PackError(f"{target} exists: --overwrite replaces it")
    license_text = _text(options.license, "the licence of code and configs")
    fields = describe(kind, run, options.data_name)
    fields |= {"version": options.version, "parameters": sum(value.numel() for value in state.values())}
    sheet = None
    if kind.startswith("generator"):
        sheet = generator_sheet(run, fields, options.data_name, options.data_license)
        figures, configs = generator_figures(run, sheet, fields["data"]), generator_configs(run.config)
    else:
        figures, fields["performance"] = performance(run, fields)
        configs = segmenter_configs({**run.config, **run.evaluation_config})
    code = Code(set().union(*(names_in(yaml.safe_load(text)) for text in configs.values())), f"{name}_code")
    fields["references"] = _references(fields)
    metadata = {
        "schema": SCHEMA,
        "version": options.version,
        "changelog": _changelog(target, options),
        "monai_version": installed("monai"),
        "pytorch_version": installed("torch").split("+")[0],
        "numpy_version": installed("numpy"),
        "required_packages_version": package_versions(fields["packages"], code.third_party),
        "name": fields["title"],
        "task": fields["task"],
        "description": fields["description"],
        "authors": options.authors,
        "copyright": f"Copyright (c) {options.authors}",
        "data_source": fields["data_paragraph"],
        "data_type": fields["data_type"],
        "image_classes": fields["image_classes"],
        "label_classes": fields["label_classes"],
        "pred_classes": fields["pred_classes"],
        "eval_metrics": figures,
        "intended_use": "Research on learning from data that cannot be pooled; not for clinical use",
        "references": fields["references"],
        "weights_source_sha256": run.digest,
        "network_data_format": _data_format(kind, fields),
    }
    with atomic_folder(target) as folder:
        for file, content in configs.items():
            config = code.rewrite(content)
            write_text(folder / "configs" / file, config)
            if file in LOADED:
                write_json(folder / "configs" / Path(file).with_suffix(".json"), yaml.safe_load(config))
        write_json(folder / "configs" / "metadata.json", metadata)
        shutil.copyfile(config_dir() / "logging.conf", folder / "configs" / "logging.conf")
        code.write(folder)
        write_text(folder / "docs" / "data_license.txt", _data_license(fields, options.data_license))
        write_text(folder / "LICENSE", license_text)
        (folder / "models").mkdir()
        _write_models(folder, state, run, code.package)
        if sheet is None:
            write_text(folder / "docs" / "README.md", _segmenter_page(fields))
        else:
            write_drawing_files(folder, fields, run.config, options.shapes)
            if options.drawing_only:
                keep_drawing_files(folder, code.package)
            drawing = {"shapes": options.shapes is not None, "drawing_only": options.drawing_only, "folder": name}
            write_generator_pages(folder, run, sheet, {**fields, **drawing, "figures": figures})
    with atomic_path(target.with_suffix(".zip")) as temporary:
        shutil.make_archive(str(temporary.with_suffix("")), "zip", target.parent, name)
    return target


@contextmanager
def importable_for_now(package: str) -> Iterator[None]:
    """Undo afterwards what a packed config does to make its code importable, so that another copy can be imported."""
    path = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = path
        for module in [m for m in sys.modules if m == package or m.startswith(f"{package}.")]:
            del sys.modules[module]


def _kind(kind: str, run: RunFiles) -> str:
    task = run.config["task"]
    network = "generator" if kind == "generator" else "segmenter"
    if kind in ("brats", "multi_organ") and task != kind:
        raise PackError(f"{run.path('training_config')}: task is {task!r}, expected {kind!r}")
    if task not in ("brats", "multi_organ"):
        raise PackError(f"{run.path('training_config')}: task is {task!r}, expected brats or multi_organ")
    if "setting" not in run.config or f"{network}_def" not in run.config:
        raise PackError(
            f"{run.path('training_config')}: expected the keys setting and {network}_def, as in a resolved config"
        )
    if network == "generator" and run.config.get("generator_guide"):
        raise PackError(
            f"{run.path('training_config')}: generator_guide: this generator draws where there is a teacher's image, "
            "and a packed one is given none: pack one that was trained without"
        )
    return f"generator_{task}" if kind == "generator" else kind


def _write_models(folder: Path, state: dict[str, Any], run: RunFiles, package: str) -> None:
    """``model.pt``, a plain ``state_dict``, and the same as TorchScript by MONAI's export."""
    save_torch(folder / "models" / "model.pt", state)
    with importable_for_now(package):
        try:
            ckpt_export(
                net_id="network_def",
                filepath=str(folder / "models" / "model.ts"),
                ckpt_file=str(folder / "models" / "model.pt"),
                meta_file=str(folder / "configs" / "metadata.json"),
                config_file=str(folder / "configs" / "inference.yaml"),
                bundle_root=str(folder),
            )
        except RuntimeError as error:
            if "state_dict" not in str(error):
                raise
            reason = str(error).splitlines()[-1].strip()
            raise PackError(
                f"{run.weights}: weights of another network than {run.path('training_config')}: {reason}"
            ) from error


def _data_format(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    """What the network takes and returns; MONAI's checks look for ``image`` and ``pred``."""
    generates = kind.startswith("generator")
    size = [fields["image_size"]] * 2
    conditions, channels = fields["condition_names"].split(", "), fields["modalities"].split(", ")
    image = {
        "type": "image",
        "format": fields["format"],
        "modality": fields["modality"],
        "num_channels": fields["condition_channels"] if generates else fields["image_channels"],
        "spatial_shape": size,
        "dtype": "float32",
        "value_range": [0, 1] if generates else [-1, 1],
        "is_patch_data": kind == "multi_organ",
        "channel_def": {str(index): name for index, name in enumerate(conditions if generates else channels)},
    }
    outputs = channels if generates else fields["class_names"]
    pred = {
        "type": "image",
        "format": "image" if generates else "segmentation",
        "num_channels": len(outputs),
        "spatial_shape": size,
        "dtype": "float32",
        "value_range": [-1, 1] if generates else [],
        "is_patch_data": kind == "multi_organ",
        "channel_def": {str(index): name for index, name in enumerate(outputs)},
    }
    return {"inputs": {"image": image}, "outputs": {"pred": pred}}


def _references(fields: dict[str, Any]) -> list[str]:
    return about("references") + known_of(fields["layout"]).get("references", [])


def _segmenter_page(fields: dict[str, Any]) -> str:
    text = (TEMPLATES / "README_segmenter.md").read_text(encoding="utf-8")
    listed = "\n".join(f"{number}. {reference}" for number, reference in enumerate(fields["references"], 1))
    return text.format(**{**fields, "references": listed, "parameters": f"{fields['parameters']:,}"})


def _changelog(target: Path, options: PackOptions) -> dict[str, str]:
    before = target / "configs" / "metadata.json"
    former = json.loads(before.read_text(encoding="utf-8")).get("changelog", {}) if before.is_file() else {}
    return {options.version: options.changes, **{key: text for key, text in former.items() if key != options.version}}


def _data_license(fields: dict[str, Any], file: Path | None) -> str:
    if file is not None:
        return _text(file, "the licence of the data")
    text = known_of(fields["layout"]).get("licence")
    if text is None:
        raise PackError(
            f"the licence of {fields['data']} (layout {fields['layout']!r}) is not known here: "
            "--data_license FILE gives its text"
        )
    return f"Licences of the data that the weights were learned from. No image of them is packed.\n{'-' * 84}\n\n{text}"


def _text(file: Path, expected: str) -> str:
    if not Path(file).is_file():
        raise PackError(f"{file}: no such file, expected {expected}")
    return Path(file).read_text(encoding="utf-8")
