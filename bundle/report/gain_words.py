"""What a hospital gains, in words that the numbers give: who gains, by how much, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .display_names import LEFT_OUT, Metric, get_metric
from .formats import count, listed
from .gain import OWN, PLUS, Gains, Line, Side, against
from .statistics import CONFIDENCE

__all__ = ["absent_words", "excludes_0", "federated_words", "gain_words", "headline"]

OPEN = "What a hospital gains is still open: own and synthetic images together have not been scored yet."
GIVES = (
    "What AsynDGAN gives that federated averaging does not: a data set, which also serves tasks that nobody thought "
    "of; no architecture of a segmentation model that all have to agree on; and a part for hospitals whose labels "
    "differ."
)


def headline(gains: Gains) -> str:
    """The result in a sentence, as far as there is one, and in another what a hospital has without the others."""
    metric, compared = get_metric(gains.metric, gains.results), gains.compared
    if not compared:
        return OPEN
    last = gains.lines[-1]
    if not last.site:
        above = sum(_sign(metric, line.difference) > 0 for line in compared)
        return (
            f"Own images and the federation's synthetic ones together are {_word(metric, 1)} than own images alone at "
            f"{above} of {len(compared)} hospitals. Mean {metric.label} over hospitals: "
            f"{_verdict(metric, last.found, whole=True)}.{_over_augmented(gains, last)}"
        )
    (line,) = compared
    return (
        f"At {line.site} own images and the federation's synthetic ones together reach a {metric.label} of "
        f"{metric.format(line.sides[PLUS].mean)}, own images alone {metric.format(line.sides[OWN].mean)}: "
        f"{_verdict(metric, line.found, whole=True)}.{_over_augmented(gains, line)}"
    )


def _over_augmented(gains: Gains, line: Line) -> str:
    """A gain that plain augmentation gives as well is none of the federation's."""
    found = against(gains.results, line.sides[PLUS], line.sides["real_subset_augmented"])
    metric = get_metric(gains.metric, gains.results)
    return f" Against own images under strong augmentation: {_verdict(metric, found)}." if found else ""


def gain_words(gains: Gains) -> list[str]:
    """Which hospitals gain and which do not, and what is left to Real-All."""
    metric = get_metric(gains.metric, gains.results)
    said = [_who(metric, gains.compared)] if len(gains.compared) > 1 else []
    said += _not_compared(gains)
    if not gains.compared:
        return said
    sides = (gains.lines[-1] if not gains.lines[-1].site else gains.compared[-1]).sides
    to_all = against(gains.results, sides[PLUS], sides["real_all"])
    if to_all.get("ratio") is not None:
        ends = to_all["ratio_interval"]
        interval = f" ({ends[0]:.3f} to {ends[1]:.3f})" if ends else ""
        lower = "; lower is better" if metric.better == "lower" else ""
        said.append(f"Own and synthetic together reach {to_all['ratio']:.3f}{interval} of Real-All{lower}.")
    return said


def federated_words(gains: Gains) -> list[str]:
    """Federated averaging against own and synthetic images, and what it does not give; empty without FedAvg."""
    metric = get_metric(gains.metric, gains.results)
    last = gains.lines[-1] if gains.lines else None
    if last is None or not last.sides["fedavg"].known:
        return []
    averaged, ours, name = last.sides["fedavg"], last.sides[PLUS], "own and synthetic images together"
    if not gains.compared:
        ours, name = last.sides["asyndgan"], "AsynDGAN's synthetic images alone"
    elif not last.site:
        name += " (mean over hospitals)"
    found = against(gains.results, averaged, ours)
    if not found:
        return ["FedAvg is not compared: a segmenter is not trained to the end, or there are no cases of both.", GIVES]
    word = _word(metric, _sign(metric, found["difference"]))
    text = f"FedAvg is {word} here" if excludes_0(found["difference_interval"]) else f"FedAvg has the {word} mean here"
    text += f": {metric.format(averaged.mean)} against {metric.format(ours.mean)} of {name}, "
    text += f"a difference of {_amount(metric, found['difference'])} {_sure(metric, found)}."
    if len(gains.compared) > 1:
        ahead = [line.site for line in gains.compared if _is_ahead(metric, averaged, line.sides[PLUS])]
        text += f" It has the {_word(metric, 1)} mean at {listed(ahead) if ahead else 'none of the hospitals'}."
    proximal = last.sides["fedprox"]
    return [text + (f" FedProx reaches {metric.format(proximal.mean)}." if proximal.known else ""), GIVES]


