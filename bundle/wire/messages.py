"""The only types that cross the wall between the server and a site.

Everything that leaves a site, a *release*, is a field of :class:`SiteInfo`, :class:`SiteReply`,
:class:`ConditionBatch`, :class:`TaughtBatch`, :class:`TaughtWeights`, :class:`Scores`, :class:`RoundReply` or
:class:`Refusal`; everything that enters one is a field of :class:`OpenRequest`, :class:`SyntheticBatch`,
:class:`ConditionRequest`, :class:`ScoreRequest` or :class:`RoundRequest`.
A field is a tensor, a string, an integer or a dictionary of numbers by name: nothing that could carry more. One rule
holds for every string, whoever sends it: :func:`bundle.text.is_text`.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from bundle.text import MAX_TEXT, is_text

__all__ = [
    "MESSAGES",
    "ConditionBatch",
    "ConditionRequest",
    "Message",
    "OpenRequest",
    "Refusal",
    "RoundReply",
    "RoundRequest",
    "ScoreRequest",
    "Scores",
    "SiteInfo",
    "SiteReply",
    "SyntheticBatch",
    "TaughtBatch",
    "TaughtWeights",
    "check_fields",
]

_WORDS = {str: f"text of up to {MAX_TEXT} printable characters", int: "a whole number below 2**63"}


def _none() -> torch.Tensor:
    """No conditions."""
    return torch.empty(0, dtype=torch.uint8)


@dataclass(frozen=True)
class Message:
    """What every message says: the site it goes to or comes from."""

    site: str


@dataclass(frozen=True)
class SiteInfo(Message):
    """
    Site → server, when a training opens or resumes, or the site takes part again.

    Args:
        num_samples: n_j of the mixture weights π_j = n_j / Σ n_i, or what the site's release policy says in its place.
        step: the step, from 1, that ``conditions`` are for.
        conditions: B×X×H×W uint8, 0 or 1, the site's first batch of conditions x; empty where the site issues none and
            the server brings its own.
        trained: number of the last step that the site's discriminator has seen, 0 for none. ``step`` - 1 where nothing
            was missed; less where the site was away or went back to an older checkpoint of its own; ``step`` where it
            has done that step already and will return the reply it gave.
        batch_size: B, of the batches that the site takes.
        nonce: what the synthetic batch of ``step`` has to carry.
        policy: name of the site's release policy, for the record.
        modalities: names of the channels of its images, with commas between them, in the order of the task's; empty
            where the site has all. Its synthetic images and gradients have these channels.
    """

    num_samples: int
    step: int
    conditions: torch.Tensor
    trained: int
    batch_size: int = 1
    nonce: str = ""
    policy: str = ""
    modalities: str = ""


@dataclass(frozen=True)
class SyntheticBatch(Message):
    """
    Server → one site: ŷ = G(x) for the conditions that this site issued for this step, or for the server's own.

    Args:
        step: the step, from 1.
        images: B×C×H×W float32 in [-1, 1], of the modalities that the site has.
        nonce: of the message that asked for it: the site's ``SiteInfo`` or the reply to the step before.
        conditions: B×X×H×W uint8, 0 or 1, what the images are of, where the site issued none; empty otherwise.
    """

    step: int
    images: torch.Tensor
    nonce: str = ""
    conditions: torch.Tensor = field(default_factory=_none)


@dataclass(frozen=True)
class SiteReply(Message):
    """
    Site → server.

    Args:
        step: the step that is answered.
        image_gradient: B×C×H×W float32, ∂L_j/∂ŷ.
        losses: scalar losses of this step by name, ``adversarial`` among them; none where the site withholds them. Of a
            site with folds ``adversarial.1``, ``adversarial.2``, … alone: the mean over the images of each fold in the
            batch, by the order in which the folds appear in it, and nothing that mixes them.
        conditions: B×X×H×W uint8, 0 or 1, the conditions of step + 1, after the last step those of that step again;
            empty where the site issues none.
        nonce: what the synthetic batch of step + 1 has to carry; empty after the last step.
    """

    step: int
    image_gradient: torch.Tensor
    losses: dict[str, float]
    conditions: torch.Tensor
    nonce: str = ""


@dataclass(frozen=True)
class ConditionRequest(Message):
    """Server → site, for generation: conditions ``start`` to ``stop`` of the site's samples, in their order."""

    start: int
    stop: int


@dataclass(frozen=True)
class ConditionBatch(Message):
    """
    Site → server, for generation.

    Args:
        start: number of the first condition.
        conditions: B×X×H×W uint8; fewer than asked for where the next has another shape or the site's samples end,
            and none after the last.
    """

    start: int
    conditions: torch.Tensor


