"""What is checked of a message before anything is computed with it, at the server and at a site.

A codec says that a message has the fields of its type; here is what they must say. One bad number that gets through
stays in the weights for good, and at the server it comes from somebody else's machine.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from typing import Any, TypeVar

import torch

from bundle.wire.messages import (
    ConditionBatch,
    ConditionRequest,
    Message,
    OpenRequest,
    RoundReply,
    RoundRequest,
    ScoreRequest,
    Scores,
    SiteInfo,
    SiteReply,
    SyntheticBatch,
    TaughtBatch,
    TaughtWeights,
)

__all__ = [
    "LateReply",
    "Violation",
    "by",
    "check_addressee",
    "check_info",
    "check_released",
    "check_reply",
    "check_request",
    "check_round",
    "check_scores",
    "check_synthetic",
]

M = TypeVar("M", bound=Message)

MAX_LOSSES = 32
LOSS_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")  # becomes a part of TensorBoard's tags
WORD = re.compile(r"[A-Za-z0-9_.,()+ -]{0,300}")  # a nonce; a policy in words, which becomes a part of a table
MAX_BATCH = 2**16
MAX_STEP = 2**32  # positions of samples, MAX_BATCH a step, stay below 2^63
MAX_REQUEST = 1024  # conditions for generation of one request
MAX_VALUES = 2**20  # scores of single cases in one message
MAX_TEACHER_BYTES = 2**24  # of a teacher's weights: noise leaves of so many nothing to learn
MAX_LOSS = 1e30  # below what a float holds: weighted and summed it stays finite
TOLERANCE = 1e-3  # of the range [-1, 1]: a codec may round


class Violation(ValueError):
    """A message that says what none of its kind can say; the message of the error tells what."""


class LateReply(Violation):
    """A reply to an earlier step: nothing is wrong with it but its time."""


def check_info(
    info: Message, site: str, step: int, shape: Sequence[int | None] = (), max_batch_size: int = MAX_BATCH
) -> None:
    """
    Check what a site said when it was asked to take part.

    Args:
        info: the message.
        site: the site that was asked.
        step: the step that it was asked for.
        shape: X×H×W of the conditions that the generator takes, None for any length; empty for any shape.
        max_batch_size: largest B.

    Raises:
        Violation: when it is not a :class:`SiteInfo` of this site and step, with n_j >= 1 samples, trained to a step
            >= 0, a batch size B >= 1 and not too large, and conditions B×X×H×W uint8 of 0 and 1, or none.
    """
    info = _checked(info, SiteInfo, site)
    _check_whole(info.num_samples, "num_samples", 1)
    _check_whole(info.trained, "trained", 0)
    _check_whole(info.step, "step", 1)
    if info.step != step:
        raise Violation(f"it is for step {info.step}, not {step}")
    _check_whole(info.batch_size, "batch_size", 1)
    if info.batch_size > max_batch_size:
        raise Violation(f"batch_size is {info.batch_size}, expected at most {max_batch_size}")
    for what in ("nonce", "policy"):
        _check_word(getattr(info, what), what)
    if _is_empty(info.conditions):
        return
    _check_conditions(info.conditions)
    if len(info.conditions) != info.batch_size:
        raise Violation(f"{len(info.conditions)} conditions for a batch_size of {info.batch_size}")
    found = info.conditions.shape[1:]
    if any(expected not in (None, length) for expected, length in zip(shape, found, strict=False)):
        raise Violation(f"conditions of shape {by(found)}, expected {by(shape)}")


def check_reply(
    reply: Message, synthetic: SyntheticBatch, conditions: torch.Tensor, max_gradient_norm: float | None = None
) -> None:
    """
    Check what a site returned for a synthetic batch.

    Args:
        reply: the message.
        synthetic: what the site was sent.
        conditions: B×X×H×W uint8, what its images were made from.
        max_gradient_norm: what the L2 norm of one image's gradient may be at most; None for no bound.

    Raises:
        LateReply: when it answers an earlier step.
        Violation: when it is not a :class:`SiteReply` of this site and step; when its gradient has another shape or
            dtype than the images, is not finite or too large; when its losses are not up to 32 finite numbers by name
            with ``adversarial`` among them, or ``adversarial.1`` of folds, or none; when its conditions are not
            uint8 of 0 and 1 in the shape of those before, or none where the conditions were the server's own.
    """
    reply = _checked(reply, SiteReply, synthetic.site)
    _check_whole(reply.step, "step", 1)
    if reply.step < synthetic.step:
        raise LateReply(f"it answers step {reply.step}, not {synthetic.step}")
    if reply.step > synthetic.step:
        raise Violation(f"it answers step {reply.step}, which is yet to come after {synthetic.step}")
    _check_tensor(reply.image_gradient, "image gradient", synthetic.images.dtype, synthetic.images.shape)
    # in float64, where no sum of squares of finite float32 numbers overflows: not finite means that one of them is not
    largest = torch.linalg.vector_norm(reply.image_gradient.flatten(1), dim=1, dtype=torch.float64).max().item()
    if not math.isfinite(largest):
        raise Violation("image gradient that is not finite")
    if max_gradient_norm is not None and largest > max_gradient_norm:
        raise Violation(f"image gradient of norm {largest:.3g}, above {max_gradient_norm:g}")
    _check_losses(reply.losses)
    _check_word(reply.nonce, "nonce")
    if not (synthetic.conditions.numel() and _is_empty(reply.conditions)):
        _check_conditions(reply.conditions, conditions.shape)


def check_released(batch: Message, request: ConditionRequest, image_channels: int | None = None) -> None:
    """
    Check what a site released for generation.

    Args:
        batch: the message.
        request: what the site was asked for.
        image_channels: C of a teacher's images at most, for a site may lack modalities; None for any.

    Raises:
        Violation: when it is not a :class:`ConditionBatch` of this site from the same number on, with conditions
            B×X×H×W uint8 of 0 and 1, no more than were asked for, or with none; when, as a :class:`TaughtBatch`, it has
            not as many images B×C×H×W float32 of the same height and width, finite and in [-1, 1]; when, as a
            :class:`TaughtWeights`, it has conditions, or no bytes, or more than ``MAX_TEACHER_BYTES``: what they say
            :func:`bundle.wire.weights.unpack_weights` judges.
    """
    kinds = TaughtBatch, TaughtWeights
    batch = _checked(batch, next((kind for kind in kinds if isinstance(batch, kind)), ConditionBatch), request.site)
    _check_whole(batch.start, "start", 0)
    if batch.start != request.start:
        raise Violation(f"conditions from {batch.start} on, not {request.start}")
    conditions = batch.conditions
    if not isinstance(conditions, torch.Tensor) or conditions.dtype != torch.uint8:
        raise Violation("conditions: expected uint8")
    if isinstance(batch, TaughtWeights):
        _check_taught_weights(batch)
        return
    if not conditions.numel():
        if isinstance(batch, TaughtBatch):
            raise Violation("teacher's images without conditions")
        return
    if conditions.ndim != 4:
        raise Violation(f"conditions: expected B×X×H×W, got {tuple(conditions.shape)}")
    if len(conditions) > request.stop - request.start:
        raise Violation(f"{len(conditions)} conditions, asked for {request.stop - request.start}")
    _check_conditions(conditions)
    if isinstance(batch, TaughtBatch):
        _check_taught(batch.images, conditions, image_channels)


def check_request(request: Message, site: str) -> None:
    """
    Check what the server asks a site for, as far as that needs none of the site's data.

    Raises:
        Violation: when it is no :class:`OpenRequest`, :class:`SyntheticBatch`, :class:`ConditionRequest`,
            :class:`ScoreRequest` or :class:`RoundRequest` for this site; when its step or round is below 1; when it
            asks for conditions that cannot be, for none, or for more than ``MAX_REQUEST``.
    """
    if isinstance(request, ConditionRequest):
        _checked(request, ConditionRequest, site, "is for")
        _check_whole(request.start, "start", 0)
        _check_whole(request.stop, "stop", request.start + 1)
        if request.stop - request.start > MAX_REQUEST:
            raise Violation(f"{request.stop - request.start} conditions at once, expected at most {MAX_REQUEST}")
    elif isinstance(request, OpenRequest):
        _checked(request, OpenRequest, site, "is for")
        _check_whole(request.step, "step", 1)
    elif isinstance(request, ScoreRequest):
        _checked(request, ScoreRequest, site, "is for")
    elif isinstance(request, RoundRequest):
        _checked(request, RoundRequest, site, "is for")
        _check_whole(request.round, "round", 1)
    else:
        check_addressee(request, site)


def check_addressee(synthetic: Message, site: str) -> SyntheticBatch:
    """
    The part of :func:`check_synthetic` that needs none of the site's data. Returns the batch.

    Raises:
        Violation: when it is not a :class:`SyntheticBatch` for this site and a step >= 1.
    """
    synthetic = _checked(synthetic, SyntheticBatch, site, "is for")
    _check_whole(synthetic.step, "step", 1)
    return synthetic


def check_synthetic(synthetic: Message, site: str, shape: Sequence[int], public: Sequence[int] | None = None) -> None:
    """
    Check what the server sent to a site.

    Args:
        synthetic: the message.
        site: the site that received it.
        shape: B×C×H×W of the site's real images of that step.
        public: B×X×H×W of the conditions that have to be in it, where the site issues none; None where it does.

    Raises:
        Violation: when it is not a :class:`SyntheticBatch` for this site and a step >= 1, with float32 images of that
            shape, all finite and in [-1, 1], and with conditions, uint8 of 0 and 1, where the site issues none and only
            there.
    """
    synthetic = check_addressee(synthetic, site)
    _check_tensor(synthetic.images, f"step {synthetic.step}: synthetic images", torch.float32, shape)
    # a NaN is in no order: neither comparison may be turned round
    if not (synthetic.images.min() >= -1 - TOLERANCE and synthetic.images.max() <= 1 + TOLERANCE):
        low, high = synthetic.images.min().item(), synthetic.images.max().item()
        raise Violation(f"step {synthetic.step}: synthetic images from {low:.4g} to {high:.4g}, expected [-1, 1]")
    if public is not None:
        _check_conditions(synthetic.conditions, public)
    elif not _is_empty(synthetic.conditions):
        raise Violation(f"step {synthetic.step}: it has conditions of its own, and the site issued some")


def check_scores(scores: Message, site: str, weights: str, metrics: Collection[str]) -> None:
    """
    Check what a site said of a segmenter's scores.

    Args:
        scores: the message.
        site: the site that was asked.
        weights: digest of the weights that it was asked about.
        metrics: names of those that the evaluation has.

    Raises:
        Violation: when it is not a :class:`Scores` of this site and these weights; when it names a metric that there is
            not; when counts, sums and squares are not of the same metrics, a count is below 1, a number is not finite,
            or a sum is larger than its squares allow; when its values are neither empty nor float32 of a row for each
            metric.
    """
    scores = _checked(scores, Scores, site)
    if scores.weights != weights:
        raise Violation("scores of other weights than it was sent")
    if unknown := sorted(scores.counts.keys() - set(metrics)):
        raise Violation(f"an unknown metric: {unknown[0]!r:.80}, expected some of {', '.join(sorted(metrics))}")
    if not scores.counts.keys() == scores.sums.keys() == scores.squares.keys():
        raise Violation("counts, sums and squares are not of the same metrics")
    for name, count in scores.counts.items():
        _check_whole(count, f"{name}: count", 1)
        total, squares = scores.sums[name], scores.squares[name]
        if not (abs(total) < MAX_LOSS and 0 <= squares < MAX_LOSS):
            raise Violation(f"{name}: sum {total!r:.40} and squares {squares!r:.40}, expected finite numbers")
        # Cauchy and Schwarz, with room for the rounding of sums
        if total * total > count * squares * (1 + 1e-6) + 1e-12:
            raise Violation(f"{name}: a sum of {total:.6g} and squares of {squares:.6g} are not of {count} cases")
    values = scores.values
    if values.numel() and (values.dtype != torch.float32 or values.ndim != 2 or len(values) != len(scores.counts)):
        raise Violation(f"values: expected {len(scores.counts)} rows of float32, got {tuple(values.shape)}")
    for row, name in zip(values, sorted(scores.counts), strict=False):
        if int(torch.isfinite(row).sum()) != scores.counts[name]:
            raise Violation(f"{name}: the values of single cases are not as many as its count")


def check_round(reply: Message, request: RoundRequest) -> None:
    """
    Check what a site said after a round of federated averaging, but for its weights
    (:func:`bundle.wire.weights.unpack_weights`).

    Raises:
        Violation: when it is not a :class:`RoundReply` of this site and round, with n_j >= 1 samples and up to 32
            finite numbers by name, or none.
    """
    reply = _checked(reply, RoundReply, request.site)
    _check_whole(reply.round, "round", 1)
    if reply.round != request.round:
        raise Violation(f"it answers round {reply.round}, not {request.round}")
    _check_whole(reply.num_samples, "num_samples", 1)
    _check_losses({"adversarial": 0.0} | reply.losses)


def by(shape: Sequence[int | None]) -> str:
    """
    >>> by((2, 64, None))
    '2×64×any'
    """
    return "×".join("any" if length is None else str(length) for length in shape)


def _checked(message: object, expected: type[M], site: str, verb: str = "is of") -> M:
    """The message, when it is of this type and this site."""
    if not isinstance(message, expected) or type(message) is not expected:
        raise Violation(f"expected a {expected.__name__}, got a {type(message).__name__}")
    if message.site != site:
        raise Violation(f"the {expected.__name__} {verb} site {message.site!r}, not {site!r}")
    return message


def _check_whole(value: Any, what: str, least: int) -> None:
    # True is an int to Python
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise Violation(f"{what} is {value!r:.40}, expected a whole number of at least {least}")


def _check_tensor(value: Any, what: str, dtype: torch.dtype, shape: Sequence[int]) -> None:
    if not isinstance(value, torch.Tensor) or value.dtype != dtype or value.shape != torch.Size(shape):
        got = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"
        raise Violation(f"{what}: expected {dtype} of shape {tuple(shape)}, got {got}")


def _check_conditions(value: Any, shape: Sequence[int] | None = None) -> None:
    if shape is None:
        if not isinstance(value, torch.Tensor) or value.ndim != 4 or not value.numel():
            raise Violation("conditions: expected a B×X×H×W tensor that is not empty")
        shape = value.shape
    _check_tensor(value, "conditions", torch.uint8, shape)
    if value.max() > 1:
        raise Violation(f"conditions: expected 0 and 1, got {value.max().item()}")


def _check_taught(images: Any, conditions: torch.Tensor, channels: int | None) -> None:
    if isinstance(images, torch.Tensor) and images.ndim == 4 and images.numel():
        channels = images.shape[1] if channels is None else min(channels, images.shape[1])
    shape = (len(conditions), channels or 1, *conditions.shape[2:])
    _check_tensor(images, "teacher's images", torch.float32, shape)
    # a NaN is within no bounds; the site has rounded them itself: no tolerance
    if not (images.min() >= -1 and images.max() <= 1):
        low, high = images.min().item(), images.max().item()
        raise Violation(f"teacher's images from {low:.4g} to {high:.4g}, expected [-1, 1]")


def _check_taught_weights(batch: TaughtWeights) -> None:
    weights = batch.weights
    if batch.conditions.numel():
        raise Violation("a teacher's weights with conditions")
    if not isinstance(weights, torch.Tensor) or weights.dtype != torch.uint8 or weights.ndim != 1:
        raise Violation("teacher's weights: expected the bytes of a safetensors file")
    if not 0 < weights.numel() <= MAX_TEACHER_BYTES:
        raise Violation(f"teacher's weights of {weights.numel()} bytes, expected 1 to {MAX_TEACHER_BYTES}")


def _is_empty(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == torch.uint8 and not value.numel()


def _check_word(value: Any, what: str) -> None:
    if not isinstance(value, str) or not WORD.fullmatch(value):
        raise Violation(f"{what} is {value!r:.80}, expected up to 300 letters, digits, spaces and '_.,()+-'")


def _check_losses(losses: Any) -> None:
    if losses == {}:
        return
    adversarial = isinstance(losses, dict) and losses.keys() & {"adversarial", "adversarial.1"}
    if not adversarial or len(losses) > MAX_LOSSES:
        raise Violation(f"losses: expected up to {MAX_LOSSES} numbers by name, 'adversarial' among them")
    for name, value in losses.items():
        if not isinstance(name, str) or not LOSS_NAME.fullmatch(name):
            raise Violation(f"losses: {name!r:.40} is no name of a loss")
        # compared and not converted: an integer may have more digits than a float holds, and a NaN is below nothing
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < MAX_LOSS:
            raise Violation(f"losses: {name} is {value!r:.40}, expected a finite number")
