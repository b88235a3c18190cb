"""One page about a ledger for a reader who is no programmer."""

from __future__ import annotations

import math
import os
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime

from bundle.site.release.chain import LedgerError, Verification, read, verify
from bundle.site.release.policy import DP_SGD, GRADIENT_NOISE
from bundle.site.release.tally import Tally, tally

__all__ = ["summarize"]

WIDTH = 100
FEW = 3  # of anything that there may be many of

LIMITS = (
    "It shows what the site's program wrote down, not what other programs or people sent, nor what the server did.",
    "An entry is written before its release is sent: it does not prove that the release arrived.",
    "Who may write this file can cut its end or write all of it anew, and the chain is whole again: only a number and "
    "hash noted elsewhere reveal that. The times are those of the site's computer.",
    "Whether a patient could be recognised: epsilon bounds what noisy releases tell, and covers no other release.",
)


KINDS = {
    "open": "openings of a training",
    "reply": "answers to synthetic images",
    "repeated reply": "answers given again as they were",
    "conditions": "deliveries of label maps to generate from",
    "scores": "scores of segmenters on held-out cases",
    "weights": "weights of a segmenter that was trained on the site's images",
    "teacher": "weights of a teacher",
}
"""Kinds of releases in words."""
RULES = {
    "terms": "gradients of",
    "scalar_losses": "values of losses",
    "conditions": "label maps",
    "num_samples": "sample count",
    "nonces": "one answer per issue",
    "secret_weights": "secret weights",
    "folds": "folds of patients",
    "teacher": "a teacher's images",  # or weights
    "max_issues": "issues of a sample, at most",
    "max_releases": "answers, at most",
    "mechanism": "noise on",
    "clip_norm": "gradients clipped to",
    "epsilon": "epsilon, at most",
    "delta": "delta",
    "patients_per_update": "patients an update",
    "max_noise": "noise to begin with, at most",
}
"""Fields of a policy in words, in the order in which they are told."""


def summarize(path: str | os.PathLike) -> str:
    """
    What left a site, in at most 60 lines of at most 100 columns, from its ledger; reads the file and changes nothing.

    Of a ledger whose chain is broken, the entries before the break are summed up, and the page says so first. Which
    fields of the entries are read, :func:`bundle.site.release.tally.tally` says.

    Args:
        path: the file of a :class:`bundle.site.release.ReleaseLedger`.

    Raises:
        FileNotFoundError: when there is no such file.
    """
    state = verify(path)
    found = tally(_entries(path, state.entries))
    head = f"Entry {state.entries}: {state.head}"
    sections = [
        ("LEDGER OF RELEASES", _file(path, state, found), 2),
        ("Policies in force", _policies(found), 3),
        ("Releases", _releases(found), 2),
        ("Differential privacy", _privacy(found), 2),
        ("Refusals", _refusals(found), 2),
        ("Number and hash of the last entry, to note elsewhere (on paper, in a mail)", [head], 1),
        ("What this page does not show", LIMITS, 3),
    ]
    lines = []
    for title, paragraphs, most in sections:
        lines.append(title)
        for paragraph in paragraphs:
            lines += _wrapped(paragraph, most)
    return "\n".join(lines) + "\n"


def _entries(path: str | os.PathLike, count: int) -> Iterator[dict]:
    """As many as were verified: a break, or what a writer added meanwhile, is left out."""
    with suppress(LedgerError):
        for entry, _ in read(path):
            if entry["number"] > count:
                return
            yield entry


def _file(path: str | os.PathLike, state: Verification, found: Tally) -> Iterator[str]:
    yield f"File: {os.fspath(path)}"
    if state.whole:
        yield f"Chain: whole, {_count(state.entries, 'entry', 'entries')}, each follows from the one before."
    else:
        yield f"Chain: BROKEN. {state.problem}. This page covers the {state.entries} entries before the break only."
    if state.torn:
        yield (
            f"After the last entry are {state.torn:,} bytes of an entry that was not finished: a power cut, or one "
            "that is being written now."
        )
    yield f"Site: {_few(found.sites) if len(found.sites) > 1 else ''.join(found.sites) or 'none, no entries'}"
    if state.first and state.last:
        yield f"Period: {_time(state.first)} to {_time(state.last)} (UTC)"
    if found.clock:
        yield (
            f"The clock went back {_count(len(found.clock), 'time')}, by {max(found.clock):,} s at most: order and "
            "number of entries hold, their times do not."
        )


def _policies(found: Tally) -> Iterator[str]:
    if not found.policies:
        yield "None stated."
    if len(found.policies) > FEW:
        yield f"{len(found.policies) - FEW} earlier ones, and then:"
    for policy in found.policies[-FEW:]:
        dates = f"{_time(policy.first)} to {_time(policy.last)}"
        yield f"{policy.name}: {dates}, {_count(policy.releases, 'release')}. {_rules(policy.fields)}"
    if found.unruled:
        yield f"{_count(found.unruled, 'release')} before any policy was stated."


