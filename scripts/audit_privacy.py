#!/usr/bin/env python
"""Attack one's own sites, to know what they let out.

`readout`: real images, read out of the image gradients that a site returns. `membership`: who was in the training.
`conditions`: what the conditions tell. `ledger`: what a site has let out so far. Each says more with --help.

Examples:
    python scripts/audit_privacy.py readout --dataset_dir data/lgg --site CS --output runs/audit
    python scripts/audit_privacy.py readout --dataset_dir data/lgg --site CS --output runs/b \\
        --set release_policy=published
    python scripts/audit_privacy.py membership --dataset_dir data/lgg --run_dir runs/brats-small --output runs/audit
    python scripts/audit_privacy.py ledger runs/brats-small/seed_0/asyndgan/gan/releases/CS.jsonl
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

AUDITS = ("readout", "membership", "conditions", "ledger")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parts = parser.add_subparsers(dest="audit", required=True, metavar="AUDIT")
    modules = {name: import_module(f"scripts.audit_{name}") for name in AUDITS}
    for name, module in modules.items():
        part = parts.add_parser(
            name,
            help=(module.__doc__ or "").strip().splitlines()[0],
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(part)
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    from bundle.text import console

    logging.basicConfig(level=logging.INFO, handlers=[console()])
    logging.getLogger("monai.bundle.workflows").setLevel(logging.WARNING)
    # to read a ledger takes nothing heavier
    from bundle.site.release import LedgerError, ReleaseRefused

    try:
        return modules[options.audit].run(options)
    except (ReleaseRefused, LedgerError, ValueError, OSError) as error:
        print(f"\n{type(error).__name__}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
