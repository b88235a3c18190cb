"""Tables that say which site a case belongs to: CSV with a header, or a JSON list of records."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundle.data.errors import DataError
from bundle.data.json_files import read_json
from bundle.data.schema import is_name
from bundle.prepare.cases import CaseFiles

SPLITS = {"train": "training", "training": "training", "test": "test"}


@dataclass(frozen=True)
class Row:
    """What a table says about a case; None where the table has no such column, and for the site of none."""

    site: str | None
    split: str | None
    patient: str | None


def read_table(path: str | os.PathLike) -> dict[str, Row]:
    """Read a table.

    Args:
        path: a CSV file whose header has ``case`` and optionally ``site`` (or ``institution``), ``split`` (``train``,
            ``training`` or ``test``) and ``patient``; or a JSON list of records with these keys. Other columns are
            ignored. The site of a test case may be empty (null in JSON): it is of no site.

    Returns:
        Rows by case; ``split`` is ``"training"`` or ``"test"``.

    Raises:
        DataError: unreadable, no column ``case``, a case twice, or a value that is not expected.
    """
    path = Path(path)
    records = _read_records(path)
    # A column counts if any record fills it; a gap in it is then an error and not a silent default.
    columns = {key for record in records for key, value in record.items() if value}
    site_column = next((name for name in ("site", "institution") if name in columns), None)
    rows, problems = {}, []
    for number, record in enumerate(records, start=1):
        case = record.get("case", "")
        where = f"record {number}, case {case}"
        if not is_name(case):
            problems.append(f"record {number}: field case is {case!r}, expected the name of a case")
            continue
        if case in rows:
            problems.append(f"{where}: listed before, expected every case once")
        site = record.get(site_column) if site_column else None
        split, patient = record.get("split") or "", record.get("patient")
        outside = not site and SPLITS.get(split) == "test"
        if site_column and not is_name(site) and not outside:
            problems.append(f"{where}: field {site_column} is {site or ''!r}, expected the name of a site")
        if "split" in columns and split not in SPLITS:
            problems.append(f"{where}: field split is {split!r}, expected one of {', '.join(SPLITS)}")
        if "patient" in columns and not is_name(patient):
            problems.append(f"{where}: field patient is {patient or ''!r}, expected the name of a patient")
        rows[case] = Row(site or None, SPLITS.get(split), patient)
    if not rows:
        problems.append("no records, expected a CSV header with case and site, or a JSON list of such records")
    if problems:
        raise DataError.listing(f"table {path}", problems)
    return rows


def key_of(rows: Mapping[str, Row], case: CaseFiles) -> str:
    """What a case's row stands under, if it has one: its name, or the patient's where that says less."""
    return case.case if case.case in rows else case.patient


def match_table(rows: Mapping[str, Row], cases: Sequence[CaseFiles], path: str | os.PathLike) -> tuple[dict, list[str]]:
    """Rows for the cases on disk, by case or patient.

    Returns:
        Row by case of `cases`, and the cases of the table that are not on disk, sorted.

    Raises:
        DataError: cases on disk that the table does not name.
    """
    matched, used = {}, set()
    for case in cases:
        key = key_of(rows, case)
        if key in rows:
            matched[case.case] = rows[key]
            used.add(key)
    missing = [f"case {case.case} has no record" for case in cases if case.case not in matched]
    if missing:
        raise DataError.listing(f"table {path}, expected a record for every case on disk", missing)
    return matched, sorted(set(rows) - used)


def _read_records(path: Path) -> list[dict[str, str]]:
    if path.suffix.lower() != ".json":
        try:
            # Spreadsheets put a byte-order mark in front of the header.
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"table {path}: unreadable, expected CSV or JSON in UTF-8 ({error})") from error
        reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
        if "case" not in (reader.fieldnames or []):
            raise DataError(f"table {path}: header is {reader.fieldnames}, expected the columns case and site")
        return [{key: (value or "").strip() for key, value in row.items() if isinstance(key, str)} for row in reader]
    records = read_json(path, "a table, a list of records with case and site")
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise DataError(f"table {path}: expected a JSON list of records with case and site")
    return [{key: value for key, value in record.items() if isinstance(value, str)} for record in records]
