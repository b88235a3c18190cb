"""A site behind MONAI's own federated interface: whoever hosts a ``monai.fl.client.ClientAlgo`` can host a site.

MONAI's interface is made for weights that are averaged. Here it carries the messages of
:mod:`bundle.wire.messages` instead, one :class:`monai.fl.utils.exchange_object.ExchangeObject` each, field by
field and nothing else:

==================  ===================================================================================
``weights``         the tensors, as NumPy arrays by name of the field
``metrics``         the losses
``statistics``      all other fields: ``site`` and numbers
``weight_type``     ``WEIGHTS`` where there are arrays: they are whole, and nothing to add to anything
==================  ===================================================================================

``examples/monai_fl/train.py`` trains so, in one file. A platform that averages, clips or filters weights by itself must
leave these alone: they are a site's own, and the server weights them (:func:`bundle.server.mixture.mixture_weights`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
import torch
from monai.fl.client import ClientAlgo
from monai.fl.utils.constants import ExtraItems, WeightType
from monai.fl.utils.exchange_object import ExchangeObject

from bundle.site.release import ReleaseRefused
from bundle.site.site import Site
from bundle.wire.messages import MESSAGES, ConditionRequest, Message, SyntheticBatch, check_fields

__all__ = ["SiteAlgo", "SiteRefusal", "from_exchange", "to_exchange"]

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)


class SiteRefusal(RuntimeError):
    """
    A site did not do what it was asked. Why is in its own log, for the text could name files and patients; what its
    release policy forbids is said in words that name nothing.
    """


def to_exchange(message: Message) -> ExchangeObject:
    """
    The message as an ExchangeObject of its own: arrays are copies, float32 or uint8.

    Raises:
        TypeError: for anything but a message.
    """
    if MESSAGES.get(type(message).__name__) is not type(message):
        raise TypeError(f"only messages cross ({', '.join(MESSAGES)}), not {type(message).__name__}")
    values = {field.name: getattr(message, field.name) for field in fields(message)}
    tensors = {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
    losses = {name: value for name, value in values.items() if isinstance(value, dict)}
    return ExchangeObject(
        weights={name: tensor.detach().cpu().numpy().copy() for name, tensor in tensors.items()} or None,
        metrics=dict(losses["losses"]) if losses else None,
        weight_type=WeightType.WEIGHTS if tensors else None,
        statistics={name: value for name, value in values.items() if name not in tensors | losses},
    )


def from_exchange(exchange: Any, kind: type[M]) -> M:
    """
    The inverse of :func:`to_exchange`. Names and types are checked; :mod:`bundle.wire.guards` judges what a
    message says, here as after a codec.

    Args:
        exchange: what a platform delivered; arrays may be NumPy's or tensors, of any device.
        kind: type of the message that is expected.

    Raises:
        ValueError: when it is no ExchangeObject, its weights are differences, or its fields are not those of ``kind``.
    """
    if not isinstance(exchange, ExchangeObject):
        raise ValueError(f"expected an ExchangeObject, got a {type(exchange).__name__}")
    if exchange.weight_type == WeightType.WEIGHT_DIFF:
        raise ValueError("expected weights as they are, got differences")
    values = {name: _plain(value) for name, value in (exchange.statistics or {}).items()}
    parts = [exchange.weights or {}, {} if exchange.metrics is None else {"losses": dict(exchange.metrics)}]
    for part in parts:
        if not isinstance(part, Mapping) or part.keys() & values.keys():
            raise ValueError(f"{kind.__name__}: weights that are no dictionary, or a field twice")
        values |= {name: _plain(value) for name, value in part.items()}
    check_fields(kind, values)
    return kind(**values)


class SiteAlgo(ClientAlgo):
    """
    One site as MONAI's federated platforms call it. :meth:`train` returns nothing, by MONAI's contract: what the site
    says is fetched by :meth:`get_weights` after each of the calls.

    ====================================  ===========================  ==========================
    call                                  takes                        :meth:`get_weights` returns
    ====================================  ===========================  ==========================
    ``initialize({"step": s})``           the first step to take part  ``SiteInfo``
    ``train(data)``                       ``SyntheticBatch``           ``SiteReply``
    ``get_weights({"start", "stop"})``    places of conditions         ``ConditionBatch``; with a
                                                                       teacher ``TaughtBatch`` or
                                                                       ``TaughtWeights``
    ====================================  ===========================  ==========================

    What :func:`to_exchange` makes of these messages is what goes in and out, so a step is::

        algo.train(to_exchange(SyntheticBatch("CS", 7, images)))
        reply = from_exchange(algo.get_weights(), SiteReply)

    The site checks what it is sent as it does anywhere, and does a step once, however often it is asked. Neither
    ``evaluate`` nor ``get_data_stats`` is there: a site holds no generator to evaluate, and releases no statistics of
    its images beyond n_j.

    Args:
        site: the site; made from the configs of a training, it is ``workflow.make("sites")``'s only one.

    Every method raises :class:`SiteRefusal` when the site cannot do what it was asked.
    """

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.site = site
        self._answer: Message | None = None

    def initialize(self, extra: dict | None = None) -> None:
        """
        Take part from a step on. At the start of a training, and again whenever its server went back or the site was
        away.

        Args:
            extra: ``step``, from 1 and 1 by default; ``ExtraItems.CLIENT_NAME``, where the platform gives it, has to be
                the site's name.
        """
        extra = extra or {}
        self._answer = None
        name = extra.get(ExtraItems.CLIENT_NAME, self.site.name)
        if name != self.site.name:
            raise SiteRefusal(f"here is site {self.site.name}, not {name!r:.80}")
        self._answer = self._do("initialize", lambda: self.site.open(_whole(extra.get("step", 1))))

    def train(self, data: ExchangeObject, extra: dict | None = None) -> None:
        """
        One step: :meth:`bundle.site.Site.step`.

        Args:
            data: a :class:`SyntheticBatch`: weights ``{"images": B×C×H×W float32 in [-1, 1], "conditions": …}``,
                statistics ``{"site": name, "step": s, "nonce": that of the answer before}``.
            extra: not used.
        """
        # the reply to the step before must not pass for that of a step that failed
        self._answer = None
        self._answer = self._do("train", lambda: self.site.step(from_exchange(data, SyntheticBatch)))

    def get_weights(self, extra: dict | None = None) -> ExchangeObject:
        """
        What the site says to the call before; asked again, the same again. With ``start`` and ``stop`` in ``extra``,
        conditions for generation instead, of the site's samples from ``start`` on.

        Returns:
            After :meth:`initialize`: weights ``{"conditions": B×X×H×W uint8}``, statistics ``{"site", "num_samples",
            "step", "trained", "batch_size", "nonce", "policy", "modalities"}``. After :meth:`train`: weights
            ``{"image_gradient": B×C×H×W float32, "conditions": B×X×H×W uint8}``, metrics: the losses, statistics
            ``{"site", "step", "nonce"}``. Conditions for generation: weights ``{"conditions": …}``, with a teacher also
            ``"images"``, or ``"weights"``; statistics ``{"site", "start"}``.
        """
        if extra and {"start", "stop"} <= extra.keys():
            return to_exchange(self._do("get_weights", lambda: self._conditions(extra["start"], extra["stop"])))
        if self._answer is None:
            raise SiteRefusal(f"site {self.site.name} has nothing to say: the call before failed, or there was none")
        return to_exchange(self._answer)

    def abort(self, extra: dict | None = None) -> None:
        """Nothing is under way between two calls."""
        self._answer = None

    def finalize(self, extra: dict | None = None) -> None:
        """The site keeps checkpoints of its own, if it was made with a store: nothing is left to be written."""
        self._answer = None

    def _conditions(self, start: Any, stop: Any) -> Message:
        return self.site.conditions(ConditionRequest(self.site.name, _whole(start), _whole(stop)))

    def _do(self, name: str, call: Callable[[], Message]) -> Message:
        try:
            return call()
        except ReleaseRefused as error:
            reason = error.sent
        except Exception:
            logger.exception("site %s: %s was refused", self.site.name, name)
            reason = "see the site's log"
        # outside of the handler: a platform may send a chain of errors with all their texts
        raise SiteRefusal(f"site {self.site.name}: {name} was refused, {reason}")


def _whole(value: Any) -> int:
    value = _plain(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"expected a whole number, got {value!r:.40}")
    return value


def _plain(value: Any) -> Any:
    """Arrays as tensors of their own, numbers as Python's; anything else as it is, for the guards to find."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "fu":
        return torch.from_numpy(value.copy())
    return value.detach().cpu() if isinstance(value, torch.Tensor) else value
