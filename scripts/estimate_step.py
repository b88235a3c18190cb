"""What a step would take with many hospitals on one line, on paper, from what was measured.

Prints a table in Markdown. Measured are seconds of G and of a site for an image (scripts.benchmark step), FLARE's
seconds for a call (scripts.benchmark scale), and the bytes of messages (scripts.wire_costs, with noise).

    step = hospitals · batch · G + batch · site + hospitals · bytes · 8 / line + hospitals · call

G runs at the server for all images one after the other, all sites compute at the same time, and all bytes pass the
server's line. This is an upper bound: one part after the other, where a training has G at work while others compute and
messages travel (scripts.benchmark line). Latency is not in it, nor are sites slower than the machine that was measured.

From a checkout; no command of the product.

Examples:
    python -m scripts.estimate_step --step small=runs/benchmark/step_small.json paper=runs/benchmark/step_paper.json \\
        --scale runs/benchmark/scale/results.json
    python -m scripts.estimate_step --measured paper=0.5,0.1 --call 0.004
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import NamedTuple

from scripts.wire_costs import TRAININGS, Training, codecs, configs, noise_batch, step_size

SHOWN = ("float32", "int8+zstd")


class Measured(NamedTuple):
    """Seconds for one image."""

    generator: float
    site: float


class Estimate(NamedTuple):
    """Seconds of a step by part."""

    generator: float
    sites: float
    line: float
    calls: float

    @property
    def largest(self) -> str:
        titles = {"generator": "G", "sites": "sites", "line": "the line", "calls": "FLARE's calls"}
        return titles[max(titles, key=lambda part: getattr(self, part))]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--step", nargs="+", default=[], metavar="PROFILE=FILE", help="what benchmark.py step wrote with --output"
    )
    parser.add_argument(
        "--measured", nargs="+", default=[], metavar="PROFILE=G,SITE", help="seconds for an image, instead of a file"
    )
    parser.add_argument("--precision", default="bfloat16", choices=["float32", "bfloat16"], help="of --step's files")
    parser.add_argument("--scale", type=Path, help="results.json of benchmark.py scale")
    parser.add_argument("--call", type=float, help="FLARE's seconds for a call, instead of --scale")
    parser.add_argument("--hospitals", type=int, default=50, help="default 50")
    parser.add_argument("--megabits", type=float, default=100, help="of the server's line per second (default 100)")
    options = parser.parse_args(arguments)
    if not options.step and not options.measured:
        parser.error("expected --step or --measured")
    if (options.scale is None) == (options.call is None):
        parser.error("expected --scale or --call")
    return options


def read_step(path: Path, precision: str) -> Measured:
    """
    Raises:
        ValueError: the file is none of ``benchmark.py step``.
    """
    content = _read(path)
    try:
        about, images = content[precision], content["images per step"]
        share, seconds = about["share"], about["seconds_per_step"]
        return Measured(seconds * share["G"] / images, seconds * (share["D"] + share["data"]) / images)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected the output of benchmark.py step, and it lacks {error}") from error


def read_call(path: Path) -> float:
    """
    Raises:
        ValueError: the file is none of ``benchmark.py scale`` with at least two numbers of sites.
    """
    try:
        return _read(path)["overhead"]["seconds_per_call"]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: expected the results of benchmark.py scale, for two numbers of sites or more"
        ) from error


def _read(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: unreadable, expected JSON ({error})") from error


def estimate(measured: Measured, batch: int, size: int, call: float, hospitals: int, megabits: float) -> Estimate:
    """
    Args:
        measured: seconds for an image.
        batch: images of a site in a step.
        size: bytes of a step of one site, both ways.
        call: seconds.
        hospitals: how many.
        megabits: of the line per second.
    """
    return Estimate(
        hospitals * batch * measured.generator,
        batch * measured.site,
        hospitals * size * 8 / (megabits * 1e6),
        hospitals * call,
    )


def table(estimates: dict[tuple[str, str], Estimate]) -> str:
    """In Markdown, by profile and codec."""
    lines = [
        "| profile | codec | G | sites | line | FLARE's calls | s a step | largest |",
        "| --- | --- |" + " ---: |" * 5 + " --- |",
    ]
    for (profile, codec), one in estimates.items():
        cells = [profile, codec, *(f"{seconds:.2f}" for seconds in (*one, sum(one))), one.largest]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def training_of(profile: str) -> Training:
    """
    Brains in a profile.

    Raises:
        ValueError: there is none among those of scripts.wire_costs.
    """
    known = {training.profile: training for training in reversed(TRAININGS) if training.task == "brats"}
    if profile not in known:
        raise ValueError(f"profile {profile!r}: expected one of {', '.join(sorted(known))}")
    return known[profile]


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status: 0, or 2 for values that cannot be used."""
    options = parse_arguments(arguments)
    estimates = {}
    try:
        measured = {}
        for text in options.step:
            profile, _, file = text.partition("=")
            measured[profile] = read_step(Path(file), options.precision)
        for text in options.measured:
            profile, _, values = text.partition("=")
            measured[profile] = Measured(*(float(value) for value in values.split(",", 1)))
        call = read_call(options.scale) if options.call is None else options.call
        for profile, seconds in measured.items():
            made = codecs()
            images, conditions = noise_batch(configs(training_of(profile)))
            for codec in SHOWN:
                size = step_size(made[codec], [(images, conditions)]).both
                estimates[profile, codec] = estimate(
                    seconds, len(images), size, call, options.hospitals, options.megabits
                )
    except (ValueError, TypeError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{options.hospitals} hospitals, a line of {options.megabits:g} Mbit/s at the server\n")
    for profile, seconds in measured.items():
        print(f"- {profile}: G {seconds.generator:.4f} s an image, a site {seconds.site:.4f} s an image")
    print(f"- a call of FLARE: {call:.4f} s\n\n{table(estimates)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
