"""From how many patients a site on is `private` useful: patients per site against Dice, a curve for every epsilon.

Two sites of phantom brains, 32 by 32 pixels, whose images are clipped and noised by either mechanism, or by DP-SGD of
the critic and of a teacher beside it, or by that teacher alone; a segmenter that has seen the generator's images, or
the teachers', alone is scored on phantoms that nobody trained on. Beside it: one that has seen the real images of one
site, of both, and one of label maps painted at random, which needs no site.

Every finished training is a line of OUTPUT/runs.jsonl; the same command goes on after the last one. It prints the table
of those that there are, and writes OUTPUT/private_curve.png.

From a checkout; no command of the product.

Examples:
    python -m scripts.private_curve --output docs/lab/private_curve --cache runs/private_curve
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

SITES = ("A", "B")
PATIENTS = (8, 100, 1000, 5000)
EPSILONS = (1.0, 2.0, 4.0, 10.0, math.inf)
TAUGHT = "dp_sgd+teacher"
ALONE = "teacher_alone"  # images of the same teachers, without a generator
MECHANISMS = ("dp_sgd", TAUGHT, ALONE, "gradient_noise")
TEST, TUNING, BANK = 40, 20, 150
SIZE = 32
STEPS = 150
BATCH = 8
CLIP = {"dp_sgd": 1.0, TAUGHT: 1.0, ALONE: 1.0, "gradient_noise": 0.01}
DRAWN = {8: 8, 100: 32, 1000: 64, 5000: 256}  # patients for an update
TEACHER_PATIENTS, TEACHER_EPSILONS = (1000, 100), (4.0, 10.0, 1.0, 2.0)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of results")
    parser.add_argument("--cache", type=Path, required=True, help="folder of phantoms, drawn where they are missing")
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each kind (default 2)")
    parser.add_argument("--minutes", type=float, default=60.0, help="after which none is begun (default 60)")
    parser.add_argument("--split", choices=("test", "tuning"), default="test", help="phantoms to score on")
    parser.add_argument("--updates", type=int, default=1, help="of D, a step, under dp_sgd (default 1)")
    parser.add_argument("--rate", type=float, default=2e-3, help="learning rate of G and D (default 0.002)")
    parser.add_argument("--teacher_steps", type=int, default=30, help="updates of R (default 30)")
    parser.add_argument("--teacher_rate", type=float, default=0.05, help="learning rate of R (default 0.05)")
    parser.add_argument("--paired_weight", type=float, default=10.0, help="of |G(x) - R(x)| (default 10)")
    parser.add_argument("--only", nargs="*", default=[], metavar="KIND", help="such as dp_sgd/1000/4 (default: all)")
    return parser.parse_args(arguments)


class Slices:
    """Samples in memory: one slice or two of every patient, flipped where a draw says so."""

    def __init__(self, conditions: torch.Tensor, images: torch.Tensor, patients: np.ndarray) -> None:
        self.conditions, self.images, self.patients = conditions, images, patients

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Any) -> dict:
        index, seed = key if isinstance(key, tuple) else (key, 0)
        sample = {"condition": self.conditions[index], "image": self.images[index]}
        return {name: part.flip(-2) for name, part in sample.items()} if seed % 2 else sample

    def batch(self, seed: int, name: str, first: int, count: int) -> dict[str, torch.Tensor]:
        from bundle.seeding import draw

        chosen = [self[draw(seed, name, first + place, len(self))] for place in range(count)]
        return {key: torch.stack([sample[key] for sample in chosen]) for key in ("condition", "image")}

    def origin(self, index: int) -> tuple[str, int]:
        return f"patient {self.patients[index]:05d}", index

    def first(self, patients: int) -> Slices:
        kept = self.patients < patients
        return Slices(self.conditions[kept], self.images[kept], self.patients[kept])


def slices_of(site: str, first: int, count: int) -> Slices:
    """Two slices of a phantom: those with the most tumour."""
    from bundle.phantoms.brains import brain_phantom

    found: list[tuple[np.ndarray, np.ndarray, int]] = []
    for number in range(count):
        volumes = brain_phantom((first + number, ord(site)), "A" if site == "N" else site, (SIZE, SIZE, 8))
        flair, tumour, brain = volumes["flair"].astype(np.float32), volumes["seg"] > 0, volumes["flair"] > 0
        low, high = np.percentile(flair[brain], (1, 99))
        scaled = np.where(brain, np.clip(2 * (flair - low) / (high - low) - 1, -1, 1), -1)
        for place in np.argsort(-tumour.sum(axis=(0, 1)), kind="stable")[:2]:
            condition = np.stack([tumour[..., place], brain[..., place] & ~tumour[..., place]])
            found.append((condition, scaled[None, ..., place], number))
    conditions, images, numbers = zip(*found, strict=True)
    kept = torch.from_numpy(np.stack(conditions).astype(np.uint8)), torch.from_numpy(np.stack(images)).float()
    return Slices(*kept, np.array(numbers))


def all_slices(cache: Path, patients: int = max(PATIENTS)) -> dict[str, Slices]:
    """Of every site, so many patients to train on, and those to score on; and label maps of phantoms at no site."""
    wanted = {f"train {site}": (site, 0, patients) for site in SITES}
    wanted |= {f"test {site}": (site, 10**6, TEST) for site in SITES}
    wanted |= {f"tuning {site}": (site, 2 * 10**6, TUNING) for site in SITES} | {"bank": ("N", 3 * 10**6, BANK)}
    found = {}
    cache.mkdir(parents=True, exist_ok=True)
    for name, asked in wanted.items():
        path = cache / f"{name.replace(' ', '_')}_{asked[-1]}.npz"
        if not path.is_file():
            drawn = slices_of(*asked)
            np.savez(path, c=drawn.conditions.numpy(), i=drawn.images.numpy(), p=drawn.patients)
        with np.load(path, allow_pickle=False) as held:
            found[name] = Slices(torch.from_numpy(held["c"]), torch.from_numpy(held["i"]), held["p"])
    return found


def policy_of(mechanism: str, epsilon: float, patients: int) -> Any:
    from bundle.site.release import ReleasePolicy

    taught = mechanism in (TAUGHT, ALONE)
    asked = {"mechanism": "dp_sgd" if taught else mechanism, "teacher": taught, "epsilon": epsilon}
    asked |= {"clip_norm": CLIP[mechanism], "max_noise": None}
    return ReleasePolicy.make({"policy": "private", "patients_per_update": DRAWN[patients], **asked})


def discriminator() -> torch.nn.Module:
    from monai.networks.nets import PatchDiscriminator

    return PatchDiscriminator(
        spatial_dims=2, channels=8, in_channels=3, num_layers_d=1, norm="INSTANCE", bias=False, out_channels=1
    )


def teacher() -> torch.nn.Module:
    from bundle.networks import ConvRegressor

    return ConvRegressor(2, 1)


def sites_of(
    found: dict[str, Slices], kind: tuple[str, int, float], seed: int, options: argparse.Namespace
) -> list[Any]:
    from bundle.engines import LinearDecay
    from bundle.losses import AdversarialLoss, SiteLoss
    from bundle.site import Critic, PrivateTeacher, make_sites
    from bundle.site.release import make_gates

    mechanism, patients, epsilon = kind
    samples = {site: found[f"train {site}"].first(patients) for site in SITES}
    gates = make_gates(samples, policy=policy_of(mechanism, epsilon, patients), num_steps=STEPS)
    loss = SiteLoss(AdversarialLoss("hinge"), l1_weight=0.0)
    critic = partial(Critic, discriminator, adam(options.rate), loss)
    updates = None if mechanism == "gradient_noise" else options.updates
    taught = partial(
        PrivateTeacher,
        network=teacher,
        optimizer=partial(torch.optim.Adam, lr=options.teacher_rate),
        num_steps=options.teacher_steps,
        schedule=LinearDecay(options.teacher_steps, 0.5),
    )
    about = {"gates": gates, "seed": seed, "updates": updates, "private_teacher": taught}
    return make_sites(samples, critic=critic, batch_size=BATCH, **about)


def adam(rate: float) -> Any:
    return partial(torch.optim.Adam, lr=rate, betas=(0.0, 0.9))


def train(
    found: dict[str, Slices], kind: tuple[str, int, float], seed: int, options: argparse.Namespace
) -> tuple[list[torch.nn.Module], float]:
    """G, or the teachers of both sites, and the multiplier of the noise that was trained with."""
    from bundle.server import LocalFederation, TeacherNetworks
    from bundle.wire.messages import ConditionRequest

    sites = sites_of(found, kind, seed, options)
    federation = LocalFederation(sites)
    with TemporaryDirectory() as folder:
        teachers = TeacherNetworks(folder, teacher)
        if kind[0] == ALONE:
            made = [alone(federation.conditions(ConditionRequest(site, 0, 1)).weights) for site in SITES]
        else:
            made = [train_generator(found, federation, teachers, seed, options)]
    return made, sites[0].gate.spending.noise


def alone(packed: torch.Tensor) -> torch.nn.Module:
    """R of weights as they left a site."""
    from bundle.wire.weights import unpack_weights

    network = teacher()
    network.load_state_dict(unpack_weights(packed, network.state_dict()))
    return network.eval()


def size(network: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def train_generator(
    found: dict[str, Slices], federation: Any, teachers: Any, seed: int, options: argparse.Namespace
) -> torch.nn.Module:
    from bundle.networks import ResnetGenerator
    from bundle.seeding import seeded
    from bundle.server import (
        ConditionCollector,
        DistributedGanTrainer,
        PairedTerm,
        PublicConditions,
        write_conditions,
    )

    bank = options.cache / "bank_of_label_maps.npz"
    write_conditions(bank, {"bank": list(found["bank"].conditions.numpy())})
    network = seeded(
        partial(ResnetGenerator, in_channels=2, out_channels=1, channels=8, num_blocks=2, upsampling="resize"),
        seed,
        "generator",
    )
    none = teachers.folder / "conditions.npz", teachers.folder / "images.npz"
    trainer = DistributedGanTrainer(
        "cpu",
        1,
        STEPS,
        federation,
        network,
        adam(options.rate)(network.parameters()),
        seed=seed,
        public_conditions=PublicConditions(bank),
        paired=PairedTerm(*none, options.paired_weight, seed=seed, teachers=teachers),
    )
    if federation.site(SITES[0]).teacher is not None:
        ConditionCollector(federation, str(none[0]), teachers=teachers).attach(trainer)
    trainer.run()
    return network.eval()


def dice(images: torch.Tensor, labels: torch.Tensor, found: dict[str, Slices], seed: int, split: str) -> float:
    """Mean over held-out phantoms of the Dice of a segmenter that has seen these images."""
    from monai.losses import DiceCELoss
    from monai.metrics import DiceHelper
    from monai.networks.nets import UNet

    torch.manual_seed(seed)
    network = UNet(2, 1, 2, (8, 16, 32), (2, 2), num_res_units=1, norm="INSTANCE")
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    criterion = DiceCELoss(to_onehot_y=True, softmax=True)
    for _ in range(200):
        rows = torch.randint(len(images), (16,))
        loss = criterion(network(images[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    scores = []
    for site in SITES:
        held = found[f"{split} {site}"]
        with torch.no_grad():
            predicted = network(held.images).argmax(dim=1, keepdim=True)
        for patient in np.unique(held.patients):
            own = torch.from_numpy(held.patients == patient)
            pair = predicted[own].flatten()[None, None], held.conditions[own, :1].flatten()[None, None]
            scores.append(float(DiceHelper(include_background=True, get_not_nans=False, threshold=True)(*pair)))
    return float(np.mean(scores))


def of_generators(networks: list[Any], found: dict[str, Slices], seed: int, split: str) -> float:
    conditions = found["bank"].conditions
    torch.manual_seed(seed)
    with torch.no_grad():
        images = torch.cat([network(conditions.float()) for network in networks])
    return dice(images, conditions[:, :1].long().repeat(len(networks), 1, 1, 1), found, seed, split)


def baselines(found: dict[str, Slices], patients: int, seed: int, split: str) -> dict[str, float]:
    """Of real images, by what they are of."""
    own = {site: found[f"train {site}"].first(patients) for site in SITES}
    scores = {site: dice(one.images, one.conditions[:, :1].long(), found, seed, split) for site, one in own.items()}
    images = torch.cat([one.images for one in own.values()])
    labels = torch.cat([one.conditions[:, :1] for one in own.values()]).long()
    return {"best single site": max(scores.values()), "both sites": dice(images, labels, found, seed, split)}


def kinds() -> Iterator[tuple[str, int, float]]:
    """What is trained, the most telling first."""
    for patients in TEACHER_PATIENTS:
        for epsilon in TEACHER_EPSILONS:
            yield TAUGHT, patients, epsilon
            yield ALONE, patients, epsilon
    for mechanism in ("dp_sgd", "gradient_noise"):
        # noise on image gradients does not fall with patients: the largest site would tell nothing more of it
        for patients in reversed(PATIENTS if mechanism == "dp_sgd" else PATIENTS[:-1]):
            for epsilon in (4.0, math.inf, 10.0, 1.0, 2.0):
                yield mechanism, patients, epsilon


def name_of(kind: tuple[str, int, float]) -> str:
    return f"{kind[0]}/{kind[1]}/{kind[2]:g}"


def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All lines that there are, after those that could be added."""
    from bundle.networks import LabelPainter
    from bundle.site.release.needs import noise_in_bounds

    path = options.output / "runs.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    done = {(line["kind"], line["seed"]) for line in lines}
    asked = [int(kind.split("/")[1]) for kind in options.only if "/" in kind]
    found = all_slices(options.cache, max(asked) if asked else max(PATIENTS))
    begun = time.monotonic()

    def wanted(kind: str, seed: int) -> bool:
        return (kind, seed) not in done and (not options.only or kind in options.only)

    def keep(kind: str, seed: int, **about: Any) -> None:
        lines.append({"kind": kind, "seed": seed, **about})
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(lines[-1]) + "\n")
        print(lines[-1], flush=True)

    for seed in range(options.seeds):
        for patients in PATIENTS:
            if wanted(f"real/{patients}", seed):
                keep(f"real/{patients}", seed, **baselines(found, patients, seed, options.split))
        if wanted("painter", seed):
            keep("painter", seed, dice=of_generators([LabelPainter(2, 1).eval()], found, seed, options.split))
        for kind in kinds():
            named = name_of(kind)
            if not wanted(named, seed):
                continue
            if time.monotonic() - begun > 60 * options.minutes:
                return lines
            start = time.process_time()
            networks, noise = train(found, kind, seed, options)
            weights = size(teacher() if kind[0] == ALONE else discriminator())
            norm = noise_in_bounds(noise, weights, DRAWN[kind[1]]) if kind[0] != "gradient_noise" else None
            score = of_generators(networks, found, seed, options.split)
            keep(named, seed, dice=score, noise=noise, norm=norm, seconds=round(time.process_time() - start))
    return lines


