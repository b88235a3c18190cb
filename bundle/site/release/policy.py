"""What a site lets out: the release policy, which the site owns and nobody else can change."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from bundle.by_site import by_site

__all__ = [
    "DEFAULT",
    "DP_SGD",
    "GRADIENT_NOISE",
    "PAIRED_TERMS",
    "POLICIES",
    "PolicyError",
    "ReleasePolicy",
    "policies_by_site",
]

PAIRED_TERMS = ("l1", "perceptual")
"""Terms that compare ŷ with the real image of its condition: their gradient says where the real image lies."""
TERMS = ("adversarial", *PAIRED_TERMS)
CONDITIONS = ("real", "deformed", "drawn", "public")
GRADIENT_NOISE = "gradient_noise"
DP_SGD = "dp_sgd"
MECHANISMS: dict[str, dict[str, Any]] = {GRADIENT_NOISE: {}, DP_SGD: {"clip_norm": 1.0}}
"""Of differential privacy, with fields that are others for it where nobody says so."""
DEFAULT = "out_of_fold"
MAX_FOLDS = 16
"""Each has networks of its own to be trained."""
BASE = "policy"
"""The key that names, in a mapping, the policy whose fields the others change."""


class PolicyError(ValueError):
    """A release policy that says what it cannot; the message names the field and what was expected."""


@dataclass(frozen=True)
class ReleasePolicy:
    """
    What may leave a site.

    Args:
        name: of the policy that the others started from: ``published``, ``guarded``, ``out_of_fold`` or ``private``.
        terms: loss terms whose gradient with respect to the synthetic image may be returned, of ``adversarial``,
            ``l1`` and ``perceptual``.
        scalar_losses: whether the values of the losses are returned. They are releases too: the value of an L1 answers
            the same questions as its gradient, and that of the adversarial term says what the discriminator thinks of
            an image.
        num_samples: what the site says of n_j: ``exact``, ``rounded`` down to one significant digit, or a whole number
            that it says in its place; 1 at all sites weighs them alike.
        conditions: ``real``: those of the site's samples; ``deformed``: the same after a random deformation, of the
            real image as well, so that the discriminator sees pairs that fit; ``drawn``: nobody's, drawn from
            statistics of shapes over the site's patients (:mod:`bundle.shapes`), one in the place of each sample's;
            ``public``: none, the server brings its own.
        min_patients: of which there have to be statistics, for conditions that are drawn.
        nonces: whether a synthetic batch has to carry the nonce of the conditions that it was made for, and every nonce
            is answered once.
        max_issues: how often the condition of one sample (a slice or a tile of a patient's case) may be issued, in all
            trainings that the ledger knows of: in steps and for generation, in whatever size, crop or bend. None for no
            bound.
        max_releases: how many image gradients (of a batch each) may be returned, in all trainings that the ledger knows
            of; None for no bound.
        secret_weights: whether the discriminator's initial weights are drawn from a secret of the site. Those that are
            drawn from the seed of the run the server knows, and one answer that follows from known weights says whether
            a guess at the real images of the step is right. With secret ones no two runs are the same.
        folds: K, into how many folds the site's patients are cut, so that a condition is answered only by what was made
            without its fold; None for none. Sites with fewer than 2·K patients take fewer, at least two.
        teacher: whether what a regression network of the site has learned leaves once, before the first step. With
            ``folds``, for each of the site's conditions, as it is, an image: what a network predicts for it that was
            trained on the other folds. Where ``mechanism`` is ``dp_sgd``, the weights of a network whose updates got
            noise, as those of the discriminator do, out of the same ε.
        mechanism: what is clipped and gets noise, where anything does: ``gradient_noise``, the image gradients that
            are returned; ``dp_sgd``, the updates of the discriminator, and of a teacher, on real images, of which all
            that is returned follows.
        clip_norm: C, what is scaled down to in L2 norm: of ``gradient_noise``, one image's gradient; of ``dp_sgd``, the
            gradient of a network's weights of one patient's slice. None for no differential privacy.
        epsilon: ε, the budget of all releases that the ledger knows of; ``inf`` for clipping without noise. With a
            finite one nothing may leave that the noise does not cover: no scalar losses under ``gradient_noise``, no
            conditions, no n_j but a fixed number.
        delta: δ of that budget.
        patients_per_update: of ``dp_sgd``: how many patients are drawn for an update, on average.
        max_noise: of ``dp_sgd``: how large, in clipping bounds, the noise on the mean gradient of an update may be for
            a training to begin, in L2 norm over all weights of the network; None for no bound.

    Raises:
        PolicyError: for a field that is none of these.
    """

    name: str
    terms: tuple[str, ...] = ("adversarial",)
    scalar_losses: bool = True
    num_samples: str | int = "exact"
    conditions: str = "real"
    min_patients: int = 5
    nonces: bool = True
    secret_weights: bool = False
    max_issues: int | None = None
    max_releases: int | None = None
    folds: int | None = None
    teacher: bool = False
    mechanism: str = GRADIENT_NOISE
    clip_norm: float | None = None
    epsilon: float | None = None
    delta: float = 1e-5
    patients_per_update: int = 32
    max_noise: float | None = 10.0

    def __post_init__(self) -> None:
        def require(right: bool, field: str, expected: str) -> None:
            if not right:
                raise PolicyError(f"release policy, {field}: expected {expected}, got {getattr(self, field)!r}")

        known = isinstance(self.terms, tuple) and set(self.terms) <= set(TERMS) and "adversarial" in self.terms
        require(known, "terms", f"'adversarial' and any of {', '.join(PAIRED_TERMS)}")
        for field in ("scalar_losses", "nonces", "secret_weights", "teacher"):
            require(isinstance(getattr(self, field), bool), field, "true or false")
        said = self.num_samples in ("exact", "rounded") or _is_count(self.num_samples)
        require(said, "num_samples", "exact, rounded or a whole number of at least 1")
        require(self.conditions in CONDITIONS, "conditions", f"one of {', '.join(CONDITIONS)}")
        least = _is_count(self.min_patients) and self.min_patients >= 2
        require(least, "min_patients", "a whole number of at least 2: the mean of one patient is the patient")
        for field in ("max_issues", "max_releases"):
            value = getattr(self, field)
            require(value is None or _is_count(value), field, "a whole number of at least 1, or null")
        require(self.folds is None or _is_folds(self.folds), "folds", f"a whole number from 2 to {MAX_FOLDS}, or null")
        require(self.clip_norm is None or _is_positive(self.clip_norm, finite=True), "clip_norm", "a number above 0")
        require(self.epsilon is None or _is_positive(self.epsilon), "epsilon", "a number above 0, .inf among them")
        require((self.epsilon is None) == (self.clip_norm is None), "epsilon", "one together with clip_norm")
        require(_is_positive(self.delta) and self.delta < 1, "delta", "a number between 0 and 1")
        require(self.mechanism in MECHANISMS, "mechanism", f"one of {', '.join(MECHANISMS)}")
        require(_is_count(self.patients_per_update), "patients_per_update", "a whole number of at least 1")
        require(self.max_noise is None or _is_positive(self.max_noise), "max_noise", "a number above 0, or null")
        if self.mechanism == DP_SGD:
            of_updates = f"where mechanism is {DP_SGD}"
            require(self.private, "clip_norm", f"a number, and epsilon one, {of_updates}")
            require(self.conditions == "public", "conditions", f"public {of_updates}: real ones are not covered")
            require(self.secret_weights, "secret_weights", f"true {of_updates}")
        if self.epsilon is not None and self.epsilon < math.inf:
            covered = "while epsilon is finite: no noise covers it otherwise"
            free = self.mechanism == DP_SGD
            require(free or not self.scalar_losses, "scalar_losses", f"false {covered}")
            require(self.conditions == "public", "conditions", f"public {covered}")
            require(_is_count(self.num_samples), "num_samples", f"a fixed number {covered}")
        if self.folds is not None:
            of_folds = "where there are folds: a patient's image would answer for its own condition otherwise"
            require(not self.paired, "terms", f"adversarial alone {of_folds}")
            require(self.conditions in ("real", "deformed"), "conditions", f"real or deformed {of_folds}")
        if self.teacher and not self.noises_updates:
            has_seen = f"a number where there is a teacher: it has seen other folds; or mechanism: {DP_SGD}"
            require(self.folds is not None, "folds", has_seen)
            # the server counts on the order in which samples are drawn
            require(self.num_samples == "exact", "num_samples", "exact where there is a teacher")
        if self.conditions in ("public", "drawn") and self.paired:
            raise PolicyError(
                f"release policy: with {self.conditions} conditions there is no real image to compare a synthetic one "
                f"with, so the terms {', '.join(self.paired)} cannot be returned"
            )

    @classmethod
    def make(cls, value: str | Mapping[str, Any] | ReleasePolicy) -> ReleasePolicy:
        """
        Args:
            value: the name of one of :data:`POLICIES`, or a mapping whose key ``policy`` names it, with the fields in
                which this one differs.

        Raises:
            PolicyError: for another name or field.
        """
        if isinstance(value, ReleasePolicy):
            return value
        given = {BASE: value} if isinstance(value, str) else value
        known = {field.name for field in fields(cls)} - {"name"}
        if not isinstance(given, Mapping) or given.get(BASE, DEFAULT) not in POLICIES:
            names = ", ".join(POLICIES)
            raise PolicyError(
                f"release_policy: expected {names}, or a mapping that names one as {BASE!r}, got {value!r}"
            )
        changed: dict[str, Any] = {key: item for key, item in given.items() if key != BASE}
        if unknown := sorted(str(key) for key in changed.keys() - known):
            raise PolicyError(
                f"release_policy: no field {', '.join(unknown)}, expected some of {', '.join(sorted(known))}"
            )
        if isinstance(changed.get("terms"), list):
            changed["terms"] = tuple(changed["terms"])
        if not isinstance(changed.get("mechanism", GRADIENT_NOISE), str):
            raise PolicyError(f"release policy, mechanism: expected a name, got {changed['mechanism']!r}")
        others = MECHANISMS.get(changed.get("mechanism", GRADIENT_NOISE), {})
        return replace(POLICIES[given.get(BASE, DEFAULT)], **others | changed)

    @property
    def paired(self) -> tuple[str, ...]:
        """The paired terms that may be returned."""
        return tuple(term for term in self.terms if term in PAIRED_TERMS)

    @property
    def private(self) -> bool:
        """Whether something is clipped, and noise added unless ε is infinite."""
        return self.clip_norm is not None

    @property
    def repeatable(self) -> bool:
        """Whether in one process the site's secret may follow from the seed: no promise rests on it there."""
        return not (self.private or self.secret_weights)

    @property
    def noises_gradients(self) -> bool:
        """Whether that is the image gradients."""
        return self.private and self.mechanism == GRADIENT_NOISE

    @property
    def noises_updates(self) -> bool:
        """Whether that is the discriminator's updates."""
        return self.private and self.mechanism == DP_SGD

    def forbidden(self, terms: Collection[str]) -> list[str]:
        """Which of these terms of a training's loss must not be returned."""
        return sorted(set(terms) - set(self.terms))

    def objection(self, steps: int | None, terms: Collection[str], issues: int = 0) -> str:
        """
        Why a training is not possible under this policy, in words that may be sent; empty where it is.

        Args:
            steps: of the training; None where that is not known.
            terms: of its loss.
            issues: how often it issues the sample that it issues most often.
        """
        if forbidden := self.forbidden(terms):
            keys = ", ".join(f"{term}_weight" for term in forbidden)
            return (
                f"its release policy, {self.name}, returns no gradient of {', '.join(forbidden)}, and the training's "
                f"loss has it: set {keys} to 0, or have the site's owner choose another policy "
                "(docs/explanation/threat_model.md)"
            )
        if steps is not None and self.max_releases is not None and steps > self.max_releases:
            return f"{steps} steps, its release policy allows {self.max_releases} (max_releases)"
        if self.max_issues is not None and issues > self.max_issues:
            return (
                f"{steps} steps issue conditions more often than its release policy allows, {self.max_issues} times a "
                "sample (max_issues): take fewer steps, or have the site's owner allow more"
            )
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Nothing but what JSON knows; an infinite ε is the text ``"inf"``."""
        content = asdict(self) | {"terms": list(self.terms)}
        return content | ({"epsilon": "inf"} if self.epsilon == math.inf else {})

    def describe(self) -> str:
        """``"guarded"``, ``"private (epsilon 4, delta 1e-05, clip_norm 0.01)"``: the name, and what differs from it."""
        base = POLICIES.get(self.name)
        private = ("epsilon", "delta", "clip_norm") if self.private else ()
        told = [
            f"{field.name} {_text(getattr(self, field.name))}"
            for field in sorted(fields(self), key=lambda field: field.name not in private)
            if field.name != "name"
            and (field.name in private or base is None or getattr(self, field.name) != getattr(base, field.name))
        ]
        return f"{self.name} ({', '.join(told)})" if told else self.name


def policies_by_site(
    value: Any, sites: Collection[str], members: Mapping[str, Collection[str]] | None = None
) -> dict[str, ReleasePolicy]:
    """
    The policies of sites in one process.

    Args:
        value: what :meth:`ReleasePolicy.make` takes, for all of them; or such values by name of the site, where those
            that are not named have the default.
        sites: names of the sites.
        members: by name of a site of the training, which of ``sites`` it stands for; None where each is itself.

    Returns:
        The policy by name of the site of the training.

    Raises:
        PolicyError: for a policy that is none, and when sites that one stands for have different ones.
        ValueError: for a site that there is not.
    """
    one = isinstance(value, Mapping) and (not value or value.keys() & {BASE, *(f.name for f in fields(ReleasePolicy))})
    given = by_site("release_policy", ReleasePolicy.make(value) if one else value, sites, DEFAULT)
    policies = {site: ReleasePolicy.make(own) for site, own in given.items()}
    if members is None:
        return policies
    for name, its in members.items():
        if len({policies[site] for site in its}) > 1:
            raise PolicyError(
                f"site {name}: it stands for {', '.join(its)}, whose release policies differ; "
                "give one release_policy for all"
            )
    return {name: policies[next(iter(its))] for name, its in members.items()}


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_folds(value: Any) -> bool:
    return _is_count(value) and 2 <= value <= MAX_FOLDS


def _is_positive(value: Any, finite: bool = False) -> bool:
    # a NaN is above nothing
    number = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    return number and (not finite or math.isfinite(value))


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return " + ".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


POLICIES: dict[str, ReleasePolicy] = {
    policy.name: policy
    for policy in (
        # what the paper has the sites return; an active server reads real images out of it
        ReleasePolicy("published", terms=TERMS, nonces=False),
        ReleasePolicy("guarded", max_issues=1000, max_releases=500_000),
        # no answer for a patient's condition knows that patient's images
        ReleasePolicy("out_of_fold", max_issues=1000, max_releases=500_000, folds=3, teacher=True),
        ReleasePolicy(
            "private",
            scalar_losses=False,
            num_samples=1,
            conditions="public",
            secret_weights=True,
            max_releases=500_000,
            clip_norm=0.01,
            epsilon=10.0,
        ),
    )
}
"""The named policies: one for each need."""
