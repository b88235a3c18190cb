"""The one way out of a site: what its release policy lets through, written down before it leaves."""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakSet

import torch

from bundle.site.release.budget import Budget
from bundle.site.release.chain import LedgerError
from bundle.site.release.digests import tensor_digest
from bundle.site.release.ledger import ReleaseLedger
from bundle.site.release.noise import privatize
from bundle.site.release.policy import ReleasePolicy
from bundle.site.release.refusal import ReleaseRefused
from bundle.site.release.refusal_count import Refusals
from bundle.site.release.released import Released, parts
from bundle.site.release.secret import commitment, site_secret

__all__ = ["ReleaseGate"]

logger = logging.getLogger(__name__)


class ReleaseGate:
    """
    Holds a site to its :class:`ReleasePolicy`, and keeps its :class:`ReleaseLedger`.

    What is counted (how often a sample was issued, how many image gradients were returned, what of ε they took) is
    counted from the ledger: it goes on where the ledger ends, whichever training wrote it. Without a ledger it is
    counted in memory and forgotten with the object.

    Every entry is on disk before what it tells of leaves the site. A ledger that cannot be written stops the releases.
    Of refusals, nothing leaves but words: they are added up (:class:`bundle.site.release.refusal_count.Refusals`).

    Args:
        policy: what may leave.
        site: name of the site.
        ledger: file of the ledger, opened at the first release; None for none. The site's secret lies beside it, in
            a file of the same name that ends in ``.secret``.
        training: what the ledger calls the training, in words.
        source: of noise, a callable from a number of bytes to bytes; only tests give another than the system's.
        secret: the site's, in the place of the one beside the ledger; None for that.
    """

    def __init__(
        self,
        policy: ReleasePolicy,
        site: str,
        ledger: str | os.PathLike | None = None,
        training: str = "",
        source: Callable[[int], bytes] = os.urandom,
        secret: int | None = None,
    ) -> None:
        self.policy = policy
        self.site = site
        self.training = training
        self._path = None if ledger is None else Path(ledger)
        self._ledger: ReleaseLedger | None = None
        self._secret = secret
        self._source = source
        self._released = Released(Budget(policy))
        self._steps = 0
        self._noise_multiplier = 0.0
        self._nonce: tuple[int, str] | None = None
        self._unwritten: list[str] = []  # samples whose issue is in no entry yet
        self._refusals = Refusals()
        _gates.add(self)

    @property
    def releases(self) -> int:
        """Image gradients of a batch returned so far."""
        return self._released.releases

    @property
    def epsilon(self) -> float | None:
        """ε so far, at the policy's δ; None without differential privacy."""
        return self._released.budget.epsilon

    @property
    def refused(self) -> int:
        """How many requests this object refused."""
        return self._refusals.total

    @property
    def secret(self) -> int:
        """
        What nobody but this site knows, the same in all its trainings.

        Raises:
            LedgerError: when the file that keeps it is damaged.
        """
        if self._secret is None:
            self._secret = site_secret(None if self._path is None else self._path.with_suffix(".secret"))
        return self._secret

    def is_past_the_end(self, step: int) -> bool:
        """Whether the training that was planned ends before this step."""
        return 0 < self._steps < step

    def plan(self, steps: int | None, terms: Sequence[str], issues: int = 0) -> None:
        """
        Before a training: refuse what could not be released to its end. The noise is such that its releases take what
        is left of ε.

        Args:
            steps: of the training; None where that is not known.
            terms: of the loss whose gradient the training wants.
            issues: how often the training issues the sample that it issues most often.

        Raises:
            ReleaseRefused: when the policy returns no gradient of such a term, or fewer of them than the training
                needs.
        """
        if objection := self.policy.objection(steps, terms, issues):
            try:
                self.refuse("a training that the policy forbids", objection)
            finally:
                # whoever tries again has a gate of his own
                self.close()
        self._steps = 0 if steps is None else steps

    def check_step(self, step: int) -> None:
        """
        Raises:
            ReleaseRefused: when the training has no such step.
        """
        if self.is_past_the_end(step):
            self.refuse("a step past the end", f"step {step}: the training ends with step {self._steps} (num_steps)")

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
        self._count_issues(samples, final=True)
        self._nonce = step, secrets.token_hex(8)
        return self._nonce[1]

    def deliver(self, samples: Sequence[str]) -> None:
        """
        Let conditions out to generate from: they count as those of a step do.

        Raises:
            ReleaseRefused: when one of the samples was issued as often as it may be.
        """
        self._open()
        self._count_issues(samples, final=False)

    def _count_issues(self, samples: Sequence[str], final: bool) -> None:
        if self.policy.max_issues is not None:
            for sample, count in Counter(samples).items():
                if self._released.issued[sample] + count > self.policy.max_issues:
                    self.refuse(
                        "a condition too often",
                        f"a condition was issued {self._released.issued[sample]} times, its release policy allows "
                        f"{self.policy.max_issues} (max_issues)",
                        final,
                    )
        self._released.issued.update(samples)
        self._unwritten += samples

    def redeem(self, step: int, nonce: str) -> None:
        """
        Take the nonce of a synthetic batch.

        Raises:
            ReleaseRefused: when it is not that of the conditions issued last, or was answered; when there is no budget
                for another image gradient.
        """
        self._open()
        if self.policy.nonces and self._nonce != (step, nonce):
            self.refuse(
                "a batch for no conditions",
                f"step {step}: the batch is for no conditions that are waiting for one (nonce)",
            )
        if self.policy.max_releases is not None and self._released.releases >= self.policy.max_releases:
            self.refuse(
                "a release too many", f"its {self.policy.max_releases} releases are used up (max_releases)", final=True
            )
        if self._released.budget.bounded:
            self._calibrate(step)
        self._nonce = None

    def gradient(self, gradient: torch.Tensor) -> tuple[torch.Tensor, float]:
        """
        What is returned in place of the image gradient B×C×H×W float32: itself, or clipped and with noise; and the
        noise multiplier, for :meth:`record`.
        """
        if not self.policy.private:
            return gradient, 0.0
        noise = self._noise_multiplier if self._released.budget.bounded else 0.0
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
        released = self._released
        before = released.releases, released.budget.spent, released.budget.unprotected
        answer = ""
        if kind == "reply":
            answer = tensor_digest(*(tensor for what, tensor in held.items() if what != "conditions"), losses)
            kind = "repeated reply" if answer in released.answers else kind
        if kind == "reply":
            if released.budget.bounded and not released.budget.covers(noise):
                self.refuse(
                    "epsilon is spent",
                    "an answer that was kept has less noise than what is left of epsilon asks for",
                    final=True,
                )
            released.releases += 1
            released.budget.take(noise)
            about |= {"answer": answer} | ({"noise_multiplier": noise} if self.policy.private else {})
        if self.policy.private:
            about |= {"epsilon": self.epsilon, "delta": self.policy.delta}
        if self._unwritten:
            about["samples"] = self._unwritten
        about["parts"] = parts(held, losses, self.policy.conditions)
        try:
            self._write(kind, digest=tensor_digest(*held.values(), losses), **about)
        except (OSError, LedgerError):
            # it does not leave then
            released.releases, released.budget.spent, released.budget.unprotected = before
            raise
        self._unwritten = []
        if kind == "reply":
            released.answers.add(answer)
        self._refusals.write_due(self._write)

    def refuse(self, reason: str, words: str, final: bool = False) -> None:
        """
        Args:
            reason: the kind of refusal, one of few; the ledger counts by it.
            words: for the one who asked; they name nothing of the site's data.
            final: whether the site will release nothing more in this training.

        Raises:
            ReleaseRefused: always, after it was logged and counted.
        """
        self.note_refusal(reason, words)
        raise ReleaseRefused(words, final)

    def note_refusal(self, reason: str, words: str) -> None:
        """Log that something was refused, and count it: see :meth:`refuse`."""
        logger.error("site %s refuses: %s", self.site, words)
        self._refusals.add(reason, words, self._write)

    def note_failure(self, step: int) -> None:
        """
        Write down that a step, once its nonce was taken, got no answer. That there is none may depend on the data: it
        takes of ε what the answer would have taken.
        """
        about: dict[str, Any] = {}
        if self._released.budget.bounded:
            self._released.budget.take(self._noise_multiplier)
            about = {"noise_multiplier": self._noise_multiplier, "epsilon": self.epsilon}
        logger.error("site %s: step %d failed and is not answered", self.site, step)
        self._refusals.total += 1
        self._write("refusal", reason="the step failed at the site", count=1, step=step, **about)

    def close(self) -> None:
        """Write what refusals wait, and let go of the ledger's file; it is opened again when there is something."""
        self._refusals.flush(self._write)
        if self._ledger is not None:
            self._ledger.close()
        self._ledger = None

    def __del__(self) -> None:
        if hasattr(self, "_refusals") and not sys.is_finalizing():
            self.close()

    def _open(self) -> None:
        if self._ledger is not None or self._path is None:
            return
        ledger = ReleaseLedger(self._path, self.site)
        try:
            # what was counted so far is in it
            self._released = Released.of(ledger.entries(), self.policy)
            about = {"policy_fields": self.policy.to_dict(), "training": self.training} | self._commit()
        except BaseException:
            ledger.close()
            raise
        self._released.issued.update(self._unwritten)
        self._ledger = ledger
        self._write("start", **about)

    def _commit(self) -> dict[str, str]:
        """What tells this site's secret from others, where label maps are deformed by it."""
        if self.policy.conditions != "deformed":
            return {}
        own = commitment(self.secret)
        if self._released.secrets - {own}:
            file = self._path.with_suffix(".secret")
            raise LedgerError(
                f"{file} is not the secret by which {self._path} says that label maps were deformed: with another one, "
                "a second deformation of each would leave. Restore the file, or begin a new ledger"
            )
        return {"secret": own}

    def _write(self, kind: str, **about: Any) -> None:
        self._open()
        if self._ledger is not None:
            self._ledger.append(kind, policy=self.policy.name, **about)

    def _calibrate(self, step: int) -> None:
        """
        Noise with which this step and those that are left of the training take what is left of ε. It stays the same
        from step to step; after steps that had to be done twice it is a little more.
        """
        if self._released.budget.unprotected:
            self.refuse(
                "epsilon is spent",
                "its ledger has image gradients that were released without noise: no finite epsilon holds any more",
                final=True,
            )
        if not self._steps:
            raise RuntimeError(f"site {self.site}: a finite epsilon needs plan() before the first release")
        if self._released.budget.used_up:
            self.refuse(
                "epsilon is spent",
                f"its privacy budget is spent: epsilon {self.epsilon:.4g} of {self.policy.epsilon:g}",
                final=True,
            )
        self._noise_multiplier = self._released.budget.noise(max(self._steps - step + 1, 1))


_gates: WeakSet[ReleaseGate] = WeakSet()


@atexit.register
def _close_gates() -> None:
    # refusals that wait for their minute
    for gate in list(_gates):
        gate.close()


def _round_down(count: int) -> int:
    size = 10 ** (len(str(count)) - 1)
    return count // size * size
