"""Speed and memory; ratios are measured side by side. From a checkout, on quiet cores; no command of the product.

`step`: the median step by mode, beside a plain PyTorch one (textbook_step.py), where the time goes, its
floating-point operations, and peak memory, as JSON. A mode is a precision (float32, tf32, bfloat16) and what is
added to it: bfloat16+channels_last+compile, or float32+autotune (cuDNN chooses algorithms by their speed, and bits
differ from run to run). `federation`: a step behind FLARE's simulator against one with all sites in one process, and
the share that is not computing. `scale`: both, and memory, as sites become more. These two write results.json as they
go, print a table in Markdown, and go on where they were ended. `line`: what it is worth that server and sites work at
the same time, over lines of some latency and bandwidth; computing and lines are stand-ins that sleep. `means`: what
could make G faster, each by itself.

Examples:
    python -m scripts.benchmark step
    python -m scripts.benchmark step --dataset_dir data/lgg --profile paper --repeats 7
    python -m scripts.benchmark step --config published --sites 10 --modes textbook tf32 bfloat16 bfloat16+compile
    python -m scripts.benchmark federation --dataset_dir data/lgg
    python -m scripts.benchmark scale --sites 4 8 16
    python -m scripts.benchmark scale --sites 4 16 64 256 --sites_per_step 4 --variants process/1
    python -m scripts.benchmark line --latency 20 100 --bandwidth 10 100
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

from scripts.benchmark import federation, line, means, step
from scripts.benchmark.step import Mode, parse_mode


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parts = parser.add_subparsers(dest="part", required=True)
    one = parts.add_parser("step", help="a step by precision, and where its time goes", allow_abbrev=False)
    one.add_argument("--dataset_dir", help="folder of datalist.json (default: phantoms of four sites)")
    one.add_argument("--task", default="brats", help="configs/TASK.yaml (default brats)")
    one.add_argument("--profile", default="paper", help="configs/PROFILE.yaml (default paper)")
    one.add_argument(
        "--config", nargs="+", default=[], metavar="NAME", help="further configs/NAME.yaml, such as published"
    )
    one.add_argument("--sites", type=int, default=4, help="number of sites of the phantoms (default 4)")
    one.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    one.add_argument("--repeats", type=int, default=5, help="timed steps of each mode (default 5)")
    one.add_argument(
        "--modes",
        nargs="+",
        type=parse_mode,
        default=[Mode("textbook"), Mode("float32"), Mode("bfloat16")],
        help="what to measure (default: textbook float32 bfloat16); see above",
    )
    one.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="config keys, such as batch_size=2")
    one.add_argument(
        "--no_memory", action="store_true", help="leave out the trainings that peak memory is measured with"
    )
    one.add_argument("--output", type=Path, help="also write the JSON to this file")
    federation.add_arguments(
        parts.add_parser("federation", help="FLARE's simulator against one process", allow_abbrev=False),
        parts.add_parser("scale", help="more and more sites", allow_abbrev=False),
    )
    means.add_arguments(parts.add_parser("means", help="what could make G faster, each by itself", allow_abbrev=False))
    line.add_arguments(
        parts.add_parser("line", help="a step over slow lines, by the order of work", allow_abbrev=False)
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    warnings.filterwarnings("ignore")
    parts = {
        **{"step": step.step, "federation": federation.federation, "scale": federation.scale},
        **{"line": line.line, "means": means.means},
    }
    try:
        return parts[options.part](options)
    except (OSError, ValueError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
