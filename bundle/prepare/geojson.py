"""Outlines of nuclei as QuPath exports them: GeoJSON (RFC 7946), in pixels.

A feature is a nucleus: its ``nucleusGeometry`` where QuPath knows a cell and its nucleus, else its ``geometry``. The
origin is the corner of the first pixel (https://github.com/qupath/qupath-docs, "Exporting annotations"): half a pixel
is subtracted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from bundle.data.errors import DataError
from bundle.prepare.outlines import MAX_COORDINATE, MAX_INSTANCES, Region, check_file, is_ambiguous

# Top-level keys of other JSON files.
_FOREIGN = {"nuc": "HoVer-Net", "categories": "COCO", "shapes": "LabelMe"}
_OPEN = ("Point", "MultiPoint", "LineString", "MultiLineString")


def read_geojson(path: str | os.PathLike) -> list[Region]:
    """All features of a GeoJSON file: a collection, a list of features (QuPath before 0.3), or a single one.

    Points and lines are regions without vertices.

    Raises:
        DataError: unreadable or no GeoJSON, too large or nested too deeply, more than 65535 features, one without
            geometry, or a coordinate that is no number or out of range (names the feature).
    """
    check_file(path, "GeoJSON")
    try:
        with open(path, "rb") as file:
            content = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise DataError(f"{path}: unreadable or corrupt, expected GeoJSON ({reason})") from error
    features = _features(content, path)
    if len(features) > MAX_INSTANCES:
        raise DataError(f"{path}: holds {len(features)} features, expected at most {MAX_INSTANCES}")
    return [_region(feature, f"{path}: feature {number}") for number, feature in enumerate(features, start=1)]


def _features(content: Any, path: str | os.PathLike) -> list[Any]:
    if isinstance(content, dict) and isinstance(content.get("features"), list):
        return content["features"]
    if isinstance(content, dict) and content.get("type") == "Feature":
        return [content]
    if isinstance(content, list):
        return content
    keys = content if isinstance(content, dict) else {}
    product = next((f"is JSON of {product}, which is not read" for key, product in _FOREIGN.items() if key in keys), "")
    raise DataError(f"{path}: {product or 'holds no features'}, expected GeoJSON as QuPath exports it")


def _region(feature: Any, where: str) -> Region:
    if not isinstance(feature, dict):
        raise DataError(f"{where} is no object, expected a GeoJSON feature")
    geometry = feature.get("nucleusGeometry") or feature.get("geometry")
    if not isinstance(geometry, dict):
        raise DataError(f"{where} has no geometry, expected a Polygon or a MultiPolygon")
    properties = feature.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    kind = geometry.get("type")
    rings = [] if kind in _OPEN else list(_rings(kind, geometry.get("coordinates"), where))
    first, *others = rings or [np.zeros((0, 2))]
    ambiguous = is_ambiguous(properties.get("classification", ""), properties.get("name", ""))
    return Region(where.rpartition("feature ")[2], first, tuple(others), ambiguous=ambiguous)


def _rings(kind: Any, coordinates: Any, where: str) -> Iterator[np.ndarray]:
    if kind not in ("Polygon", "MultiPolygon"):
        raise DataError(f"{where} is a {str(kind)[:40]}, expected a Polygon or a MultiPolygon")
    try:
        for polygon in coordinates if kind == "MultiPolygon" else [coordinates]:
            for ring in polygon:
                points = np.array([_position(point) for point in ring], np.float64).reshape(-1, 2) - 0.5
                if not (np.abs(points) <= MAX_COORDINATE).all():
                    raise ValueError(f"from {points.min():g} to {points.max():g}")
                if len(points) >= 3:
                    yield points
    except (TypeError, ValueError, OverflowError, KeyError) as error:
        raise DataError(f"{where} has coordinates that are no positions in pixels ({str(error)[:80]})") from error


def _position(point: Any) -> tuple[float, float]:
    x, y = point[:2]  # a height may follow
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in (x, y)):
        raise TypeError(f"{type(x).__name__} and {type(y).__name__} in the place of numbers")
    return x, y
