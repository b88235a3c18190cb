"""Draw the figures of a run and write its page again, from the files that it left.

Nothing is trained or scored. The page of `asyndgan federate poc` or `simulate` says what crossed.

Examples:
  asyndgan report runs/brats-small
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bundle.cli.terminal import show_lines_with_time

__all__ = ["declare", "summary"]


def summary(command: str) -> str:
    return "Write the page of a run again"


def declare(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="folder of the run")
    parser.add_argument(
        "--dataset_dir", metavar="DIR", help="where its data are now (default: where they were when it was made)"
    )


def run(options: argparse.Namespace) -> int:
    """
    Raises:
        FileNotFoundError: the folder holds no run.
        ValueError: its results do not say by which command they were made.
    """
    show_lines_with_time()
    print(f"report: {_write(options.run_dir, options.dataset_dir)}")
    return 0


def _write(run_dir: Path, dataset_dir: str | None) -> Path:
    import json

    from bundle.cli.trial import write_page
    from bundle.files import require_file

    record = next(iter(sorted(run_dir.glob("seed_*/*/gan/record.json"))), None)
    if record is not None and not (run_dir / "results.json").is_file():
        return write_page(record.parent, json.loads(record.read_text(encoding="utf-8")), run_dir)
    path = Path(require_file(run_dir / "results.json", "asyndgan run writes it"))
    return _write_again(run_dir, json.loads(path.read_text(encoding="utf-8")), dataset_dir)


def _write_again(run_dir: Path, results: dict, dataset_dir: str | None) -> Path:
    import shlex

    from bundle.cli.main import build_parser
    from bundle.cli.run import make_experiment
    from bundle.workflows.evidence import make_report

    command = results.get("command", "")
    words = shlex.split(command)
    if words[:2] != ["asyndgan", "run"]:
        raise ValueError(f"{run_dir / 'results.json'}: command: expected asyndgan run ..., got {command!r}")
    made = build_parser().parse_args(words[1:])
    made.dataset_dir = dataset_dir or made.dataset_dir
    # the run may have been moved
    made.run_dir, made.command_line, made.started = str(run_dir), command, None
    return make_report(make_experiment(made), results)
