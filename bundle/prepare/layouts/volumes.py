"""Any other volumes: a folder per case, in it a file or a folder with a DICOM series per modality, and ``seg``.

Files are called ``{modality}.EXT`` or ``{CASE}_{modality}.EXT`` with EXT one of nii.gz, nii, nrrd, nhdr, mha, mhd, dcm,
ima, dicom. The DICOM folder may be a tree, as archives export it, that holds one series.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bundle.data.bounds import VOLUME_SUFFIXES
from bundle.data.errors import DataError
from bundle.data.schema import is_name
from bundle.prepare.cases import SEG, CaseFiles
from bundle.prepare.layouts.base import CaseProblem, Layout, case_folders
from bundle.prepare.layouts.brats import LABELS
from bundle.prepare.layouts.naming import parse_name


def find_source(folder: Path, modality: str) -> Path | None:
    """The file or the DICOM folder of a modality in a case folder, or None.

    Raises:
        DataError: there is more than one.
    """
    stems = (modality, f"{folder.name}_{modality}")
    found = [path for stem in stems for suffix in VOLUME_SUFFIXES if (path := folder / f"{stem}{suffix}").is_file()]
    found += [path for stem in stems if (path := folder / stem).is_dir()]
    if len(found) > 1:
        raise DataError(f"case folder {folder}: {', '.join(path.name for path in found)}; expected one {modality}")
    return found[0] if found else None


def discover(source: Path, modalities: Sequence[str]) -> tuple[list[CaseFiles], Sequence[str]]:
    """See :attr:`bundle.prepare.layouts.base.Layout.discover`."""
    folders = case_folders(source)
    if not modalities:
        held = sorted(path.name for path in folders[0].iterdir()) if folders else []
        raise DataError(
            "layout volumes has no default modalities: name them with --modalities"
            + (f" (the first case folder, {folders[0].name}, holds {', '.join(held)})" if folders else "")
        )
    cases, problems = [], []
    for folder in folders:
        try:
            found = {modality: find_source(folder, modality) for modality in (*modalities, SEG)}
        except DataError as error:
            problems.append(CaseProblem(folder.name, str(error)))
            continue
        missing = [f"{modality}.EXT" for modality, path in found.items() if path is None]
        if missing:
            text = (
                f"case folder {folder}: missing {', '.join(missing)}, need a file (also {folder.name}_MODALITY.EXT, "
                f"EXT: {', '.join(suffix[1:] for suffix in VOLUME_SUFFIXES)}) or a folder with a DICOM series"
            )
            problems.append(CaseProblem(folder.name, text))
        elif not is_name(folder.name):
            text = f"case folder {folder}: its name must consist of letters, digits, '_', '-', '.', ' '"
            problems.append(CaseProblem(folder.name, text))
        else:
            files = {modality: path for modality, path in found.items() if path is not None}
            label = files.pop(SEG)
            patient, institution = parse_name(folder.name)
            cases.append(CaseFiles(folder.name, files, label, patient, institution))
    return cases, problems


LAYOUT = Layout(
    name="volumes",
    description="CASE/MODALITY.EXT (NRRD, MetaImage, NIfTI, DICOM) or a DICOM series CASE/MODALITY/, and CASE/seg.EXT",
    modalities=(),
    labels=LABELS,
    discover=discover,
    nifti=False,
)
