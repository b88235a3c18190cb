"""The folds of a site's patients, and critics that have not seen whom they answer for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import torch

from bundle.losses import SiteLoss
from bundle.seeding import Draw, draw
from bundle.site.critic import Critic
from bundle.site.release import ReleaseGate, tensor_digest
from bundle.site.samples import Samples
from bundle.wire.fold_losses import OF_FOLD

__all__ = ["FoldedCritic", "Folds"]


class Folds:
    """
    The site's patients, cut into folds by its secret: all samples of a patient are in one fold. Which patient is in
    which, the ledger holds, and it never changes; a patient who is new joins one of the smallest.

    A site with fewer patients than two a fold takes fewer folds.

    Args:
        samples: the site's data.
        gate: of a policy with ``folds``. Its ledger is asked for the folds when they are needed first.

    ``count`` is the number of folds, at least 2.

    Raises:
        ReleaseRefused: with a single patient, whom no fold could do without.
    """

    def __init__(self, samples: Samples, gate: ReleaseGate) -> None:
        self.samples = samples
        self._gate = gate
        self._patients = [str(samples.origin(index)[0]) for index in range(len(samples))]
        patients = len(set(self._patients))
        asked = gate.policy.folds
        if asked is None:
            raise ValueError(f"site {gate.site}: its release policy has no folds")
        if patients < 2:
            gate.refuse(
                "a training that the policy forbids",
                f"its release policy, {gate.policy.name}, has patients answered for by what was made without them, and "
                "the site has a single patient (folds); guarded does without others",
                final=True,
            )
        self.count = max(2, min(asked, patients // 2))

    @property
    def secret(self) -> int:
        """That of the site."""
        return self._gate.secret

    @cached_property
    def of_samples(self) -> list[int]:
        """
        The fold of every sample, from 0.

        Raises:
            ReleaseRefused: when the ledger holds folds of another number.
        """
        fold_of = self._gate.folds(sorted(set(self._patients)), self.count)
        return [fold_of[patient] for patient in self._patients]

    @cached_property
    def digest(self) -> str:
        """Tells these folds from others."""
        return tensor_digest([[patient, fold] for patient, fold in zip(self._patients, self.of_samples, strict=True)])

    def draw_without(self, fold: int, what: str, first: int, count: int) -> dict[str, torch.Tensor]:
        """
        Samples of the other folds, drawn by the site's secret: ``condition`` B×X×H×W and ``image`` B×C×H×W.

        Args:
            fold: the one that is left out.
            what: they are for; names the stream.
            first: position in the stream.
            count: B.
        """
        others = [index for index, own in enumerate(self.of_samples) if own != fold]
        draws = [draw(self.secret, f"{what} {fold}", first + place, len(others)) for place in range(count)]
        chosen = [self.samples[Draw(others[index], seed)] for index, seed in draws]
        return {key: torch.stack([torch.as_tensor(sample[key]) for sample in chosen]) for key in ("condition", "image")}


class FoldedCritic:
    """
    A discriminator D^(−k) for every fold k, which has seen no image of it and judges its conditions, as Split-AI has
    its sub-models answer (Tang et al. 2022, SELENA, https://arxiv.org/abs/2110.08324).

    D^(−k) is updated on real pairs of the other folds, drawn by the site's secret, against the synthetic images of the
    step whose conditions are of the other folds, too: one that knew the label maps of its fold as always synthetic
    would judge by them. Nothing that is computed for a condition depends on a real image of its patient; a batch's
    samples are judged fold by fold, each by its own critic.

    Args:
        folds: the site's.
        make: makes the critic of a fold from its number.
        updates: a step, given to the critics in turn; None for one of each. One whose fold all conditions of the step
            are of has nothing to be updated on, and is passed over.

    Raises:
        ValueError: for a number of updates below 1.
    """

    def __init__(self, folds: Folds, make: Callable[[int], Critic], updates: int | None = None) -> None:
        self.folds = folds
        self.critics = [make(fold) for fold in range(folds.count)]
        self.updates = folds.count if updates is None else updates
        if self.updates < 1:
            raise ValueError(f"discriminator_updates: expected at least 1 or None, got {updates}")

    @property
    def loss(self) -> SiteLoss:
        return self.critics[0].loss

    @property
    def device(self) -> torch.device:
        return self.critics[0].device

    @property
    def discriminator(self) -> torch.nn.Module:
        """All of them, as one that says the mean of their logits."""
        return _Mean([critic.discriminator for critic in self.critics])

    def of(self, indices: Sequence[int]) -> _Batch:
        """The critics for a batch of conditions of these samples."""
        return _Batch(self, [self.folds.of_samples[index] for index in indices])

    def state_dict(self) -> dict:
        return {"critics": [critic.state_dict() for critic in self.critics]}

    def load_state_dict(self, state: dict) -> None:
        """
        Raises:
            ValueError: when the state is of another number of folds, or of none.
        """
        states = state.get("critics", ())
        if len(states) != len(self.critics):
            found = f"{len(states)} folds" if states else "no folds"
            raise ValueError(f"a state of {found}, expected {len(self.critics)}: the site's policy has changed (folds)")
        for critic, own in zip(self.critics, states, strict=True):
            critic.load_state_dict(own)


class _Mean(torch.nn.Module):
    def __init__(self, networks: Sequence[torch.nn.Module]) -> None:
        super().__init__()
        self.networks = torch.nn.ModuleList(networks)

    def forward(self, pair: torch.Tensor) -> torch.Tensor:
        found = [network(pair) for network in self.networks]
        return torch.stack([layers[-1] if isinstance(layers, list | tuple) else layers for layers in found]).mean(dim=0)


class _Batch:
    """What :class:`Critic` does, for conditions of several folds; ``fold_of`` is that of each."""

    def __init__(self, critic: FoldedCritic, fold_of: Sequence[int]) -> None:
        self._critics, self._folds = critic.critics, critic.folds
        self._updates = critic.updates
        self._fold_of = torch.tensor(fold_of)

    def update(
        self, real: tuple[torch.Tensor, torch.Tensor], synthetic: tuple[torch.Tensor, torch.Tensor], step: int
    ) -> None:
        """As :meth:`Critic.update`, of every critic whose turn it is; ``real`` says no more than dtype and device."""
        like = real[1]
        for number in range((step - 1) * self._updates, step * self._updates):
            lap, fold = divmod(number, len(self._critics))
            others = (self._fold_of != fold).to(like.device)
            if not others.any():
                continue
            drawn = self._folds.draw_without(fold, "critic", lap * len(like), len(like))
            pair = drawn["condition"].to(like), drawn["image"].to(like)
            self._critics[fold].update(pair, (synthetic[0][others], synthetic[1][others]), step)

    def gradient(
        self, condition: torch.Tensor, images: torch.Tensor, real: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """
        As :meth:`Critic.gradient`, each image by the critic of its fold; ``real`` is not looked at.

        Returns:
            ∂L_j/∂ŷ of the mean over the batch, and the adversarial terms as ``adversarial.1``, ``adversarial.2``, …:
            the mean of each fold in the batch by itself, in the order in which they appear in it.
        """
        gradient = torch.empty_like(images)
        losses = {}
        for place, fold in enumerate(dict.fromkeys(self._fold_of.tolist()), 1):
            own = (self._fold_of == fold).to(images.device)
            found, terms = self._critics[fold].gradient(condition[own], images[own], images[own])
            # of the mean over the fold: of that over the batch it is a share
            gradient[own] = found * (len(found) / len(images))
            losses[f"{OF_FOLD}{place}"] = terms["adversarial"]
        return gradient, losses
