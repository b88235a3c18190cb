"""
A synthetic data set as MLCommons' Croissant 1.0 describes data sets (https://docs.mlcommons.org/croissant/docs/croissant-spec.html).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundle.files import digest

__all__ = ["CONFORMS_TO", "croissant"]

CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
_TERMS = (
    *("column", "extract", "fileObject", "fileProperty", "fileSet", "field", "format", "includes", "isLiveDataset"),
    *("jsonPath", "key", "parentField", "path", "recordSet", "references", "regex", "repeated", "replace", "separator"),
    *("source", "subField", "transform", "citeAs", "md5", "equivalentProperty", "samplingRate"),
)
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"cr:{term}" for term in _TERMS},
}
"""The recommended one, of the specification's appendix 1, as MLCommons' own reader wants it."""
_FORMATS = {".png": "image/png", ".gz": "application/gzip", ".nii": "application/octet-stream"}
_ITEM = {"image": "file of the image", "label": "file of its label map", "case": "its name", "site": "whose label map"}
_PAPER = "Chang, Q. et al. Synthetic Learning. CVPR 2020. https://arxiv.org/abs/2006.00080"
DATALIST = "datalist.json"


def croissant(folder: Path, datalist: Mapping[str, Any], sheet: Mapping[str, Any]) -> dict[str, Any]:
    """
    The content of ``croissant.json``.

    Args:
        folder: of the data set; ``datalist.json`` and ``data_sheet.json`` are in it.
        datalist: its content.
        sheet: the data sheet.
    """
    sites = ", ".join(sheet["contents"]["by_site"])
    licences = sheet["licence"]["data"] or [f"not known: {sheet['not_known'].get('/licence/data')}"]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": sheet["name"],
        "description": sheet["description"],
        "license": licences,
        "url": "README.md",
        "creator": {"@type": "sc:Organization", "name": f"The run that trained with the sites {sites}"},
        "datePublished": sheet["made"]["date"],
        "version": sheet["version"],
        "isLiveDataset": False,
        "citeAs": _PAPER,
        "distribution": [
            _file(folder, DATALIST, "Pairs of image and label map, their sites, and where label maps come from"),
            _file(folder, "data_sheet.json", "What the generator learned from, and what was measured of it"),
            *(_files(part, datalist) for part in ("images", "labels")),
        ],
        "recordSet": [_records()],
    }


def _file(folder: Path, name: str, description: str) -> dict[str, Any]:
    path = folder / name
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "description": description,
        "contentUrl": name,
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": "application/json",
        "sha256": digest(path),
    }


def _files(part: str, datalist: Mapping[str, Any]) -> dict[str, Any]:
    images = [str(item["image"]) for item in datalist.get("training") or []]
    name = Path(images[0] if images else "")
    suffix = ".nii.gz" if name.name.endswith(".nii.gz") else name.suffix
    return {
        "@type": "cr:FileSet",
        "@id": part,
        "name": part,
        "description": "Synthetic images" if part == "images" else "Label maps, of the same names as their images",
        "encodingFormat": _FORMATS.get(name.suffix, "application/octet-stream"),
        "includes": f"{part}/*{suffix}",
    }


def _records() -> dict[str, Any]:
    """A record for each pair: what the data list says of it."""
    return {
        "@type": "cr:RecordSet",
        "@id": "pairs",
        "name": "pairs",
        "description": "Images with their label maps",
        "key": {"@id": "pairs/case"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"pairs/{name}",
                "name": f"pairs/{name}",
                "description": meaning,
                "dataType": "sc:Text",
                "source": {"fileObject": {"@id": DATALIST}, "extract": {"jsonPath": f"$.training[*].{name}"}},
            }
            for name, meaning in _ITEM.items()
        ],
    }
