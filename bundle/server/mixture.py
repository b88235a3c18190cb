"""What a site counts in a step, and which sites a step asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from bundle.seeding import derive_seed

__all__ = ["asked_sites", "check_sites_per_step", "inclusion_probabilities", "mixture_weights", "systematic_sample"]


def mixture_weights(
    num_samples: Mapping[str, int],
    mixture: Literal["proportional", "sum"] = "proportional",
    asked: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """
    Weights of the sites' image gradients.

    Args:
        num_samples: n_j by site, of the sites that take part.
        mixture: ``proportional`` for π_j = n_j / Σ n_i (Chang et al. 2020, equation 1), ``sum`` for 1 each, as the
            authors' code of 2020 has it.
        asked: p_j in (0, 1] by site, the probability that the step asks it (:func:`asked_sites`), of these sites and
            maybe others; None where it asks all.

    Returns:
        With ``asked``, w_j = (n_j / p_j) / Σ (n_i / p_i), or 1 / p_j: what makes the mean over all draws that of all
        sites, see :func:`asked_sites`. Where some of those asked have failed, the others share their weight.

    Raises:
        ValueError: for another name of a mixture.
    """
    probability = dict.fromkeys(num_samples, 1.0) if asked is None else asked
    if mixture == "sum":
        return {site: 1 / probability[site] for site in num_samples}
    if mixture != "proportional":
        raise ValueError(f"mixture is 'proportional' or 'sum', not {mixture!r}")
    counts = {site: n / probability[site] for site, n in num_samples.items()}
    total = sum(counts.values())
    return {site: n / total for site, n in counts.items()}


def asked_sites(
    num_samples: Mapping[str, int],
    count: int,
    seed: int,
    step: int,
    mixture: Literal["proportional", "sum"] = "proportional",
) -> dict[str, float]:
    """
    The sites that a step asks: a function of the arguments alone.

    Site j is asked with probability p_j = min(1, c·w_j), where w_j is its weight when all are asked and c is such that
    Σ p_j = ``count``: the larger a site, the oftener, and one so large that it would be asked more than once a step is
    asked in each. What an asked site returns counts w_j / p_j (Horvitz and Thompson 1952, "A generalization of sampling
    without replacement from a finite universe", JASA 47:663-685). So for any gradients g_j

        E Σ_{j asked} (w_j / p_j) g_j  =  Σ_j P(j asked) (w_j / p_j) g_j  =  Σ_j w_j g_j,

    whatever pairs of sites are drawn together. With Σ w_j = 1 the weights of a draw also add up to 1, exactly: those
    with p_j < 1 count 1/c each, there are ``count`` less those with p_j = 1 of them, and their w_j add up to that
    number divided by c. So :func:`mixture_weights` may divide by the sum, and does so where an asked site fails.

    Drawn is systematically (Madow 1949, "On the theory of systematic sampling, II", Ann. Math. Statist. 20:333-354),
    in an order that is shuffled anew each step: exactly ``count`` different sites, with exactly these probabilities.

    Args:
        num_samples: n_j by site, of the sites that take part.
        count: how many to ask, at least 1; as many as there are, or more, for all.
        seed: seed of the run.
        step: from 1.
        mixture: see :func:`mixture_weights`.

    Returns:
        p_j by site asked, sorted by name; 1.0 each where all are.
    """
    if count >= len(num_samples):
        return dict.fromkeys(sorted(num_samples), 1.0)
    probabilities = inclusion_probabilities(mixture_weights(num_samples, mixture), count)
    rng = np.random.default_rng(derive_seed(seed, "sites of a step", step))
    shuffled = rng.permutation(sorted(probabilities)).tolist()
    drawn = systematic_sample({site: probabilities[site] for site in shuffled}, rng.random())
    return {site: probabilities[site] for site in sorted(drawn)}


def systematic_sample(probabilities: Mapping[str, float], start: float) -> list[str]:
    """
    Lay the probabilities end to end, and take who is met at ``start``, ``start`` + 1, ``start`` + 2, …: over all starts
    everyone with exactly its probability.

    Args:
        probabilities: in (0, 1] by name, in the order in which they are laid; their sum is a whole number.
        start: in [0, 1).

    Returns:
        As many names as the sum says.
    """
    # apart: in a sum with others, rounding may have a length of 1 met twice
    certain = [name for name, probability in probabilities.items() if probability == 1]
    rest = {name: probability for name, probability in probabilities.items() if probability < 1}
    ends = np.concatenate([[0.0], np.cumsum(list(rest.values()))])
    ends[-1] = np.rint(ends[-1])  # exactly as many, whatever the rounding of sums
    return certain + [name for name, marks in zip(rest, np.diff(np.floor(ends - start)), strict=True) if marks]


def check_sites_per_step(count: object, sites: Sequence[str]) -> None:
    """
    Raises:
        ValueError: when it is neither None nor a whole number from 1 to the number of sites, which are named.
    """
    if count is None or (isinstance(count, int) and not isinstance(count, bool) and 1 <= count <= len(sites)):
        return
    named = ", ".join(sites) if len(sites) <= 20 else ", ".join([*sites[:20], "…"])
    raise ValueError(
        f"sites_per_step: expected null, for all, or a whole number from 1 to {len(sites)}, the number of sites of "
        f"this training ({named}), got {count!r:.40}"
    )


def inclusion_probabilities(weights: Mapping[str, float], count: int) -> dict[str, float]:
    """p = min(1, c·w) by name, of positive weights w, with a sum of ``count``, which is below their number."""
    certain: set[str] = set()
    while True:
        rest = {name: weight for name, weight in weights.items() if name not in certain}
        factor = (count - len(certain)) / sum(rest.values())
        more = {name for name, weight in rest.items() if factor * weight >= 1}
        if not more:
            return {name: 1.0 if name in certain else factor * weight for name, weight in weights.items()}
        certain |= more
