"""
The fields of a data sheet, and the page that lists them.

``python -m bundle.sheet.fields FILE`` writes it; ``make reference`` does for the documentation.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bundle.files import write_text

__all__ = ["DATA_SET", "FIELDS", "FORMAT", "GENERATOR", "Field", "fields_of", "fields_page"]

FORMAT = 1
"""Of the sheet: a field that goes, or means another thing, gives it the next number."""
GENERATOR, DATA_SET = "generator", "data set"


@dataclass(frozen=True)
class Field:
    """
    A field of a sheet.

    Args:
        type: ``text``, ``number``, ``list`` or ``table``, an object whose keys are names.
        meaning: in a line; units where there are some.
        of: the one kind of sheet that has it; None for both.
    """

    type: str
    meaning: str
    of: str | None = None


FIELDS: dict[str, Field] = {
    "/format": Field("number", f"of the sheet, now {FORMAT}"),
    "/kind": Field("text", f"`{GENERATOR}` or `{DATA_SET}`"),
    "/name": Field("text", "what it is called"),
    "/description": Field("text", "what it is, in a sentence or two"),
    "/task": Field("text", "the task of its configs"),
    "/version": Field("text", "of the bundle or the data set, MAJOR.MINOR.PATCH"),
    "/made/setting": Field("text", "what learned from whom: `asyndgan`, `syn_all`, ..."),
    "/made/seed": Field("number", "of this training and generation"),
    "/made/seeds": Field("list", "of all trainings of the run that this one is of"),
    "/made/steps": Field("number", "of the generator's training"),
    "/made/seconds": Field("number", "that the training took"),
    "/made/losses": Field("text", "what a site computed on synthetic images"),
    "/made/date": Field("text", "on which the training ended, or the images were made: YYYY-MM-DD"),
    "/made/command": Field("text", "that made the run; what may name a folder is left out"),
    "/made/hardware": Field("table", "processor, cores, memory and device; no machine's name"),
    "/made/software": Field("table", "versions of the packages that wrote this sheet"),
    "/made/config_sha256": Field("text", "of the resolved configuration that the run keeps"),
    "/made/weights_sha256": Field("text", "of `generator.pt` of the run"),
    "/training_data/name": Field("text", "of the real data, as their data list says"),
    "/training_data/source": Field("text", "where they are published"),
    "/training_data/layout": Field("text", "how they lay on disk as they were distributed"),
    "/training_data/modality": Field("list", "channels of an image, in order"),
    "/training_data/acquisition": Field("text", "scanner, protocol, stain, as far as known"),
    "/training_data/image_size": Field("list", "height and width that images had in the training, in pixels"),
    "/training_data/classes": Field("list", "of the label maps"),
    "/training_data/patients": Field("number", "of all sites; withheld where a site's is"),
    "/training_data/cases": Field("number", "the same"),
    "/training_data/sites": Field(
        "table", "by site `patients`, `cases`, `samples` (slices or tiles); withheld below 5"
    ),
    "/releases": Field("table", "by site the release policy: `policy`, `in_words`, `epsilon`, `delta`"),
    "/attacks/membership": Field(
        "list", "by attack its AUC, `control` and `excess` over it, with 95 % intervals over patients"
    ),
    "/attacks/readout": Field(
        "table",
        "by site and loss what is gained over what needs no attack, in dB, with 95 % intervals over cases",
    ),
    "/attacks/label_maps": Field(
        "table", "by kind of release and attack, AUC of membership and share of patients re-identified, with intervals"
    ),
    "/quality": Field("table", "by measure `value`, `by_site` and `references`: what real images have"),
    "/downstream": Field(
        "table", "by metric the scores of a segmenter trained on synthetic images alone, on held-out real cases"
    ),
    "/network": Field("table", "`input`, `output`, `parameters`, `file` and its `sha256`", GENERATOR),
    "/contents/images": Field("number", "synthetic images", DATA_SET),
    "/contents/by_site": Field("table", "the same by site of the condition", DATA_SET),
    "/contents/by_source": Field("table", "the same by where the condition is from", DATA_SET),
    "/contents/labels": Field("table", "names of the label values", DATA_SET),
    "/contents/intensity_range": Field("list", "what -1 and 1 are stored as", DATA_SET),
    "/not_for": Field("list", "what it must not be used for"),
    "/limitations": Field("list", "what it cannot do, or nobody has measured"),
    "/licence/code": Field("text", "of code and configs"),
    "/licence/data": Field("list", "of the real data: addresses or texts"),
    "/not_known": Field("table", "why a value is null, by its JSON pointer (RFC 6901)"),
}
"""By JSON pointer."""

_HEAD = """<!-- written by `make reference` from bundle/sheet/fields.py: change that, not this -->
# Data sheet reference

For whoever reads a `data_sheet.json`, or has a program read it. Every packed generator has one (in `docs/`), and every
synthetic data set (beside its `datalist.json`). `README.md` beside it is made from it.

All fields are always there. What is not known is null, and `/not_known` says why. Fields are named by JSON pointers.
Numbers of a site with fewer than 5 patients are withheld, and so are totals from which they would follow. No patient,
case, path or machine is named.

| field | type | of | meaning |
| --- | --- | --- | --- |
"""


def fields_of(kind: str) -> Iterator[str]:
    """Pointers of the fields that a sheet of a kind has."""
    return (pointer for pointer, field in FIELDS.items() if field.of in (None, kind))


def fields_page() -> str:
    """The page in Markdown."""
    rows = [f"| `{pointer}` | {of.type} | {of.of or 'both'} | {of.meaning} |" for pointer, of in FIELDS.items()]
    return _HEAD + "\n".join(rows) + "\n"


def value_at(sheet: Any, pointer: str) -> Any:
    """
    What a sheet has at a JSON pointer.

    Raises:
        KeyError: there is nothing of these names.
    """
    found = sheet
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        elif isinstance(found, dict) and name in found:
            found = found[name]
        else:
            raise KeyError(pointer)
    return found


def pointer_to(*names: Any) -> str:
    """The JSON pointer of nested names.

    >>> pointer_to("quality", "fid/other patients")
    '/quality/fid~1other patients'
    """
    return "".join("/" + str(name).replace("~", "~0").replace("/", "~1") for name in names)


if __name__ == "__main__":
    write_text(sys.argv[1], fields_page())
