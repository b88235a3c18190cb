#!/usr/bin/env python
"""Run all settings of a task and write the table, the figures and the report.

What is finished is not computed again: after an interruption, start it with the same words.

Examples:
    python scripts/run_experiments.py --task brats --dataset_dir data/lgg --profile small --seeds 0
    python scripts/run_experiments.py --task brats --dataset_dir data/lgg --run_dir runs/no_l1 --set l1_weight=0
"""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
import time
import warnings
from pathlib import Path

# here: everything that takes long to import comes later, and belongs to the run
STARTED = time.monotonic()
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def whole_number(text: str) -> int:
    """A seed: an integer, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}, expected a whole number, 0 or more")
    return int(text)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    # a task is a config that says so; YAML itself is read later, with everything that takes long to import
    configs = sorted((ROOT / "configs").glob("*.yaml"))
    tasks = [config.stem for config in configs if "\ntask: " in "\n" + config.read_text(encoding="utf-8")]
    parser = argparse.ArgumentParser(
        # half a word may come to mean another option later
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--task", required=True, choices=tasks, help="configs/TASK.yaml")
    parser.add_argument("--dataset_dir", required=True, help="folder of datalist.json, see scripts/prepare_data.py")
    parser.add_argument(
        "--profile", help="configs/PROFILE.yaml: demo, compact, small or paper (default: the task's, mostly small)"
    )
    parser.add_argument(
        "--seeds", type=whole_number, nargs="+", default=[0], help="one run of every setting for each (default 0)"
    )
    parser.add_argument(
        "--settings", nargs="+", help="real_all real_subset[/SITE] syn_all asyndgan (default: the task's)"
    )
    parser.add_argument("--run_dir", help="folder of the run (default runs/TASK-PROFILE, or runs/TASK)")
    parser.add_argument("--config_file", nargs="+", default=[], help="further configs, which win over the profile")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="config keys, such as num_steps=3000")
    return parser.parse_args(arguments)


def overrides(pairs: list[str]) -> dict:
    """KEY=VALUE to a mapping, the values as YAML reads them; ``@name``, which YAML refuses, refers to another key."""
    import yaml

    from bundle.workflows import ConfigError

    parsed = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise ConfigError(f"--set {pair}: expected KEY=VALUE, such as num_steps=3000")
        try:
            parsed[key] = value if value.startswith("@") else yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {pair}: the value cannot be read as YAML ({error})") from error
    return parsed


def main(arguments: list[str] | None = None) -> int:
    started = STARTED if arguments is None else time.monotonic()
    options = parse_arguments(arguments)
    # MONAI warns at every config that configs are code, and at its own deprecations
    warnings.filterwarnings("ignore")
    from bundle.text import console

    logging.basicConfig(
        level=logging.INFO, handlers=[console("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S")]
    )
    # every stage reads the same logging.conf, and MONAI says so each time
    logging.getLogger("monai.bundle.workflows").setLevel(logging.WARNING)
    from bundle.plain_errors import is_refusal, name_errors_once
    from bundle.report import text_table
    from bundle.workflows.evidence import make_report
    from bundle.workflows.experiment import Experiment

    name_errors_once()
    command = "python scripts/run_experiments.py " + shlex.join(sys.argv[1:] if arguments is None else arguments)
    try:
        experiment = Experiment(
            task=options.task,
            dataset_dir=options.dataset_dir,
            profile=options.profile,
            run_dir=options.run_dir,
            seeds=options.seeds,
            settings=options.settings,
            config_files=options.config_file,
            overrides=overrides(options.set),
            config_dir=str(ROOT / "configs"),
            command=command,
            started=started,
        )
        results = experiment.run()
        page = make_report(experiment, results)
    except (ValueError, OSError) as error:
        if not is_refusal(error):
            raise
        print(f"\nerror: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        return 130
    print(f"\n{text_table(results)}\n\nreport: {page}\nnumbers: {Path(experiment.run_dir) / 'results.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
