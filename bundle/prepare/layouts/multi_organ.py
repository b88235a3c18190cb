"""Multi-Organ histology: tiles of H&E-stained tissue with outlines of the nuclei.

``tissue images/CASE.tif`` and ``annotations/CASE.xml`` as in the training set of MoNuSeg, other names and kinds of the
two folders, or image and annotation beside each other as in its test set.

Organs and the split are those of Kumar et al. 2017, https://doi.org/10.1109/TMI.2017.2677499. The codes of the six
"liver" cases (18, 21, 38, 49, 50) are tissue source sites of lung cancer in TCGA; the published name is kept.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from bundle.data.bounds import has_suffix
from bundle.data.errors import DataError
from bundle.data.schema import is_name
from bundle.data.tiles import FOREIGN_TILES, SOURCE_SUFFIXES, TILE_SUFFIXES, read_pixels
from bundle.prepare.annotations import ANNOTATION_SUFFIXES, FOREIGN_ANNOTATIONS
from bundle.prepare.case_conversion import ConvertOptions
from bundle.prepare.cases import CaseFiles, ConvertedCase
from bundle.prepare.layouts.base import Layout
from bundle.prepare.layouts.naming import parse_name
from bundle.prepare.tile_conversion import IMAGE, INSTANCES, convert_tile

CHANNELS = ("red", "green", "blue")
LABELS = {0: "background", 1: "nucleus"}
# Names of folders in lower case, without spaces, underscores and hyphens
IMAGE_FOLDERS = ("tissueimages", "images")
ANNOTATION_FOLDERS = ("annotations", "labels", "masks", "instances")

_DX1 = "-01Z-00-DX1"
# Organ → training and test cases; without the ending where that is "-01Z-00-DX1".
_PUBLISHED: dict[str, tuple[str, str]] = {
    "breast": ("A7-A13E AR-A1AK AR-A1AS E2-A14V", "A7-A13F E2-A1B5"),
    "liver": ("18-5592 21-5784 38-6178 50-5931", "21-5786 49-4488"),
    "kidney": ("B0-5711 HE-7128 HE-7129 HE-7130", "B0-5698 B0-5710"),
    "prostate": ("G9-6348 G9-6356 G9-6362 G9-6363", "CH-5767 G9-6336"),
    "bladder": ("", "DK-A2I6-01A-01-TS1 G2-A2EK-01A-02-TSB"),
    "colon": ("", "AY-A8YK-01A-01-TS1 NH-A8F7-01A-01-TS1"),
    "stomach": ("", "KB-A93J-01A-01-TS1 RD-A8N9-01A-01-TS1"),
}
# Case → organ, split
PUBLISHED = {
    f"TCGA-{name}{_DX1 if name.count('-') == 1 else ''}": (organ, split)
    for organ, parts in _PUBLISHED.items()
    for split, names in zip(("training", "test"), parts, strict=True)
    for name in names.split()
}
_PHANTOM = re.compile(r"PhantomTile_(?P<organ>\w+?)_\d+")


def discover(source: Path, modalities: Sequence[str]) -> tuple[list[CaseFiles], Sequence[str]]:
    """See :attr:`bundle.prepare.layouts.base.Layout.discover`. The channels are always red, green and blue."""
    if not source.is_dir():
        raise DataError(f"{source}: no such folder, expected one with tiles and annotations")
    images, annotations = _folder(source, IMAGE_FOLDERS), _folder(source, ANNOTATION_FOLDERS)
    only = images or annotations
    if only is not None and (images is None or annotations is None):
        held, lacking = ("images", "annotations") if images else ("annotations", "images")
        raise DataError(f"{source}: holds {only.name}, expected a folder {lacking} beside {held}")
    if images is None or annotations is None:
        images = annotations = source
        kinds = tuple(suffix for suffix in ANNOTATION_SUFFIXES if suffix not in (*TILE_SUFFIXES, ".json"))
    else:
        kinds = ANNOTATION_SUFFIXES
    found = _by_stem(images, SOURCE_SUFFIXES, FOREIGN_TILES)
    marked = _by_stem(annotations, kinds, () if annotations == source else FOREIGN_ANNOTATIONS)
    for stem in marked.keys() - found.keys():
        if not has_suffix(marked[stem][0], kinds) or has_suffix(marked[stem][0], (".json",)):
            del marked[stem]  # a table or a picture that belongs to no tile
    cases, problems = [], []
    for stem in sorted(found.keys() | marked.keys()):
        mine, theirs = found.get(stem, []), marked.get(stem, [])
        problem = _problem(stem, mine, theirs, (images, annotations), kinds)
        if problem:
            problems.append(f"case {stem}: {problem}")
            continue
        patient, institution = parse_name(stem)
        organ, split = published(stem)
        files = dict.fromkeys(CHANNELS, mine[0])
        cases.append(CaseFiles(stem, files, theirs[0], patient, institution, organ=organ, split=split))
    return cases, problems


def published(case: str) -> tuple[str | None, str | None]:
    """Organ and published split of a case, None where they are not known; phantoms name their organ themselves."""
    if case in PUBLISHED:
        return PUBLISHED[case]
    phantom = _PHANTOM.fullmatch(case)
    return (phantom["organ"] if phantom else None), None


def convert(
    layout: Layout,
    case: CaseFiles,
    modalities: Sequence[str],
    output: Path,
    options: ConvertOptions,
    accept_mismatch: bool,
) -> ConvertedCase:
    """See :attr:`bundle.prepare.layouts.base.Layout.convert`."""
    folder = output / "tiles" / case.case
    record = convert_tile(case, folder, accept_mismatch)
    return ConvertedCase(folder / IMAGE, folder / INSTANCES, record["counts"], tuple(record["notes"]))


def count_nuclei(label: str) -> float:
    """Number of objects of an instance map, as an image file whose objects are numbered without gaps."""
    return float(read_pixels(label).max(initial=0))


def _folder(source: Path, names: Sequence[str]) -> Path | None:
    found = [
        folder
        for folder in sorted(source.iterdir())
        if folder.is_dir() and re.sub(r"[\s_-]+", "", folder.name.lower()) in names
    ]
    if len(found) > 1:
        raise DataError(f"{source}: holds {', '.join(folder.name for folder in found)}, expected one of these folders")
    return found[0] if found else None


def _by_stem(folder: Path, suffixes: Sequence[str], foreign: Collection[str]) -> dict[str, list[Path]]:
    """Files by their names without suffix and OME-TIFF's ``.ome``; those of foreign kinds where there is no other."""
    files: dict[str, list[Path]] = {}
    others: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        suffix = next((suffix for suffix in (*suffixes, *foreign) if has_suffix(path, (suffix,))), None)
        if suffix is not None and path.is_file() and not path.name.startswith("."):
            kind = files if suffix in suffixes else others
            stem = path.name[: -len(suffix)]
            kind.setdefault(stem[:-4] if has_suffix(stem, (".ome",)) else stem, []).append(path)
    return others | files


