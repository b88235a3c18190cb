"""The sites of a training, of its configs."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from bundle.by_site import by_site
from bundle.seeding import seeded
from bundle.shapes import ShapeModel
from bundle.site.critic import Critic
from bundle.site.earlier import begin_with
from bundle.site.folds import FoldedCritic, Folds
from bundle.site.patients import Patients
from bundle.site.private_critic import PrivateCritic
from bundle.site.private_teacher import PrivateTeacher
from bundle.site.release import ReleaseGate, make_gates
from bundle.site.samples import DeformedSamples, DrawnSamples, PlainSamples, Samples
from bundle.site.site import Site
from bundle.site.store import SiteStore
from bundle.site.teacher import Teacher

__all__ = ["make_sites"]


def make_sites(
    samples: Mapping[str, PlainSamples],
    *,
    critic: Callable[..., Critic],
    gates: Mapping[str, ReleaseGate] | None = None,
    deform: Callable[[dict], dict] | None = None,
    store: Callable[[str], SiteStore] | None = None,
    seed: int = 0,
    batch_size: int | Mapping[str, int] = 1,
    updates: int | None = None,
    teacher: Callable[..., Teacher] | None = None,
    shapes: ShapeModel | None = None,
    waits: bool = False,
    earlier: Callable[[str], Mapping[str, Any] | None] | None = None,
    task: Sequence[str] = (),
    modalities: Mapping[str, Sequence[str]] | None = None,
    private_teacher: Callable[..., PrivateTeacher] | None = None,
) -> list[Site]:
    """
    One :class:`Site` per entry of ``samples``, each with a critic of its own.

    Args:
        samples: data by name of the site.
        critic: makes a critic; the weights of its discriminator are drawn from (seed, name of the site), or from a
            secret where the policy says so. In a config a :class:`Critic` with ``_mode_: callable``.
        gates: release policy and ledger by name of the site; None for the default policy, without a ledger.
        deform: random MONAI transforms of ``condition`` and ``image``, for policies that deform conditions; None where
            there are none.
        store: makes the store of a site from its name; None for none.
        seed: seed of the run.
        batch_size: of every site, or by name of the site.
        updates: a step, of the critics of a site that has folds (:class:`bundle.site.FoldedCritic`) or whose updates
            get noise (:class:`bundle.site.PrivateCritic`).
        teacher: makes the teacher of a site from its folds, ``name`` and ``store``, where the policy has one. In a
            config a :class:`bundle.site.Teacher` with ``_mode_: callable``.
        private_teacher: the same from its critic, where the updates of both get noise: a
            :class:`bundle.site.PrivateTeacher`.
        shapes: what conditions are drawn by, for policies that have them drawn; None where there is nothing.
        waits: whether steps may pass that do not ask every site (:class:`Site`).
        earlier: from the name of a site to its state at the end of an earlier training, which it begins with
            (:mod:`bundle.site.earlier`); None to begin with initial weights.
        task: names of the modalities of the task.
        modalities: by name of a site that lacks some of them, those that it has.

    Raises:
        ValueError: when ``gates`` or ``batch_size`` lacks a site or names one that there is not; see also
            :class:`Site`, as for ``ReleaseRefused``.
    """
    sizes = by_site("batch_size", batch_size, samples)
    gates = make_gates(samples) if gates is None else by_site("gates", gates, samples)
    sites = []
    for name in sorted(samples):
        gate, has = gates[name], tuple((modalities or {}).get(name, ()))
        lacking = {"lacking": len(task) - len(has)} if has else {}
        makes = partial(critic, **lacking)
        data: Samples = samples[name]
        if deform is not None and gate.policy.conditions == "deformed":
            # asked for when a sample is: a gate that has no ledger has no secret before
            data = DeformedSamples(samples[name], deform, partial(getattr, gate, "secret"))
        elif shapes is not None and gate.policy.conditions == "drawn":
            data = _drawn_samples(name, samples[name], shapes, gate)
        weights_seed = secrets.randbits(32) if gate.policy.secret_weights else seed
        kept = None if store is None else store(name)
        own: Critic | FoldedCritic | PrivateCritic
        taught: Teacher | PrivateTeacher | None = None
        if gate.policy.noises_updates:
            first = seeded(makes, gate.secret, "discriminator", name, f"seed {seed}")
            own = PrivateCritic(first, Patients(data), gate, updates)
            if private_teacher is not None and gate.policy.teacher:
                taught = private_teacher(own, name=name, store=kept, **lacking)
        elif gate.policy.folds is None:
            own = seeded(makes, weights_seed, "discriminator", name)
        else:
            folds = Folds(data, gate)
            own = FoldedCritic(folds, partial(_critic_of_fold, makes, weights_seed, name), updates)
            if teacher is not None and gate.policy.teacher:
                taught = teacher(folds, name=name, store=kept, **lacking)
        sites.append(Site(name, data, own, gate, kept, seed, sizes[name], taught, waits, has))
        begin_with(sites[-1], None if earlier is None else earlier(name))
    return sites


def _drawn_samples(name: str, samples: PlainSamples, shapes: ShapeModel, gate: ReleaseGate) -> DrawnSamples:
    """
    Raises:
        ValueError: naming the site, when it has too few patients.
    """
    try:
        return DrawnSamples(samples, shapes, gate.policy.min_patients, partial(getattr, gate, "secret"))
    except ValueError as error:
        raise ValueError(f"site {name}: {error}") from error


def _critic_of_fold(critic: Callable[[], Critic], seed: int, name: str, fold: int) -> Critic:
    return seeded(critic, seed, "discriminator", name, f"fold {fold}")
