#!/usr/bin/env python
"""Train with the sites behind NVIDIA FLARE.

Examples:
    python scripts/federate.py simulate --config_file "['train.yaml','brats.yaml','small.yaml']" --dataset_dir DIR
"""

from __future__ import annotations

import argparse
import ast
import logging
import os
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def config_names(text: str) -> list[str]:
    """Names of configs, from a list as MONAI's ``--config_file`` takes it; flare.yaml is added."""
    try:
        files = ast.literal_eval(text) if text.startswith("[") else [text]
        names = [Path(file).name for file in files]
    except (ValueError, SyntaxError, TypeError):
        raise argparse.ArgumentTypeError(f"{text}: expected a list such as ['train.yaml','brats.yaml']") from None
    return names if "flare.yaml" in names else [*names, "flare.yaml"]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)
    simulate = commands.add_parser(
        "simulate", help="FLARE's simulator: one process per site, on this machine", allow_abbrev=False
    )
    simulate.add_argument("--config_file", type=config_names, required=True, help="configs of configs/, as for MONAI")
    simulate.add_argument("--dataset_dir", type=Path, required=True, help="folder of datalist.json with all sites")
    simulate.add_argument("--run_dir", type=Path, help="folder of the run (default runs/federation)")
    simulate.add_argument("--num_threads", type=int, help="threads of the server and of each site")
    simulate.add_argument("--device", help="of the server and of each site")
    simulate.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="config keys, plain values")
    return parser.parse_args(arguments)


def simulate(options: argparse.Namespace, overrides: dict) -> Path:
    """Run FLARE's simulator; returns the folder of the setting's outputs."""
    import yaml

    from bundle import __version__
    from bundle.data import load_datalist, write_site_lists
    from bundle.federation.flare import LOCAL_FILES, run_simulation
    from bundle.federation.job import Job
    from bundle.files import write_text
    from bundle.installation import config_dir

    job = Job.make(options.config_file, overrides, config_dir(), __version__)
    run_dir = (options.run_dir or ROOT / "runs" / "federation").resolve()
    given = {"num_threads": options.num_threads, "device": options.device}
    given = {key: value for key, value in given.items() if value is not None}
    folder = run_dir / "participants"
    lists = write_site_lists(load_datalist(options.dataset_dir), folder)
    for site, path in lists.items():
        own = {"dataset_dir": str(path.parent), "checkpoint_dir": str(folder / site / "checkpoints")}
        write_text(folder / site / "site.yaml", yaml.safe_dump(given | own))
    (folder / "server").mkdir(parents=True, exist_ok=True)
    write_text(folder / "server" / "server.yaml", yaml.safe_dump({"run_dir": str(run_dir), **given}))
    os.environ[LOCAL_FILES] = str(folder)
    run_simulation(job, sorted(lists), run_dir / "flare")
    outputs = run_dir / f"seed_{overrides.get('seed', 0)}" / "asyndgan"
    if not (outputs / "gan" / "record.json").is_file():
        raise RuntimeError(f"the training did not finish: {run_dir / 'flare'} holds the logs")
    return outputs


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    warnings.filterwarnings("ignore")
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%H:%M:%S"
    )
    from bundle.data import DataError
    from bundle.federation.job import JobError
    from scripts.run_experiments import overrides

    try:
        folder = simulate(options, overrides(options.set))
    except (DataError, JobError, OSError, ValueError) as error:
        print(f"\n{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    print(f"\ngenerator: {folder / 'gan' / 'generator.pt'}")
    return 0


if __name__ == "__main__":
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    sys.exit(main())
