"""Pack trained weights as a MONAI bundle that works without this package: a folder and a zip file.

What the bundle says of itself is read from the files beside the weights.

Examples:
  asyndgan pack brats --weights runs/brats-small/seed_0/asyndgan/segmenter/segmenter.pt --output dist
  asyndgan pack generator --weights runs/brats-small/seed_0/asyndgan/gan/generator.pt --output dist
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path

from bundle.cli.options import add_threads

__all__ = ["declare", "summary"]

# as bundle.sharing has them, which takes long to import
KINDS = ("brats", "multi_organ", "generator")
FILES = {
    "training_config": "the resolved configuration of the training",
    "record": "the record of the training",
    "metrics": "the scores on the held-out cases",
    "evaluation_config": "the resolved configuration of the evaluation",
    "datalist": "the data list of the real data",
}


def summary(command: str) -> str:
    return "Pack trained weights as a MONAI bundle to give away"


def declare(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    parser.add_argument("kind", choices=KINDS, help="a segmenter of a task, or the generator of either")
    parser.add_argument(
        "--weights", type=Path, required=True, metavar="FILE", help="segmenter.pt or generator.pt of a run"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder to write NAME/ and NAME.zip into"
    )
    parser.add_argument("--name", help="of the bundle and, with _code, of its Python package (default: by the kind)")
    parser.add_argument("--version", default="0.1.0", help="of the bundle (default 0.1.0)")
    parser.add_argument("--changes", default="First version", help="line of the changelog for this version")
    parser.add_argument("--authors", help="of the bundle (default: those of this project)")
    parser.add_argument("--overwrite", action="store_true", help="replace a bundle of that name; its changelog goes on")
    parser.add_argument("--data_name", help="what the real data are called (default: as their data list says)")
    parser.add_argument(
        "--data_license", type=Path, metavar="FILE", help="text file with the licence of data not known here"
    )
    parser.add_argument(
        "--license", type=Path, metavar="FILE", help="of code and configs (default: that of this package)"
    )
    add_threads(parser)
    parser.add_argument(
        "--shapes", type=Path, metavar="FILE.npz", help="of label maps (asyndgan shapes measure), for a generator"
    )
    parser.add_argument(
        "--drawing_only", action="store_true", help="no more of a generator than asyndgan generate --model takes"
    )
    group = parser.add_argument_group("files of the run that do not lie where it left them")
    for name, text in FILES.items():
        group.add_argument(f"--{name}", type=Path, metavar="FILE", help=text)


def run(options: argparse.Namespace) -> int:
    """
    Raises:
        bundle.sharing.PackError, ValueError, OSError: bad files or options.
    """
    from bundle.installation import license_file
    from bundle.sharing import PackOptions, pack_bundle
    from bundle.text import console

    warnings.filterwarnings("ignore")
    logging.basicConfig(level=logging.WARNING, handlers=[console()])
    logging.getLogger("monai.bundle.scripts").setLevel(logging.WARNING)
    names = (
        "kind",
        "weights",
        "output",
        "name",
        "version",
        "changes",
        "overwrite",
        "data_name",
        "data_license",
        "shapes",
        "drawing_only",
    )
    given = {name: getattr(options, name) for name in names}
    given |= {"authors": options.authors} if options.authors else {}
    given |= {"license": options.license or license_file()}
    folder = pack_bundle(PackOptions(**given, files={name: getattr(options, name) for name in FILES}))
    print(f"wrote {folder} and {folder.with_suffix('.zip')}")
    return 0
