"""Institutions that arrive one after another, and leave: what replay keeps, in a segmenter's Dice.

At time t only institution t is there; the training goes on from that of the time before (config key earlier). After
each time images are drawn on the released conditions of all that have arrived, a segmenter learns from them, and is
scored on the held-out patients of the whole list. With replay, without (replay_weight 0), and all institutions at once,
in as many steps as one time has. Goes on where it was ended.

From a checkout; no command of the product.

Examples:
    python -m scripts.institutions_over_time --dataset_dir data/lgg --output runs/institutions --sites HT DU FG CS
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any

SETTING = "asyndgan"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--dataset_dir", type=Path, required=True, metavar="DIR", help="folder of datalist.json")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of lists, runs and results")
    parser.add_argument("--sites", nargs="+", required=True, metavar="SITE", help="in the order of their arrival")
    parser.add_argument("--task", default="brats")
    parser.add_argument("--profile", default="compact")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=750, help="of the training of each time (default 750)")
    parser.add_argument("--weight", type=float, default=10.0, help="replay_weight (default 10)")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="further config keys")
    return parser.parse_args(arguments)


def write_lists(dataset_dir: Path, folder: Path, sites: list[str]) -> dict[str, Path]:
    """A data list of each site's training cases, and one of all; the held-out ones are in every list."""
    from bundle.data import load_datalist
    from bundle.data.datalist import write_part

    whole = load_datalist(dataset_dir)
    if missing := set(sites) - set(whole.sites):
        raise SystemExit(f"--sites: {dataset_dir} has {', '.join(whole.sites)}, not {', '.join(sorted(missing))}")
    parts = {site: whole.site_items(site) for site in sites}
    parts["all"] = [item for items in parts.values() for item in items]
    lists = {}
    for part, items in parts.items():
        here = {item["site"] for item in items}
        held_out = [item if item["site"] in here else item | {"site": None} for item in whole.test]
        lists[part] = write_part(whole, folder / part, f"{whole.name}, {part}", items, held_out).parent
    return lists


def train_and_score(options: argparse.Namespace, dataset_dir: Path, run: Path, **keys: object) -> Path:
    """GAN, images, segmenter and scores, each unless it is finished; returns the folder of the outputs."""
    outputs = run / f"seed_{options.seed}" / SETTING
    replayed = outputs / "gan" / "replay" / "conditions.npz"
    given = {"num_steps": options.steps, **keys}
    for stage in ("train", "generate", "segment", "evaluate"):
        if stage == "generate" and replayed.is_file():
            given["condition_bank"] = replayed
        command = [sys.executable, "-m", "bundle.cli", stage, "--task", options.task, "--profile", options.profile]
        command += ["--dataset_dir", dataset_dir, "--run_dir", run, "--seed", options.seed, "--setting", SETTING]
        command += ["--set", *(f"{key}={value}" for key, value in given.items()), *options.set]
        subprocess.run([str(word) for word in command], check=True, cwd=Path(__file__).resolve().parents[1])
    return outputs


def scores(outputs: Path, site_of: dict[str, str]) -> dict[str, float]:
    """Mean Dice over all held-out patients (``all``), and over those of each institution."""
    content = json.loads((outputs / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
    by_site: dict[str, list[float]] = defaultdict(list)
    for case, dice in content["metrics"]["dice"]["per_case"].items():
        by_site["all"].append(dice)
        by_site[site_of[case]].append(dice)
    return {site: mean(found) for site, found in sorted(by_site.items())}


def draw_curves(found: dict[str, list[dict[str, float]]], sites: list[str], path: Path) -> None:
    from matplotlib.figure import Figure

    groups = sorted(found["with replay"][0])
    figure = Figure(figsize=(3.4 * len(groups), 3), layout="constrained")
    for axes, group in zip(figure.subplots(1, len(groups), sharey=True), groups, strict=True):
        for way, mark in (("with replay", "o-"), ("without", "s--")):
            axes.plot(range(len(sites)), [score[group] for score in found[way]], mark, label=way)
        axes.axhline(found["all at once"][0][group], color="0.4", linestyle=":", label="all at once")
        axes.set_xticks(range(len(sites)), [f"+ {site}" for site in sites])
        axes.set_title("all held-out patients" if group == "all" else f"held-out patients of {group}", fontsize=10)
        axes.set_xlabel("arrives, the one before has left")
    figure.axes[0].set_ylabel("Dice")
    figure.axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=150)


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    from bundle.data import load_datalist
    from bundle.files import write_json

    output = options.output.resolve()
    lists = write_lists(options.dataset_dir, output / "lists", options.sites)
    site_of = {item["case"]: str(item["site"]) for item in load_datalist(options.dataset_dir).test}
    first, *later = options.sites
    found: dict[str, Any] = {}
    ended = train_and_score(options, lists[first], output / "time_1")
    for way, weight in (("with replay", options.weight), ("without", 0.0)):
        outputs, found[way] = ended, [scores(ended, site_of)]
        for time, site in enumerate(later, start=2):
            run = output / f"{way.split()[0]}_{time}"
            outputs = train_and_score(options, lists[site], run, earlier=outputs, replay_weight=weight)
            found[way].append(scores(outputs, site_of))
            print(f"{way}, {time} arrived: {found[way][-1]}", file=sys.stderr, flush=True)
    found["all at once"] = [scores(train_and_score(options, lists["all"], output / "together"), site_of)]
    about = {key: getattr(options, key) for key in ("sites", "steps", "weight", "seed", "profile")}
    write_json(output / "results.json", {"options": about, "dice": found})
    draw_curves(found, options.sites, output / "curves.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
