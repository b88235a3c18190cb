"""Write the data list of a data set on disk: cases, sites, train/test split.

Examples:
  asyndgan prepare brats MICCAI_BraTS_2018 --output data/brats --sites size --num_sites 10
  asyndgan prepare tcga_lgg lgg --output data/lgg --sites institution --table cases.csv
  asyndgan prepare volumes hospital --output data/own --site hospital_a --modalities flair t2 --resample 1.0 --n4
  asyndgan prepare multi_organ MoNuSeg --output data/nuclei --sites organ
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bundle.cli.options import add_threads, whole_number
from bundle.cli.terminal import show_lines
from bundle.text import SITE_NAMES, is_site_name

if TYPE_CHECKING:
    from bundle.prepare.preparation import PrepareOptions, Summary

__all__ = ["declare", "summary"]

# as the libraries have them, which take long to import
LAYOUTS = {
    "brats": "BraTS: [HGG|LGG/]CASE/CASE_{flair,t1,t1ce,t2,seg}.nii.gz, or as in 2023 CASE-{t2f,t1n,t1c,t2w,seg}",
    "tcga_lgg": "TCGA-LGG as NIfTI: CASE/CASE_{flair,t1,t1ce,seg}.nii.gz",
    "tcga_lgg_tif": "TCGA-LGG as published: slices CASE/CASE_N.tif (t1, flair, t1ce as RGB) and CASE_N_mask.tif",
    "msd": "MSD Task01_BrainTumour: dataset.json, imagesTr/ (4-D), labelsTr/",
    "volumes": "CASE/MODALITY.EXT (NRRD, MetaImage, NIfTI, DICOM) or a DICOM series CASE/MODALITY/, and CASE/seg.EXT",
    "nifti": "images/CASE.nii.gz or images/CASE_MODALITY.nii.gz, and labels/CASE.nii.gz or labels/CASE_seg.nii.gz",
    "nnunet": "nnU-Net raw: dataset.json, imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz; Ts with labels as tests",
    "bids": "BIDS: sub-ID[/ses-ID]/anat/…_FLAIR.nii.gz, and a mask derivatives/PIPELINE/sub-ID/anat/…_mask.nii.gz",
    "images": "images/CASE.EXT (grey PNG, TIFF, BMP, JPEG; 8 or 16 bits) and labels/CASE.EXT or labels/CASE_mask.EXT",
    "multi_organ": "Multi-Organ, MoNuSeg: tissue images/CASE.tif and annotations/CASE.xml (or GeoJSON, masks …)",
}
RULES = ("institution", "size", "table", "dirichlet", "single", "organ")
TRUST = ("label-array", "image-header")


def summary(command: str) -> str:
    return "Write the data list of a data set on disk"


def declare(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    layouts = "\n".join(f"  {name}: {about}" for name, about in LAYOUTS.items())
    parser.description = f"{parser.description}\nLayouts:\n{layouts}"
    parser.add_argument("layout", choices=LAYOUTS, metavar="LAYOUT", help="how the data lies on disk, see above")
    parser.add_argument("source", type=Path, metavar="SOURCE", help="folder with the data as distributed")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder for datalist.json and converted files"
    )
    sites = parser.add_mutually_exclusive_group(required=True)
    sites.add_argument("--sites", choices=RULES, help="which site a case belongs to")
    sites.add_argument(
        "--site",
        type=_site_name,
        metavar="NAME",
        help="all cases are of this one hospital, as its certificate names it",
    )
    parser.add_argument(
        "--table", type=Path, metavar="FILE", help="CSV or JSON with case, site (or institution), split, patient"
    )
    parser.add_argument("--num_sites", type=int, metavar="N", help="number of sites (rules size and dirichlet)")
    parser.add_argument(
        "--alpha", type=float, default=0.5, metavar="A", help="concentration of rule dirichlet (default 0.5)"
    )
    parser.add_argument(
        "--split",
        choices=["table", "published", "random"],
        help="who tests: by the table's column split, as published, or drawn (default: the first there is)",
    )
    parser.add_argument(
        "--test_fraction", type=float, metavar="SHARE", help="share of test patients per site (default 0.2)"
    )
    parser.add_argument(
        "--seed", type=whole_number, default=0, metavar="N", help="of random sites and splits (default 0)"
    )
    parser.add_argument("--modalities", nargs="+", metavar="NAME", help="which, in this order (default: the layout's)")
    parser.add_argument(
        "--lacks",
        nargs="+",
        type=_lacking,
        metavar="[SITE=]NAME,...",
        help="modalities of the job that the hospital of --site does not have, or that the training cases of a SITE "
        "are to be listed without",
    )
    parser.add_argument(
        "--labels", nargs="+", type=_label, metavar="VALUE=NAME", help='e.g. 0=background 1=tumour; "0" is needed'
    )
    parser.add_argument("--skip_incomplete", action="store_true", help="leave out cases that lack a file or modality")
    parser.add_argument("--n4", action="store_true", help="N4 bias-field correction of every modality")
    parser.add_argument(
        "--n4_shrink", type=int, default=4, metavar="N", help="estimate the field on a coarser grid (default 4)"
    )
    parser.add_argument("--resample", type=float, metavar="MM", help="cubic voxels, all volumes on one grid")
    parser.add_argument(
        "--trust",
        choices=TRUST,
        help="where headers of a case disagree: label-array, the arrays lie voxel on voxel and the first modality's "
        "header is everybody's; image-header, all headers are right, and the label and other modalities are resampled "
        "onto the grid of the first modality (default: such cases are refused)",
    )
    parser.add_argument(
        "--accept_mismatch", action="store_true", help="take tiles whose annotated nuclei are not darker than around"
    )
    parser.add_argument("--name", help="name of the data set (default: that of the source folder)")
    add_threads(parser, "threads of ITK and of what converts images")


def _site_name(text: str) -> str:
    if not is_site_name(text):
        raise argparse.ArgumentTypeError(f"{text!r}, expected {SITE_NAMES}")
    return text


def _lacking(text: str) -> tuple[str, list[str]]:
    site, equals, names = text.rpartition("=")
    if not all(names.split(",")) or bool(equals) != bool(site):
        raise argparse.ArgumentTypeError(f"{text!r}, expected SITE=NAME,NAME or, with --site, NAME,NAME")
    return site, names.split(",")


def _label(text: str) -> tuple[int, str]:
    value, equals, name = text.partition("=")
    if not equals or not value.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}, expected VALUE=NAME with a whole number as VALUE")
    return int(value), name


def run(options: argparse.Namespace) -> int:
    """
    Raises:
        bundle.data.DataError: bad data or options.
    """
    from bundle.prepare.case_conversion import ConvertOptions
    from bundle.prepare.preparation import PrepareOptions, prepare

    show_lines()
    common = ("layout", "source", "output", "site", "table", "split", "test_fraction", "num_sites", "alpha", "seed")
    lacks: dict[str, tuple[str, ...]] = {}
    for name, names in options.lacks or []:
        site = name or options.site or ""
        lacks[site] = tuple(dict.fromkeys((*lacks.get(site, ()), *names)))
    wanted = PrepareOptions(
        **{name: getattr(options, name) for name in (*common, "skip_incomplete", "name", "accept_mismatch")},
        sites=options.sites or "single",
        modalities=tuple(options.modalities) if options.modalities else None,
        labels=dict(options.labels) if options.labels else None,
        lacks=lacks,
        convert=ConvertOptions(**{name: getattr(options, name) for name in ("n4", "n4_shrink", "resample", "trust")}),
    )
    print_summary(wanted, prepare(wanted))
    return 0


def print_summary(options: PrepareOptions, found: Summary) -> None:
    """Resolved options, a row per site, what was converted, warnings."""
    from bundle.prepare.layouts import LAYOUTS

    volumes = LAYOUTS[options.layout].volumes
    shown = ("source", "output", "skip_incomplete") + (() if volumes else ("accept_mismatch",))
    given = {key: value for key, value in vars(options).items() if key in shown}
    given |= vars(options.convert) if volumes else {}
    for key, value in (found.resolved | given).items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {text}" if key != "labels" else f"{name}={text}" for name, text in value.items())
        print(f"{key}: {' '.join(value) if isinstance(value, tuple) else value}")
    width = max(len("site"), *(len(row[0]) for row in found.rows))
    print(f"\n{'site':<{width}}  training  test  {found.size}")
    for site, training, test, size in found.rows:
        print(f"{site:<{width}}  {training:>8}  {test:>4}  {size:>{len(found.size)}.1f}")
    training, test = sum(row[1] for row in found.rows), sum(row[2] for row in found.rows)
    print(f"{'all':<{width}}  {training:>8}  {test:>4}\n")
    if found.counts:
        print(f"read: {', '.join(f'{count} {name}' for name, count in found.counts.items())}")
    for note, count in found.notes.items():
        print(f"{note}: {count} cases")
    for warning in found.warnings:
        print(f"WARNING: {warning}")
    print(f"wrote {found.path}")
    print(_in_a_federation([site for site, training, _, _ in found.rows if training]))


def _in_a_federation(sites: list[str]) -> str:
    """What becomes of the list at a hospital that takes part in a federation."""
    if wrong := [site for site in sites if not is_site_name(site)]:
        named = ", ".join(map(repr, wrong))
        return f"in a federation no hospital could be called {named}: it takes {SITE_NAMES}"
    if sites == ["all"]:
        return "in a federation the hospital has a name: --site NAME gives it"
    if len(sites) == 1:
        return f"in a federation this is the list of the hospital whose certificate is for {sites[0]!r}"
    return (
        "in a federation a hospital trains with the cases of its own name alone: that this list holds those of "
        f"{len(sites)} sites is fine, and it needs no list without the others"
    )
