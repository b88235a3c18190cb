"""The part `line` of the benchmark: a step over lines of some latency and bandwidth, with a stand-in for computing.

Trainer, federation, codec and messages are those of a training behind FLARE. Computing and the lines are stand-ins that
sleep: so it says what the order of work is worth, whatever else this machine does, and not how fast it computes.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

IN_TURNS, OVERLAPPING, STALE = "in turns", "overlapping", "overlapping, staleness 1"
WAYS = (IN_TURNS, OVERLAPPING, STALE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--latency", nargs="+", type=float, default=[20, 100], help="ms each way (default 20 100)")
    parser.add_argument(
        "--bandwidth", nargs="+", type=float, default=[10, 100], help="of the server, Mbit/s each way (default 10 100)"
    )
    parser.add_argument("--sites", type=int, default=4, help="how many (default 4)")
    parser.add_argument("--batch_size", type=int, default=2, help="of every site (default 2)")
    parser.add_argument("--image_size", type=int, default=128, help="pixels (default 128)")
    parser.add_argument("--forward", type=float, default=0.025, help="seconds of G for a site's images (default 0.025)")
    parser.add_argument("--backward", type=float, default=0.051, help="seconds of G back again (default 0.051)")
    parser.add_argument("--site", type=float, default=0.035, help="seconds that a site computes (default 0.035)")
    parser.add_argument("--steps", type=int, default=12, help="of which the first two warm up (default 12)")


@dataclass
class Line:
    """
    The server's end of all lines, of one direction: messages wait for each other, then for the latency.

    Args:
        latency: seconds.
        bandwidth: bytes a second.
    """

    latency: float
    bandwidth: float

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._free = 0.0

    def carry(self, size: int) -> None:
        with self._lock:
            self._free = max(self._free, time.monotonic()) + size / self.bandwidth
            there = self._free + self.latency
        time.sleep(max(0.0, there - time.monotonic()))


class StandIn:
    """What a server sees of a site: its messages have the right sizes, and come when they would."""

    def __init__(self, name: str, options: argparse.Namespace, lines: tuple[Line, Line]) -> None:
        import torch

        from bundle.wire import Codec

        self.name = name
        self.codec, self.seconds = Codec(), options.site
        self.to_site, self.from_site = lines
        shape = options.batch_size, 2, options.image_size, options.image_size
        self.conditions = torch.randint(0, 2, shape, dtype=torch.uint8)
        self.gradient = 1e-3 * torch.randn(options.batch_size, 1, options.image_size, options.image_size)

    def __call__(self, timeout: float) -> Any:
        return SimpleNamespace(receive=self._receive)

    def _receive(self, data: bytes) -> bytes:
        from bundle.wire.messages import OpenRequest, SiteInfo, SiteReply

        self.to_site.carry(len(data))
        message: Any = self.codec.decode(data)
        if isinstance(message, OpenRequest):
            size = len(self.conditions)
            answer: Any = SiteInfo(self.name, size, message.step, self.conditions, message.step - 1, size)
        else:
            time.sleep(self.seconds)
            answer = SiteReply(self.name, message.step, self.gradient, {"adversarial": 0.0}, self.conditions)
        data = self.codec.encode(answer)
        self.from_site.carry(len(data))
        return data


def trainer(way: str, options: argparse.Namespace, lines: tuple[Line, Line]) -> Any:
    """A training whose server and sites are at work in this way."""
    import torch

    from bundle.flare import federation
    from bundle.server import DistributedGanTrainer, Outcome

    class InTurns(federation.FlareFederation):
        """As before there was any overlap: all images are made, then sent; all replies are waited for."""

        def send(self, batches: Iterable) -> None:
            super().send(list(batches))

        def replies(self) -> Iterator[Outcome]:
            yield Outcome.of(super().replies())

    class Slow(DistributedGanTrainer):
        def _generate(self, *of: Any) -> torch.Tensor:
            time.sleep(options.forward)
            return super()._generate(*of)

        def _back(self, *of: Any) -> None:
            time.sleep(options.backward)
            super()._back(*of)

    sites = [StandIn(f"S{number:02d}", options, lines) for number in range(options.sites)]
    federation.collab = SimpleNamespace(clients=sites, is_aborted=False)
    fed = (InTurns if way == IN_TURNS else federation.FlareFederation)()
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 1, 1), torch.nn.Tanh())
    optimizer = torch.optim.Adam(network.parameters())
    return Slow("cpu", 1, options.steps, fed, network, optimizer, staleness=int(way == STALE))


def seconds_of_a_step(way: str, options: argparse.Namespace, latency: float, bandwidth: float) -> tuple[float, float]:
    """The median, and the bytes of a step."""
    from ignite.engine import Events

    lines = Line(latency / 1e3, bandwidth * 1e6 / 8), Line(latency / 1e3, bandwidth * 1e6 / 8)
    one, ends = trainer(way, options, lines), []
    one.add_event_handler(Events.ITERATION_COMPLETED, lambda: ends.append(time.monotonic()))
    one.run()
    one.federation.close()
    wire = one.federation.ledger.summary()
    steps = [end - before for before, end in pairwise(ends[1:])]
    return statistics.median(steps), (wire["bytes_to_sites"] + wire["bytes_from_sites"]) / options.steps


def line(options: argparse.Namespace) -> int:
    """A table in Markdown: seconds of a step by line, and what one after the other takes by the formula."""
    lines = [(latency, bandwidth) for latency in options.latency for bandwidth in options.bandwidth]
    print("| latency each way | Mbit/s | G + site + latency + bytes/bandwidth | " + " | ".join(WAYS) + " |")
    print("| ---: | ---: |" + " ---: |" * (1 + len(WAYS)))
    for latency, bandwidth in lines:
        found = [seconds_of_a_step(way, options, latency, bandwidth) for way in WAYS]
        generator = options.sites * (options.forward + options.backward)
        formula = generator + options.site + 2 * latency / 1e3 + found[0][1] * 8e-6 / bandwidth
        cells = [f"{latency:g} ms", f"{bandwidth:g}", f"{formula:.3f}", *(f"{step:.3f}" for step, _ in found)]
        print("| " + " | ".join(cells) + " |", flush=True)
    return 0