def _problem(
    stem: str, images: list[Path], annotations: list[Path], folders: tuple[Path, Path], kinds: Sequence[str]
) -> str | None:
    expected = (
        ("image", images, SOURCE_SUFFIXES, TILE_SUFFIXES[1], FOREIGN_TILES),
        ("annotation", annotations, kinds, kinds[0], FOREIGN_ANNOTATIONS),
    )
    for (what, paths, suffixes, usual, foreign), folder in zip(expected, folders, strict=True):
        if not paths:
            others = [suffix for suffix in suffixes if suffix != usual]
            return f"its {what} is missing, expected {folder / (stem + usual)} (or {', '.join(others)})"
        if not has_suffix(paths[0], suffixes):
            return f"its {what} {paths[0]} is {_foreign(paths[0], foreign)}"
        if len(paths) > 1:
            return f"has {len(paths)} {what}s, {', '.join(path.name for path in paths)} in {folder}; expected one"
    return None if is_name(stem) else "its name must consist of letters, digits, '_', '-', '.', ' '"


def _foreign(path: Path, foreign: Mapping[str, str]) -> str:
    return next(text for suffix, text in foreign.items() if has_suffix(path, (suffix,)))


LAYOUT = Layout(
    name="multi_organ",
    description="Multi-Organ, MoNuSeg: tissue images/CASE.tif and annotations/CASE.xml (or GeoJSON, masks …)",
    modalities=CHANNELS,
    labels=LABELS,
    discover=discover,
    nifti=False,
    channels=CHANNELS,
    task="multi_organ",
    label_type="instances",
    volumes=False,
    convert=convert,
    measure=count_nuclei,
    size="nuclei",
)
