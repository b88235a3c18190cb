"""Real images, read out of the image gradients that a site returns.

The server asks a site again and again for the same step, with images of its choice. With an L1 term it reads the real
images out by bisection; with others it follows the gradients, or looks for images with which a simulated site answers
as the site did. The site keeps to its release policy, that of the configs: a loss that it forbids is not attacked but
told, and an attack ends where the site refuses. For undefended sites: --set release_policy=published. To a site that
issues no conditions the true ones are sent, as by a server that has its victims' masks from elsewhere.

Writes readout.json (curves of PSNR and SSIM over the number of queries, baselines that need no attack, gains),
readout.png (the images) and readout_curves.png.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bundle.audit.audited_run import Audited
from bundle.audit.readout_attacks import Effort
from bundle.audit.readout_audit import audit_loss
from bundle.audit.scores import psnr
from bundle.audit.targets import find_targets, starts
from bundle.engines.precision import takes_bfloat16
from bundle.files import save_torch, write_json
from bundle.losses import PerceptualLoss, SiteLoss
from bundle.networks import VGGFeatures
from bundle.report.readouts import readout_curves, readout_panel
from bundle.seeding import derive_seed, forked_rng
from bundle.site import SiteStore

__all__ = ["LOSSES", "ReadoutOptions", "run_readout"]

L1_WEIGHTS = (10.0, 100.0)
LOSSES = ("adversarial", *(f"L1_{weight:g}" for weight in L1_WEIGHTS), "perceptual")


@dataclass(frozen=True)
class ReadoutOptions:
    """
    What is read out, and with how much effort.

    Args:
        site: the site that is attacked.
        images: real images to read out.
        queries: of a bisection, for each batch.
        climb_queries: where there is no L1 term.
        match_queries: of gradient matching, 0 for none.
        match_steps: of its optimiser.
        losses: that the site has in turn, of :data:`LOSSES`.
        vgg: file of torchvision's VGG-16 weights for the perceptual term; None for random ones.
        seed: of what the attacks draw.

    Raises:
        ValueError: for a number out of range.
    """

    site: str
    images: int = 4
    queries: int = 8
    climb_queries: int = 64
    match_queries: int = 4
    match_steps: int = 100
    losses: Sequence[str] = LOSSES
    vgg: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"images": 1, "queries": 1, "climb_queries": 1, "match_queries": 0, "match_steps": 1}
        for name, number in least.items():
            if getattr(self, name) < number:
                raise ValueError(f"--{name}: expected at least {number}, got {getattr(self, name)}")


def run_readout(target: Audited, options: ReadoutOptions, output: Path, about: Mapping[str, Any]) -> Path:
    """
    Attack one site with every loss, and write what was found.

    Args:
        target: the training; its site keeps the last loss.
        options: what is read out.
        output: folder for ``readout.json``, ``readout.png`` and ``readout_curves.png``.
        about: what else the results say of the training.

    Returns:
        The path of ``readout.json``.

    Raises:
        ValueError: for a site that there is not, and for one whose release policy has folds, or draws patients.
    """
    if options.site not in target.sites:
        raise ValueError(f"--site {options.site}: expected one of {', '.join(target.sites)}")
    site = target.sites[options.site]
    if site.policy.noises_updates:
        raise ValueError(
            f"--site {options.site}: under dp_sgd no step has images of its own, for the site's secret draws patients. "
            "What bounds what can be read out is epsilon: see asyndgan audit plan, and make canaries"
        )
    if site.policy.folds is not None:
        raise ValueError(
            f"--site {options.site}: its release policy has folds: what answers for an image has not seen it, and this "
            "attack reads from an answer what the image was that it was made with"
        )
    with tempfile.TemporaryDirectory(prefix="readout-") as folder, _quiet_sites():
        if target.trained:
            _keep_state(site, Path(folder))
            # at a training's end the rate is 0, and nothing of a real image would get into its discriminator
            site.critic.schedule = lambda done: 1.0
        make = target.workflow.make
        targets = find_targets(site, options.images, target.trained + 2)
        begun = starts(targets, target.slices(), target.generate(), options.images)
        granted = (options.queries, options.climb_queries, options.match_queries, options.match_steps)
        effort = Effort(*granted, rehearse=not target.trained)
        results, pictures = {}, {}
        for name, loss in _losses(site.critic.loss, make("perceptual_weight"), options, Path(folder)).items():
            attacked = audit_loss(site, loss, targets, begun, options.images, effort, make("num_steps"))
            results[name], pictures[name] = attacked
            print(_line(name, results[name]), file=sys.stderr, flush=True)
            for candidate, values in results[name].get("recognition", {}).items():
                print(f"  mismatch of {candidate}: {values}", file=sys.stderr)
    rate, schedule = site.critic.optimizer.defaults["lr"], site.critic.schedule
    content = {
        "attack": "readout",
        **about,
        "seed": options.seed,
        "site": options.site,
        "release_policy": site.policy.describe(),
        "conditions": "the true ones, sent by the server" if site.policy.conditions == "public" else "issued",
        "amp": takes_bfloat16(make("amp"), torch.device(make("device")).type),
        "networks": f"trained to step {target.trained}" if target.trained else "untrained",
        "steps": targets.steps,
        "learning_rates": [rate * (schedule(step - 1) if schedule else 1) for step in targets.steps],
        "batch_size": site.batch_size,
        "images": options.images,
        "cases": [one.case for one in targets.slices[: options.images]],
        "shape": list(targets.images.shape[1:]),
        "perceptual_network": "VGG-16, weights from a file" if options.vgg else "VGG-16, random weights from the seed",
        "baselines": begun.report,
        "reference": begun.reference,
        "losses": results,
    }
    write_json(output / "readout.json", content)
    _draw(content, targets, begun, pictures, bool(make("display_y_up")), options, output)
    return output / "readout.json"


@contextmanager
def _quiet_sites() -> Iterator[None]:
    """A site says at every query that it goes back, and that it missed a step; what it refuses is in the results."""
    loggers = [logging.getLogger(name) for name in ("bundle.site.site", "bundle.site.release.gate")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _keep_state(site: Any, folder: Path) -> None:
    """Give a site a checkpoint of its own of the state that it is in, to which a server can send it back."""
    site.store = SiteStore(folder / site.name, interval=10**9)
    site.store.save(site.trained, site.run, site.state_dict(), {"site": site.name, "seed": site.seed})


def _losses(loss: Any, perceptual_weight: float, options: ReadoutOptions, folder: Path) -> dict[str, Any]:
    common = {
        "adversarial": loss.adversarial,
        "generator_scale": loss.generator_scale,
        "discriminator_scale": loss.discriminator_scale,
    }
    found: dict[str, Any] = {}
    for name in options.losses:
        terms: dict[str, Any] = {"l1_weight": float(name.removeprefix("L1_")) if name.startswith("L1_") else 0.0}
        if name == "perceptual":
            features = PerceptualLoss(options.vgg or _random_weights(options.seed, folder / "vgg.pt"))
            terms |= {"perceptual": features, "perceptual_weight": float(perceptual_weight or 1.0)}
        found[name] = SiteLoss(**terms, **common)
    return found


def _random_weights(seed: int, path: Path) -> Path:
    """A stand-in for weights that are not shipped: random ones (He et al. 2015) that keep the features' scale."""
    with forked_rng(derive_seed(seed, "audit", "vgg")):
        network = VGGFeatures()
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                torch.nn.init.zeros_(module.bias)
    save_torch(path, network.state_dict())
    return path


