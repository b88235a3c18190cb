"""Attack one's own sites, to know what they let out.

`readout`: real images, read out of the image gradients that a site returns. `membership`: who was in the training.
`segmenters`: the same of segmenters, such as that of federated averaging. `conditions`: what the conditions tell.
`plan`: what an epsilon is going to cost, before anything runs.
What a site has let out so far says `asyndgan site ledger`.

Examples:
  asyndgan audit readout --task brats --dataset_dir data/lgg --site CS --output runs/audit
  asyndgan audit readout --task brats --dataset_dir data/lgg --site CS --output runs/b --set release_policy=published
  asyndgan audit membership --task brats --dataset_dir data/lgg --run_dir runs/brats-small --output runs/audit
  asyndgan audit segmenters --task brats --dataset_dir data/lgg --run_dir runs/brats-small
  asyndgan audit conditions --task brats --dataset_dir data/lgg --output runs/audit
  asyndgan audit plan --patients 1000 --steps 1500 --epsilon 4
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundle.cli.options import (
    add_dataset_dir,
    add_seed,
    add_setting,
    add_threads,
    add_training,
    config_paths,
    make_parser,
    overrides,
    profile_of,
    training_files,
)
from bundle.cli.terminal import show_lines

if TYPE_CHECKING:
    from bundle.audit.audited_run import Audited

__all__ = ["declare", "summary"]

# as the library has them, which takes long to import
LOSSES = ("adversarial", "L1_10", "L1_100", "perceptual")

READOUT = """Real images, read out of the image gradients that a site returns.

The server asks a site again and again for the same step, with images of its choice. With an L1 term it reads the real
images out by bisection; with others it follows the gradients, or looks for images with which a simulated site answers
as the site did. The site keeps to its release policy, that of the configs: a loss that it forbids is not attacked but
told, and an attack ends where the site refuses. For undefended sites: --set release_policy=published. To a site that
issues no conditions the true ones are sent, as by a server that has its victims' masks from elsewhere.

Writes readout.json (curves of PSNR and SSIM over the number of queries, baselines that need no attack, gains),
readout.png (the images) and readout_curves.png. With --run_dir the gains come into the data sheets of the
generator."""


SEGMENTERS = """Can it be told from a segmenter whose images it was trained with?

The attack is the segmenter's loss on an image and its label; the control is a segmenter with random weights. It writes
attacks.json into the folder of the run, and the run's results and report show it from then on."""


MEMBERSHIP = """Can it be told which slices a generator was trained with?

What was found comes into attacks.json and the report of the run, and into the data sheets of its generator."""

CONDITIONS = """What do released conditions reveal alone?

With --run_dir what was found comes into the data sheets of that run's generator."""


PLAN = """What would differential privacy of a site's critic cost (release_policy with mechanism: dp_sgd)?

Before anything runs and without any data: how much noise an epsilon takes, what was learned with as much in trials, and
what it would need."""


def summary(command: str) -> str:
    return "Attack one's own sites, to know what they let out"


