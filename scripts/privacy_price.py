"""What release policies cost: usefulness of AsynDGAN's images against what attacks gain, as a table and a figure.

A row is a run of asyndgan run and the folders that asyndgan audit wrote about it; ratios are to
the first. Writes price.json, price.md and price.png.

From a checkout; no command of the product.

Examples:
    python -m scripts.privacy_price --row runs/published audits/published --row runs/guarded audits/guarded \\
        --output docs/results/privacy
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--row",
        nargs="+",
        action="append",
        required=True,
        type=Path,
        metavar=("RUN", "AUDIT"),
        help="folder of a run, then folders with its readout.json and membership.json, if any",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder")
    return parser.parse_args(arguments)


def read_row(run: Path, audits: list[Path]) -> dict:
    """
    Raises:
        FileNotFoundError: without results.json, or for an audit folder that holds neither readout nor membership.
        ValueError: for a run without scores of AsynDGAN.
    """
    from bundle.files import require_file
    from bundle.report.price import price_row

    require_file(run / "results.json", "asyndgan run writes it")
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    found = {}
    for folder in audits:
        paths = [folder / f"{name}.json" for name in ("readout", "membership") if (folder / f"{name}.json").is_file()]
        if not paths:
            raise FileNotFoundError(f"{folder}: expected readout.json or membership.json of asyndgan audit")
        found |= {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    return price_row(results, **found)


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    from bundle.files import write_json, write_text
    from bundle.report.price import price_figure, price_table

    try:
        rows = [read_row(run, audits) for run, *audits in options.row]
        write_json(options.output / "price.json", {"rows": rows})
        table = price_table(rows)
        write_text(options.output / "price.md", table)
        price_figure(rows, options.output / "price.png")
    except (OSError, ValueError, KeyError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    print(table, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
