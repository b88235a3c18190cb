"""The part `means` of the benchmark: what could make G and its update faster, each by itself.

In seconds of this process's CPU time, on one thread: other programs on the same cores change little of that.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

GENERATORS = ("a site after the other", "textbook", "one forward for all", "channels last", "bfloat16")
OPTIMISERS = ("Adam", "Adam foreach", "Adam fused")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image_size", type=int, default=96, help="pixels (default 96)")
    parser.add_argument("--channels", type=int, default=64, help="of G (default 64)")
    parser.add_argument("--blocks", type=int, default=9, help="of G (default 9)")
    parser.add_argument("--sites", type=int, default=2, help="of an image each (default 2)")
    parser.add_argument("--repeats", type=int, default=3, help="of each, in turn (default 3)")


def ways(options: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """What is timed, by name: images and gradients of G's weights for all sites, or an update."""
    import torch

    from bundle.engines import AutocastInferer
    from bundle.networks import ResnetGenerator
    from scripts.benchmark.textbook_step import resnet_generator

    size, sites = options.image_size, options.sites
    conditions = torch.rand(sites, 2, size, size)

    def make() -> torch.nn.Module:
        return ResnetGenerator(2, 1, options.channels, options.blocks)

    def passes(
        network: torch.nn.Module, at_once: int = 1, layout: torch.memory_format = torch.contiguous_format, **how: bool
    ) -> Callable[[], object]:
        network = network.to(memory_format=layout)
        inferer = AutocastInferer(amp=how.get("amp", False))

        def run() -> None:
            for batch in conditions.split(at_once):
                images = inferer(batch.contiguous(memory_format=layout), network)
                torch.autograd.grad(images, list(network.parameters()), torch.ones_like(images))

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
        passes(make(), layout=torch.channels_last),
        passes(make(), amp=True),
    )
    updating = update(), update(foreach=True), update(fused=True)
    return dict(zip((*GENERATORS, *OPTIMISERS), (*passing, *updating), strict=True))


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
        first = seconds[GENERATORS[0] if name in GENERATORS else OPTIMISERS[0]]
        middle = statistics.median(each)
        print(f"| {name} | {middle:.3f} | {middle / statistics.median(first):.2f} |", flush=True)
    return 0