def declare(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_subparsers(dest="part", required=True, metavar="ATTACK")

    def part(
        name: str, about: str, run: Callable[[argparse.Namespace], int], output: bool = True
    ) -> argparse.ArgumentParser:
        first = about.splitlines()[0]
        one = make_parser(parts.add_parser, about, name, help=first[0].lower() + first[1:])
        one.set_defaults(run=run)
        add_training(one)
        add_dataset_dir(one)
        add_seed(one)
        add_threads(one)
        if output:
            one.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write to")
        return one

    readout = part("readout", READOUT, run_readout)
    _add_run(readout, required=False)
    readout.add_argument("--site", required=True, metavar="NAME", help="the site that is attacked")
    _add_number(readout, "--images", 4, "real images to read out")
    _add_number(readout, "--queries", 8, "of a bisection, for each batch")
    _add_number(readout, "--climb_queries", 64, "where there is no L1 term")
    _add_number(readout, "--match_queries", 4, "of gradient matching, 0 for none")
    _add_number(readout, "--match_steps", 100, "of its optimiser")
    readout.add_argument(
        "--losses", nargs="+", choices=LOSSES, default=LOSSES, help="that the site has in turn (default: all)"
    )
    readout.add_argument(
        "--vgg", metavar="FILE", help="torchvision's VGG-16 weights for the perceptual term (default: random ones)"
    )
    membership = part("membership", MEMBERSHIP, run_membership)
    _add_run(membership, required=True)
    membership.add_argument(
        "--slices", type=int, metavar="N", help="of every patient at most, evenly spaced (default: all)"
    )
    _add_number(membership, "--wall_slices", 4, "of every patient to send to a site at most")
    segmenters = part("segmenters", SEGMENTERS, run_segmenters, output=False)
    segmenters.add_argument("--run_dir", required=True, metavar="DIR", help="folder of a run, for its segmenters")
    segmenters.add_argument(
        "--settings",
        nargs="+",
        default=["fedavg", "asyndgan"],
        metavar="SETTING",
        help="whose segmenters (default: fedavg asyndgan)",
    )
    segmenters.add_argument(
        "--slices", type=int, metavar="N", help="of every patient at most, evenly spaced (default: all)"
    )
    conditions = part("conditions", CONDITIONS, run_conditions)
    _add_run(conditions, required=False)
    _add_number(conditions, "--masks", 8, "known of every patient at most")
    plan = make_parser(parts.add_parser, PLAN, "plan", help="what an epsilon is going to cost, before anything runs")
    plan.set_defaults(run=run_plan)
    plan.add_argument("--patients", type=int, required=True, metavar="N", help="of the site")
    plan.add_argument("--steps", type=int, required=True, metavar="N", help="of the training (num_steps)")
    plan.add_argument("--epsilon", type=float, required=True, metavar="E", help="that it may take")
    plan.add_argument("--delta", type=float, default=1e-5, metavar="D", help="(default 1e-5)")
    _add_number(plan, "--updates", 1, "of the discriminator, a step (discriminator_updates)")
    _add_number(plan, "--patients_per_update", None, "drawn on average", "32, or all that there are")
    _add_number(plan, "--weights", 35_873, "of the discriminator", "35873, of profile compact")
    _add_number(plan, "--teacher_steps", 0, "updates of a teacher (private_teacher_steps, with teacher: true)")
    _add_number(plan, "--teacher_weights", 113, "of the teacher")


def _add_run(parser: argparse.ArgumentParser, required: bool) -> None:
    """Of audits that attack trained networks."""
    text = "folder of a run, for its networks" + ("" if required else " (default: of none)")
    parser.add_argument("--run_dir", required=required, metavar="DIR", help=text)
    add_setting(parser, "asyndgan, syn_all or syn_subset/SITE")


def _add_number(
    parser: argparse.ArgumentParser, name: str, default: int | None, text: str, told: str | None = None
) -> None:
    shown = default if told is None else told
    parser.add_argument(name, type=int, default=default, metavar="N", help=f"{text} (default {shown})")


def _audited(options: argparse.Namespace) -> Audited:
    from bundle.audit.audited_run import audited

    return audited(
        training_files(options),
        options.dataset_dir,
        overrides(options.set),
        options.seed,
        getattr(options, "run_dir", None),
        getattr(options, "setting", "asyndgan"),
    )


def _about(options: argparse.Namespace) -> dict[str, Any]:
    """What the results say of the training that was attacked."""
    return {"task": options.task, "profile": profile_of(options), "set": options.set}


def run_readout(options: argparse.Namespace) -> int:
    """
    Raises:
        ValueError: for a site that there is not, or numbers out of range.
        ValueError, OSError: see :func:`bundle.audit.audited_run.audited`.
    """
    show_lines()
    from bundle.audit.readout_run import ReadoutOptions, run_readout

    names = ("site", "images", "queries", "climb_queries", "match_queries", "match_steps", "losses", "vgg", "seed")
    wanted = ReadoutOptions(**{name: getattr(options, name) for name in names})
    about = {"data": Path(options.dataset_dir).resolve().name} | _about(options)
    target = _audited(options)
    path = run_readout(target, wanted, options.output, about)
    print(f"wrote {path}")
    if options.run_dir is not None:
        from bundle.audit.record import of_readout, record_audit

        print(record_audit(target, "readout", of_readout(json.loads(path.read_text(encoding="utf-8")))))
    return 0


def run_membership(options: argparse.Namespace) -> int:
    """
    Raises:
        ValueError, OSError: see :func:`bundle.audit.audited_run.audited`.
    """
    show_lines()
    from bundle.audit.membership_run import run_membership
    from bundle.audit.record import as_rows, of_membership, record_attacks, record_audit

    about = _about(options) | {"setting": options.setting}
    given = (options.slices, options.wall_slices, options.seed)
    target = _audited(options)
    path = run_membership(target, options.output, about, *given)
    found = json.loads(path.read_text(encoding="utf-8"))["attacks"]
    print(f"wrote {path} and {record_attacks(options.run_dir, {options.setting: as_rows(found)})}")
    print(record_audit(target, "membership", of_membership(found)))
    return 0


def run_segmenters(options: argparse.Namespace) -> int:
    """
    Raises:
        ValueError, OSError: see :func:`bundle.audit.segmenter_audit.audit_segmenters`.
    """
    show_lines()
    from bundle.audit.record import as_rows, record_attacks
    from bundle.audit.segmenter_audit import audit_segmenters
    from bundle.workflows.experiment import Stages

    stages = Stages(
        options.task,
        options.dataset_dir,
        options.profile,
        options.run_dir,
        config_paths(options),
        overrides(options.set),
    )
    found = audit_segmenters(stages, options.settings, options.seed, options.slices)
    rows = {setting: as_rows(of_setting) for setting, of_setting in found.items()}
    for setting, (row,) in rows.items():
        ends = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
        print(f"{setting}: AUC {row['value']:.3f}{ends}, control {row['control']:.3f}")
    print(f"wrote {record_attacks(options.run_dir, rows)}")
    return 0


def run_conditions(options: argparse.Namespace) -> int:
    """
    Raises:
        ValueError, OSError: see :func:`bundle.audit.audited_run.audited`.
    """
    show_lines()
    from bundle.audit.conditions_run import run_conditions

    target = _audited(options)
    path = run_conditions(target, options.output, _about(options), options.masks, options.seed)
    print(f"wrote {path}")
    if options.run_dir is not None:
        from bundle.audit.record import of_conditions, record_audit

        kinds = sorted({site.policy.conditions for site in target.sites.values()})
        found = of_conditions(json.loads(path.read_text(encoding="utf-8")), kinds)
        print(record_audit(target, "label_maps", found))
    return 0


def run_plan(options: argparse.Namespace) -> int:
    """
    Raises:
        ValueError: for numbers out of range.
    """
    from bundle.audit.plan import Plan, explain

    drawn = options.patients_per_update
    plan = Plan(
        options.patients,
        options.steps,
        options.epsilon,
        options.delta,
        options.weights,
        options.updates,
        min(32, options.patients) if drawn is None else drawn,
        teacher_steps=options.teacher_steps,
        teacher_weights=options.teacher_weights,
    )
    for line in explain(plan):
        print(line)
    return 0
