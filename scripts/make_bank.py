#!/usr/bin/env python
"""Make a bank of conditions that the server owns, from a prepared data list: of public label maps, for example.

Generation then uses it, with what the sites released or in its place: ``generate.yaml`` with ``--condition_bank FILE``.

Examples:
    python scripts/make_bank.py --task brats --profile small --dataset_dir data/public --output bank.npz
    python scripts/make_bank.py --task brats --dataset_dir data/public --output bank.npz --set empty_slices=0
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--task", required=True, help="configs/TASK.yaml: brats or multi_organ")
    parser.add_argument("--profile", default="small", help="configs/PROFILE.yaml, that of the training (default small)")
    parser.add_argument("--dataset_dir", required=True, help="folder of datalist.json, see scripts/prepare_data.py")
    parser.add_argument("--output", type=Path, required=True, help="file to write, .npz")
    parser.add_argument("--config_file", nargs="+", default=[], help="further configs, those of the training")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="config keys, those of the training")
    return parser.parse_args(arguments)


def make_bank(files: list[str], dataset_dir: str, output: Path, overrides: dict) -> dict[str, int]:
    """
    Write the conditions of all training cases of a data list, as sites with these configs would release them.

    Args:
        files: configs of a training: stage, task, profile.
        dataset_dir: folder of the data list. Its test cases are left out.
        output: see :func:`bundle.server.write_conditions`.
        overrides: values for keys of the configs.

    Returns:
        Number of conditions by site of the data list.
    """
    from bundle.server import write_conditions
    from bundle.workflows import DistributedGANWorkflow

    workflow = DistributedGANWorkflow(
        files,
        bundle_root=str(ROOT),
        dataset_dir=dataset_dir,
        logging_file=False,  # the command's stays as it is
        **({"setting": "asyndgan"} | overrides),
    )
    workflow.initialize()
    found = {
        site: [sample["condition"].numpy() for sample in map(samples.__getitem__, range(len(samples)))]
        for site, samples in workflow.make("site_samples").items()
    }
    write_conditions(output, found)
    return {site: len(conditions) for site, conditions in found.items()}


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    warnings.filterwarnings("ignore")
    from bundle.text import console

    logging.basicConfig(level=logging.INFO, handlers=[console()])
    logging.getLogger("monai.bundle.workflows").setLevel(logging.WARNING)
    from bundle.data import DataError
    from bundle.workflows import ConfigError
    from scripts.run_experiments import overrides

    folder = ROOT / "configs"
    files = [str(folder / f"{name}.yaml") for name in ("train", options.task, options.profile)] + options.config_file
    try:
        if options.output.suffix != ".npz":
            raise ValueError(f"--output {options.output}: expected a name that ends with .npz")
        found = make_bank(files, options.dataset_dir, options.output, overrides(options.set))
    except (DataError, ConfigError, ValueError, OSError) as error:
        print(f"\n{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    for site, number in found.items():
        print(f"{site}: {number} conditions")
    print(f"wrote {sum(found.values())} conditions to {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