def absent_words(gains: Gains) -> list[str]:
    """What a hospital has of a federation that it was not in; empty where none was left out."""
    metric = get_metric(gains.metric, gains.results)
    said = []
    if compared := [line for line in gains.absent if line.found]:
        sides, site = compared[-1].sides, compared[-1].site
        said.append(
            f"At {site or 'hospitals'} that {'was' if site else 'were'} never there, AsynDGAN's synthetic images reach "
            f"{metric.format(sides['leave_out'].mean)}, against {metric.format(sides['asyndgan'].mean)} where the "
            f"hospital took part: {_verdict(metric, compared[-1].found)}."
        )
        for kind, name in zip(LEFT_OUT[1:], ("Real-All", "FedAvg"), strict=True):
            if found := against(gains.results, sides["leave_out"], sides[kind]):
                reached = metric.format(sides[kind].mean)
                said.append(f"Against {name} without it, which reaches {reached}: {_verdict(metric, found)}.")
    if empty := [line.site for line in gains.absent if line.site and not line.patients]:
        said.append(f"No held-out patients, so nothing can be read there: {listed(empty)}.")
    return said


def excludes_0(interval: Sequence[float] | None) -> bool:
    """Whether an interval lies on one side of 0."""
    return interval is not None and (interval[0] > 0 or interval[1] < 0)


def _verdict(metric: Metric, found: Mapping[str, Any], whole: bool = False) -> str:
    """``"0.139 better (interval +0.050 to +0.220, excludes 0)"``; ``whole``: with whose interval it is."""
    sign = _sign(metric, found["difference"])
    amount = f"{_amount(metric, found['difference'])} {_word(metric, sign)}" if sign else "no difference"
    return f"{amount} {_sure(metric, found, whole)}"


def _sure(metric: Metric, found: Mapping[str, Any], whole: bool = False) -> str:
    interval, who = found["difference_interval"], count(found["patients"], "patient")
    if interval is None:
        return f"({who}: no interval)"
    ends = " to ".join(format(end, f"+{metric.spec}").replace("-", "−") for end in interval)
    said = "excludes 0" if excludes_0(interval) else "includes 0: other patients could turn it"
    if not whole:
        return f"(interval {ends}, {said})"
    return f"({100 * CONFIDENCE:.3g} % interval of the difference over {who}: {ends}, which {said})"


def _who(metric: Metric, lines: Sequence[Line]) -> str:
    """Hospitals in lots: who gains and who loses, each surely or not."""
    lots: dict[tuple[int, bool, bool], list[Line]] = {}
    for line in lines:
        lot = (_sign(metric, line.difference), excludes_0(line.interval), line.interval is not None)
        lots.setdefault(lot, []).append(line)
    verbs = {1: "gains", -1: "loses"} if metric.better else {1: "is higher by", -1: "is lower by"}
    said = []
    for (sign, sure, known), those in sorted(lots.items(), reverse=True):
        gained = [f"{verbs[sign]} {_amount(metric, line.difference)}" if sign else "no difference" for line in those]
        names = listed([f"{line.site} {words}" for line, words in zip(those, gained, strict=True)])
        verb = "exclude" if sure else "include"
        intervals = f"intervals {verb} 0" if len(those) > 1 else f"interval {verb}s 0"
        said.append(f"{names} ({intervals if known else 'no interval'})")
    return "; ".join(said) + "."


def _not_compared(gains: Gains) -> list[str]:
    """Which hospitals are not compared, and why; where none is, the headline says so."""
    lines = [line for line in gains.lines if line.site and not line.found]
    untrained = [line.site for line in lines if line.sides[PLUS].untrained or line.sides[OWN].untrained]
    waiting = [line.site for line in lines if line.site not in untrained] if gains.compared else []
    said = [f"Not compared, because a segmenter is not trained to the end: {listed(untrained)}."] if untrained else []
    return said + ([f"Not scored yet: {listed(waiting)}."] if waiting else [])


def _amount(metric: Metric, difference: float) -> str:
    return f"{metric.format(abs(difference))}{f' {metric.unit}' if metric.unit else ''}"


def _sign(metric: Metric, difference: float) -> int:
    """1 where the first is better (of a metric without a direction: higher), −1 where it is worse, as it is written."""
    if not math.isfinite(difference) or float(metric.format(abs(difference))) == 0:
        return 0
    return 1 if (difference > 0) != (metric.better == "lower") else -1


def _word(metric: Metric, sign: int) -> str:
    if sign == 0:
        return "same"
    return ("better" if sign > 0 else "worse") if metric.better else ("higher" if sign > 0 else "lower")


def _is_ahead(metric: Metric, one: Side, other: Side) -> bool:
    return _sign(metric, one.mean - other.mean) > 0
