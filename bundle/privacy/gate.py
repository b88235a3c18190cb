"""The one way out of a site: what its release policy lets through, written down before it leaves."""

from __future__ import annotations

import logging
import math
import os
import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from bundle.privacy.accountant import calibrate, epsilon
from bundle.privacy.digests import tensor_digest
from bundle.privacy.ledger import ReleaseLedger
from bundle.privacy.noise import privatize
from bundle.privacy.policy import ReleasePolicy
from bundle.privacy.refusal import ReleaseRefused

__all__ = ["ReleaseGate"]

logger = logging.getLogger(__name__)


class ReleaseGate:
    """
    Holds a site to its :class:`ReleasePolicy`, and keeps its :class:`ReleaseLedger`.

    What is counted (how often a sample was issued, how many image gradients were returned, what of ε they took) is
    counted from the ledger: it goes on where the ledger ends, whichever training wrote it. Without a ledger it is
    counted in memory and forgotten with the object.

    Every entry is on disk before what it tells of leaves the site. A ledger that cannot be written stops the releases.

    Args:
        policy: what may leave.
        site: name of the site.
        ledger: file of the ledger, opened at the first release; None for none.
        training: what the ledger calls the training, in words.
        source: of noise, a callable from a number of bytes to bytes; only tests give another than the system's.
    """

    def __init__(
        self,
        policy: ReleasePolicy,
        site: str,
        ledger: str | os.PathLike | None = None,
        training: str = "",
        source: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.policy = policy
        self.site = site
        self.training = training
        self._path = ledger
        self._ledger: ReleaseLedger | None = None
        self._source = source
        self._issued: Counter[str] = Counter()
        self._releases = 0
        # Σ 1/σ² of all releases so far: Gaussian mechanisms compose to one with σ = 1/√Σ
        self._spent = 0.0
        self._allowed: float | None = None  # Σ 1/σ² that ε and δ allow
        self._unprotected = False  # whether the ledger has an image gradient without noise
        self._steps = 0
        self._noise_multiplier = 0.0
        self._nonce: tuple[int, str] | None = None
        self._unwritten: list[str] = []  # samples whose issue is in no entry yet
        self._answers: set[str] = set()  # digests of the answers that left: the same bytes again are no new release

    @property
    def releases(self) -> int:
        """Image gradients of a batch returned so far."""
        return self._releases

    @property
    def epsilon(self) -> float | None:
        """ε so far, at the policy's δ; None without differential privacy."""
        if not self.policy.private:
            return None
        if self._unprotected:
            return math.inf
        return epsilon(1 / math.sqrt(self._spent), 1, self.policy.delta) if self._spent else 0.0

    def plan(self, steps: int | None, terms: Sequence[str]) -> None:
        """
        Before a training: refuse what could not be released to its end. The noise is such that its releases take what
        is left of ε.

        Args:
            steps: of the training; None where that is not known.
            terms: of the loss whose gradient the training wants.

        Raises:
            ReleaseRefused: when the policy returns no gradient of such a term, or fewer of them than the training
                needs.
        """
        try:
            self._check_plan(steps, terms)
        except ReleaseRefused:
            # whoever tries again has a gate of his own
            self.close()
            raise
        self._steps = 0 if steps is None else steps

    def _check_plan(self, steps: int | None, terms: Sequence[str]) -> None:
        if forbidden := self.policy.forbidden(terms):
            keys = ", ".join(f"{term}_weight" for term in forbidden)
            self.refuse(
                f"its release policy, {self.policy.name}, returns no gradient of {', '.join(forbidden)}, and the "
                f"training's loss has it: set {keys} to 0, or have the site's owner choose another policy "
                "(docs/privacy.md)"
            )
        if steps is not None and self.policy.max_releases is not None and steps > self.policy.max_releases:
            self.refuse(f"{steps} steps, its release policy allows {self.policy.max_releases} (max_releases)")

    def issue(self, step: int, samples: Sequence[str]) -> str:
        """
        Let the conditions of a step out.

        Args:
            step: the step.
            samples: what they are of, in words that stay the same; none where the conditions are the server's own.

        Returns:
            The nonce that the synthetic batch made from them has to carry: the same one as long as it has not been
            answered.

        Raises:
            ReleaseRefused: when one of the samples was issued as often as it may be.
        """
        self._open()
        if self._nonce is not None and self._nonce[0] == step:
            return self._nonce[1]
        if self.policy.max_issues is not None:
            for sample, count in Counter(samples).items():
                if self._issued[sample] + count > self.policy.max_issues:
                    self.refuse(
                        f"a condition was issued {self._issued[sample]} times, its release policy allows "
                        f"{self.policy.max_issues} (max_issues)",
                        final=True,
                    )
        self._issued.update(samples)
        self._unwritten = list(samples)
        self._nonce = step, secrets.token_hex(8)
        return self._nonce[1]

    def redeem(self, step: int, nonce: str) -> None:
        """
        Take the nonce of a synthetic batch.

        Raises:
            ReleaseRefused: when it is not that of the conditions issued last, or was answered; when there is no budget
                for another image gradient.
        """
        self._open()
        if self.policy.nonces and self._nonce != (step, nonce):
            self.refuse(f"step {step}: the batch is for no conditions that are waiting for one (nonce)")
        if self.policy.max_releases is not None and self._releases >= self.policy.max_releases:
            self.refuse(f"its {self.policy.max_releases} releases are used up (max_releases)", final=True)
        if self._bounded:
            self._calibrate(step)
        self._nonce = None

    def gradient(self, gradient: torch.Tensor) -> tuple[torch.Tensor, float]:
        """
        What is returned in place of the image gradient B×C×H×W float32: itself, or clipped and with noise; and the
        noise multiplier, for :meth:`record`.
        """
        if not self.policy.private:
            return gradient, 0.0
        noise = self._noise_multiplier if self._bounded else 0.0
        if not torch.isfinite(gradient).all():
            logger.warning("site %s: an image gradient is not finite, zeros are clipped in its place", self.site)
        return privatize(gradient, self.policy.clip_norm, noise, self._source), noise

    def losses(self, losses: Mapping[str, float]) -> dict[str, float]:
        """What is returned of the losses."""
        return dict(losses) if self.policy.scalar_losses else {}

    def num_samples(self, exact: int) -> int:
        """What is said of n_j."""
        if self.policy.num_samples == "exact":
            return exact
        if self.policy.num_samples == "rounded":
            return _round_down(exact)
        return self.policy.num_samples

    def record(
        self,
        kind: str,
        tensors: Mapping[str, torch.Tensor],
        losses: Mapping[str, float] | None = None,
        noise: float = 0.0,
        **about: Any,
    ) -> None:
        """
        Write down what is about to leave. A ``reply`` counts from then on, whether or not it arrives; one that left
        before, byte for byte, is a ``repeated reply`` and does not count again.

        Args:
            kind: ``open``, ``reply`` or ``conditions``.
            tensors: by what they are: ``image gradient``, ``conditions``.
            losses: scalar losses, if any.
            noise: noise multiplier of the image gradient.
            about: what else is in it, plain values.

        Raises:
            ReleaseRefused: for a reply whose noise is too little for what is left of ε.
            OSError: when the ledger cannot be written.
        """
        self._open()
        held = {what: tensor for what, tensor in tensors.items() if tensor.numel()}
        losses = dict(losses or {})
        parts = [
            {
                "what": what,
                "shape": list(tensor.shape),
                "dtype": str(tensor.dtype).removeprefix("torch."),
                "bytes": tensor.numel() * tensor.element_size(),
            }
            | ({"origin": self.policy.conditions} if what == "conditions" else {})
            for what, tensor in held.items()
        ]
        if losses:
            parts.append({"what": "losses", "names": sorted(losses), "bytes": 8 * len(losses)})
        before = self._releases, self._spent, self._unprotected
        answer = ""
        if kind == "reply":
            answer = tensor_digest(*(tensor for what, tensor in held.items() if what != "conditions"), losses)
            kind = "repeated reply" if answer in self._answers else kind
        if kind == "reply":
            if self._bounded and not (noise and 1 / noise**2 <= self._left() + self._budget() * 1e-9):
                self.refuse("an answer that was kept has less noise than what is left of epsilon asks for", final=True)
            self._count(noise)
            about |= {"answer": answer} | ({"noise_multiplier": noise} if self.policy.private else {})
        if self.policy.private:
            about |= {"epsilon": _plain(self.epsilon), "delta": self.policy.delta}
        if self._unwritten:
            about["samples"] = self._unwritten
        about |= {"parts": parts, "digest": tensor_digest(*held.values(), losses), "policy": self.policy.name}
        try:
            self._write(kind, **about)
        except OSError:
            # it does not leave then
            self._releases, self._spent, self._unprotected = before
            raise
        self._unwritten = []
        if kind == "reply":
            self._answers.add(answer)

    def _count(self, noise: float) -> None:
        self._releases += 1
        if noise:
            self._spent += 1 / noise**2
        else:
            self._unprotected = True

    def refuse(self, reason: str, final: bool = False) -> None:
        """
        Raises:
            ReleaseRefused: always, after it was logged and written down.
        """
        self.note_refusal(reason)
        raise ReleaseRefused(reason, final)

    def note_refusal(self, reason: str) -> None:
        """Log that something was refused, and write it down."""
        logger.error("site %s refuses: %s", self.site, reason)
        self._open()
        self._write("refusal", reason=reason, policy=self.policy.name)

    def note_failure(self, step: int) -> None:
        """
        Write down that a step, once its nonce was taken, got no answer. That there is none may depend on the data: it
        takes of ε what the answer would have taken.
        """
        about: dict[str, Any] = {}
        if self._bounded:
            self._spent += 1 / self._noise_multiplier**2
            about = {"noise_multiplier": self._noise_multiplier, "epsilon": _plain(self.epsilon)}
        logger.error("site %s: step %d failed and is not answered", self.site, step)
        self._write("refusal", reason="the step failed at the site", step=step, policy=self.policy.name, **about)

    def close(self) -> None:
        """Let go of the ledger's file; it is opened again when there is something to write."""
        if self._ledger is not None:
            self._ledger.close()
        self._ledger = None

    def _open(self) -> None:
        if self._ledger is not None or self._path is None:
            return
        self._ledger = ReleaseLedger(self._path, self.site)
        # what was counted so far is in it
        self._issued, self._releases, self._spent, self._unprotected = Counter(), 0, 0.0, False
        self._answers = set()
        for entry in self._ledger.entries():
            self._issued.update(entry.get("samples", ()))
            noise = entry.get("noise_multiplier", 0.0)
            if entry["kind"] == "reply":
                self._count(noise)
                self._answers.add(entry.get("answer", ""))
            elif noise:  # a step that failed
                self._spent += 1 / noise**2
        about = {"policy": self.policy.name, "policy_fields": self.policy.to_dict(), "training": self.training}
        self._write("start", **about)

    def _write(self, kind: str, **about: Any) -> None:
        if self._ledger is not None:
            self._ledger.append(kind, **about)

    @property
    def _bounded(self) -> bool:
        return self.policy.private and self.policy.epsilon < math.inf

    def _calibrate(self, step: int) -> None:
        """
        Noise with which this step and those that are left of the training take what is left of ε. It stays the same
        from step to step; after steps that had to be done twice it is a little more.
        """
        if self._unprotected:
            self.refuse(
                "its ledger has image gradients that were released without noise: no finite epsilon holds any more",
                final=True,
            )
        if not self._steps:
            raise RuntimeError(f"site {self.site}: a finite epsilon needs plan() before the first release")
        left = self._left()
        # rounding: the last release planned ends at the budget, not exactly on it
        if left <= self._budget() * 1e-9:
            self.refuse(
                f"its privacy budget is spent: epsilon {self.epsilon:.4g} of {self.policy.epsilon:g}", final=True
            )
        self._noise_multiplier = math.sqrt(max(self._steps - step + 1, 1) / left)

    def _budget(self) -> float:
        """Σ 1/σ² that ε and δ allow: of all releases together, a filter on adaptively chosen noise."""
        if self._allowed is None:
            self._allowed = 1 / calibrate(self.policy.epsilon, self.policy.delta, 1) ** 2
        return self._allowed

    def _left(self) -> float:
        return self._budget() - self._spent


def _round_down(count: int) -> int:
    size = 10 ** (len(str(count)) - 1)
    return count // size * size


def _plain(value: float | None) -> float | str | None:
    return "inf" if value == math.inf else value
