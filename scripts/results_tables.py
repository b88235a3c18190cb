"""Print the tables of a run as Markdown, or write them into a page, so that nobody types a number.

In a page they stand between two comments, the first naming the run's results.json relative to the page:

    <!-- tables of tcga_lgg_small/results.json -->
    <!-- end of tables -->

From a checkout; no command of the product.

Examples:
    python -m scripts.results_tables runs/brats-small/results.json
    python -m scripts.results_tables docs/results/README.md
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

_BLOCK = re.compile(r"(<!-- tables of (\S+) -->\n).*?(<!-- end of tables -->)", re.DOTALL)


def tables(results_path: Path) -> str:
    """All tables of a results.json in Markdown; ends with a newline."""
    from bundle.report import compute_statistics, markdown_table

    results = json.loads(results_path.read_text(encoding="utf-8"))
    # results of runs before there were statistics
    return markdown_table({"statistics": compute_statistics(results), **results})


def with_tables(page_path: Path) -> str:
    """
    The content of a page with all its tables made again.

    Raises:
        ValueError: the page has no place for tables.
        FileNotFoundError: a results.json that it names is missing.
    """
    text, places = _BLOCK.subn(
        lambda found: f"{found[1]}\n{tables(page_path.parent / found[2])}\n{found[3]}",
        page_path.read_text(encoding="utf-8"),
    )
    if not places:
        raise ValueError(f"{page_path}: no line '<!-- tables of PATH/results.json -->' with its end")
    return text


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("path", nargs="+", type=Path, help="a results.json to print, or a page (.md) to write into")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    for path in parse_arguments(arguments).path:
        try:
            if path.suffix == ".md":
                from bundle.files import write_text

                write_text(path, with_tables(path))
            else:
                print(tables(path), end="")
        except (ValueError, OSError) as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
