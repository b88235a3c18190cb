"""Distributed synthetic learning: one central generator, discriminators that stay in the hospitals.

Every command says more with --help.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from bundle.cli.options import make_parser
from bundle.composition import STAGES
from bundle.threads import set_threads

__all__ = ["COMMANDS", "build_parser", "main"]

# what a command imports and checks belongs to the time of its run
STARTED = time.monotonic()

COMMANDS = {
    **{name: name for name in ("prepare", "phantoms", "tuning_list", "bank", "shapes", "run")},
    **dict.fromkeys(STAGES, "stage"),
    **{name: name for name in ("files", "report", "federate", "site", "audit", "pack", "check")},
}
"""
Modules of this package by command. Each has ``summary(command)`` and ``declare(parser)``, which sets ``run`` and, for
what starts FLARE, ``begin_process``.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; it imports nothing that takes long."""
    parser = make_parser(argparse.ArgumentParser, __doc__, prog="asyndgan")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module_name in COMMANDS.items():
        module = import_module(f"bundle.cli.{module_name}")
        text = module.summary(name)
        module.declare(make_parser(commands.add_parser, module.__doc__, name, help=text[0].lower() + text[1:]))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run a command.

    Args:
        arguments: the words after ``asyndgan``; None for those of this process.

    Returns:
        The exit status: 0; 1 for a check that found something; 2 for what was refused, which one line on stderr says;
        130 after Ctrl-C.
    """
    is_program = arguments is None
    words = sys.argv[1:] if arguments is None else [str(word) for word in arguments]
    options = build_parser().parse_args(words)
    options.started = STARTED if is_program else time.monotonic()
    options.command_line = shlex.join(["asyndgan", *words])
    if hasattr(options, "threads"):
        set_threads(options.threads)
    if is_program and hasattr(options, "begin_process"):
        options.begin_process()
        _end(options)
    return _call(options)


def _call(options: argparse.Namespace) -> int:
    try:
        return options.run(options)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        from bundle.plain_errors import is_refusal

        if not is_refusal(error):
            raise
        print(f"\nerror: {error}", file=sys.stderr)
        return 2


def _end(options: argparse.Namespace) -> NoReturn:
    """Run, and end this process whatever threads are left in it: FLARE's may never end."""
    try:
        status = _call(options)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except Exception:
        import traceback

        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
