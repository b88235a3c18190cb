"""What the paper claims, held against a run: ratios of the same run, because absolute figures depend on sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .display_names import display_name, get_metric
from .formats import as_number, count, format_p
from .scores import best_subset, block, mean_and_std, order_settings
from .untrained import is_untrained


@dataclass(frozen=True)
class Claim:
    """AsynDGAN against one other setting.

    Attributes:
        meaning: the claim in plain words.
        metric: what is compared.
        against: the other setting; ``best_subset`` is the best single site by that metric.
        limit: the least ratio AsynDGAN / other for which the claim holds (the most, where lower is better); at 1,
            AsynDGAN has to be better.
    """

    meaning: str
    metric: str
    against: str
    limit: float


# Where the paper says "as good as" in words, the limit is this project's, set before the runs.
CLAIMS = (
    Claim("Synthetic images train about as well as all real images pooled", "dice", "real_all", 0.97),
    Claim("They train better than the real images of any single site", "dice", "best_subset", 1.0),
    Claim("Keeping the real images apart costs next to nothing", "dice", "syn_all", 0.98),
    Claim("On organs that no site has, they beat every single site", "aji/other organs", "best_subset", 1.0),
    # of the toy, whose numbers are scored themselves
    Claim(
        "A generator whose data stay apart draws the mixture about as well as one that has them all",
        "w1",
        "syn_all",
        1.3,
    ),
    Claim("It draws the mixture far better than any single site's generator", "w1", "best_subset", 0.3),
)


@dataclass(frozen=True)
class Verdict:
    """A claim as it came out.

    Attributes:
        claim: the claim.
        holds: whether it holds in this run.
        asked: what it asks for, such as ``"Dice of AsynDGAN at least 0.97 × Real-All"``.
        found: the figures of this run, with how far it is from the limit.
        certainty: what the patients' interval and the test add; empty without statistics.
    """

    claim: Claim
    holds: bool
    asked: str
    found: str
    certainty: str = ""


def verdicts(results: Mapping[str, Any]) -> list[Verdict]:
    """The claims that a run has the numbers for, in order.

    Args:
        results: contents of results.json; any block may be missing.
    """
    return [verdict for claim in CLAIMS if (verdict := _judge(results, claim)) is not None]


def _judge(results: Mapping[str, Any], claim: Claim) -> Verdict | None:
    other = best_subset(results, claim.metric) if claim.against == "best_subset" else claim.against
    if any(is_untrained(results, setting) for setting in ("asyndgan", other or "")):
        return None
    metric = get_metric(claim.metric, results)
    ours, theirs = (mean_and_std(results, s, claim.metric)[0] for s in ("asyndgan", other or ""))
    if not math.isfinite(ours) or not math.isfinite(theirs) or theirs <= 0:
        return None
    ratio = ours / theirs
    higher = metric.better != "lower"
    better = ratio > claim.limit if higher else ratio < claim.limit
    holds = better or (claim.limit != 1 and ratio == claim.limit)
    if claim.against == "best_subset":
        sites = sum(s.partition("/")[0] == other.partition("/")[0] for s in order_settings(results))
        place = f"the best of {sites} single sites" if sites > 1 else "the single site"
        limit = "" if claim.limit == 1 else f"{claim.limit:g} × "
        asked = f"{metric.label}: AsynDGAN {'above' if higher else 'below'} {limit}{place}"
    else:
        asked = f"{metric.label}: AsynDGAN at {'least' if higher else 'most'} {claim.limit:g} × {display_name(other)}"
    found = (
        f"{metric.format(ours)} against {metric.format(theirs)} of {display_name(other)}: a ratio of {ratio:.3f}, "
        f"{abs(ratio - claim.limit):.3f} {'above' if ratio >= claim.limit else 'below'} the limit of {claim.limit:g}"
    )
    return Verdict(claim, holds, asked, found, _certainty(results, claim, other))


def _certainty(results: Mapping[str, Any], claim: Claim, other: str) -> str:
    of_metric = block(block(block(results, "statistics"), "metrics"), claim.metric)
    against = block(block(of_metric, other), "asyndgan")
    interval = against.get("ratio_interval")
    if not interval:
        return ""
    low, high = map(as_number, interval)
    level = 100 * as_number(block(results, "statistics").get("confidence"))
    text = f"{level:.3g} % interval of the ratio over patients: {low:.3f} to {high:.3f}"
    text += ", so other patients could turn this verdict." if low <= claim.limit <= high else "."
    if against.get("p_holm") is not None:
        p, cases = format_p(against["p_holm"]), count(int(against["patients"]), "patient")
        text += f" Paired test for a difference: p {p if p.startswith('<') else '= ' + p} ({cases})."
    return text
