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

import argparse
import logging
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts import audited_run

L1_WEIGHTS = (10.0, 100.0)
LOSSES = ("adversarial", *(f"L1_{weight:g}" for weight in L1_WEIGHTS), "perceptual")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    audited_run.add_arguments(parser)
    audited_run.add_run_arguments(parser, required=False)
    parser.add_argument("--site", required=True, help="the site that is attacked")
    parser.add_argument("--images", type=int, default=4, help="real images to read out (default 4)")
    parser.add_argument("--queries", type=int, default=8, help="of a bisection, for each batch (default 8)")
    parser.add_argument("--climb_queries", type=int, default=64, help="where there is no L1 term (default 64)")
    parser.add_argument("--match_queries", type=int, default=4, help="of gradient matching, 0 for none (default 4)")
    parser.add_argument("--match_steps", type=int, default=100, help="of its optimiser (default 100)")
    parser.add_argument(
        "--losses", nargs="+", choices=LOSSES, default=list(LOSSES), help="that the site has in turn (default: all)"
    )
    parser.add_argument("--vgg", help="torchvision's VGG-16 weights for the perceptual term (default: random ones)")


def run(options: argparse.Namespace) -> int:
    """
    Raises:
        ValueError: for a site that there is not, or numbers out of range; see also
            :func:`scripts.audited_run.audited`.
    """
    from bundle.audit.readout_attacks import Effort
    from bundle.audit.readout_audit import audit_loss
    from bundle.audit.targets import find_targets, starts
    from bundle.files import write_json

    for name, least in {"images": 1, "queries": 1, "climb_queries": 1, "match_queries": 0, "match_steps": 1}.items():
        if getattr(options, name) < least:
            raise ValueError(f"--{name}: expected at least {least}, got {getattr(options, name)}")
    target = audited_run.audited(options)
    if options.site not in target.sites:
        raise ValueError(f"--site {options.site}: expected one of {', '.join(target.sites)}")
    site = target.sites[options.site]
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
        "data": Path(options.dataset_dir).resolve().name,
        "task": options.task,
        "profile": options.profile,
        "set": options.set,
        "seed": options.seed,
        "site": options.site,
        "release_policy": site.policy.describe(),
        "conditions": "the true ones, sent by the server" if site.policy.conditions == "public" else "issued",
        "amp": make("amp"),
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
    write_json(options.output / "readout.json", content)
    _draw(content, targets, begun, pictures, bool(make("display_y_up")), options)
    print(options.output / "readout.json")
    return 0


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
    from bundle.site import SiteStore

    site.store = SiteStore(folder / site.name, interval=10**9)
    site.store.save(site.trained, site.run, site.state_dict(), {"site": site.name, "seed": site.seed})


def _losses(loss: Any, perceptual_weight: float, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from bundle.losses import PerceptualLoss, SiteLoss

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
    import torch

    from bundle.files import save_torch
    from bundle.networks import VGGFeatures
    from bundle.seeding import derive_seed, forked_rng

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


def _draw(content: dict, targets: Any, begun: Any, pictures: dict, y_up: bool, options: argparse.Namespace) -> None:
    from bundle.audit.scores import psnr
    from bundle.report.readouts import readout_curves, readout_panel

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
    readout_panel(drawn, options.output / "readout.png", y_up, title=title)
    curves = {
        name: {
            method: [(point["queries"], point["psnr"]) for point in about["curve"]]
            for method, about in result["methods"].items()
        }
        for name, result in content["losses"].items()
        if "refused" not in result
    }
    baselines = {name: one["psnr"] for name, one in content["baselines"].items()}
    readout_curves(curves, baselines, options.output / "readout_curves.png", title)