def _line(name: str, result: dict) -> str:
    if "refused" in result:
        return f"{name}: not attacked, the site refuses: {result['refused']}"
    gain = result["gain"]
    return (
        f"{name}: {result['own']['psnr']:.1f} dB by the attacker's own choice, {gain['own']:+.1f} dB over the better "
        f"baseline; {gain['oracle']:+.1f} dB with the truth to choose by"
    )


def _draw(
    content: dict, targets: Any, begun: Any, pictures: dict, y_up: bool, options: ReadoutOptions, output: Path
) -> None:
    real = targets.images[: options.images]
    columns = {"real": real, "G(x)": begun.synthetic, "another patient,\nlike condition": begun.matched}
    for name, images in ((name, pictures[name]) for name in options.losses):
        heading = name.replace("_", " ")
        if name == f"L1_{L1_WEIGHTS[-1]:g}":
            for asked in (2**power for power in range(options.queries.bit_length())):
                columns[f"{heading},\n{asked} quer{'y' if asked == 1 else 'ies'}"] = images.get(f"after {asked}")
        elif not name.startswith("L1_"):
            only = " only" if name == "adversarial" else ""
            columns[f"{heading}{only},\nbest guess\n(by the truth)"] = images.get("oracle")
    drawn = {
        heading: {"images": images[: len(real)], "psnr": None if heading == "real" else psnr(images[: len(real)], real)}
        for heading, images in columns.items()
        if images is not None
    }
    title = f"site {content['site']}, release policy {content['release_policy']}, networks {content['networks']}"
    readout_panel(drawn, output / "readout.png", y_up, title=title)
    curves = {
        name: {
            method: [(point["queries"], point["psnr"]) for point in about["curve"]]
            for method, about in result["methods"].items()
        }
        for name, result in content["losses"].items()
        if "refused" not in result
    }
    baselines = {name: one["psnr"] for name, one in content["baselines"].items()}
    readout_curves(curves, baselines, output / "readout_curves.png", title)