def _rules(fields: Mapping) -> str:
    """The fields of a policy in words: what is not limited is left out."""
    told = {name: value for name, value in fields.items() if value is not None and name != "name"}
    if "epsilon" not in told:
        for name in ("delta", "mechanism", "patients_per_update", "max_noise"):
            told.pop(name, None)
    elif told.get("mechanism") == GRADIENT_NOISE:
        told.pop("patients_per_update", None)
        told.pop("max_noise", None)
    words = RULES | ({"teacher": "a teacher's weights"} if told.get("mechanism") == DP_SGD else {})
    ordered = sorted(told, key=lambda name: (list(RULES).index(name) if name in RULES else len(RULES), name))
    return "; ".join(f"{words.get(name, name)}: {_value(told[name])}" for name in ordered)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _releases(found: Tally) -> Iterator[str]:
    kinds = ", ".join(f"{KINDS.get(kind, kind)} {count:,}" for kind, count in found.releases.most_common())
    yield f"{_count(found.releases.total(), 'release')}{': ' if kinds else ''}{kinds}"
    gradients = Counter(
        {
            f"of {'×'.join(map(str, shape)) or 'no stated shape'} ({dtype})": n
            for (shape, dtype), n in found.gradients.items()
        }
    )
    yield f"Image gradients: {_total(gradients)}"
    yield f"Losses (numbers of each step): {_few(found.losses) or 'none'}"
    yield f"Conditions (label maps): {_total(found.conditions)}"
    if found.taught:
        yield f"Teacher's images (predicted by networks that have not seen the patient): {found.taught:,}"
    if found.scored:
        said = f" over {_span(found.scored)} cases" if any(found.scored) else ""
        yield f"Scores: sums{said} of {_count(found.scored.total(), 'segmenter')}"
    if found.others:
        yield f"Other contents: {_total(found.others)}"
    unsized = f", and {_count(found.unsized, 'part')} of unstated size" if found.unsized else ""
    yield f"Size: {found.size:,} bytes ({found.size / 1e6:,.1f} MB){unsized}"
    if found.issued:
        ((sample, most),) = found.issued.most_common(1)
        yield (
            f"Samples: conditions of {_count(len(found.issued), 'sample')} were issued {found.issued.total():,} times "
            f"in all, most often of sample {sample}: {most:,} times."
        )
    else:
        yield "Samples: no entry says of which samples conditions were issued."


def _privacy(found: Tally) -> Iterator[str]:
    if found.last is None:
        yield "No differential privacy was used: no release states an epsilon."
        return
    value, delta = found.last
    if math.isinf(value):
        yield "Epsilon so far: infinite. That is no guarantee at all."
    else:
        stated = "not stated" if delta is None else delta
        yield f"Epsilon so far: {value:.4g} with delta {stated} (a smaller epsilon protects more)."
    if found.epsilons < found.releases.total():
        yield (
            f"{found.releases.total() - found.epsilons:,} of {found.releases.total():,} releases state no epsilon, and "
            "are not covered by it."
        )
    if found.anew:
        yield (
            f"The accounting began anew {_count(len(found.anew), 'time')}, last at entry {found.anew[-1]}: the epsilon "
            "above does not cover what was released before."
        )


def _refusals(found: Tally) -> Iterator[str]:
    if not found.refusals:
        yield "None."
    for reason, count in found.refusals.most_common(FEW):
        yield f"{count:,} × {reason}"
    if len(found.refusals) > FEW:
        rest = found.refusals.total() - sum(count for _, count in found.refusals.most_common(FEW))
        yield f"{rest:,} × {_count(len(found.refusals) - FEW, 'other reason')}"


def _total(counts: Counter) -> str:
    if len(counts) < 2:
        return _few(counts) or "none"
    return f"{counts.total():,}: {_few(counts)}"


def _span(counts: Counter) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _few(counts: Counter) -> str:
    """The most frequent of what was counted."""
    named = [f"{count:,} {name}" for name, count in counts.most_common(FEW)]
    left = len(counts) - FEW
    if left > 0:
        named.append(f"{counts.total() - sum(n for _, n in counts.most_common(FEW)):,} of {_count(left, 'other kind')}")
    return ", ".join(named)


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _time(text: str) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M}"


def _wrapped(paragraph: str, most: int) -> list[str]:
    """Indented, of so many lines at most; what others wrote may hold line breaks and signs that steer a terminal."""
    shown = "".join(sign if sign.isprintable() else " " for sign in paragraph)
    return textwrap.wrap(
        shown, WIDTH, initial_indent="  ", subsequent_indent="    ", max_lines=most, placeholder=" [...]"
    )
