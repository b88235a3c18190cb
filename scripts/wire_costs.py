"""Bytes of a training, from the sizes of its messages, against federated averaging of the same G and D.

Prints a table for each training in Markdown; docs/explanation/communication.md holds some rows of the first example.
Images and gradients are noise, and conditions are smooth random masks unless --dataset_dir names real ones.

From a checkout; no command of the product.

Examples:
    python -m scripts.wire_costs
    python -m scripts.wire_costs --task brats --dataset_dir data/lgg
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from bundle.composition import task_files
from bundle.installation import config_dir

if TYPE_CHECKING:
    import torch
    from monai.bundle import ConfigParser

    from bundle.wire import Codec

SITES_ON_A_LINE = (4, 10, 50)


@dataclass(frozen=True)
class Training:
    """
    Args:
        title: what it is.
        task: of ``configs/``, which says the channels and the networks.
        profile: of ``configs/``, which says the sizes.
        sites: how many.
        epoch_steps: steps in which the data is gone through once; federated averaging has a round each.
        epochs: how many.
    """

    title: str
    task: str
    profile: str
    sites: int
    epoch_steps: int
    epochs: int


# 11,349 slices at ten sites, one a step at each; four tiles at each of four sites
TRAININGS = (
    Training("Brains as published", "brats", "paper", sites=10, epoch_steps=-(-11349 // 10), epochs=200),
    Training("Nuclei as published", "multi_organ", "paper", sites=4, epoch_steps=4, epochs=200),
    Training("Brains, profile small", "brats", "small", sites=4, epoch_steps=50, epochs=30),
)


class Step(NamedTuple):
    """Bytes of one step of one site."""

    to_site: int
    from_site: int

    @property
    def both(self) -> int:
        return self.to_site + self.from_site


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--task", choices=sorted({t.task for t in TRAININGS}), help="trainings of this task (default all)"
    )
    parser.add_argument("--dataset_dir", help="folder of the task's datalist.json, for its conditions")
    parser.add_argument("--megabits", type=float, default=100, help="of the server's line per second (default 100)")
    options = parser.parse_args(arguments)
    if options.dataset_dir and not options.task:
        parser.error("--dataset_dir needs --task, which says how its cases are prepared")
    return options


def codecs() -> dict[str, Codec]:
    """All codecs by name, such as ``int8+zstd``."""
    from bundle.wire import Codec
    from bundle.wire.quantization import PRECISIONS

    return {p + extra: Codec(p, p, extra[1:] or None) for p in PRECISIONS for extra in ("", "+zstd")}


def configs(training: Training) -> ConfigParser:
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    # the first imports what expressions name
    parser.read_config([str(config_dir() / "run.yaml"), *task_files(training.task, [training.profile])])
    return parser


def noise_batch(config: ConfigParser) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Images B×C×H×W float32, uniform in [-1, 1], which no compression shortens in int8, and conditions B×X×H×W uint8,
    every channel inside of the next.
    """
    import torch

    batch, channels, conditions, size = (
        config.get_parsed_content(key) for key in ("batch_size", "image_channels", "condition_channels", "image_size")
    )
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(batch, channels, size, size, generator=generator) * 2 - 1
    coarse = torch.randn(batch, 1, size // 16, size // 16, generator=generator)
    field = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic")
    levels = torch.linspace(1, 0, conditions).reshape(1, conditions, 1, 1)
    return images, (field > levels).to(torch.uint8)


def with_real_conditions(config: ConfigParser, folder: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """
    As :func:`noise_batch`, with conditions of the first case of every site. Images remain noise: real ones often have
    256 values, and compress as no generator's would.
    """
    import torch

    from bundle.data import SampleDataset, items_by_site, load_datalist
    from bundle.seeding import Draw

    images, _ = noise_batch(config)
    for site, items in items_by_site(load_datalist(folder, config["modalities"]), "asyndgan").items():
        samples = SampleDataset(
            items[:1],
            config.get_parsed_content("case_preprocessing"),
            config.get_parsed_content("select_samples"),
            keys=("image", "condition"),
            augmentation=config.get_parsed_content("augmentation"),
            name=f"site {site}",
        )
        middle = len(samples) // 2
        drawn = [samples[Draw((middle + place) % len(samples), place)] for place in range(len(images))]
        yield images, torch.stack([torch.as_tensor(sample["condition"]) for sample in drawn])


def step_size(codec: Codec, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> Step:
    """The mean of the batches, each with a gradient of normal noise."""
    import torch

    from bundle.wire.messages import SiteReply, SyntheticBatch

    sizes = []
    for images, conditions in batches:
        gradient = torch.randn(images.shape, generator=torch.Generator().manual_seed(1)) * 1e-5
        losses = {"discriminator": 1.3862943611198906, "adversarial": 0.6931471805599453, "l1": 12.345678901234567}
        sent = codec.encode(SyntheticBatch("site", 123456, images))
        sizes.append((len(sent), len(codec.encode(SiteReply("site", 123456, gradient, losses, conditions)))))
    return Step(*(round(sum(size) / len(sizes)) for size in zip(*sizes, strict=True)))


def model_size(config: ConfigParser) -> int:
    """Bytes of the weights of G and of one D, as safetensors files."""
    from safetensors.torch import save

    networks = (config.get_parsed_content(key)() for key in ("generator_def", "discriminator_def"))
    return sum(len(save(network.state_dict())) for network in networks)


def break_even(model: int, step: int) -> float:
    """
    Steps per epoch at which a round of federated averaging per epoch, which carries the model both ways, is as many
    bytes as the steps: s = 2 · model / step. With fewer steps, sending images is cheaper; sites do not count.
    """
    return 2 * model / step


def seconds(size: int, sites: int, megabits: float) -> float:
    """Until ``size`` bytes for each of some sites have passed a line that they share, one after the other."""
    return 8 * size * sites / (megabits * 1e6)


def human(size: float) -> str:
    """Three significant digits in the unit that fits: 65.8 kB; 1 kB is 1000 bytes."""
    units = ["B", "kB", "MB", "GB", "TB", "PB"]
    while size >= 999.5 and len(units) > 1:
        size, units = size / 1000, units[1:]
    digits = 0 if units[0] == "B" or size >= 99.95 else 1 if size >= 9.995 else 2
    return f"{size:.{digits}f} {units[0]}"


def table(training: Training, model: int, steps: dict[str, Step], megabits: float) -> str:
    """
    Args:
        training: whose messages they are.
        model: bytes of G and D.
        steps: sizes by name of the codec, "float32" among them.
        megabits: of the line.

    Returns:
        A table in Markdown.
    """
    lines = [
        "| | to a site | from a site | of float32 | whole run, all sites | break-even, steps per epoch | "
        + " | ".join(f"s, {sites} sites" for sites in SITES_ON_A_LINE)
        + " |",
        "| --- |" + " ---: |" * (5 + len(SITES_ON_A_LINE)),
    ]

    def line(name: str, size: Step, times: int, relative: str, even: str) -> str:
        spent = [f"{seconds(size.both, sites, megabits):.2f}" for sites in SITES_ON_A_LINE]
        cells = [name, human(size.to_site), human(size.from_site), relative]
        return f"| {' | '.join([*cells, human(size.both * training.sites * times), even, *spent])} |"

    for name, size in steps.items():
        relative, even = size.both / steps["float32"].both, break_even(model, size.both)
        count = training.epoch_steps * training.epochs
        lines.append(line(name, size, count, f"{relative:.3f}", f"{even:.0f}"))
    lines.append(line("a round of averaging", Step(model, model), training.epochs, "", ""))
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status: 0, or 2 for data that cannot be used."""
    options = parse_arguments(arguments)
    from bundle.data import DataError

    for training in TRAININGS:
        if options.task not in (None, training.task):
            continue
        config = configs(training)
        try:
            folder = options.dataset_dir
            batches = list(with_real_conditions(config, folder)) if folder else [noise_batch(config)]
        except DataError as error:
            print(error, file=sys.stderr)
            return 2
        images = batches[0][0]
        steps = {name: step_size(codec, batches) for name, codec in codecs().items()}
        print(
            f"{training.title}: {training.sites} sites, a batch of {' × '.join(map(str, images.shape))} each, "
            f"{training.epochs} epochs of {training.epoch_steps} steps\n"
        )
        print(table(training, model_size(config), steps, options.megabits) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
