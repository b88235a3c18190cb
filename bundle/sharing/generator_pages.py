"""What a packed generator says of itself: its data sheet, and the page and the picture that go with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundle.files import digest, write_json, write_text
from bundle.sharing.configs import TEMPLATES
from bundle.sharing.run_files import RunFiles
from bundle.sheet import SHEET_FILE, make_sheet, render
from bundle.sheet.fields import GENERATOR
from bundle.sheet.pictures import draw_samples
from bundle.sheet.readme import Markdown

__all__ = ["WEIGHTS", "generator_sheet", "write_generator_pages"]

WEIGHTS = "models/model.pt"


def generator_sheet(
    run: RunFiles, fields: Mapping[str, Any], data_name: str | None = None, licence: Path | None = None
) -> dict[str, Any]:
    """
    The data sheet, but for the digest of the packed weights, which are not written yet.

    Args:
        run: the files of the run.
        fields: of :func:`bundle.sharing.facts.describe`, with ``version`` and, of the weights, ``parameters``.
        data_name, licence: see :class:`bundle.sharing.PackOptions`.
    """
    texts = {"name": fields["title"], "description": fields["description"], "version": fields["version"]}
    network = {
        "input": fields["image_classes"],
        "output": fields["pred_classes"],
        "parameters": fields["parameters"],
        "file": WEIGHTS,
        "sha256": "",
    }
    text = Path(licence).read_text(encoding="utf-8") if licence is not None and Path(licence).is_file() else None
    return make_sheet(GENERATOR, run.sources, texts, {"network": network}, data_name, text)


def write_generator_pages(folder: Path, run: RunFiles, sheet: dict[str, Any], fields: Mapping[str, Any]) -> None:
    """Write ``docs/data_sheet.json``, ``docs/README.md`` and ``docs/samples.png`` of a bundle that has its weights."""
    sheet["network"]["sha256"] = digest(folder / WEIGHTS)
    pictured = draw_samples(run.sources, folder / "docs" / "samples.png")
    write_json(folder / "docs" / SHEET_FILE, sheet)
    filled = {**fields, "noise": Markdown(fields["noise"])}
    page = render(TEMPLATES / "README_generator.md", sheet, pictured=pictured, **filled)
    write_text(folder / "docs" / "README.md", page)