@dataclass(frozen=True)
class TaughtBatch(ConditionBatch):
    """
    Site → server, in the place of a :class:`ConditionBatch`, where the site's release policy has a teacher.

    Args:
        images: B×C×H×W float32 in [-1, 1], what networks that have not seen the patients of the conditions predict for
            them; float16 on its way, whatever the codec, and the site has rounded them to it.
    """

    images: torch.Tensor


@dataclass(frozen=True)
class TaughtWeights(ConditionBatch):
    """
    Site → server, in the place of a :class:`ConditionBatch`, where the site's release policy has a teacher and its
    updates got noise. There are no conditions in it, whatever was asked for.

    Args:
        weights: of the teacher, the bytes that :func:`bundle.wire.weights.pack_weights` makes of them.
    """

    weights: torch.Tensor


@dataclass(frozen=True)
class ScoreRequest(Message):
    """
    Server → site: score a segmenter on the site's own held-out cases.

    Args:
        weights: of the segmenter, the bytes that :func:`bundle.wire.weights.pack_weights` makes of them.
    """

    weights: torch.Tensor


@dataclass(frozen=True)
class Scores(Message):
    """
    Site → server: what its rules let out of a segmenter's scores.

    Args:
        weights: which ones were scored: :func:`bundle.wire.weights.packed_digest`.
        counts: by metric, how many held-out cases have a score; one that too few have is in none of the three.
        sums: of those cases' scores.
        squares: of those cases' squared scores.
        values: M×N float32, the scores of each case, metrics by name and cases in an order that is the same for every
            segmenter, NaN where a case has none; empty unless the site's owner lets single cases out. A case is not
            named.
    """

    weights: str
    counts: dict[str, int]
    sums: dict[str, float]
    squares: dict[str, float]
    values: torch.Tensor


@dataclass(frozen=True)
class RoundRequest(Message):
    """
    Server → site: train a segmenter on the site's own images for a round of federated averaging.

    Args:
        round: number of the round, from 1.
        weights: to begin with, packed (:func:`bundle.wire.weights.pack_weights`).
    """

    round: int
    weights: torch.Tensor


@dataclass(frozen=True)
class RoundReply(Message):
    """
    Site → server: the segmenter after the round.

    Args:
        round: that was asked for.
        weights: packed.
        num_samples: by which the site's weights count, or what its release policy says in its place.
        losses: ``loss``, the mean over the round's steps; none where the site withholds it.
    """

    round: int
    weights: torch.Tensor
    num_samples: int
    losses: dict[str, float]


@dataclass(frozen=True)
class OpenRequest(Message):
    """
    Server → site: take part from a step on. Behind a network; in one process the site is simply called.

    Args:
        step: the first step that the server is going to ask for, from 1.
    """

    step: int


@dataclass(frozen=True)
class Refusal(Message):
    """
    Site → server, in place of any answer. Behind a network; in one process the error itself is raised.

    Args:
        reason: in words that name nothing of the site's: no file, no case, no text of an error.
        final: whether the site will release nothing more in this training.
    """

    reason: str
    final: bool = False


MESSAGES: dict[str, type[Message]] = {
    cls.__name__: cls
    for cls in (
        *(OpenRequest, SiteInfo, SyntheticBatch, SiteReply, ConditionRequest, ConditionBatch),
        *(TaughtBatch, TaughtWeights, ScoreRequest, Scores, RoundRequest, RoundReply, Refusal),
    )
}
_HINTS: dict[type[Message], dict[str, Any]] = {}


def check_fields(cls: type[Message], values: Mapping[str, object]) -> None:
    """
    Raises:
        ValueError: when ``values`` lack a field of this type of message, have another, or one of another type, or text
            that may not cross.
    """
    expected = _hints(cls)
    if set(values) != set(expected):
        raise ValueError(f"{cls.__name__} has the fields {sorted(expected)}, not {sorted(values)}")
    for name, hint in expected.items():
        value = values[name]
        if not _fits(value, hint):
            got = f"{value!r:.80}" if isinstance(value, str | int | float) else f"a {type(value).__name__}"
            raise ValueError(f"{cls.__name__}.{name}: expected {_WORDS.get(hint, hint)}, got {got}")


def _hints(cls: type[Message]) -> dict[str, Any]:
    if cls not in _HINTS:
        _HINTS[cls] = typing.get_type_hints(cls)
    return _HINTS[cls]


def _fits(value: object, hint: Any) -> bool:
    if isinstance(hint, types.UnionType):
        return any(_fits(value, part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is dict:
        key, item = typing.get_args(hint)
        return isinstance(value, dict) and all(_fits(k, key) and _fits(v, item) for k, v in value.items())
    if hint is int:
        # seeds and counters take 64 bits
        return type(value) is int and abs(value) < 2**63
    if hint is float:
        return type(value) in (int, float)
    return is_text(value) if hint is str else isinstance(value, hint)