def means(lines: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Dice of all seeds, by what was trained and, of real images, on whose."""
    found: dict[str, list[float]] = {}
    for line in lines:
        scores = {key: line[key] for key in ("best single site", "both sites") if key in line}
        for key, score in scores.items():
            found.setdefault(f"{line['kind']}/{key}", []).append(score)
        if not scores:
            found.setdefault(line["kind"], []).append(line["dice"])
    return found


def table(lines: list[dict[str, Any]]) -> str:
    """Dice by patients, in Markdown: a row for each mechanism and epsilon, and for what they are compared with."""
    found = means(lines)
    noise = {line["kind"]: line["norm"] for line in lines if line.get("norm")}

    def cells(pattern: str) -> list[str]:
        return [_cell(found.get(pattern.format(n)), noise.get(pattern.format(n))) for n in PATIENTS]

    rows = [
        ["images that the segmenter saw", *(f"{n:,} patients a site" for n in PATIENTS)],
        ["---", *["---:"] * len(PATIENTS)],
    ]
    rows += [[f"real, {key}", *cells(f"real/{{}}/{key}")] for key in ("best single site", "both sites")]
    for mechanism in MECHANISMS:
        for epsilon in reversed(EPSILONS):
            if mechanism in (TAUGHT, ALONE) and epsilon not in TEACHER_EPSILONS:
                continue
            told = f"`{mechanism}`, ε = {'∞' if math.isinf(epsilon) else f'{epsilon:g}'}"
            rows.append([told, *cells(f"{mechanism}/{{}}/{epsilon:g}")])
    rows.append(["label maps painted at random", *[_cell(found.get("painter"), None)] * len(PATIENTS)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def _cell(scores: list[float] | None, noise: float | None) -> str:
    if not scores:
        return "–"
    return f"{np.mean(scores):.2f}" + (f" ({float(f'{noise:.2g}'):g})" if noise else "")


def figure(lines: list[dict[str, Any]], path: Path) -> None:
    """Patients per site against Dice, a curve for every epsilon, a panel for each mechanism."""
    from matplotlib.figure import Figure

    found = means(lines)
    drawn = Figure(figsize=(13, 3.6), layout="constrained")
    axes = drawn.subplots(1, len(MECHANISMS), sharey=True)
    for axis, mechanism in zip(axes, MECHANISMS, strict=True):
        for key, style in (("best single site", "k--"), ("both sites", "k:")):
            _curve(axis, found, f"real/{{}}/{key}", style, f"real, {key}")
        for epsilon in EPSILONS:
            label = "ε = ∞" if math.isinf(epsilon) else f"ε = {epsilon:g}"
            _curve(axis, found, f"{mechanism}/{{}}/{epsilon:g}", "o-", label)
        if "painter" in found:
            axis.axhline(np.mean(found["painter"]), color="0.7", label="painted at random")
        axis.set(xscale="log", xlabel="patients per site", title=mechanism, ylim=(0, 1))
    axes[0].set_ylabel("Dice on held-out phantoms")
    drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=7)
    drawn.savefig(path, dpi=130)


def _curve(axis: Any, found: dict[str, list[float]], pattern: str, style: str, label: str) -> None:
    points = [(n, float(np.mean(found[pattern.format(n)]))) for n in PATIENTS if pattern.format(n) in found]
    if points:
        axis.plot(*zip(*points, strict=True), style, label=label)


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    torch.set_num_threads(1)
    try:
        lines = run(options)
        print(table(lines))
        figure(lines, options.output / "private_curve.png")
    except (OSError, ValueError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
