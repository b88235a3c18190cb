"""The one way out of a site: what its release policy lets through, written down before it leaves."""

from __future__ import annotations

import logging
import os
import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, NoReturn

import torch

from bundle.site.release.budget import Budget
from bundle.site.release.chain import LedgerError
from bundle.site.release.digests import tensor_digest
from bundle.site.release.noise import privatize
from bundle.site.release.policy import ReleasePolicy
from bundle.site.release.records import ReleaseRecords
from bundle.site.release.refusal import ReleaseRefused
from bundle.site.release.released import parts
from bundle.site.release.spending import Spending

__all__ = ["ReleaseGate"]

logger = logging.getLogger(__name__)


class ReleaseGate:
    """
    Holds a site to its :class:`ReleasePolicy`, and keeps its :class:`ReleaseLedger`.

    What is counted (how often a sample was issued, how many image gradients were returned, what of ε they took) is
    counted from the ledger: it goes on where the ledger ends, whichever training wrote it. Without a ledger it is
    counted in memory and forgotten with the object (:class:`bundle.site.release.records.ReleaseRecords`).

    Every entry is on disk before what it tells of leaves the site. A ledger that cannot be written stops the releases.
    Of refusals, nothing leaves but words: they are added up (:class:`bundle.site.release.refusal_count.Refusals`).

    Args:
        policy: what may leave.
        site: name of the site.
        ledger: file of the ledger, opened at the first release; None for none. The site's secret lies beside it, in
            a file of the same name that ends in ``.secret``.
        training: what the ledger calls the training, in words.
        num_steps: of the training, which ends there, and among which a finite ε is divided; None where that is not
            known.
        keep_conditions: whether the server may keep conditions, to generate from them after training. Those of every
            step go to it in any case, unless the policy says otherwise.
        source: of noise, a callable from a number of bytes to bytes; only tests give another than the system's.
        secret: the site's, in the place of the one beside the ledger; None for that.
        first_secret: what that one is to be where there is none yet; None to draw it.

    Raises:
        ValueError: when ``keep_conditions`` is no boolean.
    """

    def __init__(
        self,
        policy: ReleasePolicy,
        site: str,
        ledger: str | os.PathLike | None = None,
        training: str = "",
        num_steps: int | None = None,
        keep_conditions: bool = True,
        source: Callable[[int], bytes] = os.urandom,
        secret: int | None = None,
        first_secret: int | None = None,
    ) -> None:
        # any text is true to Python, "no" as well
        if not isinstance(keep_conditions, bool):
            raise ValueError(f"site {site}: keep_conditions: expected true or false, got {keep_conditions!r}")
        self.policy = policy
        self.site = site
        self.num_steps = num_steps
        self.keep_conditions = keep_conditions
        self._source = source
        self._records = ReleaseRecords(policy, site, ledger, training, secret, first_secret)
        self.spending = Spending(self._records)
        self._nonce: tuple[int, str] | None = None

    @property
    def releases(self) -> int:
        """Image gradients of a batch returned so far."""
        return self._records.released.releases

    @property
    def epsilon(self) -> float | None:
        """ε so far, at the policy's δ; None without differential privacy."""
        return self._records.released.budget.epsilon

    @property
    def refused(self) -> int:
        """How many requests this object refused."""
        return self._records.refusals.total

    @property
    def secret(self) -> int:
        """
        What nobody but this site knows, the same in all its trainings.

        Raises:
            LedgerError: when the file that keeps it is damaged.
        """
        return self._records.secret

    def is_past_the_end(self, step: int) -> bool:
        """Whether the training ends before this step."""
        return self.num_steps is not None and self.num_steps < step

    def plan(self, terms: Sequence[str], batch_size: int = 0, num_samples: int = 1) -> None:
        """
        Before a training: refuse what could not be released to its end.

        Args:
            terms: of the loss whose gradient the training wants.
            batch_size: conditions that a step issues, unless the policy has the server bring its own.
            num_samples: of the site, which are issued in turn.

        Raises:
            ReleaseRefused: when the policy returns no gradient of such a term, or fewer of them than the training
                needs, or has a sample issued less often.
        """
        issuing = self.num_steps is not None and self.policy.conditions != "public"
        issues = -(-self.num_steps * batch_size // num_samples) if issuing else 0
        if objection := self.policy.objection(self.num_steps, terms, issues):
            try:
                self.refuse("a training that the policy forbids", objection)
            finally:
                # whoever tries again has a gate of his own
                self.close()

    def check_step(self, step: int) -> None:
        """
        Raises:
            ReleaseRefused: when the training has no such step.
        """
        if self.is_past_the_end(step):
            self.refuse("a step past the end", f"step {step}: the training ends with step {self.num_steps} (num_steps)")

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
        self._records.open()
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
        self._records.open()
        self._count_issues(samples, final=False)

    def _count_issues(self, samples: Sequence[str], final: bool) -> None:
        if self.policy.max_issues is not None:
            issued = self._records.released.issued
            for sample, count in Counter(samples).items():
                if issued[sample] + count > self.policy.max_issues:
                    self.refuse(
                        "a condition too often",
                        f"a condition was issued {issued[sample]} times, its release policy allows "
                        f"{self.policy.max_issues} (max_issues)",
                        final,
                    )
        self._records.issue(samples)

    def folds(self, patients: Sequence[str], count: int) -> dict[str, int]:
        """
        The fold, from 0, of each of the site's patients, the same in all trainings of its ledger.

        Args:
            patients: names of patients.
            count: of folds.

        Raises:
            ReleaseRefused: when the ledger holds folds of another number.
        """
        try:
            return self._records.folds(patients, count)
        except ValueError as error:
            self.refuse(
                "other folds than the ledger's",
                f"{error}. Have the site's owner set folds back, or begin a new ledger",
                final=True,
            )

    def redeem(self, step: int, nonce: str) -> None:
        """
        Take the nonce of a synthetic batch.

        Raises:
            ReleaseRefused: when it is not that of the conditions issued last, or was answered; when there is no budget
                for another image gradient.
        """
        self._records.open()
        if self.policy.nonces and self._nonce != (step, nonce):
            self.refuse(
                "a batch for no conditions",
                f"step {step}: the batch is for no conditions that are waiting for one (nonce)",
            )
        if self.policy.max_releases is not None and self._records.released.releases >= self.policy.max_releases:
            self.refuse(
                "a release too many", f"its {self.policy.max_releases} releases are used up (max_releases)", final=True
            )
        if objection := self.spending.prepare(step, self.num_steps):
            self.refuse("epsilon is spent", objection, final=True)
        self._nonce = None

    def gradient(self, gradient: torch.Tensor) -> tuple[torch.Tensor, float]:
        """
        What is returned in place of the image gradient B×C×H×W float32: itself, or clipped and with noise; and the
        noise multiplier, for :meth:`record`.
        """
        if not self.policy.noises_gradients:
            return gradient, 0.0
        noise = self.spending.noise
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
        return int(self.policy.num_samples)

    def keepable(self, exact: int) -> int:
        """
        How many conditions the server may have to generate from: as many as it was said that there are.

        Args:
            exact: n_j.

        Raises:
            ReleaseRefused: when they may not be kept, or the policy lets none out, or says a number of samples that
                there are not.
        """
        why = "label maps that stay at the site"
        if self.policy.conditions == "public":
            self.refuse(why, f"its release policy, {self.policy.name}, lets no conditions out")
        if not self.keep_conditions:
            self.refuse(why, "its conditions may not be kept after training (keep_conditions: false)")
        said = self.num_samples(exact)
        if said > exact:
            self.refuse(why, "it says a number of samples (num_samples) that it has no conditions to show for")
        return said

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
            kind: ``open``, ``reply``, ``conditions`` or ``teacher``.
            tensors: by what they are: ``image gradient``, ``conditions``, ``teacher images``, ``weights of a teacher``.
            losses: scalar losses, if any.
            noise: noise multiplier of the image gradient.
            about: what else is in it, plain values.

        Raises:
            ReleaseRefused: for a reply whose noise is too little for what is left of ε.
            OSError: when the ledger cannot be written.
        """
        self._records.open()
        held = {what: tensor for what, tensor in tensors.items() if tensor.numel()}
        losses = dict(losses or {})
        released = self._records.released
        before = released.releases, copy(released.budget)
        answer = ""
        if kind == "reply":
            answer = tensor_digest(*(tensor for what, tensor in held.items() if what != "conditions"), losses)
            kind = "repeated reply" if answer in released.answers else kind
        if kind == "reply":
            noised, budget = self.policy.noises_gradients, released.budget
            if isinstance(budget, Budget) and budget.bounded and not budget.covers(noise):
                self.refuse(
                    "epsilon is spent",
                    "an answer that was kept has less noise than what is left of epsilon asks for",
                    final=True,
                )
            about |= {"answer": answer} | ({"noise_multiplier": noise} if noised else {})
            about |= {"mechanism": self.policy.mechanism} if self.policy.private else {}
            released.releases += 1
            released.budget.add({"kind": kind, **about})
        if self.policy.private:
            about |= {"epsilon": self.epsilon, "delta": self.policy.delta, "bound": released.budget.bound}
        about["parts"] = parts(held, losses, self.policy.conditions)
        try:
            self._records.write_release(kind, digest=tensor_digest(*held.values(), losses), **about)
        except (OSError, LedgerError):
            # it does not leave then
            released.releases, released.budget = before
            raise
        if kind == "reply":
            released.answers.add(answer)
        self._records.refusals.write_due(self._records.write)

    def beside(self, ending: str) -> Path | None:
        """A file beside the ledger, of its name with another ending; None where there is no ledger."""
        return self._records.beside(ending)

    def refuse(self, reason: str, words: str, final: bool = False, sent: str | None = None) -> NoReturn:
        """
        Args:
            reason: the kind of refusal, one of few; the ledger counts by it.
            words: for the one who asked; they name nothing of the site's data, unless there is ``sent``.
            final: whether the site will release nothing more in this training.
            sent: what the server is told in their place, where they are for the site's owner.

        Raises:
            ReleaseRefused: always, after it was logged and counted.
        """
        self.note_refusal(reason, words)
        raise ReleaseRefused(words, final, sent)

    def note_refusal(self, reason: str, words: str) -> None:
        """Log that something was refused, and count it: see :meth:`refuse`."""
        logger.error("site %s refuses: %s", self.site, words)
        self._records.note_refusal(reason, words)

    def note_failure(self, step: int) -> None:
        """
        Write down that a step, once its nonce was taken, got no answer. That there is none may depend on the data: it
        takes of ε what the answer would have taken.
        """
        about = self.spending.failed()
        logger.error("site %s: step %d failed and is not answered", self.site, step)
        self._records.refusals.total += 1
        self._records.write("refusal", reason="the step failed at the site", count=1, step=step, **about)

    def close(self) -> None:
        """Write what refusals wait, and let go of the ledger's file; it is opened again when there is something."""
        self._records.close()


def _round_down(count: int) -> int:
    size = 10 ** (len(str(count)) - 1)
    return count // size * size
