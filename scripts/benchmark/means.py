"""The part `means` of the benchmark: what could make G, its update and samples faster, each by itself.

In seconds of this process's CPU time, on one thread: other programs on the same cores change little of that.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

GENERATORS = ("a site after the other", "textbook", "one forward for all", "bfloat16")
OPTIMISERS = ("Adam", "Adam foreach", "Adam fused")
TRANSFORMS = ("MONAI's random transforms of a sample", "without metadata")
SAMPLES = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image_size", type=int, default=96, help="pixels (default 96)")
    parser.add_argument("--channels", type=int, default=64, help="of G (default 64)")
    parser.add_argument("--blocks", type=int, default=9, help="of G (default 9)")
    parser.add_argument("--sites", type=int, default=2, help="of an image each (default 2)")
    parser.add_argument("--repeats", type=int, default=3, help="of each, in turn (default 3)")


def ways(options: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """What is timed, by name: the gradients of G's weights, summed over all sites, an update, or some samples."""
    import torch

    from bundle.engines import AutocastInferer
    from bundle.networks import ResnetGenerator
    from scripts.benchmark.textbook_step import resnet_generator

    size, sites = options.image_size, options.sites
    torch.manual_seed(0)
    conditions = torch.rand(sites, 2, size, size)

    def make() -> torch.nn.Module:
        torch.manual_seed(0)
        return ResnetGenerator(2, 1, options.channels, options.blocks)

    def passes(network: torch.nn.Module, at_once: int = 1, amp: bool = False) -> Callable[[], list[torch.Tensor]]:
        inferer = AutocastInferer(amp=amp)
        weights = list(network.parameters())

        def run() -> list[torch.Tensor]:
            total = [torch.zeros_like(weight) for weight in weights]
            for batch in conditions.split(at_once):
                images = inferer(batch, network)
                found = torch.autograd.grad(images, weights, torch.ones_like(images))
                torch._foreach_add_(total, found)
            return total

        return run

    def update(**how: bool) -> Callable[[], object]:
        network = make()
        for parameter in network.parameters():
            parameter.grad = torch.randn_like(parameter)
        return torch.optim.Adam(network.parameters(), 2e-4, (0.5, 0.999), **how).step

    passing = (
        passes(make()),
        passes(resnet_generator(2, 1, options.channels, options.blocks)),
        passes(make(), at_once=sites),
        passes(make(), amp=True),
    )
    updating = update(), update(foreach=True), update(fused=True)
    return dict(zip((*GENERATORS, *OPTIMISERS, *TRANSFORMS), (*passing, *updating, *_varying()), strict=True))


def _varying() -> tuple[Callable[[], object], Callable[[], object]]:
    """What the task brats does at random to samples of its profile `compact`, with MONAI's metadata and without."""
    import torch
    from monai.bundle import ConfigParser

    from bundle.composition import stage_files
    from bundle.transforms import varied

    configs = ConfigParser()
    configs.read_config(stage_files("train", "brats", "compact"))
    transform, size = configs.get_parsed_content("augmentation"), configs.get_parsed_content("image_size")
    sample = {"image": torch.zeros(1, size, size), "condition": torch.zeros(2, size, size, dtype=torch.uint8)}
    return (
        lambda: [transform.set_random_state(seed=seed)(dict(sample)) for seed in range(SAMPLES)],
        lambda: [varied(transform, sample, seed) for seed in range(SAMPLES)],
    )


def means(options: argparse.Namespace) -> int:
    """A table in Markdown: medians, and what they are of the first of their kind."""
    import torch

    torch.set_num_threads(1)
    timed = ways(options)
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(options.repeats):
        for name, run in timed.items():
            begun = time.process_time()
            run()
            seconds[name].append(time.process_time() - begun)
    print("| | s of CPU | of the first |\n| --- | ---: | ---: |")
    for name, each in seconds.items():
        kind = next(kind for kind in (GENERATORS, OPTIMISERS, TRANSFORMS) if name in kind)
        first, middle = seconds[kind[0]], statistics.median(each)
        print(f"| {name} | {middle:.3f} | {middle / statistics.median(first):.2f} |", flush=True)
    return 0
