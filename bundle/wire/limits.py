"""What a message from outside may hold at most: :class:`Limits`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bundle.wire.codec import MAX_HEADER_BYTES
from bundle.wire.guards import MAX_TEACHER_BYTES, MAX_VALUES, Violation, by
from bundle.wire.messages import (
    ConditionBatch,
    ConditionRequest,
    Message,
    OpenRequest,
    Refusal,
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

__all__ = ["Limits"]


class Limits:
    """
    What messages may hold, from what the training itself knows: for :meth:`bundle.wire.Codec.decode`, which
    compares before it asks for memory.

    A message is bounded in the bytes of its decoded tensors, by its type and by what was asked for. What shapes it may
    have :mod:`bundle.wire.guards` says.

    Args:
        image_shape: C×H×W of the images of a step; None where the training does not know.
        condition_shape: X×H×W of the conditions of a step, likewise.
        max_condition_size: largest height and width of a condition for generation, those of a step the smallest; None
            where all are as those of a step.
        max_batch_size: largest B of a site, likewise.
        max_message_bytes: what this participant takes at most in the tensors of any message.

    Raises:
        ValueError: when a shape or a number is none.
    """

    def __init__(
        self,
        image_shape: Sequence[int] | None = None,
        condition_shape: Sequence[int] | None = None,
        max_condition_size: int | None = None,
        max_batch_size: int | None = None,
        max_message_bytes: int = 2**28,
    ) -> None:
        for name, shape in {"image_shape": image_shape, "condition_shape": condition_shape}.items():
            if shape is not None and (len(shape) != 3 or not all(_is_whole(length, 1) for length in shape)):
                raise ValueError(f"{name}: expected channels, height and width, got {shape!r:.80}")
        for name, value in {"max_condition_size": max_condition_size, "max_batch_size": max_batch_size}.items():
            if value is not None and not _is_whole(value, 1):
                raise ValueError(f"{name}: expected a whole number of at least 1, got {value!r:.40}")
        if not _is_whole(max_message_bytes, MAX_HEADER_BYTES):
            raise ValueError(
                f"max_message_bytes: expected a whole number of at least {MAX_HEADER_BYTES}, "
                f"got {max_message_bytes!r:.40}"
            )
        self.image_shape = image_shape
        self.condition_shape = condition_shape
        self.max_condition_size = max_condition_size
        self.max_batch_size = max_batch_size
        self.max_message_bytes = max_message_bytes

    def requests(self, batch_size: int) -> dict[str, int]:
        """
        Bytes by type of what the server sends.

        Args:
            batch_size: B of the site that it sends to.

        Raises:
            ValueError: when B is more than the server takes, or a batch of it is more than this site takes.
        """
        if self.max_batch_size is not None and batch_size > self.max_batch_size:
            raise ValueError(f"batch_size: this training takes up to {self.max_batch_size} of a site, got {batch_size}")
        batch = self._bytes(4, batch_size, self.image_shape), self._bytes(1, batch_size, self.condition_shape)
        size = _total(batch)
        if size is not None and size > self.max_message_bytes:
            raise ValueError(
                f"max_message_bytes: a batch of {batch_size} images takes {size}, got {self.max_message_bytes}"
            )
        return self._limited({OpenRequest: [0], SyntheticBatch: batch, ConditionRequest: [0]})

    def of_segmenter(self, weights: int) -> dict[str, int]:
        """
        Bytes by type of what the server sends to a site that scores or averages segmenters.

        Args:
            weights: bytes of the segmenter's weights at most.

        Raises:
            ValueError: when they are more than this site takes.
        """
        if weights > self.max_message_bytes:
            raise ValueError(f"max_message_bytes: the weights take up to {weights}, got {self.max_message_bytes}")
        return self._limited({ScoreRequest: [weights], RoundRequest: [weights]})

    def answers(self, request: Message) -> dict[str, int]:
        """Bytes by type of what a site may answer to this."""
        if isinstance(request, ScoreRequest):
            return self._limited({Scores: [4 * MAX_VALUES], Refusal: [0]})
        if isinstance(request, RoundRequest):
            # the same network's, whose names and shapes take the same
            return self._limited({RoundReply: [request.weights.numel()], Refusal: [0]})
        if isinstance(request, OpenRequest):
            return self._limited({SiteInfo: [self._bytes(1, self.max_batch_size, self.condition_shape)], Refusal: [0]})
        if isinstance(request, SyntheticBatch):
            images = request.images
            parts = [4 * images.numel(), self._bytes(1, len(images), self.condition_shape)]
            return self._limited({SiteReply: parts, Refusal: [0]})
        if not isinstance(request, ConditionRequest):
            raise TypeError(f"expected a request of the server, got a {type(request).__name__}")
        count, largest = request.stop - request.start, self._largest()
        size = self._bytes(1, count, largest)
        images = None
        if self.image_shape is not None and largest is not None:
            images = self._bytes(4, count, (self.image_shape[0], *largest[1:]))
        return self._limited(
            {
                ConditionBatch: [size],
                TaughtBatch: [size, images],
                TaughtWeights: [MAX_TEACHER_BYTES],
                Refusal: [0],
            }
        )

    def check_size(self, batch: ConditionBatch) -> None:
        """
        Raises:
            Violation: when conditions for generation are smaller or larger than they may be, or of other channels.
        """
        smallest, largest, found = self.condition_shape, self._largest(), batch.conditions.shape[1:]
        if smallest is None or largest is None or not batch.conditions.numel():
            return
        if len(found) != 3 or not all(low <= n <= high for low, n, high in zip(smallest, found, largest, strict=True)):
            raise Violation(
                f"conditions of shape {by(found)}, expected {by(smallest)}"
                + (f" to {by(largest)} (max_condition_size)" if list(largest) != list(smallest) else "")
            )

    def _largest(self) -> Sequence[int] | None:
        """Shape of the largest condition for generation."""
        if self.condition_shape is None or self.max_condition_size is None:
            return self.condition_shape
        return self.condition_shape[0], self.max_condition_size, self.max_condition_size

    @staticmethod
    def _bytes(item: int, count: int | None, shape: Sequence[int] | None) -> int | None:
        return None if count is None or shape is None else item * count * math.prod(shape)

    def _limited(self, parts: dict[type[Message], Sequence[int | None]]) -> dict[str, int]:
        """What is not known may take as much as this participant takes of any message."""
        most = self.max_message_bytes
        totals = {kind.__name__: _total(sizes) for kind, sizes in parts.items()}
        return {kind: most if size is None else min(most, size) for kind, size in totals.items()}


def _total(sizes: Sequence[int | None]) -> int | None:
    """None as soon as one of them is not known."""
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
