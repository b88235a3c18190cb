"""Sites that arrive one after another, and leave: what replay keeps, on the toy mixture.

Five sites hold a component each. At time t only site t is there; the training goes on from that of the time before
(config key earlier). With replay, without (replay_weight 0), and all sites at once: in as many steps as one time has,
so that every discriminator learns as long, and in as many as all have. Scored is the Wasserstein-1 distance to the
mixture of all components that have arrived. Goes on where it was ended.

From a checkout; no command of the product.

Examples:
    python -m scripts.sites_over_time --output runs/sites_over_time --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

MEANS, VARIANCES = (-8.0, -4.0, 0.0, 4.0, 8.0), (2.0, 0.5, 1.0, 0.25, 2.0)
SITES = ("1", "2", "3", "4", "5")
SCALE = 15.0  # image_range of configs/gaussian.yaml
DRAWS = 4000
AT_ONCE = {"all at once, steps of one time": 1, "all at once, steps of all times": len(SITES)}


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of data, runs and results")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="(default 0 1 2)")
    parser.add_argument("--steps", type=int, default=400, help="of the training of each time (default 400)")
    parser.add_argument("--weight", type=float, default=10.0, help="replay_weight (default 10)")
    parser.add_argument("--batch", type=int, default=128, help="batch_size and replay_batch_size (default 128)")
    return parser.parse_args(arguments)


def write_data(folder: Path) -> Path:
    """The mixture, and below it a data list of every site by itself; returns its folder."""
    from bundle.data import load_datalist
    from bundle.data.datalist import write_site_lists
    from bundle.phantoms.gaussian import Component, write_mixture

    components = [Component(*each) for each in zip(MEANS, VARIANCES, strict=True)]
    if not (folder / "all" / "datalist.json").is_file():
        write_mixture(folder / "all", components, draws=DRAWS, test_draws=1000, sites=SITES)
        write_site_lists(load_datalist(folder / "all"), folder / "sites")
    return folder


def train(options: argparse.Namespace, data: Path, run: Path, seed: int, **overrides: object) -> Path:
    """A training, unless it is finished; returns the folder of its outputs."""
    from bundle.composition import stage_files
    from bundle.workflows import DistributedGANWorkflow

    outputs = run / f"seed_{seed}" / "asyndgan"
    if not (outputs / "gan" / "record.json").is_file():
        steps = overrides.get("num_steps", options.steps)
        workflow = DistributedGANWorkflow(
            config_file=stage_files("train", "gaussian"),
            bundle_root=str(Path(__file__).resolve().parents[1]),
            logging_file=False,
            dataset_dir=str(data),
            run_dir=str(run),
            seed=seed,
            device="cpu",
            label_groups={f"component {site}": [int(site)] for site in SITES},
            batch_size=options.batch,
            epoch_length=steps,
            **{"num_steps": steps, **overrides},
        )
        workflow.initialize()
        workflow.run()
        workflow.finalize()
    return outputs


def scores(outputs: Path, arrived: int) -> dict[str, Any]:
    """Wasserstein-1 distances of a generator's numbers to the mixture that has arrived, and to each component of it."""
    import torch
    from scipy.stats import wasserstein_distance

    from bundle.networks import MLPGenerator
    from bundle.seeding import forked_rng

    network = MLPGenerator(len(SITES), 1, scale=SCALE)
    network.load_state_dict(torch.load(outputs / "gan" / "generator.pt", map_location="cpu", weights_only=True))
    conditions = torch.eye(len(SITES)).repeat_interleave(DRAWS, dim=0)[: arrived * DRAWS, :, None, None]
    with torch.no_grad(), forked_rng(0):
        found = (network.eval()(conditions) * SCALE).reshape(arrived, DRAWS).numpy()
    rng = np.random.default_rng(1)
    real = np.stack([rng.normal(m, v**0.5, DRAWS) for m, v in zip(MEANS, VARIANCES, strict=True)])[:arrived]
    apart = [float(wasserstein_distance(a, b)) for a, b in zip(found, real, strict=True)]
    return {"mixture": float(wasserstein_distance(found.ravel(), real.ravel())), "components": apart}


def measure(options: argparse.Namespace, seed: int) -> dict[str, list[dict[str, Any]]]:
    """By way of training, the scores after each arrival; of all at once a single one."""
    data, runs = write_data(options.output.resolve() / "data"), options.output.resolve()
    found: dict[str, list[dict[str, Any]]] = {}
    first = train(options, data / "sites" / "1", runs / "time_1", seed)
    for way, weight in (("with replay", options.weight), ("without", 0.0)):
        outputs = first
        found[way] = [scores(outputs, 1)]
        for time in range(2, len(SITES) + 1):
            more = {"earlier": str(outputs), "replay_weight": weight, "replay_batch_size": options.batch}
            outputs = train(options, data / "sites" / str(time), runs / f"{way.split()[0]}_{time}", seed, **more)
            found[way].append(scores(outputs, time))
            print(f"seed {seed}, {way}, {time} arrived: {found[way][-1]}", file=sys.stderr, flush=True)
    for way, times in AT_ONCE.items():
        outputs = train(options, data / "all", runs / f"together_{times}", seed, num_steps=times * options.steps)
        found[way] = [scores(outputs, len(SITES))]
        print(f"seed {seed}, {way}: {found[way][-1]}", file=sys.stderr, flush=True)
    return found


def table(results: dict[str, dict[str, list[dict[str, Any]]]]) -> str:
    """In Markdown: mean over seeds, and each seed at the end."""
    arrivals = [f"{n} arrived" for n in range(1, 6)]
    lines = [f"| {' | '.join(['', *arrivals, 'each seed', *(f'of {way}' for way in AT_ONCE)])} |"]
    lines += ["| --- |" + " ---: |" * 5 + " --- |" + " ---: |" * len(AT_ONCE)]
    last = [mean(one[way][-1]["mixture"] for one in results.values()) for way in AT_ONCE]
    for way in ("with replay", "without", *AT_ONCE):
        every = [[score["mixture"] for score in one[way]] for one in results.values()]
        means = [f"{mean(column):.3f}" for column in zip(*every, strict=True)]
        cells = [way, *[""] * (5 - len(means)), *means, " ".join(f"{one[-1]:.3f}" for one in every)]
        ratios = [f"{mean(one[-1] for one in every) / each:.2f}" for each in last]
        lines.append(f"| {' | '.join([*cells, *ratios])} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    logging.disable(logging.INFO)
    from bundle.files import write_json

    results: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for seed in options.seeds:
        results[str(seed)] = measure(options, seed)
        about = {key: getattr(options, key) for key in ("steps", "weight", "batch")}
        write_json(options.output / "results.json", {"options": about, "w1": results})
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
