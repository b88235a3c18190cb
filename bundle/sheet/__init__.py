"""Data sheets: what a generator or a synthetic data set says of itself, made from the files of its run."""

from bundle.sheet.checks import check_sheet
from bundle.sheet.data_set import SHEET_FILE, write_data_set_sheet, write_sheets
from bundle.sheet.make import make_sheet
from bundle.sheet.readme import NOBODY, render
from bundle.sheet.sources import Sources

__all__ = [
    "NOBODY",
    "SHEET_FILE",
    "Sources",
    "check_sheet",
    "make_sheet",
    "render",
    "write_data_set_sheet",
    "write_sheets",
]
