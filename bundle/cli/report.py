"""Write the page of a run and the sheets of its synthetic data sets again, from the files that it left.

Nothing is trained, scored or drawn. The page of `asyndgan federate poc` or `simulate` says what crossed.

Examples:
  asyndgan report runs/brats-small
  asyndgan report runs/brats-small --shareable
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bundle.cli.terminal import show_lines_with_time

__all__ = ["declare", "summary"]


def summary(command: str) -> str:
    return "Write the page of a run again, and its data sheets"


def declare(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="folder of the run")
    parser.add_argument(
        "--shareable",
        action="store_true",
        help="report_shareable.html: without what shows a real image or names a case",
    )


def run(options: argparse.Namespace) -> int:
    """
    Raises:
        FileNotFoundError: the folder holds no run.
        ValueError: its results cannot be read.
    """
    show_lines_with_time()
    print(f"report: {_write(options.run_dir, options.shareable)}")
    return 0


def _write(run_dir: Path, shareable: bool) -> Path:
    import json

    from bundle.cli.trial import write_page
    from bundle.report import make_report
    from bundle.sheet import write_sheets

    write_sheets(run_dir)
    record = next(iter(sorted(run_dir.glob("seed_*/*/gan/record.json"))), None)
    if record is not None and not (run_dir / "results.json").is_file():
        return write_page(record.parent, json.loads(record.read_text(encoding="utf-8")), run_dir)
    return make_report(run_dir, shareable)
