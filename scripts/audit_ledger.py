"""What has a site let out so far, and was its ledger changed? Subcommand ``ledger`` of scripts/audit_privacy.py.

Prints one page about the ledger. The exit status is 0 for a whole chain, also where its last line is torn (by a power
cut; the page says so), 1 for a broken one or one that does not hold the head given, 2 for none at all.
"""

from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="SITE.jsonl in the run's folder gan/releases")
    parser.add_argument(
        "--head", nargs=2, metavar=("NUMBER", "HASH"), help="of an entry, as noted elsewhere from an earlier page"
    )


def run(options: argparse.Namespace) -> int:
    """
    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: for a head that cannot be one.
    """
    from bundle.site.release import LedgerError, check_head, summarize, verify

    print(summarize(options.file), end="")
    state = verify(options.file)
    if options.head is not None:
        number, hash = options.head
        if not number.isdecimal():
            raise ValueError(f"--head: expected the number of an entry, got {number!r}")
        try:
            held = check_head(options.file, int(number), hash)
        except LedgerError:
            held = False
        print(f"\nEntry {number} {'is the one' if held else 'is NOT the one'} that was noted.")
        if not held:
            return 1
    if not state.whole:
        print(f"\n{options.file}: the chain is broken: {state.problem}", file=sys.stderr)
    return 0 if state.whole else 1
