"""One tile with its annotation to ``image.png`` and ``instances.png``: read, check, write all or nothing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from bundle.data.tiles import check_pair, read_tile, write_pixels
from bundle.files import atomic_folder, digest, write_json
from bundle.prepare.annotations import read_annotation
from bundle.prepare.cases import CaseFiles

IMAGE, INSTANCES, MARKER = "image.png", "instances.png", "conversion.json"
# Counts up when the same files would be converted to others than before.
VERSION = 2


def convert_tile(case: CaseFiles, output: Path, accept_mismatch: bool = False) -> dict[str, Any]:
    """Write ``OUTPUT/image.png`` (8-bit RGB), ``OUTPUT/instances.png`` (16-bit) and ``OUTPUT/conversion.json``.

    Args:
        case: its image and its annotation.
        output: folder of this case. It is kept if it was converted from the same files with the same options.
        accept_mismatch: take nuclei that are no darker than their surroundings (see :func:`check_pair`).

    Returns:
        ``conversion.json``: options, digests of the sources, ``counts`` of the regions (empty where the annotation
        has none), ``notes`` about what was converted, and the ``contrast`` of nuclei and surroundings.

    Raises:
        DataError: an image or an annotation that cannot be used, or the two do not belong together.
    """
    image_path = next(iter(case.images.values()))
    sources = [digest(path) for path in (image_path, case.label)]
    record = {"version": VERSION, "options": {"accept_mismatch": accept_mismatch}, "sources": sources}
    former = _read_record(output)
    if former is not None and all(former.get(key) == value for key, value in record.items()):
        return former
    image, notes = read_tile(image_path)
    annotation = read_annotation(case.label, image.shape[:2], image_path)
    contrast, remarks = check_pair(image, annotation.instances, image_path, case.label, accept_mismatch)
    record |= {
        "counts": dataclasses.asdict(annotation.counts) if annotation.counts else {},
        "notes": notes + annotation.notes + remarks,
        "contrast": None if contrast is None else round(contrast, 3),
    }
    with atomic_folder(output) as folder:
        write_pixels(image, folder / IMAGE)
        write_pixels(annotation.instances, folder / INSTANCES)
        write_json(folder / MARKER, record)
    return record


def _read_record(output: Path) -> dict[str, Any] | None:
    if not all((output / name).is_file() for name in (IMAGE, INSTANCES, MARKER)):
        return None
    try:
        record = json.loads((output / MARKER).read_text(encoding="utf-8"))
    except ValueError:
        return None  # damaged: convert again
    return record if isinstance(record, dict) and {"counts", "notes"} <= record.keys() else None
