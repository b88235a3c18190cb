"""A labelled synthetic data set from a generator that is trained already: ``asyndgan generate --model``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bundle.cli.options import add_controls, controls

__all__ = ["add_model", "run_model"]


class _InsteadOfARun(argparse.Action):
    """With a packed generator nothing of a run is needed."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: str | None = None) -> None:
        setattr(namespace, self.dest, values)
        for action in parser._actions:
            action.required = False


def add_model(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("from a packed generator, in the place of a run's")
    group.add_argument(
        "--model",
        action=_InsteadOfARun,
        metavar="NAME",
        help="brats, or the folder of a bundle of asyndgan pack generator",
    )
    group.add_argument("--num", type=int, metavar="N", help="images (default 100)", default=100)
    group.add_argument("--output", type=Path, metavar="DIR", help="folder to write", default=Path("synthetic"))
    group.add_argument("--size", type=int, metavar="PIXELS", help="of tiles (default: the training's)")
    group.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    add_controls(group)


def run_model(options: argparse.Namespace) -> int:
    """
    Raises:
        ValueError, OSError: see :func:`bundle.generators.generate`.
    """
    from bundle.cli.terminal import show_lines
    from bundle.generators import generate

    show_lines()
    folder = generate(
        options.model,
        options.num,
        options.output,
        seed=options.seed,
        style=options.style,
        size=options.size,
        device=options.device,
        **controls(options),
    )
    print(f"wrote {options.num} images with labels to {folder}")
    return 0
