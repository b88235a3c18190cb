#!/usr/bin/env python
"""Pack trained weights as a MONAI bundle that works without this repository: a folder and a zip file.

What the bundle says of itself is read from the files beside the weights.

Examples:
    python scripts/pack_bundle.py brats --weights runs/brats-small/seed_0/asyndgan/segmenter/segmenter.pt --output dist
    python scripts/pack_bundle.py generator --weights runs/brats-small/seed_0/asyndgan/gan/generator.pt --output dist
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bundle.sharing import KINDS, OPTIONS, PackError, PackOptions, pack_bundle
from bundle.text import console

ROOT = Path(__file__).resolve().parents[1]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("kind", choices=KINDS, help="a segmenter of a task, or the generator of either")
    parser.add_argument("--weights", type=Path, required=True, help="segmenter.pt or generator.pt of a run")
    parser.add_argument("--output", type=Path, required=True, help="folder to write NAME/ and NAME.zip into")
    parser.add_argument("--name", help="of the bundle and, with _code, of its Python package (default: by the kind)")
    parser.add_argument("--version", default="0.1.0", help="of the bundle (default 0.1.0)")
    parser.add_argument("--changes", default="First version", help="line of the changelog for this version")
    parser.add_argument("--authors", default=PackOptions.authors, help=f"(default: {PackOptions.authors})")
    parser.add_argument("--overwrite", action="store_true", help="replace a bundle of that name; its changelog goes on")
    parser.add_argument("--data_name", help="what the real data are called (default: as their data list says)")
    parser.add_argument("--data_license", type=Path, help="text file with the licence of data not known here")
    parser.add_argument("--license", type=Path, default=ROOT / "LICENSE", help="of code and configs (default: LICENSE)")
    group = parser.add_argument_group("files of the run that do not lie where it left them")
    for name in OPTIONS:
        group.add_argument(f"--{name}", type=Path, metavar="FILE")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status: 0, or 2 for bad files or options."""
    options = vars(parse_arguments(arguments))
    warnings.filterwarnings("ignore")
    logging.basicConfig(level=logging.WARNING, handlers=[console()])
    logging.getLogger("monai.bundle.scripts").setLevel(logging.WARNING)
    files = {name: options.pop(name) for name in OPTIONS}
    try:
        folder = pack_bundle(PackOptions(**options, files=files))
    except (PackError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {folder} and {folder.with_suffix('.zip')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
